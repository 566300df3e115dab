"""Logs for stories on the broker that all tests share."""

from __future__ import annotations

from contextlib import ExitStack

from tests.kafka.bench import LogWithTopics, opened
from tests.kafka.fixtures import Kafka
from tests.property.stories import World

from quietcount_schemas.log import CASE_EVENTS

__all__ = ["Broker"]


class Broker:
    """Makes logs with topics of their own on the broker that all tests share, and counts what they lost."""

    def __init__(self, kafka: Kafka, stack: ExitStack) -> None:
        self.kafka = kafka
        self._stack = stack
        self.logs: list[LogWithTopics] = []

    def opened(self) -> LogWithTopics:
        """Return a log with topics of its own, of which none is made yet."""
        log = opened(self.kafka.bootstrap, self.kafka.prefix())
        self._stack.callback(log.close)
        return log

    def __call__(self, world: World) -> LogWithTopics:
        log = self.opened()
        log.create_topic(CASE_EVENTS, world.partitions)
        self.logs.append(log)
        return log

    @property
    def purged(self) -> int:
        """How many partitions no longer begin with their first record."""
        return sum(begin > 0 for log in self.logs for begin in log.beginning_offsets(CASE_EVENTS).values())
