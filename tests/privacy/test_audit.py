"""The audit: what it measures of the real code is as declared, and a broken rule shows in the measurement."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient
from tests.catalogues import catalogue, statistic
from tests.e2e.projects import Finished, Project, ended
from tests.kafka.fixtures import Kafka
from tests.serving_world import until

from quietcount_aggregates import noise
from quietcount_aggregates.noise import DiscreteLaplace
from quietcount_aggregates.state.limits import Limits
from quietcount_consumers.auditing import audit as audit_module
from quietcount_consumers.auditing import coverage, lower_bounds, noise_fit, story_distances
from quietcount_consumers.auditing.audit import Audit
from quietcount_consumers.auditing.binomial_bounds import chernoff, clopper_pearson, log_factorials
from quietcount_consumers.auditing.measurement import CHECKS, Measurement
from quietcount_consumers.auditing.page import page_of
from quietcount_consumers.auditing.story_distances import Told
from quietcount_consumers.commands.audit import audit_command
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ConsumersError
from quietcount_consumers.trials.audited import Audited
from quietcount_consumers.trials.deployment import Played
from quietcount_consumers.trials.neighbours import BEGIN, PAIRS, Neighbours
from quietcount_consumers.trials.recorder import Draw, Recorder
from quietcount_consumers.trials.storytelling import case_name

pytestmark = pytest.mark.quick

TINY = catalogue(statistic("courts", "CourtCaseFiled", by="charge", since=None, epsilon=1.0))
"""One population of one table of five cells."""


SPENT = 18
"""A story in which a case comes again after its limit was used up."""


class HalfScale(DiscreteLaplace):
    """A mechanism whose noise is half as wide as it says."""

    def draw(self, exact: Sequence[int], *, scale: float, sensitivity: int, epsilon: float) -> list[int]:
        return [int(value) for value in noise._measurement(len(exact), scale / 2)(list(exact))]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"), TINY)


@pytest.fixture(scope="module")
def audited(project: Project) -> Audited:
    return Audited.of(Configuration.load(project.config, environment={}), seed=11)


def logs(one: Sequence[int], other: Sequence[int]) -> tuple[Played, Played]:
    """What was handed to the noise for two logs: one month of the table."""

    def of(values: Sequence[int]) -> Played:
        draw = Draw(tuple(values), tuple(values), 1.0, 1, 1.0)
        return Played(draws={("courts", dt.date(2041, 1, 1)): draw})

    return of(one), of(other)


def bounds(audited: Audited, one: Sequence[int], other: Sequence[int]) -> dict[str, float]:
    found = lower_bounds._bounds(audited, audited.populations(BEGIN), "late", *logs(one, other))
    return {each.subject: each.found for each in found}


def measured(bound: dict[str, float], audited: Audited) -> list[Measurement]:
    return lower_bounds.judged(audited, [[lower_bounds.Bound("late", name, 1.0, far) for name, far in bound.items()]])


# ---------------------------------------------------------------- the lower bound on epsilon


@pytest.mark.promise("audited")
def test_the_bound_comes_near_to_what_is_declared_and_does_not_pass_it(audited: Audited) -> None:
    """That it passes has probability 1e-6 at most, which is the bound's own; that it falls below 0.7, less than 1e-7:
    see test_noise.py, where as many draws are tested.
    """
    found = bounds(replace(audited, draws=200_000), [5, 0, 0, 0, 0], [4, 0, 0, 0, 0])
    print(found)
    assert 0.7 < found["courts"] <= 1
    assert all(each.holds for each in measured(found, audited))


@pytest.mark.promise("audited")
@pytest.mark.parametrize(
    "one, mechanism",
    [
        pytest.param([5, 0, 0, 0, 0], HalfScale, id="noise of half the scale"),
        pytest.param([6, 0, 0, 0, 0], DiscreteLaplace, id="a case that counts twice"),
        pytest.param([5, 0, 0, 1, 0], DiscreteLaplace, id="a case that counts in two cells"),
    ],
)
def test_the_bound_passes_what_is_declared_if_a_rule_is_broken(
    audited: Audited, one: Sequence[int], mechanism: type[DiscreteLaplace]
) -> None:
    """The loss is 2. The bound of the 10,000 draws that are tested has a mean above 1.7 (deviation below 0.05)."""
    found = bounds(replace(audited, draws=40_000, mechanism=mechanism), one, [4, 0, 0, 0, 0])
    print(found)
    assert found["courts"] > 1
    assert not measured(found, audited)[0].holds


def test_bounds_on_a_probability_are_those_of_the_books() -> None:
    """Clopper and Pearson's for nothing in n and for all are 1 - alpha^(1/n) and alpha^(1/n); Chernoff's are wider."""
    for runs, alpha in ((20, 0.05), (1000, 1e-6)):
        table = log_factorials(runs)
        assert clopper_pearson(0, runs, alpha, table) == pytest.approx((0, 1 - alpha ** (1 / runs)), abs=1e-9)
        assert clopper_pearson(runs, runs, alpha, table) == pytest.approx((alpha ** (1 / runs), 1), abs=1e-9)
    # 10 of 20 at 0.025 on each side: 0.272 to 0.728 in any table of them
    low, high = clopper_pearson(10, 20, 0.025, log_factorials(20))
    assert (round(low, 4), round(high, 4)) == (0.2720, 0.7280)
    hits = np.array([0, 10, 20])
    lower, upper = chernoff(hits, 20, 0.025)
    for number, hit in enumerate(hits.tolist()):
        inner = clopper_pearson(hit, 20, 0.025, log_factorials(20))
        assert lower[number] <= inner[0] + 1e-9
        assert upper[number] >= inner[1] - 1e-9


# ---------------------------------------------------------------- the stories


@pytest.mark.check
@pytest.mark.promise("audited")
def test_a_story_shows_a_case_whose_limit_is_forgotten(
    audited: Audited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other rules are broken in test_audit_mutants.py."""
    real = Limits.extended
    monkeypatch.setattr(Limits, "extended", lambda self, name, year, _, cases: real(self, name, year, None, cases))
    told = story_distances.told(audited, tmp_path, SPENT)
    found = {each.subject: each for each in story_distances.judged(audited, [told])}
    assert found["courts"].measured > 1
    assert not found["courts"].holds


def test_each_way_in_which_a_story_may_differ_is_judged(audited: Audited) -> None:
    right = Told(0, {"courts": 1}, {"courts": 0}, {"courts": 0}, {"courts": 0}, 0, {"courts": 3})
    wrong = {
        "courts": [replace(right, moved={"courts": 2}), replace(right, elsewhere={"courts": 1})],
        "courts: halves": [replace(right, apart={"courts": 1})],
        "courts: margins": [replace(right, disagreeing={"courts": 1})],
        "all tables": [replace(right, altered=1)],
    }
    assert all(each.holds for each in story_distances.judged(audited, [right, right]))
    for subject, stories in wrong.items():
        for told in stories:
            found = story_distances.judged(audited, [right, told])
            assert [each.subject for each in found if not each.holds] == [subject]
            assert all(each.measured > each.declared for each in found if not each.holds)


# ---------------------------------------------------------------- nothing passes that was never met


def test_a_table_that_no_story_met_does_not_hold(audited: Audited) -> None:
    met = Told(0, {"courts": 1}, {"courts": 0}, {"courts": 0}, {"courts": 0}, 0, {"courts": 3})
    nothing = replace(met, moved={"courts": 0}, met={"courts": 0})
    assert all(each.holds and each.shown for each in story_distances.judged(audited, [nothing, met]))
    found = [each for each in story_distances.judged(audited, [nothing]) if not each.holds]
    assert [(each.subject, each.shown) for each in found] == [("courts", False)]


def test_a_table_that_no_pair_of_logs_moves_does_not_hold_and_is_not_left_out(audited: Audited) -> None:
    (found,) = lower_bounds.judged(audited, [[]])
    assert (found.subject, found.measured, found.holds, found.shown) == ("courts", 0, False, False)


def test_intervals_of_too_few_units_are_not_said_to_hold(audited: Audited) -> None:
    """Up to four units, even if all intervals miss, that is likelier than 1e-6 (0.05 ** 4 is 6e-6)."""
    few, enough = ({"cells": coverage.Tally(units, 0.0, units)} for units in (4, 5))
    assert [each.shown for each in coverage.judged(audited, [few])] == [False]
    assert [each.shown for each in coverage.judged(audited, [enough])] == [True]


def test_noise_so_narrow_that_almost_every_draw_is_0_is_measured_too(tmp_path: Path) -> None:
    """There are no classes then: what the mechanism chose is what remains to be looked at. No false alarm: 1e-6."""
    project = Project(tmp_path / "project", TINY.replace("epsilon = 1.0", "epsilon = 10.0"))
    narrow = replace(Audited.of(Configuration.load(project.config, environment={}), seed=1), draws=1000)
    tasks = [part.arguments[0] for part in noise_fit.parts(narrow)]
    drawn = {task: noise_fit.drawn(narrow, tmp_path, task) for task in tasks}
    found = noise_fit.measurements(narrow, drawn)
    assert (found[0].declared, found[0].holds) == (0.1, True)
    assert found[0].measured == pytest.approx(0.1)
    assert [each.subject for each in found if not each.shown] == ["no seed"]
    half = {task: each._replace(scale=0.05) for task, each in drawn.items()}
    assert not noise_fit.measurements(narrow, half)[0].holds


def test_if_no_event_is_in_all_tables_each_of_them_has_a_pair_in_which_the_case_comes(tmp_path: Path) -> None:
    tables = "".join(
        f'[[population.table]]\nname = "{name}"\nepsilon = 0.1\nwhere = {{ charge = ["{charge}"] }}\n'
        for name, charge in (("desertions", "DESERTION"), ("evasions", "EVASION"))
    )
    population = '[[population]]\nname = "courts"\nevents = ["CourtCaseFiled"]\nperiod = "month"\n'
    project = Project(tmp_path / "project", catalogue(population, tables))
    audited = Audited.of(Configuration.load(project.config, environment={}), seed=1)
    neighbours = Neighbours(audited.populations(BEGIN), audited.registry(), audited.grace)
    charges = {
        each.attributes["charge"]
        for name in PAIRS
        for day in neighbours.pair(name)[0]
        for each in day.emissions
        if each.case == case_name(0) and "charge" in each.attributes
    }
    assert charges == {"DESERTION", "EVASION"}


def test_a_recorder_lets_the_real_mechanism_draw() -> None:
    """Fifty draws at scale 50 are all as they were with probability below 1e-99."""
    recorder = Recorder(DiscreteLaplace())
    scale = recorder.scale(cells=50, sensitivity=1, epsilon=0.02)
    drawn = recorder.draw([7] * 50, scale=scale, sensitivity=1, epsilon=0.02)
    assert recorder.draws == [Draw((7,) * 50, tuple(drawn), scale, 1, 0.02)]
    assert drawn != [7] * 50
    assert recorder.name == DiscreteLaplace.name


# ---------------------------------------------------------------- the command


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def audit_of(project: Project, place: Path, *arguments: str) -> Finished:
    """Run the command with a place of its own for temporary files; it leaves that empty."""
    place.mkdir()
    finished = project.quietcount("audit", *arguments, environment={"TMPDIR": str(place)})
    assert list(place.iterdir()) == []
    return finished


@pytest.mark.promise("audited")
def test_the_command_measures_the_catalogue_and_leaves_nothing_behind(project: Project, tmp_path: Path) -> None:
    before = contents(project.folder)
    page = tmp_path / "audit.html"
    finished = audit_of(
        project, tmp_path / "t", "--only", "stories", "--stories", "1", "--seed", "11", "--json", "-o", str(page)
    ).done()
    found = json.loads(finished.out)
    assert set(found) == {"holds", "catalogue", "date", "seed", "stories", "draws", "versions", "measurements"}
    assert (found["holds"], found["catalogue"], found["seed"], found["stories"]) == (True, "quietcount.toml", 11, 1)
    assert set(found["versions"]) == {"quietcount", "duckdb", "opendp", "python"}
    fields = {"check", "subject", "declared", "measured", "confidence", "holds", "detail", "shown"}
    assert all(set(each) == fields for each in found["measurements"])
    subjects = [each["subject"] for each in found["measurements"]]
    assert subjects == ["courts", "courts: halves", "courts: margins", "all tables"]
    assert finished.err.splitlines() == ["All that was measured is as declared (seed 11)."]
    assert contents(project.folder) == before, "it is no matter of the project's own log, ledger and state"
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "All 4 measurements are as declared" in text


def test_what_does_not_hold_is_named_and_exits_1(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Measurement("epsilon", "courts", 1.0, 1.9, 1 - 1e-6, False, "Twice what is declared")
    right = replace(wrong, subject="all populations", measured=0.9, holds=True)
    found = Audit((wrong, right), 3, 1, 1000, dt.date(2026, 11, 30), "quietcount.toml", {"opendp": "0"})
    monkeypatch.setattr(audit_module, "audit", lambda *_, **__: found)
    result = CliRunner().invoke(audit_command, ["--config", str(project.config), "--json"])
    assert isinstance(result.exception, ConsumersError)
    assert "epsilon of courts (seed 3)" in result.exception.what
    assert json.loads(result.stdout)["holds"] is False
    assert "DOES NOT HOLD" in page_of(found)
    assert "1 of 2 measurements do not hold" in page_of(found)
    found = replace(found, measurements=(replace(wrong, measured=0.0, shown=False), right))
    result = CliRunner().invoke(audit_command, ["--config", str(project.config), "--json"])
    assert isinstance(result.exception, ConsumersError)
    assert "nothing is shown of this" in result.exception.what
    assert "epsilon of courts (seed 3)" in result.exception.what
    assert "NOT SHOWN" in page_of(found)


@pytest.mark.parametrize(
    "arguments, code",
    [(["--only", "everything"], 2), (["--stories", "0"], 2), (["--seed", "-1"], 2), (["--log", "http://x"], 2)],
)
def test_a_wrong_option_is_refused_before_anything_is_done(project: Project, arguments: list[str], code: int) -> None:
    result = CliRunner().invoke(audit_command, ["--config", str(project.config), *arguments])
    assert result.exit_code == code


def test_a_configuration_without_a_population_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "quietcount.toml"
    config.write_text(
        "lifetime_epsilon = 1\n[emitter]\npepper_file='p'\n[service]\nsecret_file='s'\n", encoding="utf-8"
    )
    result = CliRunner().invoke(audit_command, ["--config", str(config)])
    assert isinstance(result.exception, ConsumersError)
    assert "no [[population]] to audit" in result.exception.what


def test_without_a_configuration_the_starting_catalogue_is_audited() -> None:
    names = [each.name for each in Audited.starting(1).populations(BEGIN)]
    assert names == ["requests", "courts", "sentences", "captivity", "outcomes"]


def test_the_checks_of_the_command_are_those_of_the_wing() -> None:
    only = next(each for each in audit_command.params if each.name == "only")
    assert tuple(getattr(only.type, "choices", ())) == CHECKS


# ---------------------------------------------------------------- its end


def started(project: Project, place: Path) -> subprocess.Popen[str]:
    """Start an audit, and wait until its processes work in the temporary folder."""
    place.mkdir()
    process = project.start("audit", "--stories", "2", "--draws", "1000", environment={"TMPDIR": str(place)})
    until(lambda: any(place.glob("quietcount-audit-*/*/*")))
    return process


@pytest.mark.check
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGKILL, -9)])
def test_an_audit_that_is_ended_leaves_nothing_behind(
    project: Project, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    place = tmp_path / "t"
    process = started(project, place)
    process.send_signal(number)
    finished = ended(process)
    assert finished.code == code
    assert "Traceback" not in finished.err
    until(lambda: not any(place.iterdir()))


@pytest.mark.check
@pytest.mark.promise("kafka")
def test_on_brokers_the_audit_makes_topics_of_its_own_and_deletes_them(
    project: Project, tmp_path: Path, kafka: Kafka
) -> None:
    arguments = ("--only", "stories", "--stories", "1", "--seed", "11", "--log", f"kafka://{kafka.bootstrap}", "--json")
    finished = audit_of(project, tmp_path / "t", *arguments).done()
    assert json.loads(finished.out)["holds"] is True
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=kafka.bootstrap)) as admin:
        assert not [name for name in admin.list_topics() if name.startswith("quietcount-audit-")]
