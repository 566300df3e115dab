"""Fixtures that give a test a broker. README.md beside this file shows their use; `tests/conftest.py` loads them."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.kafka import artifacts
from tests.kafka.cluster import POM, Cluster, new_prefix
from tests.kafka.keeper import shared
from tests.kafka.secured import SecuredCluster

Require = Callable[[bool, str], None]
EXTERNAL = "QUIETCOUNT_TEST_KAFKA"


@dataclass(frozen=True)
class Kafka:
    """A broker that is there for many tests: each takes a topic prefix of its own."""

    bootstrap: str
    """`host:port,...`: what follows `kafka://` in the configuration."""
    cluster: Cluster | None = None
    """None if somebody else started the broker; a test that needs its controls asks for `kafka_cluster`."""

    def prefix(self) -> str:
        """A topic prefix that nobody else has."""
        return new_prefix()

    def logs(self) -> Iterator[tuple[str, str]]:
        """The end of the broker's log, where it can be read."""
        if self.cluster is not None:
            yield from self.cluster.logs()


def external() -> str | None:
    """Return the broker that QUIETCOUNT_TEST_KAFKA names, or None; if everything is required, only our own will do."""
    if os.environ.get("QUIETCOUNT_REQUIRE_ALL") == "1":
        return None
    return os.environ.get(EXTERNAL) or None


@pytest.fixture(scope="session")
def apache_kafka(require: Require) -> None:
    """Apache Kafka can be started here; otherwise skip the test aloud, or fail it if everything is required."""
    require(artifacts.obtainable(POM), artifacts.WANTED)


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One broker in plain text for the whole run and all its workers: the one that is named, or Apache Kafka."""
    if named := external():
        yield Kafka(named)
        return
    request.getfixturevalue("apache_kafka")
    with shared(_of_run(tmp_path_factory) / "kafka", "plain") as cluster:
        yield Kafka(cluster.bootstrap, cluster)


def _of_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all workers of a run have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


class Clusters:
    """Brokers of a test's own: each call starts a cluster, and all end with the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Cluster] = []

    def __call__(self, size: int = 1, **settings: Any) -> Cluster:
        """Start `size` brokers; `settings` are those of `Cluster`."""
        cluster = Cluster(self._folder / f"kafka-{len(self._made)}", size, **settings)
        self._made.append(cluster)
        cluster.start()
        return cluster

    def logs(self) -> Iterator[tuple[str, str]]:
        """The end of each broker's log."""
        for cluster in self._made:
            yield from cluster.logs()

    def close(self) -> None:
        """End every process and remove the data."""
        for cluster in self._made:
            cluster.close()


@pytest.fixture
def kafka_cluster(apache_kafka: None, tmp_path: Path) -> Iterator[Clusters]:
    """A function `kafka_cluster(size=1, **settings)`: brokers of the test's own, started, with their controls."""
    clusters = Clusters(tmp_path)
    try:
        yield clusters
    finally:
        clusters.close()


@pytest.fixture
def kafka_three(kafka_cluster: Clusters) -> Cluster:
    """Three brokers, replication 3, min ISR 2."""
    return kafka_cluster(3)


@pytest.fixture(scope="session")
def kafka_secure(apache_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredCluster]:
    """One broker behind TLS, client certificates, SCRAM and access rules, for the whole run and all its workers."""
    with shared(_of_run(tmp_path_factory) / "kafka-secure", "secured") as cluster:
        assert isinstance(cluster, SecuredCluster)
        yield cluster


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the brokers' logs with each test that failed and had a broker."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, (Cluster, Kafka, Clusters)):
                report.sections += [each for each in value.logs() if each[1] and each not in report.sections]
    return report
