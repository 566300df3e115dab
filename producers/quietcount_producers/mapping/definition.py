"""A mapping as its file says it, checked whole: which column stands for what, for each event of a row."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from zoneinfo import ZoneInfo

from quietcount_producers.composition import close_match, listed
from quietcount_producers.mapping.dates import Days, format_problem, needs_timezone, same_shape, zone_of
from quietcount_producers.mapping.fields import field_sources
from quietcount_producers.mapping.paths import same
from quietcount_producers.mapping.tables import Faults, Table, refuse_draft
from quietcount_producers.mapping.values import Choices, Condition, FieldSource
from quietcount_schemas.event_types import EventType
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["ALL_OTHERS", "SKIP", "Dated", "Definition", "EventRule", "Reading", "Revision", "definition_of"]

ALL_OTHERS: Final = "all others"
SKIP: Final = "skip"
"""What a value stands for that is no event."""

_TOP: Final = ("source", "case", "record", "revision", "timezone", "blanks", "skip", "ignore", "file", "event")
_FILE: Final = ("format", "delimiter", "encoding", "sheet", "skip_rows", "records")
_FORMATS: Final = ("csv", "jsonl", "json", "xlsx")
_RULE: Final = ("event", "part", "occurred_on", "when", "fields")
_EVENT: Final = ("column", "values", "otherwise")
_DATE: Final = ("column", "format", "written_in")
_REVISION: Final = ("changed", "since", "format", "written_in")
_CONDITION: Final = ("column", "values", "filled")
_MOST_ROWS: Final = 100


@dataclass(frozen=True, slots=True)
class Reading:
    """How the file is read. None stands for what the reader finds by itself."""

    format: str | None = None
    """csv, jsonl, json or xlsx."""
    delimiter: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    skip_rows: int = 0
    """Rows before the header."""
    records: str | None = None
    """The path to the list of records in a JSON document."""


@dataclass(frozen=True, slots=True)
class Dated:
    """The column that holds a day, and how it is written there; or several, joined by a space."""

    columns: tuple[str, ...]
    days: Days


@dataclass(frozen=True, slots=True)
class Revision:
    """Which state of its record a row is: a count of edits, or the hours from `since` to the last change."""

    column: str
    days: Days | None = None
    """None for a count."""
    since: str | dt.date = ""


@dataclass(frozen=True, slots=True)
class EventRule:
    """One event that a row may stand for. By type of event, where its fields come from."""

    part: str
    occurred_on: Dated
    sources: Mapping[str, tuple[FieldSource, ...]]
    choices: Mapping[str, Choices]
    constant: str = ""
    column: str = ""
    types: Mapping[str, str] = field(default_factory=dict)
    """By a value of `column`, the type of event, or SKIP."""
    otherwise: str = ""
    when: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Definition:
    """All that a mapping says."""

    reading: Reading
    source: str
    case: tuple[str, ...]
    record: tuple[str, ...]
    revision: Revision | None
    blanks: frozenset[str]
    """The texts that stand for an empty cell, as `same` has them."""
    skip: tuple[Condition, ...]
    ignored: frozenset[str]
    ignores_others: bool
    rules: tuple[EventRule, ...]

    @property
    def columns(self) -> dict[str, None]:
        """The columns that are used, in the order of the file of the mapping."""
        found = dict.fromkeys((*self.case, *self.record))
        if self.revision is not None:
            found[self.revision.column] = None
            if isinstance(self.revision.since, str) and self.revision.since:
                found[self.revision.since] = None
        found |= dict.fromkeys(each.column for each in self.skip)
        for rule in self.rules:
            found |= dict.fromkeys(each.column for each in rule.when)
            found |= dict.fromkeys(each for each in (rule.column, *rule.occurred_on.columns) if each)
            for sources in rule.sources.values():
                found |= dict.fromkeys(each.column for each in sources if each.column)
            for choices in rule.choices.values():
                found |= dict.fromkeys(choices.columns or [choices.source.column])
        return found


def definition_of(given: Mapping[str, Any], path: str, registry: SchemaRegistry) -> Definition:
    """Check what the file at `path` says. Raises ProducersError with everything that is wrong."""
    refuse_draft(given, path)
    faults = Faults(path)
    top = Table(given, "", _TOP, faults)
    zone = _zone(top, "timezone")
    case = top.columns("case")
    if "case" not in top:
        top.fault("case", "is missing: write which column says whom a row is about")
    record = top.columns("record")
    source = top.text("source", 'write a short name of the form or the tool, as "intake-form"')
    if record and "source" not in top:
        top.fault("source", "is missing: name the form or the tool, so that its records never meet another's")
    revision = _revision(top, zone)
    if "revision" in top and "record" not in top:
        top.fault("revision", "goes with record, which is missing: a correction has to say what it corrects")
    ignored, others = _ignored(top)
    rules = [
        rule
        for each in top.several("event", _RULE, "write a table of each event of a row: [[event]]")
        if (rule := _rule(each, zone, registry)) is not None
    ]
    if not top.given.get("event"):
        top.fault("event", "is missing: write [[event]], and below it which event a row stands for")
    _told_apart(rules, faults)
    skip = tuple(_conditions(top, "skip"))
    reading = _reading(top)
    blanks = _blanks(top)
    faults.refuse()
    return Definition(reading, source or "", case, record, revision, blanks, skip, ignored, others, tuple(rules))


def _reading(top: Table) -> Reading:
    table = top.inner("file", _FILE, "write a table: [file]")
    if table is None:
        return Reading()
    kind = table.text("format", f"write one of {listed(_FORMATS)}")
    if kind is not None and kind not in _FORMATS:
        table.fault("format", f"write one of {listed(_FORMATS)}")
    delimiter = table.given.get("delimiter")
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n'):
        table.fault("delimiter", r'write the one character between columns, as ";" or "\t"')
    encoding = table.text("encoding", 'write the name of an encoding, as "utf-8" or "windows-1251"')
    if encoding is not None and not _is_encoding(encoding):
        table.fault("encoding", 'is an encoding that is not known; write one as "utf-8", "windows-1251" or "latin-1"')
    rows = table.given.get("skip_rows", 0)
    if not isinstance(rows, int) or isinstance(rows, bool) or not 0 <= rows <= _MOST_ROWS:
        table.fault("skip_rows", f"write how many rows stand before the header, from 0 to {_MOST_ROWS}")
        rows = 0
    sheet = table.text("sheet", "write the name of a sheet of the workbook")
    records = table.text("records", 'write the path to the list of records, as "results"')
    return Reading(kind, delimiter, encoding, sheet, rows, records)


def _is_encoding(name: str) -> bool:
    try:
        "".encode(name)  # refuses what is a codec of Python and no encoding of text, as "hex"
    except (LookupError, ValueError):
        return False
    return True


def _zone(table: Table, name: str) -> ZoneInfo | None:
    written = table.text(name, 'write a time zone, as "Europe/Berlin" or "UTC"')
    if written is None:
        return None
    zone = zone_of(written.strip())
    if zone is None:
        table.fault(
            name,
            'is a time zone that this system does not know; write one as "Europe/Berlin", '
            "and where the system has none at all, install the package tzdata",
        )
    return zone


def _ignored(top: Table) -> tuple[frozenset[str], bool]:
    wanted = f'write "{ALL_OTHERS}", or a list of columns that nothing is taken from'
    given = top.given.get("ignore", [])
    if given == ALL_OTHERS:
        return frozenset(), True
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        top.fault("ignore", wanted)
        return frozenset(), False
    return frozenset(each.strip() for each in given), False


def _blanks(top: Table) -> frozenset[str]:
    given = top.given.get("blanks", [])
    if not isinstance(given, list) or not all(isinstance(each, str) and each.strip() for each in given):
        top.fault("blanks", 'write a list of the texts that stand for an empty cell, as ["---", "n/a"]')
        return frozenset()
    return frozenset(map(same, given))


def _days(table: Table, zone: ZoneInfo | None) -> Days:
    """Return how the table says that days are written."""
    given = table.given.get("format", "iso")
    formats = tuple(given) if isinstance(given, list) else (given,)
    wanted = 'write "iso", "day.month.year" or another order of such words, "excel" or "epoch seconds", or a list'
    if not formats or not all(isinstance(each, str) for each in formats):
        table.fault("format", wanted)
        formats = ()
    for each in formats:
        problem = format_problem(each)
        if problem is not None:
            table.fault("format", f"{problem}; {wanted}")
            formats = ()
            break
    if same_shape(formats):
        table.fault("format", "has two that read the same text as different days; keep the one that the file uses")
    written_in = _zone(table, "written_in")
    if zone is None and (written_in is not None or needs_timezone(formats)):
        table.fault("format", 'goes with timezone at the top of the file: whose day counts, as "Europe/Berlin"')
    return Days(formats or ("iso",), zone, written_in)


def _dated(table: Table, name: str, zone: ZoneInfo | None) -> Dated | None:
    wanted = 'write the column of the day, or { column = "opened", format = "day.month.year" }'
    if isinstance(table.given.get(name), dict):
        inner = table.nested(name, _DATE)
        columns = inner.columns("column")
        if "column" not in inner:
            inner.fault("column", "is missing: write the name of a column")
        days = _days(inner, zone)
        return Dated(columns, days) if columns else None
    column = table.text(name, wanted, required=True)
    return None if column is None else Dated((column.strip(),), Days(zone=zone))


def _revision(top: Table, zone: ZoneInfo | None) -> Revision | None:
    wanted = 'write the column that counts edits, or { changed = "updated at", since = "created at" }'
    if not isinstance(top.given.get("revision"), dict):
        column = top.text("revision", wanted)
        return None if column is None else Revision(column.strip())
    table = top.nested("revision", _REVISION)
    column = table.column("changed", required=True)
    days = _days(table, zone)
    since = table.given.get("since")
    if isinstance(since, dt.datetime) or (since is not None and not isinstance(since, (str, dt.date))):
        table.fault("since", "write the column of the day on which the record was made, or a date as 2023-01-01")
    elif since is None or isinstance(since, str):
        since = table.column("since", required=True)
    return None if column is None or since is None else Revision(column, days, since)


def _conditions(table: Table, name: str) -> list[Condition]:
    wanted = 'write { column = "status", values = ["test"] } or { column = "deleted at", filled = true }'
    found = []
    for each in table.several(name, _CONDITION, wanted):
        column = each.column("column", required=True)
        filled = each.truth("filled")
        values = each.given.get("values")
        if ("values" in each) is ("filled" in each):
            each.fault("", "needs one of `values` and `filled`")
        elif values is not None and (not isinstance(values, list) or not values):
            each.fault("values", "write a list of what may stand in the column")
        elif values is not None and not all(isinstance(value, (str, int, float)) for value in values):
            each.fault("values", "write texts, numbers, true or false")
        elif column is not None:
            found.append(Condition(column, frozenset(map(_text, values or ())), filled))
    return found


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return same(str(value))


def _rule(table: Table, zone: ZoneInfo | None, registry: SchemaRegistry) -> EventRule | None:
    types: dict[str, str] = {}
    constant, column, otherwise = "", "", ""
    given = table.given.get("event")
    if isinstance(given, dict):
        inner = table.nested("event", _EVENT)
        column = inner.column("column", required=True) or ""
        names = inner.given.get("values", {})
        if not isinstance(names, dict):
            inner.fault("values", 'write a table: values = { "Intake" = "HelpRequested" }')
            names = {}
        for number, (value, name) in enumerate(names.items(), start=1):
            types[same(value)] = _type(inner, "values", name, registry, f"entry {number} ")
        if "otherwise" in inner:
            otherwise = _type(inner, "otherwise", inner.given["otherwise"], registry)
        if not names:
            types = {same(name): name for name in registry.event_types}
    elif "event" not in table:
        table.fault("event", f"is missing: write one of {listed(registry.event_types)}")
    else:
        constant = _type(table, "event", given, registry)
    part = table.text("part", 'write a short name, as "opened"') or ""
    occurred_on = _dated(table, "occurred_on", zone)
    when = tuple(_conditions(table, "when"))
    names = dict.fromkeys(name for name in (constant, *types.values(), otherwise) if name and name != SKIP)
    kinds: list[EventType] = [registry.event_types[name] for name in names if name in registry.event_types]
    sources, choices = field_sources(table, kinds, lambda inner: _days(inner, zone))
    if occurred_on is None or not kinds:
        return None
    return EventRule(part, occurred_on, sources, choices, constant, column, types, otherwise, when)


def _type(table: Table, key: str, name: object, registry: SchemaRegistry, entry: str = "") -> str:
    if isinstance(name, str) and (name in registry.event_types or (name == SKIP and table.place.endswith(".event"))):
        return name
    close = close_match(name, registry.event_types) if isinstance(name, str) else ""
    known = listed(registry.event_types)
    table.fault(key, f"{entry}is not a known event type{close or f'; known: {known}'}")
    return ""


def _told_apart(rules: list[EventRule], faults: Faults) -> None:
    """Refuse two rules that would give two events of one row the same id."""
    seen: set[tuple[str, str]] = set()
    for number, rule in enumerate(rules, start=1):
        ids = {(kind, rule.part) for kind in rule.sources}
        if ids & seen:
            faults.add(
                f"event.{number}.part",
                'gives two events of one type the same name; write another, as part = "closed"',
            )
        seen |= ids
