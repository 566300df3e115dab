"""What was acknowledged is folded once, while the brokers that lead its partitions are killed or stand still."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer
from tests.e2e.kafka.kafka_projects import kafka_project, settings_of
from tests.e2e.kafka.leader_trials import (
    BEFORE_ANY_RELEASE,
    EVERY_EVENT,
    Trial,
    check_what_was_acknowledged_is_folded_once,
    leader_of,
    requests,
)
from tests.kafka.cluster import Cluster
from tests.kafka.fixtures import Clusters

from quietcount_consumers.kafka.topics import create_topics
from quietcount_producers import CaseEventPublisher
from quietcount_producers.kafka import writer as kafka_writer
from quietcount_schemas.errors import QuietcountError

pytestmark = [pytest.mark.check, pytest.mark.xdist_group("kafka_leaders")]  # they share three brokers


@pytest.fixture(scope="module")
def three(apache_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three brokers for all these tests; each leaves them running."""
    clusters = Clusters(tmp_path_factory.mktemp("leaders"))
    try:
        yield clusters(3)
    finally:
        clusters.close()


@pytest.fixture
def cluster(three: Cluster) -> Cluster:
    for broker in three.brokers:
        broker.resume()
    three.start()
    return three


def trial(folder: Path, cluster: Cluster, events: int, kills: int) -> None:
    started = time.monotonic()
    with contextlib.closing(Trial(folder, cluster, events)) as trial:
        trial.kill_leaders(kills)
        acknowledged = trial.end()
    folded = check_what_was_acknowledged_is_folded_once(trial.project, trial.oracle, trial.lines, acknowledged)
    print(
        f"{events} events, {kills} leaders killed, {len(acknowledged)} acknowledged, {folded} folded, "
        f"{trial.commands.refused} commands repeated, the service opened anew {trial.opened_anew} times, "
        f"{time.monotonic() - started:.0f} s"
    )
    for source in (trial.repeating, trial.spooling, trial.commands):  # who repeats, or has a spool, comes to the end
        assert len(source.acknowledged) == events // 4


def test_what_was_acknowledged_while_leaders_were_killed_is_folded_once(tmp_path: Path, cluster: Cluster) -> None:
    trial(tmp_path, cluster, 3000, 2)


@pytest.mark.soak
def test_fifty_thousand_events_while_leaders_are_killed(tmp_path: Path, cluster: Cluster) -> None:
    trial(tmp_path, cluster, 50_000, 30)


def check_a_leader_whose_followers_stand_still(folder: Path, cluster: Cluster) -> None:
    """A leader takes events that its followers never see, and is killed: what it acknowledged alone would be lost."""
    project = kafka_project(folder / "project", cluster.bootstrap, cluster.prefix(), EVERY_EVENT, topics=False)
    create_topics(settings_of(project), partitions=1)
    oracle = project.copy(folder / "oracle")
    lines = requests(300)
    acknowledged: set[int] = set()
    publisher = CaseEventPublisher.from_config(project.config)

    def emit(numbers: range) -> None:
        futures = []
        for number in numbers:
            line = dict(lines[number])
            event, case, day = (line.pop(key) for key in ("event", "case", "occurred_on"))
            futures.append((number, publisher.emit(event, case, day, **line)))
        with contextlib.suppress(QuietcountError):
            publisher.flush()
        acknowledged.update(number for number, future in futures if future.exception() is None)

    emit(range(100))
    leader = leader_of(project, cluster, 0)
    followers = [broker for broker in cluster.brokers if broker is not leader]
    for broker in followers:
        broker.pause()
    # What they had asked for is answered within half a second (replica.fetch.wait.max.ms), and would reach them later.
    # With two of three brokers silent there is no controller either, which could let the leader go on alone.
    time.sleep(1.5)
    with pytest.MonkeyPatch.context() as hasty:
        hasty.setattr(kafka_writer, "APPEND_SECONDS", 3.0)  # for answers that cannot come
        emit(range(100, 200))
    leader.kill()
    for broker in followers:
        broker.resume()
    leader_of(project, cluster, 0, unlike=leader)
    emit(range(200, 300))
    with contextlib.suppress(QuietcountError):
        publisher.close()
    cluster.restart(leader)
    assert acknowledged >= {*range(100), *range(200, 300)}
    project.run_here(BEFORE_ANY_RELEASE)
    check_what_was_acknowledged_is_folded_once(project, oracle, lines, acknowledged)


@pytest.mark.soak
def test_nothing_is_acknowledged_that_the_leader_alone_has(tmp_path: Path, cluster: Cluster) -> None:
    check_a_leader_whose_followers_stand_still(tmp_path, cluster)


@pytest.mark.soak
def test_a_twin_that_trusts_the_leader_alone_fails_the_same_check(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trusting(**settings: Any) -> KafkaProducer:
        return KafkaProducer(**{**settings, "acks": 1, "enable_idempotence": False})

    monkeypatch.setattr(kafka_writer, "KafkaProducer", trusting)
    with pytest.raises(AssertionError, match=r"[1-9]00 acknowledged events were not folded"):
        check_a_leader_whose_followers_stand_still(tmp_path, cluster)
