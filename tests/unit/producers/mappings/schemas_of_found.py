"""Event types for the exports that were found in public, whose subjects the built-in casework does not have."""

from __future__ import annotations

from typing import Any

from tests.strategies import envelope

__all__ = ["DEFINITIONS"]


def _enum(name: str, *symbols: str) -> dict[str, Any]:
    kind = {"type": "enum", "name": name.capitalize(), "symbols": list(symbols), "default": symbols[-1], "doc": name}
    return {"name": name, "type": kind, "default": symbols[-1], "doc": name}


def _event(name: str, *fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": "example.found", "doc": name, "fields": [*envelope(), *fields]}


_AFFECTED: dict[str, Any] = {"type": "int", "minimum": 0, "maximum": 500}

_LOST: dict[str, Any] = {"type": "int", "minimum": 0, "maximum": 2000}

DEFINITIONS: list[dict[str, Any]] = [
    _event(
        "WorkerAttacked",
        _enum("means", "SHOOTING", "KIDNAPPING", "ASSAULT", "EXPLOSIVE", "UNKNOWN"),
        _enum("context", "AMBUSH", "RAID", "COMBAT", "INDIVIDUAL", "OTHER"),
        {"name": "affected", "type": _AFFECTED, "default": 0, "doc": "How many people."},
    ),
    _event(
        "PersonKilled",
        _enum("weapon", "GUN", "KNIFE", "VEHICLE", "NONE", "OTHER"),
        {"name": "camera", "type": "boolean", "default": False, "doc": "Whether there was a body camera."},
    ),
    _event(
        "RequestFiled",
        _enum("channel", "PHONE", "ONLINE", "MOBILE", "OTHER"),
        _enum("borough", "BRONX", "BROOKLYN", "MANHATTAN", "QUEENS", "STATEN_ISLAND", "UNKNOWN"),
    ),
    _event("RequestClosed"),
    _event(
        "MigrantsLost",
        _enum("confirmed", "VERIFIED", "PARTIAL", "UNVERIFIED", "UNKNOWN"),
        {"name": "sea", "type": "boolean", "default": False, "doc": "Whether it happened at sea."},
        {"name": "dead", "type": _LOST, "default": 0, "doc": "How many people died."},
        {"name": "missing", "type": _LOST, "default": 0, "doc": "How many people are missing."},
    ),
    _event("SiteVisited", _enum("slope", "FLAT", "MID_SLOPE", "OTHER")),
]
