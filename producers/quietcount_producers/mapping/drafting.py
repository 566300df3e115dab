"""A draft of a mapping for a file: what can be guessed is written, and what a person has to decide is left to fill in.

The draft names columns. It names values only of a column that holds the symbols of a field, by its name or by most of
its values, if each value repeats: names, numbers and places of people do not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Final

from quietcount_producers.composing.composition import listed
from quietcount_producers.errors import ProducersError
from quietcount_producers.mapping.columns import Column, Kind, looked_at
from quietcount_producers.mapping.dates import Days, Unfit
from quietcount_producers.mapping.paths import same
from quietcount_producers.mapping.tables import BLANK
from quietcount_schemas.events.event_types import EventType, Field, FieldKind, Role
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["draft", "flattened", "records_in"]

_CLOSE: Final = 0.72
_MOST_VALUES: Final = 0.6
"""The share of a column's values that have to be symbols or labels of a field for the column to hold that field."""
_IDENTIFIED: Final = re.compile(
    r"(^|[ _./-])(id|uuid|key|nr|no|№|number|code|case|file|person|client|klient|akte|номер|код|дело|справа|шифр)"
    r"($|[ _./-])|клиент|клієнт",
    re.IGNORECASE,
)
_CHANGED: Final = re.compile(r"modif|updat|chang|edited|geändert|измен|змін", re.IGNORECASE)
_CREATED: Final = re.compile(
    r"creat|opened|start|submi|regist|received|erfasst|создан|створ|обращен|звернен|открыт", re.IGNORECASE
)
_COUNTED: Final = re.compile(r"^(edits|revision|version)$", re.IGNORECASE)
_TOLD_APART: Final = (Kind.DIFFERENT, Kind.TEXT, Kind.NUMBER)
"""What identifiers look like."""
_WIDTH: Final = 34


def draft(
    name: str,
    columns: Sequence[str],
    rows: Iterable[Mapping[str, object]],
    registry: SchemaRegistry,
    records: str = "",
    encoding: str | None = None,
) -> str:
    """Return the TOML of a draft for the file that is called `name`, whose rows are in the list at `records`, if any.

    `encoding` is the one that the file was read in, if somebody had to name it: `emit` needs it, too.

    Raises ProducersError if the file has no header.
    """
    _refuse_data(name, columns)
    seen, _ = looked_at(columns, rows)
    kinds = [kind for kind in registry.event_types.values() if kind.role is not Role.WITHDRAWAL]
    shipped = SchemaRegistry.load().event_types
    ranked = sorted(kinds, key=lambda kind: (-len(_matches(kind, seen)), kind.name in shipped))
    reading = {"encoding": encoding, "records": records}
    named = [f"{key} = {_quoted(value)}" for key, value in reading.items() if value]
    return "\n".join(
        [
            *_top(name, seen),
            *(("", "[file]", *named) if named else ()),
            *_event(ranked, seen),
            "",
        ]
    )


def flattened(values: Mapping[str, object], above: str = "", deepest: int = 8) -> Iterator[tuple[str, object]]:
    """Yield what stands in a row by its path: of nested JSON the parts, of a list the whole."""
    for name, value in values.items():
        path = f"{above}.{name}" if above else name
        if isinstance(value, dict) and deepest:
            yield from flattened(value, path, deepest - 1)
        else:
            yield path, value


def records_in(rows: Sequence[Mapping[str, object]]) -> str:
    """Return the path to the longest list of objects in a file that is one document around such lists, or nothing."""
    if len(rows) != 1:
        return ""
    lists = {path: _records(value) for path, value in rows[0].items()}
    longest = max(lists, key=lists.__getitem__, default="")
    return longest if lists.get(longest) else ""


def _records(value: object) -> int:
    """Return how many objects a list has, or 0 for anything that is not a list of objects alone."""
    return len(value) if isinstance(value, list) and all(isinstance(each, dict) for each in value) else 0


def _refuse_data(name: str, columns: Sequence[str]) -> None:
    """Refuse a first line that is somebody's case: its values would be written as the names of columns."""
    days = [Days((each,)) for each in ("iso", "day.month.year", "day/month/year", "month/day/year", "day-month-year")]
    for column in columns:
        if any(_reads(each, column) for each in days) or re.fullmatch(r"[0-9.,+ -]{5,}", column):
            raise ProducersError(
                f"{name}: the first line does not look like a header: it has a date or a number in it",
                "Put a line with the names of the columns above it. If other rows stand before the header, take them "
                "out for the draft",
            )


def _reads(days: Days, text: str) -> bool:
    try:
        days.day(text)
    except Unfit:
        return False
    return True


def _top(name: str, columns: Sequence[Column]) -> Iterator[str]:
    yield "# A draft: what the columns of an export mean. docs/mapping.md explains every key."
    yield f'# Write what fits in place of "{BLANK}", take out what does not apply, and try it, which sends nothing:'
    yield "#"
    yield "#     quietcount emit FILE --mapping THIS-FILE.toml --dry-run"
    yield "#"
    yield "# The columns of the file, and what stands in them:"
    yield "#"
    for column in columns:
        yield f"#   {_plain(column.name):<{_WIDTH}} {_said(column)}".rstrip()
    yield ""
    different = [each for each in columns if each.kind is Kind.DIFFERENT and each.always_filled]
    named = [each for each in columns if _IDENTIFIED.search(each.name) and each.kind in _TOLD_APART]
    named.sort(key=lambda each: each.kind is not Kind.DIFFERENT)
    records = [each for each in named if each in different] or different
    people = sorted(named or different, key=lambda each: each in records[:1])
    yield "# A short name of the form or the tool. With it, the records of two exports never count as one."
    yield f"source = {_quoted(_source(name))}"
    yield ""
    yield "# Whom a row is about: the identifier of the person, the same in every file and every tool. It never leaves"
    yield '# this machine. From several columns: case = ["year", "number"]. The number of a row is not that:'
    yield "# somebody who comes twice would be two people."
    yield f'case = "{BLANK}"{_maybe(people)}'
    yield ""
    yield "# What the tool calls the row. With it, a row that you emit again next week counts once. Without it, equal"
    yield "# rows of two files are one event. Take the line out if the rows have no number of their own."
    yield f'record = "{BLANK}"{_maybe(records)}'
    yield ""
    yield from _revision(columns)
    yield "# Whose day counts, if the file has times in UTC."
    in_utc = [each for each in columns if each.in_utc]
    yield f'timezone = "{BLANK}"    # as "Europe/Berlin"' if in_utc else '# timezone = "Europe/Berlin"'
    yield ""
    blanks = sorted({blank for each in columns for blank in each.blanks})
    if blanks:
        yield "# What stands for an empty cell, in every column that is used."
        yield f"# blanks = [{', '.join(map(_quoted, blanks))}]"
        yield ""
    yield "# Rows that stand for nobody."
    yield '# skip = { column = "status", values = ["test", "draft"] }'
    yield ""
    yield '# Columns that nothing is taken from: a list of them, or "all others" than those that are named here.'
    yield 'ignore = "all others"'


def _revision(columns: Sequence[Column]) -> Iterator[str]:
    counted = next((each for each in columns if _COUNTED.search(each.name) and each.kind is not Kind.DAY), None)
    days = [each for each in columns if each.kind is Kind.DAY and len(each.formats) == 1]
    changed = next((each for each in days if _CHANGED.search(each.name)), None)
    created = next((each for each in days if _CREATED.search(each.name) and each is not changed), None)
    yield "# Which state of its record a row is, so that a changed row corrects what was sent of it before."
    if counted is not None:
        yield f"# revision = {_quoted(counted.name)}"
    elif changed is not None and created is not None:
        both = list(dict.fromkeys((*changed.formats, *created.formats)))
        form = _quoted(both[0]) if len(both) == 1 else f"[{', '.join(map(_quoted, both))}]"
        written = "" if both == ["iso"] else f", format = {form}"
        yield f"# revision = {{ changed = {_quoted(changed.name)}, since = {_quoted(created.name)}{written} }}"
    else:
        yield '# revision = { changed = "the column of the last change", since = "the column of the first day" }'
    yield ""


def _event(ranked: Sequence[EventType], columns: Sequence[Column]) -> Iterator[str]:
    best = ranked[0]
    matches = _matches(best, columns)
    names = [each.name for each in ranked]
    yield ""
    yield "# The event that a row stands for. Write [[event]] once more for a second one, as a case that is closed:"
    yield '# it gets  when = { column = "closed on", filled = true }'
    yield "[[event]]"
    yield f'event = "{BLANK}"    # {"maybe " + best.name if matches else "one of " + listed(names)}'
    if not matches:
        yield "# If none of them fits, `quietcount schemas new` writes an event type of your own."
    days = [each for each in columns if each.kind is Kind.DAY]
    if len(days) == 1:
        yield f"occurred_on = {_dated(days[0])}"
    else:
        yield f'occurred_on = "{BLANK}"    # the column of the day on which it happened'
        for each in days:
            yield f"# occurred_on = {_dated(each)}"
    for field in best.attributes:
        yield ""
        column = matches.get(field.name)
        if column is None:
            yield f"# {field.name}: {field.allowed.removeprefix('must be ')}"
            yield f'# [event.fields.{field.name}]\n# column = "..."'
        else:
            yield from _field(field, column)
    if best.attributes:
        yield ""
        yield f"# These fields are those of {best.name}. `quietcount schemas show EVENT` lists those of another."


def _field(field: Field, column: Column) -> Iterator[str]:
    yield f"[event.fields.{field.name}]    # {field.allowed}"
    yield f"column = {_quoted(column.name)}"
    if field.kind is FieldKind.DATE and column.formats:
        yield f"format = {_formats(column)}"
    if field.kind is not FieldKind.ENUM:
        return
    yield f'otherwise = "{BLANK}"    # what another value counts as; without this line, it is refused'
    if column.values and _shows_values(field, column):
        yield f"[event.fields.{field.name}.values]"
        for value in column.values:
            yield f"{_quoted(value)} = {_quoted(_symbol(field, value) or BLANK)}"
    else:
        yield '# values = { "what stands in the column" = "SYMBOL" }'


def _matches(kind: EventType, columns: Sequence[Column]) -> dict[str, Column]:
    """Return by field the column that seems to hold it: one whose name is close, or whose values are its symbols."""
    found: dict[str, Column] = {}
    for field in kind.attributes:
        likely = [(likeness, each) for each in columns if (likeness := _likeness(field, each)) >= _CLOSE]
        if likely:
            found[field.name] = max(likely, key=lambda each: each[0])[1]
    return found


def _likeness(field: Field, column: Column) -> float:
    if field.kind is FieldKind.ENUM and column.kind in (Kind.DAY, Kind.DIFFERENT, Kind.EMPTY):
        return 0
    if column.values and field.kind is FieldKind.ENUM:
        share = _share(field, column)
        if share >= _MOST_VALUES and len(column.values) > 1:
            return 1 + share
    last = re.split(r"[/.]", column.name)[-1] or column.name
    names = (field.name, *field.titles.values())
    return max(SequenceMatcher(None, _folded(last), _folded(each)).ratio() for each in names)


def _shows_values(field: Field, column: Column) -> bool:
    """Return whether the draft names a column's values. One merely named alike ("in charge") may hold people."""
    last = re.split(r"[/.]", column.name)[-1]
    named = _folded(last) in {_folded(each) for each in (field.name, *field.titles.values())}
    return named or _share(field, column) >= _MOST_VALUES


def _share(field: Field, column: Column) -> float:
    return sum(_symbol(field, each) is not None for each in column.values) / max(len(column.values), 1)


def _symbol(field: Field, value: str) -> str | None:
    """Return the symbol that a value names, by itself or by its label in any language."""
    wanted = _folded(value)
    for symbol in field.symbols:
        labels = (each.get(symbol, symbol) for each in field.labels.values())
        if wanted in (_folded(symbol), *map(_folded, labels)):
            return symbol
    return None


def _folded(text: str) -> str:
    return re.sub(r"[\W_]+", " ", same(text)).strip()


def _dated(column: Column) -> str:
    if column.formats == ("iso",):
        return _quoted(column.name)
    return f"{{ column = {_quoted(column.name)}, format = {_formats(column)} }}"


def _formats(column: Column) -> str:
    """Return the format of a column; if the days in it can be read in two ways, a person has to say which holds."""
    return _quoted(column.formats[0]) if len(column.formats) == 1 else f'"{BLANK}"'


def _said(column: Column) -> str:
    if column.kind is not Kind.DAY:
        return column.kind
    return f"{column.kind}: {' or '.join(column.formats[:3])}{', in UTC' if column.in_utc else ''}"


def _maybe(columns: Sequence[Column]) -> str:
    return f"    # maybe {listed(_quoted(_plain(each.name)) for each in columns[:3])}" if columns else ""


def _source(name: str) -> str:
    """Return a name for the export: that of its file, without digits, which are often its date."""
    stem = re.sub(r"\.[A-Za-z]+$", "", name.replace("\\", "/").rpartition("/")[2])
    return re.sub(r"[\W\d_]+", "-", stem).strip("-").lower() or BLANK


def _plain(text: str) -> str:
    """Return text for a comment, which ends with its line."""
    return "".join(each if each.isprintable() else " " for each in text)


def _quoted(text: str) -> str:
    """Return text as TOML has it, which takes what JSON escapes."""
    shown = text.encode("utf-8", "replace").decode()
    return json.dumps(shown, ensure_ascii=False).replace("\x7f", "\\u007f")
