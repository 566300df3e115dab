"""Prometheus itself scrapes real services and judges them by our rules: each fault fires its alert, and nothing else.

One Prometheus, a service for each fault and one in health, side by side. Their minutes are seconds: the services'
clocks run sixty times as fast, and in a copy of the rules minutes are seconds, too (see HASTE and `RulesFile.quick`).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.catalogues import catalogue, statistic
from tests.e2e.kafka.kafka_projects import kafka_project
from tests.e2e.projects import Project, simulated
from tests.kafka import artifacts
from tests.kafka.cluster import POM
from tests.kafka.fixtures import Clusters
from tests.prometheus import hurried_services
from tests.prometheus.hurried_services import FAULT, SAID
from tests.prometheus.programs import Programs, required
from tests.prometheus.rules import rules_file
from tests.prometheus.server import Prometheus, prometheus

from quietcount_schemas.log import CASE_EVENTS, NewRecord

pytestmark = pytest.mark.check

Require = Callable[[bool, str], None]

STARTED = 90.0  # seconds after which a service that does not serve is a failure
FIRED = 180.0  # the longest alert takes 45; the rest is for a machine that is busy
HOUR = 60.0  # seconds: an hour of the services

# A day's release falls due at ten past midnight, a month's too.
# A tick is two of the machine's seconds: with one, all of it takes a third more of the processor.
NOON = "2024-01-31T12:00:00+00:00"
BEFORE_MIDNIGHT = "2024-01-31T23:40:00+00:00"
CATALOGUE = catalogue(
    statistic("requests", "HelpRequested", by="help_kind", since="2023-12-01", epsilon=1.0),
    statistic("volume", "HelpRequested", period="day", since="2024-01-29", epsilon=1.0),
    lifetime_epsilon=10,
    grace="10m",
    tick="120s",
)
LAST = statistic("the_last", "HelpRequested", since=None, epsilon=8.0)

Alerts = set[tuple[str, str]]


@dataclass
class Case:
    """A service, the fault that befalls it, and what is to be told of it."""

    name: str
    expected: Alerts
    hook: str = ""
    before: Callable[[Project], None] = lambda _: None
    """What is done before it starts."""
    befall: Callable[[Project, int], None] = lambda _project, _process: None
    """What is done when all services run and are scraped."""
    start: str = NOON
    project: Project = field(init=False)
    process: int = field(init=False)

    @property
    def job(self) -> str:
        # The emitter's is not one of ours.
        return self.name if self.hook == "spool" else f"quietcount-{self.name}"


def marked(project: Project, _process: int = 0) -> None:
    """Let the hook be a fault from now on."""
    project.config.with_name(FAULT).touch()


def killed(_project: Project, process: int) -> None:
    os.kill(process, signal.SIGKILL)


def spent(project: Project, process: int) -> None:
    """Declare what takes the rest of the budget, and have the configuration read anew."""
    with project.config.open("a", encoding="utf-8") as file:
        file.write(LAST)
    os.kill(process, signal.SIGHUP)


def altered(project: Project, _process: int) -> None:
    """Change a byte of the ledger's newest entry, as somebody does who knows what he wants."""
    with contextlib.closing(sqlite3.connect(project.private / "ledger.sqlite", isolation_level=None)) as ledger:
        ledger.execute("DROP TRIGGER entries_are_not_changed")
        index, entry = ledger.execute('SELECT "index", entry FROM entries ORDER BY "index" DESC LIMIT 1').fetchone()
        changed = entry[:-1] + bytes([entry[-1] ^ 1])
        ledger.execute('UPDATE entries SET entry = ? WHERE "index" = ?', (changed, index))


def rejected(project: Project) -> None:
    """Put what is no event into the log."""
    with_events(project)
    with contextlib.closing(project.log()) as log:
        log.append(CASE_EVENTS, [NewRecord(key=b"0" * 16, value=b"not an event", timestamp=0)])


def stamped_now(project: Project) -> None:
    """Put an event into the log as a client does that leaves the timestamp to its library."""
    with_events(project)
    with contextlib.closing(project.log()) as log:
        [first, *_] = log.poll(CASE_EVENTS, {0: 0}, log.end_offsets(CASE_EVENTS), 1)
        log.append(CASE_EVENTS, [NewRecord(first.key, first.value, first.timestamp + 1)])


def with_events(project: Project) -> None:
    project.emit(simulated(200))


def unwritable(project: Project, process: int) -> None:
    """Let a folder be where the state was, when it is opened the next time: now."""
    state = project.private / "state-0.duckdb"
    state.rename(state.with_name("kept"))
    state.mkdir()
    os.kill(process, signal.SIGHUP)


class Reader:
    """Another program that keeps the embedded log open, in the midst of reading."""

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None

    def read(self, project: Project) -> None:
        with_events(project)
        self._connection = sqlite3.connect(project.private / "log.sqlite", isolation_level=None)
        self._connection.execute("BEGIN")
        self._connection.execute("SELECT count(*) FROM sqlite_master").fetchall()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def cases(reader: Reader, brokers: Clusters | None) -> list[Case]:
    found = [
        Case("healthy", set(), before=with_events, start=BEFORE_MIDNIGHT),
        Case("stopped", {("QuietcountDown", "critical")}, befall=killed),
        Case("stuck", {("QuietcountStuck", "critical")}, hook="stuck", befall=marked),
        Case("dying", {("QuietcountRestarting", "critical")}, hook="dying", befall=marked),
        Case("losing", {("QuietcountBoundRaised", "warning")}, hook="losing", befall=marked),
        Case("slow", {("QuietcountBehind", "warning")}, hook="slow", befall=marked),
        Case("unwritable", {("QuietcountNotReady", "warning")}, befall=unwritable),
        Case("clock", {("QuietcountClockJumped", "warning")}, hook="clock", befall=marked),
        Case("altered", {("QuietcountLedgerBroken", "critical")}, befall=altered),
        Case("unreleased", {("QuietcountReleaseOverdue", "warning")}, hook="not released", before=marked),
        Case("unpurged", {("QuietcountPurgeOverdue", "warning")}, hook="impatient", before=reader.read),
        Case("spent", {("QuietcountBudgetSpent", "info")}, befall=spent),
        Case(
            "full",
            {("QuietcountDiskLow", "warning"), ("QuietcountDiskLow", "critical")},
            hook="almost full",
            befall=marked,
        ),
        # Until midnight nothing may be told of it.
        Case("rejecting", {("QuietcountRejects", "warning")}, before=rejected, start=BEFORE_MIDNIGHT),
        Case("foreign", {("QuietcountClientFaults", "warning")}, before=stamped_now, start=BEFORE_MIDNIGHT),
        Case("helpline", {("QuietcountSpoolWaiting", "warning")}, hook="spool"),
    ]
    if brokers is not None:
        found.append(
            Case("cut-off", {("QuietcountBrokerUnreachable", "critical")}, befall=lambda *_: brokers_stop(brokers))
        )
    return found


def brokers_stop(brokers: Clusters) -> None:
    for cluster in brokers._made:
        cluster.kill()


@pytest.fixture
def found(require: Require) -> Programs:
    """Prometheus."""
    return required(require)


@pytest.fixture
def brokers(request: pytest.FixtureRequest) -> Clusters | None:
    """A broker of the test's own; None where this machine has none and need not."""
    if not artifacts.obtainable(POM) and os.environ.get("QUIETCOUNT_REQUIRE_ALL") != "1":
        return None
    clusters: Clusters = request.getfixturevalue("kafka_cluster")
    return clusters


@contextlib.contextmanager
def running(every: list[Case]) -> Iterator[dict[str, str]]:
    """Run the services; give the address at which each serves, by job."""
    wanted = [{"config": str(case.project.config), "start": case.start, "fault": case.hook} for case in every]
    process = subprocess.Popen(
        [sys.executable, str(hurried_services.__file__)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "QUIETCOUNT_METRICS__LISTEN": "127.0.0.1:0",
        },
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(wanted) + "\n")
        process.stdin.flush()
        for case, child in zip(every, json.loads(process.stdout.readline()), strict=True):
            case.process = child
        yield {case.job: address(case) for case in every}
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()


def address(case: Case) -> str:
    """Where a service says that it serves."""
    until = time.monotonic() + STARTED
    while time.monotonic() < until:
        for line in said(case):
            if line["event"] == "serving":
                return line["address"]
        time.sleep(0.05)
    raise AssertionError(f"{case.name} does not serve: {said(case)}")


def said(case: Case) -> list[dict[str, str]]:
    file = case.project.config.with_name(SAID)
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [json.loads(line) if line.startswith("{") else {"event": line} for line in lines]


def until(seconds: float, reached: Callable[[], bool], told: Callable[[], object]) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, told()
        time.sleep(0.5)


def test_each_fault_fires_its_alert_and_only_that_and_none_fires_in_an_hour_of_health(
    root: Path, tmp_path: Path, found: Programs, brokers: Clusters | None
) -> None:
    rules = tmp_path / "quick.rules.yaml"
    rules.write_text(rules_file(root).quick(), encoding="utf-8")
    with contextlib.closing(Reader()) as reader:
        every = cases(reader, brokers)
        for case in every:
            if case.name == "cut-off":
                assert brokers is not None
                cluster = brokers()
                case.project = kafka_project(tmp_path / case.name, cluster.bootstrap, cluster.prefix(), CATALOGUE)
            else:
                case.project = Project(tmp_path / case.name, configured(case))
            case.before(case.project)
        with running(every) as targets, prometheus(found, tmp_path / "prometheus", rules, targets) as server:
            watched(server, every, time.monotonic() + HOUR)


def configured(case: Case) -> str:
    """The catalogue; the emitter's log is brokers that are not there."""
    if case.hook == "spool":
        return 'log = "kafka://127.0.0.1:9"\n' + CATALOGUE
    return CATALOGUE


def watched(server: Prometheus, every: list[Case], hour: float) -> None:
    """See all in health, then each fault's alert, and nothing else at any time until `hour`."""
    services = {case.job for case in every if case.hook != "spool"}

    def ticking() -> set[str]:
        found = server.query("quietcount_last_tick_timestamp_seconds > 0")
        return {labels["job"] for labels, _ in found}

    def fired() -> set[tuple[str, str, str]]:
        return server.fired(int(time.monotonic() - began) + 1)

    def told() -> object:
        return {case.name: said(case)[-3:] for case in every}, server.query("up"), server.said()[-2000:]

    until(STARTED, lambda: ticking() == services, told)
    began = time.monotonic()
    for case in every:
        case.befall(case.project, case.process)
    expected = {(case.job, name, severity) for case in every for name, severity in case.expected}
    # At any time, and not now: a clock is believed again after an hour.
    until(FIRED, lambda: fired() >= expected, lambda: (expected - fired(), told()))
    time.sleep(max(0.0, hour - time.monotonic()))
    assert fired() == expected, told()
    assert [rule["name"] for rule in server.rules() if rule["health"] != "ok"] == []
