"""The lint on schemas that somebody tampered with: it answers, and what it passes is fit for use."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import case_events, definitions, registry_of, rng_seeds

from quietcount_schemas import MAX_EVENT_BYTES, CaseEvent, Codec
from quietcount_schemas.events.event_types import FieldKind
from quietcount_schemas.lint.rules import lint

pytestmark = pytest.mark.quick

# Pieces that mean something in a schema, and some that mean nothing.
_PIECES: list[Any] = [
    *("string", "bytes", "long", "int", "boolean", "null", "array", "map", "record", "enum", "fixed", "date", "uuid"),
    *("Trial", "F0", "CaseKey", "example.trial.F0", "case_key", "A", "", "S0", "S1", "type", "default"),
    *(0, 1, -1, True, False, None, 16, 2**31, -(2**31), 2**64, 1.0, 1e300),
    *([], {}, ["null"], ["null", "boolean"], ["null", "F0"], ["S0", "S1"]),
    {"type": "array", "items": "null"},
    {"type": "int", "minimum": 0, "maximum": 5},
    {"type": "boolean"},
]


def tampered(definition: Any, rng: random.Random) -> Any:
    """Return a copy of a JSON value with one piece replaced, removed, added or doubled."""
    changed = copy.deepcopy(definition)
    places: list[tuple[Any, Any]] = []
    stack = [changed]
    while stack:
        value = stack.pop()
        inner = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        places += [(value, key) for key, _ in inner]
        stack += [each for _, each in inner if isinstance(each, dict | list)]
    container, key = rng.choice(places)
    match rng.randrange(4):
        case 0:
            del container[key]
        case 1 if isinstance(container, list):
            container.insert(key, copy.deepcopy(container[rng.randrange(len(container))]))
        case 1:
            container[str(rng.choice(_PIECES))] = rng.choice(_PIECES)
        case _:
            container[key] = copy.deepcopy(rng.choice(_PIECES))
    return changed


@given(definitions(), rng_seeds(), st.integers(1, 3), st.data())
def test_the_lint_answers_on_any_schema_and_what_it_passes_can_be_used(
    definition: Any, seed: int, times: int, data: st.DataObject
) -> None:
    rng = random.Random(seed)
    for _ in range(times):
        definition = tampered(definition, rng)
    if lint(definition, "1.avsc"):
        return
    registry = registry_of(definition)
    event = data.draw(case_events(registry))
    codec = Codec(registry)
    assert codec.decode(codec.encode(event)) == event


@given(st.recursive(st.sampled_from(_PIECES[:36]), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_the_lint_answers_on_any_json(value: Any) -> None:
    assert lint(value, "1.avsc")
    assert lint({"type": "record", "fields": value}, "1.avsc")
    assert lint({"type": "record", "fields": [value]}, "1.avsc")
    assert lint({"type": "record", "fields": [{"name": value, "type": value, "default": value}]}, "1.avsc")


@pytest.mark.check
@given(definitions(most=40), st.data())
def test_no_event_of_a_schema_that_the_lint_passes_is_too_large(definition: Any, data: st.DataObject) -> None:
    if lint(definition, "1.avsc"):
        return
    registry = registry_of(definition)
    current = registry.event_type("Trial").current
    event = data.draw(case_events(registry))
    largest = {
        field.name: field.symbols[-1] if field.kind is FieldKind.ENUM else event.attributes[field.name]
        for field in current.attributes
    }
    values = {name: getattr(event, name) for name in ("event", "case_key", "event_id", "occurred_on")}
    message = Codec(registry).encode(CaseEvent(revision=65535, attributes=largest, **values))
    assert len(message) <= MAX_EVENT_BYTES
