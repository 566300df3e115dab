"""From the facts of one event to the record that is appended: checked, pseudonymised, coarsened, encoded.

Nothing here does input or output; the clock and the secret are handed in.
"""

from __future__ import annotations

import datetime as dt
import os
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

from quietcount_producers.composing.kinds import Kind, close_match
from quietcount_producers.composing.pseudonyms import Pepper
from quietcount_producers.errors import EventRefused
from quietcount_schemas.codec import Codec
from quietcount_schemas.events.event_types import EventType, Field, listed
from quietcount_schemas.events.oddity import Oddity
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import NewRecord
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["Composer", "Facts", "Precision", "close_match", "day_of", "listed", "utc_today"]

Precision = Period | Mapping[str, Period]

_EPOCH: Final = dt.date(1970, 1, 1)
_UUID_VERSION: Final = 4
_TIMED_VERSIONS: Final = (1, 2, 6, 7)
"""The versions of a UUID that hold the time when it was made (RFC 9562)."""


def utc_today() -> dt.date:
    """Return today's date in UTC."""
    return dt.datetime.now(dt.UTC).date()


def day_of(timestamp: int) -> dt.date:
    """Return the day of a record's timestamp."""
    return _EPOCH + dt.timedelta(milliseconds=timestamp)


class Facts(NamedTuple):
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
    coarsened to the month. `allow` are the kinds of odd identifiers that are taken all the same. Safe to share between
    threads.
    """

    def __init__(
        self,
        registry: SchemaRegistry,
        pepper: Pepper,
        precision: Precision = Period.MONTH,
        today: Callable[[], dt.date] = utc_today,
        allow: Collection[Oddity] = (),
    ) -> None:
        self.registry = registry
        self._pepper = pepper
        self._precision = precision
        self._today = today
        self._allow = frozenset(allow)
        codec = Codec(registry)
        self._kinds: dict[object, Kind] = {
            name: Kind(kind, codec.form(name), self.precision(name)) for name, kind in registry.event_types.items()
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
        try:
            kind = self._kinds[facts.event]
        except (KeyError, TypeError):
            return [self._no_event_type(facts.event)]
        problems: list[EventRefused] = []
        key = day = revision = identity = None
        # Each step may fail by itself: a person mends all of a line at once.
        try:
            key = self._case_key(facts.case)
        except EventRefused as refused:
            problems.append(refused)
        try:
            day = kind.day(facts.occurred_on, self._today)
        except EventRefused as refused:
            problems.append(refused)
        try:
            revision = kind.revision(facts.revision, facts.text)
        except EventRefused as refused:
            problems.append(refused)
        try:
            identity = self._identity(kind.name, facts, revision)
        except EventRefused as refused:
            problems.append(refused)
        said = kind.said(facts.attributes, facts.text, facts.label, problems)
        if key is None or day is None or revision is None or said is None or problems:
            return problems
        if identity is None and occurrence is None:
            identity = _random_id()
        elif identity is None and occurrence is not None:
            canonical = kind.canonical(key, day, said)
            identity = self._pepper.derived_event_id(canonical, occurrence(canonical))
        parts = (kind.form.beginning(), key, identity or b"", revision[1], day.encoded, said.encoded)
        return NewRecord(key, b"".join(parts), day.timestamp)

    def fields(self, kind: EventType) -> Mapping[str, Field]:
        """Return the attributes of `kind` by name."""
        return self._kinds[kind.name].fields

    def precision(self, event: str) -> Period:
        """Return the period that the dates of `event` are coarsened to."""
        if isinstance(self._precision, Period):
            return self._precision
        return self._precision.get(event, Period.MONTH)

    def _no_event_type(self, name: object) -> EventRefused:
        if name is None:
            return EventRefused("event", "is missing")
        if not isinstance(name, str):
            return EventRefused("event", "must be text: the name of an event type")
        known = list(self.registry.event_types)
        return EventRefused("event", f"is not a known event type{close_match(name, known)}; known: {listed(known)}")

    def _case_key(self, case: object) -> bytes:
        if case is None:
            raise EventRefused("case", "is missing")
        if not isinstance(case, str):
            raise EventRefused("case", "must be text: the identifier of the case")
        return self._pepper.case_key(case, self._allow)

    def _identity(self, event: str, facts: Facts, revision: tuple[int, bytes] | None) -> bytes | None:
        if facts.record is None:
            return _identity(facts.event_id, revision)
        if facts.event_id is not None:
            raise EventRefused("event_id", "is given beside the record's own name; give one of the two")
        return self._pepper.record_event_id(event, facts.record)


def _random_id() -> bytes:
    """Return the bytes of a random UUIDv4 (RFC 9562, section 5.4), in half the time that `uuid` takes."""
    drawn = bytearray(os.urandom(16))
    drawn[6] = drawn[6] & 0x0F | 0x40
    drawn[8] = drawn[8] & 0x3F | 0x80
    return bytes(drawn)


def _identity(event_id: object, revision: tuple[int, bytes] | None) -> bytes | None:
    """Return the sixteen bytes of an event id, or None if there is none. Raises EventRefused unless it is a UUIDv4."""
    if event_id is None:
        if revision is not None and revision[0]:
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
