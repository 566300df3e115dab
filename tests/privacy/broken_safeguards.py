"""Safeguards, each broken in this process: what the service does wrong then, and nothing of what looks at it."""

from __future__ import annotations

import functools
import inspect
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.property import test_aggregates_mutants as fold_mutants

from quietcount_aggregates import noise, release
from quietcount_aggregates.counting import contributions
from quietcount_aggregates.counting.bounding import Bounding
from quietcount_aggregates.ledger import chain
from quietcount_aggregates.noise import DiscreteLaplace
from quietcount_aggregates.populations import Table
from quietcount_aggregates.publication import projection, template
from quietcount_aggregates.questions import macros
from quietcount_aggregates.reconciliation import estimates, figures
from quietcount_aggregates.reconciliation.averages import Ratio
from quietcount_aggregates.reconciliation.figures import Reconciliation

Patch = Callable[[pytest.MonkeyPatch], None]
Drawn = npt.NDArray[np.int64]


def rewritten(owner: Any, name: str, module: ModuleType, *changes: tuple[str, str]) -> Callable[..., Any]:
    """Return a function of `owner` with pieces of its text exchanged."""
    text = textwrap.dedent(inspect.getsource(getattr(owner, name)))
    for old, new in changes:
        if text.count(old) != 1:
            raise LookupError(f"{name} has changed: {old!r} is not in it once")
        text = text.replace(old, new)
    space: dict[str, Any] = dict(vars(module))
    exec(f"from __future__ import annotations\n{text}", space)  # noqa: S102
    found: Callable[..., Any] = space[name]
    return found


def draw_of(change: Callable[[Drawn, float], Drawn], factor: float = 1.0) -> Patch:
    """Change what the mechanism draws: `change` is handed the noise and its scale. The map is not looked at."""

    def patch(patches: pytest.MonkeyPatch) -> None:
        def draw(_: object, exact: Sequence[int], *, scale: float, sensitivity: int, epsilon: float) -> list[int]:
            drawn = noise._measurement(len(exact), factor * scale)([0] * len(exact))
            changed = change(np.array(drawn, dtype=np.int64), scale)
            return [int(value) for value in np.array(exact) + changed]

        patches.setattr(DiscreteLaplace, "draw", draw)

    return patch


def unchecked(patches: pytest.MonkeyPatch) -> None:
    """Let the ledger take a release whatever its noise scale: it refuses one that is not as declared."""
    patches.setattr(chain, "_fits", lambda *_: True)


def of_scale(factor: float) -> Patch:
    return draw_of(lambda drawn, _: drawn, factor)


def two_alike(drawn: Drawn, _: float) -> Drawn:
    drawn[1:2] = drawn[:1]
    return drawn


def opposite(drawn: Drawn, _: float) -> Drawn:
    drawn[1:2] = -drawn[:1]
    return drawn


def stops_short(drawn: Drawn, scale: float) -> Drawn:
    return np.asarray(np.clip(drawn, -math.ceil(6 * scale), math.ceil(6 * scale)))


def rounded_laplace(drawn: Drawn, scale: float) -> Drawn:
    return np.rint(np.random.default_rng().laplace(0, scale, len(drawn))).astype(np.int64)


def normal(drawn: Drawn, scale: float) -> Drawn:
    return np.rint(np.random.default_rng().normal(0, math.sqrt(noise.variance(scale)), len(drawn))).astype(np.int64)


def seeded(patches: pytest.MonkeyPatch) -> None:
    real = DiscreteLaplace.__init__

    def init(self: Any) -> None:
        real(self)
        self.rng = np.random.default_rng(20261130)

    def draw(self: Any, exact: Sequence[int], *, scale: float, sensitivity: int, epsilon: float) -> list[int]:
        chance = -math.expm1(-1 / scale)
        drawn = self.rng.geometric(chance, len(exact)) - self.rng.geometric(chance, len(exact))
        return [int(value) for value in np.array(exact) + drawn]

    patches.setattr(DiscreteLaplace, "__init__", init)
    patches.setattr(DiscreteLaplace, "draw", draw)


def every_second_release_again(patches: pytest.MonkeyPatch) -> None:
    kept: dict[int, list[Drawn]] = {}

    def change(drawn: Drawn, _: float) -> Drawn:
        waiting = kept.setdefault(len(drawn), [])
        if waiting:
            return waiting.pop()
        waiting.append(drawn)
        return drawn

    draw_of(change)(patches)


def drawn_twice(patches: pytest.MonkeyPatch) -> None:
    """Draw, and publish a second draw: both are known to somebody."""
    asked = "(sums[period], scale=scale, sensitivity=reach, epsilon=table.epsilon)"
    changes = f"drawn = self._mechanism.draw{asked}", f"_, drawn = (self._mechanism.draw{asked} for _ in range(2))"
    patches.setattr(release.Releaser, "_draw_table", rewritten(release.Releaser, "_draw_table", release, changes))


def zeros_as_they_are(patches: pytest.MonkeyPatch) -> None:
    changes = "values=tuple(drawn)", "values=tuple(d if e else 0 for d, e in zip(drawn, sums[period]))"
    patches.setattr(release.Releaser, "_draw_table", rewritten(release.Releaser, "_draw_table", release, changes))


def cut_at_zero(patches: pytest.MonkeyPatch) -> None:
    changes = "values=tuple(drawn)", "values=tuple(max(each, 0) for each in drawn)"
    patches.setattr(release.Releaser, "_draw_table", rewritten(release.Releaser, "_draw_table", release, changes))


def epsilon_of_the_population(patches: pytest.MonkeyPatch) -> None:
    """Let each table have the whole epsilon of its population."""
    unchecked(patches)
    changes = [
        ("scale = self._mechanism.scale(cells=table.cells, sensitivity=reach, epsilon=table.epsilon)",
         "whole = float(population.epsilon)\n"
         "    scale = self._mechanism.scale(cells=table.cells, sensitivity=reach, epsilon=whole)"),
        ("scale=scale, sensitivity=reach, epsilon=table.epsilon", "scale=scale, sensitivity=reach, epsilon=whole"),
    ]  # fmt: skip
    patches.setattr(release.Releaser, "_draw_table", rewritten(release.Releaser, "_draw_table", release, *changes))


def scale_of_one(patches: pytest.MonkeyPatch) -> None:
    """Choose the noise for one contribution, where two may count; nothing looks at the map."""
    unchecked(patches)
    changes = "reach = table.sensitivity(population.max_contributions)", "reach = table.sensitivity(1)"
    patches.setattr(release.Releaser, "_draw_table", rewritten(release.Releaser, "_draw_table", release, changes))


def counts_changed(change: Callable[[int], int]) -> Patch:
    def patch(patches: pytest.MonkeyPatch) -> None:
        real = Bounding.counts

        def counts(self: Bounding, population: str, table: Table, periods: Any) -> Any:
            found = real(self, population, table, periods)
            if table.sum is not None:
                return found
            return {period: [change(value) for value in values] for period, values in found.items()}

        patches.setattr(Bounding, "counts", counts)

    return patch


def limit_not_enforced(patches: pytest.MonkeyPatch) -> None:
    real = contributions.insertion

    def mutant(population: Any, placed: str) -> str:
        limit = f"turn + coalesce(used.contributions, 0) <= {population.max_contributions}"
        return fold_mutants._replaced(limit, "true", real(population, placed))

    patches.setattr(contributions, "insertion", mutant)


def margins_of(factor: float) -> Patch:
    def patch(patches: pytest.MonkeyPatch) -> None:
        real = figures.quantile_of
        patches.setattr(figures, "quantile_of", lambda groups, confidence: factor * real(groups, confidence))

    return patch


def cells_left_out(patches: pytest.MonkeyPatch) -> None:
    real = template.sql_of
    patches.setattr(
        projection,
        "sql_of",
        lambda name: real(name).replace(";", "WHERE noisy <> 0;") if name == "cells.sql" else real(name),
    )


def weighted_wrong(patches: pytest.MonkeyPatch) -> None:
    changes = "solved += column", "solved += 1.2 * column"
    patches.setattr(estimates, "_unknowns", rewritten(estimates, "_unknowns", estimates, changes))


def sums_of_what_is_shown(patches: pytest.MonkeyPatch) -> None:
    real = Reconciliation.margins
    patches.setattr(
        Reconciliation,
        "margins",
        lambda self, cells: real(self, replace(cells, estimates=np.maximum(cells.estimates, 0))),
    )


def averages_of_half_their_margin(patches: pytest.MonkeyPatch) -> None:
    real = Ratio.margin
    patches.setattr(Ratio, "margin", lambda self, *rest: 0.5 * real(self, *rest))


def macros_with(old: str, new: str) -> Patch:
    """Exchange a piece of the published macros; the template is built again, and not kept."""

    def patch(patches: pytest.MonkeyPatch) -> None:
        text = macros()
        if old not in text:
            raise LookupError(f"the macros have changed: {old!r} is not in them")
        patches.setattr(template, "macros", lambda: text.replace(old, new))
        built = functools.cache(template.template.__wrapped__)
        patches.setattr(template, "_keep", lambda *_: None)
        patches.setattr(projection, "template", built)

    return patch
