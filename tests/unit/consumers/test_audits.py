"""The whole ledger is looked at again while the service runs: once an hour by the clock, and before each release."""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.projects import Project, simulated
from tests.privacy.light_publications import light_publications

from quietcount_aggregates.errors import LedgerBroken
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_consumers.opening import open_service
from quietcount_consumers.service import Service

pytestmark = pytest.mark.quick

OPENED = dt.datetime(2023, 2, 8, 10, 20, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service that has released January; emitted, but not folded yet, is all that came since."""
    project = Project(tmp_path / "project")
    with light_publications(), open_service(project.configuration, OPENED) as service:
        assert service.tick(OPENED).released
        project.emit(simulated(20))
        yield service


def alter(service: Service, index: int = 1) -> None:
    """Alter an older entry as whoever may write to the file can."""
    with contextlib.closing(
        sqlite3.connect(service._partitions.states[0].path.with_name("ledger.sqlite"))
    ) as connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        (entry,) = connection.execute('SELECT entry FROM entries WHERE "index" = ?', [index]).fetchone()
        altered = entry[:-1] + bytes([entry[-1] ^ 1])
        connection.execute('UPDATE entries SET entry = ? WHERE "index" = ?', [altered, index])
        connection.commit()


def found_within_the_hour(service: Service) -> None:
    alter(service)
    for minutes in (1, 20, 39):
        service.tick(OPENED + minutes * MINUTE)
    with pytest.raises(LedgerBroken, match="entry 1 is another one than was read before"):
        service.tick(OPENED + 40 * MINUTE)


def found_before_the_release(service: Service) -> None:
    due = OPENED.replace(month=3)
    service.tick(due - dt.timedelta(days=1, minutes=1))
    service.tick(due - dt.timedelta(days=1))
    service._audited = due.replace(minute=0)  # it was looked at in this hour, and altered since
    length = len(service._ledger.chain.entries)
    alter(service)
    with pytest.raises(LedgerBroken, match="entry 1 is another one"):
        service.tick(due)
    assert len(service._ledger.chain.entries) == length, "something was released"


WAYS: list[Callable[[Service], None]] = [found_within_the_hour, found_before_the_release]


@pytest.mark.parametrize("way", WAYS)
def test_an_older_entry_altered_under_a_running_service_is_found(
    way: Callable[[Service], None], service: Service
) -> None:
    way(service)


@pytest.mark.parametrize("way", WAYS)
def test_a_twin_that_reads_the_end_alone_finds_no_altered_entry(
    way: Callable[[Service], None], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "audit", Ledger.refresh)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        way(service)


def test_when_the_whole_ledger_is_read_follows_from_the_clock_and_never_from_events(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    audited: list[dt.datetime] = []
    clock = [OPENED]

    def noted(ledger: Ledger) -> None:
        audited.append(clock[-1])
        ledger.refresh()

    monkeypatch.setattr(Ledger, "audit", noted)
    for minutes in (1, 20, 39, 40, 41, 99, 100, 140):
        clock.append(OPENED + minutes * MINUTE)
        service.tick(clock[-1])
    assert audited == [OPENED + minutes * MINUTE for minutes in (40, 100)]
