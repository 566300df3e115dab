"""The event types of stories: those that the service knows at first, and those that its emitters have before it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.aggregates_world import record_of
from tests.strategies import envelope, event_type_of

from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.events.definition import schema_version
from quietcount_schemas.log import NewRecord
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["COLOURS", "LATER", "LATER_COLOURS", "PARTS", "REGISTRY", "STORIES", "emitted", "is_newer", "made_newer"]

STORIES = 4
"""How many stories a world plays."""
PARTS = ("WHOLE", "ONE", "OTHER", "WITHOUT")
"""A story of all cases, of half of them, of the other half, and of all but one."""
COLOURS = ("RED", "GREEN", "NONE")
LATER_COLOURS = (*COLOURS, "BLUE")


def _enum(name: str, symbols: Sequence[str]) -> dict[str, Any]:
    kind = {"type": "enum", "name": name.capitalize(), "symbols": [*symbols], "default": "NONE", "doc": "."}
    return {"name": name, "type": kind, "default": "NONE", "doc": "Of a trial."}


def _bodies(colours: Sequence[str]) -> dict[str, tuple[str, list[Any]]]:
    """Return the role and the fields of each event type."""
    part = _enum("part", [*(f"{part}_{story}" for story in range(STORIES) for part in PARTS), "NONE"])
    size = {"name": "size", "type": {"type": "int", "minimum": 0, "maximum": 20}, "default": 0, "doc": "How much."}
    urgent = {"name": "urgent", "type": ["null", "boolean"], "default": None, "doc": "Whether it was urgent."}
    return {
        "Asked": ("event", [part, _enum("colour", colours), urgent, size]),
        "Answered": ("event", [part, _enum("colour", colours), size]),
        "Helped": ("event", [part, _enum("colour", colours), size]),
        "Idle": ("event", []),
        "Left": ("withdrawal", []),
    }


def _registry(*generations: Sequence[str], without: str = "") -> SchemaRegistry:
    """Return the registry that knows a version of each event type for each generation of colours, oldest first."""
    event_types = []
    for name in _bodies(COLOURS):
        if name == without:
            continue
        written: list[dict[str, Any]] = []
        for colours in generations:
            role, fields = _bodies(colours)[name]
            definition = {
                "type": "record",
                "name": name,
                "namespace": "example.story",
                "doc": "A trial.",
                "quietcount.role": role,
                "fields": envelope() + fields,
            }
            if definition not in written:
                written.append(definition)
        versions = [schema_version(each, number, f"{number}.avsc") for number, each in enumerate(written, 1)]
        event_types.append(event_type_of(versions))
    return SchemaRegistry(event_types)


REGISTRY = _registry(COLOURS, without="Helped")
"""What every service knows."""
LATER = _registry(COLOURS, LATER_COLOURS)
"""What a service knows once it has the newer schemas: one more event type, and one more colour of the others."""

_OLD, _NEW = Codec(REGISTRY), Codec(LATER)


def is_newer(event: CaseEvent) -> bool:
    """Return whether only the newer schemas have such an event. Its emitter writes it by them, others by the older."""
    return event.event == "Helped" or event.attributes.get("colour") == "BLUE"


def made_newer(rng: random.Random, event: CaseEvent) -> CaseEvent:
    """Return an event as an emitter that has the newer schemas could have sent it, if it has a colour."""
    if "colour" not in event.attributes:
        return event
    if rng.random() < 0.5:
        return replace(event, event="Helped", attributes={"colour": rng.choice(LATER_COLOURS)})
    return replace(event, attributes={**event.attributes, "colour": "BLUE"})


def emitted(event: CaseEvent) -> NewRecord:
    """Return the record that an emitter appends for an event."""
    return record_of(_NEW if is_newer(event) else _OLD, event)
