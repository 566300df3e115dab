"""Projects whose log and ledger are on a real broker."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.errors import RetriableError
from tests.e2e.projects import EXACT, Project

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.kafka.topics import create_topics
from quietcount_producers.kafka import handshake
from quietcount_producers.kafka.settings import KafkaSettings

__all__ = ["PARTITIONS", "groups_answer", "impatient", "kafka_configuration", "kafka_project", "settings_of"]

PARTITIONS = 3


def kafka_configuration(bootstrap: str, prefix: str, configuration: str = EXACT) -> str:
    """Return `configuration` on Kafka."""
    return f'log = "kafka://{bootstrap}"\nkafka = {{ topic_prefix = "{prefix}" }}\n{configuration}'


def kafka_project(
    folder: Path, bootstrap: str, prefix: str, configuration: str = EXACT, *, topics: bool = True
) -> Project:
    """Make a project on the brokers at `bootstrap`, with its topics."""
    project = Project(folder, kafka_configuration(bootstrap, prefix, configuration))
    if topics:
        create_topics(settings_of(project), partitions=PARTITIONS)
    return project


def groups_answer(bootstrap: str, group: str) -> None:
    """Wait until the broker answers for `group`: one that was just started makes the topic of all groups first."""
    until = time.monotonic() + 30
    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        while True:
            try:
                admin.list_group_offsets([group])
                return
            except RetriableError:
                assert time.monotonic() < until
                time.sleep(0.1)


def impatient(patch: pytest.MonkeyPatch, silent: str) -> None:
    """Wait half a second for the address that never answers, and as long as ever for all others."""
    connected = handshake._connected

    def hasty(settings: KafkaSettings, broker: str, host: str, port: int) -> socket.socket:
        connection = connected(settings, broker, host, port)
        if broker == silent:
            connection.settimeout(0.5)
        return connection

    patch.setattr(handshake, "_connected", hasty)


def settings_of(project: Project) -> KafkaSettings:
    """Return where the project's log is."""
    settings = Configuration.load(project.config).kafka
    assert settings is not None
    return settings
