"""The installed noise, held against the distribution that the catalogue declares.

Draws come from the mechanism of the service, called as a release calls it. Their distribution has to be the discrete
Laplace one of the declared scale; the cells of a vector, and one vector and the next, have to be independent. Each
measurement has a false-alarm rate of 1e-6, and says how far off a scale has to be for it to find out: the number of
draws is calculated from that, and draws of such a scale have to be rejected, or the measurement does not hold.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from quietcount_aggregates.noise import NoiseMechanism
from quietcount_aggregates.populations import Population, Table
from quietcount_consumers.auditing.binomial_bounds import Floats, clopper_pearson, log_factorials
from quietcount_consumers.auditing.exact_tails import Integers, chi_square, laplace_tail, noncentrality_needed
from quietcount_consumers.auditing.measurement import FALSE_ALARM, Measurement, Part
from quietcount_consumers.trials.audited import DRAWS, Audited
from quietcount_consumers.trials.made_up_publications import BEGIN

__all__ = ["Drawn", "Fit", "Noise", "Task", "draw", "drawn", "judged", "measurements", "noises_of", "parts"]

MOST_DRAWS: Final = 400_000
"""Of one scale; a scale near 0 has almost nothing but zeros, and would need many more to show a small error."""

_CELLS: Final = 1_000
"""The length of most vectors: OpenDP takes 10 microseconds a cell then, and 300 for a vector of one cell."""

_RELEASES: Final = 3_000
"""How many vectors of the table's own length are drawn beside these."""

_SIDE: Final = 5
"""How many classes there are on each side of 0, of about the same probability; so there are ten degrees of freedom."""

_FACTORS: Final = (1.03, 1.06, 1.12, 1.25, 1.5)
"""The errors of a scale of which the smallest is looked for that MOST_DRAWS can show."""

_FAR: Final = 2e-4
"""The probability of the far tail, both sides together, at most: a generator that stops short has none."""

_VECTORS: Final = 60_000
"""How many cells these vectors have together, for tables of many cells."""

_FIRST: Final = 512
"""How many of the first draws are compared between mechanisms."""

_SECONDS_A_DRAW: Final = 1.2e-5

_POSITIONS: Final = 8
"""How many pairs of neighbouring cells are compared at most."""


@dataclass(frozen=True, slots=True)
class Noise:
    """What a catalogue declares of the noise of a table: how far one case moves it, and its epsilon."""

    sensitivity: int
    epsilon: float

    @property
    def scale(self) -> float:
        """Return the declared scale."""
        return self.sensitivity / self.epsilon


class Task(NamedTuple):
    """Draws of one noise at `factor` times its scale.

    So many in long vectors, and so many vectors of `cells`, as a release draws them.
    """

    noise: Noise
    cells: int
    factor: float
    draws: int
    releases: int


class Pairs(NamedTuple):
    """How many pairs of draws there were, and in how many both lay below, within or above the middle third."""

    alike: int
    of: int


class Drawn(NamedTuple):
    """What is kept of draws: how many fell into each class, how many into the far tails, and the pairs compared.

    `first` has the first draws of all, `scale` is what the mechanism chose.
    """

    classes: list[int]
    far: int
    pairs: list[Pairs]
    first: list[int]
    scale: float


@dataclass(frozen=True, slots=True)
class Fit:
    """How the draws of a scale are classed, and how many are needed: all of it calculated before any is drawn.

    `edges` are the least sizes of the classes behind the middle one. `factor` is the error that `draws` show, as 1.03
    of the scale or 0.97; it is 0 if MOST_DRAWS show none that is looked for.
    """

    edges: tuple[int, ...]
    far: int
    factor: float
    draws: int

    @classmethod
    @functools.cache
    def of(cls, scale: float) -> Fit:
        """Choose the classes for a scale, and the smallest error that MOST_DRAWS show with a certainty of 1 - 1e-6."""
        edges = _edges(scale)
        wanted = {each: max(needed(scale, edges, each), needed(scale, edges, 2 - each)) for each in _FACTORS}
        factor = next((each for each, draws in wanted.items() if draws <= MOST_DRAWS), 0.0)
        draws = wanted.get(factor, MOST_DRAWS)
        # Each class is to expect a hundred draws, for Pearson's distribution to be right.
        while edges and _probabilities(scale, edges).min() * draws < 100:
            edges = edges[:-1]
        far = max(1, math.ceil(-scale * math.log(_FAR / 2 * (1 + math.exp(-1 / scale)))))
        return cls(edges, far, factor, draws)


def _edges(scale: float) -> tuple[int, ...]:
    """Return ascending sizes that cut each side of 0 into classes of about the same probability."""
    above = laplace_tail(scale, 1)
    edges = {
        max(1, round(-scale * math.log(share * above * (1 + math.exp(-1 / scale)))))
        for share in np.arange(1, _SIDE + 1) / (_SIDE + 0.5)
    }
    return tuple(sorted(edges))


def _probabilities(scale: float, edges: Sequence[int]) -> Floats:
    """Return the probabilities of the classes, from the lower tail over the middle to the upper one."""
    if not edges:
        return np.ones(1)
    tails = [laplace_tail(scale, edge) for edge in edges]
    side = [one - other for one, other in zip(tails, [*tails[1:], 0.0], strict=True)]
    return np.array([*reversed(side), 1 - 2 * tails[0], *side])


def needed(scale: float, edges: Sequence[int], factor: float) -> int:
    """Return how many draws of `factor` times the scale are rejected with a probability of 1 - 1e-6.

    Pearson's statistic has the noncentrality draws * sum (q - p)^2 / p.
    """
    p, q = _probabilities(scale, edges), _probabilities(factor * scale, edges)
    each = float(((q - p) ** 2 / p).sum())
    return math.ceil(noncentrality_needed(len(p) - 1) / each) if each > 1e-12 else 10**12


def noises_of(populations: Sequence[Population]) -> dict[Noise, list[Table]]:
    """Return each noise that a catalogue declares, with its tables."""
    found: dict[Noise, list[Table]] = {}
    for population in populations:
        for table in population.tables:
            noise = Noise(table.sensitivity(population.max_contributions), table.epsilon)
            found.setdefault(noise, []).append(table)
    return found


def draw(task: Task, asked: NoiseMechanism) -> Drawn:
    """Draw, and keep of the draws what the measurement needs; `asked` is a fresh mechanism, as of a new service."""
    noise = task.noise
    scale = asked.scale(cells=task.cells, sensitivity=noise.sensitivity, epsilon=noise.epsilon)
    # A narrower twin needs an epsilon that allows it: the mechanism looks at its privacy map before it draws.
    epsilon = noise.epsilon if task.factor == 1 else noise.epsilon / task.factor * (1 + 1e-9)

    def vectors(cells: int, count: int) -> Integers:
        exact = [0] * cells
        drawn: list[Any] = [
            asked.draw(exact, scale=task.factor * scale, sensitivity=noise.sensitivity, epsilon=epsilon)
            for _ in range(count)
        ]
        return np.array(drawn, dtype=np.int64).reshape(count, cells)

    fit = Fit.of(noise.scale)
    released = vectors(task.cells, task.releases)
    drawn = np.concatenate([released.reshape(-1), vectors(_CELLS, math.ceil(task.draws / _CELLS)).reshape(-1)])
    sizes = np.searchsorted(fit.edges, np.abs(drawn), side="right")
    side = len(fit.edges)
    classes = np.bincount(np.sign(drawn) * sizes + side, minlength=2 * side + 1)
    neighbours = [released[:, at : at + 2] for at in range(min(task.cells - 1, _POSITIONS))]
    following = released[: task.releases // 2 * 2, 0].reshape(-1, 2)
    # Also against the other sign, which is as likely: noise that cancels out is alike with that.
    signs = (np.array([1, sign]) for sign in (1, -1))
    pairs = [_paired(each * sign, noise.scale) for sign in signs for each in (*neighbours, following) if len(each)]
    return Drawn(classes.tolist(), int((np.abs(drawn) >= fit.far).sum()), pairs, drawn[:_FIRST].tolist(), scale)


def _middle(scale: float) -> int:
    """Return the size from which on a draw is no longer of the middle third, as nearly as whole numbers allow."""
    return max(1, round(-scale * math.log((1 + math.exp(-1 / scale)) / 3)))


def _paired(pairs: Integers, scale: float) -> Pairs:
    thirds = np.sign(pairs) * (np.abs(pairs) >= _middle(scale))
    return Pairs(int((thirds[:, 0] == thirds[:, 1]).sum()), len(pairs))


def parts(audited: Audited) -> list[Part]:
    """Return a part for the draws of each noise, and for those of its two twins, of other scales."""
    return [Part(drawn, (task,), (task.draws + 30 * task.releases) * _SECONDS_A_DRAW) for task in _tasks(audited)]


def _tasks(audited: Audited) -> list[Task]:
    """Return what is to be drawn. A short audit draws less; then it shows no power, and says so."""
    tasks = []
    for noise, tables in noises_of(audited.populations(BEGIN)).items():
        fit = Fit.of(noise.scale)
        most = fit.draws if audited.draws >= DRAWS else audited.draws
        cells = min(_CELLS, max(table.cells for table in tables))
        releases = min(_RELEASES, max(_VECTORS // cells, 500), most)
        tasks.append(Task(noise, cells, 1.0, most, releases))
        if fit.factor and most == fit.draws:
            tasks += [Task(noise, _CELLS, factor, most, 0) for factor in (2 - fit.factor, fit.factor)]
        # The same once more, from its beginning: a mechanism with a seed would draw the same.
        tasks.append(Task(noise, cells, 1.0, 0, min(releases, math.ceil(_FIRST / cells))))
    return tasks


def drawn(audited: Audited, _: Path, task: Task) -> Drawn:
    """Draw, with a mechanism of the audited service's own."""
    return draw(task, audited.mechanism())


def judged(audited: Audited, results: Sequence[Drawn]) -> list[Measurement]:
    """Return four measurements of each noise.

    They are its distribution (chi-square), its far tail, the independence of cells and releases, and the power: draws
    of a scale that is off by as much as stated have to be rejected. Each calls a sound mechanism broken with 1e-6.
    """
    return measurements(audited, dict(zip(_tasks(audited), results, strict=True)))


def measurements(audited: Audited, found: Mapping[Task, Drawn]) -> list[Measurement]:
    """Return what the draws of some tasks show; each noise has its own at factor 1."""
    measured: list[Measurement] = []
    begun: dict[Noise, list[tuple[int, ...]]] = {}
    for noise, tables in noises_of(audited.populations(BEGIN)).items():
        own = {task: drawn for task, drawn in found.items() if task.noise == noise}
        by_factor = {task.factor: drawn for task, drawn in own.items() if task.draws}
        measured += _judged(noise, [table.name for table in tables], by_factor)
        # Under a scale near 0 almost all draws are 0, and so alike without any seed.
        if _chance_of_two_alike(noise.scale) < 0.9:
            begun[noise] = [tuple(drawn.first) for task, drawn in own.items() if task.factor == 1]
    return [*measured, _seedless(begun)]


def _judged(noise: Noise, names: Sequence[str], found: dict[float, Drawn]) -> Iterable[Measurement]:
    fit, drawn = Fit.of(noise.scale), found[1.0]
    subject = f"scale {noise.scale:.4g} of {', '.join(names)}"
    certain = 1 - FALSE_ALARM
    wanted = _probabilities(noise.scale, fit.edges)
    total = sum(drawn.classes)
    p = chi_square(drawn.classes, wanted) if fit.edges else 1.0
    twins = {factor: chi_square(each.classes, wanted) for factor, each in found.items() if factor != 1}
    sound = p > FALSE_ALARM and drawn.scale >= noise.scale * (1 - 1e-12)
    said = f"{total:,} draws in {len(wanted)} classes: chi-square p = {p:.2g}; "
    if not fit.edges:
        said = (
            f"Almost each of {total:,} draws has to be 0, so they have no classes: this is what the mechanism chose; "
        )
    yield Measurement(
        "noise",
        subject,
        noise.scale,
        _scale_of(drawn.classes, noise.scale, fit.edges) if fit.edges else drawn.scale,
        certain,
        sound,
        said
        + (
            f"a scale off by {100 * (fit.factor - 1):.0f} % is found"
            if twins
            else "too few draws to find a small error"
        ),
    )
    lower, upper = clopper_pearson(drawn.far, total, FALSE_ALARM / 2, log_factorials(total))
    far = 2 * laplace_tail(noise.scale, fit.far)
    yield Measurement(
        "noise",
        f"far tail at {subject}",
        far,
        drawn.far / total,
        certain,
        lower <= far <= upper,
        f"Draws of {fit.far} and more, on either side",
    )
    yield _independent(noise, subject, drawn.pairs)
    if twins:
        yield Measurement(
            "noise",
            f"power at {subject}",
            FALSE_ALARM,
            max(twins.values()),
            certain,
            max(twins.values()) <= FALSE_ALARM,
            "Draws of OpenDP at " + " and ".join(f"{each:.2f}" for each in twins) + " of the scale have to be rejected",
        )


def _scale_of(classes: Sequence[int], scale: float, edges: Sequence[int]) -> float:
    """Return the scale at which the classes are likeliest, to four digits: what the draws themselves say of it."""
    counts = np.array(classes, dtype=np.float64)
    low, high = math.log(scale / 16), math.log(16 * scale)
    for _ in range(60):
        one, other = low + (high - low) / 3, high - (high - low) / 3
        likely = [
            float((counts * np.log(np.maximum(_probabilities(math.exp(at), edges), 1e-300))).sum())
            for at in (one, other)
        ]
        low, high = (one, high) if likely[0] < likely[1] else (low, other)
    return math.exp((low + high) / 2)


def _independent(noise: Noise, subject: str, pairs: Sequence[Pairs]) -> Measurement:
    """Hold that both draws of a pair lie in one third as often as independent ones do: exact binomial bounds."""
    third = laplace_tail(noise.scale, _middle(noise.scale))
    chance = 2 * third**2 + (1 - 2 * third) ** 2
    bounds = [
        clopper_pearson(each.alike, each.of, FALSE_ALARM / (2 * len(pairs)), log_factorials(each.of)) for each in pairs
    ]
    farthest = max((each.alike / each.of for each in pairs), key=lambda rate: abs(rate - chance))
    return Measurement(
        "noise",
        f"independence at {subject}",
        chance,
        farthest,
        1 - FALSE_ALARM,
        all(lower <= chance <= upper for lower, upper in bounds),
        f"How often two cells, or two releases, are alike or opposite: the farthest of {len(pairs)} comparisons",
    )


def _chance_of_two_alike(scale: float) -> float:
    """Return P(X = Y) for two draws, the sum of the squares of the probabilities."""
    a = math.exp(-1 / scale)
    return (1 - a) * (1 + a**2) / (1 + a) ** 3


def _seedless(begun: Mapping[Noise, Sequence[tuple[int, ...]]]) -> Measurement:
    """Compare the first draws of fresh mechanisms, each in a process of its own, that were asked for the same.

    Two begin alike by chance with 0.9 to the power of how many are compared, some hundred at least: below 1e-9 for 200.
    """
    again = fresh = 0
    for own in begun.values():
        shortest = min(map(len, own))
        fresh += len(own)
        again += len(own) - len({first[:shortest] for first in own})
    return Measurement(
        "noise",
        "no seed",
        0.0,
        float(again),
        1 - FALSE_ALARM,
        again == 0,
        f"How many of {fresh} fresh mechanisms drew what another one of the same noise had drawn",
        shown=fresh > 0,
    )
