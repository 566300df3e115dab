"""A service under load meets each fault of a machine: it goes on by itself, and nothing is lost or counts twice.

`QUIETCOUNT_TEST_FAULT_MINUTES` is how long the soak lasts (30), `QUIETCOUNT_TEST_SEED` what it draws its faults from.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import random
import resource
import shutil
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.catalogues import catalogue, statistic
from tests.e2e.kafka.kafka_projects import kafka_project
from tests.e2e.projects import Project
from tests.e2e.recovery.fault_runner import SPEED, START, Control
from tests.e2e.recovery.fault_trial import GRACE, LONGEST, Disk, Load, Unit, Watch
from tests.kafka.broker import Broker
from tests.kafka.cluster import Cluster, free_ports
from tests.kafka.fixtures import Clusters, Kafka, Require

from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_consumers.wiring import open_ledger

pytestmark = pytest.mark.check

KINDS = ("DESERTION", "DRAFT_AVOIDANCE", "SURRENDER", "LEGAL_AID", "RELOCATION", "OTHER")
CATEGORIES = ("MOBILISED", "CONTRACT", "CONSCRIPT", "RESERVIST", "CONVICT", "CIVILIAN", "UNKNOWN")
RATE = 60  # events a second, of all emitters together
JUMP = 60 * 86_400.0  # seconds of the clock: twice what is forgiven it, at this speed
DEFECTS = ("Traceback", "a defect of quietcount")  # what the service may say when it lacks memory alone
DATA = 1 << 30  # bytes of data that the service may have at most

# A case has two events and may add four, so that one counted twice shows.
DAILY = catalogue(
    statistic("requests", "HelpRequested", by="help_kind", period="day", max_contributions=4),
    statistic("categories", "HelpRequested", by="service_category", period="week", max_contributions=4),
    grace="1d",
    tick="4h",
)

Line = dict[str, Any]


def lines_of(chance: random.Random, count: int) -> list[Line]:
    """Return events of the days on which they are sent, some of a few days before: late ones, which are carried."""
    lines = []
    for number in range(count):
        day = int(number / RATE * SPEED / 86_400) - chance.choice((0, 0, 0, 1, 3))
        lines.append(
            {
                "event": "HelpRequested",
                "case": f"case {number // 2}",
                "occurred_on": (START + dt.timedelta(days=max(0, day))).date().isoformat(),
                "event_id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
                "help_kind": chance.choice(KINDS),
                "service_category": chance.choice(CATEGORIES),
            }
        )
    return lines


class Trial:
    """All that runs, and the faults that it meets."""

    def __init__(
        self, folder: Path, kafka: Cluster | Kafka, seconds: float, seed: int, *, guarded: bool = True
    ) -> None:
        self.hasty = not seconds
        self.chance = random.Random(seed)
        self._kafka = kafka
        self.project = kafka_project(folder / "project", kafka.bootstrap, kafka.prefix(), DAILY)
        self.lines = lines_of(self.chance, int((seconds + 3 * LONGEST) * RATE))
        file = folder / "lines.jsonl"
        file.write_text("".join(f"{json.dumps(line)}\n" for line in self.lines), encoding="utf-8")
        spooling = self.project.folder / "spooling.toml"
        text = self.project.config.read_text(encoding="utf-8")
        spooling.write_text(f'{text}\n[emitter]\nspool = "spool"\n', encoding="utf-8")
        self._control_file = folder / "control.json"
        self.control = Control(time.clock_gettime(time.CLOCK_BOOTTIME), memory=DATA, guarded=guarded)
        self.control.write(self._control_file)
        self.met: Counter[str] = Counter()
        self._stack = contextlib.ExitStack()
        try:
            port = free_ports(1)[0]
            self.disk = self._stack.enter_context(contextlib.closing(Disk(self.project.data, 400)))
            self.unit = Unit(self.project, self._control_file, self.disk.enter, port)
            self._stack.callback(self.unit.close)
            self.watch = self._stack.enter_context(contextlib.closing(Watch(self.unit, port)))
            self.recovered()
            configs = [self.project.config] if self.hasty else [self.project.config, self.project.config, spooling]
            self.load = self._stack.enter_context(contextlib.closing(Load(configs, file, RATE)))
            # An emitter without a spool that meets its fault at the start ends, as it should.
            self.watch.wait(lambda: self.load.begun, "an emitter does not begin")
        except BaseException:
            self._stack.close()
            raise

    def close(self) -> None:
        self._stack.close()
        if isinstance(self._kafka, Cluster):
            for broker in self._kafka.brokers:
                broker.resume()

    def recovered(self) -> None:
        """Wait for a tick from now on at which nothing is amiss."""
        now = self.control.true.timestamp()
        well = {"caught_up": 1, "state_open": 1, "clock_trusted": 1, "broker_reachable": 1, "ledger_verified": 1}
        self.watch.wait(
            lambda: self.watch.sees(**well) and self.watch.latest["quietcount_last_tick_timestamp_seconds"] > now,
            "the service does not go on by itself",
        )

    def seen(self, **wanted: float) -> None:
        """Wait until the fault shows: one that does not bite proves nothing."""
        self.watch.wait(lambda: self.watch.sees(**wanted), f"the fault does not show as {wanted}")

    def pause(self, least: float = 0.5, most: float = 6.0) -> None:
        time.sleep(0.3 if self.hasty else self.chance.uniform(least, most))

    def meet(self, name: str) -> None:
        self.met[name] += 1
        began, said = time.monotonic(), len(self.unit.said())
        FAULTS[name](self)
        over = time.monotonic()
        self.recovered()
        self.check_the_ledger_s_time()
        new = self.unit.said()[said:]
        assert name == "memory short" or not any(word in new for word in DEFECTS), new
        print(f"{name}: {over - began:.0f} s, and {time.monotonic() - over:.0f} s until all was well", flush=True)

    # Faults

    @property
    def cluster(self) -> Cluster:
        """The brokers, of which the trial has to be the owner."""
        assert isinstance(self._kafka, Cluster)
        return self._kafka

    @property
    def broker(self) -> Broker:
        return self.chance.choice(self.cluster.brokers)

    def broker_killed(self) -> None:
        broker = self.broker
        broker.kill()
        self.pause()
        self.cluster.restart(broker)

    def broker_stopped(self) -> None:
        broker = self.broker
        broker.stop()
        self.pause()
        self.cluster.restart(broker)

    def broker_paused(self) -> None:
        broker = self.broker
        broker.pause()
        self.pause(2.0, 15.0)
        broker.resume()
        self.cluster.ready()

    def brokers_gone(self) -> None:
        """All of them, so that the service has to wait; it may be killed meanwhile, and started in vain."""
        self.cluster.kill()
        self.perhaps_killed(lambda: self.seen(broker_reachable=0))
        self.pause()
        self.cluster.start()

    def disk_full(self) -> None:
        with self.disk.full():
            self.perhaps_killed(lambda: self.seen(state_open=0))
            self.pause()

    def disk_slow(self) -> None:
        with self.controlled(disk=self.chance.uniform(1.0, 3.0)):
            self.watch.wait(
                lambda: self.watch.latest.get("quietcount_ticks_behind", 0) > 0, "a slow disk makes no tick late"
            )
            self.perhaps_killed(lambda: self.pause(2.0, 8.0))

    def clock_forward(self) -> None:
        with self.controlled(jump=JUMP):
            self.seen(clock_trusted=0)
            self.pause()

    def clock_back(self) -> None:
        with self.controlled(jump=-JUMP):
            self.perhaps_killed(lambda: self.seen(clock_trusted=0))
            self.pause()

    def memory_short(self) -> None:
        """No more than it has now, so that it fails at what needs more; what is then started has its usual limit."""
        pid = self.unit.pid
        assert pid is not None
        _, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
        resource.prlimit(pid, resource.RLIMIT_DATA, (1, hard))
        self.pause(2.0, 8.0)
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_DATA, (DATA, hard))

    def terminated(self) -> None:
        self.end_and_see(signal.SIGTERM, 0)

    def killed(self) -> None:
        self.end_and_see(signal.SIGKILL, -signal.SIGKILL)

    def end_and_see(self, number: signal.Signals, code: int) -> None:
        before = len(self.unit.ended)
        self.unit.send(number)
        until = time.monotonic() + GRACE
        while len(self.unit.ended) == before:
            assert time.monotonic() < until, f"the service does not end after {number.name}"
            time.sleep(0.01)
        assert self.unit.ended[before].code == code

    def perhaps_killed(self, then: Callable[[], object]) -> None:
        """Do `then`, or, one time in three, end the service in the fault: what is started anew meets it, too."""
        if self.hasty or self.chance.random() < 0.67:
            then()
            return
        self.pause(0.0, 2.0)
        self.met["killed in a fault"] += 1
        self.unit.send(signal.SIGKILL)

    @contextlib.contextmanager
    def controlled(self, **values: float) -> Iterator[None]:
        replace(self.control, **values).write(self._control_file)  # type: ignore[arg-type]
        try:
            yield
        finally:
            self.control.write(self._control_file)

    # What must hold

    def check_the_ledger_s_time(self) -> None:
        """No period was closed by a clock that was ahead: what is in the ledger was recorded before now."""
        with contextlib.closing(open_ledger(self.project.configuration)) as log:
            ledger = Ledger(log)
            ledger.refresh()
        assert ledger.chain.entries[-1].recorded_at <= self.control.true, "a clock that was ahead closed periods"

    def end(self) -> None:
        """Let the emitters and the service end, release all that is open, and compare."""
        acknowledged = self.load.end()
        assert acknowledged == set(range(self.load.fed))
        self.recovered()
        self.unit.stop()
        assert self.unit.ended[-1].code == 0
        self.watch.close()
        last = (self.control.true + dt.timedelta(days=30)).date()
        self.unit.run("release", "--as-of", last.isoformat()).done()
        shutil.copytree(self.disk.inside, self.project.data, dirs_exist_ok=True)
        if not self.hasty:  # to read it is to verify it
            self.project.quietcount("ledger", "verify").done()
        check_each_event_counts_once(self.project, self.lines[: self.load.fed])
        said = self.unit.said()
        assert not self.watch.silent, self.watch.silent
        unasked = Counter(each.code for each in self.unit.ended if each.asked is None)
        print(
            f"{self.load.fed} events; faults {dict(self.met)}; the service was started {len(self.unit.ended)} times, "
            f"ended unasked with {dict(unasked)} ({self.unit.barked} by the watchdog), "
            f"waited {said.count('waiting')} times; {self.watch.looks} looks at the metrics"
        )

    def check_that_memory_is_flat(self) -> None:
        times = [moment for moment, _ in self.watch.memory]
        third = (times[-1] - times[0]) / 3
        first = max(mib for moment, mib in self.watch.memory if moment < times[0] + third)
        last = max(mib for moment, mib in self.watch.memory if moment > times[-1] - third)
        print(f"at most {first:.0f} MiB in the first third, {last:.0f} MiB in the last")
        assert last <= 1.2 * first


FAULTS: Mapping[str, Callable[[Trial], None]] = {
    "broker killed": Trial.broker_killed,
    "broker stopped": Trial.broker_stopped,
    "broker paused": Trial.broker_paused,
    "brokers gone": Trial.brokers_gone,
    "disk full": Trial.disk_full,
    "disk slow": Trial.disk_slow,
    "clock forward": Trial.clock_forward,
    "clock back": Trial.clock_back,
    "memory short": Trial.memory_short,
    "SIGTERM": Trial.terminated,
    "SIGKILL": Trial.killed,
}


def check_each_event_counts_once(project: Project, lines: list[Line]) -> None:
    """What was released, summed over all periods, is what was emitted: whichever period a late event was carried to."""
    values = project.ledger_values()
    assert project.released() == values
    found: Counter[tuple[str, str]] = Counter()
    for (name, _, cell), value in values.items():
        found[name, cell] += value
    wanted = Counter(
        (statistic, f"{field}={line[field]}")
        for line in lines
        for statistic, field in (("requests", "help_kind"), ("categories", "service_category"))
    )
    assert +found == wanted


def begun(folder: Path, kafka: Cluster | Kafka, require: Require, seconds: float = 0, *, guarded: bool = True) -> Trial:
    """Begin a trial of `seconds`; one of none is in haste."""
    seed = int(os.environ.get("QUIETCOUNT_TEST_SEED", random.randrange(10**9)))
    print("seed", seed)
    try:
        return Trial(folder, kafka, seconds, seed, guarded=guarded)
    except (RuntimeError, FileNotFoundError):
        require(False, "mount namespaces (unshare and nsenter), for a disk that can be full")
        raise


def test_a_full_disk_and_a_clock_that_jumps_under_load_are_waited_for(
    tmp_path: Path, kafka: Kafka, require: Require
) -> None:
    with contextlib.closing(begun(tmp_path, kafka, require)) as trial:
        trial.meet("disk full")
        trial.meet("clock forward")
        trial.end()


@pytest.mark.soak
def test_half_an_hour_of_faults_loses_nothing_counts_nothing_twice_and_keeps_memory_flat(
    tmp_path: Path, kafka_cluster: Clusters, require: Require
) -> None:
    minutes = float(os.environ.get("QUIETCOUNT_TEST_FAULT_MINUTES", "30"))
    until = time.monotonic() + 60 * minutes
    with contextlib.closing(begun(tmp_path, kafka_cluster(3), require, 60 * minutes)) as trial:
        for name in FAULTS:
            trial.meet(name)
        while time.monotonic() < until:
            trial.meet(trial.chance.choice(list(FAULTS)))
            trial.pause()
        trial.end()
    if minutes >= 10:  # in less, a third is too short to have met all that needs memory
        trial.check_that_memory_is_flat()


@pytest.mark.soak
def test_a_twin_that_believes_every_clock_is_found(tmp_path: Path, kafka: Kafka, require: Require) -> None:
    with contextlib.closing(begun(tmp_path, kafka, require, guarded=False)) as trial:
        with trial.controlled(jump=JUMP):
            time.sleep(10)
        with pytest.raises(AssertionError, match="closed periods"):
            trial.check_the_ledger_s_time()
