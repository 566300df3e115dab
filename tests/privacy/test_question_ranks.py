"""What `ranking()` claims holds at its level, for all claims of an answer together: by exact enumeration of the noise.

The margins are those that the published SQL computes; that a claim is a difference above its margin is shown in
tests/unit/aggregates/questions.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tests.questions_world import Population, Table, alone, building, cells_and_total, fill, variance

from quietcount_aggregates.questions import expanded

pytestmark = pytest.mark.quick

Floats = npt.NDArray[np.float64]

MONTH = [(dt.date(2024, 1, 1), dt.date(2024, 1, 31))]
SYMBOLS = ("A", "B", "C", "D")
LEVELS = {"90": 0.9, "95": 0.95, "99": 0.99, "99.9": 0.999}
CUT = 1e-7
"""The probability that the enumeration leaves out."""

MARGINS = """
CREATE MACRO pair_margins(the_statistic, the_start, the_end, "by" := 'kind', cells := '', level := 95,
    db := NULL) AS TABLE
SELECT direction, max(margin) FROM @noise(@pair_symbols(), @pair_spans(), @pair_directions()) n
WHERE n.q.b IS NOT NULL GROUP BY direction
"""
TRUTHS = [(5, 5, 5, 5), (9, 9, 0, 0), (7, 6, 6, 6), (8, 6, 4, 2), (20, 3, 3, 3)]


def margins(folder: Path, population: Population, mutation: tuple[str, str]) -> dict[str, float]:
    """Return the margin of a difference for each direction, with a piece of the SQL exchanged."""
    text = expanded(MARGINS)
    assert mutation[0] in text
    with building(folder / "public.duckdb") as connection:
        fill(connection, population)
        connection.execute(text.replace(*mutation))
        return dict(connection.execute("FROM pair_margins('kinds', '2024-01-01', '2024-01-31')").fetchall())


def noise(scale: float, dimensions: int) -> tuple[list[Floats], Floats]:
    """Return every combination of so many draws but the rarest, and its probability."""
    a = math.exp(-1 / scale)
    reach = math.ceil(scale * math.log(8 * dimensions / CUT))
    places = np.arange(-reach, reach + 1).astype(float)
    one = (1 - a) / (1 + a) * a ** np.abs(places)
    draws = [grid.ravel() for grid in np.meshgrid(*[places] * dimensions, indexing="ij")]
    probability = np.ones(1)
    for _ in range(dimensions):
        probability = np.outer(probability, one).ravel()
    return draws, probability


def worst(
    found: dict[str, float], estimates: list[Floats], probability: Floats, truth: tuple[int, ...]
) -> tuple[dict[str, float], float]:
    """Return how often a false lead is claimed, by level, and how often an item's rank is missed, at most."""
    above = np.stack([[e - other for other in estimates] for e in estimates])
    others = ~np.eye(len(estimates), dtype=bool)
    leads = {}
    for level in LEVELS:
        claimed = np.stack([(above[i][others[i]] > found[level]).all(axis=0) for i in range(len(truth))])
        false = np.array([each < max(truth) for each in truth])
        leads[level] = float(probability[claimed[false].any(axis=0)].sum()) if false.any() else 0.0
    missed = 0.0
    for i in range(len(truth)):
        best = 1 + (-above[i][others[i]] > found["rank"]).sum(axis=0)
        last = 1 + (above[i][others[i]] <= found["rank"]).sum(axis=0)
        rank = 1 + sum(each > truth[i] for each in truth)
        missed = max(missed, float(probability[(rank < best) | (rank > last)].sum()))
    return leads, missed


def table(scale: float) -> Table:
    return Table("kinds", scale, MONTH, [[0.0] * len(SYMBOLS)], {"kind": SYMBOLS})


def independent(folder: Path, mutation: tuple[str, str] = ("", "")) -> list[tuple[dict[str, float], float]]:
    found = margins(folder, alone(table(0.7)), mutation)
    draws, probability = noise(0.7, len(SYMBOLS))
    return [worst(found, [t + d for t, d in zip(truth, draws, strict=True)], probability, truth) for truth in TRUTHS]


@pytest.mark.promise("intervals")
def test_leads_and_ranks_hold_at_their_level_for_all_pairs_together(tmp_path: Path) -> None:
    for leads, missed in independent(tmp_path):
        print(leads, missed)
        assert all(leads[name] <= 1 - level + CUT for name, level in LEVELS.items())
        assert missed <= 0.05 + CUT


def test_leads_and_ranks_of_reconciled_cells_hold_at_their_level(tmp_path: Path) -> None:
    scale, total = 0.6, 0.4
    population = cells_and_total("both", table(scale), Table("everything", total, MONTH, [[0.0]]))
    found = margins(tmp_path, population, ("", ""))
    draws, probability = noise(scale, len(SYMBOLS))
    # The correction by the total is the same for all cells: it moves no difference.
    assert variance(total) > 0
    for truth in TRUTHS:
        leads, missed = worst(found, [t + d for t, d in zip(truth, draws, strict=True)], probability, truth)
        assert all(leads[name] <= 1 - level + CUT for name, level in LEVELS.items())
        assert missed <= 0.05 + CUT


def test_claims_that_do_not_share_their_level_among_the_pairs_are_caught(tmp_path: Path) -> None:
    found = independent(tmp_path, ("greatest(k.others, 1)", "1"))
    print(found)
    assert max(missed for _, missed in found) > 0.05 + 0.01


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 0.3), (0.7, 0.2, 0.1), (1.0, 1.0, 1.0, 1.0)], ids=str)
def test_beyond_the_reach_of_the_quantile_a_stretched_margin_is_never_too_small(weights: tuple[float, ...]) -> None:
    """99.99 % of the noise plus the largest weight, times ln(p) / ln(0.0001), is exceeded with p at most."""
    for scale in (0.4, 1.0, 2.0):
        reach = math.ceil(35 * scale)
        a = math.exp(-1 / scale)
        one = {x: (1 - a) / (1 + a) * a ** abs(x) for x in range(-reach, reach + 1)}
        total = {0.0: 1.0}
        for weight in weights:
            following: dict[float, float] = {}
            for (value, p), (x, r) in itertools.product(total.items(), one.items()):
                if p * r > 1e-14:
                    place = round(value + weight * x, 9)
                    following[place] = following.get(place, 0.0) + p * r
            total = following
        places = np.array(sorted(map(abs, total)))
        sizes, probability = np.unique(places, return_inverse=True)
        mass = np.bincount(probability, [total[each] for each in sorted(total, key=abs)])
        beyond = np.append(np.cumsum(mass[::-1])[::-1][1:], 0.0)
        at = sizes[np.searchsorted(-beyond, -1e-4)]
        for p in (3e-5, 1e-5, 1e-6, 1e-7):
            stretched = (at + max(weights)) * math.log(p) / math.log(1e-4)
            assert beyond[np.searchsorted(sizes, stretched + 1e-9) - 1] <= p + 1e-10, (scale, p)
