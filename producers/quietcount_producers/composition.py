"""From the facts of one event to the record that is appended: checked, pseudonymised, coarsened, encoded.

Nothing here does input or output; the clock and the secret are handed in.
"""

from __future__ import annotations

import datetime as dt
import difflib
import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from quietcount_producers.errors import EventRefused
from quietcount_producers.pseudonyms import Pepper, normal_identifier
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.event_types import EventType, Field, FieldKind
from quietcount_schemas.log import NewRecord
from quietcount_schemas.periods import Period
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["Composer", "Precision", "close_match", "event_id_bytes", "listed", "revision_number", "utc_today"]

Precision = Period | Mapping[str, Period]

_ISO_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EPOCH: Final = dt.date(1970, 1, 1)
_LAST_DAY: Final = dt.date(2099, 12, 31)
_DAY_MS: Final = 86_400_000
_MOST_REVISIONS: Final = 65_535
_LONGEST_LIST: Final = 20
_UUID_VERSION: Final = 4
_CANONICAL: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def utc_today() -> dt.date:
    """Return today's date in UTC."""
    return dt.datetime.now(dt.UTC).date()


class Composer:
    """Makes records of events for one registry, one pepper and one precision.

    `precision` is the period that dates are coarsened to, for all event types or by name; a type without an entry is
    coarsened to the month. All methods raise EventRefused for what is wrong with an event. Safe to share
    between threads.
    """

    def __init__(
        self,
        registry: SchemaRegistry,
        pepper: Pepper,
        precision: Precision = Period.MONTH,
        today: Callable[[], dt.date] = utc_today,
    ) -> None:
        self.registry = registry
        self._codec = Codec(registry)
        self._pepper = pepper
        self._precision = precision
        self._today = today
        self._fields = {name: {f.name: f for f in kind.attributes} for name, kind in registry.event_types.items()}

    def event_type(self, name: object) -> EventType:
        """Return the event type called `name`."""
        if not isinstance(name, str):
            raise EventRefused("event", "must be text: the name of an event type")
        found = self.registry.event_types.get(name)
        if found is None:
            known = list(self.registry.event_types)
            raise EventRefused("event", f"is not a known event type{close_match(name, known)}; known: {listed(known)}")
        return found

    def attributes(
        self, kind: EventType, given: Mapping[str, object], problems: list[EventRefused] | None = None
    ) -> dict[str, object]:
        """Return every attribute of `kind`, checked, with the schema's defaults for those not `given`.

        What is wrong is raised, or, when there is a list of `problems`, all of it is put there.
        """
        fields = self._fields[kind.name]
        values: dict[str, object] = {}
        found: list[EventRefused] = []
        for name in given:
            if name not in fields:
                hint = f"{close_match(name, fields)}; its fields: {listed(fields)}"
                found.append(EventRefused(name, f"is not a field of {kind.name}{hint}"))
        for name, field in fields.items():
            if name in given:
                try:
                    values[name] = _checked(field, given[name])
                except EventRefused as refused:
                    found.append(refused)
            elif field.has_default:
                values[name] = _default(field)
            else:
                found.append(EventRefused(name, f"is missing; {kind.name} has no default for it"))
        if found and problems is None:
            raise found[0]
        if problems is not None:
            problems += found
        return values

    def fields(self, kind: EventType) -> Mapping[str, Field]:
        """Return the attributes of `kind` by name."""
        return self._fields[kind.name]

    def occurred_on(self, value: object) -> dt.date:
        """Return the exact day of an event, at most tomorrow in UTC (it may be tomorrow where the emitter is)."""
        day = _date("occurred_on", value, _EPOCH, _LAST_DAY)
        if day > self._today() + dt.timedelta(days=1):
            raise EventRefused("occurred_on", "lies in the future; an event is emitted after it occurred")
        return day

    def record(
        self,
        kind: EventType,
        key: bytes,
        day: dt.date,
        event_id: bytes,
        revision: int,
        attributes: Mapping[str, object],
    ) -> NewRecord:
        """Return the record of a checked event: its dates are coarsened in the payload and in the timestamp alike."""
        period = self.precision(kind.name)
        coarse = max(period.coarsen(day), _EPOCH)  # the week of 1970-01-01 began in 1969
        coarse_attributes = dict(attributes)
        for name, field in self._fields[kind.name].items():
            value = coarse_attributes.get(name)
            if field.kind is FieldKind.DATE and isinstance(value, dt.date):
                coarse_attributes[name] = max(period.coarsen(value), _EPOCH + dt.timedelta(days=field.minimum))
        payload = self._codec.encode(CaseEvent(kind.name, key, event_id, revision, coarse, coarse_attributes))
        return NewRecord(key, payload, (coarse - _EPOCH).days * _DAY_MS)

    def case_key(self, case: object) -> bytes:
        """Return the case key of the identifier `case`."""
        if not isinstance(case, str):
            raise EventRefused("case", "must be text: the identifier of the case")
        return self._pepper.case_key(case)

    def precision(self, event: str) -> Period:
        """Return the period that the dates of `event` are coarsened to."""
        if isinstance(self._precision, Period):
            return self._precision
        return self._precision.get(event, Period.MONTH)

    def canonical(self, kind: EventType, case: object, day: dt.date, attributes: Mapping[str, object]) -> bytes:
        """Return the bytes that stand for these facts, whatever file format they came in.

        The day is the exact one. Attributes at their default are left out, so that a field added to the schema later
        does not change the ids of events that are emitted again.
        """
        if not isinstance(case, str):
            raise EventRefused("case", "must be text: the identifier of the case")
        fields = self._fields[kind.name]
        told = {
            name: value.isoformat() if isinstance(value, dt.date) else value
            for name, value in attributes.items()
            if not (fields[name].has_default and value == _default(fields[name]))
        }
        facts = [kind.name, normal_identifier(case), day.isoformat(), told]
        return _CANONICAL.encode(facts).encode()

    def derived_event_id(self, canonical: bytes, occurrence: int) -> bytes:
        """Return the id of the `occurrence`-th event with this canonical form."""
        return self._pepper.derived_event_id(canonical, occurrence)


def event_id_bytes(value: object) -> bytes:
    """Return the sixteen bytes of an event id that was given. Raises EventRefused unless it is a UUIDv4."""
    if isinstance(value, str):
        try:
            value = uuid.UUID(value)
        except ValueError:
            raise EventRefused("event_id", "is not a UUID; leave it out or give a random one (UUIDv4)") from None
    if not isinstance(value, uuid.UUID):
        raise EventRefused("event_id", "must be text: a random UUID (UUIDv4)")
    if value.version in (1, 2, 6, 7):
        raise EventRefused(
            "event_id",
            f"is a UUID of version {value.version}, which tells the time it was made; give a random one (UUIDv4)",
        )
    if value.version != _UUID_VERSION:
        raise EventRefused("event_id", "is not a random UUID; give one of version 4 (UUIDv4)")
    return value.bytes


def revision_number(value: object) -> int:
    """Return a revision that was given. Raises EventRefused."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise EventRefused("revision", "must be a whole number")
    if not 0 <= value <= _MOST_REVISIONS:
        raise EventRefused("revision", f"must lie between 0 and {_MOST_REVISIONS}")
    return value


def close_match(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean "X"?` when `name` is close to one of `known`, else nothing. `name` is never shown."""
    folded = {k.casefold(): k for k in known}
    close = difflib.get_close_matches(name.strip().casefold()[:100], folded, n=1, cutoff=0.7)
    return f'; did you mean "{folded[close[0]]}"?' if close else ""


def _checked(field: Field, value: object) -> object:
    if value is None:
        if field.nullable:
            return None
        raise EventRefused(field.name, "may not be null; leave it out to take the default")
    match field.kind:
        case FieldKind.ENUM:
            if not isinstance(value, str):
                raise EventRefused(field.name, f"must be text, one of: {listed(field.symbols)}")
            if value not in field.symbols:
                hint = close_match(value, field.symbols)
                raise EventRefused(field.name, f"is not a known symbol{hint}; allowed: {listed(field.symbols)}")
        case FieldKind.BOOLEAN:
            if not isinstance(value, bool):
                raise EventRefused(field.name, "must be true or false")
        case FieldKind.DATE:
            low, high = (_EPOCH + dt.timedelta(days=bound) for bound in (field.minimum, field.maximum))
            return _date(field.name, value, low, high)
        case _:
            if not isinstance(value, int) or isinstance(value, bool):
                raise EventRefused(field.name, "must be a whole number")
            if not field.minimum <= value <= field.maximum:
                raise EventRefused(field.name, f"must lie between {field.minimum} and {field.maximum}")
    return value


def _date(name: str, value: object, low: dt.date, high: dt.date) -> dt.date:
    if isinstance(value, str):
        if not _ISO_DATE.fullmatch(value):
            raise EventRefused(name, "must be a date like 2023-10-03 (year-month-day)")
        try:
            value = dt.date.fromisoformat(value)
        except ValueError:
            raise EventRefused(name, "is not a day of the calendar") from None
    if isinstance(value, dt.datetime) or not isinstance(value, dt.date):
        raise EventRefused(name, "must be a date like 2023-10-03, without a time of day")
    if not low <= value <= high:
        raise EventRefused(name, f"must lie between {low} and {high}")
    return value


def _default(field: Field) -> object:
    if field.kind is FieldKind.DATE and isinstance(field.default, int):
        return _EPOCH + dt.timedelta(days=field.default)
    return field.default


def listed(names: Iterable[str]) -> str:
    """Return names as a list to read, cut short when it is long."""
    known = list(names)
    text = ", ".join(known[:_LONGEST_LIST])
    return f"{text} and {len(known) - _LONGEST_LIST} more" if len(known) > _LONGEST_LIST else text or "none"
