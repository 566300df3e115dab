"""The intervals of reconciled figures cover: cells and margins, for true counts from 0 to 10,000.

That a figure's noise is the stated sum of draws is shown in tests/property/test_reconciliation.py, and that the
quantile of such a sum is exact in test_quantiles.py. Here the two meet what is published.
"""

from __future__ import annotations

import datetime as dt
import math
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from quietcount_aggregates.intervals import quantile
from quietcount_aggregates.ledger.entries import Released
from quietcount_aggregates.noise import CONFIDENCE
from quietcount_aggregates.populations import (
    Dimension,
    Epsilon,
    Filter,
    Horizon,
    Late,
    Population,
    PopulationName,
    StatisticName,
    Table,
)
from quietcount_aggregates.publication.projection import published_figures
from quietcount_aggregates.reconciliation import figures
from quietcount_aggregates.reconciliation.figures import Reconciliation
from quietcount_schemas.events.periods import Period

pytestmark = pytest.mark.quick

Integers = npt.NDArray[np.int64]

TRIALS = 2_000
FALSE_ALARM = 1e-7
"""For each of some ten kinds of figures: of the whole test below 1e-6."""

KIND = Dimension("kind", ("A", "B", "C", "D"), "D")
REGION = Dimension("region", ("N", "S"), "N")
POPULATION = Population(
    PopulationName("p"), "", "", ("E",), (), Period.MONTH, 1, Horizon.LIFETIME, dt.date(2023, 1, 1), Late.CARRY,
    (
        Table(StatisticName("monthly"), (), (KIND, REGION), Period.MONTH, Epsilon(0.4)),
        Table(StatisticName("some"), (Filter(KIND, ("A", "B")),), (REGION,), Period.MONTH, Epsilon(3.0)),
        Table(StatisticName("quarterly"), (), (KIND,), Period.QUARTER, Epsilon(0.25)),
    ),
)  # fmt: skip
MONTHS = [dt.date(2023, month, 1) for month in (1, 2, 3)]


def counts() -> Integers:
    """The true counts, month x kind x region: from none to some thousand."""
    first = [0, 0, 1, 3, 7, 20, 60, 180]
    second = [540, 1600, 4800, 10_000, 0, 2, 5, 11]
    third = [40, 0, 0, 90, 0, 300, 1, 0]
    return np.array([first, second, third]).reshape(3, 4, 2)


def true_values(truth: Integers) -> list[Integers]:
    """Return the true values of each release, in the order of `releases`."""
    some = truth[:, :2].sum(axis=1)
    months = [each for month in range(3) for each in (truth[month].reshape(-1), some[month])]
    return [*months, truth.sum(axis=(0, 2))]


def drawn(rng: np.random.Generator, scale: float, cells: int) -> Integers:
    """Discrete Laplace draws, as the difference of two geometric ones."""
    stop = -math.expm1(-1 / scale)
    return rng.geometric(stop, cells) - rng.geometric(stop, cells)


def releases(values: Sequence[Integers]) -> list[Released]:
    spans = [(name, month, Period.MONTH) for month in MONTHS for name in ("monthly", "some")]
    spans.append(("quarterly", MONTHS[0], Period.QUARTER))
    scales = {table.name: 1 / table.epsilon for table in POPULATION.tables}
    return [
        Released("p", name, b"", start, period.end(start), tuple(cells.tolist()), "x", scales[StatisticName(name)])
        for (name, start, period), cells in zip(spans, values, strict=True)
    ]


def misses(trials: int, seed: int) -> tuple[Counter[str], Counter[str]]:
    """Return how many figures of each kind there were, and how many of their intervals missed the true value."""
    rng, truth = np.random.default_rng(seed), counts()
    wanted, scales = true_values(truth), [1 / 0.4, 1 / 3.0] * 3 + [1 / 0.25]
    asked: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    kept: Reconciliation | None = None
    for _ in range(trials):
        values = [cells + drawn(rng, scale, len(cells)) for cells, scale in zip(wanted, scales, strict=True)]
        reconciliation = Reconciliation(POPULATION, releases(values), [1] * len(values))
        if kept is not None:  # margins follow from the forms alone
            reconciliation._solutions, reconciliation._noise = kept._solutions, kept._noise
            reconciliation._quantiles = kept._quantiles
        kept = reconciliation
        for cells in reconciliation.cells():
            of_table = [wanted[place] for place in cells.places]
            told = zip(np.concatenate(of_table), cells.estimates.reshape(-1), cells.around.reshape(-1), strict=True)
            count(told, f"cells of {cells.table.name}", asked, missed)
            shaped = np.stack(of_table).reshape(len(of_table), *(len(each.symbols) for each in cells.table.by))
            for margins in reconciliation.margins(cells):
                if margins.period is Period.YEAR or margins.dimension not in (None, KIND):
                    continue
                others = tuple(1 + at for at, each in enumerate(cells.table.by) if each != margins.dimension)
                sums = shaped.sum(axis=others).reshape(len(of_table), -1)
                if margins.period is not cells.table.period:
                    sums = sums.sum(axis=0, keepdims=True)
                told = zip(sums.reshape(-1), margins.estimates.reshape(-1), margins.around.reshape(-1), strict=True)
                by = margins.dimension.name if margins.dimension else "nothing"
                count(told, f"{cells.table.name} by {by} and {margins.period}", asked, missed)
    return asked, missed


def count(told: Iterable[tuple[Any, Any, Any]], kind: str, asked: Counter[str], missed: Counter[str]) -> None:
    for true, estimate, around in told:
        _, lower, upper = published_figures(int(estimate), int(around))
        asked[kind] += 1
        missed[kind] += not lower <= true <= upper


def allowed(figures: int, trials: int) -> float:
    """Return how many misses a fair interval passes with FALSE_ALARM at most (Hoeffding, 1963).

    Figures of one trial may all miss together, so that only the trials are independent.
    """
    return figures * (1 - CONFIDENCE + math.sqrt(math.log(1 / FALSE_ALARM) / (2 * trials)))


@pytest.mark.promise("intervals")
@pytest.mark.parametrize("trials", [pytest.param(150), pytest.param(TRIALS, marks=pytest.mark.check)])
def test_every_kind_of_published_interval_covers(trials: int) -> None:
    seed = secrets.randbits(62)
    asked, missed = misses(trials, seed)
    assert len(asked) >= 8
    for kind in asked:
        print(f"seed {seed}, {kind}: missed {missed[kind]} of {asked[kind]}")
        assert missed[kind] <= allowed(asked[kind], trials), kind


def test_an_interval_of_half_the_margin_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "quantile", lambda *arguments: 0.4 * quantile(*arguments))
    asked, missed = misses(150, 1)
    assert all(missed[kind] > allowed(asked[kind], 150) for kind in asked if "quarter" in kind)
