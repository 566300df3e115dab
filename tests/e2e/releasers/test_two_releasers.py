"""Two services on one ledger, released at the same moment: each cell has one value, whichever of them is killed."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest
from tests.catalogues import catalogue, statistic
from tests.e2e.kafka.kafka_projects import kafka_configuration, settings_of
from tests.e2e.projects import Cell, Project, simulated
from tests.e2e.releasers import releaser
from tests.e2e.releasers.forked_releasers import LONGEST, fork
from tests.kafka.fixtures import Kafka

from quietcount_aggregates.due_periods import DuePeriod, due_in
from quietcount_aggregates.errors import LedgerUnavailable, StateError
from quietcount_aggregates.ledger.entries import Settled
from quietcount_aggregates.ledger.settlements import Settlement
from quietcount_aggregates.noise import DiscreteLaplace
from quietcount_aggregates.release import Releaser, Step
from quietcount_aggregates.settling import Sums
from quietcount_aggregates.state.state import State
from quietcount_consumers.kafka import fence as kafka_fence
from quietcount_consumers.kafka.fence import Fence
from quietcount_consumers.kafka.topics import create_topics
from quietcount_consumers.maintenance.recovery import retire_population
from quietcount_consumers.opening import open_service

pytestmark = pytest.mark.check

__all__ = ["fork"]  # fixtures, which tests ask for by name

# The noise is wide, so that a cell that was drawn twice has two values; three months are released of few events.
NOISY = catalogue(
    statistic("requests", "HelpRequested", by="help_kind", since="2023-10-01", epsilon=0.1), lifetime_epsilon=1
)
AS_OF = "2024-01-08"
LINES = simulated(40)
CELLS = 3 * 6  # three months of the kinds of help
# What the one may be told because of the other. That a ledger is broken, or behind, is nothing two services may cause.
# The broker answers a commit that meets the other's fence with an error of its own, too: an unknown outcome.
REFUSALS = {"LedgerFenced", "LedgerUnavailable", "StateBehind"}


@dataclass
class Contender:
    """A service with a configuration and a data folder of its own."""

    project: Project
    output: Path
    process: ForkServerProcess | None = None
    kill_after: float | None = None
    done: bool = False

    def start(self, fork: ForkServerContext, kill_at: str, delay: float) -> None:
        self.output.write_bytes(b"")
        self.process = fork.Process(
            target=releaser.release,
            args=(self.project.config, AS_OF, kill_at, delay, self.output),
            daemon=True,  # ends with the run, where a failure left it
        )
        self.process.start()

    def ended(self) -> str:
        """Return how it ended: "done", "killed", or the name of the refusal."""
        assert self.process is not None
        if self.kill_after is not None:
            self.process.join(self.kill_after)
            self.process.kill()
        self.process.join(LONGEST)
        code = self.process.exitcode
        said = self.output.read_text(encoding="utf-8", errors="replace")
        if code is None:
            self.process.kill()
            raise AssertionError(f"it still runs: {said}")
        self.process.close()
        self.process = None
        assert code != releaser.DEFECT, said
        assert "Traceback" not in said, said
        if code == releaser.REFUSED:
            refusal = said.split()[-1]
            assert refusal in REFUSALS, said
            return refusal
        assert code in (releaser.DONE, -signal.SIGKILL), (code, said)
        return "killed" if code else "done"


@dataclass
class Outcome:
    """What became of the rounds."""

    ends: Counter[str] = field(default_factory=Counter)
    winners: Counter[str] = field(default_factory=Counter)


class Round:
    """Two contenders on a ledger of their own, and every value that either has ever published."""

    def __init__(self, folder: Path, kafka: Kafka, chance: random.Random) -> None:
        text = kafka_configuration(kafka.bootstrap, kafka.prefix(), NOISY)
        self.contenders = {
            name: Contender(Project(folder / name, text), folder / f"{name}.said") for name in ("first", "second")
        }
        # One ledger, one key: a second machine for it has the secrets of the first.
        keys = [each.project.folder / "secrets" / "service-signing" for each in self.contenders.values()]
        keys[1].write_bytes(keys[0].read_bytes())
        self.chance = chance
        self.seen: dict[Cell, int] = {}
        project = self.contenders["first"].project
        self.settings = settings_of(project)
        create_topics(self.settings, partitions=2)
        project.emit(LINES)

    def play(self, fork: ForkServerContext, outcome: Outcome) -> None:
        """Start both again and again until one has done its work; then the other once more, undisturbed."""
        for attempt in range(12):
            self._both(fork, outcome, disturbed=attempt < 9)
            if any(each.done for each in self.contenders.values()):
                break
        else:
            raise AssertionError(f"neither came to an end: {outcome.ends}")
        for each in [each for each in self.contenders.values() if not each.done]:
            each.kill_after = None
            each.start(fork, "", 0.0)
            outcome.ends[each.ended()] += 1
            self._look(each)
        # Both may be: who had folded what the other's release counts finishes that from the ledger, and draws nothing.
        winners = [name for name, each in self.contenders.items() if each.done]
        assert winners
        outcome.winners.update(winners)
        for winner in winners:
            released = self.contenders[winner].project.released()
            assert len(released) == CELLS
            assert released == self.seen == self.contenders[winner].project.ledger_values()

    def _both(self, fork: ForkServerContext, outcome: Outcome, *, disturbed: bool) -> None:
        chance = self.chance
        names = sorted(self.contenders, key=lambda _: chance.random())
        for name in names:
            each = self.contenders[name]
            fate = chance.random() if disturbed else 1.0
            kill_at = chance.choice(list(Step)) if fate < 0.45 else ""
            each.kill_after = chance.uniform(0.0, 2.0) if 0.45 <= fate < 0.65 else None
            each.start(fork, kill_at, chance.choice((0.0, 0.0, chance.uniform(0.0, 1.0))))
        for name in names:
            each = self.contenders[name]
            end = each.ended()
            outcome.ends[end] += 1
            each.done |= end == "done"
            self._look(each)

    def _look(self, contender: Contender) -> None:
        """What is published now is what was ever published of these cells."""
        if contender.project.public.exists():
            for cell, value in contender.project.released().items():
                assert self.seen.setdefault(cell, value) == value, f"{cell} has two values"


def trial(rounds: int, folder: Path, kafka: Kafka, fork: ForkServerContext) -> Outcome:
    seed = int(os.environ.get("QUIETCOUNT_TEST_SEED", random.randrange(10**9)))
    print("seed", seed)
    chance = random.Random(seed)
    outcome = Outcome()
    started = time.monotonic()
    for number in range(5 * rounds):
        # Rounds in which no kill met a releaser prove little: others follow.
        if number >= rounds and outcome.ends["killed"]:
            break
        Round(folder / str(number), kafka, chance).play(fork, outcome)
    print(f"{rounds} rounds in {time.monotonic() - started:.0f} s: {dict(outcome.ends)}, {dict(outcome.winners)}")
    return outcome


def test_two_releasers_that_are_killed_at_random_give_each_cell_one_value(
    tmp_path: Path, kafka: Kafka, fork: ForkServerContext
) -> None:
    outcome = trial(2, tmp_path, kafka, fork)
    assert outcome.ends["killed"]
    assert sum(outcome.ends[end] for end in REFUSALS | {"done"}) >= 4  # in each round both come to an end
    assert set(outcome.ends) <= REFUSALS | {"done", "killed"}


@pytest.mark.soak
def test_a_hundred_rounds_of_two_releasers(tmp_path: Path, kafka: Kafka, fork: ForkServerContext) -> None:
    outcome = trial(100, tmp_path, kafka, fork)
    assert min(outcome.winners["first"], outcome.winners["second"]) >= 10
    assert min(outcome.ends[end] for end in ("killed", "done", "LedgerFenced", "StateBehind")) >= 20


class Counting(DiscreteLaplace):
    """The real noise, and how often it was asked for."""

    def __init__(self) -> None:
        self.draws = 0

    def draw(self, exact: Sequence[int], *, scale: float, sensitivity: int, epsilon: float) -> list[int]:
        self.draws += 1
        return super().draw(exact, scale=scale, sensitivity=sensitivity, epsilon=epsilon)


MOMENT = dt.datetime.fromisoformat(AS_OF).replace(tzinfo=dt.UTC)


def check_what_was_appended_is_not_drawn_again(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to the commit of the release is lost; the service opens anew, as it does at its next tick."""
    configuration = project.configuration
    mechanism = Counting()
    with monkeypatch.context() as patched:
        commit = Fence.commit

        def lost(self: Fence) -> None:
            commit(self)
            raise kafka_fence.outcome_unknown(self._settings)

        def from_here_on(step: Step) -> None:
            if step is Step.DRAWN:  # the settlement's own commit is answered
                patched.setattr(Fence, "commit", lost)

        with (
            open_service(configuration, MOMENT, mechanism=mechanism, observe=from_here_on) as service,
            contextlib.suppress(LedgerUnavailable),
        ):
            service.tick(MOMENT)
    with open_service(configuration, MOMENT, mechanism=mechanism) as service:
        service.tick(MOMENT)
        assert not service.due(MOMENT)
    assert mechanism.draws == 3  # a draw for each month
    assert project.released() == project.ledger_values()
    assert len(project.released()) == CELLS


@pytest.fixture
def project(tmp_path: Path, kafka: Kafka) -> Project:
    project = Project(tmp_path / "project", kafka_configuration(kafka.bootstrap, kafka.prefix(), NOISY))
    create_topics(settings_of(project), partitions=2)
    project.emit(LINES)
    return project


def test_a_release_whose_answer_was_lost_is_read_and_not_drawn_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_what_was_appended_is_not_drawn_again(project, monkeypatch)


def test_a_twin_that_draws_again_after_an_unknown_outcome_is_found(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Releaser._append

    def insisting(self: Releaser, settlement: Settlement, sums: Sums, now: dt.datetime) -> list[DuePeriod]:
        due = due_in(self._ledger.chain, settlement.until)
        try:
            return original(self, settlement, sums, now)
        except LedgerUnavailable:
            self._ledger.append([Settled(), *self._draw(due, sums)], now, settlement.point)
            return due

    monkeypatch.setattr(Releaser, "_append", insisting)
    with pytest.raises((AssertionError, LedgerUnavailable)):
        check_what_was_appended_is_not_drawn_again(project, monkeypatch)


@pytest.mark.parametrize("state", ["none", "empty", "of another ledger"])
def test_a_retirement_where_the_state_is_not_fences_no_service(
    project: Project, tmp_path: Path, kafka: Kafka, state: str
) -> None:
    other = Project(tmp_path / "other", project.config.read_text(encoding="utf-8"))
    if state == "of another ledger":
        text = kafka_configuration(kafka.bootstrap, kafka.prefix(), NOISY)
        elsewhere = Project(tmp_path / "elsewhere", text)
        create_topics(settings_of(elsewhere), partitions=2)
        with open_service(elsewhere.configuration, MOMENT):
            pass
        other.private.mkdir(parents=True)
        for path in elsewhere.configuration.state_files.values():
            shutil.copy(path, other.private)
    elif state == "empty":
        other.private.mkdir(parents=True)
        for partition in range(2):
            State(other.configuration.state_file(partition), partition).close()
    later = MOMENT + dt.timedelta(days=35)
    with open_service(project.configuration, MOMENT) as service:
        service.tick(MOMENT)
        with pytest.raises(StateError, match=r"is missing|does not know|another one"):
            retire_population(other.configuration, "requests", MOMENT, lambda _: None)
        assert service.due(later)
        service.tick(later)
        assert not service.due(later)
    retire_population(project.configuration, "requests", later, lambda _: None)
