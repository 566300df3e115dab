"""A mapping at work: one row of an export, or one JSON document, becomes the events that it stands for."""

from __future__ import annotations

import datetime as dt
import typing
from collections.abc import Iterator, Sequence
from json.encoder import encode_basestring
from pathlib import Path
from typing import Final

from quietcount_producers.composing.composition import Facts, close_match, listed
from quietcount_producers.composing.identifiers import JOIN
from quietcount_producers.errors import EventRefused, ProducersError
from quietcount_producers.mapping.catalogue import found
from quietcount_producers.mapping.dates import Unfit
from quietcount_producers.mapping.definition import SKIP, Definition, EventRule, Reading, Revision, definition_of
from quietcount_producers.mapping.paths import at, same
from quietcount_producers.mapping.tables import parsed
from quietcount_producers.mapping.values import NOTHING, is_empty, number_of, text_of
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["JOIN", "Mapping"]

_HIGHEST_REVISION: Final = 65_535
_EXACT: Final = 1e15
"""Above it, a number with a point may stand for another one."""
_HOUR: Final = dt.timedelta(hours=1)

_Row = typing.Mapping[str, object]


class Mapping:
    """What the columns of one kind of export mean. Safe to share between threads."""

    def __init__(self, name: str, definition: Definition) -> None:
        self.name = name
        self.reading: Reading = definition.reading
        self._definition = definition

    @classmethod
    def load(cls, path: Path, registry: SchemaRegistry) -> Mapping:
        """Read the mapping at `path`, or the one of that name that comes with the package; `registry` has its events.

        Raises ProducersError that names the file and every key that is wrong, or that is still to be filled in.
        """
        return cls(str(path), definition_of(parsed(found(path)), str(path), registry))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that events are made of."""
        return tuple(self._definition.columns)

    @property
    def names_records(self) -> bool:
        """Whether the same record, read again, is the same event again."""
        return bool(self._definition.record)

    def check_columns(self, columns: Sequence[str]) -> None:
        """Check the header of a file. Raises ProducersError for columns that are missing, or that nobody decided on.

        A column that the mapping neither uses nor ignores is refused: what it holds would be lost without a word. Names
        that only the file has are shown once every column of the mapping is there, because then its first line is a
        header and not somebody's case.
        """
        its = self._definition
        there = set(columns)
        missing = [name for name in its.columns if name not in there]
        if missing:
            told = [f"{name}{_place(name, columns)}" for name in missing]
            raise ProducersError(
                f"The file has no column {listed(told)}, which the mapping {self.name} uses",
                "Is it the file that the mapping was made for, in the encoding that the mapping names? If more rows "
                "than a title stand before the header, say how many with skip_rows in [file]. If a column has another "
                "name now, change the mapping",
            )
        twice = [name for name in its.columns if list(columns).count(name) > 1]
        if twice:
            raise ProducersError(
                f"The file has the column {listed(twice)} more than once, so it is unclear which one the mapping "
                f"{self.name} means",
                "Rename one of them in the file",
            )
        if its.ignores_others:
            return
        open_ones = dict.fromkeys(name for name in columns if name not in its.columns and name not in its.ignored)
        if open_ones:
            raise ProducersError(
                f"The mapping {self.name} neither uses nor ignores the column {listed(map(repr, open_ones))}",
                'Use it, or add it to the list `ignore`; with ignore = "all others" nothing is asked',
            )

    def events(self, values: _Row) -> list[Facts] | list[EventRefused]:
        """Return the events that one row or document stands for; none if it stands for nobody.

        If anything is wrong with the row, return all of that instead. `field` of each EventRefused is the name of the
        column.
        """
        its = self._definition
        problems: list[EventRefused] = []
        made: list[Facts] = []
        if its.blanks:
            values = {name: each for name, each in values.items() if not _is_blank(each, its.blanks)}
        try:
            if any(each.holds(values) for each in its.skip):
                return []
            rules = [
                (rule, kind)
                for rule in its.rules
                if all(each.holds(values) for each in rule.when) and (kind := _type(rule, values)) != SKIP
            ]
            if not rules:
                return []
        except EventRefused as refused:
            return [refused]
        case = _attempt(problems, lambda: _case(its.case, values))
        record = _attempt(problems, lambda: _record(its, values))
        revision = None if its.revision is None else _attempt(problems, lambda: _revision(its.revision, values))
        for rule, kind in rules:
            made += _facts(rule, kind, values, problems, (case, record, revision))
        # A column that is wrong for two events of a row is wrong once.
        return list({(each.field, each.reason): each for each in problems}.values()) or made

    def located(self, refused: EventRefused) -> EventRefused:
        """Return what the composer refused with the column in place of the field of the event."""
        its = self._definition
        match refused.field:
            case "case":
                columns = its.case
            case "event_id":
                columns = its.record
            case "revision":
                columns = () if its.revision is None else (its.revision.column,)
            case "occurred_on":
                columns = tuple(dict.fromkeys(each for rule in its.rules for each in rule.occurred_on.columns))
            case name:
                columns = tuple(
                    dict.fromkeys(
                        each.column
                        for rule in its.rules
                        for sources in rule.sources.values()
                        for each in sources
                        if each.target.name == name and each.column
                    )
                )
        return EventRefused(" or ".join(columns), refused.reason) if columns else refused


def _facts(
    rule: EventRule,
    kind: str,
    values: _Row,
    problems: list[EventRefused],
    common: tuple[str | None, list[str] | None, int | None],
) -> Iterator[Facts]:
    case, record, revision = common
    day = _attempt(problems, lambda: _day(rule, values))
    attributes: dict[str, object] = {}
    for source in rule.sources[kind]:
        value = _attempt(problems, lambda source=source: source.of(values))  # type: ignore[misc]
        if value is not NOTHING:
            attributes[source.target.name] = value
    choices = rule.choices.get(kind)
    if choices is None:
        yield Facts(kind, case, day, attributes, revision=revision, record=_name(record, rule.part))
        return
    for symbol in _attempt(problems, lambda: choices.of(values)) or []:
        yield Facts(
            *(kind, case, day, {**attributes, choices.source.target.name: symbol}),
            revision=revision,
            record=_name(record, rule.part, str(symbol)),
        )


_T = typing.TypeVar("_T")


def _attempt(problems: list[EventRefused], step: typing.Callable[[], _T]) -> _T | None:
    try:
        return step()
    except EventRefused as refused:
        problems.append(refused)
        return None


def _type(rule: EventRule, values: _Row) -> str:
    """Return the type of the rule's event, or SKIP."""
    if rule.constant:
        return rule.constant
    value = at(values, rule.column)
    if is_empty(value):
        found = rule.types.get("", rule.otherwise)
    else:
        found = rule.types.get(same(_text(rule.column, value)), rule.otherwise)
    if not found:
        raise EventRefused(
            rule.column,
            "holds a value that the mapping names no event for; add it to `values`, or say what every other value is "
            f'with `otherwise`: an event, or "{SKIP}" for a row that stands for nobody',
        )
    return found


def _day(rule: EventRule, values: _Row) -> dt.date:
    columns = rule.occurred_on.columns
    cells = [at(values, column) for column in columns]
    while len(cells) > 1 and is_empty(cells[-1]):  # a day that is not known: another format may read the month
        cells.pop()
    for column, cell in zip(columns, cells, strict=False):
        if is_empty(cell):
            raise EventRefused(
                column, "is empty; without a day there is no event. If such rows are none, say so in `when`"
            )
    if len(columns) > 1:
        cells = [" ".join(_text(column, cell) for column, cell in zip(columns, cells, strict=False))]
    try:
        return rule.occurred_on.days.day(cells[0])
    except Unfit as unfit:
        raise EventRefused(" and ".join(rule.occurred_on.columns), str(unfit)) from None


def _case(columns: tuple[str, ...], values: _Row) -> str:
    if len(columns) == 1:
        return _identifier(columns[0], values)
    parts = [_identifier(column, values) for column in columns]
    for column, part in zip(columns, parts, strict=True):
        if JOIN in part:  # else two people could share one identifier: "a|b" and "c", "a" and "b|c"
            raise EventRefused(column, f"holds {JOIN!r}, which stands between the columns of an identifier")
        if not any(map(str.isalnum, part)):  # a sign for "not known": all who have it would be one person
            raise EventRefused(column, "has no letter or digit; it says whom the row is about")
    return JOIN.join(parts)


def _record(its: Definition, values: _Row) -> list[str] | None:
    return [its.source, *(_identifier(column, values) for column in its.record)] if its.record else None


def _name(record: list[str] | None, *parts: str) -> str | None:
    """Return what the record is called: as JSON, so that no two lists are written alike."""
    return None if record is None else f"[{','.join(map(encode_basestring, (*record, *parts)))}]"


def _identifier(column: str, values: _Row) -> str:
    value = at(values, column)
    if is_empty(value):
        raise EventRefused(
            column,
            "is empty; it says whom or what the row is about. If such rows count for nobody, name the "
            "column in `skip`, with filled = false",
        )
    if isinstance(value, (bool, dt.date)) or (isinstance(value, float) and not value.is_integer()):
        raise EventRefused(column, "is no identifier: a spreadsheet made another kind of value of it; keep it as text")
    if isinstance(value, float) and abs(value) >= _EXACT:
        raise EventRefused(
            column, "is a number of more digits than its kind keeps, so two could be one; keep it as text"
        )
    return _text(column, value)


def _text(column: str, value: object) -> str:
    try:
        return text_of(value)
    except Unfit as unfit:
        raise EventRefused(column, str(unfit)) from None


def _revision(its: Revision | None, values: _Row) -> int:
    if its is None or is_empty(at(values, its.column)):
        return 0
    value = at(values, its.column)
    column, role = its.column, "as `changed` of `revision`, it "
    try:
        if its.days is None:
            role = ""
            found = number_of(value)
        else:
            changed = its.days.instant(value)
            begun: object = its.since
            if isinstance(its.since, str):
                column, role, begun = its.since, "as `since` of `revision`, it ", at(values, its.since)
                if is_empty(begun):
                    raise Unfit("is empty; the revision is counted from it")
            found = max(0, int((changed - its.days.instant(begun)) / _HOUR))
    except Unfit as unfit:
        raise EventRefused(column, f"{role}{unfit}") from None
    if not 0 <= found <= _HIGHEST_REVISION:
        raise EventRefused(
            its.column,
            f"gives a revision that is not from 0 to {_HIGHEST_REVISION}; if it is a stamp, count from a later day "
            "with `since`",
        )
    return found


def _is_blank(value: object, blanks: frozenset[str]) -> bool:
    return isinstance(value, str) and same(value) in blanks


def _place(name: str, columns: Sequence[str]) -> str:
    """Say which column of the file has nearly that name; the file's own is not shown."""
    for number, column in enumerate(columns, start=1):
        if column and close_match(column, [name]):
            return f" (column {number} is named almost so)"
    return ""
