"""Safeguards, each broken in this process, and the part of the audit that has to find out.

What a mutant changes is the code that runs, never the audit: the parts of the audit that find it are those that the
command runs, with fewer stories, pairs and publications.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from tests.property import test_aggregates_mutants as fold_mutants
from tests.strategies import envelope

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
from quietcount_consumers.auditing import coverage, lower_bounds, noise_fit, story_distances
from quietcount_consumers.auditing.measurement import Measurement
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.trials.audited import Audited

__all__ = ["CONTROLS", "MUTANTS", "Mutant", "Row", "audited", "row_of"]

Patch = Callable[[pytest.MonkeyPatch], None]
Drawn = npt.NDArray[np.int64]
Look = Callable[[Audited, Path], Iterable[Measurement]]

CATALOGUE = """
lifetime_epsilon = 10
schemas = ["events"]
[[population]]
name = "visits"
events = ["Visited"]
period = "month"
max_contributions = 2
[[population.table]]
name = "by_days"
by = ["kind", { field = "days", buckets = [0, 7, 30] }]
epsilon = 1.0
[[population.table]]
name = "by_kind"
by = ["kind"]
period = "quarter"
epsilon = 0.5
[[population.table]]
name = "waiting"
by = ["kind"]
sum = { field = "days", between = [0, 60], count = "by_days" }
epsilon = 1.0
[[population]]
name = "years"
events = ["Visited"]
period = "month"
horizon = "year"
[[population.table]]
name = "each_year"
by = ["kind"]
epsilon = 0.7
[[population]]
name = "days"
events = ["Visited"]
period = "day"
[[population.table]]
name = "each_day"
by = ["kind"]
epsilon = 0.7
"""
"""Two contributions, buckets, a sum, a coarser table, a yearly horizon, and many short periods, for intervals alone."""


def audited(folder: Path) -> Audited:
    """Write the catalogue with its schemas into a folder, and return what is audited."""
    kind = {"type": "enum", "name": "Kind", "symbols": ["OLD", "NEW", "NONE"], "default": "NONE", "doc": "A kind."}
    number = {"type": "int", "minimum": 0, "maximum": 400}
    schemas: list[tuple[str, str, list[Any]]] = [
        (
            "Visited",
            "event",
            [
                {"name": "kind", "type": kind, "default": "NONE", "doc": "A kind."},
                {"name": "days", "type": number, "default": 0, "doc": "Days."},
            ],
        ),
        ("Left", "withdrawal", []),
    ]
    for name, role, fields in schemas:
        file = folder / "events" / name / "1.avsc"
        file.parent.mkdir(parents=True)
        record: dict[str, Any] = {
            "type": "record",
            "name": name,
            "namespace": "example.audit",
            "doc": "A trial.",
            "quietcount.role": role,
            "fields": [*envelope(), *fields],
        }
        file.write_text(json.dumps(record), encoding="utf-8")
    (folder / "quietcount.toml").write_text(CATALOGUE, encoding="utf-8")
    return Audited.of(Configuration.load(folder / "quietcount.toml", environment={}), seed=1)


# ---------------------------------------------------------------- the parts of the audit that look

_STORIES = 12


def only(audited: Audited, *populations: str) -> Audited:
    return replace(audited, sections=tuple(each for each in audited.sections if each.name in populations))


def stories(*numbers: int) -> Look:
    """Tell stories until one of them shows something: these first, which are known to, and that saves time alone."""

    def look(audited: Audited, folder: Path) -> list[Measurement]:
        found: list[Measurement] = []
        audited = only(audited, "visits", "years")
        for number in dict.fromkeys([*numbers, *range(_STORIES)]):
            own = folder / str(number)
            own.mkdir()
            found = story_distances.judged(audited, [story_distances.told(audited, own, number)])
            if not all(each.holds for each in found if each.shown):
                break
        return found

    return look


def pairs(*names: str) -> Look:
    """Bound what these pairs of logs tell, from fewer draws than the audit."""

    def look(audited: Audited, folder: Path) -> list[Measurement]:
        own = replace(only(audited, "visits", "years"), draws=20_000)
        return lower_bounds.judged(own, [lower_bounds.bounded(own, folder, names)])

    return look


def draws(audited: Audited, _: Path) -> list[Measurement]:
    """Draw the noise of the last table as often as the audit does, without the twins that show its power."""
    last = only(audited, "years")
    tasks = [part.arguments[0] for part in noise_fit.parts(last)]
    return noise_fit.measurements(
        last, {each: noise_fit.drawn(last, Path(), each) for each in tasks if each.factor == 1}
    )


def few_draws(audited: Audited, folder: Path) -> list[Measurement]:
    """Do the same with fewer draws, which are enough to see two cells or releases that belong together."""
    return draws(replace(audited, draws=3_000), folder)


def intervals(population: str, publications: int, **questions: int) -> Look:
    """Make so many publications of one population, and ask each macro that is named so often of each."""

    def look(audited: Audited, folder: Path) -> list[Measurement]:
        own = only(audited, population)
        return coverage.judged(own, [coverage.asked(own, folder, 0, publications, questions)])

    return look


# ---------------------------------------------------------------- what is broken


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


def _unchecked(patches: pytest.MonkeyPatch) -> None:
    """Let the ledger take a release whatever its noise scale: it refuses one that is not as declared."""
    patches.setattr(chain, "_fits", lambda *_: True)


def of_scale(factor: float) -> Patch:
    return draw_of(lambda drawn, _: drawn, factor)


def _two_alike(drawn: Drawn, _: float) -> Drawn:
    drawn[1:2] = drawn[:1]
    return drawn


def _opposite(drawn: Drawn, _: float) -> Drawn:
    drawn[1:2] = -drawn[:1]
    return drawn


def _stops_short(drawn: Drawn, scale: float) -> Drawn:
    return np.asarray(np.clip(drawn, -math.ceil(6 * scale), math.ceil(6 * scale)))


def _rounded_laplace(drawn: Drawn, scale: float) -> Drawn:
    return np.rint(np.random.default_rng().laplace(0, scale, len(drawn))).astype(np.int64)


def _normal(drawn: Drawn, scale: float) -> Drawn:
    return np.rint(np.random.default_rng().normal(0, math.sqrt(noise.variance(scale)), len(drawn))).astype(np.int64)


def _seeded(patches: pytest.MonkeyPatch) -> None:
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


def _every_second_release_again(patches: pytest.MonkeyPatch) -> None:
    kept: dict[int, list[Drawn]] = {}

    def change(drawn: Drawn, _: float) -> Drawn:
        waiting = kept.setdefault(len(drawn), [])
        if waiting:
            return waiting.pop()
        waiting.append(drawn)
        return drawn

    draw_of(change)(patches)


def _drawn_twice(patches: pytest.MonkeyPatch) -> None:
    """Draw, and publish a second draw: both are known to somebody."""
    asked = "(counts[period.start], scale=scale, sensitivity=reach, epsilon=table.epsilon)"
    changes = f"drawn = self._mechanism.draw{asked}", f"_, drawn = (self._mechanism.draw{asked} for _ in range(2))"
    patches.setattr(release.Releaser, "_draw_table", rewritten(release.Releaser, "_draw_table", release, changes))


def _zeros_as_they_are(patches: pytest.MonkeyPatch) -> None:
    changes = "values=tuple(drawn)", "values=tuple(d if e else 0 for d, e in zip(drawn, counts[period.start]))"
    patches.setattr(release.Releaser, "_draw_table", rewritten(release.Releaser, "_draw_table", release, changes))


def _cut_at_zero(patches: pytest.MonkeyPatch) -> None:
    changes = "values=tuple(drawn)", "values=tuple(max(each, 0) for each in drawn)"
    patches.setattr(release.Releaser, "_draw_table", rewritten(release.Releaser, "_draw_table", release, changes))


def _epsilon_of_the_population(patches: pytest.MonkeyPatch) -> None:
    """Let each table have the whole epsilon of its population."""
    _unchecked(patches)
    changes = [
        ("scale = self._mechanism.scale(cells=table.cells, sensitivity=reach, epsilon=table.epsilon)",
         "whole = float(population.epsilon)\n"
         "    scale = self._mechanism.scale(cells=table.cells, sensitivity=reach, epsilon=whole)"),
        ("scale=scale, sensitivity=reach, epsilon=table.epsilon", "scale=scale, sensitivity=reach, epsilon=whole"),
    ]  # fmt: skip
    patches.setattr(release.Releaser, "_draw_table", rewritten(release.Releaser, "_draw_table", release, *changes))


def _scale_of_one(patches: pytest.MonkeyPatch) -> None:
    """Choose the noise for one contribution, where two may count; nothing looks at the map."""
    _unchecked(patches)
    changes = "reach = table.sensitivity(population.max_contributions)", "reach = table.sensitivity(1)"
    patches.setattr(release.Releaser, "_draw_table", rewritten(release.Releaser, "_draw_table", release, changes))


def _counts_changed(change: Callable[[int], int]) -> Patch:
    def patch(patches: pytest.MonkeyPatch) -> None:
        real = Bounding.counts

        def counts(self: Bounding, population: str, table: Table, periods: Any) -> Any:
            found = real(self, population, table, periods)
            if table.sum is not None:
                return found
            return {period: [change(value) for value in values] for period, values in found.items()}

        patches.setattr(Bounding, "counts", counts)

    return patch


def _limit_not_enforced(patches: pytest.MonkeyPatch) -> None:
    real = contributions.insertion

    def mutant(population: Any, placed: str) -> str:
        limit = f"turn + coalesce(used.contributions, 0) <= {population.max_contributions}"
        return fold_mutants._replaced(limit, "true", real(population, placed))

    patches.setattr(contributions, "insertion", mutant)


def _margins_of(factor: float) -> Patch:
    def patch(patches: pytest.MonkeyPatch) -> None:
        real = figures.quantile_of
        patches.setattr(figures, "quantile_of", lambda groups, confidence: factor * real(groups, confidence))

    return patch


def _cells_left_out(patches: pytest.MonkeyPatch) -> None:
    real = template.sql_of
    patches.setattr(
        projection,
        "sql_of",
        lambda name: real(name).replace(";", "WHERE noisy <> 0;") if name == "cells.sql" else real(name),
    )


def _weighted_wrong(patches: pytest.MonkeyPatch) -> None:
    changes = "solved += column", "solved += 1.2 * column"
    patches.setattr(estimates, "_unknowns", rewritten(estimates, "_unknowns", estimates, changes))


def _sums_of_what_is_shown(patches: pytest.MonkeyPatch) -> None:
    real = Reconciliation.margins
    patches.setattr(
        Reconciliation,
        "margins",
        lambda self, cells: real(self, replace(cells, estimates=np.maximum(cells.estimates, 0))),
    )


def _averages_of_half_their_margin(patches: pytest.MonkeyPatch) -> None:
    real = Ratio.margin
    patches.setattr(Ratio, "margin", lambda self, *rest: 0.5 * real(self, *rest))


def _macros_with(old: str, new: str) -> Patch:
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


class Mutant(NamedTuple):
    """What is broken, which check has to find it, about what subject, and where it looks."""

    broken: str
    patch: Patch
    check: str
    subject: str
    look: Look


def _of_the_fold(name: str) -> Patch:
    return fold_mutants.MUTANTS[name]


MUTANTS: dict[str, Mutant] = {
    # stories
    "limit_not_enforced": Mutant("a case counts without a limit", _limit_not_enforced, "stories", "", stories()),
    "without_spent": Mutant("what counted is forgotten", _of_the_fold("without_spent"), "stories", "", stories()),
    "spent_forgotten": Mutant(
        "what counts now is not remembered", _of_the_fold("spent_forgotten"), "stories", "", stories()
    ),
    "turns_across_cases": Mutant(
        "cases share one limit", _of_the_fold("turns_across_cases"), "stories", "halves", stories()
    ),
    "event_mark_without_case": Mutant(
        "an id of another case's event counts once", _of_the_fold("event_mark_without_case"), "stories", "halves",
        stories(),
    ),
    "numbers_unbounded": Mutant(
        "numbers are not moved between two ends", _of_the_fold("numbers_unbounded"), "stories", "waiting", stories()
    ),
    "numbers_uncentred": Mutant(
        "the middle is not taken off", _of_the_fold("numbers_uncentred"), "stories", "waiting", stories()
    ),
    "sums_of_what_is_open": Mutant(
        "a quarter counts its last month twice", _of_the_fold("sums_of_what_is_open"), "stories", "", stories()
    ),
    "carried_over_the_year": Mutant(
        "what is late is carried over a year's end", _of_the_fold("carried_over_the_year"), "stories", "each_year",
        stories(),
    ),
    "counted_in_fives": Mutant(
        "counts are rounded before the noise", _counts_changed(lambda value: 5 * round(value / 5)), "stories", "",
        stories(),
    ),
    "small_counts_hidden": Mutant(
        "counts below 3 are set to 0 before the noise", _counts_changed(lambda value: value if value >= 3 else 0),
        "stories", "halves", stories(),
    ),
    "drawn_twice": Mutant(
        "noise is drawn twice, and the second published", _drawn_twice, "stories", "all tables", stories()
    ),
    "zeros_as_they_are": Mutant(
        "empty cells are published without noise", _zeros_as_they_are, "stories", "all tables", stories()
    ),
    "cut_at_zero": Mutant("draws are cut at 0", _cut_at_zero, "stories", "all tables", stories()),
    # epsilon
    "epsilon_of_the_population": Mutant(
        "each table has its population's whole epsilon", _epsilon_of_the_population, "epsilon", "", pairs("duplicated")
    ),
    "scale_of_one": Mutant(
        "the noise is for one contribution of two", _scale_of_one, "epsilon", "", pairs("duplicated")
    ),
    "limit_not_enforced_to_epsilon": Mutant(
        "a case counts without a limit", _limit_not_enforced, "epsilon", "", pairs("duplicated")
    ),
    "half_the_scale_to_epsilon": Mutant("noise of half the scale", of_scale(0.5), "epsilon", "", pairs("duplicated")),
    # noise
    "half_the_scale": Mutant("noise of half the scale", of_scale(0.5), "noise", "scale", draws),
    "three_hundredths_off": Mutant("noise of 0.97 of the scale", of_scale(0.97), "noise", "scale", draws),
    "one_noise_for_two_cells": Mutant(
        "two cells share their noise", draw_of(_two_alike), "noise", "independence", few_draws
    ),
    "opposite_noise": Mutant(
        "the noise of two cells cancels out", draw_of(_opposite), "noise", "independence", few_draws
    ),
    "one_noise_for_two_releases": Mutant(
        "two releases share their noise", _every_second_release_again, "noise", "independence", few_draws
    ),
    "stops_short": Mutant("noise never leaves 6 scales", draw_of(_stops_short), "noise", "far tail", draws),
    "rounded_laplace": Mutant("rounded continuous noise", draw_of(_rounded_laplace), "noise", "scale", draws),
    "normal": Mutant("normal noise of the same variance", draw_of(_normal), "noise", "scale", draws),
    "seeded": Mutant("the noise has a seed", _seeded, "noise", "no seed", few_draws),
    # intervals
    "half_the_margin": Mutant(
        "margins of half the width", _margins_of(0.5), "intervals", "cells", intervals("days", 1)
    ),
    "nine_tenths_of_the_margin": Mutant(
        "margins too narrow by 10 %", _margins_of(0.9), "intervals", "cells", intervals("days", 10)
    ),
    "cells_left_out": Mutant(
        "empty cells are left out", _cells_left_out, "intervals", "cells", intervals("days", 1)
    ),
    "weighted_wrong": Mutant(
        "estimates weigh their draws by a fifth too much", _weighted_wrong, "intervals", "margins",
        intervals("visits", 4),
    ),
    "sums_of_what_is_shown": Mutant(
        "margins add up what is cut at 0", _sums_of_what_is_shown, "intervals", "margins", intervals("visits", 8)
    ),
    "averages_of_half_their_margin": Mutant(
        "averages have half their margin", _averages_of_half_their_margin, "intervals", "averages",
        intervals("visits", 8),
    ),
    "difference_of_one_side": Mutant(
        "a difference has the noise of one side", _macros_with("m_difference", "m_a"), "intervals", "differences",
        intervals("days", 3, year_on_year=1),
    ),
    "ratio_of_one_side": Mutant(
        "a percent change forgets the noise of its base", _macros_with("factor ** 2 * variance_a", "0"), "intervals",
        "percent changes", intervals("days", 3, year_on_year=1),
    ),
}  # fmt: skip

CONTROLS: dict[str, tuple[str, Look]] = {
    "stories": ("stories", stories(0, 1)),
    "epsilon": ("epsilon", pairs("duplicated")),
    "noise": ("noise", draws),
    "intervals": ("intervals", intervals("visits", 4, total=1, compare=1, distribution=1, percentile=1, mean=1)),
}


@dataclass(frozen=True, slots=True)
class Row:
    """What the audit said of one mutant: the measurement that found it, or none."""

    broken: str
    check: str
    found: Measurement | None
    seconds: float


def row_of(name: str) -> Row:
    """Break a safeguard, let the audit look, and return what it found; a name of CONTROLS breaks nothing."""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patches:
        own = audited(Path(folder) / "project")
        work = Path(folder) / "work"
        work.mkdir()
        if name in CONTROLS:
            check, look = CONTROLS[name]
            found, broken, subject = list(look(own, work)), "nothing", ""
        else:
            broken, patch, check, subject, look = MUTANTS[name]
            patch(patches)
            found = list(look(own, work))
        failed = [each for each in found if each.shown and not each.holds]
        wrong = [each for each in failed if each.check == check and subject in each.subject]
    worst = max(wrong, key=lambda each: each.measured / each.declared if each.declared else math.inf, default=None)
    return Row(broken, check, worst, time.perf_counter() - begun)
