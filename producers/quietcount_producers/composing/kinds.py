"""One event type as emitters see it: what each of its fields takes, and the bytes that a checked value becomes.

Files and services say the same few things again and again: a month has thirty days, and a type some hundred
combinations of symbols. So what was checked once is remembered with what it became. There is one rule for a value, and
the memory only spares asking it again. It holds what was accepted, so a name that somebody wrote into the wrong column
is not in it, and no identifier of a case ever is.
"""

from __future__ import annotations

import datetime as dt
import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple, TypeVar, cast

from quietcount_producers.errors import EventRefused
from quietcount_schemas.codec import Form, varint
from quietcount_schemas.events.event_types import EventType, Field, FieldKind, listed
from quietcount_schemas.events.periods import Period

__all__ = ["Day", "Kind", "Said", "close_match"]

_ISO_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,10}")
_EPOCH: Final = dt.date(1970, 1, 1)
_DAY_MS: Final = 86_400_000
_CANONICAL: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
_MOST_REMEMBERED: Final = 4096
"""Of each event type: some megabytes at most. A type with exact numbers or dates has more combinations than that."""

_T = TypeVar("_T")


class Day(NamedTuple):
    """A coarsened day: the timestamp of its records, its bytes on the wire, and its part of the canonical form."""

    timestamp: int
    encoded: bytes
    canonical: bytes


class Said(NamedTuple):
    """The attributes of an event, coarsened: their bytes on the wire, and their part of the canonical form."""

    encoded: bytes
    canonical: bytes


class _Memory(dict[object, _T]):
    """What was checked lately; it forgets everything when it is full, which costs less than knowing the oldest."""

    def keep(self, key: object, value: _T) -> _T:
        if len(self) >= _MOST_REMEMBERED:
            self.clear()
        self[key] = value
        return value


class Kind:
    """Checks and encodes what belongs to events of one type. `period` is what their dates are coarsened to.

    Safe to share between threads.
    """

    def __init__(self, event_type: EventType, form: Form, period: Period) -> None:
        self.name = event_type.name
        self.form = form
        self.fields: Mapping[str, Field] = {field.name: field for field in event_type.attributes}
        self._period = period
        self._envelope = {field.name: field for field in event_type.current.fields}
        self._dates = [field for field in event_type.attributes if field.kind is FieldKind.DATE]
        self._opening = f"[{_CANONICAL.encode(self.name)},".encode()
        # A type stands in each key: True equals 1, and is no number here.
        self._days: _Memory[Day] = _Memory()
        self._said: _Memory[Said] = _Memory()
        self._revisions: _Memory[tuple[int, bytes]] = _Memory()

    def canonical(self, key: bytes, day: Day, said: Said) -> bytes:
        """Return the bytes that stand for what is sent of an event, the same for every file format.

        Take the case key, the coarsened day and the coarsened attributes, and nothing else: the service keeps a hash of
        the id for a year, and whoever has the pepper can test guesses against it.
        """
        return b"".join((self._opening, b'"', key.hex().encode(), day.canonical, said.canonical))

    def day(self, value: object, today: Callable[[], dt.date]) -> Day:
        """Return the coarsened day of an event. Raises EventRefused.

        It is at most tomorrow in UTC: it may be tomorrow where the emitter is. A day that once was not in the future
        never is again, so one that is remembered asks no clock.
        """
        try:
            known = self._days.get((type(value), value))
        except TypeError:  # not hashable, so no day: the check says so
            known = None
        if known is not None:
            return known
        if value is None:
            raise EventRefused("occurred_on", "is missing")
        exact = cast("dt.date", _checked(self._envelope["occurred_on"], value))
        latest = today() + dt.timedelta(days=1)
        if exact > latest:
            raise EventRefused(
                "occurred_on",
                f"lies in the future; the latest date that is taken is {latest}, tomorrow in UTC. Correct the date, or "
                "emit the event after it occurred",
            )
        coarse = max(self._period.coarsen(exact), _EPOCH)  # the week of 1970-01-01 began in 1969
        days = (coarse - _EPOCH).days
        found = Day(days * _DAY_MS, varint(days), f'","{coarse.isoformat()}",'.encode())
        return self._days.keep((type(value), value), found)

    def revision(self, value: object, text: bool) -> tuple[int, bytes]:
        """Return a revision, 0 if none is given, and its bytes. Raises EventRefused."""
        try:
            known = self._revisions.get((type(value), value, text))
        except TypeError:
            known = None
        if known is not None:
            return known
        given = _integer(value) if text else value
        number = 0 if value is None else cast("int", _checked(self._envelope["revision"], given))
        return self._revisions.keep((type(value), value, text), (number, varint(number)))

    def said(
        self, given: Mapping[str, object], text: bool, label: Callable[[str], str], problems: list[EventRefused]
    ) -> Said | None:
        """Return what the attributes `given` and the defaults of the others become; put what is wrong into `problems`.

        `text` and `label` are those of the event's Facts.
        """
        key = (text, *given.items(), *map(type, given.values()))
        try:
            known = self._said.get(key)
        except TypeError:
            known = None
        if known is not None:
            return known
        before = len(problems)
        values = self._values(given, text, label, problems)
        if len(problems) > before:
            return None
        for field in self._dates:
            value = values[field.name]
            if isinstance(value, dt.date):
                values[field.name] = max(self._period.coarsen(value), _EPOCH + dt.timedelta(days=field.minimum))
        # Attributes at their default are left out of the canonical form, so that a field that is added to the schema
        # later does not change the ids of events that are emitted again.
        told = {
            name: value.isoformat() if isinstance(value, dt.date) else value
            for name, value in values.items()
            if not (self.fields[name].has_default and value == self.fields[name].default_value)
        }
        return self._said.keep(key, Said(self.form.attributes(values), f"{_CANONICAL.encode(told)}]".encode()))

    def _values(
        self, given: Mapping[str, object], text: bool, label: Callable[[str], str], problems: list[EventRefused]
    ) -> dict[str, object]:
        """Return every attribute, with defaults for those not given; put what is wrong into `problems`."""
        values: dict[str, object] = {}
        its = f"; its fields: {listed(self.fields)}"
        for name in given:
            if name not in self.fields:
                reason = f"is not a field of {self.name}{close_match(name, self.fields)}{its}"
                problems.append(EventRefused(label(name), reason))
                its = ""  # said once for an event: the list is long
        for name, field in self.fields.items():
            if name in given:
                try:
                    values[name] = _checked(field, _typed(field, given[name]) if text else given[name])
                except EventRefused as refused:
                    problems.append(refused)
            elif field.has_default:
                values[name] = field.default_value
            else:
                problems.append(EventRefused(name, f"is missing; {self.name} has no default for it"))
        return values


def close_match(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean "X"?` if `name` is close to one of `known`, else nothing. `name` is never shown."""
    folded = {k.casefold(): k for k in known}
    close = difflib.get_close_matches(name.strip().casefold()[:100], folded, n=1, cutoff=0.7)
    return f'; did you mean "{folded[close[0]]}"?' if close else ""


def _checked(field: Field, value: object) -> object:
    """Return `value`, with an ISO date in text read as a date. Raises EventRefused if the field does not take it."""
    if field.kind is FieldKind.DATE and isinstance(value, str):
        value = _date(field.name, value)
    problem = field.problem(value)
    if problem is not None:
        hint = close_match(value, field.symbols) if isinstance(value, str) else ""
        if value is None and field.has_default:
            hint = "; leave it out to take the default"
        raise EventRefused(field.name, problem + hint)
    return value


def _date(name: str, text: str) -> dt.date:
    if not _ISO_DATE.fullmatch(text):
        raise EventRefused(name, "must be a date like 2023-10-03 (year-month-day)")
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise EventRefused(name, "is not a day of the calendar") from None


def _typed(field: Field, value: object) -> object:
    """Return what the text of a CSV cell stands for; the check of the field refuses text that stands for nothing."""
    match field.kind:
        case FieldKind.INT:
            return _integer(value)
        case FieldKind.BOOLEAN:
            return {"true": True, "false": False}.get(str(value).casefold(), value)
        case _:
            return value


def _integer(value: object) -> object:
    return int(value) if isinstance(value, str) and _INTEGER.fullmatch(value) else value
