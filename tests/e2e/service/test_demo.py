"""The demo, as a newcomer runs it."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.projects import Project
from tests.readers.programs import older_duckdb
from tests.unit.docs.test_readme import demo_block, shown

from quietcount_consumers.demo import demonstration as demo_module
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.queries import query
from quietcount_schemas.configuration import KEYS

pytestmark = [pytest.mark.check, pytest.mark.xdist_group("demo")]  # they share one run of it

# What was published, by hand: the demo's own copy must not decide what is right.
PUBLISHED = [54, 251, 184, 218, 175, 305, 577, 89, 1000, 22000, 4121, 3470, 200, 40]
# Figures of which no two tell of the same cell, and whose synthetic counts are the published ones.
APART = {
    "requests for help to desert",
    "unauthorised-abandonment cases sent to military courts since mobilisation",
    "of these sentenced",
    "prisoners of war captured in August",
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder in which `quietcount demo --json` ran, and its answer."""
    place = tmp_path_factory.mktemp("demo")
    project = Project(place, create=False)
    finished = project.quietcount("demo", "--json").done()
    answer: dict[str, Any] = json.loads(finished.out)
    return place, answer


@pytest.mark.quick
@pytest.mark.promise("demo")
def test_the_json_has_an_answer_to_each_published_figure(demo: tuple[Path, dict[str, Any]], root: Path) -> None:
    place, answer = demo
    assert set(answer) == {"statistics_db", "lifetime_epsilon", "figures"}
    assert Path(place, answer["statistics_db"]).is_file()
    assert answer["lifetime_epsilon"] == 2.5
    figures = answer["figures"]
    assert [figure["published"] for figure in figures] == PUBLISHED
    for figure in figures:
        assert set(figure) == {
            *("source", "statistic", "published", "estimate", "lower", "upper"),
            *("period_start", "period_end", "answered_start", "answered_end"),
        }
        assert figure["lower"] <= figure["estimate"] <= figure["upper"]
    packaged = root / "consumers" / "quietcount_consumers" / "demo" / "published_figures.csv"
    with packaged.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["source"], row["statistic"], int(row["value"])) for row in rows] == [
        (figure["source"], figure["statistic"], figure["published"]) for figure in figures
    ]


def test_the_change_in_percent_is_told_to_six_points(demo: tuple[Path, dict[str, Any]]) -> None:
    (change,) = [figure for figure in demo[1]["figures"] if "percent" in figure["statistic"]]
    assert change["published"] == 89
    # The width follows from the two noisy sums; it passes 12 points only if the earlier sum is estimated some 45 too
    # low, which is 13 standard deviations: less than once in 10^10 runs.
    assert change["upper"] - change["lower"] <= 12


@pytest.mark.quick
@pytest.mark.promise("figures")
def test_the_answers_are_near_the_published_figures(demo: tuple[Path, dict[str, Any]]) -> None:
    """False alarms: below 2e-7 of runs.

    Asked is not the 95 % interval, which must miss now and then, but six times its width. With t = margin + 1, the
    noise is at least t with a probability of 0.05 at most, and its tail falls at least as fast as an exponential one:
    it is 6 t or more with at most 0.05 ** 6 < 1.6e-8. Eight figures are asked.
    """
    apart = [figure for figure in demo[1]["figures"] if figure["statistic"] in APART]
    assert len(apart) == 8
    for figure in apart:
        assert near(figure["published"], figure["estimate"], figure["lower"], figure["upper"]), figure


def near(published: float, shown: float, lower: float, upper: float) -> bool:
    """Return whether a value lies within six times the interval's width."""
    return shown - 6 * (shown - lower + 1) <= published <= shown + 6 * (upper - shown + 1)


def questions(page: str) -> list[tuple[str, str, str]]:
    """The rows of the page's table: the question, what was published, the line of SQL."""
    table = page.partition("| question | published | one line |\n| --- | --- | --- |\n")[2].partition("\n\n")[0]
    return [
        (q, value, sql.replace("\\|", "|"))
        for q, value, sql in re.findall(r"^\| (.+?) \| (.*?) \| `(.+)` \|$", table, re.MULTILINE)
    ]


@pytest.mark.quick
@pytest.mark.promise("figures")
def test_each_question_of_the_page_is_answered_by_its_line(demo: tuple[Path, dict[str, Any]], root: Path) -> None:
    """False alarms: below 3e-7 of runs, as above; sixteen lines are held against what was published.

    Where the published value is a bound, the synthetic count is not far from it.
    """
    place, answer = demo
    asked = questions((root / "docs" / "querying.md").read_text(encoding="utf-8"))
    assert len(asked) > 20
    published = [int(re.sub(r"\D", "", value.replace("one in five", "20"))) for _, value, _ in asked if value]
    assert sorted(published) == sorted([*PUBLISHED, 20])
    held = 0
    for question, value, sql in asked:
        _, found = query(Path(place, answer["statistics_db"]), sql)
        assert found, question
        if value:
            told = [float(each) for each in found[0]]
            assert len(told) == 3
            wanted = float(re.sub(r"\D", "", value.replace("one in five", "20")))
            if "more than" in value:
                wanted = max(wanted, 6 * told[1] - 5 * told[0]) if told[0] > wanted else wanted
            assert near(wanted, *told), (question, told)
            held += 1
    assert held == 15


OLDER = """
import json, sys
import duckdb
path, lines = json.load(sys.stdin)
answers = []
for under in (None, "another name"):
    connection = duckdb.connect(":memory:" if under else path, read_only=not under)
    connection.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false")
    connection.execute("SET enable_progress_bar = false")  # a slow machine would write it to stdout
    if under:
        connection.execute(f"ATTACH '{path}' AS \\"{under}\\" (READ_ONLY)")
    for line in lines:
        if under:
            line = line.replace("FROM ", f'FROM "{under}".', 1).replace("')", f"', db := '{under}')", 1)
        answers.append([[str(value) for value in row] for row in connection.execute(line).fetchall()])
print(json.dumps([duckdb.__version__, answers]))
"""


@pytest.mark.promise("public-file")
@pytest.mark.parametrize(
    "version", ["1.2.0", *(pytest.param(each, marks=pytest.mark.soak) for each in ("1.3.2", "1.4.0", "2.0.0"))]
)
def test_each_line_of_the_page_has_the_same_answer_in_every_duckdb_from_1_2_on(
    demo: tuple[Path, dict[str, Any]], root: Path, version: str
) -> None:
    """No extension is loaded, and the file is opened and attached under another name."""
    place, answer = demo
    public = str(Path(place, answer["statistics_db"]))
    lines = [sql for *_, sql in questions((root / "docs" / "querying.md").read_text(encoding="utf-8"))]
    asked = subprocess.run(
        [sys.executable, "-c", OLDER],
        input=json.dumps([public, lines]),
        env={**os.environ, "PYTHONPATH": str(older_duckdb(version))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    used, answers = json.loads(asked.stdout)
    assert used == version
    expected = [[[str(value) for value in row] for row in query(Path(public), line)[1]] for line in lines]
    for line, wanted, opened, attached in zip(
        lines, expected, answers[: len(lines)], answers[len(lines) :], strict=True
    ):
        assert opened == wanted, line
        assert attached == wanted, line


def unfigured(line: str) -> str:
    """The line without what is drawn: bars, blanks, and which digits they are."""
    return re.sub(r"\d+", "0", re.sub(r"[█├─┤\s]+", " ", line))


def test_the_demo_leaves_nothing_outside_its_folder_and_replaces_an_earlier_run(
    demo: tuple[Path, dict[str, Any]], root: Path, tmp_path: Path
) -> None:
    place, _ = demo
    assert [path.name for path in place.iterdir()] == ["quietcount-demo"]
    folder = place / "quietcount-demo"
    before = (folder / "secrets" / "pepper").read_bytes()
    (folder / "left over").write_text("by an earlier run")
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "TMPDIR": str(home), "COLUMNS": "100"}
    finished = Project(place, create=False).quietcount("demo", environment=environment).done()
    assert (folder / "secrets" / "pepper").read_bytes() != before
    assert not (folder / "left over").exists()
    assert [path.name for path in place.iterdir()] == ["quietcount-demo"]
    assert list(home.iterdir()) == []
    page = finished.out
    for part in (
        "95 % interval", "+89 %", "> 22000", "├", "Nov 2023", "lifetime epsilon", "2.5", "stays under epsilon",
        "Try next", "statistics.duckdb", "split 125 and 126", "requests_by_kind",
    ):  # fmt: skip
        assert part in page
    assert "\x1b" not in page  # no colours in a pipe
    told = demo_block((root / "README.md").read_text(encoding="utf-8"))
    assert {(row.name, row.published) for row in shown(told)} < {(row.name, row.published) for row in shown(page)}
    assert {unfigured(line) for line in told.splitlines()} - {unfigured(line) for line in page.splitlines()} <= {
        "...",
        *(
            unfigured(line) for line in told.partition("\n\n")[2].partition("\n\n")[0].splitlines()
        ),  # it may break elsewhere
    }
    assert max(map(len, (line for line in page.splitlines() if "quietcount" not in line))) <= 120


def test_the_demo_refuses_a_folder_that_is_not_a_demos(tmp_path: Path) -> None:
    project = Project(tmp_path, create=False)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("years of work")
    message = project.quietcount("demo", "--dir", "theirs").refusal()
    assert "--dir" in message
    assert [path.name for path in theirs.iterdir()] == ["thesis.txt"]
    (tmp_path / "file").write_text("")
    assert project.quietcount("demo", "--dir", "file").code == 2


def test_the_demo_obeys_no_variable_of_a_real_project(tmp_path: Path) -> None:
    """Whoever has a project in the environment must not find the demo's events in its log."""
    real = Project(tmp_path / "real")
    real.emit([{"event": "HelpRequested", "case": "real", "occurred_on": "2023-05-01", "help_kind": "DESERTION",
                "service_category": "MOBILISED"}])  # fmt: skip
    real.run_here("2023-06-08")
    before = {path: path.read_bytes() for path in real.folder.rglob("*") if path.is_file()}
    values = {
        "LOG": "kafka://nowhere:9092",
        "DATA_DIR": str(real.data),
        "LIFETIME_EPSILON": "100",
        "GRACE": "366d",
        "TICK": "1d",
        "SCHEMAS": "[]",
        "POPULATION": "[]",
        "EMITTER": json.dumps({"pepper_file": str(real.folder / "secrets" / "pepper")}),
        "EMITTER__PEPPER_FILE": str(real.folder / "secrets" / "pepper"),
        "SERVICE": json.dumps({"secret_file": str(real.folder / "secrets" / "service")}),
        "SERVICE__SECRET_FILE": str(real.folder / "secrets" / "service"),
        "SERVICE__LOG_FORMAT": "json",
        "EMITTER__SPOOL": str(real.folder / "spool"),
        "EMITTER__ALLOW_IDENTIFIERS": '["placeholder"]',
        "RECEIVE": json.dumps({"listen": "nowhere"}),
        "KAFKA": json.dumps({"topic_prefix": "real."}),
        "SCHEMA_REGISTRY": json.dumps({"url": "https://nowhere:8081"}),
        "METRICS": json.dumps({"listen": "nowhere"}),
        "PUBLICATION": json.dumps({"publisher": "somebody else"}),
        "WITNESSES": json.dumps({"require": 1}),
        "CONFIG": str(real.config),
        "NO_SUCH_KEY": "1",
    }
    shared = ("kafka", "schema_registry", "metrics", "publication", "witnesses")
    values |= {f"{section}__{key}".upper(): "nothing" for section in shared for key in KEYS[section]}
    known = {key.upper() for key in KEYS[""]} | {
        f"{section}__{key}".upper() for section in ("emitter", "service", *shared) for key in KEYS[section]
    }
    assert known <= set(values), "a key is new: give it a value here"
    environment = {f"QUIETCOUNT_{name}": value for name, value in values.items()}
    finished = Project(tmp_path / "place", create=False)
    finished.folder.mkdir()
    answer = json.loads(finished.quietcount("demo", "--json", environment=environment).done().out)
    assert answer["lifetime_epsilon"] == 2.5
    assert Path(finished.folder, answer["statistics_db"]) == finished.folder / "quietcount-demo/data/statistics.duckdb"
    assert {path: path.read_bytes() for path in real.folder.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place", "real"]


def test_the_demo_emits_nothing_before_the_service_could_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ServiceError("no service today")

    monkeypatch.setattr(demo_module, "open_service", refuse)
    with pytest.raises(ServiceError, match="no service today"):
        demo_module.run_demo(tmp_path / "demo", as_json=True)
    assert list((tmp_path / "demo").rglob("log.sqlite")) == []
