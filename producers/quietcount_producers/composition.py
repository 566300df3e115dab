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
from dataclasses import dataclass
from typing import Final, TypeVar, cast

from quietcount_producers.errors import EventRefused
from quietcount_producers.pseudonyms import Pepper
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.event_types import EventType, Field, FieldKind, listed
from quietcount_schemas.log import NewRecord
from quietcount_schemas.periods import Period
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["Composer", "Facts", "Precision", "close_match", "day_of", "listed", "utc_today"]

Precision = Period | Mapping[str, Period]

_ISO_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,10}")
_EPOCH: Final = dt.date(1970, 1, 1)
_DAY_MS: Final = 86_400_000
_UUID_VERSION: Final = 4
_TIMED_VERSIONS: Final = (1, 2, 6, 7)
"""The versions of a UUID that hold the time when it was made (RFC 9562)."""
_CANONICAL: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))

_T = TypeVar("_T")


def utc_today() -> dt.date:
    """Return today's date in UTC."""
    return dt.datetime.now(dt.UTC).date()


def day_of(timestamp: int) -> dt.date:
    """Return the day of a record's timestamp."""
    return _EPOCH + dt.timedelta(milliseconds=timestamp)


@dataclass(frozen=True, slots=True)
class Facts:
    """What an emitter says of one event, not checked yet.

    None stands for what it does not say. `text` means that all values are text, as in a CSV file, so numbers and truth
    values are read from it. `label` makes what messages call an attribute that does not exist: its name may be data.
    `record` is what the emitter's own tool calls the record behind the event, any text that is unique there: in place
    of `event_id`, it makes the same record the same event again.
    """

    event: object
    case: object
    occurred_on: object
    attributes: Mapping[str, object]
    event_id: object = None
    revision: object = None
    text: bool = False
    label: Callable[[str], str] = str
    record: object = None


class Composer:
    """Makes records of events for one registry, one pepper and one precision.

    `precision` is the period that dates are coarsened to, for all event types or by name; a type without an entry is
    coarsened to the month. Safe to share between threads.
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
        self._dates = {
            name: [field for field in fields.values() if field.kind is FieldKind.DATE]
            for name, fields in self._fields.items()
        }
        self._envelopes = {
            name: {f.name: f for f in kind.current.fields} for name, kind in registry.event_types.items()
        }

    def compose(self, facts: Facts, occurrence: Callable[[bytes], int] | None = None) -> NewRecord:
        """Return the record of an event. Raises EventRefused for the first thing that is wrong with it.

        See `composed` for `occurrence`.
        """
        made = self.composed(facts, occurrence)
        if isinstance(made, list):
            raise made[0]
        return made

    def composed(
        self, facts: Facts, occurrence: Callable[[bytes], int] | None = None
    ) -> NewRecord | list[EventRefused]:
        """Return the record of an event, or everything that is wrong with it.

        Its dates are coarsened in the payload and in the timestamp alike.
        The id of an event that has none is random. With `occurrence` it is derived from the canonical form of what is
        sent, and from how often that form came before, which `occurrence` returns. So the same facts give the same id
        again, and an id says nothing of an event that the event itself does not say.
        """
        problems: list[EventRefused] = []

        def attempt(step: Callable[..., _T], *arguments: object) -> _T | None:
            try:
                return step(*arguments)
            except EventRefused as refused:
                problems.append(refused)
                return None

        kind = attempt(self._event_type, facts.event)
        if kind is None:
            return problems
        key = attempt(self._case_key, facts.case)
        day = attempt(self._occurred_on, kind, facts.occurred_on)
        revision = attempt(self._revision, kind, facts)
        identity = attempt(self._identity, kind, facts, revision)
        values = self._attributes(kind, facts, problems)
        if problems or key is None or day is None or revision is None:
            return problems
        period = self.precision(kind.name)
        coarse = max(period.coarsen(day), _EPOCH)  # the week of 1970-01-01 began in 1969
        for field in self._dates[kind.name]:
            value = values[field.name]
            if isinstance(value, dt.date):
                values[field.name] = max(period.coarsen(value), _EPOCH + dt.timedelta(days=field.minimum))
        if identity is None and occurrence is None:
            identity = uuid.uuid4().bytes
        elif identity is None and occurrence is not None:
            canonical = self._canonical(kind, key, coarse, values)
            identity = self._pepper.derived_event_id(canonical, occurrence(canonical))
        payload = self._codec.encode(CaseEvent(kind.name, key, identity or b"", revision, coarse, values))
        return NewRecord(key, payload, (coarse - _EPOCH).days * _DAY_MS)

    def fields(self, kind: EventType) -> Mapping[str, Field]:
        """Return the attributes of `kind` by name."""
        return self._fields[kind.name]

    def precision(self, event: str) -> Period:
        """Return the period that the dates of `event` are coarsened to."""
        if isinstance(self._precision, Period):
            return self._precision
        return self._precision.get(event, Period.MONTH)

    def _event_type(self, name: object) -> EventType:
        if name is None:
            raise EventRefused("event", "is missing")
        if not isinstance(name, str):
            raise EventRefused("event", "must be text: the name of an event type")
        found = self.registry.event_types.get(name)
        if found is None:
            known = list(self.registry.event_types)
            raise EventRefused("event", f"is not a known event type{close_match(name, known)}; known: {listed(known)}")
        return found

    def _case_key(self, case: object) -> bytes:
        if case is None:
            raise EventRefused("case", "is missing")
        if not isinstance(case, str):
            raise EventRefused("case", "must be text: the identifier of the case")
        return self._pepper.case_key(case)

    def _occurred_on(self, kind: EventType, value: object) -> dt.date:
        """Return the exact day of an event, at most tomorrow in UTC (it may be tomorrow where the emitter is)."""
        if value is None:
            raise EventRefused("occurred_on", "is missing")
        day = cast("dt.date", _checked(self._envelopes[kind.name]["occurred_on"], value))
        latest = self._today() + dt.timedelta(days=1)
        if day > latest:
            raise EventRefused(
                "occurred_on",
                f"lies in the future; the latest date that is taken is {latest}, tomorrow in UTC. Correct the date, or "
                "emit the event after it occurred",
            )
        return day

    def _revision(self, kind: EventType, facts: Facts) -> int:
        if facts.revision is None:
            return 0
        given = _integer(facts.revision) if facts.text else facts.revision
        return cast("int", _checked(self._envelopes[kind.name]["revision"], given))

    def _identity(self, kind: EventType, facts: Facts, revision: object) -> bytes | None:
        if facts.record is None:
            return _identity(facts.event_id, revision)
        if facts.event_id is not None:
            raise EventRefused("event_id", "is given beside the record's own name; give one of the two")
        return self._pepper.record_event_id(kind.name, facts.record)

    def _attributes(self, kind: EventType, facts: Facts, problems: list[EventRefused]) -> dict[str, object]:
        """Return every attribute of `kind`, with defaults for those not given; put what is wrong into `problems`."""
        fields = self._fields[kind.name]
        values: dict[str, object] = {}
        its = f"; its fields: {listed(fields)}"
        for name in facts.attributes:
            if name not in fields:
                reason = f"is not a field of {kind.name}{close_match(name, fields)}{its}"
                problems.append(EventRefused(facts.label(name), reason))
                its = ""  # said once for an event: the list is long
        for name, field in fields.items():
            if name in facts.attributes:
                given = facts.attributes[name]
                try:
                    values[name] = _checked(field, _typed(field, given) if facts.text else given)
                except EventRefused as refused:
                    problems.append(refused)
            elif field.has_default:
                values[name] = field.default_value
            else:
                problems.append(EventRefused(name, f"is missing; {kind.name} has no default for it"))
        return values

    def _canonical(self, kind: EventType, key: bytes, coarse: dt.date, attributes: Mapping[str, object]) -> bytes:
        """Return the bytes that stand for what is sent of an event, the same for every file format.

        Take the case key, the coarsened day and the coarsened attributes, and nothing else: the service keeps a hash of
        the id for a year, and whoever has the pepper can test guesses against it. Leave out attributes at their
        default, so that a field that is added to the schema later does not change the ids of events that are emitted
        again.
        """
        fields = self._fields[kind.name]
        said = {
            name: value.isoformat() if isinstance(value, dt.date) else value
            for name, value in attributes.items()
            if not (fields[name].has_default and value == fields[name].default_value)
        }
        return _CANONICAL.encode([kind.name, key.hex(), coarse.isoformat(), said]).encode()


def close_match(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean "X"?` if `name` is close to one of `known`, else nothing. `name` is never shown."""
    folded = {k.casefold(): k for k in known}
    close = difflib.get_close_matches(name.strip().casefold()[:100], folded, n=1, cutoff=0.7)
    return f'; did you mean "{folded[close[0]]}"?' if close else ""


def _identity(event_id: object, revision: object) -> bytes | None:
    """Return the sixteen bytes of an event id, or None if there is none. Raises EventRefused unless it is a UUIDv4."""
    if event_id is None:
        if revision:
            raise EventRefused("event_id", "is missing; a revision above 0 must name the event that it corrects")
        return None
    if isinstance(event_id, str):
        try:
            event_id = uuid.UUID(event_id)
        except ValueError:
            raise EventRefused("event_id", "is not a UUID; leave it out or give a random one (UUIDv4)") from None
    if not isinstance(event_id, uuid.UUID):
        raise EventRefused("event_id", "must be text: a random UUID (UUIDv4)")
    if event_id.version in _TIMED_VERSIONS:
        raise EventRefused(
            "event_id",
            f"is a UUID of version {event_id.version}, which shows when it was made; give a random one (UUIDv4)",
        )
    if event_id.version != _UUID_VERSION:
        raise EventRefused("event_id", "is not a random UUID; give one of version 4 (UUIDv4)")
    return event_id.bytes


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
