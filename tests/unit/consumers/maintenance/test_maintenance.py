"""Looking at a ledger, at what is due and at the public file, through the commands."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from tests.commanded import contents, digest, invoked, refused
from tests.e2e.projects import Project

from quietcount_consumers.commands.ledger import ledger_command
from quietcount_consumers.commands.readers.query import query_command
from quietcount_consumers.commands.service import release_command, run_command
from quietcount_consumers.terminal.presentation import Format

pytestmark = pytest.mark.quick


def test_a_dry_run_says_what_a_release_does_and_touches_nothing(project: Project) -> None:
    when = ("--as-of", "2023-04-08", "--format", "json")
    first = contents(project)
    foretold = json.loads(invoked(project, release_command, *when, "--dry-run").stdout)
    assert contents(project) == first  # not even a ledger or a state comes into being
    released = json.loads(invoked(project, release_command, *when).stdout)
    assert released == foretold
    assert [list(row) for row in released] == [["population", "statistic", "period_start", "period_end"]] * 6
    assert [row["period_start"] for row in released] == ["2023-01-01", "2023-02-01", "2023-03-01"] * 2
    before = contents(project)
    more = json.loads(
        invoked(project, release_command, "--as-of", "2023-05-08", "--format", "json", "--dry-run").stdout
    )
    assert [row["period_start"] for row in more] == ["2023-04-01"] * 2
    assert json.loads(invoked(project, release_command, *when, "--dry-run").stdout) == []
    assert contents(project) == before


@pytest.mark.parametrize("form", ["csv", "json", "table"])
def test_the_ledger_is_shown_entry_by_entry(released: Project, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    shown = invoked(released, ledger_command, "show", "--format", form).stdout
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(shown)))
    elif form == "json":
        rows = json.loads(shown)
    else:
        assert shown.split()[:5] == ["index", "day", "kind", "name", "what"]
        assert len(shown.splitlines()) == 7
        return
    kinds = ["opened", "declared", "declared", "described", "settled", "released", "released"]
    assert [row["kind"] for row in rows] == kinds
    assert [int(row["index"]) for row in rows] == list(range(7))
    assert rows[1]["what"] == "epsilon 20 spent, released as requests by month"
    assert {row["recorded_at"] for row in rows} == {"2023-02-08T00:00:00Z"}
    assert [row["population"] or "" for row in rows] == [
        "",
        "requests",
        "court_cases",
        "",
        "",
        "court_cases",
        "requests",
    ]
    assert [row["statistic"] or "" for row in rows] == ["", "", "", "", "", "court_cases", "requests"]
    assert rows[3]["what"] == "what is said of the figures"
    assert rows[4]["what"] == "a commitment to where in the log that was"
    assert rows[5]["period_start"] == "2023-01-01"
    assert len({row["digest"] for row in rows}) == 7


def test_a_table_has_one_line_for_the_releases_of_a_table_in_a_row(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for day in ("2023-02-08", "2023-04-08", "2023-05-08"):  # which interleaves the two tables
        invoked(project, release_command, "--as-of", day)
    invoked(project, ledger_command, "retire", "court_cases", "--yes")
    shown = invoked(project, ledger_command, "show", "--format", "table").stdout.splitlines()
    entries = json.loads(invoked(project, ledger_command, "show", "--format", "json").stdout)
    assert len(entries) == 4 + (3 + 8) + 1, "each act of releasing is settled once"
    assert [line.split()[2:] for line in shown[1:]] == [
        ["opened", "lifetime", "epsilon", "100"],
        ["declared", "requests", "epsilon", "20", "by", "month"],
        ["declared", "court_cases", "epsilon", "20", "by", "month"],
        ["described", "what", "is", "said", "of", "the", "figures"],
        ["released", "court_cases", "2023-01-01..2023-04-30", "(4)"],
        ["released", "requests", "2023-01-01..2023-04-30", "(4)"],
        ["retired", "court_cases", "not", "released", "any", "more"],
    ]
    assert [int(line.split()[0]) for line in shown[1:]] == [0, 1, 2, 3, 5, 6, 15]
    assert max(map(len, shown)) <= 80


def test_the_ledger_says_what_is_spent_and_what_is_left(released: Project, tmp_path: Path) -> None:
    project = released.copy(tmp_path / "project")
    invoked(project, ledger_command, "retire", "court_cases", "--yes")
    for form in Format:
        said = invoked(project, ledger_command, "show", "--format", form.value).stderr
        assert said.splitlines()[:2] == [
            "Spent when declared, for all releases together: requests 20, court_cases 20 (retired).",
            "Left for populations that are declared later: epsilon 60 of 100.",
        ]
        assert "stays under epsilon 100;" in said.splitlines()[2]


def check_that_no_earlier_moment_is_taken(project: Project) -> None:
    """Ask for what lies before the newest release: in every command that opens the service, and with nothing left."""

    def held() -> tuple[str, str]:
        return invoked(project, ledger_command, "show", "--format", "json").stdout, digest(project.public)

    before = held()
    for command, more in ((run_command, ["--until-idle"]), (run_command, []), (release_command, [])):
        said = refused(project, command, "--as-of", "2023-02-07T23:59:59", *more)
        assert "--as-of lies before 2023-02-08T00:00:00Z, the time of the newest declaration or release" in said
        assert "Nothing was changed. Give that time or a later one" in said
        assert held() == before


def test_a_moment_before_the_newest_release_is_refused(
    released: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIETCOUNT_METRICS__LISTEN", "off")
    project = released.copy(tmp_path / "project")
    check_that_no_earlier_moment_is_taken(project)
    invoked(project, run_command, "--as-of", "2023-02-08", "--until-idle")
    # What a command records has the time of the real clock, and history goes on.
    invoked(project, ledger_command, "retire", "court_cases", "--yes")
    assert "'court_cases' was retired" in refused(project, run_command, "--as-of", "2023-03-08", "--until-idle")


def test_a_twin_that_takes_any_moment_is_found(
    released: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quietcount_consumers.commands.service.check_not_behind", lambda *_: None)
    with pytest.raises(AssertionError):
        check_that_no_earlier_moment_is_taken(released.copy(tmp_path / "project"))


def test_wide_rows_read_well_at_80_columns(released: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ledger = invoked(released, ledger_command, "show", "--format", "table").stdout.splitlines()
    assert len(ledger) == 7
    assert ledger[5].split() == ["5", "2023-02-08", "released", "court_cases", "2023-01-01..2023-01-31", "(1)"]
    assert all(len(line) <= 80 for line in ledger)
    rows = invoked(released, query_command, "FROM statistics", "--format", "table").stdout.split("\n\n")
    assert len(rows) == len(released.released())
    assert {line.split(":")[0] for line in rows[0].splitlines()} >= {"statistic", "cell", "estimate", "lower", "upper"}


def test_a_public_file_that_was_altered_is_found(released: Project, tmp_path: Path) -> None:
    project = released.copy(tmp_path / "project")
    assert "holds exactly" in invoked(project, ledger_command, "verify").stdout
    with duckdb.connect(str(project.public)) as connection:
        connection.execute("UPDATE statistics SET estimate = estimate + 1 WHERE cell LIKE '%SURRENDER%'")
    message = refused(project, ledger_command, "verify")
    assert "table statistics does not hold what the ledger says" in message
    assert "Delete it" in message
    project.public.unlink()
    invoked(project, run_command, "--until-idle", "--as-of", "2023-02-08")
    assert "holds exactly" in invoked(project, ledger_command, "verify").stdout


SOAK = pytest.mark.soak  # the comparison is that of a file alone: test_verification.py alters each kind of object


@pytest.mark.check
@pytest.mark.parametrize(
    "sql, what",
    [
        ("UPDATE margins SET upper = upper + 1", "table margins"),
        ("DELETE FROM ledger WHERE kind = 'released'", "table ledger"),
        ("DROP VIEW requests", "view requests"),
        ("CREATE OR REPLACE MACRO total(a, b, c, cells := '{}') AS TABLE SELECT 12345 AS estimate", "macro total"),
        ("COMMENT ON COLUMN statistics.estimate IS 'The exact count.'", "column statistics.estimate"),
        pytest.param("UPDATE data_dictionary SET description = 'exact'", "table data_dictionary", marks=SOAK),
        pytest.param("UPDATE about SET value = 'none' WHERE key = 'bound'", "table about", marks=SOAK),
        pytest.param("DELETE FROM budget", "table budget", marks=SOAK),
        pytest.param("CREATE OR REPLACE VIEW requests AS SELECT 12345 AS estimate", "view requests", marks=SOAK),
        pytest.param("DROP MACRO TABLE compare", "macro compare", marks=SOAK),
        pytest.param("CREATE TABLE more AS SELECT 1", "table more", marks=SOAK),
    ],
)
def test_a_public_file_that_was_altered_anywhere_is_found(released: Project, sql: str, what: str) -> None:
    whole = released.public.read_bytes()
    with duckdb.connect(str(released.public)) as connection:
        connection.execute(sql)
    try:
        message = refused(released, ledger_command, "verify")
    finally:
        released.public.write_bytes(whole)
    assert f"{what} does not hold what the ledger says" in message
    assert "Delete it: `quietcount run` brings it back" in message


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000])
def test_a_foreign_file_in_the_place_of_the_public_one_may_be_moved_away(released: Project, content: bytes) -> None:
    whole = released.public.read_bytes()
    released.public.write_bytes(content)
    try:
        for command, argument in ((ledger_command, "verify"), (query_command, "FROM requests")):
            assert "Move it away: `quietcount run` brings it back" in refused(released, command, argument)
    finally:
        released.public.write_bytes(whole)


def test_a_ledger_that_was_altered_is_found(released: Project, tmp_path: Path) -> None:
    project = released.copy(tmp_path / "project")
    with closing(sqlite3.connect(project.private / "ledger.sqlite")) as connection:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute('DELETE FROM entries WHERE "index" = 4')
        connection.execute("DROP TRIGGER entries_are_not_changed")
        entry = bytearray(connection.execute('SELECT entry FROM entries WHERE "index" = 3').fetchone()[0])
        entry[-1] ^= 1
        connection.execute('UPDATE entries SET entry = ? WHERE "index" = 3', (bytes(entry),))
        connection.commit()
    for command, arguments in (
        (ledger_command, ("verify",)),
        (ledger_command, ("show",)),
        (run_command, ("--until-idle", "--as-of", "2023-03-08")),
    ):
        assert "quietcount ledger restore" in refused(project, command, *arguments) or command is ledger_command
        assert "ledger entry" in refused(project, command, *arguments)


def test_what_there_is_not_yet_is_said(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    for arguments in (("show",), ("verify",), ("retire", "requests")):
        assert "quietcount run" in refused(project, ledger_command, *arguments)
    assert "is not there: nothing is published yet" in refused(project, query_command, "SELECT 1")


def test_a_population_that_cannot_be_declared_is_found_in_the_configuration_it_names(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    text = project.config.read_text(encoding="utf-8")
    project.config.write_text(text.replace('by = ["help_kind"]', 'by = ["nothing"]'), encoding="utf-8")
    for command, arguments in (
        (run_command, ("--until-idle", "--as-of", "2023-02-08")),
        (release_command, ("--as-of", "2023-02-08")),
        (release_command, ("--as-of", "2023-02-08", "--dry-run")),
    ):
        message = refused(project, command, *arguments)
        assert message.startswith(f"{project.config}: ")
        assert "population 'requests', table 'requests', key 'by': " in message


def test_no_log_line_says_when_it_was_written(project: Project) -> None:
    lines = invoked(project, run_command, "--until-idle", "--as-of", "2023-03-08").stderr.splitlines()
    assert any('"event": "released"' in line for line in lines)
    today = dt.datetime.now(dt.UTC)
    for line in lines:
        assert "timestamp" not in line
        assert not any(f"{today + dt.timedelta(days=days):%Y-%m-%d}" in line for days in (-1, 0))
        assert line.startswith('{"tick": "2023-03-08T00:00:00+00:00", "level": ')
