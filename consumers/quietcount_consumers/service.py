"""The service: folds the log in fixed ticks, releases what is due, publishes.

A tick looks at the clock once. Everything it decides follows from that reading, the log as it stood then, and the
ledger; nothing it says outside the private folder depends on how much there was to fold.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from quietcount_aggregates.fold import Fold
from quietcount_aggregates.ledger import Ledger
from quietcount_aggregates.marks import YearSecrets
from quietcount_aggregates.noise import DiscreteLaplace, NoiseMechanism
from quietcount_aggregates.publication import HeldPublication
from quietcount_aggregates.release import DuePeriod, Releaser, Step
from quietcount_aggregates.state import State
from quietcount_aggregates.statistics import Statistic
from quietcount_consumers import dead_letters
from quietcount_consumers.configuration import Configuration, beginning_now
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.monitoring.log_events import (
    Say,
    StatisticDeclared,
    StatisticDeclaredLate,
    StatisticReleased,
    unheard,
)
from quietcount_consumers.monitoring.standing import Standing
from quietcount_consumers.monitoring.status import Status
from quietcount_consumers.wiring import open_ledger, open_log, prepare_folders, secret_of, witness_of
from quietcount_producers.errors import LogUnavailable
from quietcount_schemas.log import CASE_EVENTS, LogReader

if TYPE_CHECKING:
    pass

__all__ = ["Service", "Tick", "lost_of"]

_AUDIT_EVERY = dt.timedelta(hours=1)
"""How often the whole ledger is read again: on the clock's grid, whatever was folded."""

# Large enough that a batch's fixed costs (a transaction, its sync) fade, small enough to stop soon after a signal.
BATCH = 20_000


class Tick(NamedTuple):
    """What a tick came to: whether the fold reached the end of the log, and what was released."""

    caught_up: bool
    released: list[DuePeriod]


class Service:
    """One state, one log, one ledger, bound together; use it in a with statement.

    Opening it finishes what a crash interrupted, declares the statistics that are new, and publishes. Raises a
    QuietcountError when any of that must be refused, and then nothing was folded or released. `admit` is handed the
    time of the ledger's newest entry before anything is declared, and may raise what speaks against going on. With
    `held` what is published is not to be seen before `show`, which is for the points of the tick's grid.
    """

    def __init__(
        self,
        configuration: Configuration,
        now: dt.datetime,
        *,
        mechanism: NoiseMechanism | None = None,
        observe: Callable[[Step], None] | None = None,
        say: Say = unheard,
        admit: Callable[[dt.datetime], None] | None = None,
        held: bool = False,
        batch: int = BATCH,
    ) -> None:
        self._configuration = configuration
        self._batch = batch
        self._say = say
        self._admit = admit
        self._publication = HeldPublication() if held else None
        self._stack = contextlib.ExitStack()
        try:
            self._open(mechanism or DiscreteLaplace(), observe, now)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self, mechanism: NoiseMechanism, observe: Callable[[Step], None] | None, now: dt.datetime) -> None:
        configuration = self._configuration
        registry = configuration.registry()
        wanted = configuration.statistics(registry)
        prepare_folders(configuration)
        secret = secret_of(configuration)
        years = YearSecrets(configuration.years_dir)
        years.prepare()
        self._log = self._stack.enter_context(contextlib.closing(open_log(configuration)))
        # The state is opened before the fence is taken: a second service on the same folder stops here, harmlessly.
        self._state = self._stack.enter_context(State(configuration.private_dir / "state.duckdb"))
        ledger_log = self._stack.enter_context(contextlib.closing(open_ledger(configuration)))
        self._ledger = Ledger(ledger_log)
        self._ledger.fence()
        self._audited = _hour(now)
        if self._admit is not None and self._ledger.chain.entries:
            self._admit(self._ledger.chain.entries[-1].recorded_at)
        self._releaser = Releaser(
            state=self._state,
            ledger=self._ledger,
            log=self._log,
            topic=CASE_EVENTS,
            registry=registry,
            mechanism=mechanism,
            year_secrets=years,
            public=configuration.public_file,
            witness=witness_of(configuration),
            observe=observe,
            publishing=self._publication,
        )
        self._state.bind(topic_id=self._log.topic_id(CASE_EVENTS), secret_check=secret.check)
        self._releaser.recover()
        self._log.scrub()
        declared = self._ledger.chain.declarations
        wanted = [s if s.name in declared else beginning_now(s, now.date()) for s in wanted]
        new = self._ledger.declare(wanted, configuration.lifetime_epsilon, now)
        self._state.bind(ledger_id=self._ledger.chain.opened.ledger_id.hex())
        for statistic in new:
            self._say_declared(statistic, now)
        self._releaser.adopt()
        self._releaser.publish()
        self._registry, self._secret = registry, secret
        self._fold = self._new_fold()
        self._standing = Standing(configuration, self._ledger.chain, self._state, now)

    def due(self, now: dt.datetime) -> list[DuePeriod]:
        """Return what a tick at `now` would release."""
        return self._releaser.due(now, self._configuration.grace)

    def tick(self, now: dt.datetime, stopping: Callable[[], bool] = lambda: False) -> Tick:
        """Fold to the end of the log as it stands, then release what is due at `now`.

        When `stopping` says so the fold ends after the batch in hand, and nothing is released.
        """
        self._refresh_ledger(now)
        self._check_topic()
        caught_up = self._fold_to_end(now.date(), stopping)
        self._log.report(CASE_EVENTS, self._state.offsets)
        dead_letters.relay(self._state, self._log, self._log, CASE_EVENTS)
        due = self.due(now) if caught_up else []
        if due:
            self._ledger.audit()
            self._releaser.release(due, now)
            self._fold = self._new_fold()
            dead_letters.purge(self._state, self._log, now.date())
            self._say_released(due, now)
        self._releaser.purge()
        dead_letters.purge_again(self._state, self._log)
        return Tick(caught_up, due)

    def status(self, now: dt.datetime, tick: Tick) -> Status:
        """Return what an operator may know after the tick at `now`, which came to `tick`."""
        return self._standing.after(
            now, caught_up=tick.caught_up, released=bool(tick.released), purged=not self._state.purge_due
        )

    def show(self) -> None:
        """Let what was published be seen; also when the service is closed. Raises PublicationError."""
        if self._publication is not None:
            self._publication.show()

    def at_end(self) -> bool:
        """Return whether nothing was appended to the log since the last fold."""
        offsets = self._state.offsets
        return all(offsets.get(partition, 0) >= end for partition, end in self._log.end_offsets(CASE_EVENTS).items())

    def _refresh_ledger(self, now: dt.datetime) -> None:
        """Verify what is new in the ledger, and in the first tick of an hour all of it."""
        if _hour(now) == self._audited:
            self._ledger.refresh()
        else:
            self._ledger.audit()
            self._audited = _hour(now)

    def _say_declared(self, statistic: Statistic, now: dt.datetime) -> None:
        self._say(StatisticDeclared(tick=now, statistic=statistic.name, since=statistic.first_day))
        released_on = self._state.released_on
        if released_on is not None and statistic.first_day <= released_on:
            self._say(StatisticDeclaredLate(tick=now, statistic=statistic.name))

    def _say_released(self, due: list[DuePeriod], now: dt.datetime) -> None:
        """Say one event a statistic."""
        for name in sorted({period.statistic for period in due}):
            periods = [period for period in due if period.statistic == name]
            first, last = periods[0].start, periods[-1].end
            self._say(StatisticReleased(tick=now, statistic=name, period_start=first, period_end=last))

    def _new_fold(self) -> Fold:
        """Return a fold for the periods that are open now."""
        return Fold(self._state, self._releaser.statistics, self._registry, self._secret)

    def _fold_to_end(self, clock: dt.date, stopping: Callable[[], bool]) -> bool:
        ends = self._log.end_offsets(CASE_EVENTS)
        positions = self._positions(ends)
        while any(positions[partition] < end for partition, end in ends.items()):
            if stopping():
                return False
            records = self._log.poll(CASE_EVENTS, positions, ends, self._batch)
            if not records:
                break
            # Now, and not only before: a topic that was made anew meanwhile has other records at the same offsets.
            self._check_topic()
            self._fold.batch(records, clock, self._log.marks(CASE_EVENTS))
            for record in records:
                positions[record.partition] = record.offset + 1
        if self._state.offsets != ends:
            # What was left before the end was purged, or never held a record: there is nothing there to come.
            self._move_to(ends)
        return True

    def _positions(self, ends: dict[int, int]) -> dict[int, int]:
        """Return where reading resumes, or refuse: a gap would lose records, a step back would count them twice."""
        beginnings = self._log.beginning_offsets(CASE_EVENTS)
        offsets = self._state.offsets
        # A topic's partitions only grow in number, and each answer may come from a broker that lags behind.
        for partition in sorted({*offsets, *ends}):
            if partition not in ends or partition not in beginnings:
                raise LogUnavailable(
                    f"topic {CASE_EVENTS}, partition {partition}: a broker that was asked does not know of it yet"
                )
        lost = lost_of(self._state, self._log, beginnings, ends)
        if lost:
            raise ServiceError(lost)
        # A broker that was killed may tell of what was purged again: it was counted, and stays forgotten.
        purged = self._state.purged
        first = {partition: max(beginning, purged.get(partition, 0)) for partition, beginning in beginnings.items()}
        return {partition: offsets.get(partition, first[partition]) for partition in ends}

    def _check_topic(self) -> None:
        self._state.bind(topic_id=self._log.topic_id(CASE_EVENTS))

    def _move_to(self, ends: dict[int, int]) -> None:
        """Move the offsets on to `ends`; never back, which would fold what lies between once more."""
        for partition, offset in self._state.offsets.items():
            if offset > ends[partition]:
                raise ServiceError(
                    f"topic {CASE_EVENTS}, partition {partition}: records came from behind the end that the log told, "
                    "so nothing is released. Look at the brokers, then start again"
                )
        with self._state.transaction() as connection:
            for partition, end in ends.items():
                connection.execute("INSERT OR REPLACE INTO offsets VALUES (?, ?)", [partition, end])


def _hour(now: dt.datetime) -> dt.datetime:
    """Return the hour of the clock in which `now` lies."""
    return now - (now - dt.datetime.min.replace(tzinfo=dt.UTC)) % _AUDIT_EVERY


def lost_of(state: State, log: LogReader, beginnings: Mapping[int, int], ends: Mapping[int, int]) -> str | None:
    """Return what the log has lost of what `state` folded or is to fold, and what to do about it; None if nothing."""
    for partition, offset in state.offsets.items():
        where = f"topic {CASE_EVENTS}, partition {partition}"
        if offset < beginnings.get(partition, 0):
            return (
                f"{where}: records are gone from the log that were never folded. Nothing but this service may purge "
                "the log. Restore it, or, if they are lost for good, run: quietcount ledger new-log"
            )
        if offset > ends.get(partition, 0):
            return (
                f"{where}: the log ends before what was folded from it: it is an older copy, or lost its end. Put the "
                "newest log back, or, if that is lost for good, run: quietcount ledger new-log"
            )
    for partition in log.diverged(CASE_EVENTS, state.marks):
        return (
            f"topic {CASE_EVENTS}, partition {partition}: the log lost records that were folded, and goes on with "
            "others in their places: a broker that lacked them became its leader. Put the newest log back, or, if they "
            "are lost for good, run: quietcount ledger new-log. Set unclean.leader.election.enable to false "
            "(quietcount topics check)"
        )
    return None
