"""The pages that are handed over: when they change, how they grow old, in which format, and that they come whole."""

from __future__ import annotations

import dataclasses
import os
import re

import pytest
from tests.monitored_world import MINUTE, NOW, exposition, handed_over, new_configuration, showing, started, value

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.monitoring import metrics
from quietcount_consumers.monitoring import pages as monitoring_pages
from quietcount_consumers.monitoring.application import prefers_open_metrics
from quietcount_consumers.monitoring.metrics import Metric, pages
from quietcount_consumers.monitoring.pages import LATE, Pages, PagesFile, running
from quietcount_consumers.monitoring.status import Board, View, beginning

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Configuration:
    return new_configuration(tmp_path_factory.mktemp("project"))


@pytest.fixture
def board(configuration: Configuration) -> Board:
    """The board of a process that was just started."""
    return started(configuration)


def test_what_a_tick_found_out_is_in_the_exposition_from_the_turn_on(board: Board) -> None:
    before = exposition(board)
    board.post(dataclasses.replace(board.latest, tick=NOW, caught_up=True, state_open=True))
    assert exposition(board) == before
    board.turn()
    assert value(board, "quietcount_caught_up") == 1
    assert value(board, "quietcount_last_tick_timestamp_seconds") == NOW.timestamp()


def test_a_flood_of_scrapes_is_served_what_was_made_once(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[View] = []

    def sampled(view: View) -> list[tuple[tuple[str, ...], float]]:
        made.append(view)
        return [((), 1.0)]

    monkeypatch.setattr(metrics, "METRICS", (Metric("quietcount_trial", "A trial.", sampled),))
    shown = handed_over(board)
    assert len(made) == 2  # one of each format
    for openly in (False, True) * 50:
        assert b"quietcount_trial 1.0\n" in shown.metrics(running(), openly=openly)
    assert len(made) == 2


def test_the_age_of_the_newest_tick_goes_on_in_whole_ticks(configuration: Configuration) -> None:
    moment = NOW
    board = Board(lambda: moment, MINUTE, beginning(configuration))
    board.post(dataclasses.replace(board.latest, tick=NOW))
    board.turn()
    for ticks in range(5):
        moment = NOW + ticks * MINUTE
        assert value(board, "quietcount_tick_age_seconds") == 60 * ticks
        assert value(board, "quietcount_ticks_behind") == max(0, ticks - 1)


def ages(shown: Pages, seconds: float) -> tuple[str, list[str]]:
    """What is said so many seconds after pages were made and nothing came after them: the three values, and /readyz."""
    now = shown.made + seconds
    found = re.findall(
        r"^quietcount_(?:tick_age_seconds|ticks_behind|ready) (.*)$",
        shown.metrics(now, openly=False).decode(),
        re.MULTILINE,
    )
    return " ".join(found), shown.not_ready(now)


def test_pages_age_at_the_points_of_the_grid_while_the_service_hands_none_over() -> None:
    shown = handed_over(showing(tick=NOW - MINUTE), left=20.0)
    late = ["Ticks are late."]
    for seconds, told in {
        0: ("60.0 0.0 1.0", []),
        19.9: ("60.0 0.0 1.0", []),
        20.1: ("120.0 1.0 1.0", []),
        80.1: ("180.0 2.0 1.0", []),
        139.9: ("180.0 2.0 1.0", []),
        140.1: ("240.0 3.0 0.0", late),
        3620.1: ("3720.0 61.0 0.0", late),
    }.items():
        assert ages(shown, seconds) == told, seconds
    assert LATE == 2
    standing = handed_over(showing(tick=NOW - MINUTE), left=None)
    assert ages(standing, 10**6) == ("60.0 0.0 1.0", [])


def test_pages_that_do_not_age_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: a process that serves what it was given last would hide that the service is stuck."""
    monkeypatch.setattr(Pages, "aged", lambda self, _now: self.age)
    with pytest.raises(AssertionError):
        test_pages_age_at_the_points_of_the_grid_while_the_service_hands_none_over()


def test_pages_come_whole_however_much_of_the_next_ones_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader meets the writer at any moment; what it takes then are the pages before."""
    old, new = (pages(showing(tick=NOW, ledger_entries=entries).view(), 60.0) for entries in (7, 1234))
    whole = os.pwrite
    with PagesFile() as ours:
        theirs = PagesFile(ours.descriptor)
        assert theirs.read().reasons == ("No page was handed over yet.",)
        for size in (20, 36, 37, 500, 5000):
            ours.write(old)
            assert theirs.read() == old
            monkeypatch.setattr(os, "pwrite", lambda file, data, at, size=size: whole(file, data[:size], at))
            ours.write(new)
            assert theirs.read() == old, size
            assert PagesFile(ours.descriptor).read().text == ""
            monkeypatch.setattr(os, "pwrite", whole)
            ours.write(new)
            assert theirs.read() == new


def test_pages_that_are_not_compared_with_their_hash_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: a length alone. It takes a mixture of two pages for the new ones."""
    monkeypatch.setattr(monitoring_pages, "_head", lambda data: len(data).to_bytes(4) + bytes(32))
    with pytest.raises((AssertionError, ValueError)):
        test_pages_come_whole_however_much_of_the_next_ones_is_written(monkeypatch)


PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;"
    "q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.mark.parametrize(
    "accept, openly",
    [
        ("", False),
        ("*/*", False),
        ("text/*", False),
        ("text/plain", False),
        ("application/json", False),
        ("application/*", True),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text ; version=1.0.0", True),
        (PROMETHEUS, True),
        ("application/openmetrics-text;q=0.5, text/plain;q=0.5", True),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.5", False),
        ("text/plain;q=0.5,application/openmetrics-text;version=1.0.0;q=0.7", True),
        ("application/openmetrics-text;q=0, text/plain;q=0", False),
        ("application/openmetrics-text;q=0, */*", False),
        ("application/openmetrics-text, */*", True),
        ("text/plain;q=0.4, */*;q=0.9", True),
        ("application/openmetrics-text;q=many, text/plain;q=0.1", False),
        ("application/openmetrics-text;q=inf, text/plain;q=0.1", False),
        ("application/openmetrics-text;q=nan, text/plain;q=0.1", False),
        ("application/openmetrics-texts", False),
        ("x-application/openmetrics-text", False),
        (";;=,,;q=", False),
        ("é\x00,", False),
    ],
)
def test_the_format_is_the_one_that_a_client_likes_best(accept: str, openly: bool) -> None:
    assert prefers_open_metrics(accept) is openly
