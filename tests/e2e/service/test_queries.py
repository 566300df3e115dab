"""Analysts' queries, from other processes and while the service releases."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.e2e.projects import EXACT, Project, ended, simulated

from quietcount_consumers.queries import QueryError, query

pytestmark = pytest.mark.check

DAILY = EXACT.replace('period = "month"', 'period = "day"').replace('grace = "7d"', 'grace = "0d"')


def test_queries_are_answered_whole_while_the_service_releases_in_another_process(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", DAILY)
    project.emit(simulated(200))
    service = project.start_runner("--as-of", "2023-03-01", "--advance")  # a day a tick of one second
    seen: set[int] = set()
    asked = 0
    try:
        assert service.stdout is not None
        service.stdout.readline()
        deadline = time.monotonic() + 90
        while len(seen) < 4 and time.monotonic() < deadline:
            rows = query(
                project.public,
                "SELECT count(*), count(DISTINCT (statistic, period_start, cell)), (SELECT value FROM about WHERE key "
                "= 'ledger_length')::INTEGER, (SELECT count(*) FROM ledger) FROM statistics",
            )[1]
            cells, distinct, length, entries = rows[0]
            assert cells == distinct
            assert length == entries  # one release or the next, and never half of either
            assert cells % 11 == 0  # 6 kinds of help and 5 charges, for every released day
            seen.add(cells)
            asked += 1
        answer = project.quietcount("query", "SELECT count(*) AS n FROM requests").done()
        assert int(answer.out.split()[1]) > 0
        assert service.poll() is None
    finally:
        service.send_signal(signal.SIGTERM)
        finished = ended(service)
    finished.done()
    print(f"{asked} queries, {len(seen)} releases seen")
    assert len(seen) >= 4


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that released two months; tests only read it."""
    project = Project(tmp_path_factory.mktemp("published") / "project")
    project.emit(simulated(50))
    project.run_here("2023-03-08")
    return project


@pytest.mark.quick
@pytest.mark.promise("queries")
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{secret}')",
        "SELECT * FROM read_text('{secret}')",
        "SELECT * FROM read_blob('{state}')",
        "SELECT * FROM '{state}'",
        "SELECT * FROM glob('{private}/*')",
        "ATTACH '{state}' AS private",
        "ATTACH '{state}' AS private (READ_ONLY)",
        "COPY statistics TO '{private}/out.csv'",
        "EXPORT DATABASE '{private}/out'",
        "INSTALL sqlite",
        "LOAD sqlite",
        "SET enable_external_access = true",
        "SET allowed_directories = ['{private}']; SELECT * FROM read_text('{secret}')",
        "CREATE TABLE mine AS SELECT 1",
        "DELETE FROM statistics",
    ],
)
def test_a_query_reaches_the_public_file_and_no_other(published: Project, sql: str) -> None:
    before = sorted(path.name for path in published.private.iterdir())
    places = {
        "secret": published.folder / "secrets" / "service",
        "state": published.private / "state-0.duckdb",
        "private": published.private,
    }
    with pytest.raises(QueryError) as caught:
        query(published.public, sql.format(**places))
    assert "Traceback" not in str(caught.value)
    assert (published.folder / "secrets" / "service").read_text().strip() not in str(caught.value)
    assert sorted(path.name for path in published.private.iterdir()) == before


def test_rows_are_a_table_at_a_terminal_and_csv_in_a_pipe(published: Project) -> None:
    sql = "SELECT statistic, period_start, cell FROM statistics ORDER BY ALL LIMIT 1"
    piped = published.quietcount("query", sql).done()
    cell = "charge=DESERTION"
    assert piped.out == f"statistic,period_start,cell\ncourt_cases,2023-01-01,{cell}\n"
    as_json = published.quietcount("query", sql, "--format", "json").done()
    assert json.loads(as_json.out) == [
        {"statistic": "court_cases", "period_start": "2023-01-01", "cell": "charge=DESERTION"}
    ]
    terminal, end = pty.openpty()
    process = published.start("query", sql, stdout=end, stderr=subprocess.PIPE)
    os.close(end)
    shown = b""
    try:
        while chunk := os.read(terminal, 4096):
            shown += chunk
    except OSError:
        pass  # Linux says EIO when the last writer is gone
    finally:
        os.close(terminal)
    ended(process).done()
    text = shown.decode()
    assert "court_cases" in text
    assert "2023-01-01" in text
    assert "," not in text


def test_a_reader_that_goes_away_ends_a_query_quietly(published: Project) -> None:
    process = published.start("query", "SELECT range AS n FROM range(200000)", environment={"PYTHONUNBUFFERED": ""})
    assert process.stdout is not None
    assert process.stdout.readline() == "n\n"
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as stderr:
        assert stderr.read() == ""
    assert process.wait(timeout=60) == 141


def test_a_query_that_is_wrong_is_explained(published: Project) -> None:
    assert "nothing" in published.quietcount("query", "SELECT nothing FROM statistics").refusal()
    with pytest.raises(QueryError, match="is not made of whole periods: requests is released by the month"):
        query(published.public, "FROM total('requests', '2023-01-05', '2023-01-31')")
