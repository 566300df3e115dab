"""The emitters' metrics: coarse, still between the hours, and loaded by nobody who does not ask for them."""

from __future__ import annotations

import datetime as dt
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from quietcount_producers import CaseEventPublisher, Pepper
from quietcount_producers.errors import LogUnavailable
from quietcount_producers.prometheus import BUILD_INFO, SPOOL_AGE, EmitterCollector
from quietcount_producers.spool.event_spool import EventSpool
from quietcount_schemas.log import NewRecord, Position

pytestmark = pytest.mark.quick

DAY = 86_400
Make = Callable[[Callable[[], dt.datetime]], EmitterCollector]


class Clock:
    def __init__(self) -> None:
        self.now = dt.datetime(2023, 10, 3, 9, 30, tzinfo=dt.UTC)

    def __call__(self) -> dt.datetime:
        return self.now

    def today(self) -> dt.date:
        return self.now.date()


class Log:
    """A log that can be away."""

    place = "a log"

    def __init__(self) -> None:
        self.away = False

    def append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
        if self.away:
            raise LogUnavailable("away")
        return [Position(topic, 0, number) for number in range(len(records))]

    def close(self) -> None:
        """Nothing is open."""


class World:
    """An emitter with a spool, its log and its clock, and what Prometheus is told of it."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.log = Clock(), Log()
        self.spool = folder / "spool"
        self.publisher = CaseEventPublisher(
            self.log,
            pepper=Pepper.generate(folder / "pepper"),
            spool=self.spool,
            today=self.clock.today,
        )
        self.registry = self.watched(EmitterCollector)

    def watched(self, collector: Callable[..., Any]) -> CollectorRegistry:
        registry = CollectorRegistry()
        registry.register(collector(self.publisher, now=self.clock))
        return registry

    def age(self, registry: CollectorRegistry | None = None) -> float:
        value = (registry or self.registry).get_sample_value(SPOOL_AGE)
        assert value is not None
        return value

    def emit(self) -> None:
        """Emit one event, and wait until the log has it or the spool knows that it does not take it."""
        self.publisher.emit("HelpRequested", "somebody", "2023-09-01").result(10)
        with EventSpool(self.spool, create=False) as spool:
            while not (spool.state().empty or spool.state().waiting_since):
                time.sleep(0.01)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.publisher.close(wait=0)


def test_the_set_is_small_and_has_no_counter_and_no_time(world: World) -> None:
    said = generate_latest(world.registry).decode()
    names = [line.split()[2] for line in said.splitlines() if line.startswith("# TYPE ")]
    assert names == [BUILD_INFO, SPOOL_AGE]
    assert all(line.endswith(" gauge") for line in said.splitlines() if line.startswith("# TYPE "))
    assert f'{BUILD_INFO}{{version="' in said


def test_events_that_are_sent_on_change_nothing(world: World) -> None:
    before = generate_latest(world.registry)
    for _ in range(20):
        world.emit()
        world.clock.now += dt.timedelta(hours=3)
        assert generate_latest(world.registry) == before


def check_that_the_age_moves_at_midnight_up_and_on_the_hour_down(
    world: World, collector: Callable[..., Any] = EmitterCollector
) -> None:
    registry = world.watched(collector)
    assert world.age(registry) == 0
    world.log.away = True
    world.emit()
    for _ in range(14):  # 10:30 to 23:30
        world.clock.now += dt.timedelta(hours=1)
        assert world.age(registry) == 0, "an event that came today shows"
    world.clock.now = dt.datetime(2023, 10, 4, 0, 0, 10, tzinfo=dt.UTC)
    assert world.age(registry) == DAY
    world.clock.now += dt.timedelta(days=2)
    assert world.age(registry) == 3 * DAY
    world.log.away = False
    world.publisher.drain(20)
    assert world.publisher.spool_state().empty
    world.clock.now += dt.timedelta(minutes=59)
    assert world.age(registry) == 3 * DAY, "the moment at which the spool was empty shows"
    world.clock.now += dt.timedelta(minutes=1)
    assert world.age(registry) == 0


def test_the_age_of_a_spool_moves_at_midnight_up_and_on_the_hour_down(world: World) -> None:
    check_that_the_age_moves_at_midnight_up_and_on_the_hour_down(world)


class Eager(EmitterCollector):
    """The faulty twin that looks whenever it is asked."""

    def _age(self) -> float:
        return self._looked_at(self._now().date())


class Told(EmitterCollector):
    """The faulty twin that tells at once that something waits."""

    def _looked_at(self, today: dt.date) -> float:
        del today
        return float(not self._publisher.spool_state().empty)


@pytest.mark.parametrize("twin", [Eager, Told])
def test_a_twin_that_tells_more_is_found(world: World, twin: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError, match="shows"):
        check_that_the_age_moves_at_midnight_up_and_on_the_hour_down(world, twin)


def test_a_publisher_without_a_spool_has_nothing_that_waits(tmp_path: Path) -> None:
    with CaseEventPublisher(Log(), pepper=Pepper.generate(tmp_path / "pepper")) as publisher:
        registry = CollectorRegistry()
        registry.register(EmitterCollector(publisher))
        assert registry.get_sample_value(SPOOL_AGE) == 0


def test_a_spool_that_cannot_be_read_is_no_number_and_no_error(world: World) -> None:
    world.publisher.close()
    assert math.isnan(world.age())


def test_registering_looks_at_no_spool() -> None:
    nobody: Any = None
    CollectorRegistry(auto_describe=True).register(EmitterCollector(nobody))


def test_an_emitter_that_is_not_watched_does_not_load_the_client_of_prometheus() -> None:
    program = (
        "import sys, quietcount_producers, quietcount_producers.commands.emit, quietcount_producers.commands.spool, "
        "quietcount_producers.kafka.writer; print('prometheus_client' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False"]
