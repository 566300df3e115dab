"""A trial in which events are emitted and folded while the brokers that lead their partitions are killed."""

from __future__ import annotations

import contextlib
import os
import queue
import random
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import duckdb
import numpy as np
from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from tests.catalogues import catalogue, statistic
from tests.e2e.emitters.publisher_process import PublisherProcess
from tests.e2e.kafka.kafka_projects import kafka_project, settings_of
from tests.e2e.projects import Cell, Project, ended, simulated
from tests.kafka.broker import Broker
from tests.kafka.cluster import Cluster

from quietcount_aggregates.state.marks import ConsumerSecret
from quietcount_consumers.kafka.log import GROUP, KafkaLog
from quietcount_producers import Pepper
from quietcount_producers.simulation import Mix, encoded
from quietcount_schemas.log import CASE_EVENTS

BEFORE_ANY_RELEASE = "2023-01-02"  # nothing is due, so that what is folded can be compared event by event
LONGEST = 120.0  # seconds after which what does not go on is a failure

# Every event of a case counts, so that one that is lost or counts twice is seen whichever it is.
EVERY_EVENT = catalogue(
    statistic("requests", "HelpRequested", by="help_kind", max_contributions=1000, epsilon=1.0), lifetime_epsilon=1
)

Line = dict[str, Any]
T = TypeVar("T")


def requests(count: int) -> list[Line]:
    """Return `count` lines of events that count, each with an id of its own."""
    lines = [line for line in simulated(count * 2, mix=Mix()) if line["event"] == "HelpRequested"][:count]
    assert len(lines) == len({line["event_id"] for line in lines}) == count
    return lines


def asked(cluster: Cluster, ask: Callable[[KafkaAdminClient], T | None]) -> T:
    """Ask the brokers that run, again and again until there is an answer."""
    until = time.monotonic() + LONGEST
    while True:
        with contextlib.suppress(KafkaError, OSError):
            servers = [broker.address() for broker in cluster.brokers if broker.answering]
            with KafkaAdminClient(bootstrap_servers=servers) as admin:
                answer = ask(admin)
                if answer is not None:
                    return answer
        assert time.monotonic() < until, "the brokers do not come to an answer"
        time.sleep(0.1)


def leader_of(project: Project, cluster: Cluster, partition: int, *, unlike: Broker | None = None) -> Broker:
    """Return the broker that leads a partition of the case events, when there is one (that is not `unlike`)."""
    topic = settings_of(project).topic(CASE_EVENTS)

    def ask(admin: KafkaAdminClient) -> Broker | None:
        for each in admin.describe_topics([topic])[0]["partitions"]:
            if each["partition_index"] == partition and each["leader_id"] > 0:
                leader = cluster.brokers[each["leader_id"] - 1]
                return None if leader is unlike else leader
        return None

    return asked(cluster, ask)


def check_what_was_acknowledged_is_folded_once(
    project: Project, oracle: Project, lines: Sequence[Line], acknowledged: Collection[int]
) -> int:
    """The check that every twin has to pass, or to fail; return how many lines were folded.

    The state is that of an undisturbed fold of the same topic; every acknowledged line is in it, and none but lines;
    what counts is each line that is in it, once.
    """
    oracle.run_here(BEFORE_ANY_RELEASE)
    assert project.state() == oracle.state()
    configuration = project.configuration
    pepper = Pepper.load(project.folder / "secrets" / "pepper")
    marks = ConsumerSecret.load(configuration.service.secret_file).event_marks(
        np.frombuffer(b"".join(pepper.case_key(line["case"]) for line in lines), np.uint8).reshape(-1, 16),
        np.frombuffer(b"".join(uuid.UUID(line["event_id"]).bytes for line in lines), np.uint8).reshape(-1, 16),
    )
    numbers = {(int(high) << 64) | int(low): number for number, (high, low) in enumerate(marks)}
    found: set[int] = set()
    for path in configuration.state_files.values():
        with duckdb.connect(str(path), read_only=True) as connection:
            found |= {row[0] for row in connection.execute("SELECT event_mark FROM open_events").fetchall()}
    assert found <= set(numbers)
    folded = {numbers[mark] for mark in found}
    missing = set(acknowledged) - folded
    assert not missing, f"{len(missing)} acknowledged events were not folded"
    assert project.open_cells() == counts(lines[number] for number in folded)
    return len(folded)


def counts(lines: Iterator[Line]) -> dict[Cell, int]:
    return dict(
        Counter(
            (
                "requests",
                f"{line['occurred_on'][:7]}-01",
                f"help_kind={line['help_kind']}",
            )
            for line in lines
        )
    )


class Source(Protocol):
    """Somebody who emits lines by their numbers, and what was acknowledged of them."""

    acknowledged: list[int]

    def feed(self, numbers: Sequence[int]) -> None: ...

    def end(self) -> None: ...

    def close(self) -> None: ...


class EmitCommands:
    """`quietcount emit`, a file each time; as it says itself, it is run again until it succeeds."""

    def __init__(self, project: Project, lines: Sequence[Line]) -> None:
        self.acknowledged: list[int] = []
        self.refused = 0
        self._project = project
        self._lines = lines
        self._files: queue.SimpleQueue[Sequence[int]] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        self._worker = threading.Thread(target=self._work)
        self._worker.start()

    def feed(self, numbers: Sequence[int]) -> None:
        self._files.put(numbers)

    def end(self) -> None:
        self.close()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        if self._worker.is_alive():
            self._files.put(())
            self._worker.join()

    def _work(self) -> None:
        try:
            ended = False
            while not ended:
                fed = [self._files.get()]
                while not self._files.empty():  # what has come meanwhile goes together
                    fed.append(self._files.get())
                ended = () in fed
                numbers = [number for each in fed for number in each]
                if not numbers:
                    continue
                file = self._project.folder / "lines.jsonl"
                file.write_bytes(b"".join(encoded(self._lines[number]) for number in numbers))
                until = time.monotonic() + LONGEST
                while (finished := self._project.quietcount("emit", str(file))).code:
                    finished.refusal()
                    self.refused += 1
                    assert time.monotonic() < until, finished.err
                self.acknowledged.extend(numbers)
        except BaseException as error:
            self._failure = error


class Trial:
    """Emitters of each kind and a service that run all the while, and the brokers that they use."""

    def __init__(self, folder: Path, cluster: Cluster, events: int) -> None:
        seed = int(os.environ.get("QUIETCOUNT_TEST_SEED", random.randrange(10**9)))
        print("seed", seed)
        self.chance = random.Random(seed)
        self.cluster = cluster
        self.project = kafka_project(folder / "project", cluster.bootstrap, cluster.prefix(), EVERY_EVENT)
        self.oracle = self.project.copy(folder / "oracle")
        self.lines = requests(events)
        file = folder / "lines.jsonl"
        file.write_bytes(b"".join(map(encoded, self.lines)))
        spooling = self.project.folder / "spooling.toml"
        spooling.write_text(
            self.project.config.read_text(encoding="utf-8") + '\n[emitter]\nspool = "spool"\n', encoding="utf-8"
        )
        self._said = folder / "service.said"
        with self._said.open("w") as said:
            self.service = self.project.start("run", "--as-of", BEFORE_ANY_RELEASE, stderr=said)
        self.repeating = PublisherProcess(self.project.config, file)
        self.once = PublisherProcess(self.project.config, file, "--once")
        self.spooling = PublisherProcess(spooling, file)
        self.commands = EmitCommands(self.project, self.lines)
        self.sources: list[Source] = [self.repeating, self.once, self.spooling, self.commands]
        self._fed = 0

    def opened(self) -> None:
        """Wait until the service is open: an outage at its first opening ends it, as it should."""
        self._wait(lambda: "population declared" in self._said.read_text(encoding="utf-8"), "the service does not open")

    @property
    def opened_anew(self) -> int:
        """How often the service closed itself and went on."""
        return self._said.read_text(encoding="utf-8").count("going on")

    def feed(self, count: int) -> None:
        """Let the emitters send the next `count` lines, each its part."""
        numbers = range(self._fed, min(self._fed + count, len(self.lines)))
        self._fed = numbers.stop
        for which, source in enumerate(self.sources):
            source.feed([number for number in numbers if number % len(self.sources) == which])

    def kill_leaders(self, kills: int) -> None:
        """Kill leaders while events are on their way, and while no leader is there; start them again."""
        half = -(-len(self.lines) // (2 * kills))
        down: Broker | None = None
        self.opened()
        for _ in range(kills):
            if down is not None:
                self.cluster.restart(down)
            partition = self.chance.randrange(3)
            down = leader_of(self.project, self.cluster, partition)
            self._feed_until_acknowledged(half)
            time.sleep(self.chance.uniform(0.0, 0.1))  # the most of it is still on its way
            down.kill()
            self._feed_until_acknowledged(half)
            leader_of(self.project, self.cluster, partition, unlike=down)
            self._check_service()
        assert down is not None
        self.cluster.restart(down)

    def end(self) -> set[int]:
        """Let emitters end, and the service when it has folded all there is; return what was acknowledged."""
        assert self._fed == len(self.lines)
        for source in self.sources:
            source.end()
        self._caught_up()
        self.service.send_signal(signal.SIGTERM)
        ended(self.service).done()
        assert "Traceback" not in self._said.read_text(encoding="utf-8")
        return {number for source in self.sources for number in source.acknowledged}

    def _feed_until_acknowledged(self, count: int) -> None:
        """Let lines be sent, and wait until one more is acknowledged to who sends them to the brokers until it is."""
        before = len(self.repeating.acknowledged)
        self.feed(count)
        self._wait(lambda: len(self.repeating.acknowledged) > before, "nothing is acknowledged any more")

    def _wait(self, there: Callable[[], bool], lack: str) -> None:
        until = time.monotonic() + LONGEST
        while not there():
            self._check_service()
            assert time.monotonic() < until, lack
            time.sleep(0.02)

    def _check_service(self) -> None:
        assert self.service.poll() is None, f"the service has ended: {self._said.read_text(encoding='utf-8')}"

    def _caught_up(self) -> None:
        """Wait until the service that ran all the while has come to the log's end, as the group's offsets tell."""
        settings = settings_of(self.project)
        topic, group = settings.topic(CASE_EVENTS), settings.topic(GROUP)
        with KafkaLog(settings) as log:
            ends = log.end_offsets(CASE_EVENTS)

        def ask(admin: KafkaAdminClient) -> bool | None:
            self._check_service()
            told = admin.list_group_offsets([group])[group]
            return {each.partition: at.offset for each, at in told.items() if each.topic == topic} == ends or None

        asked(self.cluster, ask)

    def close(self) -> None:
        for source in self.sources:
            source.close()
        self.service.kill()
        ended(self.service)
