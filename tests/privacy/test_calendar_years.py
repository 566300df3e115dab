"""What the published sentence says of a yearly horizon is true word by word: for each year in which somebody came."""

from __future__ import annotations

import datetime as dt
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from tests.aggregates_world import TRIALS, case_key, event_id, utc, world_in
from tests.populations import population_of

from quietcount_aggregates.counting import contributions
from quietcount_aggregates.populations import Horizon, Population
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.events.periods import Period

pytestmark = pytest.mark.quick

BEGIN, END = dt.date(2023, 1, 1), dt.date(2028, 1, 1)


def counted(folder: Path, came: dict[dt.date, dt.date], horizon: Horizon = Horizon.YEAR) -> dict[int, int]:
    """Return by year how often one case counts. `came` holds, by the day of its emission, when an event occurred."""
    monthly = population_of(
        "asked", events=["Asked"], registry=TRIALS, period=Period.MONTH, since=BEGIN, epsilon=1.0, horizon=horizon
    )
    with world_in(folder, [monthly], now=utc(BEGIN), published=False) as world:
        for number, (emitted, occurred) in enumerate(sorted(came.items())):
            world.release(utc(emitted))  # what is over by then is closed when the event comes
            attributes = {"colour": "RED", "urgent": None}
            world.emit([CaseEvent("Asked", case_key(1), event_id(number), 0, occurred, attributes)])
            world.fold(emitted)
        world.release(utc(END))
        found: dict[int, int] = defaultdict(int)
        for (_, start), (value,) in world.released.items():
            found[start.year] += value
        return {year: value for year, value in found.items() if value}


ONE_YEAR = {dt.date(year, 6, 1): dt.date(2023, 5, 2) for year in range(2023, 2028)}
"""Five events of one year, emitted in that year and in the four that follow."""


@pytest.mark.promise("bound-per-case", "late")
def test_events_of_one_year_count_in_that_year_alone_however_late_they_come(tmp_path: Path) -> None:
    assert counted(tmp_path / "all", ONE_YEAR) == {2023: 1}
    late = {emitted: occurred for emitted, occurred in ONE_YEAR.items() if emitted.year > 2023}
    assert counted(tmp_path / "late", late) == {}, "its year is released, and no other year may tell of it"


def test_an_event_that_is_late_within_its_year_counts_there(tmp_path: Path) -> None:
    assert counted(tmp_path, {dt.date(2023, 6, 1): dt.date(2023, 3, 5)}) == {2023: 1}


def test_each_year_in_which_somebody_comes_has_its_own_limit(tmp_path: Path) -> None:
    came = {dt.date(year, month, 9): dt.date(year, month, 2) for year in (2023, 2025) for month in (2, 3)}
    assert counted(tmp_path / "yearly", came) == {2023: 1, 2025: 1}
    assert counted(tmp_path / "lifetime", came, Horizon.LIFETIME) == {2023: 1}


def test_a_twin_that_carries_events_over_a_years_end_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = contributions.placement

    def careless(population: Population, *rest: Any) -> str:
        placed, found = re.subn(r"year\(occurred_on\) = \d+", "true", real(population, *rest))
        assert found
        return placed

    monkeypatch.setattr(contributions, "placement", careless)
    assert counted(tmp_path, {dt.date(2024, 3, 1): dt.date(2023, 5, 2)}) == {2024: 1}
