"""Fixtures that give a test a broker. README.md beside this file shows their use; `tests/conftest.py` loads them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.kafka import artifacts
from tests.kafka.cluster import POM, Cluster, new_prefix

Require = Callable[[bool, str], None]
EXTERNAL = "QUIETCOUNT_TEST_KAFKA"


@dataclass(frozen=True)
class Kafka:
    """A broker that is there for many tests: each takes a topic prefix of its own."""

    bootstrap: str
    """`host:port,...`: what follows `kafka://` in the configuration."""
    cluster: Cluster | None = None
    """None where the broker was not started here; a test that needs its controls asks for `kafka_cluster`."""

    def prefix(self) -> str:
        """A topic prefix that nobody else has."""
        return new_prefix()

    def logs(self) -> Iterator[tuple[str, str]]:
        """The end of the broker's log, where it can be read."""
        if self.cluster is not None:
            yield from self.cluster.logs()


def _everything() -> bool:
    return os.environ.get("QUIETCOUNT_REQUIRE_ALL") == "1"


@pytest.fixture(scope="session")
def apache_kafka(require: Require) -> None:
    """Java and Maven, or what they fetched before; else the test is left out, or fails where all has to be there."""
    require(artifacts.obtainable(POM), artifacts.WANTED)


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One broker in plain text for the whole run of a worker: the one that is named, else Apache Kafka."""
    external = os.environ.get(EXTERNAL)
    if external and not _everything():
        yield Kafka(external)
        return
    request.getfixturevalue("apache_kafka")
    cluster = Cluster(tmp_path_factory.mktemp("kafka"))
    try:
        cluster.start()
        yield Kafka(cluster.bootstrap, cluster)
    finally:
        cluster.close()


@pytest.fixture
def kafka_cluster(apache_kafka: None, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """A function `kafka_cluster(size=1, **settings)`: brokers of the test's own, started, with their controls."""
    made: list[Cluster] = []

    def make(size: int = 1, **settings: Any) -> Cluster:
        cluster = Cluster(tmp_path / f"kafka-{len(made)}", size, **settings)
        made.append(cluster)
        cluster.start()
        return cluster

    try:
        yield make
    finally:
        for cluster in made:
            cluster.close()


@pytest.fixture
def kafka_three(kafka_cluster: Callable[..., Cluster]) -> Cluster:
    """Three brokers, replication 3, min ISR 2."""
    return kafka_cluster(3)
