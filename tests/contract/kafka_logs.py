"""The log on Kafka, with topics of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.kafka.bench import LogWithTopics, opened
from tests.kafka.fixtures import Kafka


@pytest.fixture
def log(kafka: Kafka) -> Iterator[LogWithTopics]:
    with opened(kafka.bootstrap, kafka.prefix()) as log:
        yield log
