"""The quantile of a figure's noise, in Python and in SQL, against exact enumeration on a fine lattice.

A mutant of each safeguard must cover less than it says.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from pathlib import Path
from statistics import NormalDist
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.privacy.exact_noise import exact_margin, of_sum

from quietcount_aggregates.errors import NoiseError
from quietcount_aggregates.intervals import quantile
from quietcount_aggregates.noise import margin, variance

pytestmark = pytest.mark.quick

Floats = npt.NDArray[np.float64]

CONFIDENCES = (0.90, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Noise:
    """Groups of draws with rational weights, so that every sum is a multiple of 1 / `denominator`."""

    weights: tuple[Fraction, ...]
    scales: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, *groups: tuple[str | int, float, int]) -> Noise:
        weights, scales, counts = zip(*groups, strict=True)
        return cls(tuple(map(Fraction, weights)), scales, counts)

    @property
    def denominator(self) -> int:
        return math.lcm(*(weight.denominator for weight in self.weights))

    def floats(self) -> tuple[list[float], list[float], list[int]]:
        return [float(weight) for weight in self.weights], list(self.scales), list(self.counts)


Asked = Sequence[tuple[Noise, float]]
Quantiles = Callable[[Asked], list[float]]


@functools.cache
def within(noise: Noise) -> Floats:
    """Return P(|S| <= k / denominator) for k from 0 on, by plain convolution; what is cut off is below 1e-13."""
    total = np.ones(1)
    for weight, scale, count in zip(noise.weights, noise.scales, noise.counts, strict=True):
        stride = abs(int(weight * noise.denominator))
        if stride == 0:
            continue
        mass = of_draws(scale, count)
        wider = np.zeros(len(total) + stride * (len(mass) - 1))
        for place, probability in enumerate(mass):
            wider[place * stride : place * stride + len(total)] += probability * total
        total = wider
    centre = len(total) // 2
    return np.cumsum(np.concatenate([total[centre : centre + 1], 2 * total[centre + 1 :]]))


@functools.cache
def of_draws(scale: float, count: int) -> Floats:
    """Return the probabilities of -r..r for a sum of draws."""
    if count > 1:
        return trimmed(np.convolve(of_draws(scale, count // 2), of_draws(scale, count - count // 2)))
    a = math.exp(-1 / scale)
    reach = math.ceil(36 * scale) + 1
    return trimmed((1 - a) / (1 + a) * a ** np.abs(np.arange(-reach, reach + 1)))


def trimmed(mass: Floats) -> Floats:
    keep = np.flatnonzero(mass > 1e-18)
    return mass[keep[0] : keep[-1] + 1]


def coverage(noise: Noise, m: float) -> float:
    probabilities = within(noise)
    return float(probabilities[min(math.floor(Fraction(m) * noise.denominator), len(probabilities) - 1)])


def smallest(noise: Noise, confidence: float) -> float:
    return float(np.searchsorted(within(noise), confidence - 1e-12)) / noise.denominator


# What is tested: the quantile as it is, and mutants of its text


def text_of(name: str) -> str:
    return resources.files("quietcount_aggregates").joinpath(name).read_text(encoding="utf-8")


Change = tuple[str, str]


def changed(text: str, changes: Iterable[Change]) -> str:
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def in_python(*changes: Change) -> Quantiles:
    """Return the quantile of intervals.py, changed."""
    module: dict[str, Any] = {"__name__": "quietcount_aggregates.intervals"}
    exec(changed(text_of("intervals.py"), changes), module)  # noqa: S102
    return lambda asked: [module["quantile"](*noise.floats(), confidence) for noise, confidence in asked]


def in_sql(*changes: Change) -> Quantiles:
    """Return the macro of intervals.sql, changed."""
    macro = changed(text_of("intervals.sql"), changes)
    return lambda asked: ask([(*noise.floats(), confidence) for noise, confidence in asked], macro)


def ask(rows: Iterable[tuple[list[float], list[float], list[int], float]], macro: str = "") -> list[float]:
    """Return the macro's answers, asked in one query."""
    with duckdb.connect() as connection:
        connection.execute(macro or text_of("intervals.sql"))
        connection.execute("CREATE TABLE asked (place INTEGER, w DOUBLE[], s DOUBLE[], n BIGINT[], c DOUBLE)")
        connection.executemany("INSERT INTO asked VALUES (?, ?, ?, ?, ?)", [[i, *row] for i, row in enumerate(rows)])
        found = connection.execute("SELECT noise_quantile(w, s, n, c) FROM asked ORDER BY place").fetchall()
    return [m for (m,) in found]


NO_LATTICE = {
    "python": ("_LONGEST_LATTICE = 1 << 15", "_LONGEST_LATTICE = 0"),
    "sql": ("<= 8192, false", "<= 0, false"),
}
SMOOTHED = {
    "python": in_python(NO_LATTICE["python"]),
    "sql": in_sql(NO_LATTICE["sql"]),
}
BOTH = {"python": in_python(), "sql": in_sql()}

# The weights of the last ones are on no lattice that is looked for.
CASES = [
    *(Noise.of((1, scale, count)) for scale in (0.05, 0.2, 0.3, 0.5, 1, 2, 4, 10, 40) for count in (1, 2, 7, 30)),
    Noise.of((1, 100.0, 1)),
    Noise.of(("2/3", 2.0, 1), ("-1/3", 2.0, 2)),
    Noise.of(("2/3", 0.3, 4), ("1/3", 0.4, 8), ("1/7", 1.0, 3)),
    Noise.of(("1/7", 30.0, 3), ("-3/7", 3.0, 12), (0, 5.0, 9)),
    Noise.of((1, 0.2, 1), ("1/2", 100.0, 2)),
    Noise.of((12, 0.3, 1), ("-1/4", 6.0, 40)),
    Noise.of(("0.731", 2.0, 3), ("-0.269", 3.0, 1)),
    Noise.of(("1", 0.4, 1), ("0.501", 0.3, 2)),
    Noise.of(("0.997", 0.2, 5), ("-0.003", 20.0, 4)),
    Noise.of(("50.51", 0.3, 1), ("1", 1.0, 1)),
    Noise.of(("0.917", 0.25, 30), ("0.083", 7.0, 2), ("0.4", 0.6, 1)),
]
ASKED = [(noise, confidence) for noise in CASES for confidence in CONFIDENCES]


def judged(quantiles: Quantiles, asked: Asked, allowed: float = 1e-12) -> tuple[float, float]:
    """Return by how much the worst coverage is below what was asked for, and the greatest excess of width.

    A margin that covers no more places than the smallest has no excess. The smallest is that for `allowed` more.
    """
    short, wide = -1.0, 0.0
    for (noise, confidence), m in zip(asked, quantiles(asked), strict=True):
        short = max(short, confidence - coverage(noise, m))
        least = smallest(noise, confidence + allowed)
        if math.floor(m * noise.denominator) > round(least * noise.denominator):
            wide = max(wide, m / least - 1 if least else math.inf)
    print(f"coverage short by {short:.2e}, width in excess by {wide:.3%}")
    return short, wide


@pytest.mark.parametrize("quantiles", BOTH.values(), ids=BOTH)
@pytest.mark.promise("intervals")
def test_the_quantile_covers_and_is_at_most_1_percent_too_wide(quantiles: Quantiles) -> None:
    short, wide = judged(quantiles, ASKED)
    assert short <= 1e-12
    assert wide <= 0.01


@pytest.mark.parametrize("quantiles", SMOOTHED.values(), ids=SMOOTHED)
def test_without_the_lattice_it_covers_and_is_at_most_1_percent_too_wide(quantiles: Quantiles) -> None:
    """1e-5 of the confidence is what smoothing allows for its errors: it may cost one more place of the lattice."""
    short, wide = judged(quantiles, ASKED, allowed=1e-5)
    assert short <= 1e-12
    assert wide <= 0.01


# 1 is a little above 3 times the other weight, so that the sum has places just above those of the lattice.
OFF_THE_LATTICE = Noise.of((1, 0.25, 2), ("199999/600000", 0.25, 2))

# Asked for a hair more than what a place of the lattice covers: only the next place will do.
BY_A_HAIR = [
    (noise, float(within(noise)[k]) + 1e-8)
    for noise in CASES[8:32]
    for k in range(2, len(within(noise)), 9)
    if 0.8 < within(noise)[k] < 0.99
]

MUTANTS: dict[str, Callable[[], Quantiles]] = {
    "python, smoothing is not allowed for": lambda: in_python(("k * unit + h)", "k * unit)")),
    "python, wrapping with smoothing": lambda: in_python(("wrapping + most + 2 * h\n", "most + 2 * h\n")),
    "python, wrapping on the lattice": lambda: in_python(("(draws.reach(_EXACT_NATS) + most)", "(1.5 * most)")),
    "python, truncation": lambda: in_python(("_KAISER = 13.0", "_KAISER = 1.0")),
    "python, nothing allowed for errors": lambda: in_python(NO_LATTICE["python"], ("_SMOOTH = 1e-5", "_SMOOTH = 0.0")),
    "python, draws that are not rare are left out": lambda: in_python(("_RARE = 1e-13", "_RARE = 0.1")),
    "python, the last digits of the weights": lambda: in_python(("confidence) + moved)", "confidence))")),
    "python, rounded down": lambda: in_python(("math.ceil(mantissa", "math.floor(mantissa")),
    "python, half the quantile": lambda: in_python(("return _smoothed(", "return 0.5 * _smoothed(")),
    "python, one place of the lattice too few": lambda: in_python(
        ("return step * series", "return -step + step * series")
    ),
    "python, the normal factor of the variance": lambda: in_python(
        ("    step, moved = draws.lattice()\n", VARIANCE_ALONE)
    ),
    "sql, smoothing is not allowed for": lambda: in_sql(
        ("q_last.unit + q_last.beyond", "q_last.unit + CASE WHEN q_short THEN q_last.beyond ELSE 0 END")
    ),
    "sql, wrapping with smoothing": lambda: in_sql(("'length': q_wrapping + q_m2", "'length': q_m2")),
    "sql, wrapping on the lattice": lambda: in_sql(("floor((q_far + q_most)", "floor((0.5 * q_most + q_most)")),
    "sql, truncation": lambda: in_sql(("ceil(13 * q_last.length", "ceil(0.5 * q_last.length")),
    "sql, nothing allowed for errors": lambda: in_sql(NO_LATTICE["sql"], ("+ 1e-5", "+ 0.0")),
    "sql, draws that are not rare are left out": lambda: in_sql(("> 1e-13]", "> 0.1]")),
    "sql, the last digits of the weights": lambda: in_sql(("q_lattice.moved - q_lattice.step", "- q_lattice.step")),
    "sql, rounded down": lambda: in_sql(("1.000001 *", "0.999999 *")),
    "sql, half the quantile": lambda: in_sql(("1.000001 *", "0.5 *")),
    "sql, one place of the lattice too few": lambda: in_sql(("- q_lattice.step / 2", "- 1.5 * q_lattice.step")),
}

VARIANCE_ALONE = """
    return {0.9: 1.645, 0.95: 1.96, 0.99: 2.576}.get(confidence, 2) * math.sqrt(
        0.5 * float((draws.weights**2 * draws.spreads * draws.counts).sum())
    )
    step, moved = draws.lattice()
"""


@pytest.mark.parametrize("quantiles", BOTH.values(), ids=BOTH)
def test_weights_that_are_nearly_on_a_lattice_are_covered(quantiles: Quantiles) -> None:
    short, wide = judged(quantiles, [(OFF_THE_LATTICE, confidence) for confidence in CONFIDENCES])
    assert short <= 1e-12
    assert wide <= 0.01


@pytest.mark.parametrize("quantiles", [*BOTH.values(), *SMOOTHED.values()])
def test_a_confidence_a_hair_above_what_a_place_covers_gives_the_next_place(quantiles: Quantiles) -> None:
    assert judged(quantiles, BY_A_HAIR)[0] <= 0


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_a_quantile_without_one_of_its_safeguards_is_caught(mutant: Callable[[], Quantiles]) -> None:
    asked = [*ASKED, *((OFF_THE_LATTICE, confidence) for confidence in CONFIDENCES), *BY_A_HAIR]
    assert judged(mutant(), asked)[0] > 1e-9


@pytest.mark.parametrize("quantiles", BOTH.values(), ids=BOTH)
def test_on_whole_numbers_it_is_the_exact_margin(quantiles: Quantiles) -> None:
    noises = [Noise.of((-1, scale, count)) for scale in (0.05, 0.3, 0.7, 1, 3.3, 12) for count in (1, 2, 3, 12)]
    asked = [(noise, confidence) for noise in noises for confidence in CONFIDENCES]
    expected = [exact_margin(of_sum(noise.scales[0], noise.counts[0]), confidence) for noise, confidence in asked]
    assert [math.floor(m) for m in quantiles(asked)] == expected


def both(*row: Any) -> list[float]:
    return [quantile(*row), *ask([row])]


@pytest.mark.parametrize("confidence", CONFIDENCES)
def test_great_scales_and_counts_have_their_limits(confidence: float) -> None:
    """One draw has its closed form, two the sum of two Laplace variables, ten million draws the normal distribution."""
    least = margin(100_000, confidence)
    for m in both([1.0], [100_000.0], [1], confidence):
        assert least <= m <= 1.01 * least
    for m in both([0.5, -0.5], [100_000.0, 100_000.0], [1, 1], confidence):
        x = m / 50_000
        assert (1 + x / 2) * math.exp(-x) <= 1 - confidence <= (1 + 0.99 * x / 2) * math.exp(-0.99 * x)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    for scale in (0.3, 10.0, 100_000.0):
        for m in both([2.0, 0.1], [scale, scale], [10_000_000, 3], confidence):
            assert 1 - 1e-6 <= m / (z * 2 * math.sqrt(10_000_000 * variance(scale))) <= 1.01


def test_without_noise_it_is_0() -> None:
    for row in (
        ([], [], []),
        ([0.0], [3.0], [5]),
        ([1.0, -2.0], [3.0, 1.0], [0, 0]),
        ([1.0], [0.001], [10_000_000]),
        ([1.0, 2**0.5], [0.05, 0.2], [100, 1]),
    ):
        assert both(*row, 0.95) == [0, 0], row


def test_signs_order_and_zero_weights_do_not_matter() -> None:
    expected = both([0.7, 2.2, 1e-9], [3.0, 0.4, 5.0], [4, 9, 1], 0.9)
    assert both([2.2, 0.0, -0.7, 1e-9], [0.4, 9.0, 3.0, 5.0], [9, 1000, 4, 1], 0.9) == pytest.approx(expected, rel=1e-9)


def test_python_and_sql_agree_within_1_percent() -> None:
    seed = 20240301
    print(f"seed {seed}")
    random = np.random.default_rng(seed)
    rows = []
    for size in (1, 2, 3, 5, 8, 13, 20, 100):
        for confidence in CONFIDENCES:
            weights, scales = random.normal(size=size), np.exp(random.uniform(-1.5, 5, size))
            rows.append((weights.tolist(), scales.tolist(), random.integers(0, 200, size).tolist(), confidence))
    ratios = [m / quantile(*row) for row, m in zip(rows, ask(rows), strict=True)]
    print(f"SQL over Python: {min(ratios):.4f} to {max(ratios):.4f}")
    assert 0.99 < min(ratios) <= max(ratios) < 1.01


def moved_by_last_bits(quantiles: Quantiles) -> int:
    """Return how many quantiles change if sin, exp and log are off by their last bit."""
    expected = quantiles(ASKED)
    random = np.random.default_rng(7)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("sin", "sinh", "exp", "log", "log1p", "sqrt"):
            patch.setattr(np, name, nudged(getattr(np, name), random))
        patch.setattr(math, "log", np.log)
        patch.setattr(math, "exp", np.exp)
        return sum(m != before for m, before in zip(quantiles(ASKED), expected, strict=True))


def test_the_last_bits_of_sin_exp_and_log_do_not_reach_the_quantile() -> None:
    assert moved_by_last_bits(in_python()) == 0
    assert moved_by_last_bits(SMOOTHED["python"]) == 0
    # Without the grid of powers of 2 they do.
    assert moved_by_last_bits(in_python(("unit = 2.0 **", "unit = (1 + draws.probability_of_none()) * 2.0 **"))) > 0


def nudged(exact: Callable[[Floats], Floats], random: np.random.Generator) -> Callable[[Floats], Floats]:
    """Return `exact` with each value moved by at most its last bit."""

    def inexact(x: Floats) -> Floats:
        values = np.asarray(exact(x))
        return np.nextafter(values, values + random.integers(-1, 2, values.shape))

    return inexact


@pytest.mark.parametrize(
    "row",
    [
        ([1.0], [2.0], [1, 1], 0.9),
        ([1.0], [0.0], [1], 0.9),
        ([1.0], [math.inf], [1], 0.9),
        ([1.0], [2.0], [-1], 0.9),
        ([math.nan], [2.0], [1], 0.9),
        ([1.0], [2.0], [1], 95.0),
    ],
    ids=["unequal lists", "no scale", "no finite scale", "negative count", "no number", "a confidence in percent"],
)
def test_what_cannot_be_answered_is_refused(row: tuple[list[float], list[float], list[int], float]) -> None:
    with pytest.raises(NoiseError):
        quantile(*row)
    with pytest.raises(duckdb.InvalidInputException, match=r"noise_quantile\(\)"):
        ask([row])


def test_the_macro_works_attached_under_any_name_beside_columns_of_any_name(tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{tmp_path / 'statistics.duckdb'}' AS built (STORAGE_VERSION 'v1.2.0')")
        connection.execute("USE built")
        connection.execute(text_of("intervals.sql"))
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{tmp_path / 'statistics.duckdb'}' AS anything (READ_ONLY)")
        found = connection.execute("""
            SELECT (
                SELECT anything.noise_quantile(list(g.w), list(g.n), [g.s, 1], t.m)
                FROM (SELECT unnest([t.w, 2]) AS w, 3.0 AS n, 2 AS s, 7 AS k) AS g GROUP BY g.s
            )
            FROM (VALUES (1, 0.9), (4, 0.95), (4, NULL)) AS t(w, m)
        """).fetchall()
    assert [m and math.floor(m) for (m,) in found] == [
        math.floor(quantile([1, 2], [3, 3], [2, 1], 0.9)),
        math.floor(quantile([4, 2], [3, 3], [2, 1], 0.95)),
        None,
    ]


GROUPS = st.lists(
    st.tuples(
        st.builds(lambda p, q: f"{p}/{q}", st.integers(-4, 4), st.sampled_from((1, 2, 3, 7))),
        st.one_of(st.sampled_from((0.05, 0.3, 1.0)), st.floats(0.2, 8)),
        st.integers(1, 6),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=25)
@given(GROUPS, st.sampled_from(CONFIDENCES))
def test_any_quantile_covers_and_is_at_most_1_percent_too_wide(
    groups: list[tuple[str, float, int]], confidence: float
) -> None:
    noise = Noise.of(*groups)
    # On no lattice, the margin of a quantile of 0 is small, and no percentage of it.
    for made in [*BOTH.values(), *(SMOOTHED.values() if smallest(noise, confidence) else ())]:
        short, wide = judged(made, [(noise, confidence)], allowed=1e-5)
        assert short <= 1e-12
        assert wide <= 0.01
