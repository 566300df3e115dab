"""Signals: the service ends with 0 and leaves whole batches behind."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import duckdb
import pytest
from tests.e2e.projects import Project, ended, simulated, true_cells

from quietcount_schemas.log import CASE_EVENTS


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
    with duckdb.connect(str(project.private / "state.duckdb"), read_only=True) as connection:
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
    while time.monotonic() < deadline and not (project.public.exists() and project.released()):
        time.sleep(0.05)
    assert process.poll() is None, "without --until-idle the service stays"
    process.send_signal(signal.SIGTERM)
    assert "released" in ended(process).done().err
    assert project.released()


def test_until_idle_ends_by_itself_and_says_nothing_on_stdout(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    assert project.run("2023-03-08").out == ""
    assert {start for _, start, _ in project.released()} == {"2023-01-01", "2023-02-01"}
