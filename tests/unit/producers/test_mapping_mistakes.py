"""Mistakes in a mapping and in a row: each is named, and no value of a row is in a message."""

from __future__ import annotations

import copy
import datetime as dt
import os
import random
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.unit.producers.mapped_rows import (
    FIELD,
    REGISTRY,
    ROW,
    RULE,
    TOP,
    complaint,
    facts,
    mapping,
)

from quietcount_producers.composing.composition import Facts
from quietcount_producers.errors import EventRefused, ProducersError
from quietcount_producers.mapping import Mapping, Reading
from quietcount_producers.mapping.definition import definition_of

pytestmark = pytest.mark.quick

WHOLE = (
    'source = "s"\nrecord = "key"\nrevision = { changed = "changed", since = "made" }\ntimezone = "Europe/Berlin"\n'
    'blanks = ["---"]\nskip = { column = "status", values = ["test"] }\ncase = ["Year", "Nr"]\n'
    '[[event]]\nevent = { column = "what", values = { "in" = "HelpRequested", "out" = "OutcomeRecorded" } }\n'
    'occurred_on = { column = "day", format = ["iso", "day.month.year", "epoch seconds"] }\n'
    'fields.region = "where"\nfields.help_kind = { choices = "why", values = { "law" = "LEGAL_AID" } }\n'
)
NAME = "Zzyx"

# ---------------------------------------------------------------- the file


def test_how_a_file_is_read_is_said_in_a_table(tmp_path: Path) -> None:
    text = '[file]\nformat = "csv"\ndelimiter = ";"\nencoding = "windows-1251"\nskip_rows = 2\nsheet = "a"\n'
    text += 'records = "r"\n'
    assert mapping(tmp_path, TOP + RULE + text).reading == Reading("csv", ";", "windows-1251", "a", 2, "r")
    assert mapping(tmp_path, TOP + RULE).reading == Reading()


WRONG = {
    "an unknown key": ('cse = "Nr"\n' + TOP + RULE, "'cse': is unknown; did you mean \"case\"?"),
    "no case": (RULE, "'case': is missing"),
    "no event": (TOP, "'event': is missing"),
    "an event that is unknown": (TOP + RULE.replace("Help", "Hlp"), 'did you mean "HelpRequested"?'),
    "no day": (TOP + '[[event]]\nevent = "HelpRequested"\n', "'event.1.occurred_on': is missing"),
    "a field that is unknown": (TOP + RULE + 'fields = { regoin = "a" }', 'did you mean "region"?'),
    "a symbol that is unknown": (FIELD + 'column = "w"\nvalues = { "x" = "LEGAL" }', "entry 1 must be one of"),
    "a value twice": (FIELD + 'column = "w"\nvalues = { "X" = "OTHER", " x" = "LEGAL_AID" }', "entry 2 stands there"),
    "otherwise that is no symbol": (
        FIELD + 'column = "w"\notherwise = "other"',
        "'event.1.fields.help_kind.otherwise'",
    ),
    "two sources": (FIELD + 'column = "w"\nalways = "OTHER"', "needs one of `column`, `choices` and `always`"),
    "a record without a source": ('record = "Nr"\n' + TOP + RULE, "'source': is missing"),
    "a revision without a record": ('revision = "n"\n' + TOP + RULE, "'revision': goes with record"),
    "a time zone that is unknown": ('timezone = "Europe/Berln"\n' + TOP + RULE, "'timezone': is a time zone"),
    "a format of nonsense": (
        TOP + RULE.replace('"day"', '{ column = "day", format = "%d.%m.%Y" }'),
        "'event.1.occurred_on.format': has letters",
    ),
    "formats that contradict": (
        TOP + RULE.replace('"day"', '{ column = "d", format = ["day/month/year", "month/day/year"] }'),
        "read the same text as different days",
    ),
    "an epoch without a zone": (
        TOP + RULE.replace('"day"', '{ column = "day", format = "epoch seconds" }'),
        "goes with timezone",
    ),
    "a condition of nothing": ('skip = { column = "a" }\n' + TOP + RULE, "needs one of `values` and `filled`"),
    "an encoding that is unknown": (TOP + RULE + '[file]\nencoding = "hex"', "'file.encoding'"),
    "a delimiter of two": (TOP + RULE + '[file]\ndelimiter = ";;"', "'file.delimiter'"),
    "choices of a boolean": (TOP + RULE + 'fields = { region = { column = "a", chosen = "b" } }', "goes with a field"),
    "no TOML": ("case = \n", "is not TOML"),
    "a list of nothing": ("case = []\n" + RULE, "'case': write the name of a column"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_in_a_mapping_is_named_by_its_key(tmp_path: Path, name: str) -> None:
    text, said = WRONG[name]
    assert said in complaint(tmp_path, text)


def test_every_mistake_is_said_at_once(tmp_path: Path) -> None:
    said = complaint(tmp_path, 'x = 1\ntimezone = 3\n[[event]]\nevent = "A"\n')
    assert all(f"'{key}'" in said for key in ("x", "timezone", "case", "event.1.event", "event.1.occurred_on"))


def test_a_draft_is_refused_until_it_is_filled_in(tmp_path: Path) -> None:
    said = complaint(tmp_path, 'case = "FILL IN"\n' + RULE.replace('"HelpRequested"', '"FILL IN"') + "x = 1")
    assert "Fill in case, event.1.event" in said


def test_a_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(ProducersError, match="Cannot read the mapping"):
        Mapping.load(Path("x" * 300), REGISTRY)


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    for content, said in (
        (b"\xff\xfe", "UTF-8"),
        (b"a" * (1 << 20 | 1), "too large"),
        (b"a = [" + b"[" * 5000, "TOML"),
        (b"a" + b".a" * 3000 + b" = 1", "is unknown"),
    ):
        path = tmp_path / "m.toml"
        path.write_bytes(content)
        with pytest.raises(ProducersError, match=said):
            Mapping.load(path, REGISTRY)
    with pytest.raises(ProducersError, match="There is no mapping"):
        Mapping.load(tmp_path / "none.toml", REGISTRY)


# ---------------------------------------------------------------- whatever is written, and whatever stands in a row


def every_place(table: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Each table or list inside, with each of its keys."""
    found: list[tuple[Any, Any]] = []
    waiting: list[Any] = [table]
    while waiting:
        inside = waiting.pop()
        keys = list(inside) if isinstance(inside, dict) else range(len(inside))
        found += [(inside, key) for key in keys]
        waiting += [inside[key] for key in keys if isinstance(inside[key], (dict, list))]
    return found


def test_no_mutated_mapping_ends_in_anything_but_a_message(tmp_path: Path) -> None:
    """1,000 mappings with values that are replaced: each loads, or is refused with what to mend."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    odd: list[Any] = ["", " ", "x", "FILL IN", "skip", "iso", 0, -1, 1.5, True, [], [[]], ["a", "a"], {}, {"": ""}]
    odd += [dt.date(2023, 1, 1), dt.datetime(2023, 1, 1), dt.time(1), {"column": "a"}, {"column": 3}, [{"a": {}}]]  # noqa: DTZ001
    outcomes = {True: 0, False: 0}
    for _ in range(1_000):
        given = tomllib.loads(WHOLE + '[file]\nformat = "csv"\n')
        for _ in range(chance.randint(1, 3)):
            inside, key = chance.choice(every_place(given))
            if chance.random() < 0.1 and isinstance(inside, dict):
                inside[f"{key}x"] = inside.pop(key)
            else:
                inside[key] = copy.deepcopy(chance.choice(odd))
        try:
            made = Mapping("m.toml", definition_of(given, "m.toml", REGISTRY))
        except ProducersError:
            outcomes[False] += 1
        else:
            made.events(ROW)
            outcomes[True] += 1
    assert min(outcomes.values()) > 10


def test_no_mutated_row_breaks_a_mapping_or_shows_a_value(tmp_path: Path) -> None:
    """Rows with cells that are replaced: each becomes events, or reasons without anything that stood in it.

    `QUIETCOUNT_MUTATIONS` sets how many (5,000), `QUIETCOUNT_SEED` repeats a run.
    """
    count = int(os.environ.get("QUIETCOUNT_MUTATIONS") or 5_000)
    seed = int(os.environ.get("QUIETCOUNT_SEED") or random.randrange(2**32))
    print("seed", seed)
    chance = random.Random(seed)
    made = mapping(tmp_path, WHOLE)
    good: dict[str, object] = {"key": "1", "changed": "2023-10-05", "made": "2023-10-03", "status": "real", "Nr": "17"}
    good |= {"Year": 2023, "what": "in", "day": "3.10.2023", "where": "Volga", "why": "law"}
    odd: list[object] = ["", "---", "|", "1e400", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "-1", "\ud800"]
    odd += [float("nan"), float("-inf"), 10**400, True, None, [], {}, [[1]], {"a": [1]}, dt.date(1, 1, 1), "3.13.2023"]
    odd += [dt.datetime(9999, 12, 31, 23), "99999999999999", "2023-02-30", "[", "[" * 9000 + "]", '["law", 3]', NAME]  # noqa: DTZ001
    assert len(facts(made.events(good))) == 1
    outcomes = {True: 0, False: 0}
    for _ in range(count):
        row = dict(good)
        for name in chance.sample(list(row), chance.randint(1, 3)):
            value = chance.choice(odd)
            row[name] = f"{NAME} {value}" if chance.random() < 0.3 else value
        found = made.events(row)
        for each in found:
            outcomes[isinstance(each, Facts)] += 1
            if isinstance(each, EventRefused):
                assert each.field in good
                assert NAME not in str(each)
    assert min(outcomes.values()) > 100
