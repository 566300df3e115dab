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


def _of_the_fold(name: str) -> faults.Patch:
    return fold_mutants.MUTANTS[name]


MUTANTS: dict[str, Mutant] = {
    # stories
    "limit_not_enforced": Mutant("a case counts without a limit", faults.limit_not_enforced, "stories", "", stories()),
    "without_spent": Mutant("what counted is forgotten", _of_the_fold("without_spent"), "stories", "", stories()),
    "spent_forgotten": Mutant(
        "what counts now is not remembered", _of_the_fold("spent_forgotten"), "stories", "", stories()
    ),
    "turns_across_cases": Mutant(
        "cases share one limit", _of_the_fold("turns_across_cases"), "stories", "halves", stories()
    ),
    "event_mark_without_case": Mutant(
        "an id of another case's event counts once",
        _of_the_fold("event_mark_without_case"),
        "stories",
        "halves",
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
        "what is late is carried over a year's end",
        _of_the_fold("carried_over_the_year"),
        "stories",
        "each_year",
        stories(),
    ),
    "counted_in_fives": Mutant(
        "counts are rounded before the noise",
        faults.counts_changed(lambda value: 5 * round(value / 5)),
        "stories",
        "",
        stories(),
    ),
    "small_counts_hidden": Mutant(
        "counts below 3 are set to 0 before the noise",
        faults.counts_changed(lambda value: value if value >= 3 else 0),
        "stories",
        "halves",
        stories(),
    ),
    "drawn_twice": Mutant(
        "noise is drawn twice, and the second published", faults.drawn_twice, "stories", "all tables", stories()
    ),
    "zeros_as_they_are": Mutant(
        "empty cells are published without noise", faults.zeros_as_they_are, "stories", "all tables", stories()
    ),
    "cut_at_zero": Mutant("draws are cut at 0", faults.cut_at_zero, "stories", "all tables", stories()),
    # epsilon
    "epsilon_of_the_population": Mutant(
        "each table has its population's whole epsilon",
        faults.epsilon_of_the_population,
        "epsilon",
        "",
        pairs("duplicated"),
    ),
    "scale_of_one": Mutant(
        "the noise is for one contribution of two", faults.scale_of_one, "epsilon", "", pairs("duplicated")
    ),
    "limit_not_enforced_to_epsilon": Mutant(
        "a case counts without a limit", faults.limit_not_enforced, "epsilon", "", pairs("duplicated")
    ),
    "half_the_scale_to_epsilon": Mutant(
        "noise of half the scale", faults.of_scale(0.5), "epsilon", "", pairs("duplicated")
    ),
    # noise
    "half_the_scale": Mutant("noise of half the scale", faults.of_scale(0.5), "noise", "scale", draws),
    "three_hundredths_off": Mutant("noise of 0.97 of the scale", faults.of_scale(0.97), "noise", "scale", draws),
    "one_noise_for_two_cells": Mutant(
        "two cells share their noise", faults.draw_of(faults.two_alike), "noise", "independence", few_draws
    ),
    "opposite_noise": Mutant(
        "the noise of two cells cancels out", faults.draw_of(faults.opposite), "noise", "independence", few_draws
    ),
    "one_noise_for_two_releases": Mutant(
        "two releases share their noise", faults.every_second_release_again, "noise", "independence", few_draws
    ),
    "stops_short": Mutant(
        "noise never leaves 6 scales", faults.draw_of(faults.stops_short), "noise", "far tail", draws
    ),
    "rounded_laplace": Mutant(
        "rounded continuous noise", faults.draw_of(faults.rounded_laplace), "noise", "scale", draws
    ),
    "normal": Mutant("normal noise of the same variance", faults.draw_of(faults.normal), "noise", "scale", draws),
    "seeded": Mutant("the noise has a seed", faults.seeded, "noise", "no seed", few_draws),
    # intervals
    "half_the_margin": Mutant(
        "margins of half the width", faults.margins_of(0.5), "intervals", "cells", intervals("days", 1)
    ),
    "nine_tenths_of_the_margin": Mutant(
        "margins too narrow by 10 %", faults.margins_of(0.9), "intervals", "cells", intervals("days", 40)
    ),
    "cells_left_out": Mutant(
        "empty cells are left out", faults.cells_left_out, "intervals", "cells", intervals("days", 1)
    ),
    "weighted_wrong": Mutant(
        "estimates weigh their draws by a fifth too much",
        faults.weighted_wrong,
        "intervals",
        "margins",
        intervals("visits", 4),
    ),
    "sums_of_what_is_shown": Mutant(
        "margins add up what is cut at 0", faults.sums_of_what_is_shown, "intervals", "margins", intervals("visits", 8)
    ),
    "averages_of_half_their_margin": Mutant(
        "averages have half their margin",
        faults.averages_of_half_their_margin,
        "intervals",
        "averages",
        intervals("visits", 48),
    ),
    "difference_of_one_side": Mutant(
        "a difference has the noise of one side",
        faults.macros_with("m_difference", "m_a"),
        "intervals",
        "differences",
        intervals("days", 3, year_on_year=1),
    ),
    "ratio_of_one_side": Mutant(
        "a percent change forgets the noise of its base",
        faults.macros_with("factor ** 2 * variance_a", "0"),
        "intervals",
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
        wrong = [each for each in failed if each.check == check and subject in each.subject]
    worst = max(wrong, key=lambda each: each.measured / each.declared if each.declared else math.inf, default=None)
    return Row(broken, check, worst, time.perf_counter() - begun)
