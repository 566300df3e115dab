"""Appends to the ledger on a broker: two at the same moment, and while its leaders are killed."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections import Counter
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient
from tests.e2e.releasers import releaser
from tests.e2e.releasers.forked_releasers import LONGEST, fork
from tests.kafka.broker import Broker
from tests.kafka.cluster import Cluster
from tests.kafka.fixtures import Kafka

from quietcount_aggregates.errors import LedgerUnavailable
from quietcount_consumers.kafka.ledger import KafkaLedger
from quietcount_consumers.kafka.topics import create_topics
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import RELEASES

pytestmark = pytest.mark.check

__all__ = ["fork"]  # fixtures, which tests ask for by name


def raced(settings: KafkaSettings, fork: ForkServerContext, folder: Path, rounds: int, *, twin: bool) -> list[Any]:
    """Let two releasers append at the same time; return the index that each entry says it has."""
    create_topics(settings)
    seed = int(os.environ.get("QUIETCOUNT_TEST_SEED", random.randrange(10**9)))
    print("seed", seed)
    racers = [
        fork.Process(target=releaser.race, args=(settings, name, rounds, seed + n, folder / name, twin), daemon=True)
        for n, name in enumerate(("a", "b"))
    ]
    for each in racers:
        each.start()
    try:
        for each, name in zip(racers, ("a", "b"), strict=True):
            each.join(LONGEST + 10 * rounds)
            assert each.exitcode == 0, (folder / name).read_text(encoding="utf-8")
    finally:
        for each in racers:
            each.kill()
    with pytest.MonkeyPatch.context() as patch:
        if twin:
            patch.setattr(KafkaLedger, "_keep", releaser.believed)
        with KafkaLedger(settings) as ledger:
            return [int(entry.split()[0]) for entry in ledger.read()]


@pytest.mark.parametrize("rounds", [8, pytest.param(100, marks=pytest.mark.soak)])
def test_two_that_append_at_the_same_moment_never_share_a_place(
    tmp_path: Path, kafka: Kafka, fork: ForkServerContext, rounds: int
) -> None:
    settings = KafkaSettings(brokers=tuple(kafka.bootstrap.split(",")), topic_prefix=kafka.prefix())
    places = raced(settings, fork, tmp_path, rounds, twin=False)
    assert places == list(range(len(places)))
    assert len(places) >= 2 * rounds  # one that was shut out while it committed may have appended all the same


def test_twins_without_fence_and_comparison_share_places(tmp_path: Path, kafka: Kafka, fork: ForkServerContext) -> None:
    settings = KafkaSettings(brokers=tuple(kafka.bootstrap.split(",")), topic_prefix=kafka.prefix())
    places = raced(settings, fork, tmp_path, 15, twin=True)
    assert places != list(range(len(places)))


class Failing:
    """A ledger on three brokers, of which the one that leads it is killed again and again."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        self.cluster = cluster
        self.chance = chance
        self.settings = KafkaSettings(brokers=tuple(cluster.bootstrap.split(",")), topic_prefix=cluster.prefix())
        create_topics(self.settings)
        self.there: list[bytes] = []
        self.outcomes: Counter[str] = Counter()

    def opened(self) -> tuple[KafkaLedger, int]:
        """Open, fence and read the ledger as a service does: again at each tick until there is an answer."""
        until = time.monotonic() + LONGEST
        while True:
            with contextlib.ExitStack() as stack:
                try:
                    ledger = stack.enter_context(KafkaLedger(self.settings))
                    epoch = ledger.fence()
                    entries = ledger.read()
                except LedgerUnavailable:
                    if time.monotonic() > until:
                        raise
                    self.outcomes["unavailable"] += 1
                    time.sleep(0.2)
                    continue
                stack.pop_all()
            self.check(entries)
            return ledger, epoch

    def check(self, entries: list[bytes]) -> None:
        """What was read or acknowledged once stays, in its place; each was appended at most once."""
        assert entries[: len(self.there)] == self.there
        assert len(set(entries)) == len(entries)
        assert [int(entry.split()[0]) for entry in entries] == list(range(len(entries)))
        self.there = entries

    def leader(self) -> Broker:
        topic = self.settings.topic(RELEASES)
        servers = [broker.address() for broker in self.cluster.brokers if broker.answering]
        until = time.monotonic() + LONGEST
        with KafkaAdminClient(bootstrap_servers=servers) as admin:
            while True:
                leader = admin.describe_topics([topic])[0]["partitions"][0]["leader_id"]
                if leader > 0:
                    return self.cluster.brokers[int(leader) - 1]
                assert time.monotonic() < until
                time.sleep(0.1)

    def round(self, number: int, *, within: bool) -> Broker:
        """Append while the leader dies, with the commit on its way (`within`) or before; return the dead one."""
        ledger, epoch = self.opened()
        leader = self.leader()
        killing = threading.Timer(self.chance.uniform(0.0, 0.01), leader.kill)
        start = len(self.there)
        given = [b"%d of round %d" % (start + place, number) for place in range(3)]
        with contextlib.closing(ledger):
            assert ledger._fence is not None
            commit = ledger._fence._producer.commit_transaction

            def committing() -> None:
                killing.start()
                commit()

            if within:
                ledger._fence._producer.commit_transaction = committing
            else:
                killing.run()
            try:
                ledger.append(given, epoch=epoch, expected=start)
            except LedgerUnavailable:
                self.outcomes["unknown"] += 1
            else:
                self.outcomes["appended"] += 1
                self.there = [*self.there, *given]
            if killing.is_alive():
                killing.join()
            leader.kill()  # where the append came to no commit
        ledger, _ = self.opened()
        ledger.close()
        assert self.there[start:] in ([], given)
        return leader


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.soak)])
def test_what_was_appended_outlives_the_leaders_of_the_ledger(kafka_three: Cluster, rounds: int) -> None:
    seed = int(os.environ.get("QUIETCOUNT_TEST_SEED", random.randrange(10**9)))
    print("seed", seed)
    failing = Failing(kafka_three, random.Random(seed))
    for number in range(rounds):
        dead = failing.round(number, within=number % 2 == 0)
        if number < rounds - 1:
            kafka_three.restart(dead)
    ledger, epoch = failing.opened()
    with contextlib.closing(ledger):
        ledger.append([b"%d last" % len(failing.there)], epoch=epoch, expected=len(failing.there))
        failing.check(ledger.read())
    print(rounds, "rounds:", dict(failing.outcomes), len(failing.there), "entries")
