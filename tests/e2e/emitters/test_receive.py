"""Deliveries over HTTP while the door, or the log behind it, is killed: each is in the log, and counts once."""

from __future__ import annotations

import http.client
import json
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.doors import Served, configured, delivery, event_ids, refused
from tests.e2e.emitters.test_spool import create_topic, topic_values
from tests.kafka.cluster import Cluster, free_ports

from quietcount_producers import EventSpool, Pepper, open_log
from quietcount_producers.composing.composition import Composer
from quietcount_producers.mapping import Mapping
from quietcount_producers.settings import EmitterSettings
from quietcount_producers.spool.relay import relay_rest
from quietcount_schemas.codec import Codec
from quietcount_schemas.log import CASE_EVENTS
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.check

TOOLS = 4
"""How many threads deliver at once."""

REGISTRY = SchemaRegistry.load()


class Tools:
    """Threads that deliver `count` records, each until it is answered with 200, and a third of them again after that.

    Every tenth holds something that the mapping refuses. `served` returns the door as it is now.
    """

    def __init__(self, count: int, served: Callable[[], Served], seed: int) -> None:
        self._served = served
        self._work: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(count):
            self._work.put(number)
        self.done = 0
        self.repeated = 0
        self.unanswered = 0
        self.failed: list[str] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._deliver, args=(seed + n,)) for n in range(TOOLS)]
        for thread in self._threads:
            thread.start()

    def _deliver(self, seed: int) -> None:
        chance = random.Random(seed)
        while True:
            try:
                number = self._work.get_nowait()
            except queue.Empty:
                return
            wanted = times = chance.choice((1, 1, 2))
            while times:
                try:
                    status = self._served().post(body(number)).status
                except (OSError, http.client.HTTPException):
                    with self._lock:
                        self.unanswered += 1
                    time.sleep(0.02)  # the door was killed
                    continue
                if status == 200:
                    times -= 1
                elif status != 503:
                    with self._lock:
                        self.failed.append(f"delivery {number} was answered with {status}")
                    return
            with self._lock:
                self.done += 1
                self.repeated += wanted - 1

    def wait(self, count: int) -> None:
        until = time.monotonic() + 600
        while self.done < count and not self.failed and any(thread.is_alive() for thread in self._threads):
            assert time.monotonic() < until
            time.sleep(0.005)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()
        assert self.failed == []


def is_bad(number: int) -> bool:
    return number % 10 == 9


def body(number: int) -> bytes:
    return json.dumps(delivery(number, day="in spring") if is_bad(number) else delivery(number)).encode()


def expected(folder: Path, count: int) -> set[bytes]:
    """The ids that the good ones of `count` records have."""
    mapping = Mapping.load(folder / "kobo.toml", REGISTRY)
    composer = Composer(REGISTRY, Pepper.load(folder / "secrets" / "pepper"))
    made = [composer.compose(mapping.events(delivery(n))[0]) for n in range(count) if not is_bad(n)]  # type: ignore[arg-type]
    return {Codec(REGISTRY).decode(record.value).event_id for record in made}


@contextmanager
def killed_door(config: Path, count: int, kills: int, seed: int) -> Iterator[Tools]:
    """Deliver while the door is killed `kills` times, and end it in order."""
    served = [Served(config)]
    tools = Tools(count, lambda: served[0], seed)
    try:
        for kill in range(kills):
            tools.wait((kill + 1) * count // (kills + 2))
            served[0].kill()
            served[0] = Served(config)
        yield tools
        tools.join()
        assert served[0].end()[0] == 0
    finally:
        served[0].__exit__()


def checked(folder: Path, count: int, ids: list[bytes]) -> None:
    """Each good record is in the log, as one event, and each bad one in the private file."""
    good = expected(folder, count)
    assert len(good) == count - count // 10
    assert set(ids) == good
    kept = [each["original"]["_id"] for each in refused(folder)]
    assert set(kept) == {number for number in range(count) if is_bad(number)}
    print(f"{count} deliveries, {len(ids)} records of {len(good)} events in the log, {len(kept)} lines refused")


def fixed(folder: Path, log: str = "") -> Path:
    """A project whose door has the same port each time."""
    config = configured(folder)
    config.write_text(log + config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{free_ports(1)[0]}"))
    return config


def a_seed() -> int:
    seed = random.randrange(10**9)
    print("seed", seed)
    return seed


def drained(config: Path) -> None:
    settings = EmitterSettings.load(config, {})
    assert settings.spool is not None
    with EventSpool(settings.spool) as spool:
        assert relay_rest(spool, lambda: open_log(settings))


def trial(folder: Path, count: int, kills: int) -> None:
    config = fixed(folder)
    with killed_door(config, count, kills, a_seed()) as tools:
        pass
    drained(config)
    ids = event_ids(folder)
    print(f"{tools.repeated} repeats, {tools.unanswered} unanswered tries, {kills} kills")
    assert len(ids) > len(set(ids))  # repeats did come
    checked(folder, count, ids)


def test_whatever_is_killed_each_of_300_deliveries_is_in_the_log_and_counts_once(tmp_path: Path) -> None:
    trial(tmp_path, 300, 4)


@pytest.mark.soak
def test_whatever_is_killed_each_of_10_000_deliveries_is_in_the_log_and_counts_once(tmp_path: Path) -> None:
    trial(tmp_path, 10_000, 60)


@pytest.mark.soak
def test_with_the_door_and_the_brokers_killed_each_of_10_000_deliveries_is_in_the_log_and_counts_once(
    tmp_path: Path, kafka_cluster: Callable[..., Cluster]
) -> None:
    cluster = kafka_cluster()
    prefix = cluster.prefix()
    log = f'log = "kafka://{cluster.bootstrap}"\nkafka.topic_prefix = "{prefix}"\n'
    config = fixed(tmp_path, log)
    create_topic(cluster.bootstrap, f"{prefix}{CASE_EVENTS}")
    ended = threading.Event()

    def outages() -> None:
        while not ended.wait(3):
            cluster.kill()
            ended.wait(2)
            cluster.start()

    breaking = threading.Thread(target=outages)
    breaking.start()
    try:
        with killed_door(config, 10_000, 40, a_seed()) as tools:
            pass
    finally:
        ended.set()
        breaking.join()
    drained(config)
    print(f"{tools.repeated} repeats, {tools.unanswered} unanswered tries")
    codec = Codec(REGISTRY)
    values = topic_values(cluster.bootstrap, f"{prefix}{CASE_EVENTS}")
    checked(tmp_path, 10_000, [codec.decode(value).event_id for each in values for value in each])
