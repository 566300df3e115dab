"""Intervals hold what they say: margins against the exact distribution, and the coverage of `compare()` by exact
enumeration, run through the SQL that is published.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources

import duckdb
import numpy as np
import numpy.typing as npt
import pytest

from quietcount_aggregates.noise import CONFIDENCE, DiscreteLaplace, margin, standard_deviation, sum_margin

pytestmark = pytest.mark.quick

Floats = npt.NDArray[np.float64]

NEGLIGIBLE = 1e-7
"""The probability left out by cutting the enumeration off, in each tail."""


def one_cell(scale: float) -> Floats:
    """Return the exact probabilities of -m..m for one draw, wide enough that the rest is below 1e-15."""
    a = math.exp(-1 / scale)
    reach = math.ceil(35 * scale) + 1
    return (1 - a) / (1 + a) * a ** np.abs(np.arange(-reach, reach + 1))


def of_sum(scale: float, terms: int) -> Floats:
    """Return the exact probabilities of -m..m for a sum of draws, by plain convolution."""
    total = one = one_cell(scale)
    for _ in range(terms - 1):
        total = np.convolve(total, one)
    return total


def exact_margin(mass: Floats, confidence: float) -> int:
    centre = len(mass) // 2
    m = 0
    while mass[centre - m : centre + m + 1].sum() < confidence - 1e-12:
        m += 1
    return m


def test_the_margin_of_a_cell_is_the_smallest_that_holds() -> None:
    for scale in [0.05, 0.1, 0.3, 0.34, 0.5, 1, 1.5, 2, 3, 4, 10, 40]:
        for confidence in (0.5, 0.9, 0.95, 0.99):
            assert margin(scale, confidence) == exact_margin(one_cell(scale), confidence), (scale, confidence)


def test_the_margin_of_a_sum_is_the_smallest_that_holds() -> None:
    for scale in [0.1, 0.3, 1, 2, 4, 10]:
        for terms in (1, 2, 3, 6, 12, 30):
            assert sum_margin(scale, terms) == exact_margin(of_sum(scale, terms), CONFIDENCE), (scale, terms)
        mass = one_cell(scale)
        places = np.arange(len(mass)) - len(mass) // 2
        assert standard_deviation(scale) == pytest.approx(math.sqrt(float((mass * places**2).sum())))


@pytest.mark.parametrize("epsilon, expected", [(1.0, 3), (0.5, 6), (0.25, 12)])
def test_the_margins_are_those_that_were_planned_with(epsilon: float, expected: int) -> None:
    assert margin(1 / epsilon) == expected


@pytest.mark.promise("intervals")
def test_published_intervals_hold_the_true_count_as_often_as_they_say() -> None:
    """100,000 cells: fewer than 94.6 in a hundred would be met by chance with a probability below 1e-6."""
    scale, count = 2.0, 7
    m = margin(scale)
    drawn = np.array(
        [DiscreteLaplace().draw([count] * 1000, scale=scale, max_contributions=1, epsilon=0.5) for _ in range(100)]
    )
    lower, upper = np.maximum(drawn - m, 0), np.maximum(drawn, 0) + m
    covered = float(((lower <= count) & (count <= upper)).mean())
    print(f"coverage of one cell's interval: {covered:.4f}")
    assert covered > CONFIDENCE - 0.004
    # The same test refuses intervals a little too narrow.
    assert float((np.abs(drawn - count) <= m - 1).mean()) < CONFIDENCE - 0.004


# ---------------------------------------------------------------- compare()


@contextmanager
def published(macros: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the tables of a public file, empty, with the given text of the macros."""
    with duckdb.connect() as connection:
        connection.execute(_sql("publication.sql"))
        connection.execute(macros)
        yield connection


def _sql(name: str) -> str:
    return resources.files("quietcount_aggregates").joinpath(name).read_text(encoding="utf-8")


DAY = dt.date(2024, 1, 1)


def misses(macros: str, scale: float, n_a: int, n_b: int, count_a: int, count_b: int) -> tuple[float, float]:
    """Return the exact probabilities that the interval of the percent change and of the difference miss the truth.

    Every pair of noised sums (but the rarest) is a statistic of its own: the first of the days holds the sum and the
    others zero. A withheld percent change misses nothing.
    """
    axes = []
    for terms, count in ((n_a, count_a), (n_b, count_b)):
        mass = of_sum(scale, terms)
        centre = len(mass) // 2
        reach = exact_margin(mass, 1 - 2 * NEGLIGIBLE)
        axes.append((mass[centre - reach : centre + reach + 1], np.arange(count - reach, count + reach + 1)))
    weight = np.outer(axes[0][0], axes[1][0]).reshape(-1)
    first, second = (grid.reshape(-1) for grid in np.meshgrid(axes[0][1], axes[1][1], indexing="ij"))
    spans = [
        DAY,
        DAY + dt.timedelta(days=n_a - 1),
        DAY + dt.timedelta(days=n_a),
        DAY + dt.timedelta(days=n_a + n_b - 1),
    ]
    with published(macros) as connection:
        points = {"id": np.arange(len(first)), "a": first, "b": second, "weight": weight}
        connection.register("points", points)
        connection.execute(
            "INSERT INTO statistics SELECT 'points', id, day, day, '{}', 0, 0, 0, CASE day WHEN ? THEN a WHEN ? THEN b "
            "ELSE 0 END, 1, 1, 1, '', '', now()::TIMESTAMP "
            "FROM points, (SELECT ?::DATE + range::INTEGER AS day FROM range(?))",
            [spans[0], spans[2], DAY, n_a + n_b],
        )
        for terms in {n_a, n_b, n_a + n_b}:
            connection.execute(
                "INSERT INTO margins SELECT id, ?, ?, ? FROM points",
                [terms, sum_margin(scale, terms), standard_deviation(scale)],
            )
        truth = 100 * (count_b / count_a - 1) if count_a else math.inf
        dates = ", ".join(f"DATE '{day}'" for day in spans)
        row = connection.execute(
            f"""
            SELECT count(*),
                coalesce(sum(weight) FILTER (percent_change IS NOT NULL
                    AND NOT ?::DOUBLE BETWEEN percent_lower - 1e-9 AND percent_upper + 1e-9), 0),
                coalesce(sum(weight) FILTER (NOT ?::BIGINT BETWEEN difference_lower AND difference_upper), 0)
            FROM points, LATERAL compare(id::VARCHAR, {dates})
            """,
            [truth, count_b - count_a],
        ).fetchone()
    assert row is not None
    assert row[0] == len(first)
    return row[1], row[2]


GRID = [
    (1.0, 3, 3, 305, 577),
    (2.0, 3, 3, 30, 57),
    (0.25, 1, 1, 4, 9),
    (0.25, 1, 3, 5, 4),
    (0.3, 2, 1, 3, 8),
    (1.0, 1, 1, 0, 0),
    (1.0, 1, 1, 0, 6),
    (1.0, 1, 1, 3, 3),
    (1.0, 1, 1, 9, 0),
    (1.0, 1, 12, 8, 90),
    (1.0, 12, 1, 90, 8),
    (1.0, 1, 1, 12, 13),
    (2.0, 1, 1, 20, 19),
    (2.0, 2, 1, 25, 100),
    (3.0, 1, 2, 30, 11),
    (0.44, 6, 6, 30, 60),  # with the margins themselves as quantiles: missed 10 times in 100
]
TOLERANCE = 4 * NEGLIGIBLE + 1e-9


def worst_of(macros: str, grid: list[tuple[float, int, int, int, int]]) -> tuple[float, float]:
    found = [(*misses(macros, *case), case) for case in grid]
    for percent, difference, case in found:
        print(f"scale {case[0]}, terms {case[1]} and {case[2]}, counts {case[3]} and {case[4]}: ", end="")
        print(f"percent change missed {percent:.4f}, difference missed {difference:.4f}")
    return max(case[0] for case in found), max(case[1] for case in found)


def test_the_intervals_of_compare_miss_at_most_one_time_in_twenty() -> None:
    percent, difference = worst_of(_sql("macros.sql"), GRID)
    assert percent <= 1 - CONFIDENCE + TOLERANCE
    assert difference <= 1 - CONFIDENCE + TOLERANCE


@pytest.mark.soak
def test_the_intervals_of_compare_miss_at_most_one_time_in_twenty_on_a_wide_grid() -> None:
    grid = [
        (scale, n_a, n_b, count_a, round(count_a * ratio) if count_a else 5)
        for scale in (0.2, 0.25, 0.35, 0.44, 0.6, 1.0)
        for n_a, n_b in ((1, 1), (1, 3), (6, 6), (3, 1), (1, 12))
        for count_a in (0, 2, 15, 60)
        for ratio in (0.5, 0.9, 2.0, 4.0)
    ]
    percent, difference = worst_of(_sql("macros.sql"), grid)
    print(f"worst of {len(grid)}: percent {percent:.5f}, difference {difference:.5f}")
    assert percent <= 1 - CONFIDENCE + TOLERANCE
    assert difference <= 1 - CONFIDENCE + TOLERANCE


@pytest.mark.parametrize(
    "old, new",
    [
        ("** 2 * n_a AS g", "** 2 * n_a * 0 AS g"),  # the noise of the earlier period is ignored
        (") AS c,\n", ") / 2 AS c,\n"),  # half the quantile
    ],
)
def test_a_percent_interval_that_is_too_narrow_is_caught(old: str, new: str) -> None:
    macros = _sql("macros.sql")
    assert macros.count(old) == 1
    assert worst_of(macros.replace(old, new), GRID[:2])[0] > 1 - CONFIDENCE + 0.02


def test_a_difference_interval_with_the_margin_of_one_side_is_caught() -> None:
    macros = _sql("macros.sql")
    mutant = macros.replace("b - a - m_both", "b - a - m_a").replace("b - a + m_both", "b - a + m_a")
    assert mutant != macros
    assert worst_of(mutant, GRID[:2])[1] > 1 - CONFIDENCE + 0.02


@pytest.mark.parametrize("scale", [1001.0, 5000.0, 100_000.0])
def test_the_margin_of_a_sum_at_a_great_scale_is_told_in_little_memory_and_is_not_too_narrow(scale: float) -> None:
    """The exact margin at a scale of 1000, stretched, is the continuous limit: within 1 % of it, and never below."""
    limit = sum_margin(1000.0, 7) * scale / 1000
    assert limit - 1 <= sum_margin(scale, 7) <= 1.01 * limit
