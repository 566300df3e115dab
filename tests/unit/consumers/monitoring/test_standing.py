"""The standing of a population whose tables are released by different periods, before and after a loss of the state."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.catalogues import COARSER, catalogue
from tests.commanded import invoked
from tests.e2e.projects import Project
from tests.monitored_world import families
from tests.privacy.light_publications import light_publications

from quietcount_aggregates.due_periods import due_periods
from quietcount_consumers.commands.ledger import ledger_command
from quietcount_consumers.monitoring.status import Board, StatisticStatus, Status, beginning
from quietcount_consumers.opening import open_service
from quietcount_consumers.service import Service
from quietcount_schemas.events.periods import Period

pytestmark = pytest.mark.quick

GRACE = dt.timedelta(days=7)


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def day(text: str | None) -> dt.date | None:
    return None if text is None else dt.date.fromisoformat(text)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project whose public file is a light one: nobody looks at it here."""
    with light_publications():
        yield Project(tmp_path / "project", catalogue(COARSER))


def after(project: Project, moment: dt.datetime) -> Status:
    """Open the service, tick once, and return the status."""
    with open_service(project.configuration, moment) as service:
        status = service.status(moment, service.tick(moment))
        check_that_what_is_open_is_what_would_be_due(service, status)
    return status


def check_that_what_is_open_is_what_would_be_due(service: Service, status: Status) -> None:
    chain = service._standing._chain
    later = status.tick + dt.timedelta(days=800)
    due = due_periods(list(chain.declarations.values()), chain.first_open, later, GRACE, chain.withheld)
    assert due
    for each in status.statistics:
        assert each.due(later, GRACE) == len([period for period in due if period.statistic == each.name]), each.name


def of(status: Status, name: str) -> StatisticStatus:
    [found] = [statistic for statistic in status.statistics if statistic.name == name]
    return found


def newest(status: Status, name: str) -> tuple[dt.date | None, dt.date | None]:
    """The first day of the newest released period of a table, and that of the earliest to be released."""
    found = of(status, name)
    return found.period_start, found.first_open


@pytest.mark.parametrize(
    "moment, by_month, by_quarter",
    [
        ("2023-01-08", (None, "2023-01-01"), (None, "2023-01-01")),
        ("2023-02-08", ("2023-01-01", "2023-02-01"), (None, "2023-01-01")),
        ("2023-04-07", ("2023-02-01", "2023-03-01"), (None, "2023-01-01")),
        ("2023-04-08", ("2023-03-01", "2023-04-01"), ("2023-01-01", "2023-04-01")),
        ("2023-05-08", ("2023-04-01", "2023-05-01"), ("2023-01-01", "2023-04-01")),
    ],
)
def test_each_table_of_a_population_has_a_newest_period_of_its_own(
    project: Project, moment: str, by_month: tuple[str | None, str], by_quarter: tuple[str | None, str]
) -> None:
    status = after(project, utc(moment))
    assert newest(status, "by_month") == tuple(map(day, by_month))
    assert newest(status, "by_quarter") == tuple(map(day, by_quarter))
    for name, period in (("by_month", Period.MONTH), ("by_quarter", Period.QUARTER)):
        found = of(status, name)
        assert found.period is period
        assert tuple(cell.cell for cell in found.released) == (found.cells if found.period_start else ())
        assert found.period_end == (period.end(found.period_start) if found.period_start else None)


def test_the_metrics_have_one_series_for_each_table_and_none_for_the_population(project: Project) -> None:
    moment = utc("2023-04-08")
    status = after(project, moment)
    board = Board(lambda: moment, status.interval, beginning(project.configuration))
    before = families(board)
    board.post(status)
    board.turn()
    found = families(board)
    for each in (before, found):
        for name in ("quietcount_releases_due", "quietcount_budget_spent_epsilon", "quietcount_statistic_retired"):
            assert [sample.labels["statistic"] for sample in each[name].samples] == ["by_month", "by_quarter"]
    starts = found["quietcount_statistic_period_start_timestamp_seconds"].samples
    assert {sample.labels["statistic"]: sample.value for sample in starts} == {
        "by_month": utc("2023-03-01").timestamp(),
        "by_quarter": utc("2023-01-01").timestamp(),
    }
    spent = found["quietcount_budget_spent_epsilon"].samples
    assert [sample.value for sample in spent] == [20, 10]


def test_a_period_that_is_withheld_is_neither_due_nor_the_newest(project: Project) -> None:
    """Its sums went with the state; what was released before stays the newest until the next is."""
    before = after(project, utc("2023-05-08"))
    assert newest(before, "by_quarter") == (day("2023-01-01"), day("2023-04-01"))
    (project.private / "state-0.duckdb").unlink()
    invoked(project, ledger_command, "record-loss", "--yes")
    status = opened(project)
    assert status.state_losses == 1
    assert newest(status, "by_quarter") == (day("2023-01-01"), day("2023-07-01"))
    assert of(status, "by_quarter").released == of(before, "by_quarter").released
    assert newest(status, "by_month") == (day("2023-04-01"), day("2023-05-01"))


def opened(project: Project) -> Status:
    """The standing of the service before its first tick: nothing more is released."""
    moment = utc("2023-05-08")
    with open_service(project.configuration, moment) as service:
        status = service._standing.after(moment, caught_up=True, released=False, purged=True)
        check_that_what_is_open_is_what_would_be_due(service, status)
    return status


def test_a_first_period_that_is_withheld_leaves_a_table_without_any(project: Project) -> None:
    after(project, utc("2023-02-08"))
    (project.private / "state-0.duckdb").unlink()
    invoked(project, ledger_command, "record-loss", "--yes")
    status = opened(project)
    assert newest(status, "by_quarter") == (None, day("2023-04-01"))
    assert of(status, "by_quarter").released == ()
    assert newest(status, "by_month") == (day("2023-01-01"), day("2023-02-01"))
