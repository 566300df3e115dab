"""The fields of an event in a mapping: which column each comes from, and what its values stand for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from quietcount_producers.composition import close_match, listed
from quietcount_producers.mapping.dates import Days
from quietcount_producers.mapping.paths import same
from quietcount_producers.mapping.tables import Table
from quietcount_producers.mapping.values import NOTHING, Choices, FieldSource, symbol_problem
from quietcount_schemas.event_types import EventType, Field, FieldKind

__all__ = ["field_sources"]

_FIELD: Final = (
    *("column", "values", "otherwise", "empty", "required", "always"),
    *("choices", "chosen", "separator", "format", "written_in"),
)
_WANTED: Final = 'write the name of a column, or a table as { column = "reason", otherwise = "OTHER" }'
_ONLY: Final = {
    "choices": (FieldKind.ENUM, "goes with a field of symbols"),
    "chosen": (FieldKind.BOOLEAN, "goes with a field that is true or false"),
    "format": (FieldKind.DATE, "goes with a field that is a date"),
    "written_in": (FieldKind.DATE, "goes with a field that is a date"),
}

_Found = tuple[dict[str, tuple[FieldSource, ...]], dict[str, Choices]]


def field_sources(rule: Table, kinds: Sequence[EventType], days: Callable[[Table], Days]) -> _Found:
    """Return by event type where its fields come from, and which of them makes an event of each choice."""
    table = rule.inner("fields", (), "write a table: [event.fields]")
    sources: dict[str, list[FieldSource]] = {kind.name: [] for kind in kinds}
    choices: dict[str, Choices] = {}
    if table is not None and kinds:
        known = dict.fromkeys(each.name for kind in kinds for each in kind.attributes)
        for name in table.given:
            if name not in known:
                close = close_match(name, known) or f"; its fields: {listed(known)}"
                table.fault(name, f"is not a field of {' or '.join(each.name for each in kinds)}{close}")
                continue
            for kind in kinds:
                target = next((each for each in kind.attributes if each.name == name), None)
                found = None if target is None else _source(table, name, target, days)
                if isinstance(found, Choices):
                    if kind.name in choices:
                        table.fault(name, "is the second field with `choices`; only one may make several events")
                    choices[kind.name] = found
                elif found is not None:
                    sources[kind.name].append(found)
    for kind in kinds:
        named = {each.target.name for each in sources[kind.name]}
        named |= {choices[kind.name].source.target.name} if kind.name in choices else set()
        for field in kind.attributes:
            if not field.has_default and field.name not in named and (table is None or field.name not in table):
                rule.fault(f"fields.{field.name}", f"is missing; {kind.name} has no default for it")
    return {name: tuple(each) for name, each in sources.items()}, choices


def _source(fields: Table, name: str, target: Field, days: Callable[[Table], Days]) -> FieldSource | Choices | None:
    if not isinstance(fields.given[name], dict):
        column = fields.text(name, _WANTED)
        return None if column is None else FieldSource(target, column.strip())
    table = fields.nested(name, _FIELD)
    for key, (kind, message) in _ONLY.items():
        if key in table and target.kind is not kind:
            table.fault(key, message)
    ways = [each for each in ("column", "choices", "always") if each in table]
    if len(ways) != 1:
        table.fault("", "needs one of `column`, `choices` and `always`")
        return None
    if ways == ["always"]:
        return FieldSource(target, always=_given(table, "always", target))
    separator = table.given.get("separator", "")
    if not isinstance(separator, str) or ("separator" in table and not separator):
        table.fault("separator", 'write what stands between two choices, as ", "')
        separator = ""
    elif separator and not {"choices", "chosen"} & table.given.keys():
        table.fault("separator", "goes with `choices` or `chosen`")
    chosen = table.text("chosen", "write the choice that makes the field true")
    common: dict[str, Any] = {
        "values": _values(table, target),
        "otherwise": _given(table, "otherwise", target),
        "empty": _given(table, "empty", target),
        "required": bool(table.truth("required")),
        "days": days(table) if target.kind is FieldKind.DATE else None,
        "chosen": same(chosen or ""),
        "separator": separator,
    }
    if common["required"] and "empty" in table:
        table.fault("required", "and `empty` exclude one another")
    if ways == ["column"]:
        column = table.column("column")
        return None if column is None else FieldSource(target, column, **common)
    return _choices(table, target, common)


def _choices(table: Table, target: Field, common: Mapping[str, Any]) -> Choices | None:
    given = table.given["choices"]
    if isinstance(given, str):
        column = table.column("choices")
        return None if column is None else Choices(FieldSource(target, column, **common))
    if not isinstance(given, dict) or not given:
        wanted = 'a column, as "reasons", or columns with their symbols, as { "reasons/legal" = "LEGAL_AID" }'
        table.fault("choices", f"write {wanted}")
        return None
    columns: dict[str, object] = {}
    for number, (column, symbol) in enumerate(given.items(), start=1):
        problem = symbol_problem(target, symbol)
        if problem is not None:
            table.fault("choices", f"entry {number} {problem}")
        columns[column.strip()] = symbol
    return Choices(FieldSource(target, **common), columns)


def _values(table: Table, target: Field) -> dict[str, object]:
    given = table.given.get("values", {})
    if not isinstance(given, dict):
        table.fault("values", 'write a table: values = { "Legal advice" = "LEGAL_AID" }')
        return {}
    found: dict[str, object] = {}
    for number, (text, value) in enumerate(given.items(), start=1):
        # What stands in the export is not shown: only the place of the entry is.
        problem = symbol_problem(target, _plain(value, target))
        if problem is not None:
            table.fault("values", f"entry {number} {problem}")
        elif found.setdefault(same(text), value) != value:
            table.fault("values", f"entry {number} stands there twice: upper case and spaces make no difference")
    return found


def _given(table: Table, key: str, target: Field) -> object:
    """Return a value of the mapping for a field, or NOTHING."""
    if key not in table:
        return NOTHING
    value = table.given[key]
    problem = symbol_problem(target, _plain(value, target))
    if problem is not None:
        table.fault(key, problem)
        return NOTHING
    return value


def _plain(value: object, target: Field) -> object:
    """Return `value`; TOML has no null, so a nullable field is left out instead."""
    return value.date() if target.kind is FieldKind.DATE and isinstance(value, dt.datetime) else value
