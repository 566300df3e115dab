"""The fence of the ledger on Kafka: a transactional id that one releaser holds, and the transactions it appends in.

The places of entries go into a topic of their own, in the same transaction as the entries.

The broker keeps the fence: the last releaser to initialise the id holds it, and the broker refuses what an earlier one
sends. An append also compares: the broker says at which offset the entries lie, and if the first does not follow the
last one read, the transaction is aborted. So neither a stale read nor a writer that goes round the fence can put two
entries in one place.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from kafka import KafkaProducer
from kafka import errors as kafka_errors

from quietcount_aggregates.errors import LedgerError, LedgerFenced, LedgerUnavailable
from quietcount_producers.errors import LogError
from quietcount_producers.kafka import connection
from quietcount_producers.kafka.connection import client_options
from quietcount_producers.kafka.internals import check_producer, end_sending
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.errors import Unavailable
from quietcount_schemas.log import RELEASES, SETTLEMENTS

__all__ = [
    "CLIENT_ID",
    "TRANSACTIONAL_ID",
    "Fence",
    "Places",
    "as_ledger_error",
    "client",
    "explained",
    "fenced",
    "key_of",
    "outcome_unknown",
    "place",
]

TRANSACTIONAL_ID: Final = "quietcount.releases"
"""The name of the fence's holder on the broker, behind the topics' prefix."""
CLIENT_ID: Final = "quietcount-ledger"

REQUEST_SECONDS: Final = 8.0
"""For one answer: less than the ledger's ANSWER_SECONDS, so that nobody waits twice for one that does not come."""
FENCE_SECONDS: Final = 10.0
"""For taking the fence: meanwhile the broker ends the transaction of the one that held it."""
DELIVERY_SECONDS: Final = 20.0
"""For the acknowledgement of all entries of an append: enough for a leader's election, and for a slow disk."""
COMMIT_SECONDS: Final = 20.0
"""For the answer to a commit; the client itself would never stop waiting for it."""
ABORT_SECONDS: Final = 2.0
"""For the end of a failed transaction: only how soon others can read depends on it."""
CLOSE_SECONDS: Final = 1.0
"""For the end of a connection: what it has not sent by then must not be sent."""
TRANSACTION_SECONDS: Final = 60.0
"""After this the broker aborts a transaction that nobody ends. It is longer than an append may take, else the broker
would abort a slow one. It is not much longer, because readers wait for the transaction of a releaser that died."""
TIMESTAMP: Final = 0
"""An entry holds its time itself. The record's timestamp would only add how long the drawing took."""
BATCH_OVERHEAD: Final = 128
"""Bytes that a batch of one record adds to its value: 61 of header, and lengths as varints. Rounded up."""

_ONE_SERVICE: Final = "Run one service on a ledger"
_FENCED: Final = (kafka_errors.ProducerFencedError, kafka_errors.InvalidProducerEpochError)
"""The broker says that another releaser holds the fence."""
_LAPSED: Final = (
    kafka_errors.InvalidProducerIdMappingError,
    kafka_errors.UnknownProducerIdError,
    kafka_errors.OutOfOrderSequenceNumberError,
)
"""The broker forgets an id that was not used for a week, as between monthly releases. Nobody need have taken over."""


class Places(NamedTuple):
    """Places to append with entries: the offset that the first is to have in their topic, and its number there."""

    data: Sequence[bytes]
    offset: int
    first: int


class Fence:
    """The fence, held from now on until another releaser takes it. `limit` is the topic's max.message.bytes.

    `broker` is the one that let this client in. Raises KafkaError if the fence cannot be taken.
    """

    def __init__(self, settings: KafkaSettings, limit: int, broker: str) -> None:
        self._settings = settings
        self._topic = settings.topic(RELEASES)
        self._places_topic = settings.topic(SETTLEMENTS)
        self._limit = limit
        self._began = _elapsing()
        self._producer: Any = KafkaProducer(
            **client(settings, broker),
            transactional_id=settings.topic(TRANSACTIONAL_ID),
            transaction_timeout_ms=int(TRANSACTION_SECONDS * 1000),
            delivery_timeout_ms=int(DELIVERY_SECONDS * 1000),
            max_block_ms=int(FENCE_SECONDS * 1000),
            max_request_size=limit,
            allow_auto_create_topics=False,
        )
        try:
            check_producer(self._producer)
            self._producer.init_transactions()
        except BaseException:
            self.close()
            raise

    def check_size(self, entries: Sequence[bytes], first: int) -> None:
        """Raise LedgerError if the topic does not take an entry; `first` is the index of the first."""
        for index, entry in enumerate(entries, start=first):
            if len(entry) + BATCH_OVERHEAD > self._limit:
                raise LedgerError(
                    f"{place(self._settings)}: entry {index} of the ledger is larger than the topic's "
                    "max.message.bytes allows; nothing was appended",
                    "Raise it, or break the statistic down less; see `quietcount topics check`",
                )

    def send(self, entries: Sequence[bytes], offset: int, first: int, places: Places | None = None) -> None:
        """Have the broker take `entries` from `offset` on in a transaction that stays open, or abort it and raise.

        `first` is the index of the first; `places` go with them in the same transaction. Raises LedgerFenced, or
        LedgerUnavailable if there was no answer or this process stood still; nothing was appended then.
        """
        wanted = list(range(offset, offset + len(entries)))
        self._began = _elapsing()
        try:
            self._producer.begin_transaction()
            sent = [
                self._producer.send(self._topic, key=key_of(index), value=entry, partition=0, timestamp_ms=TIMESTAMP)
                for index, entry in enumerate(entries, start=first)
            ]
            if places is not None:
                wanted += range(places.offset, places.offset + len(places.data))
                sent += [
                    self._producer.send(
                        self._places_topic, key=key_of(number), value=place, partition=0, timestamp_ms=TIMESTAMP
                    )
                    for number, place in enumerate(places.data, start=places.first)
                ]
            deadline = time.monotonic() + DELIVERY_SECONDS
            # Look at every acknowledgement: the client commits a transaction even if a batch of it was never sent.
            stored = [future.get(timeout=max(0.0, deadline - time.monotonic())).offset for future in sent]
        except BaseException as error:
            # Nobody asked for a commit, so the broker can only abort these.
            self._abort()
            if isinstance(error, kafka_errors.KafkaError):
                told = explained(error, self._settings, "append to", "; nothing was appended")
                if isinstance(told, LedgerFenced) and self._overdue():
                    told = _stood_still(self._settings, "nothing was appended")
                raise told from error
            raise
        if stored != wanted:
            self._abort()
            raise fenced(self._settings)

    def commit(self) -> None:
        """Commit what was sent. If this raises anything, it is not known whether the entries were appended."""
        try:
            _within(COMMIT_SECONDS, self._producer.commit_transaction)
        except kafka_errors.KafkaError as error:
            if isinstance(explained(error, self._settings, "append to"), LedgerFenced):
                if self._overdue():
                    raise _stood_still(self._settings, "it is not known whether the entries were appended") from error
                # An answer that was lost on the way may have said that the commit is done.
                raise LedgerFenced(
                    f"{place(self._settings)}: another releaser took over the ledger while this one appended; the next "
                    "start reads whether the entries are there",
                    _ONE_SERVICE,
                ) from error
            raise outcome_unknown(self._settings) from error

    def close(self) -> None:
        """End the producer without waiting for what it has not sent, and so that it does not go on by itself."""
        with contextlib.suppress(kafka_errors.KafkaError):
            self._producer.close(timeout=CLOSE_SECONDS)
            return
        # If something is unsent, `close` raises before it ends the sender, and would leave it trying permanently.
        end_sending(self._producer, CLOSE_SECONDS)
        with contextlib.suppress(kafka_errors.KafkaError):
            self._producer.close(timeout=0)

    def _overdue(self) -> bool:
        """Return whether the broker may have ended this transaction by itself.

        If it did, it refuses what comes later in the same words as if another had taken the fence. Before that time it
        can only be the fence.
        """
        return _elapsing() - self._began >= TRANSACTION_SECONDS

    def _abort(self) -> None:
        with contextlib.suppress(kafka_errors.KafkaError):
            _within(ABORT_SECONDS, self._producer.abort_transaction)


def client(settings: KafkaSettings, broker: str) -> dict[str, Any]:
    """Return the options of each of the ledger's clients. Raises LogError for a file that cannot be used.

    They begin at `broker`, which let one in. From several they take any, and then have no time for another.
    """
    return client_options(settings, CLIENT_ID) | {
        "bootstrap_servers": [broker],
        "request_timeout_ms": int(REQUEST_SECONDS * 1000),
        "bootstrap_timeout_ms": int(REQUEST_SECONDS * 1000),
    }


def place(settings: KafkaSettings, topic: str = RELEASES) -> str:
    """Return where the ledger is, for a message; or another `topic`."""
    return f"topic {settings.topic(topic)} at {settings.servers}"


def key_of(index: int) -> bytes:
    """Return the key of the entry at `index`: 8 bytes, big-endian. Compacting keeps what has a key of its own."""
    return index.to_bytes(8, "big")


def fenced(settings: KafkaSettings) -> LedgerFenced:
    """Return the error for a releaser that another one has shut out."""
    return LedgerFenced(
        f"{place(settings)}: another releaser has taken over the ledger; this one released nothing", _ONE_SERVICE
    )


def outcome_unknown(settings: KafkaSettings) -> LedgerUnavailable:
    """Return the error for a commit without an answer."""
    return LedgerUnavailable(
        f"{place(settings)}: the broker did not say whether the entries were appended. Nothing is drawn again before "
        "the ledger has been opened again and read",
        "A running service does that at its next tick. Run a command again. If that does not help, check that every "
        "broker of the cluster runs",
    )


def _stood_still(settings: KafkaSettings, outcome: str) -> LedgerUnavailable:
    """Return the error if the broker refused so late that perhaps nobody took the fence.

    It is no LedgerFenced, because an operator would look for a second service in vain. Opening the ledger again takes
    the fence and reads; if another service did release, the state knows less than the ledger and is refused.
    """
    return LedgerUnavailable(
        f"{place(settings)}: this releaser stood still for longer than the {TRANSACTION_SECONDS:g} s that its "
        f"transaction may take, or another took over the ledger meanwhile; {outcome}. Nothing is drawn again before "
        "the ledger has been opened again and read",
        _ONE_SERVICE,
    )


def explained(
    error: kafka_errors.KafkaError | OSError,
    settings: KafkaSettings,
    act: str,
    outcome: str = "",
    topic: str = RELEASES,
) -> LedgerError:
    """Return the error to show for the library's `error` while it was to `act` ("read", "append to") on `topic`.

    `outcome` is what became of the entries, to be added to what is wrong.
    """
    # The library wraps the answers to a transaction's requests into its plainest error.
    error = next((each for each in error.args if isinstance(each, kafka_errors.KafkaError)), error)
    if isinstance(error, _FENCED):
        return fenced(settings)
    if isinstance(error, _LAPSED):
        return LedgerUnavailable(
            f"{place(settings)}: the broker no longer knows this releaser{outcome}",
            "Opening the ledger again takes the fence again",
        )
    if isinstance(error, kafka_errors.TransactionalIdAuthorizationFailedError):
        return LedgerError(
            f"{place(settings)}: kafka.username {settings.username!a} may not write under the transactional id "
            f"{settings.topic(TRANSACTIONAL_ID)}{outcome}",
            "Grant it WRITE and DESCRIBE on that id",
        )
    return as_ledger_error(connection.explained(error, settings, act, topic), outcome)


def as_ledger_error(error: LogError, outcome: str = "") -> LedgerError:
    """Return the same message as an error of the ledger; `outcome` is what became of the entries."""
    kind = LedgerUnavailable if isinstance(error, Unavailable) else LedgerError
    return kind(f"{error.what}{outcome}", error.remedy)


def _elapsing() -> float:
    """Return seconds that go on while the process is stopped and, if the system can tell, while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _within(seconds: float, call: Callable[[], object]) -> None:
    """Call, and raise KafkaTimeoutError after `seconds`."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="quietcount-ledger", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise kafka_errors.KafkaTimeoutError
    if failures:
        raise failures[0]
