"""Reconciliation against a solver for any matrix, on random populations: the same estimates, which add up exactly."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from tests.property.dense_solver import dense_weights, observed

from quietcount_aggregates.axes import Axes
from quietcount_aggregates.noise import variance
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
from quietcount_aggregates.reconciliation import solution as product
from quietcount_aggregates.reconciliation.estimates import MILLION, estimate
from quietcount_aggregates.reconciliation.kernel import alike
from quietcount_aggregates.reconciliation.least_squares import fit
from quietcount_aggregates.reconciliation.solution import Selection, Shape, Solution
from quietcount_schemas.events.periods import Period

pytestmark = pytest.mark.quick

MONTHS = {Period.MONTH: 1, Period.QUARTER: 3, Period.YEAR: 12}
ROUNDING = 2e-4
"""How far roundings to millionths add up to, at most: some hundred finest cells of twelve months."""


class Block(NamedTuple):
    """A population, the form of a block of it, and what was drawn."""

    population: Population
    shape: Shape
    draws: list[list[npt.NDArray[np.int64]]]

    @property
    def scales(self) -> list[float]:
        return [1 / table.epsilon for table in self.population.tables]

    @property
    def solution(self) -> Solution:
        scales = self.scales
        return Solution(Axes.of(self.population), [variance(each) for each in scales], scales, self.shape)

    @property
    def variances(self) -> npt.NDArray[np.float64]:
        of_tables = zip(self.population.tables, self.shape.spans, self.scales, strict=True)
        return np.concatenate([np.full(t.cells * len(own), variance(scale)) for t, own, scale in of_tables])


@st.composite
def filters(draw: Any, dimensions: Sequence[Dimension]) -> tuple[Filter, ...]:
    chosen = [each for each in dimensions if draw(st.integers(0, 3)) == 0]
    return tuple(
        Filter(each, tuple(sorted(draw(st.sets(st.sampled_from(each.symbols), min_size=1))))) for each in chosen
    )


@st.composite
def blocks(draw: Any) -> Block:
    """Draw up to three dimensions of up to four symbols, and up to four tables by the month, quarter and year."""
    sizes = draw(st.lists(st.integers(1, 4), max_size=3))
    dimensions = [Dimension(f"d{place}", tuple("abcd"[:size]), "a") for place, size in enumerate(sizes)]
    tables = []
    for place in range(draw(st.integers(1, 4))):
        by = tuple(draw(st.permutations(dimensions)))[: draw(st.integers(0, len(dimensions)))]
        period = Period.MONTH if place == 0 else draw(st.sampled_from(list(MONTHS)))
        epsilon = Epsilon(draw(st.sampled_from([0.05, 0.3, 1.0, 4.0])))
        tables.append(Table(StatisticName(f"t{place}"), draw(filters(dimensions)), by, period, epsilon))
    population = Population(
        PopulationName("p"), "", "", ("E",), draw(filters(dimensions)), Period.MONTH, 1, Horizon.LIFETIME,
        dt.date(2023, 1, 1), Late.CARRY, tuple(tables),
    )  # fmt: skip
    assume(all(all(layout.counted) for layout in Axes.of(population).layouts))  # others are refused
    periods = draw(st.sampled_from([1, 3, 12]))
    spans = tuple(
        tuple((first, first + MONTHS[table.period]) for first in range(0, periods, MONTHS[table.period]))
        if MONTHS[table.period] <= periods
        else ()
        for table in tables
    )
    seed = draw(st.integers(0, 2**32))
    numbers = np.random.default_rng(seed)
    draws = [[numbers.integers(-60, 9000, table.cells) for _ in own] for table, own in zip(tables, spans, strict=True)]
    return Block(population, Shape(periods, spans), draws)


def flat(arrays: Sequence[Sequence[npt.NDArray[np.int64]]]) -> npt.NDArray[np.int64]:
    return np.concatenate([each for own in arrays for each in own])


def dense(block: Block) -> npt.NDArray[np.float64]:
    return dense_weights(observed(block.population, block.shape.periods, block.shape.spans), block.variances)


@given(blocks())
def test_estimates_are_those_of_a_solver_for_any_matrix(block: Block) -> None:
    estimates = flat(estimate(block.solution, block.draws)) / MILLION
    np.testing.assert_allclose(estimates, dense(block) @ flat(block.draws), rtol=1e-9, atol=ROUNDING)


def margin_of(block: Block, estimates: list[list[npt.NDArray[np.int64]]], table: int) -> dict[Any, int]:
    """Return the sum of a table's estimates for each month span and each symbol of each dimension, by hand."""
    found: dict[Any, int] = {}
    own = block.population.tables[table]
    for span, cells in zip(block.shape.spans[table], estimates[table], strict=True):
        symbols = itertools.product(*(each.symbols for each in own.by))
        for combination, value in zip(symbols, cells.tolist(), strict=True):
            of_names = dict(zip((each.name for each in own.by), combination, strict=True))
            for size in range(len(of_names) + 1):
                for names in itertools.combinations(sorted(of_names), size):
                    key = (span, tuple((name, of_names[name]) for name in names))
                    found[key] = found.get(key, 0) + value
    return found


@given(blocks())
def test_reconciled_tables_add_up_to_the_last_digit(block: Block) -> None:
    estimates = estimate(block.solution, block.draws)
    conditions = [{each.field.name: each.accepted for each in table.where} for table in block.population.tables]
    margins = [margin_of(block, estimates, table) for table in range(len(block.population.tables))]
    for (a, of_a), (b, of_b) in itertools.permutations(enumerate(margins), 2):
        if conditions[a] != conditions[b]:
            continue
        for (span, names), value in of_b.items():
            parts = [
                of_a.get((each, names)) for each in block.shape.spans[a] if span[0] <= each[0] < each[1] <= span[1]
            ]
            widths = [each for each in block.shape.spans[a] if span[0] <= each[0] < each[1] <= span[1]]
            if parts and None not in parts and sum(e - s for s, e in widths) == span[1] - span[0]:
                assert sum(part or 0 for part in parts) == value


def selections(block: Block) -> list[tuple[int, int, Selection]]:
    """Return, in the order of the estimates, the table, the release and the selection of each cell."""
    axes = Axes.of(block.population)
    found = []
    for number, layout in enumerate(axes.layouts):
        for release in range(len(block.shape.spans[number])):
            for symbols in itertools.product(*(each.symbols for each in layout.table.by)):
                cell = dict(zip((each.name for each in layout.table.by), symbols, strict=True))
                chosen = [[0] * axis.parts for axis in axes.axes]
                for axis, counted, of_axis in zip(axes.axes, layout.counted, chosen, strict=True):
                    for symbol, part in zip(axis.dimension.symbols, axis.part_of, strict=True):
                        of_axis[part] += part in counted and cell.get(axis.dimension.name, symbol) == symbol
                found.append((number, release, Selection(tuple(map(tuple, chosen)))))
    return found


@given(blocks(), st.data())
def test_the_noise_of_a_cell_weighs_as_a_solver_for_any_matrix_says(block: Block, data: st.DataObject) -> None:
    cells = selections(block)
    place = data.draw(st.integers(0, len(cells) - 1))
    table, release, selection = cells[place]
    groups = block.solution.noise(selection, *block.shape.spans[table][release])
    weights = sorted(weight for (weight, _), draws in groups.items() for _ in range(draws) if weight > 1e-9)
    wanted = np.abs(dense(block)[place])
    np.testing.assert_allclose(weights, np.sort(wanted[wanted > 1e-9]), rtol=1e-6, atol=1e-9)
    found: Counter[float] = Counter()
    for (weight, scale), draws in groups.items():
        found[scale] += draws * (weight > 1e-9)
    of_cells = np.repeat(
        block.scales, [t.cells * len(s) for t, s in zip(block.population.tables, block.shape.spans, strict=True)]
    )
    assert {k: v for k, v in found.items() if v} == Counter(of_cells[wanted > 1e-9].tolist())


@given(blocks(), st.data())
def test_the_variance_of_an_estimate_is_never_above_that_of_its_draw(block: Block, data: st.DataObject) -> None:
    """The estimate is unbiased, so that its mean squared error is its variance."""
    cells = selections(block)
    table, release, selection = cells[data.draw(st.integers(0, len(cells) - 1))]
    groups = block.solution.noise(selection, *block.shape.spans[table][release])
    spread = sum(draws * weight**2 * variance(scale) for (weight, scale), draws in groups.items())
    assert spread <= variance(block.scales[table]) * (1 + 1e-9)


@given(blocks())
def test_periods_that_are_alike_have_noise_alike_alone_and_in_pairs(block: Block) -> None:
    """A ranking asks for the noise of one pair of each kind."""
    weights, cells = dense(block), block.population.tables[0].cells
    kinds: dict[tuple[int, ...], npt.NDArray[np.float64]] = {}
    places = range(block.shape.periods)
    for pair in [*((one,) for one in places), *itertools.combinations(places, 2)]:
        rows = [weights[cells * place] for place in pair]
        noise = np.sort(np.abs(rows[0] if len(rows) == 1 else rows[0] - rows[1]))
        kind = tuple(alike(block.shape, place) for place in pair)
        np.testing.assert_allclose(noise, kinds.setdefault(kind, noise), atol=1e-9)


FIXED = Block(
    Population(
        PopulationName("p"), "", "", ("E",), (), Period.MONTH, 1, Horizon.LIFETIME, dt.date(2023, 1, 1), Late.CARRY,
        (
            Table(StatisticName("a"), (), (Dimension("d", ("x", "y", "z"), "z"),), Period.MONTH, Epsilon(0.3)),
            Table(StatisticName("b"), (), (Dimension("e", ("v", "w"), "w"),), Period.QUARTER, Epsilon(0.7)),
            Table(StatisticName("c"), (), (), Period.YEAR, Epsilon(0.1)),
        ),
    ),
    Shape(12, (tuple((m, m + 1) for m in range(12)), tuple((m, m + 3) for m in range(0, 12, 3)), ((0, 12),))),
    [
        [np.array([7 * m, 100 - m, -3]) for m in range(12)],
        [np.array([150 + q, 180 - 3 * q]) for q in range(4)],
        [np.array([1301])],
    ],
)  # fmt: skip


def test_estimates_and_weights_have_the_same_bits_on_every_machine() -> None:
    """Written down on one machine: another one, or another version of a library, must give the same."""
    estimates = flat(estimate(FIXED.solution, FIXED.draws))
    digest = hashlib.sha256(estimates.tobytes())
    for component in FIXED.solution.components:
        digest.update(component.weights.tobytes())
    assert digest.hexdigest() == "6d78c1c29b96160d4944578dd85f83855c22ea3e3123bf1dc517882d261bff7f"


# ---------------------------------------------------------------- mutants


def deviation(block: Block) -> float:
    estimates = flat(estimate(block.solution, block.draws)) / MILLION
    return float(np.abs(estimates - dense(block) @ flat(block.draws)).max())


def test_a_fit_that_takes_all_draws_for_equally_precise_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert deviation(FIXED) < ROUNDING
    monkeypatch.setattr(product, "fit", lambda design, variances: fit(design, np.ones_like(variances)))
    assert deviation(FIXED) > 1


def test_a_fit_that_forgets_how_many_draws_a_total_adds_up_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Solution, "_terms", lambda *_: 1)
    assert deviation(FIXED) > 1


def test_rounding_each_table_apart_is_caught() -> None:
    """The months of a quarter would miss it by some millionths."""
    apart = np.rint(dense(FIXED) @ flat(FIXED.draws) * MILLION).astype(np.int64)
    months, quarters = apart[:36].reshape(4, 9).sum(axis=1), apart[36:44].reshape(4, 2).sum(axis=1)
    assert np.any(months != quarters)
    assert int(np.abs(months - quarters).max()) < 100


def test_taking_all_periods_for_alike_is_caught() -> None:
    """Two months of one quarter share its noise, and two of different quarters do not."""
    weights = dense(FIXED)
    within, across = (np.sort(np.abs(weights[0] - weights[3 * other])) for other in (1, 3))
    assert float(np.abs(within - across).max()) > 0.01
    assert [alike(FIXED.shape, place) for place in range(12)] == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9, 9, 9]
