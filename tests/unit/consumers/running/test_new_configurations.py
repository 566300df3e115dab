"""The lasting service is asked to read its configuration again: what takes effect when, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.running_world import (
    AWAY,
    DAY,
    MINUTE,
    NOON,
    Certificates,
    MovedClocks,
    Trial,
    World,
    changed,
    minutes,
    reloading,
)

from quietcount_aggregates.errors import (
    BudgetError,
    PopulationError,
    PublicationUnwritable,
)
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ConfigurationError, ServiceError
from quietcount_consumers.monitoring.status import Status
from quietcount_schemas.errors import QuietcountError

pytestmark = pytest.mark.quick


def test_a_new_configuration_holds_from_the_next_tick_on() -> None:
    server = Certificates()
    first, second = Trial(), Trial()
    world = World(
        first, second, waits=4, at={2: lambda: reloading(world)}, reading=changed(tick="30s", grace="2d"), server=server
    )
    world.run()
    assert first.closed
    assert [each.grace for each in world.opened] == [7 * DAY, 2 * DAY]
    assert first.seen == minutes(0, 1)
    assert second.seen == [NOON + 2 * MINUTE, NOON + 2.5 * MINUTE]
    assert server.reloads == 1
    assert world.events == ["started", "serving", "reloaded", "stopped"]
    assert world.said[1]["address"] == "[::1]:9464"


@pytest.mark.parametrize(
    "values, named",
    [
        ({"log": "kafka://elsewhere:9092"}, "log"),
        ({"data_dir": "elsewhere"}, "data_dir"),
        ({"service": {"secret_file": "elsewhere"}}, "service.secret_file"),
    ],
)
def test_what_needs_a_restart_is_refused_and_the_old_configuration_goes_on_whole(
    values: dict[str, object], named: str
) -> None:
    trial = Trial()
    server = Certificates()
    world = World(
        trial, waits=4, at={2: lambda: reloading(world)}, reading=changed(**values, grace="2d"), server=server
    )
    world.run()
    assert trial.seen == minutes(0, 1, 2, 3)
    assert len(world.opened) == 1
    assert server.reloads == 0
    assert world.events == ["started", "serving", "reload refused", "stopped"]
    assert world.said[2]["meaning"].startswith(f"{named} cannot change while the service runs")


@pytest.mark.parametrize("refusing", ["file", "certificate"])
def test_a_file_or_a_certificate_that_is_wrong_refuses_the_new_configuration(refusing: str) -> None:
    def unreadable() -> Configuration:
        raise ConfigurationError("quietcount.toml: key 'grcae' is not known")

    trial = Trial()
    world = World(
        trial,
        waits=4,
        at={2: lambda: reloading(world)},
        reading=unreadable if refusing == "file" else changed(grace="2d"),
        server=Certificates(refusing == "certificate"),
    )
    world.run()
    assert trial.seen == minutes(0, 1, 2, 3)
    assert world.events == ["started", "serving", "reload refused", "stopped"]


@pytest.mark.parametrize("error", [BudgetError("spent"), PopulationError("changed"), ServiceError("schemas")])
def test_what_the_ledger_refuses_is_said_and_the_old_configuration_goes_on_at_the_same_tick(
    error: QuietcountError,
) -> None:
    last = Trial()
    world = World(
        Trial(), error, last, waits=4, at={2: lambda: reloading(world)}, reading=changed(tick="30s", grace="2d")
    )
    world.run()
    assert [each.grace for each in world.opened] == [7 * DAY, 2 * DAY, 7 * DAY]
    assert last.seen == minutes(2, 3)
    assert world.events == ["started", "reload refused", "stopped"]
    assert world.said[1]["meaning"] == str(error)


@pytest.mark.parametrize("error", [BudgetError("spent"), PopulationError("changed"), ServiceError("schemas")])
def test_where_the_old_configuration_cannot_be_opened_either_it_is_waited_for(error: QuietcountError) -> None:
    """Both read the same files: one that is wrong must not end a service that has said that the old one goes on."""
    last = Trial()
    world = World(
        Trial(), error, error, error, last, waits=5, at={2: lambda: reloading(world)}, reading=changed(grace="2d")
    )
    world.run()
    assert [each.grace.days for each in world.opened] == [7, 2, 7, 7, 7]
    assert world.events == ["started", "reload refused", "waiting", "going on", "stopped"]
    assert last.seen == minutes(4)


def test_an_outage_after_a_refusal_does_not_end_the_service_by_the_file_that_was_refused() -> None:
    def unreadable() -> Configuration:
        raise ConfigurationError("schemas/x.avsc: is no schema")

    last, broken = Trial(), ServiceError("schemas/x.avsc: is no schema")
    first = Trial({4: AWAY})
    world = World(first, broken, last, waits=7, at={2: lambda: reloading(world)}, reading=unreadable)
    world.run()
    assert world.events == ["started", "reload refused", "waiting", "waiting", "going on", "stopped"]


def test_brokers_that_are_away_just_then_do_not_decide_about_a_new_configuration() -> None:
    last = Trial()
    world = World(
        Trial(),
        AWAY,
        BudgetError("spent"),
        last,
        waits=5,
        at={2: lambda: reloading(world)},
        reading=changed(grace="2d"),
    )
    world.run()
    assert [each.grace.days for each in world.opened] == [7, 2, 2, 7]
    assert world.events == ["started", "waiting", "reload refused", "going on", "stopped"]
    assert last.seen == minutes(3, 4)


def test_brokers_that_go_away_after_a_refusal_do_not_make_it_a_success() -> None:
    last = Trial()
    world = World(
        Trial(),
        BudgetError("spent"),
        AWAY,
        last,
        waits=5,
        at={2: lambda: reloading(world)},
        reading=changed(grace="2d"),
    )
    world.run()
    assert [each.grace.days for each in world.opened] == [7, 2, 7, 7]
    assert world.events == ["started", "reload refused", "waiting", "going on", "stopped"]


def test_a_new_configuration_that_is_being_tried_is_not_lost_by_one_that_cannot_be_read() -> None:
    """The brokers are away when both are asked for: neither is proven, and the old one is there to go back to."""
    wishes = iter([changed(grace="2d")])

    def read() -> Configuration:
        for wish in wishes:
            return wish()
        raise ConfigurationError("quietcount.toml: key 'grcae' is not known")

    last = Trial()
    at: dict[int, Callable[[], None]] = {2: lambda: reloading(world), 3: lambda: reloading(world)}
    world = World(Trial(), AWAY, AWAY, BudgetError("spent"), last, waits=6, at=at, reading=read)
    world.run()
    assert [each.grace.days for each in world.opened] == [7, 2, 2, 2, 7]
    assert world.events == ["started", "waiting", "reload refused", "reload refused", "going on", "stopped"]
    assert last.seen == minutes(4, 5)


def test_a_file_that_cannot_be_put_in_its_place_while_the_clock_is_wrong_makes_no_clock_right() -> None:
    class Late(Trial):
        def show(self) -> bool:
            if len(seen) > 2:
                raise PublicationUnwritable("the folder cannot be written")
            return False

    clocks = MovedClocks()
    seen: list[Status] = []

    def look() -> None:
        seen.append(world.board.latest)
        if len(seen) == 2:
            clocks.jump(DAY)

    world = World(Late(), clocks=clocks, waits=6, at=dict.fromkeys(range(1, 7), look))
    world.run()
    assert world.events == ["started", "clock jumped", "waiting", "stopped"]
    assert [each.clock_trusted for each in seen] == [True, True, False, False, False, False]
    assert [each.state_open for each in seen] == [True, True, True, False, False, False]
