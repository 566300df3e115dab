"""A publisher for the tests of a service: it checks like the real one, and keeps what was emitted in a list.

It needs no log, no pepper and, unless `from_config` makes it, no configuration.
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Self

from quietcount_producers.composing.composition import Facts, Precision, utc_today
from quietcount_producers.composing.pseudonyms import Pepper
from quietcount_producers.publisher import CaseEventPublisher
from quietcount_producers.settings import EmitterSettings
from quietcount_schemas.codec import Codec
from quietcount_schemas.events.oddity import Oddity
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import CASE_EVENTS, NewRecord, Position
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["RecordedEvent", "RecordingPublisher"]


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event as the log would have got it, but with the identifier of its case in place of the key.

    `occurred_on` and other dates are coarsened. `attributes` holds what was given; what was left out takes the
    schema's default. `event_id` may be random, so that comparing two events leaves it out.
    """

    event: str
    case: str
    occurred_on: dt.date
    attributes: Mapping[str, object] = field(default_factory=dict)
    revision: int = 0
    event_id: uuid.UUID | None = field(default=None, compare=False)


class RecordingPublisher(CaseEventPublisher):
    """A CaseEventPublisher that puts each event into `events`, in order, before `emit` returns.

    It takes the arguments that decide what is refused and how dates are coarsened. Its pepper is a random one.
    """

    def __init__(
        self,
        *,
        registry: SchemaRegistry | None = None,
        precision: Precision = Period.MONTH,
        today: Callable[[], dt.date] = utc_today,
        allow_identifiers: Collection[Oddity] = (),
    ) -> None:
        registry = registry or SchemaRegistry.load()
        pepper = Pepper(secrets.token_bytes(32))
        super().__init__(
            _Nowhere(),
            pepper=pepper,
            registry=registry,
            precision=precision,
            today=today,
            allow_identifiers=allow_identifiers,
        )
        self.events: list[RecordedEvent] = []
        self._codec = Codec(registry)

    @classmethod
    def from_config(cls, path: str | os.PathLike[str]) -> Self:
        """Return one with the event types, the precision and the identifiers of the configuration file at `path`.

        It reads no pepper and opens no log. Raises ProducersError or SchemasError if the file or a schema is not in
        order.
        """
        settings = EmitterSettings.load(path)
        return cls(
            registry=settings.registry(), precision=settings.precision, allow_identifiers=settings.allow_identifiers
        )

    def emit(
        self,
        event: str,
        case: str,
        occurred_on: dt.date | str,
        *,
        event_id: uuid.UUID | str | None = None,
        revision: int = 0,
        timeout: float | None = None,  # noqa: ARG002 (there is always room)
        **attributes: object,
    ) -> Future[Position]:
        """Record one event and return a future that is done. Raises EventRefused and PublisherClosed."""
        record = self._composer.compose(Facts(event, case, occurred_on, attributes, event_id, revision))
        if (refusal := self._queue.refusal) is not None:
            raise refusal()
        sent = self._codec.decode(record.value)
        given = {name: sent.attributes[name] for name in attributes}
        identity = uuid.UUID(bytes=sent.event_id)
        self.events.append(RecordedEvent(event, case, sent.occurred_on, given, sent.revision, identity))
        future: Future[Position] = Future()
        future.set_result(Position(CASE_EVENTS, 0, len(self.events) - 1))
        return future

    async def emit_async(
        self,
        event: str,
        case: str,
        occurred_on: dt.date | str,
        *,
        event_id: uuid.UUID | str | None = None,
        revision: int = 0,
        timeout: float | None = None,
        **attributes: object,
    ) -> Position:
        """Record one event, as `emit` does."""
        return self.emit(
            event, case, occurred_on, event_id=event_id, revision=revision, timeout=timeout, **attributes
        ).result()


class _Nowhere:
    """The log of a publisher that writes to none."""

    def append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
        return [Position(topic, 0, number) for number, _ in enumerate(records)]

    def close(self) -> None:
        """Do nothing."""
