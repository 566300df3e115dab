"""A release that dies at each step: one value for a cell, for ever, and the public file says what the ledger says."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from tests.catalogues import catalogue, statistic
from tests.e2e.projects import Cell, Project, simulated, true_cells

from quietcount_aggregates.release import Step

pytestmark = pytest.mark.check

# Enough noise that a value drawn a second time would hardly ever be the first one again.
NOISY = catalogue(
    statistic("requests", "HelpRequested", by="help_kind", epsilon=0.05),
    statistic("court_cases", "CourtCaseFiled", period="week", epsilon=0.05),
    lifetime_epsilon=2.5,
    grace=None,
)

MOMENTS = [*(step.value for step in Step), "before rewrite", "before replace", "after replace"]


class Seen:
    """Every value that anybody could read of a cell; a second one for the same cell is a failure."""

    def __init__(self) -> None:
        self.values: dict[Cell, int] = {}

    def look(self, project: Project) -> None:
        for source in (project.ledger_values(), project.released() if project.public.exists() else {}):
            for cell, value in source.items():
                assert self.values.setdefault(cell, value) == value, f"a second value for {cell}"


def clocks() -> list[str]:
    """Clocks a month apart, at each of which a month and some weeks are due."""
    return [f"2023-{month:02}-08" for month in range(3, 3 + len(MOMENTS))]


def test_a_crash_at_each_moment_of_a_release_is_mended_by_running_again(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", NOISY)
    project.emit(simulated(600))
    project.run("2023-02-08")
    seen = Seen()
    seen.look(project)
    assert seen.values
    for moment, clock in zip(MOMENTS, clocks(), strict=True):
        before = dict(seen.values)
        assert project.runner("--as-of", clock, "--kill-at", moment).code == -signal.SIGKILL, moment
        seen.look(project)
        if moment == Step.APPENDED:
            project.public.unlink()  # all that is public comes back from the ledger
        project.run_here(clock)
        seen.look(project)
        assert project.released() == project.ledger_values() == seen.values, moment
        assert len(seen.values) > len(before), moment
        assert before.items() <= project.released().items(), moment
    project.run(clocks()[-1])
    assert project.released() == seen.values
    assert "holds exactly what the ledger says" in project.quietcount("ledger", "verify").done().out
    assert not list(project.private.glob("*.next*"))
    # What was released is gone from the state, whatever died when.
    statistics = dict(project.state()["first_open"])
    assert {str(day) for day in statistics.values()} == {"2023-12-01", "2023-11-27"}
    assert all(row[4] >= min(statistics.values()) for row in project.state()["open_events"] if row[5] is None)


def test_counts_are_right_after_crashes_at_every_moment(tmp_path: Path) -> None:
    """The same with next to no noise: a crash neither loses an event nor lets one count in two periods."""
    project = Project(tmp_path / "project")
    lines = simulated(500)
    project.emit(lines)
    for moment, clock in zip(("appended", "before replace"), clocks(), strict=False):
        assert project.runner("--as-of", clock, "--kill-at", moment).code == -signal.SIGKILL
    project.run()
    released = {cell: value for cell, value in project.released().items() if value}
    assert released == true_cells(lines)


@pytest.mark.promise("ledger-first")
def test_a_twin_that_publishes_before_the_ledger_holds_it_shows_two_values(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", NOISY)
    project.emit(simulated(300))
    seen = Seen()
    assert project.runner("--as-of", "2023-12-08", "--publish-early").code == -signal.SIGKILL
    seen.look(project)
    assert project.quietcount("run", "--until-idle", "--as-of", "2023-12-08").refusal().count("newest ledger") == 1
    project.public.unlink()  # as somebody would who wants the service to go on
    project.run_here("2023-12-08")
    with pytest.raises(AssertionError, match="a second value"):
        seen.look(project)


def test_a_service_that_does_not_recover_is_refused_by_the_ledgers_own_rules(tmp_path: Path) -> None:
    """A second line of defence: a release that is in the ledger is not appended again, and nothing changes."""
    project = Project(tmp_path / "project", NOISY)
    project.emit(simulated(300))
    assert project.runner("--as-of", "2023-02-08", "--kill-at", "appended").code == -signal.SIGKILL
    values = project.ledger_values()
    refused = project.runner("--as-of", "2023-02-08", "--no-recovery")
    assert refused.code == 1
    assert re.search(r"LedgerBroken: .*released already", refused.err)
    assert project.ledger_values() == values


def test_the_public_file_comes_back_with_the_same_values(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", NOISY)
    project.emit(simulated(300))
    project.run_here()
    before = project.released()
    rows = project.quietcount("query", "FROM statistics ORDER BY ALL", "--format", "json").done().out
    project.public.unlink()
    assert "brings it back" in project.quietcount("ledger", "verify").done().out
    project.run_here()
    assert project.released() == before
    assert project.quietcount("query", "FROM statistics ORDER BY ALL", "--format", "json").done().out == rows
