"""The composer against fastavro and against a composer that remembers nothing, for any schema that the lint accepts."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Sequence
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import case_events, definitions, registry_of, trial
from tests.unit.producers.test_derived_ids import changed

from quietcount_producers import Pepper
from quietcount_producers.composing import composition, kinds
from quietcount_producers.composing.composition import Composer, Facts
from quietcount_schemas.events.event_types import FieldKind, SchemaVersion
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import NewRecord

pytestmark = pytest.mark.quick

PEPPER = Pepper(bytes(range(32)))
EPOCH = dt.date(1970, 1, 1)
LAST = dt.date(2100, 1, 1)
SINCE = {
    "name": "since",
    "type": ["null", {"type": "int", "logicalType": "date", "minimum": 10957, "maximum": 36523}],  # 2000 to 2069
    "default": None,
    "doc": "When it began.",
}
REGISTRY = registry_of(trial(SINCE, {"name": "urgent", "type": "boolean", "default": False, "doc": "Whether."}))


def by_fastavro(version: SchemaVersion, datum: dict[str, Any]) -> bytes:
    written = io.BytesIO()
    fastavro.schemaless_writer(written, version.parsed, datum)
    return b"\xc3\x01" + version.fingerprint + written.getvalue()


@given(st.data())
def test_a_record_is_what_fastavro_writes_of_the_coarsened_event(data: st.DataObject) -> None:
    registry = registry_of(data.draw(definitions()))
    version = registry.event_type("Trial").current
    period = data.draw(st.sampled_from(Period))
    event = data.draw(case_events(registry))
    composer = Composer(registry, PEPPER, period, lambda: LAST)
    day = max(period.coarsen(event.occurred_on), EPOCH)
    coarsened = {
        field.name: max(period.coarsen(value), EPOCH + dt.timedelta(days=field.minimum))
        if field.kind is FieldKind.DATE and isinstance(value := event.attributes[field.name], dt.date)
        else event.attributes[field.name]
        for field in version.attributes
    }
    key = PEPPER.case_key("somebody")
    told = {
        field.name: value.isoformat() if isinstance(value := coarsened[field.name], dt.date) else value
        for field in version.attributes
        if coarsened[field.name] != field.default_value
    }
    canonical = json.dumps(
        ["Trial", key.hex(), day.isoformat(), told], ensure_ascii=False, sort_keys=True, separators=(",", ":")
    )
    for _ in range(2):  # the second one is remembered
        derived = composer.compose(Facts("Trial", "somebody", event.occurred_on, event.attributes), lambda _: 7)
        envelope = {"case_key": key, "event_id": PEPPER.derived_event_id(canonical.encode(), 7)}
        assert derived == NewRecord(
            key,
            by_fastavro(version, {**envelope, "revision": 0, "occurred_on": day, **coarsened}),
            (day - EPOCH).days * 86_400_000,
        )


# ---------------------------------------------------------------- what is remembered changes nothing

DAYS: list[Any] = [
    dt.date(2023, 10, 3),
    "2023-10-03",
    dt.datetime(2023, 10, 3, tzinfo=dt.UTC),
    "2023-10-3",
    None,
    19633,
    ["2023-10-03"],
    "Иван",
]
NUMBERS: list[Any] = [1, True, 1.0, "1", "+1", "true", None, 2, "2", 10, [1]]
GIVEN: dict[str, list[Any]] = {
    "kind": ["A", "B", "C", None, 1, True, ["A"]],
    "people": NUMBERS,
    "since": [*DAYS, dt.date(1999, 1, 1)],
    "urgent": [True, 1, "true", "TRUE", False, 0, "false", None],
    "unknown": [1],
}
ATTRIBUTES = st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in GIVEN.items()})
FACTS = st.builds(
    Facts,
    st.sampled_from(["Trial", "Trial", "Trial", "Other", None, 1, ["Trial"]]),
    st.sampled_from(["a", "b", " a ", "", None, 1, "n/a"]),
    st.sampled_from(DAYS),
    ATTRIBUTES,
    st.sampled_from([None, "35634c09-e5ef-48a7-ba44-95f0feff2761"]),
    st.sampled_from([None, 0, *NUMBERS]),
    st.booleans(),
    label=st.just(str),
)


def outcome(composer: Any, facts: Facts) -> NewRecord | list[tuple[str, str]]:
    made = composer.composed(facts, lambda _: 0)
    return made if isinstance(made, NewRecord) else [(each.field, each.reason) for each in made]


def check_memory(make: Any, facts: Sequence[Facts]) -> None:
    """An event that is composed after others is what it would be alone."""

    def composer() -> Any:
        return make(REGISTRY, PEPPER, Period.MONTH, lambda: dt.date(2024, 1, 1))

    shared = composer()
    for each in facts:
        assert outcome(shared, each) == outcome(composer(), each), "what was composed before changes an event"


@given(st.lists(FACTS, min_size=2, max_size=6))
def test_what_is_remembered_changes_no_event(facts: list[Facts]) -> None:
    check_memory(Composer, facts)


@pytest.mark.parametrize(
    "right, wrong, one, other",
    [
        (
            ", *map(type, given.values()))",
            ")",
            {"attributes": {"people": 1}},
            {"attributes": {"people": True}},
        ),
        (
            "key = (text, *given",
            "key = (*given",
            {"attributes": {"people": "1"}, "text": True},
            {"attributes": {"people": "1"}},
        ),
        (
            "self._revisions.get((type(value), value, text))",
            "self._revisions.get((type(value), value, True))",
            {"revision": "0", "text": True},
            {"revision": "0"},
        ),
    ],
    ids=["a truth value for a number", "text for a number", "text for a revision"],
)
def test_a_memory_that_takes_one_thing_for_another_is_found(
    right: str, wrong: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    make = changed(composition, "class Composer:", "class Composer:", Kind=changed(kinds, right, wrong).Kind).Composer
    facts = [Facts("Trial", "a", "2023-10-03", {})._replace(**each) for each in (one, other)]
    check_memory(Composer, facts)
    with pytest.raises(AssertionError, match="changes an event"):
        check_memory(make, facts)


def test_the_memory_has_an_end_and_holds_nothing_that_was_refused() -> None:
    composer = Composer(REGISTRY, PEPPER, Period.DAY, lambda: LAST)
    kind = composer._kinds["Trial"]
    for number in range(3 * kinds._MOST_REMEMBERED):
        day = EPOCH + dt.timedelta(days=number)
        composer.compose(Facts("Trial", "telltale", day, {"since": dt.date(2000, 1, 1) + dt.timedelta(days=number)}))
    for facts in (
        Facts("Trial", "a", "telltale", {"kind": "telltale"}),
        Facts("Trial", "a", "2023-10-03", {"telltale": 1}, revision="telltale"),
    ):
        assert isinstance(composer.composed(facts), list)
    memory: list[dict[object, Any]] = [kind._days, kind._said, kind._revisions]
    assert all(0 < len(each) <= kinds._MOST_REMEMBERED for each in memory)
    assert "telltale" not in repr(memory)
