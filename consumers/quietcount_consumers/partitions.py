"""The partitions that this process folds: for each its state, its fold, and how it settles."""

from __future__ import annotations

import contextlib
import datetime as dt
import gc
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Final

from quietcount_aggregates.counting.fold import Fold
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.settling import Settler, Settlers, stored_symbols
from quietcount_aggregates.state.marks import ConsumerSecret, YearSecrets
from quietcount_aggregates.state.state import State
from quietcount_consumers import positions
from quietcount_consumers.configuration import Configuration
from quietcount_schemas.log import CASE_EVENTS, LogReader, Record
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["BATCH", "Partitions", "opened_states", "settlers_of", "uncollected"]

BATCH: Final = 20_000
"""Records of a partition in a batch: enough that its fixed costs (a transaction, its sync) fade."""
_TOGETHER: Final = 4
"""Of how many partitions batches are polled at a time, few enough to stop in a second. All at once would take memory
for each, and a batch that is shared among them costs each the transaction of a whole one."""

# A C-level getter, as the fold has one.
_PARTITION = attrgetter("partition")


def opened_states(configuration: Configuration, numbers: Collection[int], stack: contextlib.ExitStack) -> list[State]:
    """Open, or make, the states of these partitions; `stack` closes them. Raises StateError."""
    states = [stack.enter_context(State(configuration.state_file(number), number)) for number in sorted(numbers)]
    for state in states:
        state.bind(partition=str(state.partition))
    return states


def settlers_of(
    configuration: Configuration, states: Iterable[State], ledger: Ledger, registry: SchemaRegistry
) -> list[Settler]:
    """Return what settles each of these states, and make the folder of its years' secrets."""
    symbols, settlers = stored_symbols(registry), []
    YearSecrets(configuration.years_dir).prepare()
    for state in states:
        years = YearSecrets(configuration.years_of(state.partition))
        years.prepare()
        settlers.append(Settler(state, ledger, symbols=symbols, year_secrets=years))
    return settlers


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keep Python's collector of cycles from running in the body, which reads and folds a batch.

    A batch makes tens of thousands of records at once. They hold no cycles, and the collector would go through them
    again and again as they come: a fifth of what polling Kafka costs the processor, a quarter with the embedded log.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


class Partitions:
    """The states of one process, of one log: `states` has one for each partition that it folds."""

    def __init__(
        self,
        settlers: list[Settler],
        *,
        log: LogReader,
        ledger: Ledger,
        registry: SchemaRegistry,
        secret: ConsumerSecret,
        batch: int = BATCH,
    ) -> None:
        self.states = [settler.state for settler in settlers]
        self._log = log
        self._ledger = ledger
        self._registry = registry
        self._secret = secret
        self._batch = batch
        self.settlers = Settlers(settlers, log, CASE_EVENTS)
        self._folds: dict[int, Fold] = {}

    @property
    def offsets(self) -> dict[int, int]:
        """Return up to where each partition is folded."""
        return {partition: offset for state in self.states for partition, offset in state.offsets.items()}

    @property
    def purge_due(self) -> bool:
        """Return whether a settlement left the log to be purged."""
        return any(state.purge_due for state in self.states)

    def bind(self, **identities: str) -> None:
        """Remember in each state, or compare, what it belongs to. Raises StateError."""
        for state in self.states:
            state.bind(**identities)

    def check_topic(self) -> None:
        """Raise StateError if the topic is another one than was folded."""
        self.bind(topic_id=self._log.topic_id(CASE_EVENTS))

    def renew(self) -> None:
        """Fold for what is declared, and for the periods that are open, from now on."""
        chain = self._ledger.chain
        populations = [population for name, population in chain.declarations.items() if name not in chain.retired]
        self._folds = {
            state.partition: Fold(state, populations, self._registry, self._secret, partitions=chain.opened.partitions)
            for state in self.states
        }

    def fold_to_end(self, clock: dt.date, stopping: Callable[[], bool], ends: Mapping[int, int] | None = None) -> bool:
        """Fold to the end of the log, as it stands now or stood at `ends`; return false if `stopping` said so before.

        Raises ServiceError if the log lost records, and LogUnavailable.
        """
        ends = self._log.end_offsets(CASE_EVENTS) if ends is None else ends
        offsets = positions.resumed(self.states, self._log, ends, self._ledger.chain.opened.partitions)
        ends = {partition: ends[partition] for partition in offsets}
        while behind := [partition for partition, end in ends.items() if offsets[partition] < end]:
            if stopping():
                return False
            # Those with most to read, so that they are not left to the end, where they would be read alone.
            behind.sort(key=lambda partition: offsets[partition] - ends[partition])
            wanted = {partition: offsets[partition] for partition in behind[:_TOGETHER]}
            with uncollected():
                records = self._log.poll(CASE_EVENTS, wanted, ends, self._batch * len(wanted))
                if not records:
                    # What lies before these ends was purged, or never held a record: nothing comes from there.
                    offsets.update((partition, ends[partition]) for partition in wanted)
                    continue
                # Check again: a topic that was made again meanwhile has other records at the same offsets.
                self.check_topic()
                self._fold(records, clock, offsets)
        for state in self.states:
            if state.offsets != {state.partition: ends[state.partition]}:
                positions.move_to(state, ends[state.partition])
        return True

    def at_end(self) -> bool:
        """Return whether nothing was appended to the log since the last fold."""
        offsets, ends = self.offsets, self._log.end_offsets(CASE_EVENTS)
        return all(offsets.get(state.partition, 0) >= ends.get(state.partition, 0) for state in self.states)

    def _fold(self, records: list[Record], clock: dt.date, offsets: dict[int, int]) -> None:
        marks = self._log.marks(CASE_EVENTS)
        for partition, batch in _by_partition(records).items():
            own = {partition: marks[partition]} if partition in marks else {}
            self._folds[partition].batch(batch, clock, own)
            offsets[partition] = batch[-1].offset + 1


def _by_partition(records: list[Record]) -> Mapping[int, list[Record]]:
    """Return the records of each partition, in their order."""
    found: dict[int, list[Record]] = {}
    for partition, run in itertools.groupby(records, _PARTITION):
        found.setdefault(partition, []).extend(run)
    return found
