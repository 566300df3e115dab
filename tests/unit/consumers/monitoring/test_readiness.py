"""Readiness: when /readyz says that the service is ready, and why it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.monitored_world import MINUTE, NOW, WELL, new_configuration, readiness, showing, started, value

from quietcount_consumers.monitoring.status import NEVER, Status

pytestmark = pytest.mark.quick

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no tick": ({"tick": NEVER}, "No tick was done yet."),
    "state": ({"state_open": False}, "The private state is not open."),
    "ledger": ({"ledger_verified": False}, "The ledger is not verified."),
    "log": ({"broker_reachable": False}, "The log does not answer."),
    "clock": ({"clock_trusted": False}, "The clock is not trusted."),
    "late": ({"tick": NOW - 4 * MINUTE}, "Ticks are late."),
}


@pytest.mark.promise("health")
def test_a_service_that_is_well_is_ready_however_much_it_has_to_fold() -> None:
    for well in (showing(), showing(caught_up=False), showing(tick=NOW - 2 * MINUTE)):
        assert readiness(well) == []
        assert value(well, "quietcount_ready") == 1


@pytest.mark.parametrize("fault", list(FAULTS))
def test_what_keeps_the_service_from_being_ready_is_told_in_a_sentence(fault: str) -> None:
    changes, sentence = FAULTS[fault]
    board = showing(NOW, **changes) if fault == "no tick" else showing(**changes)
    assert readiness(board) == [sentence]
    assert value(board, "quietcount_ready") == 0
    board.post(Status(interval=MINUTE, **WELL))
    assert readiness(board) == [sentence]


def test_a_fresh_process_is_not_ready(tmp_path: Path) -> None:
    board = started(new_configuration(tmp_path))
    assert readiness(board)
    assert value(board, "quietcount_ready") == 0
