"""What `percentile()`, `mean()` and `distribution()` say of a number in buckets misses no more often than stated.

Releases are simulated, 200,000 for each case. The margins are those that the published SQL computes. Its formulas of
means and shares run on each release. Those of percentiles run as their copy in plain Python, which
tests/unit/aggregates/questions holds against the SQL. False alarms: a rate is held against its bound and 6 standard
deviations. One comparison passes that by chance with 1e-9, and all of them together with less than 1e-6.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
import secrets
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pytest
from tests.buckets_world import BOUNDS, KNOWN, SYMBOLS, Floats, left
from tests.questions_world import Table, alone, building, fill, months, variance

from quietcount_aggregates.intervals import quantile
from quietcount_aggregates.questions import expanded

pytestmark = pytest.mark.check

RELEASES = 200_000
MONTH = months(dt.date(2024, 1, 1), 1)
ARGUMENTS = "the_statistic, the_dimension, the_start, the_end, the_percent, cells := '', level := 95, db := NULL"
SELECTS = {
    "rank": "SELECT q, 0, 1, noises FROM @answered_buckets(@each_edge(), @rank_directions())",
    "mean": "SELECT q, low, width, noises FROM @answered_ends()",
    "share": "SELECT q, 0, 1, noises FROM @answered_buckets(@each_bucket(), @share_directions())",
}
Mutation = tuple[str, str]
UNCHANGED: Mutation = ("", "")


class Noises(NamedTuple):
    """A question about the file: its number, the unit of a mean, and the noise in each direction."""

    q: int
    low: int
    width: int
    noises: list[dict[str, Any]]

    def margin(self, direction: str) -> float:
        return next(float(each["margin"]) for each in self.noises if each["direction"] == direction)


@functools.cache
def noises(
    kind: str, scale: float, percent: float = 50, mutation: Mutation = UNCHANGED, level: int = 95
) -> list[Noises]:
    """Return what the published SQL says of the noise of one month in buckets."""
    text = expanded(f"CREATE MACRO noises_of({ARGUMENTS}) AS TABLE {SELECTS[kind]}")
    assert mutation[0] in text
    table = Table("asked", scale, MONTH, [[0.0] * len(SYMBOLS)], {"days": SYMBOLS}, buckets={"days": BOUNDS})
    with TemporaryDirectory() as folder, building(Path(folder, "public.duckdb")) as connection:
        fill(connection, alone(table))
        connection.execute(text.replace(*mutation) if mutation[0] else text)
        rows = connection.execute(
            "FROM noises_of('asked', 'days', '2024-01-01', '2024-01-31', ?, level := ?)", [percent, level]
        ).fetchall()
    return [Noises(*row) for row in sorted(rows, reverse=True)]


def released(counts: Sequence[int], scale: float) -> Floats:
    """Return many releases of these counts, with noise of this scale."""
    seed = secrets.randbits(64)
    print("seed", seed)
    rng = np.random.default_rng(seed)
    chance = 1 - math.exp(-1 / scale)
    shape = (RELEASES, len(counts))
    up, down = (rng.geometric(chance, shape) for _ in range(2))
    return np.asarray(np.array(counts) + up - down, dtype=np.float64)


def held(missed: int, of: int, bound: float) -> bool:
    """Return whether so many of so many do not speak against a rate of `bound`."""
    print(f"missed {missed} of {of}: {missed / max(of, 1):.4f}, stated {bound}")
    return missed <= of * bound + 6 * math.sqrt(of * bound * (1 - bound)) + 6


# In the last two of each size, half of all lie up to the end of one bucket, or one less: both edges are at the truth.
COUNTS = [
    (2, 3, 3, 1, 1), (0, 0, 10, 0, 0), (5, 5, 0, 0, 0), (4, 1, 5, 0, 0),
    (10, 20, 40, 20, 10), (9, 1, 10, 0, 0), (49, 1, 50, 0, 0), (25, 24, 1, 50, 0),
    (300, 200, 300, 100, 100), (499, 1, 500, 0, 0), (500, 250, 250, 0, 0), (0, 499, 1, 250, 250),
    (4000, 1000, 3000, 1500, 500), (4999, 1, 0, 2500, 2500), (2500, 2499, 1, 5000, 0),
]  # fmt: skip

SOME = COUNTS[::2]
"""Two of each size; the soak has the others."""


# ---------------------------------------------------------------- percentiles


class Missed(NamedTuple):
    """Of all answers: how many are told, and how many of these lie above the true value, and below it."""

    told: int
    above: int
    below: int

    def hold(self) -> bool:
        """Return whether each side misses once in 40 at most; of those told, too, if one in 20 answers is."""
        sides = held(self.above, RELEASES, 0.025) and held(self.below, RELEASES, 0.025)
        return sides and (self.told < RELEASES / 20 or held(self.above + self.below, self.told, 0.05))


def percentiles(
    counts: Sequence[int], scale: float, percent: float, mutation: Mutation = UNCHANGED, small: str = "rank_strict"
) -> tuple[Missed, int]:
    """Return how often the answers miss, and how many exclude no bucket."""
    edges = [each for each in noises("rank", scale, percent, mutation) if each.q > -len(KNOWN)]
    assert [each.q for each in edges] == [-1, -2, -3, -4]
    usual, strict = ([each.margin(direction) for each in edges] for direction in ("rank", small))
    found = left(released(counts, scale), usual, strict, edges[0].margin("a_strict"), percent / 100)
    true = int(np.argmax(np.cumsum(counts) >= sum(counts) * percent / 100 - 1e-9))
    above, below = ((found.told & side).sum() for side in (true < found.first, true > found.last))
    silent = ~found.told | ((found.first == 0) & (found.last == len(KNOWN) - 1))
    return Missed(int(found.told.sum()), int(above), int(below)), int(silent.sum())


@pytest.mark.promise("intervals")
@pytest.mark.parametrize(
    "scale",
    [pytest.param(3.3, marks=pytest.mark.quick), *(pytest.param(each, marks=pytest.mark.soak) for each in (1.0, 0.4))],
)
@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_a_percentile_misses_at_most_one_time_in_forty_on_each_side(counts: tuple[int, ...], scale: float) -> None:
    for percent in (50, 25, 90):
        assert percentiles(counts, scale, percent)[0].hold()


@pytest.mark.quick
def test_of_ten_cases_a_percentile_cannot_be_told_and_of_a_thousand_it_can() -> None:
    """At epsilon 0.3. Of ten cases one answer in fifty may say something, by chance."""
    _, silent = percentiles((2, 3, 3, 1, 1), 1 / 0.3, 50)
    print(silent / RELEASES)
    assert silent > 0.98 * RELEASES
    _, silent = percentiles((200, 300, 300, 100, 100), 1 / 0.3, 50)
    assert silent == 0


@pytest.mark.quick
def test_a_percentile_whose_sides_share_no_level_is_caught() -> None:
    """Each side is told at all of what the level leaves, in place of a half."""
    level = "try_cast(level AS DOUBLE) / 100"
    half = f", 1, CASE WHEN try_cast(level AS DOUBLE) IN (90, 95, 99) THEN {level}"
    mutation = (half, half.replace(level, f"2 * {level} - 1"))
    assert not percentiles((500, 250, 250, 0, 0), 3.3, 50, mutation)[0].hold()


@pytest.mark.quick
def test_a_percentile_of_what_is_hardly_above_0_at_the_usual_level_is_caught() -> None:
    """Told by chance, such a whole is mostly told too large."""
    assert not percentiles((9, 1, 10, 0, 0), 3.3, 90, small="rank")[0].hold()


# ---------------------------------------------------------------- means


def means(counts: Sequence[int], scale: float, mutation: Mutation = UNCHANGED) -> Missed:
    """Return how many intervals begin above the lowest possible mean, or end below the highest."""
    estimates = released(counts, scale)
    formula = expanded("SELECT @mean_columns() FROM (SELECT point, @end_columns() FROM @ratio(points) GROUP BY point)")
    assert mutation[0] in formula
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        for each in noises("mean", scale):
            bounds = np.array([pair[each.q - 1] for pair in KNOWN])
            weights = (bounds - each.low) / each.width
            connection.register(
                "given",
                {"point": np.arange(RELEASES), "a": estimates.sum(axis=1), "b": (estimates * weights).sum(axis=1)},
            )
            verb = "INSERT INTO points" if each.q == 1 else "CREATE TABLE points AS"
            connection.execute(
                f"{verb} SELECT point, ?::INTEGER AS q, ?::BIGINT AS low, ?::BIGINT AS width, a::DECIMAL(18, 6) AS a, "
                "b, 'final' AS status, false AS one_is_wide, {'symbol': ''} AS wide, 0 AS between_wide, "
                "0 AS between_all, "
                "?::STRUCT(direction VARCHAR, variance DOUBLE, margin DOUBLE)[] AS noises FROM given",
                [*each],
            )
            connection.unregister("given")
        lowest, highest = (
            math.fsum(count * pair[end] for count, pair in zip(counts, KNOWN, strict=True)) / sum(counts)
            for end in (0, 1)
        )
        (row,) = connection.execute(
            "SELECT count(lower), count(*) FILTER (lower > ? + 1e-9), count(*) FILTER (upper < ? - 1e-9) "
            f"FROM ({formula.replace(*mutation) if mutation[0] else formula})",
            [lowest, highest],
        ).fetchall()
    return Missed(*row)


@pytest.mark.promise("intervals")
@pytest.mark.parametrize(
    "counts, scale",
    [
        pytest.param(COUNTS[8], 3.3, marks=pytest.mark.quick),
        *(pytest.param(COUNTS[8], scale) for scale in (1.0, 0.4)),
        *(pytest.param(each, 3.3) for each in SOME if each != COUNTS[8]),
        *(
            pytest.param(each, scale, marks=pytest.mark.soak)
            for each in COUNTS
            if each != COUNTS[8]
            for scale in (3.3, 1.0, 0.4)
            if scale != 3.3 or each not in SOME
        ),
    ],
    ids=str,
)
def test_a_mean_misses_at_most_one_time_in_forty_on_each_side(counts: tuple[int, ...], scale: float) -> None:
    assert means(counts, scale).hold()


@pytest.mark.quick
@pytest.mark.parametrize(
    "mutation", [("1.01 * list_max", "0.7 * list_max"), ("factor ** 2 * variance_a", "0")], ids=str
)
def test_a_mean_that_misses_too_often_is_caught(mutation: Mutation) -> None:
    assert not means((300, 200, 300, 100, 100), 3.3, mutation).hold()


def uncovered(scale: float, level: int, mutation: Mutation = UNCHANGED) -> list[float]:
    """Return the ratios at which the factor of the published SQL is below the quantile of the noise of B - r A.

    1.01 stands in the SQL, too: see ratios.sql.
    """
    found = []
    for each in noises("mean", scale, mutation=mutation, level=level):
        factor = 1.01 * max(
            float(one["margin"]) / math.sqrt(one["variance"])
            for one in each.noises
            if not one["direction"].endswith("_strict")
        )
        bounds = np.array([pair[each.q - 1] for pair in KNOWN])
        for ratio in np.linspace(0.001, 0.999, 80):
            weights = (bounds - each.low) / each.width - ratio
            deviation = math.sqrt(float((weights**2).sum()) * variance(scale))
            margin = quantile(weights.tolist(), [scale] * len(KNOWN), [1] * len(KNOWN), level / 100)
            if margin > factor * deviation:
                found.append(float(ratio))
    return found


SMALL = [(0.2, 99), (0.25, 90), (0.37, 99), (0.44, 95), (0.6, 99), (1.0, 95), (3.3, 99)]


@pytest.mark.parametrize("scale, level", SMALL)
def test_the_noise_of_a_mean_is_covered_at_every_ratio(scale: float, level: int) -> None:
    assert uncovered(scale, level) == []


def test_the_usual_level_at_small_scales_is_caught() -> None:
    mutation = ("(1 - confidence) / 1.6", "(1 - confidence)")
    assert any(uncovered(scale, level, mutation) for scale, level in SMALL)


# ---------------------------------------------------------------- shares


@pytest.mark.promise("intervals")
@pytest.mark.parametrize(
    "counts",
    [pytest.param(each, marks=[] if each in SOME else [pytest.mark.soak]) for each in COUNTS],
    ids=str,
)
def test_a_share_of_a_bucket_and_of_all_up_to_it_miss_at_most_one_time_in_twenty(counts: tuple[int, ...]) -> None:
    scale = 1.0
    estimates = released(counts, scale)
    formula = expanded("SELECT @shared_columns() FROM @shared(points)")
    for each in noises("share", scale):
        if each.q not in (2, -2):
            continue
        part = slice(1, 2) if each.q > 0 else slice(0, 2)
        given = {"a": estimates.sum(axis=1), "b": estimates[:, part].sum(axis=1)}
        with duckdb.connect() as connection:
            connection.register("given", given)
            connection.execute(
                "CREATE TABLE points AS SELECT a::DECIMAL(18, 6) AS a, b::DECIMAL(18, 6) AS b, "
                "?::STRUCT(direction VARCHAR, variance DOUBLE, margin DOUBLE)[] AS noises FROM given",
                [each.noises],
            )
            true = 100 * sum(counts[part]) / sum(counts)
            ((missed,),) = connection.execute(
                f"SELECT count(*) FILTER (NOT ? BETWEEN share_lower - 1e-9 AND share_upper + 1e-9) FROM ({formula})",
                [true],
            ).fetchall()
        assert held(missed, RELEASES, 0.05)
