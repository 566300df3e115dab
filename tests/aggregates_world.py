"""A small world for the tests of the privacy core: a log and a ledger in memory, a noiseless test mechanism, and the
whole way of an event from the log to the ledger, with the restart of a process in between wherever a test wants one.
"""

from __future__ import annotations

import datetime as dt
import struct
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.memory_logs import ForgetfulLog, MemoryLedger, MemoryLog, UnpurgedLog
from tests.strategies import envelope, registry_of

from quietcount_aggregates.counting.fold import Fold
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Released
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.places import LogPoint
from quietcount_aggregates.ledger.signed_heads import sign_head
from quietcount_aggregates.ledger.signed_notes import SigningKey
from quietcount_aggregates.ledger.witness import Witness
from quietcount_aggregates.losses import begin_anew, record_loss
from quietcount_aggregates.noise import NoiseMechanism
from quietcount_aggregates.populations import Population
from quietcount_aggregates.publication.publication import Publish
from quietcount_aggregates.release import Releaser, Step
from quietcount_aggregates.settling import Counting, Settler, stored_symbols
from quietcount_aggregates.state.marks import ConsumerSecret, YearSecrets
from quietcount_aggregates.state.state import State
from quietcount_consumers.partitions import Partitions
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.log import CASE_EVENTS, LedgerLog, LogReader, NewRecord
from quietcount_schemas.registry import SchemaRegistry

__all__ = [
    "SECRET",
    "SIGNING_KEY",
    "TRIALS",
    "ExactMechanism",
    "ForgetfulLog",
    "MemoryLedger",
    "MemoryLog",
    "UnpurgedLog",
    "World",
    "case_key",
    "event_id",
    "record_of",
    "signed",
    "signing_key",
    "utc",
    "world_in",
]

SECRET = ConsumerSecret(bytes(range(32)))


def signing_key(number: int) -> SigningKey:
    """Return a test's signing key, the same one each time; it keeps nothing secret."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big")))


SIGNING_KEY = signing_key(0)
"""The owner's."""


def signed(chain: Chain) -> str:
    """Return the signed head with which a world publishes a chain."""
    return sign_head(chain, SIGNING_KEY).data


class ExactMechanism:
    """No noise at all: for tests of what is counted, never for the service."""

    name = "test.exact"

    def scale(self, *, cells: int, sensitivity: int, epsilon: float) -> float:
        return sensitivity / epsilon

    def draw(self, exact: Sequence[int], *, scale: float, sensitivity: int, epsilon: float) -> list[int]:
        return list(exact)


def _trial_registry() -> SchemaRegistry:
    colour = {
        "name": "colour",
        "type": {"type": "enum", "name": "Colour", "symbols": ["RED", "GREEN", "NONE"], "default": "NONE", "doc": "."},
        "default": "NONE",
        "doc": "A colour.",
    }
    urgent = {"name": "urgent", "type": ["null", "boolean"], "default": None, "doc": "Whether it was urgent."}
    bodies: list[tuple[str, str, list[Any]]] = [
        ("Asked", "event", [colour, urgent]),
        ("Answered", "event", [colour]),
        ("Idle", "event", []),
        ("Left", "withdrawal", []),
    ]
    return registry_of(
        *(
            {
                "type": "record",
                "name": name,
                "namespace": "example.trial",
                "doc": "A trial.",
                "quietcount.role": role,
                "fields": envelope() + fields,
            }
            for name, role, fields in bodies
        )
    )


TRIALS = _trial_registry()
"""Asked (colour, urgent), Answered (colour), Idle, and the withdrawal Left."""


def case_key(number: int) -> bytes:
    """Return the case key of a test's case."""
    return bytes([number % 256]) + b"case" * 3 + number.to_bytes(3, "big")


def event_id(number: int) -> bytes:
    """Return a test's event id, a UUID of version 4."""
    return uuid.UUID(int=(0xE0E1E2E3E4E5 << 80) | number, version=4).bytes


def utc(day: dt.date) -> dt.datetime:
    """Return midnight of a day, UTC."""
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def record_of(codec: Codec, event: CaseEvent) -> NewRecord:
    """Return the record that an emitter appends for an event."""
    midnight = utc(event.occurred_on)
    return NewRecord(event.case_key, codec.encode(event), int(midnight.timestamp()) * 1000)


def _unpublished(_: Chain, __: Path, ___: str) -> None:
    """Make no public file."""


class World:
    """One deployment in a folder. `restart` is what a new process does; objects are never shared across it.

    Publishing takes most of a release's time, so a test that does not look at the public file says `published=False`.
    """

    def __init__(
        self,
        folder: Path,
        populations: Sequence[Population],
        *,
        registry: SchemaRegistry = TRIALS,
        log: Any = None,
        ledger_log: LedgerLog | None = None,
        mechanism: NoiseMechanism | None = None,
        now: dt.datetime | None = None,
        observe: Callable[[Step], None] | None = None,
        start: bool = True,
        today: dt.date | None = None,
        published: bool = True,
    ) -> None:
        self.folder = folder
        self.populations = list(populations)
        self.registry = registry
        self.codec = Codec(registry)
        self.log: Any = log if log is not None else MemoryLog()
        self.ledger_log: LedgerLog = ledger_log if ledger_log is not None else MemoryLedger()
        self.mechanism: NoiseMechanism = mechanism or ExactMechanism()
        self.observe: Callable[[Step], None] | None = self._observed if observe is None else observe
        self.meanwhile: Callable[[], None] | None = None
        """What happens, without `observe`, once it is written down what is settled."""
        # The real day, if it is another one than the machine's clock shows.
        self.today = None if today is None else lambda: today
        self.publishing: Publish | None = None if published else _unpublished
        self.secret = SECRET
        self.public = folder / "statistics.duckdb"
        self.states: list[State] = []
        self.letters = UnpurgedLog()
        """For who relays what was rejected; it outlives the log."""
        if start:
            self.restart(now or dt.datetime(2024, 1, 1, tzinfo=dt.UTC))

    @property
    def there(self) -> State:
        """The state, of a log of one partition."""
        (state,) = self.states
        return state

    @property
    def state_path(self) -> Path:
        return self.state_of(0)

    def state_of(self, partition: int) -> Path:
        return self.folder / f"state-{partition}.duckdb"

    @property
    def years(self) -> YearSecrets:
        return self.years_of(0)

    def years_of(self, partition: int) -> YearSecrets:
        return YearSecrets(self.folder / "years" / str(partition))

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, so to speak."""
        for state in self.states:
            state.close()
        self.states = []

    def restart(self, now: dt.datetime) -> None:
        """Start a new process: fence, recover, declare, adopt."""
        self.close()
        self.ledger = Ledger(self.ledger_log, SIGNING_KEY.public)
        self.states = [State(self.state_of(number), number) for number in self.log.partitions(CASE_EVENTS)]
        self.ledger.fence()
        reader: LogReader = self.log
        symbols = stored_symbols(self.registry)
        settlers = [
            Settler(state, self.ledger, symbols=symbols, year_secrets=self.years_of(state.partition))
            for state in self.states
        ]
        self.partitions = Partitions(
            settlers, log=reader, ledger=self.ledger, registry=self.registry, secret=self.secret
        )
        self.releaser = self._releaser_of(self.partitions.settlers)
        for state in self.states:
            state.bind(topic_id=self.log.topic_id(CASE_EVENTS))
        self.releaser.recover()
        self.ledger.declare(self.populations, Decimal(100), now, end=self.end)
        self.releaser.adopt()
        self.releaser.publish()
        self.partitions.renew()

    @property
    def end(self) -> LogPoint:
        """Return where the log ends now."""
        return LogPoint(self.log.topic_id(CASE_EVENTS), self.log.end_offsets(CASE_EVENTS))

    def follow(self, log: Any, *, bound: bool = True) -> None:
        """Go on with a new log, as `quietcount ledger new-log` lets the states do (`bound`); `restart` comes after."""
        self.log = log
        if bound:
            for state in self.states:
                state.follow(log.topic_id(CASE_EVENTS))

    def lose_state(self, now: dt.datetime, partition: int | None = None) -> None:
        """Lose a state, or each, and record that as `quietcount ledger record-loss` does; `restart` goes on."""
        numbers = self.log.partitions(CASE_EVENTS)
        lost = numbers if partition is None else [partition]
        self.close()
        self.ledger.fence()
        record_loss(self.ledger, now, None if len(lost) == len(numbers) else partition)
        for number in lost:
            self.state_of(number).unlink(missing_ok=True)
            with State(self.state_of(number), number) as state:
                begin_anew(state, self.ledger, self.log.beginning_offsets(CASE_EVENTS), self.end)

    def _observed(self, step: Step) -> None:
        if step is Step.SETTLEMENT_WRITTEN and self.meanwhile is not None:
            self.meanwhile()

    def _releaser_of(self, counting: Counting) -> Releaser:
        return Releaser(
            counting,
            ledger=self.ledger,
            registry=self.registry,
            mechanism=self.mechanism,
            public=self.public,
            witness=Witness(self.public.with_name("witness")),
            signing_key=SIGNING_KEY,
            observe=self.observe,
            today=self.today,
            publishing=self.publishing,
        )

    @property
    def folds(self) -> list[Fold]:
        """The fold of each partition, in order."""
        return [self.partitions._folds[state.partition] for state in self.states]

    def emit(self, events: Sequence[CaseEvent]) -> None:
        """Append events to the log."""
        self.log.append(CASE_EVENTS, [record_of(self.codec, event) for event in events])

    def fold(self, clock: dt.date, sizes: Iterator[int] | None = None) -> None:
        """Fold to the end of the log, in batches of the given sizes."""
        ends = self.log.end_offsets(CASE_EVENTS)
        while True:
            at = {partition: offset for state in self.states for partition, offset in state.offsets.items()}
            positions = {partition: at.get(partition, 0) for partition in ends}
            records = self.log.poll(CASE_EVENTS, positions, ends, next(sizes) if sizes is not None else 10_000)
            if not records:
                return
            for partition, fold in enumerate(self.folds):
                if own := [record for record in records if record.partition == partition]:
                    fold.batch(own, clock)

    def release(self, now: dt.datetime, grace: dt.timedelta = dt.timedelta(0)) -> int:
        """Release what is due; return how many periods that was."""
        due = self.releaser.release(now, grace)
        self.partitions.renew()
        return len(due)

    @property
    def released(self) -> dict[tuple[str, dt.date], tuple[int, ...]]:
        """Return the values of each release in the ledger."""
        return {
            key: entry.body.values
            for key, entry in self.ledger.chain.releases.items()
            if isinstance(entry.body, Released)
        }


def marks_held(state: State) -> dict[tuple[str, str], list[int]]:
    """Return every mark that the state holds, by table and column, or by "limits" and the population of a file."""
    columns = state.rows("SELECT table_name, column_name FROM duckdb_columns() WHERE data_type = 'UHUGEINT'")
    assert len(columns) > 3
    held = {
        (table, column): [int(mark) for (mark,) in state.rows(f'SELECT "{column}"::VARCHAR FROM "{table}"') if mark]
        for table, column in columns
    }
    for listed in state.used_up:
        path = state.limits.path(listed)
        marks = struct.iter_unpack("16s", path.read_bytes()[: 16 * listed.marks])
        held.setdefault(("limits", listed.population), []).extend(int.from_bytes(mark) for (mark,) in marks)
    return held


@contextmanager
def world_in(folder: Path, populations: Sequence[Population], **options: Any) -> Iterator[World]:
    """Open a world and close its files whatever happens."""
    folder.mkdir(parents=True, exist_ok=True)
    world = World(folder, populations, start=False, **{k: v for k, v in options.items() if k != "now"})
    try:
        world.restart(options.get("now") or dt.datetime(2024, 1, 1, tzinfo=dt.UTC))
        yield world
    finally:
        world.close()
