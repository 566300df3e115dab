"""A process that ends amid an append to a real broker leaves no half of it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from tests.e2e.emitters.kafka_writers import DAY, create, read, settings

from quietcount_producers.kafka.settings import KafkaSettings

pytestmark = pytest.mark.check

__all__ = ["settings"]  # fixtures, which tests ask for by name

HALVES = """
import os, pathlib, signal, sys, time
from quietcount_producers.kafka import internals, writer as kafka_writer
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_producers.simulation import encoded
from quietcount_schemas import Codec, SchemaRegistry
from quietcount_schemas.log import CASE_EVENTS, NewRecord

calls = 0

def amid():
    # Called before each record is handed over.
    global calls
    calls += 1
    if calls == 300:
        time.sleep(0.5)  # whatever the library would send of its own accord is sent by now
        {end}

settings = KafkaSettings(brokers=({broker!r},), topic_prefix={prefix!r})
{making}
writer = kafka_writer.KafkaWriter(settings)
records = [NewRecord(b"k", b"%d" % n, {day}) for n in range(200)]
writer.append(CASE_EVENTS, records)
writer.append(CASE_EVENTS, records)
"""
OURS = """
add = internals.MemoryRecordsBuilder.append
internals.MemoryRecordsBuilder.append = lambda *arguments: amid() or add(*arguments)
"""
KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
LEFT = "sys.exit(3)"  # and the library would send what it holds


def halves(settings: KafkaSettings, making: str = OURS, end: str = KILLED) -> int:
    """Let a process end amid its second append of 200 records, and return how many are there."""
    create(settings)
    source = HALVES.format(broker=settings.brokers[0], prefix=settings.topic_prefix, day=DAY, making=making, end=end)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert done.returncode == (-signal.SIGKILL if end == KILLED else 3), done.stderr
    return len(read(settings))


@pytest.mark.parametrize("end", [KILLED, LEFT], ids=["killed", "left"])
def test_a_process_that_ends_amid_an_append_leaves_no_half_of_it(settings: KafkaSettings, end: str) -> None:
    assert halves(settings, end=end) == 200


GATHERED = """
class Gathered:
    def __init__(self, futures):
        self.futures = futures

    @property
    def value(self):
        return self.futures[0].get(timeout=0).offset, -1, None

def hand_over(producer, topic, partition, records):
    return Gathered([
        amid() or producer.send(topic, each.value, each.key, partition=partition, timestamp_ms=each.timestamp)
        for each in records
    ])

kafka_writer.hand_over = hand_over
"""
SMALL = """
whole = kafka_writer.KafkaProducer
kafka_writer.KafkaProducer = lambda **options: whole(linger_ms=10_000, batch_size=500, **options)
"""


@pytest.mark.parametrize("making", [GATHERED, GATHERED + SMALL], ids=["no linger", "small batches"])
def test_the_trial_of_halves_catches_a_writer_that_lets_the_library_gather(
    settings: KafkaSettings, making: str
) -> None:
    assert 200 < halves(settings, making) < 400
