"""kill -9 of the real service while it folds: nothing is lost, nothing counts twice."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from tests.e2e.projects import BEFORE_ANY_RELEASE, Project, check_against_oracle, ended, simulated

pytestmark = pytest.mark.check


def emitted(folder: Path, events: int, seed: int = 1) -> tuple[Project, Project, list[dict[str, object]]]:
    """Return a project whose log holds synthetic events, its untouched copy, and the lines."""
    project = Project(folder / "project")
    lines = simulated(events, seed)
    project.emit(lines)
    return project, project.copy(folder / "oracle"), lines


def kill_at_random(project: Project, kills: int, longest: float) -> int:
    """Start the service and kill it, `kills` times; return how many kills met a process that was folding."""
    seed = int(os.environ.get("QUIETCOUNT_TEST_SEED", random.randrange(10**9)))
    print("seed", seed)
    chance = random.Random(seed)
    folding = 0
    for _ in range(kills):
        process = project.start_runner("--as-of", BEFORE_ANY_RELEASE, "--batch", "40")
        assert process.stdout is not None
        opening = chance.random() < 0.2
        if opening:
            time.sleep(chance.uniform(0.0, 1.5))
        else:
            process.stdout.readline()
            time.sleep(chance.uniform(0.0, longest))
        process.send_signal(signal.SIGKILL)
        finished = ended(process)
        assert finished.code in (-signal.SIGKILL, 0), finished.err
        folding += not opening and finished.code == -signal.SIGKILL
    return folding


def test_a_fold_that_is_killed_again_and_again_ends_in_the_state_of_an_undisturbed_one(tmp_path: Path) -> None:
    project, oracle, lines = emitted(tmp_path, 3000)
    folding = kill_at_random(project, 8, 0.1)
    assert folding >= 2  # a kill that meets no fold proves nothing
    project.run(BEFORE_ANY_RELEASE)
    check_against_oracle(project, oracle, lines)


@pytest.mark.soak
def test_two_hundred_kills_over_fifty_thousand_events(tmp_path: Path) -> None:
    project, oracle, lines = emitted(tmp_path, 50_000)
    started = time.monotonic()
    folding = kill_at_random(project, 200, 0.12)
    print(f"{len(lines)} records, 200 kills, {folding} of them within the fold, {time.monotonic() - started:.0f} s")
    assert folding >= 100
    project.run(BEFORE_ANY_RELEASE)
    check_against_oracle(project, oracle, lines)


@pytest.mark.quick
@pytest.mark.promise("nothing-lost", "nothing-twice")
@pytest.mark.parametrize("moment", ["within batch", "after batch"])
def test_a_kill_at_each_moment_of_a_batch_loses_and_doubles_nothing(tmp_path: Path, moment: str) -> None:
    project, oracle, lines = emitted(tmp_path, 400)
    killed = project.runner("--as-of", BEFORE_ANY_RELEASE, "--batch", "40", "--kill-at", moment, "--kill-number", "4")
    assert killed.code == -signal.SIGKILL
    project.run(BEFORE_ANY_RELEASE)
    check_against_oracle(project, oracle, lines)


@pytest.mark.parametrize("apart, moment", [("before", "within batch"), ("after", "after batch")])
def test_offsets_in_a_file_of_their_own_fail_the_same_check(tmp_path: Path, apart: str, moment: str) -> None:
    project, oracle, lines = emitted(tmp_path, 400)
    options = ("--as-of", BEFORE_ANY_RELEASE, "--batch", "40", "--offsets-apart", apart)
    assert project.runner(*options, "--kill-at", moment, "--kill-number", "4").code == -signal.SIGKILL
    project.runner(*options).done()
    with pytest.raises(AssertionError):
        check_against_oracle(project, oracle, lines)
    missing = len(oracle.state()["open_events"]) - len(project.state()["open_events"])
    assert missing > 0 if apart == "before" else missing < 0  # a batch lost, or a batch twice


@pytest.mark.soak
def test_the_twins_with_offsets_apart_are_right_while_nothing_kills_them(tmp_path: Path) -> None:
    """So it is the kill that they do not survive, and nothing else in them."""
    project, oracle, lines = emitted(tmp_path, 400)
    project.runner("--as-of", BEFORE_ANY_RELEASE, "--batch", "40", "--offsets-apart", "after").done()
    check_against_oracle(project, oracle, lines)
