"""The intervals of `compare()`, `year_on_year()` and `share()` cover as stated, by exact enumeration of the noise.

What is enumerated runs through the SQL that is published: the noise is that of a file, the formulas are those of the
macros, and only the two sums are put in, each pair with its probability.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt
import pytest
from tests.questions_world import Population, Table, alone, building, cells_and_total, fill, variance

from quietcount_aggregates.questions import expanded

pytestmark = pytest.mark.quick

Floats = npt.NDArray[np.float64]

NEGLIGIBLE = 1e-7
"""The probability left out by cutting the enumeration off, in each tail."""

TOLERANCE = 4 * NEGLIGIBLE + 1e-9
SHOWN = 0.05
"""Among the shown ones no more than the stated rate misses, if the count is such that it is shown so often."""

PERIOD = (dt.date(2024, 1, 1), dt.date(2024, 1, 31))
NOISES = """
CREATE MACRO noises(the_statistic, cells_a, cells_b, level := 95, db := NULL) AS TABLE
SELECT noises FROM @answered(@symbols(cells_a, cells_b),
    (SELECT 1 AS q, 1 AS s, DATE '2024-01-01' AS start_a, DATE '2024-01-31' AS end_a, DATE '2024-01-01' AS start_b,
        DATE '2024-01-31' AS end_b), {directions})
"""
CHANGE = ("@change_directions()", "@compared_columns()", "@compared(points)", "percent_change", "percent")
SHARE = ("@share_directions()", "@shared_columns()", "@shared(points)", "share_percent", "share")


class Points(NamedTuple):
    """Every pair of noised sums but the rarest, with its probability."""

    a: Floats
    b: Floats
    probability: Floats


class Rates(NamedTuple):
    """Exact probabilities: a ratio is shown; it is shown and misses; the difference misses."""

    shown: float
    ratio: float
    difference: float

    @property
    def of_the_shown(self) -> float:
        """The probability that a shown ratio misses."""
        return self.ratio / self.shown if self.shown else 0.0


def of_sum(scale: float, terms: int) -> tuple[Floats, Floats]:
    """Return the values of a sum of draws, all but the rarest, and their exact probabilities, by plain convolution."""
    a = math.exp(-1 / scale)
    reach = math.ceil(35 * scale) + 1
    total = one = (1 - a) / (1 + a) * a ** np.abs(np.arange(-reach, reach + 1))
    for _ in range(terms - 1):
        total = np.convolve(total, one)
    centre = len(total) // 2
    kept = int(np.searchsorted(np.cumsum(total[centre:]) - total[centre] / 2, 0.5 - NEGLIGIBLE)) + 1
    values = np.arange(-kept, kept + 1).astype(float)
    return values, total[centre - kept : centre + kept + 1]


def independent(scale: float, n_a: int, n_b: int, count_a: int, count_b: int) -> Points:
    """Return the points of two sums that share no draw."""
    (x, p), (y, r) = of_sum(scale, n_a), of_sum(scale, n_b)
    a, b = np.meshgrid(count_a + x, count_b + y, indexing="ij")
    return Points(a.ravel(), b.ravel(), np.outer(p, r).ravel())


def cells(scale: float, n_a: int, n_b: int) -> Population:
    """Return one month of a table with as many cells for each side."""
    symbols = (*(f"A{i}" for i in range(n_a)), *(f"B{i}" for i in range(n_b)))
    return alone(Table("cells", scale, [PERIOD], [[0.0] * len(symbols)], {"side": symbols}))


def sides(n_a: int, n_b: int) -> tuple[str, str]:
    return "side=" + "|".join(f"A{i}" for i in range(n_a)), "side=" + "|".join(f"B{i}" for i in range(n_b))


@functools.cache
def noise_of_cells(
    scale: float, n_a: int, n_b: int, selections: tuple[str, str], directions: str
) -> list[dict[str, Any]]:
    return noises(cells(scale, n_a, n_b), selections, directions)


def noises(population: Population, selections: tuple[str, str], directions: str) -> list[dict[str, Any]]:
    """Return what the published SQL says of the noise of two selections of cells, in each direction."""
    with TemporaryDirectory() as folder, building(Path(folder, "public.duckdb")) as connection:
        fill(connection, population)
        connection.execute(expanded(NOISES.format(directions=directions)))
        ((found,),) = connection.execute("FROM noises('cells', ?, ?)", list(selections)).fetchall()
    return list(found)


def rates(
    noised: list[dict[str, Any]], points: Points, truth: tuple[int, int],
    mutation: tuple[str, str] = ("", ""), kind: tuple[str, str, str, str, str] = CHANGE,
) -> Rates:  # fmt: skip
    """Return how often what is published of the points misses the truth, with a piece of the SQL exchanged."""
    _, columns, relation, ratio, prefix = kind
    percent = 100 * (truth[1] / truth[0] - (prefix == "percent")) if truth[0] else math.inf
    # A share comes without a difference.
    difference = "*" if prefix == "percent" else "*, -1e9 AS difference_lower, 1e9 AS difference_upper"
    formula = expanded(f"SELECT probability, {columns} FROM {relation}")
    assert mutation[0] in formula
    with duckdb.connect() as connection:
        connection.register("given", {"a": points.a, "b": points.b, "probability": points.probability})
        connection.execute(
            "CREATE TABLE points AS SELECT a::DECIMAL(18, 6) AS a, b::DECIMAL(18, 6) AS b, probability, "
            "?::STRUCT(direction VARCHAR, variance DOUBLE, margin DOUBLE)[] AS noises FROM given",
            [noised],
        )
        row = connection.execute(
            f"""
            SELECT coalesce(sum(probability) FILTER ({ratio} IS NOT NULL), 0),
                coalesce(sum(probability) FILTER ({ratio} IS NOT NULL
                    AND NOT $percent BETWEEN {prefix}_lower - 1e-9 AND {prefix}_upper + 1e-9), 0),
                coalesce(sum(probability) FILTER (NOT $difference BETWEEN difference_lower AND difference_upper), 0)
            FROM (SELECT {difference} FROM ({formula.replace(*mutation) if mutation[0] else formula}))
            """,
            {"percent": percent, "difference": truth[1] - truth[0]},
        ).fetchone()
    assert row is not None
    return Rates(*row)


def compared(case: tuple[float, int, int, int, int], mutation: tuple[str, str] = ("", "")) -> Rates:
    scale, n_a, n_b, count_a, count_b = case
    noised = noise_of_cells(scale, n_a, n_b, sides(n_a, n_b), CHANGE[0])
    found = rates(noised, independent(scale, n_a, n_b, count_a, count_b), (count_a, count_b), mutation)
    print(f"scale {scale}, terms {n_a} and {n_b}, counts {count_a} and {count_b}: {found}")
    return found


GRID = [
    (1.0, 3, 3, 305, 577),
    (2.0, 1, 1, 5, 20),  # it missed in 10 of 100 of the shown ones, as long as it was shown from its own margin on
    (2.0, 1, 1, 10, 20),
    (0.25, 1, 1, 4, 9),
    (0.5, 1, 3, 15, 21),  # between the whole ratios, the quantile of these small noises is larger than at any of them
    (1.0, 1, 1, 0, 6),
    (0.5, 3, 1, 24, 16),
    (0.44, 1, 12, 12, 48),
    (2.0, 3, 3, 30, 57),
    (0.25, 1, 3, 5, 4),
    (0.3, 2, 1, 3, 8),
    (1.0, 1, 1, 9, 0),
    (1.0, 1, 12, 8, 90),
    (1.0, 12, 1, 90, 8),
]


@pytest.mark.promise("intervals")
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.check] if case in GRID[6:] else []) for case in GRID], ids=str
)
def test_a_percent_change_and_a_difference_miss_at_most_one_time_in_twenty(
    case: tuple[float, int, int, int, int],
) -> None:
    found = compared(case)
    assert found.ratio <= 0.05 + TOLERANCE
    assert found.difference <= 0.05 + TOLERANCE
    if found.shown >= SHOWN:
        assert found.of_the_shown <= 0.05 + TOLERANCE


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_percent_change_of_almost_nothing_is_almost_never_shown(count: int) -> None:
    """From 2 to 8 at scale 2 it was shown 5 times in 100, and 46 of 100 of these missed."""
    found = compared((2.0, 1, 1, count, 8))
    assert found.shown <= 0.0045
    assert found.ratio <= 0.0025 + TOLERANCE


@pytest.mark.soak
@pytest.mark.parametrize("scale", [0.2, 0.25, 0.35, 0.44, 0.5, 0.8, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("terms", [(1, 1), (1, 3), (6, 6), (3, 1), (1, 12), (2, 5)], ids=str)
def test_a_percent_change_misses_at_most_one_time_in_twenty_on_a_wide_grid(
    scale: float, terms: tuple[int, int]
) -> None:
    for count in (0, 1, 2, 3, 5, 8, 12, 15, 20, 30, 60):
        for ratio in (0.25, 0.5, 2 / 3, 1.0, 4 / 3, 1.75, 3.0, 5.0):
            found = compared((scale, *terms, count, round(count * ratio) if count else 5))
            assert found.ratio <= 0.05 + TOLERANCE
            assert found.difference <= 0.05 + TOLERANCE
            if found.shown >= SHOWN:
                assert found.of_the_shown <= 0.05 + TOLERANCE


def reconciled(
    scale: float, total: float, counts: tuple[int, int, int]
) -> tuple[Population, Points, npt.NDArray[np.float64]]:
    """Return three cells reconciled with their total: A and B share noise. And the estimates of the sum of all."""
    months = [PERIOD]
    detailed = Table("cells", scale, months, [[0.0] * 3], {"side": ("A0", "B0", "C0")})
    population = cells_and_total("both", detailed, Table("sums", total, months, [[0.0]]))
    one, p = of_sum(scale, 1)
    whole, r = of_sum(total, 1)
    x, y, z, t = (grid.ravel() for grid in np.meshgrid(one, one, one, whole, indexing="ij"))
    probability = (p[:, None, None, None] * p[None, :, None, None] * p[None, None, :, None] * r).ravel()
    kept = probability > 1e-11
    x, y, z, t, probability = (values[kept] for values in (x, y, z, t, probability))
    share = variance(scale) / (3 * variance(scale) + variance(total))
    correction = (t - x - y - z) * share
    return (
        population,
        Points(counts[0] + x + correction, counts[1] + y + correction, probability),
        sum(counts) + x + y + z + 3 * correction,
    )


@pytest.mark.parametrize("counts", [(30, 50, 10), (12, 4, 0)], ids=str)
def test_counts_that_share_noise_are_compared_as_stated(counts: tuple[int, int, int]) -> None:
    population, points, _ = reconciled(0.7, 0.5, counts)
    found = rates(noises(population, ("side=A0", "side=B0"), CHANGE[0]), points, counts[:2])
    print(found)
    assert found.ratio <= 0.05 + 1e-6
    assert found.difference <= 0.05 + 1e-6


@pytest.mark.parametrize("counts", [(30, 50, 10), (12, 4, 0), (1, 0, 0)], ids=str)
def test_a_share_of_a_reconciled_whole_misses_at_most_one_time_in_twenty(counts: tuple[int, int, int]) -> None:
    population, points, whole = reconciled(0.7, 0.5, counts)
    shared = Points(whole, points.a, points.probability)
    noised = noises(population, ("", "side=A0"), SHARE[0])
    found = rates(noised, shared, (sum(counts), counts[0]), kind=SHARE)
    print(found)
    assert found.ratio <= 0.05 + 1e-6
    if found.shown >= SHOWN:
        assert found.of_the_shown <= 0.05 + 1e-6


@pytest.mark.parametrize(
    "scale, terms, part, rest",
    [
        (0.25, (1, 3), 5, 4), (1.0, (2, 6), 0, 40), (1.0, (2, 6), 40, 0), (2.0, (1, 1), 4, 40), (0.5, (3, 1), 24, 16),
        (0.44, (1, 9), 9, 27),
    ],
    ids=str,
)  # fmt: skip
def test_a_share_misses_at_most_one_time_in_twenty(scale: float, terms: tuple[int, int], part: int, rest: int) -> None:
    points = independent(scale, terms[1], terms[0], rest, part)
    points = Points(points.a + points.b, points.b, points.probability)
    noised = noise_of_cells(scale, terms[1], terms[0], ("", sides(terms[1], terms[0])[1]), SHARE[0])
    found = rates(noised, points, (part + rest, part), kind=SHARE)
    print(found)
    assert found.ratio <= 0.05 + TOLERANCE
    if found.shown >= SHOWN:
        assert found.of_the_shown <= 0.05 + TOLERANCE


@pytest.mark.parametrize(
    "case, mutation",
    [
        ((2.0, 3, 3, 30, 57), ("1.01 * list_max", "0.5 * list_max")),
        ((2.0, 3, 3, 30, 57), ("factor ** 2 * variance_a", "0")),  # the noise of the earlier count is ignored
        ((2.0, 1, 1, 10, 20), ("a > 2 * strict", "a > 0 * strict")),  # what is hardly above 0 gets the usual interval
    ],
    ids=str,
)
def test_a_ratio_that_misses_too_often_is_caught(
    case: tuple[float, int, int, int, int], mutation: tuple[str, str]
) -> None:
    assert compared(case, mutation).of_the_shown > 0.06


def test_a_difference_with_the_margin_of_one_side_is_caught() -> None:
    assert compared((2.0, 3, 3, 30, 57), ("m_difference", "m_a")).difference > 0.06
