"""kill -9 of the service while it folds from Kafka, and of the broker: nothing is lost, nothing counts twice."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.kafka import folding_service
from tests.e2e.kafka.folding_service import BATCH_BEGINS, DONE, FOLDED, Part
from tests.e2e.kafka.kafka_projects import groups_answer, kafka_project, settings_of
from tests.e2e.projects import BEFORE_ANY_RELEASE, Project, check_against_oracle, simulated
from tests.kafka.cluster import Cluster
from tests.kafka.fixtures import Clusters, Kafka

from quietcount_consumers.kafka.log import GROUP

pytestmark = pytest.mark.check

BATCH = 40
LONGEST = 120.0  # seconds after which a service that does not go on is a failure
KILLED = -signal.SIGKILL


class Running:
    """A service that runs, and what it has told so far."""

    def __init__(self, fork: ForkServerContext, part: Part, output: Path) -> None:
        output.write_bytes(b"")
        self._output = output
        self._told, telling = fork.Pipe(duplex=False)
        self._process = fork.Process(target=folding_service.serve, args=(part, telling, output))
        self._process.start()
        telling.close()  # its end there is the only one, so the process's end is the end of what it tells
        self.batches = 0
        self.folded = False

    @property
    def amid(self) -> bool:
        """Whether, as far as it has told, it has begun to fold and not come to the end of the log."""
        return self.batches > 0 and not self.folded

    def more(self, batches: int) -> None:
        """Wait until it has begun `batches` more, or is at the end of the log."""
        self._listen(0.0)
        wanted, until = self.batches + batches, time.monotonic() + LONGEST
        while self.batches < wanted and not self.folded:
            assert self._listen(max(0.0, until - time.monotonic())), f"it does not go on: {self.said()}"

    def kill(self) -> None:
        """SIGKILL; it must have been there to be killed."""
        self._process.kill()
        assert self.ended() == KILLED, self.said()

    def ended(self) -> int:
        """Wait for the end; return the exit code."""
        self._process.join(LONGEST)
        code = self._process.exitcode
        assert code is not None, f"it still runs: {self.said()}"
        self._listen(0.0)
        self.close()
        return code

    def close(self) -> None:
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._told.close()

    def said(self) -> str:
        return self._output.read_text(encoding="utf-8", errors="replace")

    def _listen(self, seconds: float) -> bool:
        """Take in what it tells within `seconds`; return whether there was anything, or it has ended."""
        heard = False
        try:
            while self._told.poll(0.0 if heard else seconds):
                message = self._told.recv_bytes()
                heard = True
                self.batches += message == BATCH_BEGINS
                self.folded |= message == FOLDED
        except EOFError:
            assert self._process.exitcode is not None or seconds == 0.0 or self._ends(), self.said()
            return False
        return heard

    def _ends(self) -> bool:
        self._process.join(LONGEST)
        return self._process.exitcode is not None


Start = Callable[..., Running]


@pytest.fixture(scope="module")
def fork() -> ForkServerContext:
    """Processes that have imported everything, and are forked from one that has no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.e2e.kafka.folding_service"])
    return context


@pytest.fixture
def start(tmp_path: Path, fork: ForkServerContext) -> Iterator[Start]:
    """Start a service on a project: `start(project, **parts)`."""
    made: list[Running] = []

    def make(project: Project, **parts: Any) -> Running:
        part = dataclasses.replace(Part(project.config, BEFORE_ANY_RELEASE, BATCH), **parts)
        made.append(Running(fork, part, tmp_path / "said"))
        return made[-1]

    yield make
    for each in made:
        each.close()


def emitted(folder: Path, kafka: Kafka | Cluster, events: int) -> tuple[Project, Project, list[dict[str, object]]]:
    """Return a project on the broker, an untouched copy that folds the same topic, and the lines that are in it."""
    project = kafka_project(folder / "project", kafka.bootstrap, kafka.prefix())
    lines = simulated(events)
    project.emit(lines)
    return project, project.copy(folder / "oracle"), lines


def kill_the_broker(cluster: Cluster, running: Running, chance: random.Random) -> None:
    """Kill the broker under a service that folds, which dies at the same time or has to go on by itself."""
    together = chance.random() < 0.5
    cluster.kill()
    if together:
        running.kill()
    cluster.broker.launch()
    if not together:
        running.more(2)  # the topic is looked at before each batch, so these need the broker that was started anew
        running.kill()
    cluster.ready()


def kill_at_random(
    start: Start, project: Project, cluster: Cluster, records: int, kills: int, broker_kills: int
) -> int:
    """Kill the service `kills` times, and the broker in some of them; return how many kills met the fold."""
    seed = int(os.environ.get("QUIETCOUNT_TEST_SEED", random.randrange(10**9)))
    print("seed", seed)
    chance = random.Random(seed)
    with_broker = set(chance.sample(range(kills), broker_kills))
    mean = records // (kills * BATCH)  # as many batches before a kill would come to the end at the last one
    folding = 0
    for number in range(kills):
        running = start(project)
        if number not in with_broker and chance.random() < 0.15:
            time.sleep(chance.uniform(0.0, 1.0))  # while it opens, or a little later
            running.kill()
        else:
            running.more(chance.randint(1, int(1.7 * mean)))
            time.sleep(chance.uniform(0.0, 0.02))
            if number in with_broker:
                kill_the_broker(cluster, running, chance)
            else:
                running.kill()
        folding += running.amid
    return folding


def test_a_fold_from_kafka_that_is_killed_again_and_again_ends_in_the_state_of_an_undisturbed_one(
    tmp_path: Path, kafka_cluster: Clusters, start: Start
) -> None:
    cluster = kafka_cluster()
    project, oracle, lines = emitted(tmp_path, cluster, 3000)
    folding = kill_at_random(start, project, cluster, len(lines), 8, 1)
    assert folding >= 3  # a kill that meets no fold proves nothing
    project.run(BEFORE_ANY_RELEASE)
    check_against_oracle(project, oracle, lines)


@pytest.mark.soak
def test_three_hundred_kills_of_the_service_and_twenty_of_the_broker_over_a_hundred_thousand_events(
    tmp_path: Path, kafka_cluster: Clusters, start: Start
) -> None:
    cluster = kafka_cluster()
    project, oracle, lines = emitted(tmp_path, cluster, 100_000)
    started = time.monotonic()
    folding = kill_at_random(start, project, cluster, len(lines), 300, 20)
    took = time.monotonic() - started
    print(f"{len(lines)} records, 300 kills, {folding} of them within the fold, 20 of the broker, {took:.0f} s")
    assert folding >= 200
    project.run(BEFORE_ANY_RELEASE)
    check_against_oracle(project, oracle, lines)


@pytest.mark.parametrize("moment", ["within batch", "after batch"])
def test_a_kill_at_each_moment_of_a_batch_from_kafka_loses_and_doubles_nothing(
    tmp_path: Path, kafka: Kafka, start: Start, moment: str
) -> None:
    project, oracle, lines = emitted(tmp_path, kafka, 400)
    assert start(project, until_idle=True, kill_at=moment, kill_number=4).ended() == KILLED
    assert start(project, until_idle=True).ended() == DONE
    check_against_oracle(project, oracle, lines)


@pytest.mark.parametrize(
    "where, when, moment",
    [
        ("group", "before", "within batch"),
        ("group", "after", "after batch"),
        ("state", "before", "within batch"),  # committed before the fold
        pytest.param("file", "before", "within batch", marks=pytest.mark.soak),
        pytest.param("file", "after", "after batch", marks=pytest.mark.soak),
    ],
)
def test_offsets_outside_the_transaction_of_the_fold_fail_the_same_check(
    tmp_path: Path, kafka: Kafka, start: Start, where: str, when: str, moment: str
) -> None:
    project, oracle, lines = emitted(tmp_path, kafka, 400)
    groups_answer(kafka.bootstrap, settings_of(project).topic(GROUP))
    twin = {"until_idle": True, "offsets": (where, when)}
    assert start(project, **twin, kill_at=moment, kill_number=4).ended() == KILLED
    last = start(project, **twin)
    assert last.ended() == DONE, last.said()
    with pytest.raises(AssertionError):
        check_against_oracle(project, oracle, lines)
    missing = len(oracle.state()["open_events"]) - len(project.state()["open_events"])
    assert missing > 0 if when == "before" else missing < 0  # a batch lost, or a batch twice


@pytest.mark.soak
@pytest.mark.parametrize("where", ["group", "file", "state"])
def test_the_twins_on_kafka_are_right_while_nothing_kills_them(
    tmp_path: Path, kafka: Kafka, start: Start, where: str
) -> None:
    """So it is the kill that they do not survive, and nothing else in them."""
    project, oracle, lines = emitted(tmp_path, kafka, 400)
    groups_answer(kafka.bootstrap, settings_of(project).topic(GROUP))
    assert start(project, until_idle=True, offsets=(where, "before")).ended() == DONE
    check_against_oracle(project, oracle, lines)
