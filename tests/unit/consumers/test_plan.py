"""The command plan: what it says, what it refuses, and that nothing of a file leaves."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests import forking
from tests.catalogues import catalogue, statistic
from tests.e2e.projects import BEFORE_ANY_RELEASE, Project, simulated

from quietcount_aggregates.planning.volume import Volume
from quietcount_consumers.commands.plan import plan_command
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.planning.event_counts import EventCounts
from quietcount_consumers.planning.words import rounded, shown
from quietcount_consumers.project import configuration_text
from quietcount_producers.files.event_files import FileFormat
from quietcount_producers.settings import EmitterSettings
from quietcount_producers.simulation import encoded
from quietcount_schemas.errors import QuietcountError

pytestmark = pytest.mark.quick

NAME = "Ivan Ivanovich"
ONE = catalogue(
    statistic("requests_by_kind", "HelpRequested", by="help_kind", epsilon=0.7, since=None), lifetime_epsilon=1
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the starting catalogue and nothing else: no secret, no ledger."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quietcount.toml").write_text(configuration_text(), encoding="utf-8")
    return tmp_path


@pytest.fixture
def small(folder: Path) -> Path:
    """The same with one population of one table, whose plan is quick."""
    (folder / "quietcount.toml").write_text(ONE, encoding="utf-8")
    return folder


def cases(folder: Path, lines: Sequence[Mapping[str, object]], name: str = "cases.jsonl") -> Path:
    path = folder / name
    path.write_bytes(b"".join(map(encoded, lines)))
    return path


def asked(case: str, day: str = "2023-01-01", kind: str = "DESERTION") -> dict[str, object]:
    return {"event": "HelpRequested", "case": case, "occurred_on": day, "help_kind": kind}


def plan(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(plan_command, list(arguments), input=stdin)


def done(*arguments: str, stdin: bytes | None = None) -> Result:
    result = plan(*arguments, stdin=stdin)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def refusal(*arguments: str, stdin: bytes | None = None) -> str:
    result = plan(*arguments, stdin=stdin)
    assert isinstance(result.exception, QuietcountError), result.output
    assert result.exception.remedy
    return f"{result.exception} | {result.output}"


# What it says


@pytest.mark.promise("planned")
def test_the_margins_alone_need_neither_a_volume_nor_a_secret_nor_a_ledger(folder: Path) -> None:
    rows = json.loads(done("--format", "json").stdout)
    cell = next(each for each in rows if each["table"] == "requests_by_kind" and each["figure"] == "cell")
    assert (cell["period"], cell["margin"], cell["margin_alone"], cell["size"]) == ("month", 4.1, 4, None)
    assert {each["population"] for each in rows} >= {"requests", "courts", "outcomes"}
    assert [path.name for path in folder.iterdir()] == ["quietcount.toml"]


def test_with_a_volume_each_figure_has_a_size_and_a_verdict(folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(done("--events", "requests=3600", "--format", "csv").stdout)))
    of_kind = {(row["figure"], row["period"]): row for row in rows if row["table"] == "requests_by_kind"}
    assert of_kind["cell", "month"]["size"] == "50"
    assert of_kind["all", "year"]["size"] == "3600"
    assert of_kind["cell", "month"]["reliability"] == "good"
    assert of_kind["share of symbol", "quarter"]["size"] == "17"
    assert of_kind["change of cell", "quarter"]["unit"] == "percent"
    assert {row["size"] for row in rows if row["population"] == "courts"} == {""}


def test_a_person_reads_what_to_change_first_and_what_is_left(folder: Path) -> None:
    said = done("--events", "300", "--format", "table").stdout
    assert "requests_by_kind (epsilon 0.7)" in said
    assert "one cell, a month" in said
    flat = " ".join(said.split())
    assert "requests_by_kind: one cell of a month would be 4.2 ±4.1. By quarter it would be 12 ±4.1." in flat
    assert "The catalogue spends epsilon 2.5 of 2.5 (lifetime_epsilon), and nothing is left." in flat


def test_a_catalogue_that_spends_too_much_is_planned_and_found_wrong(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIETCOUNT_LIFETIME_EPSILON", "2")
    said = refusal("--format", "table")
    assert "spends more than lifetime_epsilon" in said
    assert "0.5 too much" in said
    assert "court_cases" in said


def test_the_other_way_round_a_margin_has_its_epsilon(folder: Path) -> None:
    result = done("--margin", "requests_by_kind=3", "--format", "table")
    assert "requests_by_kind: epsilon 0.977 gives one cell of a month a margin of ±3. Now it is 0.7" in result.stdout
    assert "which is 0.277 too much: it cannot be declared" in result.stdout
    (row,) = json.loads(done("--margin", "court_cases=5", "--format", "json").stdout)
    assert (row["table"], row["margin_wanted"], row["epsilon_now"]) == ("court_cases", 5, 0.4)
    assert 0.5 < row["epsilon_needed"] < 0.7


def test_sizes_are_rounded_to_two_digits() -> None:
    assert [rounded(each) for each in (None, 1e-6, 7.96, 27.8, 1234, 0.3333)] == [None, 0, 8, 28, 1200, 0.33]
    assert [shown(each) for each in (None, 0, 17_349, 0.016)] == ["", "0", "17 000", "0.016"]


# From a file


def test_a_file_says_what_the_limit_leaves_uncounted(small: Path) -> None:
    lines = [asked(f"case {n}", f"2023-{month:02}-01") for n in range(20) for month in (1, 2, 3)]
    lines += [asked(f"once {n}") for n in range(20)]
    cases(small, lines)
    said = " ".join(done("cases.jsonl", "--format", "table").stdout.split())
    # 80 events of 40 cases: the first of each counts.
    assert "With max_contributions = 1, 50 % of the events of requests_by_kind are not counted" in said
    assert "2 leaves 25 % out, 3 leaves none out" in said


def test_a_file_says_which_cells_are_smaller_than_their_margin(small: Path) -> None:
    cases(small, [asked(f"case {n}", f"2023-{1 + n % 3:02}-01") for n in range(90)])
    rows = json.loads(done("cases.jsonl", "--format", "json").stdout)
    cell = next(each for each in rows if each["table"] == "requests_by_kind" and each["figure"] == "cell")
    assert cell["below_margin_percent"] == 83  # five kinds of six are empty
    assert cell["size"] == 5


def test_events_before_a_population_begins_are_told(folder: Path) -> None:
    text = configuration_text().replace("# since = 2022-09-01", "since = 2023-02-01")
    (folder / "quietcount.toml").write_text(text, encoding="utf-8")
    cases(folder, [asked("a"), asked("b", "2023-02-01"), asked("c", "2023-03-01"), asked("d", "2023-03-01")])
    said = " ".join(done("cases.jsonl", "--format", "table").stdout.split())
    assert "25 % of its events are dated before 2023-02-01, where it begins, and count nowhere." in said
    cases(folder, [asked("a")])
    assert "no population of quietcount.toml counts any of its events" in refusal("cases.jsonl")


MAPPING = """
case = "Кто"
[[event]]
event = "HelpRequested"
occurred_on = { column = "Когда", format = "day.month.year" }
fields.help_kind = { column = "Что", values = { "уйти" = "DESERTION" } }
[file]
encoding = "windows-1251"
"""


def test_csv_the_standard_input_and_a_mapped_export_are_read_as_well(small: Path) -> None:
    text = "event,case,occurred_on,help_kind\n" + "HelpRequested,x,2023-01-01,DESERTION\n" * 2
    (small / "cases.csv").write_text(text, encoding="utf-8")
    first = done("cases.csv", "--format", "json").stdout
    assert json.loads(first)
    lines = encoded(asked("x")) * 2
    assert done("-", "--format", "json", stdin=lines).stdout == first
    # The same file twice counts once, as it does in the log.
    assert done("cases.csv", "cases.csv", "--format", "json").stdout == first
    # A person with an export has no table with a column `event`: a mapping makes its events.
    (small / "export.csv").write_bytes("Кто;Когда;Что\nx;1.1.2023;уйти\nx;1.1.2023;уйти\n".encode("cp1251"))
    (small / "mapping.toml").write_text(MAPPING, encoding="utf-8")
    assert done("export.csv", "--mapping", "mapping.toml", "--format", "json").stdout == first


LIMITED = [
    catalogue(statistic("requests", "HelpRequested", by="help_kind", max_contributions=2)),
    catalogue(statistic("requests", ["HelpRequested", "OutcomeRecorded"], horizon="year", since="2023-03-01")),
    catalogue(statistic("court_cases", "CourtCaseFiled", by="charge"), statistic("requests", "HelpRequested")),
]


@pytest.mark.parametrize("number", range(len(LIMITED)))
def test_a_file_is_counted_as_the_fold_counts_what_was_emitted_of_it(tmp_path: Path, number: int) -> None:
    """Duplicates, corrections, withdrawals and the limit: the exact counts of both are the same."""
    project = Project(tmp_path / "project", LIMITED[number])
    lines = simulated(400, seed=3)
    project.emit(lines)
    project.run_here(BEFORE_ANY_RELEASE)
    exact = project.open_cells()
    assert exact
    volumes = volumes_of(project.configuration, tmp_path / "project" / "cases.jsonl")
    for name in {table for table, _, _ in exact}:
        of_table = {start: value for (table, start, _), value in exact.items() if table == name}
        whole = Counter(value for (table, _, _), value in exact.items() if table == name)
        assert of_table
        assert {size: n for size, n in volumes[name].cells[name].items() if size} == whole


def test_a_file_that_is_counted_without_a_limit_is_caught(tmp_path: Path) -> None:
    lines = simulated(400, seed=3)
    project = Project(tmp_path / "project", LIMITED[0])
    project.emit(lines)
    project.run_here(BEFORE_ANY_RELEASE)
    whole = Counter(project.open_cells().values())
    unlimited = LIMITED[0].replace("max_contributions = 2", "max_contributions = 9")
    project.config.write_text(unlimited, encoding="utf-8")
    found = volumes_of(project.configuration, project.folder / "cases.jsonl")["requests"].cells["requests"]
    assert {size: n for size, n in found.items() if size} != whole


def volumes_of(configuration: Configuration, file: Path) -> dict[str, Volume]:
    registry = configuration.registry()
    counts = EventCounts(registry, EmitterSettings.load(file.with_name("quietcount.toml")).precision)
    with file.open("rb") as stream:
        assert not counts.read(stream, "cases.jsonl", FileFormat.JSONL).problems
    found = {each.name: counts.of(each) for each in configuration.populations(registry)}
    return {str(name): each.volume for name, each in found.items() if each is not None}


# What it refuses


@pytest.mark.promise("clear-errors")
@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--margin", "nonsense=3"], "there is no table 'nonsense' that counts"),
        (["--events", "nonsense=3"], "there is no population 'nonsense'"),
        (["missing.csv"], "Cannot read missing.csv: no such file or directory"),
        (["empty.csv"], "empty.csv has no header"),
        (["empty.jsonl"], "empty.jsonl: holds no event that can be emitted"),
        (["unknown.csv"], "column 4 is not a field of any event type"),
        (["others.jsonl"], "no population of quietcount.toml counts any of its events"),
        (["table.ods"], "is a spreadsheet"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_remedy(folder: Path, arguments: list[str], said: str) -> None:
    (folder / "empty.csv").touch()
    (folder / "empty.jsonl").touch()
    (folder / "table.ods").touch()
    (folder / "unknown.csv").write_text(f"event,case,occurred_on,kind\nHelpRequested,{NAME},2023-01-01,X\n")
    other = {"event": "SentencePassed", "case": NAME, "occurred_on": "2023-01-01", "charge": "OTHER"}
    cases(folder, [other], "others.jsonl")
    found = refusal(*arguments)
    assert said in found
    assert NAME not in found


def test_a_margin_out_of_reach_is_refused_with_the_one_that_can_be_had(folder: Path) -> None:
    text = configuration_text().replace('period = "quarter"\n#', 'period = "quarter"\nmax_contributions = 60\n#')
    (folder / "quietcount.toml").write_text(text, encoding="utf-8")
    assert "no epsilon that a catalogue may have gives outcomes a margin of ±1. Ask for ±" in refusal(
        "--margin", "outcomes=1"
    )


def test_a_configuration_without_a_population_is_refused(folder: Path) -> None:
    (folder / "quietcount.toml").write_text("lifetime_epsilon = 1\n", encoding="utf-8")
    assert "there is no [[population]] to plan" in refusal()


@pytest.mark.parametrize(
    "arguments",
    [
        ["cases.jsonl", "--events", "5"],
        ["--events", "5", "--margin", "court_cases=5"],
        ["--events", "0"],
        ["--events", "many"],
        ["--margin", "5"],
        ["--margin", "court_cases=-5"],
        ["--events", "5", "--events", "6"],
        ["--margin", "court_cases=5", "--margin", "court_cases=6"],
        ["--events", "5", "--mapping", "mapping.toml"],
    ],
)
def test_wrong_usage_exits_with_2(folder: Path, arguments: list[str]) -> None:
    assert plan(*arguments).exit_code == 2


# Nothing of a file leaves


WATCHED = """
import json, os, sys

opened = []

def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and arguments[2] is not None:
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and "__pycache__" not in arguments[0]:
            opened.append(arguments[0])
    elif event in ("socket.connect", "subprocess.Popen", "os.system"):
        opened.append(event)

sys.addaudithook(watch)
from quietcount_schemas.cli import main
try:
    main()
finally:
    sys.stderr.write("\\nopened: " + json.dumps(opened) + "\\n")
"""


@pytest.mark.promise("no-exact-count", "pseudonyms")
@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_nothing_is_written_and_no_identifier_is_told_even_of_bad_lines(small: Path, form: str) -> None:
    lines = [asked(f"{NAME} {n}", f"2023-{1 + n % 12:02}-01") for n in range(977)]
    bad: list[dict[str, object]] = [
        {"event": NAME, "case": NAME, "occurred_on": NAME},
        {**asked(NAME), NAME: NAME, "help_kind": NAME},
    ]
    file = cases(small, [*lines, *bad])
    with file.open("ab") as stream:
        stream.write(f'"{NAME}\n{NAME}, \xff\n'.encode("latin-1"))
    (small / "tmp").mkdir()
    before = sorted(str(path) for path in small.rglob("*"))
    process = forking.Popen(
        [sys.executable, "-c", WATCHED, "plan", "cases.jsonl", "--format", form],
        cwd=small,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "TMPDIR": str(small / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    told, _, opened = err.partition("\nopened: ")
    assert json.loads(opened) == []
    assert sorted(str(path) for path in small.rglob("*")) == before
    assert "Ivan" not in out + told
    assert "977" not in out + told
    assert "The plan leaves these lines of cases.jsonl out." in told
    assert "cases.jsonl line 978: " in told
