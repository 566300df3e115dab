"""The lasting service: what is shown and said when, what is waited for, and what a clock that jumps may do."""

from __future__ import annotations

import datetime as dt
import signal
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.running_world import (
    AWAY,
    DAY,
    HOUR,
    MINUTE,
    NOON,
    MovedClocks,
    Trial,
    World,
    changed,
    minutes,
    readiness,
    reloading,
)

from quietcount_aggregates.errors import (
    LedgerBehind,
    LedgerBroken,
    LedgerFenced,
    LedgerUnavailable,
    PublicationUnwritable,
    StateHeld,
)
from quietcount_consumers.errors import FolderUnwritable, ServiceError
from quietcount_consumers.monitoring.log_events import RELEASED, LogEvent
from quietcount_consumers.monitoring.status import NEVER, Status
from quietcount_consumers.service import Tick
from quietcount_schemas.errors import QuietcountError, Unavailable

pytestmark = pytest.mark.quick

# What is shown, and when


def test_it_ticks_once_at_each_point_of_the_grid() -> None:
    trial = Trial()
    world = World(trial, waits=4)
    world.run()
    assert trial.seen == minutes(0, 1, 2, 3)
    assert world.hands.waited == [60.0] * 4
    assert trial.closed


@pytest.mark.parametrize("past, first", [(0.0, 60.0), (0.5, 59.5), (59.999, 0.001)])
def test_it_waits_for_the_next_point_of_the_grid_however_long_a_tick_took(past: float, first: float) -> None:
    clocks = MovedClocks()

    class Slow(Trial):
        def tick(self, now: dt.datetime, stopping: Callable[[], bool]) -> Tick:
            clocks.go_on(dt.timedelta(seconds=past))
            return super().tick(now, stopping)

    trial = Slow()
    world = World(trial, clocks=clocks, waits=3)
    world.run()
    assert world.hands.waited == pytest.approx([first] * 3)
    assert trial.seen == minutes(0, 1, 2)


def test_a_clock_that_stands_still_does_not_spin() -> None:
    """As with `--as-of`: the service sees one moment, and the waits are on the real clock."""
    trial = Trial()
    world = World(trial, waits=3, standing=NOON - DAY)
    world.run()
    assert trial.seen == [NOON - DAY] * 3
    assert world.hands.waited == [60.0] * 3


def test_what_a_tick_found_out_is_shown_and_said_at_the_next_point_of_the_grid_however_long_it_took() -> None:
    """A tick that takes long shows in the points that pass without one, and never in the moment at which it is done."""
    clocks = MovedClocks()
    seen: list[tuple[dt.datetime, dt.datetime, str]] = []

    class Slow(Trial):
        def tick(self, now: dt.datetime, stopping: Callable[[], bool]) -> Tick:
            done = super().tick(now, stopping)
            world.output.say(world.runner_event(now))
            clocks.go_on(dt.timedelta(seconds=150))
            look()
            return done

    class Watched(World):
        def runner_event(self, now: dt.datetime) -> LogEvent:
            return RELEASED.at(now, statistic="s", period_start=now.date(), period_end=now.date())

    def look() -> None:
        seen.append((clocks.moment, world.board.shown.tick, world.said[-1]["event"]))

    world = Watched(Slow(), clocks=clocks, waits=2, at={1: look, 2: look})
    world.run()
    assert seen == [
        (NOON + dt.timedelta(seconds=150), NEVER, "started"),
        (NOON + 3 * MINUTE, NEVER, "started"),  # at the point itself, just before it turns
        (NOON + dt.timedelta(seconds=330), NOON, "released"),
        (NOON + 6 * MINUTE, NOON, "released"),
    ]


def test_a_status_that_is_shown_at_once_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The faulty twin of the promise above."""
    monkeypatch.setattr(World, "run", lambda self: _turned_at_once(self, monkeypatch))
    with pytest.raises(AssertionError):
        test_what_a_tick_found_out_is_shown_and_said_at_the_next_point_of_the_grid_however_long_it_took()


def _turned_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    post = world.board.post

    def shown(status: Status) -> None:
        post(status)
        world.board.turn()

    monkeypatch.setattr(world.board, "post", shown)
    world.runner.run()
    return world


def test_a_service_that_works_is_ready_from_the_next_point_on() -> None:
    found: list[list[str]] = []
    world = World(waits=2, at={1: lambda: found.append(readiness(world.board))})
    assert readiness(world.board)
    world.run()
    assert found[0]
    assert world.board.shown.tick == NOON
    assert world.board.shown.state_open


def test_a_stop_says_so_and_ends_at_a_whole_second() -> None:
    """How long after the signal it ends would tell whether it was folding."""
    clocks = MovedClocks()

    def stopped() -> None:
        clocks.go_on(dt.timedelta(seconds=7.25))
        world.hands.ask(signal.SIGTERM)

    world = World(clocks=clocks, waits=9, at={3: stopped})
    world.run()
    assert world.events == ["started", "stopped"]
    assert world.paused == [pytest.approx(0.75)]


# What is waited for


@pytest.mark.promise("outages")
@pytest.mark.parametrize("error", [AWAY, LedgerUnavailable("silent"), FolderUnwritable("full"), Unavailable("away")])
def test_an_outage_is_waited_for_at_each_tick_told_once_and_shown(error: QuietcountError) -> None:
    lost, well = Trial({2: error}), Trial()
    shown = []
    world = World(lost, error, error, well, waits=6, at={n: lambda: shown.append(world.board.latest) for n in range(7)})
    world.run()
    assert world.events == ["started", "waiting", "going on", "stopped"]
    assert world.said[1]["meaning"] == str(error)
    assert (lost.seen, well.seen) == (minutes(0, 1), minutes(4, 5))
    assert lost.closed
    down = [status for status in shown if not status.state_open]
    assert [status.tick for status in down] == minutes(1, 2, 3)
    assert {status.broker_reachable for status in down} == {
        isinstance(error, FolderUnwritable) or error.args[0] == "away"
    }
    assert {status.ledger_entries for status in down} == {7}  # its last known facts stay
    assert {status.ledger_verified for status in down} == {True}
    assert shown[-1].state_open
    assert shown[-1].broker_reachable


@pytest.mark.parametrize("error", [LedgerBroken("altered"), LedgerBehind("an older copy")])
def test_a_ledger_that_is_not_the_newest_halts_the_service_until_it_is_back(error: QuietcountError) -> None:
    lost, well = Trial({3: error}), Trial()
    shown = []
    world = World(lost, error, well, waits=6, at={n: lambda: shown.append(world.board.latest) for n in range(7)})
    world.run()
    assert world.events == ["started", "halted", "going on", "stopped"]
    assert well.seen == minutes(4, 5)
    assert [status.ledger_verified for status in shown] == [True, True, False, False, True, True]


def test_each_kind_of_trouble_is_told_when_it_comes() -> None:
    """One kind has many words, by who met it first: these are no news."""
    again = LedgerUnavailable("the brokers once more, in the words of another client")
    full, fuller, held = FolderUnwritable("full"), PublicationUnwritable("full as well"), StateHeld("held")
    troubles = [LedgerBehind("older"), LedgerBroken("damaged"), AWAY, again, full, fuller, held]
    world = World(Trial({1: AWAY}), *troubles, Trial(), waits=10)
    world.run()
    assert world.events == ["started", "waiting", "halted", *["waiting"] * 3, "going on", "stopped"]
    told = [each["meaning"] for each in world.said if "meaning" in each]
    assert told == [str(AWAY), "older", str(AWAY), "full", "held"]


def test_what_one_trouble_found_wrong_is_not_known_while_another_keeps_from_looking() -> None:
    shown: list[Status] = []
    world = World(
        Trial({2: LedgerBroken("altered")}),
        FolderUnwritable("full"),
        AWAY,
        FolderUnwritable("full"),
        waits=6,
        at={n: lambda: shown.append(world.board.latest) for n in range(6)},
    )
    world.run()
    assert [(each.ledger_verified, each.broker_reachable) for each in shown[1:5]] == [
        (False, True),
        (None, True),
        (None, False),
        (None, None),
    ]


@pytest.mark.parametrize("opening", [False, True])
def test_a_command_that_holds_the_state_for_a_moment_is_waited_for(opening: bool) -> None:
    held, last = StateHeld("another quietcount service holds it"), Trial()
    world = World(Trial(), held, last, waits=4, at={2: lambda: reloading(world)}, reading=changed(grace="2d"))
    if opening:
        world = World(held)
        with pytest.raises(StateHeld):
            world.run()
        return
    world.run()
    assert world.events == ["started", "waiting", "reloaded", "going on", "stopped"]
    assert last.seen == minutes(3)


def test_what_an_opening_that_failed_has_built_is_not_shown() -> None:
    """It is built over what the service before had built, which must not be put in its place half done."""
    shown: list[str] = []

    class Shown(Trial):
        def show(self) -> bool:
            shown.append("old")
            raise PublicationUnwritable("the folder cannot be written")

    world = World(Shown(), PublicationUnwritable("the disk is full"), waits=4)
    world.run()
    assert shown == ["old"]


def test_a_file_that_could_not_be_put_in_its_place_is_not_told_as_published() -> None:
    class Unshown(Trial):
        def show(self) -> bool:
            raise PublicationUnwritable("the folder cannot be written")

        def status(self, now: dt.datetime, tick: Tick) -> Status:
            return replace(super().status(now, tick), publication=now)

    seen = []
    world = World(Unshown(), waits=4, at={n: lambda: seen.append(world.board.shown.publication) for n in range(5)})
    world.run()
    assert set(seen) == {NEVER}
    assert world.board.shown.tick > NEVER


@pytest.mark.parametrize(
    "error", [AWAY, LedgerBroken("altered"), LedgerBehind("older"), ServiceError("x"), LedgerFenced("other")]
)
def test_at_the_first_opening_everything_is_raised(error: QuietcountError) -> None:
    world = World(error)
    with pytest.raises(type(error)):
        world.run()


@pytest.mark.parametrize("error", [LedgerFenced("another releaser"), ServiceError("lost"), RuntimeError("a defect")])
def test_what_no_waiting_mends_ends_the_service(error: Exception) -> None:
    clocks = MovedClocks(NOON + dt.timedelta(seconds=0.25))
    trial = Trial({1: error})
    world = World(trial, clocks=clocks)
    with pytest.raises(type(error)):
        world.run()
    assert trial.closed
    assert world.paused == [pytest.approx(0.75)]  # it ends at a whole second, as it does when it is stopped


# The clock


@pytest.mark.promise("clock-alone")
@pytest.mark.parametrize("jump", [HOUR, -HOUR, 400 * DAY])
def test_a_jump_of_the_clock_folds_and_releases_nothing_until_it_is_back(jump: dt.timedelta) -> None:
    clocks, trial = MovedClocks(), Trial()
    shown = []
    at: dict[int, Callable[[], None]] = {n: lambda: shown.append(world.board.latest) for n in range(8)}
    at[2] = lambda: clocks.jump(jump)
    at[5] = lambda: clocks.jump(-jump)
    world = World(trial, clocks=clocks, waits=7, at=at)
    world.run()
    assert trial.seen == minutes(0, 1, 5, 6)
    assert world.events == ["started", "clock jumped", "clock trusted again", "stopped"]
    assert [status.clock_trusted for status in shown] == [True, False, False, True, True]
    assert not trial.closed or len(world.opened) == 1


def test_a_clock_before_the_ledger_at_the_start_is_waited_for_and_nothing_is_declared() -> None:
    clocks, trial = MovedClocks(), Trial()
    world = World(trial, clocks=clocks, waits=4, newest=NOON + DAY, at={2: lambda: clocks.jump(DAY + MINUTE)})
    world.run()
    assert world.events == ["started", "clock jumped", "clock trusted again", "stopped"]
    assert trial.seen == [NOON + DAY + 3 * MINUTE, NOON + DAY + 4 * MINUTE]
    assert not world.board.shown.clock_trusted or world.board.shown.state_open


def test_a_clock_before_the_ledger_at_the_start_says_nothing_of_brokers_and_ledger() -> None:
    """Nothing is known of them yet; 0 would wake somebody up, who would move a ledger aside that is in order."""
    shown = []
    world = World(
        Trial(), newest=NOON + 4 * DAY, waits=70, at={n: lambda: shown.append(world.board.shown) for n in range(70)}
    )
    world.run()
    waited = [each for each in shown if not each.clock_trusted]
    assert len(waited) > 50
    assert {(each.broker_reachable, each.ledger_verified) for each in waited} == {(None, None)}
    assert world.board.shown.ledger_verified


def test_the_time_of_a_tick_is_the_time_that_was_judged() -> None:
    """A clock that is corrected between two readings would close periods with the one that nobody judged."""

    class Glitch(MovedClocks):
        armed = False

        def wall(self) -> dt.datetime:
            strange, self.armed = self.armed, False
            return super().wall() + strange * 400 * DAY

    class Arming(Trial):
        shows = 0

        def show(self) -> bool:
            self.shows += 1
            clocks.armed = self.shows == 2  # the next reading is the tick's first
            return False

    clocks, trial = Glitch(), Arming()
    world = World(trial, clocks=clocks, waits=4)
    world.run()
    assert trial.seen == minutes(0, 1, 3)
    assert world.events[:3] == ["started", "clock jumped", "clock trusted again"]


def test_a_clock_set_back_during_a_long_tick_is_looked_at_at_once_and_not_when_the_tick_was_to_end() -> None:
    clocks, trial = MovedClocks(), Trial()
    world = World(trial, clocks=clocks, tick=DAY, waits=10, at={3: lambda: clocks.jump(-2 * DAY)})
    world.run()
    assert "clock jumped" in world.events


def test_what_waits_for_witnesses_is_shown_and_not_told_as_published() -> None:
    class Waiting(Trial):
        def show(self) -> bool:
            return len(self.seen) < 3

        def status(self, now: dt.datetime, tick: Tick) -> Status:
            return replace(super().status(now, tick), publication=now)

    seen: list[tuple[bool, bool]] = []

    def look() -> None:
        shown = world.board.shown
        seen.append((shown.publication_waits, shown.publication > NEVER))

    world = World(Waiting(), waits=5, at=dict.fromkeys(range(2, 6), look))
    world.run()
    assert seen == [(True, False), (True, False), (False, True), (False, True)]
    assert "waiting" not in world.events, "the service works on"


def test_a_witness_that_knows_another_history_when_it_is_published_halts_the_service() -> None:
    class Forked(Trial):
        def show(self) -> bool:
            raise LedgerBehind("a witness holds a head that the ledger does not hold")

    world = World(Forked(), LedgerBehind("still"), waits=3)
    world.run()
    assert "halted" in world.events
