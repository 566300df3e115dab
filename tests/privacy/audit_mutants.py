"""Safeguards, each broken in this process, and the part of the audit that has to find out.

What a mutant changes is the code that runs, never the audit: the parts of the audit that find it are those that the
command runs, with fewer stories, pairs and publications.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.privacy import broken_safeguards as faults
from tests.property import test_aggregates_mutants as fold_mutants
from tests.strategies import envelope

from quietcount_consumers.auditing import coverage, lower_bounds, noise_fit, story_distances
from quietcount_consumers.auditing.measurement import Measurement
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.trials.audited import Audited

__all__ = ["CONTROLS", "MUTANTS", "Mutant", "Row", "audited", "row_of"]

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


class Mutant(NamedTuple):
    """What is broken, which check has to find it, about what subject, and where it looks."""

    broken: str
    patch: faults.Patch
    check: str
    subject: str
    look: Look


def _stories(broken: str, patch: faults.Patch, subject: str = "") -> Mutant:
    return Mutant(broken, patch, "stories", subject, stories())


def _fold(broken: str, name: str, subject: str = "") -> Mutant:
    """Return a mutant of the fold, which the stories have to find."""
    return _stories(broken, fold_mutants.MUTANTS[name], subject)


def _epsilon(broken: str, patch: faults.Patch) -> Mutant:
    return Mutant(broken, patch, "epsilon", "", pairs("duplicated"))


def _noise(broken: str, patch: faults.Patch, subject: str, look: Look = draws) -> Mutant:
    return Mutant(broken, patch, "noise", subject, look)


def _intervals(broken: str, patch: faults.Patch, subject: str, look: Look) -> Mutant:
    return Mutant(broken, patch, "intervals", subject, look)


MUTANTS: dict[str, Mutant] = {
    "limit_not_enforced": _stories("a case counts without a limit", faults.limit_not_enforced),
    "without_spent": _fold("what counted is forgotten", "without_spent"),
    "spent_forgotten": _fold("what counts now is not remembered", "spent_forgotten"),
    "turns_across_cases": _fold("cases share one limit", "turns_across_cases", "halves"),
    "event_mark_without_case": _fold("an id of another case's event counts once", "event_mark_without_case", "halves"),
    "numbers_unbounded": _fold("numbers are not moved between two ends", "numbers_unbounded", "waiting"),
    "numbers_uncentred": _fold("the middle is not taken off", "numbers_uncentred", "waiting"),
    "sums_of_what_is_open": _fold("a quarter counts its last month twice", "sums_of_what_is_open"),
    "carried_over_the_year": _fold("what is late is carried over a year's end", "carried_over_the_year", "each_year"),
    "counted_in_fives": _stories(
        "counts are rounded before the noise", faults.counts_changed(lambda value: 5 * round(value / 5))
    ),
    "small_counts_hidden": _stories(
        "counts below 3 are set to 0 before the noise",
        faults.counts_changed(lambda value: value if value >= 3 else 0),
        "halves",
    ),
    "drawn_twice": _stories("noise is drawn twice, and the second published", faults.drawn_twice, "all tables"),
    "zeros_as_they_are": _stories("empty cells are published without noise", faults.zeros_as_they_are, "all tables"),
    "cut_at_zero": _stories("draws are cut at 0", faults.cut_at_zero, "all tables"),
    "epsilon_of_the_population": _epsilon(
        "each table has its population's whole epsilon", faults.epsilon_of_the_population
    ),
    "scale_of_one": _epsilon("the noise is for one contribution of two", faults.scale_of_one),
    "limit_not_enforced_to_epsilon": _epsilon("a case counts without a limit", faults.limit_not_enforced),
    "half_the_scale_to_epsilon": _epsilon("noise of half the scale", faults.of_scale(0.5)),
    "half_the_scale": _noise("noise of half the scale", faults.of_scale(0.5), "scale"),
    "three_hundredths_off": _noise("noise of 0.97 of the scale", faults.of_scale(0.97), "scale"),
    "one_noise_for_two_cells": _noise(
        "two cells share their noise", faults.draw_of(faults.two_alike), "independence", few_draws
    ),
    "opposite_noise": _noise(
        "the noise of two cells cancels out", faults.draw_of(faults.opposite), "independence", few_draws
    ),
    "one_noise_for_two_releases": _noise(
        "two releases share their noise", faults.every_second_release_again, "independence", few_draws
    ),
    "stops_short": _noise("noise never leaves 6 scales", faults.draw_of(faults.stops_short), "far tail"),
    "rounded_laplace": _noise("rounded continuous noise", faults.draw_of(faults.rounded_laplace), "scale"),
    "normal": _noise("normal noise of the same variance", faults.draw_of(faults.normal), "scale"),
    "seeded": _noise("the noise has a seed", faults.seeded, "no seed", few_draws),
    "half_the_margin": _intervals("margins of half the width", faults.margins_of(0.5), "cells", intervals("days", 1)),
    "nine_tenths_of_the_margin": _intervals(
        "margins too narrow by 10 %", faults.margins_of(0.9), "cells", intervals("days", 40)
    ),
    "cells_left_out": _intervals("empty cells are left out", faults.cells_left_out, "cells", intervals("days", 1)),
    "weighted_wrong": _intervals(
        "estimates weigh their draws by a fifth too much", faults.weighted_wrong, "margins", intervals("visits", 4)
    ),
    "sums_of_what_is_shown": _intervals(
        "margins add up what is cut at 0", faults.sums_of_what_is_shown, "margins", intervals("visits", 8)
    ),
    "averages_of_half_their_margin": _intervals(
        "averages have half their margin", faults.averages_of_half_their_margin, "averages", intervals("visits", 48)
    ),
    "difference_of_one_side": _intervals(
        "a difference has the noise of one side",
        faults.macros_with("m_difference", "m_a"),
        "differences",
        intervals("days", 3, year_on_year=1),
    ),
    "ratio_of_one_side": _intervals(
        "a percent change forgets the noise of its base",
        faults.macros_with("factor ** 2 * variance_a", "0"),
        "percent changes",
        intervals("days", 8, year_on_year=4),
    ),
}

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
        # Its beginning or its end: "independence at scale 1.4" is about independence.
        wrong = [
            each
            for each in failed
            if each.check == check and (each.subject.startswith(subject) or each.subject.endswith(subject))
        ]
    worst = max(wrong, key=lambda each: each.measured / each.declared if each.declared else math.inf, default=None)
    return Row(broken, check, worst, time.perf_counter() - begun)
