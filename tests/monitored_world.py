"""What operators are shown: of a process that was just started, and of one that is well but for what a test says."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from prometheus_client import Metric as Family
from prometheus_client.parser import text_string_to_metric_families as metrics_of

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.monitoring.metrics import pages
from quietcount_consumers.monitoring.pages import Pages, PagesFile, running
from quietcount_consumers.monitoring.status import Board, Status, beginning
from quietcount_consumers.project import create_project

__all__ = [
    "MINUTE",
    "NOW",
    "WELL",
    "exposition",
    "families",
    "handed_over",
    "new_configuration",
    "readiness",
    "showing",
    "started",
    "value",
]

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)

WELL: dict[str, Any] = {
    "tick": NOW,
    "caught_up": True,
    "state_open": True,
    "broker_reachable": True,
    "ledger_verified": True,
}


def new_configuration(folder: Path) -> Configuration:
    """The configuration that `quietcount init` writes."""
    create_project(folder)
    return Configuration.load(folder / "quietcount.toml", {})


def started(configuration: Configuration) -> Board:
    """The board of a process that was just started."""
    return Board(lambda: NOW, configuration.tick, beginning(configuration))


def showing(since: dt.datetime = NOW - dt.timedelta(hours=1), **changes: Any) -> Board:
    """A board that shows a service that is well but for `changes`."""
    moment = since
    board = Board(lambda: moment, MINUTE)
    moment = NOW
    board.post(Status(interval=MINUTE, **{**WELL, **changes}))
    board.turn()
    return board


def handed_over(board: Board, left: float | None = None) -> Pages:
    """What the process that serves gets."""
    with PagesFile() as file:
        file.write(pages(board.view(), left))
        return file.read()


def exposition(board: Board, *, openly: bool = False) -> bytes:
    return handed_over(board).metrics(running(), openly=openly)


def readiness(board: Board) -> list[str]:
    return handed_over(board).not_ready(running())


def families(board: Board) -> dict[str, Family]:
    body = exposition(board)
    return {family.name: family for family in metrics_of(body.decode())}


def value(board: Board, name: str, **labels: str) -> float:
    [found] = [sample.value for sample in families(board)[name].samples if sample.labels == labels]
    return found
