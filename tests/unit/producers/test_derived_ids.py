"""The ids that `emit` derives: what they are made of, and which lines are one event and which are two."""

from __future__ import annotations

import datetime as dt
import inspect
import io
import json
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.strategies import registry_of, trial

from quietcount_producers import Pepper
from quietcount_producers.composing import composition, kinds
from quietcount_producers.composing.composition import Composer, Facts
from quietcount_producers.files import emission, occurrences
from quietcount_producers.files.emission import CheckedRecords, check
from quietcount_producers.files.event_files import FileFormat
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.events.event_types import is_uuid_v4
from quietcount_schemas.events.periods import Period
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

NOTED = {
    "name": "noted",
    "type": {"type": "int", "logicalType": "date", "minimum": 10957, "maximum": 36523},  # 2000 to 2069
    "default": 10957,
    "doc": "When it was noted.",
}
REGISTRY = registry_of(trial(NOTED))
CODEC = Codec(REGISTRY)
PEPPER = Pepper(bytes(range(32)))
Line = dict[str, Any]
Make = Callable[..., Any]
"""Makes a composer of a registry, a pepper, a precision and a clock."""


def line(case: str = "a", day: str = "2023-10-03", **changes: object) -> Line:
    return {"event": "Trial", "case": case, "occurred_on": day, "noted": "2023-10-09", **changes}


def emitted(lines: list[Line], make: Make = Composer, period: Period = Period.MONTH) -> list[CaseEvent]:
    """Return the events that a file with these lines becomes, in its order."""
    data = "".join(json.dumps(each) + "\n" for each in lines).encode()
    composer = make(REGISTRY, PEPPER, period, lambda: dt.date(2024, 1, 1))
    records = CheckedRecords(Path(tempfile.gettempdir()))
    try:
        found = check(io.BytesIO(data), "the file", FileFormat.JSONL, composer, records=records)
        assert found.problems == 0, found.shown
        return [CODEC.decode(record.value) for batch in records.batches() for record in batch]
    finally:
        records.close()


def ids(events: list[CaseEvent]) -> list[bytes]:
    return [event.event_id for event in events]


# ---------------------------------------------------------------- what an id is made of

SAME: dict[str, tuple[Line, Line, Period]] = {
    "the day within a month": (line(), line(day="2023-10-30"), Period.MONTH),
    "the day within a week": (line(), line(day="2023-10-08"), Period.WEEK),
    "the month within a quarter": (line(), line(day="2023-12-31"), Period.QUARTER),
    "another date of the event": (line(), line(noted="2023-10-31"), Period.MONTH),
    "a default that is written out": (line(), line(kind="A", people=1, revision=0), Period.MONTH),
    "a date that is coarsened to the default": (
        {"event": "Trial", "case": "a", "occurred_on": "2023-10-03"},
        line(noted="2000-01-20"),
        Period.MONTH,
    ),
    "spaces around the identifier": (line(), line(case=" a "), Period.MONTH),
    "what a file of bad lines says of a line": (line(), line(line=7, reason="none", original="a"), Period.MONTH),
}
"""Lines that differ in nothing that is sent."""

OTHER: dict[str, tuple[Line, Line, Period]] = {
    "the case": (line(), line(case="b"), Period.MONTH),
    "the month": (line(), line(day="2023-11-03"), Period.MONTH),
    "the day, if it is sent": (line(), line(day="2023-10-04"), Period.DAY),
    "another date of the event": (line(), line(noted="2023-11-01"), Period.MONTH),
    "a symbol": (line(), line(kind="B"), Period.MONTH),
    "a number": (line(), line(people=2), Period.MONTH),
}
"""Lines that differ in what is sent."""


def check_made_of(make: Make = Composer) -> None:
    """An id is the same exactly if all else that is sent is: who guesses it learns what the event holds anyway."""
    for what, (one, other, period) in SAME.items():
        first, second = emitted([one], make, period), emitted([other], make, period)
        assert first == second, f"the id depends on what is not sent: {what}"
    for what, (one, other, period) in OTHER.items():
        first, second = emitted([one], make, period), emitted([other], make, period)
        assert ids(first) != ids(second), f"two events have one id: {what}"


@pytest.mark.promise("pseudonyms")
def test_an_id_says_nothing_of_an_event_that_the_event_does_not_say() -> None:
    check_made_of()


# ---------------------------------------------------------------- which lines are two events

FILE = [
    line(),
    line(day="2023-10-04"),  # another day of the month: sent, it equals the line above
    line(),
    line("b"),
    line(kind="B"),
    line(day="2023-11-03"),
]


def check_counting(make: Make = Composer) -> None:
    """Equal lines of one file are different events; the same file, in any order of its lines, has the same ones."""
    events = emitted(FILE, make)
    assert len(set(ids(events))) == len(FILE), "two lines of one file are one event"
    assert emitted(FILE, make) == events, "a file that is sent twice counts twice"
    orders = (FILE[::-1], FILE[3:] + FILE[:3], FILE[::2] + FILE[1::2])
    for lines in orders:
        again = emitted(lines, make)
        assert sorted(map(repr, again)) == sorted(map(repr, events)), "another order of the lines makes other events"


@pytest.mark.promise("nothing-twice")
def test_equal_lines_are_different_events_and_the_same_file_in_any_order_has_the_same_ones() -> None:
    check_counting()


def test_a_line_that_is_mended_within_its_month_stays_the_same_event() -> None:
    assert emitted([line(), line(day="2023-10-30")]) == emitted([line(day="2023-10-12"), line(day="2023-10-01")])


def test_what_two_files_say_alike_of_a_case_and_a_month_is_one_event() -> None:
    """The pages say so: a person who writes a file a week gives each event an id."""
    assert emitted([line()]) == emitted([line(day="2023-10-17")])
    given = [line(event_id=f"35634c09-e5ef-48a7-ba44-95f0feff276{number}") for number in range(2)]
    assert ids(emitted(given[:1])) != ids(emitted(given[1:]))


# ---------------------------------------------------------------- mutants


def changed(module: types.ModuleType, right: str, wrong: str, **names: object) -> types.ModuleType:
    """Return a copy of `module` with one piece of its source replaced; it finds `names` in place of its own."""
    source = inspect.getsource(module)
    assert source.count(right) == 1, f"{module.__name__} no longer has exactly one {right!r}: adapt this mutant"
    copy = types.ModuleType(f"faulty_{module.__name__.rpartition('.')[2]}")
    exec(compile(source.replace(right, wrong), f"{copy.__name__}.py", "exec"), copy.__dict__)  # noqa: S102
    copy.__dict__.update(names)
    return copy


def faulty(right: str, wrong: str) -> Make:
    """Return the composer with one piece of its source replaced, there or in what it knows of an event type."""
    if right in inspect.getsource(composition):
        make: Make = changed(composition, right, wrong).Composer
    else:
        kind = changed(kinds, right, wrong).Kind
        make = changed(composition, "class Composer:", "class Composer:", Kind=kind).Composer
    return make


@pytest.mark.parametrize(
    "right, wrong, why",
    [
        pytest.param(
            """'","{coarse.isoformat()}",'""",
            """'","{exact.isoformat()}",'""",
            "what is not sent: the day",
            id="the exact day",
        ),
        pytest.param(
            "for name, value in values.items()\n",
            "for name, value in self._values(given, text, label, []).items()\n",
            "what is not sent: another date",
            id="attributes as given",
        ),
        pytest.param(
            "for name, value in values.items()\n",
            "for name, value in given.items()\n",
            "what is not sent",
            id="what is written and not what is sent",
        ),
        pytest.param(".encode(), day.canonical, said", ".encode(), said", "one id: the month", id="no day"),
        pytest.param("day.canonical, said.canonical)", "day.canonical)", "one id", id="no facts"),
        pytest.param("key.hex().encode(), day", "day", "one id: the case", id="no case"),
    ],
)
def test_a_recipe_that_says_more_or_less_than_the_event_is_found(right: str, wrong: str, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        check_made_of(faulty(right, wrong))


def test_equal_lines_that_are_not_told_apart_are_found() -> None:
    with pytest.raises(AssertionError, match="are one event"):
        check_counting(faulty("derived_event_id(canonical, occurrence(canonical))", "derived_event_id(canonical, 0)"))


def test_numbering_by_the_line_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class ByLine(occurrences.Occurrences):
        def __init__(self) -> None:
            super().__init__()
            self._line = 0

        def next(self, canonical: bytes) -> int:
            self._line += 1
            return self._line

    monkeypatch.setattr(emission, "Occurrences", ByLine)
    with pytest.raises(AssertionError, match="another order"):
        check_counting()


def test_a_records_own_name_makes_its_event_id_again() -> None:
    pepper = Pepper(bytes(range(32)))
    composer = Composer(SchemaRegistry.load(), pepper)
    codec = Codec(composer.registry)

    def identity(record: str, event: str = "HelpRequested", revision: int = 0) -> bytes:
        facts = Facts(event, "somebody", "2023-10-03", {}, revision=revision, record=record)
        return codec.decode(composer.compose(facts).value).event_id

    assert identity("uuid:1") == identity(" uuid:1", revision=3)
    assert identity("caf\u00e9") == identity("cafe\u0301"), "another program writes the same letter in two parts"
    assert len({identity("1"), identity("2"), identity("1", "CaseWithdrawn")}) == 3
    assert is_uuid_v4(identity("1"))
