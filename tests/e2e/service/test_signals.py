"""Signals: the service ends with 0 and leaves whole batches behind."""

from __future__ import annotations

import contextlib
import json
import random
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from tests.catalogues import statistic
from tests.e2e.kafka.kafka_projects import kafka_project
from tests.e2e.projects import Project, ended, simulated, true_cells
from tests.kafka.fixtures import Kafka

from quietcount_aggregates.errors import LedgerError
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.check

CASEWORK = Path(__file__).parents[3] / "schemas/quietcount_schemas/casework/CourtCaseFiled"

GRACE = 90.0
"""TimeoutStopSec of the unit, in seconds; a test waits as long at most, and never measures."""


@pytest.mark.quick
@pytest.mark.promise("signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_amid_a_backlog_ends_after_the_batch_and_the_rest_is_folded_next_time(
    tmp_path: Path, number: signal.Signals
) -> None:
    project = Project(tmp_path / "project")
    lines = simulated(3000)
    project.emit(lines)
    process = project.start_runner("--batch", "10")  # some hundred batches: seconds of work
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    time.sleep(0.1)
    process.send_signal(number)
    finished = ended(process).done()
    assert "Traceback" not in finished.err
    with project.log() as log:
        end = log.end_offsets(CASE_EVENTS)[0]
    with duckdb.connect(str(project.private / "state-0.duckdb"), read_only=True) as connection:
        row = connection.execute("SELECT next_offset FROM offsets").fetchone()
    assert row is not None, "the batch in hand was not folded"
    assert 0 < row[0] < end
    assert row[0] % 10 == 0
    assert not project.released()  # a backlog is folded whole before anything is drawn
    project.run_here()
    assert {cell: value for cell, value in project.released().items() if value} == true_cells(lines)


def test_a_service_between_two_ticks_ends_at_once(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    project.config.write_text(project.config.read_text().replace('tick = "1s"', 'tick = "1h"'))
    process = project.start("run", "--as-of", "2023-02-08")
    deadline = time.monotonic() + 60
    released = False
    while time.monotonic() < deadline and not released:
        time.sleep(0.05)
        with contextlib.suppress(LedgerError):  # it is being made
            released = bool(project.ledger_values())
    assert not project.public.exists(), "what is published is seen from the next point of the grid on, or at the end"
    assert process.poll() is None, "without --until-idle the service stays"
    process.send_signal(signal.SIGTERM)
    assert "released" in ended(process).done().err
    assert project.released()


def test_until_idle_ends_by_itself_and_says_nothing_on_stdout(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    assert project.run("2023-03-08").out == ""
    assert {start for _, start, _ in project.released()} == {"2023-01-01", "2023-02-01"}


# The lasting service


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def said(process: subprocess.Popen[str]) -> Iterator[str]:
    """The events of a service's log, as they come."""
    assert process.stderr is not None
    for line in process.stderr:
        yield json.loads(line)["event"]


def until(events: Iterator[str], wanted: str) -> None:
    heard = []
    for event in events:
        if event == wanted:
            return
        heard.append(event)
    pytest.fail(f"{wanted!r} was not said, but {heard}")


def stopped_under_load(project: Project, times: int, seed: int) -> None:
    """Start and stop the service so often, while events come in; it ends with 0 each time, and all of them count."""
    chance = random.Random(seed)
    lines = simulated(12 * times)
    share = len(lines) // times + 1
    for number in range(times):
        process = project.start("run", "--as-of", "2023-01-02")
        try:
            events = said(process)
            until(events, "started")
            for part in range(3):
                begin = number * share + part * share // 3
                project.emit(lines[begin : number * share + (part + 1) * share // 3], f"part-{number}-{part}.jsonl")
                time.sleep(chance.uniform(0, 0.3))
            process.send_signal(chance.choice([signal.SIGTERM, signal.SIGINT]))
            assert process.wait(GRACE) == 0, f"seed {seed}, turn {number}: {list(events)}"
            assert list(events)[-1] == "stopped"
        finally:
            process.kill()
            process.communicate()
    project.run_here()
    assert {cell: value for cell, value in project.released().items() if value} == true_cells(lines), f"seed {seed}"


def test_sigterm_under_load_ends_with_0_and_loses_nothing(project: Project) -> None:
    stopped_under_load(project, 5, random.randrange(10**6))


@pytest.mark.soak
def test_sigterm_under_load_a_hundred_times(project: Project) -> None:
    stopped_under_load(project, 100, random.randrange(10**6))


@pytest.mark.soak
def test_sigterm_under_load_a_hundred_times_on_kafka(tmp_path: Path, kafka: Kafka) -> None:
    project = kafka_project(tmp_path / "project", kafka.bootstrap, kafka.prefix())
    stopped_under_load(project, 100, random.randrange(10**6))


MORE = statistic("more", "HelpRequested", since="2023-03-01", epsilon=9.0)


@pytest.mark.quick
@pytest.mark.promise("reload")
def test_sighup_takes_a_new_configuration_or_says_why_not_and_the_service_goes_on(project: Project) -> None:
    text = project.config.read_text(encoding="utf-8")
    process = project.start("run", "--as-of", "2023-02-08")
    try:
        events = said(process)
        until(events, "released")
        for wrong in (
            text.replace("lifetime_epsilon", 'data_dir = "elsewhere"\nlifetime_epsilon'),  # which needs a restart
            text + MORE.replace("9.0", "99.0"),  # which the ledger refuses
        ):
            project.config.write_text(wrong, encoding="utf-8")
            process.send_signal(signal.SIGHUP)
            until(events, "reload refused")
        project.config.write_text(text + MORE, encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        until(events, "population declared")
        until(events, "reloaded")
        process.send_signal(signal.SIGTERM)
        assert process.wait(GRACE) == 0
        assert list(events) == ["stopped"]
    finally:
        process.kill()
        process.communicate()
    assert not (project.folder / "elsewhere").exists()
    assert project.run("2024-01-08").code == 0
    assert ("more", "2023-03-01", "all") in project.released()


def test_files_that_are_wrong_at_a_reload_refuse_it_and_the_service_goes_on(project: Project) -> None:
    """The old configuration would be opened with the same files: closing first would end the service."""
    schemas, secret = project.folder / "sch", project.configuration.service.secret_file
    schemas.mkdir()
    (schemas / "Visited.avsc").write_text((CASEWORK / "1.avsc").read_text().replace("CourtCaseFiled", "Visited"))
    project.config.write_text('schemas = ["sch"]\n' + project.config.read_text(encoding="utf-8"), encoding="utf-8")
    process = project.start("run", "--as-of", "2023-02-08")
    try:
        events = said(process)
        until(events, "released")
        further = (event for event in events if event != "released")  # and none of `waiting`: it was never closed
        broken = schemas / "x.avsc"
        broken.write_text("{", encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        assert next(further) == "reload refused"
        broken.unlink()
        secret.chmod(0o644)
        process.send_signal(signal.SIGHUP)
        assert next(further) == "reload refused"
        secret.chmod(0o600)
        process.send_signal(signal.SIGHUP)
        assert next(further) == "reloaded"
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.wait(GRACE) == 0
        assert list(further) == ["stopped"]
    finally:
        process.kill()
        process.communicate()


def test_a_service_leaves_no_core_dump(project: Project) -> None:
    """It would hold exact counts; the system may send one to a program, which no limit on files' sizes keeps off."""
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    def allowed() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, unlimited)

    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    process = project.start("run", "--as-of", "2023-02-08", preexec_fn=allowed if hard == unlimited[1] else None)
    try:
        until(said(process), "started")
        limits = Path(f"/proc/{process.pid}/limits").read_text(encoding="ascii")
        assert [line.split()[4:6] for line in limits.splitlines() if "core file" in line] == [["0", "0"]]
        # What is not dumpable belongs to root in /proc, whoever runs it.
        assert Path(f"/proc/{process.pid}/environ").stat().st_uid == 0
        process.send_signal(signal.SIGQUIT)
        assert process.wait(GRACE) == -signal.SIGQUIT
        assert not list(project.folder.glob("core*"))
    finally:
        process.kill()
        process.communicate()
