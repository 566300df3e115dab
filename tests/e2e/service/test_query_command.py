"""The command query: what it is asked with, how it answers in any terminal, and how it is stopped."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.commanded import invoked, refused, released_month
from tests.e2e.projects import Finished, Project, ended
from tests.holders import holding

from quietcount_consumers.commands.readers.query import query_command
from quietcount_consumers.queries import QueryError

pytestmark = pytest.mark.quick

SYMBOLS = "SELECT 'é→' AS symbols, 1 AS n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that released a month; tests only read it."""
    return released_month(tmp_path_factory.mktemp("released") / "project")


# What is asked


@pytest.mark.promise("queries")
def test_a_query_is_read_from_a_file_and_from_the_standard_input(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "question.sql"
    file.write_text("-- How many months?\nSELECT count(DISTINCT period_start) AS n\nFROM requests;\n", "utf-8-sig")
    assert invoked(project, query_command, "-f", str(file)).stdout == "n\n1\n"
    result = CliRunner().invoke(
        query_command, ["--file", "-", "--config", str(project.config)], input="SELECT 1 AS one"
    )
    assert result.stdout == "one\n1\n"


@pytest.mark.parametrize(
    "content, said",
    [
        (None, "No such file or directory"),
        (b"SELECT '\xff'", "byte 8 is not UTF-8"),
        (b"", "the query is empty"),
        (b"SELECT 1; SELECT 2", "more than one statement"),
    ],
)
def test_a_file_without_one_query_is_explained(
    project: Project, tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "question.sql"
    if content is not None:
        file.write_bytes(content)
    assert said in refused(project, query_command, "-f", str(file))


@pytest.mark.parametrize(
    "arguments", [(), ("SELECT 1", "--describe"), ("SELECT 1", "-f", "-"), ("-f", "-", "--describe")]
)
def test_one_thing_is_asked_at_a_time(project: Project, arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(query_command, [*arguments, "--config", str(project.config)])
    assert result.exit_code == 2
    assert "Give one of these" in result.output


# What there is to ask


@pytest.mark.promise("queries")
def test_what_is_in_the_file_is_described_from_its_own_dictionary(project: Project) -> None:
    described = json.loads(invoked(project, query_command, "--describe", "--format", "json").stdout)
    kinds = {row["name"]: row["kind"] for row in described}
    assert list(dict.fromkeys(kinds.values())) == ["view", "macro", "table"]
    assert [name for name, kind in kinds.items() if kind == "macro"] == [
        *(
            "compare",
            "cumulative",
            "distribution",
            "mean",
            "percentile",
            "ranking",
            "series",
            "share",
            "total",
            "year_on_year",
        ),
    ]
    assert {name for name, kind in kinds.items() if kind == "view"} == {"requests", "court_cases"}
    requests = [(row["column"], row["type"]) for row in described if row["name"] == "requests"]
    assert requests[:4] == [(None, None), ("period_start", "DATE"), ("period_end", "DATE"), ("help_kind", "VARCHAR")]
    total = [row["column"] for row in described if row["name"] == "total"]
    assert total == [None, "estimate", "shown", "lower", "upper", "note"]
    dictionary = json.loads(invoked(project, query_command, "FROM data_dictionary", "--format", "json").stdout)
    assert sorted((row["name"], row["column"] or "", row["description"]) for row in described) == sorted(
        (row["table_name"], row["column_name"] or "", row["description"]) for row in dictionary
    )
    as_csv = list(csv.reader(io.StringIO(invoked(project, query_command, "--describe").stdout)))
    assert as_csv[0] == ["kind", "name", "column", "type", "description"]
    assert len(as_csv) == len(described) + 1


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_people_read_the_description_within_their_terminal(
    project: Project, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = invoked(project, query_command, "--describe", "--format", "table").stdout.splitlines()
    assert "requests (view)" in lines
    assert "total (macro)" in lines
    assert "statistics (table)" in lines
    assert max(map(len, lines)) <= columns
    assert re.search(r"^    help_kind +VARCHAR +One of DESERTION,", "\n".join(lines), re.MULTILINE)


# A file alone


def test_a_file_without_a_project_is_asked_by_its_name(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    alone = tmp_path / "handed on.duckdb"
    alone.write_bytes(project.public.read_bytes())

    def of(path: Path, *arguments: str) -> Result:
        return CliRunner().invoke(query_command, [*arguments, "--database", str(path)])

    wanted = invoked(project, query_command, "FROM budget").stdout
    assert of(alone, "FROM budget").stdout == wanted
    assert "requests" in of(alone, "--describe").stdout
    assert of(tmp_path / "none.duckdb", "FROM budget").exit_code == 2
    other = tmp_path / "other.txt"
    other.write_text("no database")
    refusal = of(other, "FROM budget")
    assert refusal.exit_code == 1
    assert isinstance(refusal.exception, QueryError)
    assert (refusal.exception.remedy, other.exists()) == ("Name another file", True)


def test_a_query_that_would_write_a_file_is_told_how_to_keep_the_answer(project: Project) -> None:
    said = refused(project, query_command, "COPY budget TO 'budget.csv'")
    assert "a query reads this file alone and writes none" in said
    assert "--format csv > FILE.csv" in said


def test_a_column_as_an_argument_is_refused_in_plain_words(project: Project) -> None:
    said = refused(project, query_command, "FROM budget b, LATERAL (FROM series(b.statistic)) s")
    assert "an argument of a macro is a value, and no column of another table" in said


# Any terminal


@pytest.mark.parametrize("encoding, shown", [("ascii", "??"), ("latin-1", "é?"), ("utf-8", "é→")])
@pytest.mark.parametrize("form", ["csv", "table", "json"])
def test_a_symbol_that_the_output_cannot_write_is_replaced(
    project: Project, encoding: str, shown: str, form: str
) -> None:
    answer = project.quietcount(
        "query", SYMBOLS, "--format", form, encoding=encoding, environment={"PYTHONIOENCODING": encoding}
    ).done()
    if form == "json":
        assert json.loads(answer.out) == [{"symbols": "é→", "n": 1}]
    else:
        assert shown in answer.out


# Stopping


def stopped(project: Project, sql: str, temporary: Path) -> Finished:
    """Interrupt a query that is being worked on, and return how it ended within five seconds."""
    # Python's own variable lets the process be started truly, so that it looks at the other one.
    process = project.start("query", sql, environment={"TMPDIR": str(temporary), "PYTHONIOENCODING": "utf-8"})
    deadline = time.monotonic() + 60
    while threads(process) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    since = time.monotonic()
    finished = ended(process)
    assert time.monotonic() - since < 5
    return finished


def threads(process: subprocess.Popen[str]) -> int:
    return len(list(Path(f"/proc/{process.pid}/task").iterdir()))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM range(10000000) a, range(100000) b",
        "FROM range(100000000)",
        "SELECT length(repeat('a', 2000000000))",  # which DuckDB does not interrupt
    ],
)
def test_a_long_query_is_stopped_at_once(project: Project, tmp_path: Path, sql: str) -> None:
    assert stopped(project, sql, tmp_path) == Finished(130, "", "Stopped.\n")


def test_a_query_of_a_held_file_that_is_stopped_leaves_no_copy(project: Project, tmp_path: Path) -> None:
    with holding(project.public):
        sql = "SELECT count(*) FROM range(10000000) a, range(100000) b"
        assert stopped(project, sql, tmp_path) == Finished(130, "", "Stopped.\n")
    assert list(tmp_path.iterdir()) == []
