"""The status: what a tick found out, from the ledger, the state and the clock, and shown on the tick's grid alone."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.aggregates_world import TRIALS
from tests.catalogues import catalogue, statistic
from tests.e2e.projects import Project
from tests.populations import population_of
from tests.privacy.light_publications import light_publications

from quietcount_aggregates.due_periods import due_periods
from quietcount_aggregates.state.state import State
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.maintenance.recovery import retire_population
from quietcount_consumers.monitoring.metrics import pages
from quietcount_consumers.monitoring.pages import running
from quietcount_consumers.monitoring.standing import PATIENCE, Standing
from quietcount_consumers.monitoring.status import NEVER, Board, BudgetStatus, StatisticStatus, Status, beginning
from quietcount_consumers.opening import open_service
from quietcount_consumers.running import conditions
from quietcount_consumers.service import Service, Tick
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import CASE_EVENTS, NewRecord
from quietcount_schemas.rejection import RejectReason

pytestmark = pytest.mark.quick

SECOND, DAY = dt.timedelta(seconds=1), dt.timedelta(days=1)
GRACE = dt.timedelta(days=7)

# Noise of scale 10: of the figures that a release shows, many have a negative draw behind them.
SHOWN = (
    statistic("requests", "HelpRequested", by="service_category", epsilon=0.1),
    statistic("daily", ["HelpRequested", "CourtCaseFiled"], period="day", epsilon=0.1),
)
DIMENSIONS = ("help_kind", "service_category", "circumstance", "region")
WIDE = statistic("wide", "HelpRequested", by=DIMENSIONS, epsilon=0.1)
NOISY = catalogue(*SHOWN, WIDE, lifetime_epsilon=1.0)


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def held_up(project: Project, service: Service, moment: dt.datetime) -> Tick:
    """Do a tick that does not come to the end of the log, and so releases nothing: it was told to stop."""
    with closing(project.log()) as log:
        log.append(CASE_EVENTS, [NewRecord(None, b"", 0)])
    return service.tick(moment, lambda: True)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project whose public file is a light one: hardly a test looks at it, and it takes most of a release's time."""
    with light_publications():
        yield Project(tmp_path / "project", NOISY)


def statuses(project: Project, moments: Sequence[dt.datetime], *, stop: Sequence[bool] = ()) -> Iterator[Status]:
    """Open the service at the first moment, tick at each, and yield the status after it; `stop` holds a tick up."""
    with open_service(project.configuration, moments[0]) as service:
        for moment, stopping in zip(moments, [*stop, *[False] * (len(moments) - len(stop))], strict=True):
            yield service.status(moment, held_up(project, service, moment) if stopping else service.tick(moment))


def of(status: Status, name: str) -> StatisticStatus:
    [found] = [statistic for statistic in status.statistics if statistic.name == name]
    return found


def requests(count: int, day: str) -> list[dict[str, object]]:
    return [
        {
            "event": "HelpRequested",
            "case": f"{day} {number}",
            "occurred_on": day,
            "help_kind": "SURRENDER",
            "service_category": "MOBILISED",
            "circumstance": "REAR_UNIT",
            "region": "VOLGA",
        }
        for number in range(count)
    ]


# The board


def test_what_is_posted_is_shown_from_the_next_turn_on_and_never_before() -> None:
    now = utc("2026-03-01T12:00")
    board = Board(lambda: now, SECOND)
    for number in range(1, 4):
        shown = board.shown
        board.post(replace(board.latest, tick=now, ledger_entries=number))
        assert board.shown is shown
        assert board.view().status is shown
        assert board.latest.ledger_entries == number
        board.turn()
        assert board.shown.ledger_entries == number
        board.turn()
        assert board.shown.ledger_entries == number


def test_a_service_that_was_opened_anew_keeps_the_times_of_earlier_successes() -> None:
    first, second, third = (utc(f"2026-03-01T12:00:0{n}") for n in range(3))
    board = Board(lambda: first, SECOND)
    board.post(Status(tick=first, fold=first, publication=first, purge=first))
    board.post(replace(board.latest, tick=second, state_open=False))
    board.post(Status(tick=third, publication=third))
    latest = board.latest
    assert (latest.fold, latest.publication, latest.purge) == (first, third, first)


def test_the_times_of_a_clock_that_had_gone_wrong_are_not_kept() -> None:
    now = utc("2026-03-01T12:00")
    board = Board(lambda: now, SECOND)
    board.post(Status(tick=now + 400 * DAY, fold=now + 400 * DAY, purge=now + 400 * DAY))
    board.post(Status(tick=now, fold=now))
    assert (board.latest.fold, board.latest.purge) == (now, NEVER)


def behind(board: Board) -> float:
    """How many ticks the service is behind, as it is shown."""
    return pages(board.view(), None).behind(running())


def test_without_a_tick_the_age_is_that_of_the_process() -> None:
    moment = utc("2026-03-01T12:00")
    started = moment
    board = Board(lambda: moment, SECOND)
    moment += 5 * SECOND
    assert (board.started, board.view().age, behind(board)) == (started, 5 * SECOND, 4)
    moment -= 10 * SECOND  # a clock that was set back is no negative age
    assert (board.view().age, behind(board)) == (dt.timedelta(0), 0)


# What is due


@pytest.mark.parametrize("period", list(Period))
@pytest.mark.parametrize("days", [0, 1, 6, 7, 8, 31, 37, 38, 39, 100, 372, 373, 800])
def test_due_is_what_the_releaser_would_release(period: Period, days: int) -> None:
    since, now = dt.date(2023, 1, 2), utc("2023-01-02") + days * DAY
    statistic = population_of("asked", events=["Asked"], registry=TRIALS, period=period, since=since, epsilon=1.0)
    first = statistic.first_day
    mine = StatisticStatus("asked", period, first_open=first)
    for moment in (now - SECOND, now):
        assert mine.due(moment, GRACE) == len(due_periods([statistic], {"asked": first}, moment, GRACE))


def test_a_service_that_cannot_work_is_overdue_by_the_clock_alone() -> None:
    due_at = utc("2023-02-08")
    statistic = StatisticStatus("requests", Period.MONTH, first_open=dt.date(2023, 1, 1))
    status = Status(interval=SECOND, grace=GRACE, tick=due_at - SECOND, statistics=(statistic,))
    found = []
    for ticks in range(3):
        closed = replace(status, tick=due_at + (ticks - 1) * SECOND)
        found.append((closed.due(statistic), closed.overdue(statistic)))
    assert found == [(0, 0), (1, 0), (1, 1)]
    assert replace(status, tick=utc("2023-05-08")).due(statistic) == 4


def test_a_status_of_a_service_that_is_closed_keeps_what_is_known_of_the_ledger() -> None:
    status = Status(
        tick=utc("2023-02-08"), state_open=True, ledger_verified=True, ledger_entries=7,
        budget=BudgetStatus(Decimal(1), Decimal(1), Decimal(0)), disk_free=(("data", 0.5),),
    )  # fmt: skip
    assert conditions.shown(conditions.Waiting("the disk is full"), status) == replace(status, state_open=False)


# After a tick


def test_before_the_first_tick_the_status_says_what_the_configuration_says(project: Project) -> None:
    status = beginning(project.configuration)
    assert (status.interval, status.grace, status.tick) == (SECOND, GRACE, NEVER)
    assert [s.name for s in status.statistics] == ["daily", "requests", "wide"]
    assert of(status, "daily").cells == ("all",)
    assert of(status, "wide").cells == ()
    assert [s.due(utc("2099-01-01"), GRACE) for s in status.statistics] == [0, 0, 0]
    [after] = statuses(project, [utc("2023-01-01")])
    assert [(s.name, s.period, s.cells) for s in after.statistics] == [
        (s.name, s.period, s.cells) for s in status.statistics
    ]
    assert after.configuration == status.configuration


def test_what_is_due_overdue_and_released_follows_the_ticks(project: Project) -> None:
    due_at = utc("2023-01-09")  # the first day of "daily" and its grace
    moments = [due_at + ticks * SECOND for ticks in range(-1, 4)]
    found = list(statuses(project, moments, stop=[False, True, True, False, False]))
    assert [status.due(of(status, "daily")) for status in found] == [0, 1, 1, 0, 0]
    assert [status.overdue(of(status, "daily")) for status in found] == [0, 0, 1, 0, 0]
    assert [status.due(of(status, "requests")) for status in found] == [0] * 5
    assert [status.caught_up for status in found] == [True, False, False, True, True]
    assert [status.release for status in found] == [NEVER] * 3 + [moments[3]] * 2
    assert [status.publication for status in found] == [moments[0]] * 3 + [moments[3]] * 2
    assert [status.fold for status in found] == [moments[0]] * 3 + moments[3:]
    assert [status.purge for status in found] == moments
    assert [status.tick for status in found] == moments
    last = of(found[-1], "daily")
    assert (last.period_start, last.period_end, last.first_open) == (
        dt.date(2023, 1, 1),
        dt.date(2023, 1, 1),
        dt.date(2023, 1, 2),
    )
    assert of(found[2], "daily").period_start is None
    assert of(found[2], "daily").released == ()


@pytest.mark.check
def test_after_an_outage_of_months_everything_is_released_at_one_tick(project: Project) -> None:
    before, after = utc("2023-01-01"), utc("2023-04-08")
    list(statuses(project, [before]))
    first, second = statuses(project, [after, after + SECOND], stop=[True])
    assert [first.due(s) for s in first.statistics] == [90, 3, 3]
    assert [first.overdue(s) for s in first.statistics] == [89, 2, 2]
    assert [second.due(s) for s in second.statistics] == [0, 0, 0]
    assert of(second, "requests").period_start == dt.date(2023, 3, 1)
    assert of(second, "requests").period_end == dt.date(2023, 3, 31)
    assert (first.release, second.release) == (NEVER, after + SECOND)


def test_the_newest_released_figures_are_those_of_the_public_file(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", NOISY)
    project.emit(requests(40, "2023-01-05") + requests(30, "2023-02-05"))
    *_, status = statuses(project, [utc("2023-02-10"), utc("2023-03-10")])
    for name in ("requests", "daily"):
        statistic = of(status, name)
        with duckdb.connect(str(project.public), read_only=True) as connection:
            rows = connection.execute(
                "SELECT cell, shown, lower, upper FROM statistics WHERE statistic = ? AND period_start = ?",
                [name, statistic.period_start],
            ).fetchall()
        assert {(c.cell, c.estimate, c.lower, c.upper) for c in statistic.released} == set(rows)
        assert tuple(cell.cell for cell in statistic.released) == statistic.cells
    assert of(status, "wide").released == ()
    assert of(status, "wide").period_start == dt.date(2023, 2, 1)


def test_the_ledgers_facts_are_in_the_status(project: Project) -> None:
    [status] = statuses(project, [utc("2023-01-01")])
    assert (status.state_open, status.broker_reachable, status.ledger_verified) == (True, True, True)
    assert (status.ledger_entries, status.state_losses) == (5, 0)  # opened, three declarations, and a description
    assert status.budget == BudgetStatus(Decimal("1.0"), Decimal("1.0"), Decimal("0.7"))
    assert [s.epsilon for s in status.statistics] == [Decimal("0.1")] * 3
    assert [name for name, _ in status.disk_free] == ["data", "secrets"]
    retire_population(project.configuration, "wide", utc("2023-01-01"), lambda _: None)
    project.config.write_text(catalogue(*SHOWN, lifetime_epsilon=1.0), encoding="utf-8")
    [status] = statuses(project, [utc("2023-04-01")], stop=[True])
    wide = of(status, "wide")
    assert (wide.retired, wide.epsilon, status.due(wide)) == (True, Decimal("0.1"), 0)
    assert status.due(of(status, "requests")) == 2


def test_a_release_that_was_made_by_hand_is_shown_at_the_point_of_the_grid_before_it(project: Project) -> None:
    minute = project.config.read_text(encoding="utf-8").replace('tick = "1s"', 'tick = "60s"')
    project.config.write_text(minute, encoding="utf-8")
    list(statuses(project, [utc("2023-01-01")]))
    by_hand = utc("2023-01-09T10:11:12")
    with open_service(project.configuration, by_hand) as service:
        service.tick(by_hand)
    [status] = statuses(project, [utc("2023-01-09T10:12:00")])
    assert status.release == utc("2023-01-09T10:11:00")


# Rejects


def test_a_reject_is_told_on_the_day_after_and_on_no_other(project: Project) -> None:
    list(statuses(project, [utc("2023-01-01")]))
    noon = utc("2023-01-03T12:00")
    found: dict[dt.datetime, frozenset[RejectReason]] = {}
    with open_service(project.configuration, noon) as service, closing(project.log()) as log:
        for number, moment in enumerate([noon, utc("2023-01-03T23:59:59"), *_day("2023-01-04"), *_day("2023-01-05")]):
            if number == 0:
                log.append(CASE_EVENTS, [NewRecord(None, b"", 0)])
            found[moment] = service.status(moment, service.tick(moment)).rejects_seen
    for moment, reasons in found.items():
        assert reasons == ({RejectReason.EMPTY} if moment.day == 4 else frozenset()), moment


def test_a_record_that_is_rejected_today_changes_nothing_today(project: Project) -> None:
    """Not even a flag that is up from yesterday: it would fall, or stay, by what came in."""
    yesterday, today = utc("2023-01-03T12:00"), utc("2023-01-04T12:00")
    with open_service(project.configuration, yesterday) as service, closing(project.log()) as log:
        log.append(CASE_EVENTS, [NewRecord(None, b"", 0)])
        service.tick(yesterday)
        before = service.status(today, service.tick(today))
        for value in (b"", b"no event", b"\xc3\x01" + bytes(10)):
            log.append(CASE_EVENTS, [NewRecord(None, value, 0)])
            assert service.status(today, service.tick(today)) == before


def _day(text: str) -> list[dt.datetime]:
    return [utc(text), utc(f"{text}T12:00"), utc(f"{text}T23:59:59")]


# Nothing of what there was to fold


def test_an_empty_day_and_a_busy_one_have_one_status_but_for_noised_figures(project: Project, tmp_path: Path) -> None:
    list(statuses(project, [utc("2023-01-01")]))
    busy = project.copy(tmp_path / "busy")
    busy.emit(requests(2000, "2023-01-01"))
    with closing(busy.log()) as log:
        log.append(CASE_EVENTS, [NewRecord(None, b"no event", 0)] * 50)
    moments = [utc("2023-01-01") + hours * dt.timedelta(hours=1) for hours in (1, 2, 23)] + [utc("2023-02-10")]

    def unnoised(status: Status) -> Status:
        return replace(status, statistics=tuple(replace(each, released=()) for each in status.statistics))

    of_empty, of_busy = (list(statuses(each, moments)) for each in (project, busy))
    assert of_busy[-1].statistics != of_empty[-1].statistics
    assert [unnoised(status) for status in of_busy] == [unnoised(status) for status in of_empty]


def test_making_a_status_reads_nothing_that_grows_with_what_was_folded(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.emit(requests(50, "2023-01-05"))
    now = utc("2023-02-10")
    asked: list[str] = []
    rows = State.rows

    def watched(state: State, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        asked.append(sql)
        return rows(state, sql, parameters)

    with open_service(project.configuration, now) as service:
        tick = service.tick(now)
        monkeypatch.setattr(State, "rows", watched)
        service.status(now, tick)
    with duckdb.connect(":memory:") as connection:
        tables = {table for sql in asked for table in connection.get_table_names(sql.replace("?", "NULL"))}
    assert tables == {"meta", "noted_on"}


def test_a_purge_that_is_put_off_for_less_than_a_day_does_not_show(project: Project) -> None:
    now = utc("2023-01-01")
    with open_service(project.configuration, now) as service:
        standing: Standing = service._standing

        def purge_at(moment: dt.datetime, purged: bool) -> dt.datetime:
            return standing.after(moment, caught_up=True, released=False, purged=purged).purge

        assert purge_at(now, True) == now
        owed = now + 10 * SECOND
        assert purge_at(owed, False) == owed
        assert purge_at(owed + PATIENCE - SECOND, False) == owed + PATIENCE - SECOND
        assert purge_at(owed + PATIENCE, False) == owed + PATIENCE - SECOND
        assert purge_at(owed + PATIENCE + SECOND, False) == owed + PATIENCE - SECOND
        assert purge_at(owed + PATIENCE + DAY, True) == owed + PATIENCE + DAY
        assert purge_at(owed + PATIENCE + DAY + SECOND, False) == owed + PATIENCE + DAY + SECOND


def test_a_purge_that_is_put_off_shows_after_a_restart_too(project: Project) -> None:
    released = utc("2023-02-08")
    with open_service(project.configuration, released) as service:
        assert service.tick(released).released
    for day, shown in ((utc("2023-02-09"), True), (utc("2023-02-10"), False), (utc("2023-02-11"), False)):
        with open_service(project.configuration, day) as service:
            status = service._standing.after(day, caught_up=True, released=False, purged=False)
        assert (status.purge == day) is shown


def test_what_is_gone_from_the_log_is_told_without_saying_how_much_there_was(project: Project) -> None:
    list(statuses(project, [utc("2023-01-01")]))
    project.emit(requests(7, "2023-01-05"))
    with closing(project.log()) as log:
        log.purge(CASE_EVENTS, {0: 7})
    with open_service(project.configuration, utc("2023-01-06")) as service, pytest.raises(ServiceError) as lost:
        service.tick(utc("2023-01-06"))
    assert "never folded" in str(lost.value)
    assert "7" not in str(lost.value)


def test_a_tick_says_whether_it_caught_up_and_what_it_released(project: Project) -> None:
    now = utc("2023-01-09")
    with open_service(project.configuration, now) as service:
        assert held_up(project, service, now) == Tick(False, [])
        done = service.tick(now)
        assert done.caught_up
        assert [period.statistic for period in done.released] == ["daily"]
