"""The tails by which the audit judges, against values of printed tables and against plain sums."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from quietcount_consumers.auditing.binomial_bounds import clopper_pearson, log_factorials
from quietcount_consumers.auditing.exact_tails import (
    chi_square,
    chi_square_tail,
    laplace_tail,
    noncentral_tail,
    noncentrality_needed,
    rate_allowed,
)
from quietcount_consumers.auditing.noise_fit import Fit, _probabilities

pytestmark = pytest.mark.quick


@pytest.mark.promise("audited")
@pytest.mark.parametrize(
    "value, freedom, p",
    [(5.991465, 2, 0.05), (9.487729, 4, 0.05), (23.209251, 10, 0.01), (31.410433, 20, 0.05), (26.124482, 8, 0.001)],
)
def test_the_tail_of_chi_square_is_that_of_printed_tables(value: float, freedom: int, p: float) -> None:
    assert chi_square_tail(value, freedom) == pytest.approx(p, rel=1e-6)
    assert chi_square_tail(0, freedom) == 1


@pytest.mark.parametrize("freedom", [-2, 0, 3])
def test_an_odd_number_of_degrees_of_freedom_is_refused(freedom: int) -> None:
    with pytest.raises(ValueError, match="positive even"):
        chi_square_tail(1.0, freedom)


def test_the_noncentral_tail_without_a_shift_is_the_central_one_and_with_it_the_plain_mixture() -> None:
    assert noncentral_tail(18.307, 10, 0) == pytest.approx(chi_square_tail(18.307, 10), rel=1e-12)
    for value, freedom, shift in ((3.0, 2, 1.5), (40.0, 6, 20.0), (60.0, 10, 140.0)):
        half = shift / 2
        plain = sum(
            math.exp(-half + n * math.log(half) - math.lgamma(n + 1)) * chi_square_tail(value, freedom + 2 * n)
            for n in range(400)
        )
        assert noncentral_tail(value, freedom, shift) == pytest.approx(plain, rel=1e-9)


def test_the_shift_that_is_needed_leaves_a_millionth_and_less_leaves_more() -> None:
    for freedom in (2, 6, 10):
        threshold = next(x for x in np.arange(1, 200, 0.001) if chi_square_tail(float(x), freedom) <= 1e-6)
        shift = noncentrality_needed(freedom)
        assert 1 - noncentral_tail(float(threshold), freedom, shift) == pytest.approx(1e-6, rel=0.02)
        assert 1 - noncentral_tail(float(threshold), freedom, 0.9 * shift) > 2e-6


def test_counts_as_expected_have_a_p_of_1_and_far_ones_none() -> None:
    assert chi_square([250, 500, 250], [0.25, 0.5, 0.25]) == 1
    # 4 (50^2 / 250) = 40, of which half for the two others: (50^2 + 50^2) / 250 = 20 with two degrees of freedom.
    assert chi_square([300, 500, 200], [0.25, 0.5, 0.25]) == pytest.approx(math.exp(-10))


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.5, 40.0])
def test_the_tail_of_one_draw_is_the_sum_of_its_probabilities(scale: float) -> None:
    a = math.exp(-1 / scale)
    for least in (1, 2, 7):
        plain = sum((1 - a) / (1 + a) * a**x for x in range(least, least + math.ceil(40 * scale) + 2))
        assert laplace_tail(scale, least) == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize("scale", [0.05, 0.3, 1 / 0.7, 2.5, 10.0, 3000.0])
def test_the_classes_of_a_scale_are_a_partition_that_its_draws_fill(scale: float) -> None:
    fit = Fit.of(scale)
    if not fit.edges:
        assert scale < 0.1, "almost nothing but zeros"
        return
    probabilities = _probabilities(scale, fit.edges)
    assert probabilities.sum() == pytest.approx(1)
    assert probabilities.min() * fit.draws >= 100
    assert fit.factor == 1.03
    assert all(a < b for a, b in itertools.pairwise(fit.edges))
    assert 2 * laplace_tail(scale, fit.far) <= 2e-4 * (1 + 1e-9)


@pytest.mark.parametrize("units", [20, 300, 7_000])
def test_a_rate_is_allowed_that_as_many_independent_misses_reach_once_in_a_million_at_most(units: int) -> None:
    rate = rate_allowed(0.05, units)
    table = log_factorials(units)
    misses = np.arange(math.ceil(rate * units), units + 1)
    exact = np.exp(table[units] - table[misses] - table[units - misses] + misses * np.log(0.05)
                   + (units - misses) * np.log(0.95)).sum()  # fmt: skip
    print(f"{units} units: {rate:.4f} is allowed, and reached with {exact:.2g}")
    assert 1e-10 < exact <= 1e-6


def test_few_units_allow_everything() -> None:
    assert rate_allowed(0.05, 0) == rate_allowed(0.05, 4) == 1


@pytest.mark.parametrize(
    "hits, runs, lower, upper",
    [
        # The quantiles of the beta distribution that tables of 95 % intervals have.
        (5, 10, 0.187086, 0.812914),
        (1, 10, 0.002529, 0.445016),
        (0, 20, 0.0, 1 - 0.025 ** (1 / 20)),
        (20, 20, 0.025 ** (1 / 20), 1.0),
    ],
)
def test_the_bounds_of_a_probability_are_quantiles_of_the_beta_distribution(
    hits: int, runs: int, lower: float, upper: float
) -> None:
    assert clopper_pearson(hits, runs, 0.025, log_factorials(runs)) == pytest.approx((lower, upper), abs=1e-6)
