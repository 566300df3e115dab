"""What to change in a population, each change with its gain: the changed population is planned again.

No change is proposed that the catalogue's checks refuse. An epsilon is only moved, so the population spends as much.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Final

from quietcount_aggregates.catalogue import check
from quietcount_aggregates.errors import PopulationError
from quietcount_aggregates.planning.margins import Figure, Margins, Over, compared_period, figures_of
from quietcount_aggregates.planning.volume import Volume
from quietcount_aggregates.populations import Epsilon, Population, Table, exact_epsilon
from quietcount_aggregates.tables import LARGEST_EPSILON, MAX_SCALE, SMALLEST_EPSILON
from quietcount_schemas.events.periods import Period

__all__ = ["Advice", "Change", "Outcome", "advised", "outcome"]

_WORSE: Final = 1.05
"""A table is not missed if no figure's margin grows by more than a twentieth once another has its epsilon."""

_GOOD: Final = 0.1
_POOR: Final = 0.3
"""The margin relative to the figure up to which the published file calls it good, and from which on poor."""

_GAIN: Final = 1.15
"""A change that gains less than this is not worth a sentence."""

_MOVED: Final = (Decimal("0.1"), Decimal("0.2"), Decimal("0.3"), Decimal("0.4"), Decimal("0.5"), Decimal("0.6"))
"""The shares of an epsilon that are tried."""


class Change(StrEnum):
    """What is proposed."""

    LEAVE_OUT = "leave out"
    """The other tables say what it says."""
    GIVE_UP = "give up"
    """Its cells are mostly smaller than their margin."""
    DROP_DIMENSION = "drop dimension"
    LONGER_PERIOD = "longer period"
    MOVE_EPSILON = "move epsilon"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One cell of a table: its size, if it is known, and its margin."""

    table: Table
    size: float | None
    margin: float

    @property
    def relative(self) -> float:
        """Return the margin relative to the size; the margin itself if there is no size."""
        return self.margin / self.size if self.size else self.margin


@dataclass(frozen=True, slots=True)
class Advice:
    """A change of one table, and what it does: `before` and `after` are of the table that gains.

    `dimension` is what is dropped, and `left` what becomes of a table that gives a part of its epsilon. `worst` is how
    many times as wide any other figure becomes if a table is left out.
    """

    change: Change
    table: Table
    before: Outcome
    after: Outcome
    changed: Population
    dimension: str = ""
    left: Outcome | None = None
    worst: float = 1.0

    @property
    def gain(self) -> float:
        """Return how many times as precise the table is afterwards."""
        return self.before.relative / self.after.relative


def advised(margins: Margins, volume: Volume | None = None) -> list[Advice]:
    """Return the changes that are worth it, the greatest gain first. Without a volume, only tables nobody misses."""
    found = [*_left_out(margins, volume)]
    if volume is not None and all(volume.yearly.get(table.name) for table in margins.population.counts):
        found += [*_given_up(margins, volume), *_coarsened(margins, volume), *_moved(margins, volume)]
    worth = [each for each in found if each.gain >= _GAIN or each.change in (Change.LEAVE_OUT, Change.GIVE_UP)]
    return sorted((each for each in worth if not _contradicted(each, worth)), key=lambda each: -each.gain)


def _contradicted(advice: Advice, all_of_it: list[Advice]) -> bool:
    """Return whether another advice forbids this one, so that nobody could follow both."""
    left_out = {each.table.name: each.after.table.name for each in all_of_it if each.change is Change.LEAVE_OUT}
    if advice.change is Change.LEAVE_OUT:
        return False
    if advice.change is Change.GIVE_UP:
        # A table that says what one which is left out says stays, and so does one that somebody helps.
        helped = {each.table.name for each in all_of_it if each.change is Change.MOVE_EPSILON}
        taken = {advice.table.name, advice.after.table.name}
        return bool(taken & left_out.keys()) or advice.table.name in {*left_out.values(), *helped}
    return bool({advice.table.name, advice.left.table.name if advice.left else ""} & left_out.keys())


def outcome(margins: Margins, name: str, volume: Volume | None) -> Outcome:
    """Return what a cell of a table comes to."""
    table = _table(margins.population, name)
    figure = Figure(table, Over.CELL, table.period)
    size = None if volume is None else volume.size(margins.population, figure)
    return Outcome(table, size, margins.of(figure))


def _left_out(margins: Margins, volume: Volume | None) -> Iterator[Advice]:
    """Yield the tables whose figures another one gives, at least as well once it has the epsilon of both."""
    population = margins.population
    figures = [each for table in population.counts for each in figures_of(population, table)]
    for table in _free(population):
        found = []
        for other in population.counts:
            changed = _without(population, table, other) if other is not table and _tells(other, table) else None
            if changed is None:
                continue
            # Its own figures, too, are judged as the others tell them.
            silent = Margins(replace(population, tables=(*changed.tables, table)), silent={table.name})
            worst = max(silent.of(each) / margins.of(each) for each in figures if margins.of(each))
            if worst <= _WORSE:
                before, after = (outcome(each, other.name, volume) for each in (margins, Margins(changed)))
                found.append(Advice(Change.LEAVE_OUT, table, before, after, changed, worst=worst))
        if found:
            yield max(found, key=lambda each: each.gain)


def _given_up(margins: Margins, volume: Volume) -> Iterator[Advice]:
    """Yield the tables that are mostly noise, with what their epsilon does for the one that needs it most."""
    population = margins.population
    for table in _free(population):
        own = outcome(margins, table.name, volume)
        below = volume.below(table.name, own.margin)
        if (own.relative <= 1 if below is None else below <= 0.5) or len(population.counts) == 1:
            continue
        others = [outcome(margins, each.name, volume) for each in population.counts if each is not table]
        before = max(others, key=lambda each: each.relative)
        changed = _without(population, table, before.table)
        if changed is not None:
            after = outcome(Margins(changed), before.table.name, volume)
            if after.relative > 1:
                continue  # two tables of noise make no figure
            yield Advice(Change.GIVE_UP, table, before, after, changed)


def _coarsened(margins: Margins, volume: Volume) -> Iterator[Advice]:
    """Yield the dimension that a poor table had better drop, and the longer period for it."""
    population = margins.population
    for table in _free(population):
        before = outcome(margins, table.name, volume)
        if before.relative <= _POOR:
            continue
        longer = compared_period(table.period)
        by_longer = None
        if longer is not table.period:
            by_longer = _replaced(population, volume, before, replace(table, period=longer), Change.LONGER_PERIOD)
        if by_longer is not None:
            yield by_longer
            if len(table.by) == 1 and by_longer.after.relative <= _POOR:
                continue  # without its only dimension a table says what a total says: that is the last resort
        dropped = []
        for dimension in table.by:
            fewer = replace(table, by=tuple(each for each in table.by if each is not dimension))
            advice = _replaced(population, volume, before, fewer, Change.DROP_DIMENSION, dimension.name)
            if advice is not None:
                dropped.append(advice)
        if dropped:
            yield max(dropped, key=lambda each: each.gain)


def _replaced(
    population: Population, volume: Volume, before: Outcome, table: Table, change: Change, dimension: str = ""
) -> Advice | None:
    """Return what another table of the same name comes to; None if it is refused, or is noise as before."""
    changed = _checked(population, [table if each.name == table.name else each for each in population.tables])
    if changed is None:
        return None
    after = outcome(Margins(changed), table.name, volume)
    return Advice(change, before.table, before, after, changed, dimension) if after.relative <= 1 else None


def _moved(margins: Margins, volume: Volume) -> Iterator[Advice]:
    """Yield the move of a part of one table's epsilon to the table that needs it most."""
    population = margins.population
    outcomes = [outcome(margins, each.name, volume) for each in population.counts]
    before = max(outcomes, key=lambda each: each.relative)
    if before.relative <= _GOOD:
        return
    best: Advice | None = None
    for donor in outcomes:
        if donor.relative * 2 > before.relative:
            continue
        for part in _MOVED:
            moved = (exact_epsilon(donor.table.epsilon) * part).quantize(Decimal("0.001"))
            changed = _checked(
                population, [_moving(each, donor.table, before.table, moved) for each in population.tables]
            )
            if changed is None:
                continue
            planned = Margins(changed)
            after = [outcome(planned, each.name, volume) for each in changed.counts]
            poorest = max(after, key=lambda each: each.relative)
            needy, left = (
                next(each for each in after if each.table.name == name)
                for name in (before.table.name, donor.table.name)
            )
            advice = Advice(Change.MOVE_EPSILON, before.table, before, needy, changed, left=left)
            # What the donor loses must not make it the poorest, and what stays noise is not worth it.
            if (
                needy.relative <= 1
                and poorest.table.name == before.table.name
                and (best is None or advice.gain > best.gain)
            ):
                best = advice
    if best is not None:
        yield best


def _moving(table: Table, donor: Table, needy: Table, moved: Decimal) -> Table:
    sign = {donor.name: -1, needy.name: 1}.get(table.name, 0)
    return replace(table, epsilon=Epsilon(float(exact_epsilon(table.epsilon) + sign * moved))) if sign else table


def _free(population: Population) -> list[Table]:
    """Return the tables that may change: an average is made of the cells and periods of the table that counts."""
    named = {table.sum.count for table in population.sums if table.sum is not None}
    return [table for table in population.counts if table.name not in named]


def _tells(other: Table, table: Table) -> bool:
    """Return whether the cells of a table are sums of the cells of another."""
    names = {each.name for each in other.by}
    return (
        all(each.name in names for each in table.by)
        and table.where == other.where
        and table.period.is_made_of(other.period)
    )


def _without(population: Population, table: Table, heir: Table) -> Population | None:
    """Return the population without a table, whose epsilon another one gets; None if that is refused."""
    both = Epsilon(float(exact_epsilon(table.epsilon) + exact_epsilon(heir.epsilon)))
    kept = [each for each in population.tables if each.name != table.name]
    return _checked(population, [replace(each, epsilon=both) if each.name == heir.name else each for each in kept])


def _checked(population: Population, tables: list[Table]) -> Population | None:
    """Return the population with these tables, and the finest of their periods; None if the catalogue refuses it."""
    finest = min((table.period for table in tables), key=list(Period).index)
    changed = replace(population, tables=tuple(tables), period=finest)
    smallest = max(SMALLEST_EPSILON, population.max_contributions / MAX_SCALE)
    if not all(smallest <= table.epsilon <= LARGEST_EPSILON for table in tables):
        return None
    try:
        check(changed)
    except PopulationError:
        return None
    return changed


def _table(population: Population, name: str) -> Table:
    return next(each for each in population.counts if each.name == name)
