"""Folds that break a rule, each caught by a story: the trials of test_aggregates_oracle.py see what they are to see."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.aggregates_world import World as Deployment
from tests.property.playing import played
from tests.property.stories import world_of
from tests.property.story_checks import check_halves, check_margins, check_one_case

from quietcount_aggregates.counting import bounding, contributions
from quietcount_aggregates.counting.bounding import Bounding
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.settlements import Settlement
from quietcount_aggregates.populations import Dimension, Horizon, Late, Population
from quietcount_aggregates.state.limits import Limits
from quietcount_aggregates.state.marks import ConsumerSecret
from quietcount_aggregates.state.state import State

pytestmark = pytest.mark.check

WORLDS = range(100, 150)
"""Those that the test of every release plays: they are enough to catch each mutant."""

Patch = Callable[[pytest.MonkeyPatch], None]
Check = Callable[[int, Path], object]


def _replaced(old: str, new: str, within: str) -> str:
    if within.count(old) != 1:  # not an AssertionError: that would pass for a fault that was caught
        raise LookupError(f"the SQL has changed: {old!r} is not in it once")
    return within.replace(old, new)


def _contributions_with(old: str, new: str, patch: pytest.MonkeyPatch) -> None:
    real = contributions.insertion
    patch.setattr(contributions, "insertion", lambda *asked: _replaced(old, new, real(*asked)))


def _script_with(script: str, old: str, new: str, patch: pytest.MonkeyPatch) -> None:
    real = bounding._sql

    def mutant(name: str) -> str:
        return _replaced(old, new, real(name)) if name == script else real(name)

    patch.setattr(bounding, "_sql", mutant)


_without_spent = partial(_contributions_with, "turn + coalesce(used.contributions, 0)", "turn")
_turns_across_cases = partial(_contributions_with, "PARTITION BY year, case_mark ORDER", "PARTITION BY year ORDER")
_last_instead_of_first = partial(_contributions_with, "period, first_offset,", "period, first_offset DESC,")
_in_log_order_alone = partial(_contributions_with, "ORDER BY period, first_offset,", "ORDER BY first_offset,")
_sums_forgotten = partial(_script_with, "close.sql", "FROM waiting", "FROM waiting WHERE false")
_closed_events_forgotten = partial(
    _script_with, "close.sql", "FROM closed_events SEMI JOIN following", "FROM closed_events ANTI JOIN following"
)
_withdrawal_forgotten = partial(
    _script_with, "close.sql", "FROM withdrawn GROUP BY", "FROM withdrawn WHERE false GROUP BY"
)


def _spent_forgotten(patch: pytest.MonkeyPatch) -> None:
    real = Limits.extended
    patch.setattr(Limits, "extended", lambda self, name, year, _, cases: real(self, name, year, None, cases))


def _withdrawal_ignored(patch: pytest.MonkeyPatch) -> None:
    real = bounding._versions
    joined = (
        "ANTI JOIN (SELECT case_mark FROM withdrawn WHERE \"offset\" < getvariable('settled_upto')) USING (case_mark)"
    )
    patch.setattr(bounding, "_versions", lambda *asked: _replaced(joined, "", real(*asked)))


def _without_closed_events(patch: pytest.MonkeyPatch) -> None:
    real = contributions.insertion

    def mutant(population: Population, placed: str) -> str:
        sql, found = re.subn(
            r"ANTI JOIN \(SELECT event_mark FROM closed_events.*?USING \(event_mark\)", "", real(population, placed)
        )
        if found != 1:
            raise LookupError("the SQL has changed")
        return sql

    patch.setattr(contributions, "insertion", mutant)


def _event_mark_without_case(patch: pytest.MonkeyPatch) -> None:
    def mutant(self: ConsumerSecret, case_keys: Any, event_ids: Any) -> Any:
        digests = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in event_ids]
        return np.frombuffer(b"".join(digests), dtype=">u8").reshape(-1, 2).astype(np.uint64)

    patch.setattr(ConsumerSecret, "event_marks", mutant)


def _without_carry(patch: pytest.MonkeyPatch) -> None:
    real = contributions.placement
    patch.setattr(
        contributions, "placement", lambda population, *rest: real(replace(population, late=Late.DROP), *rest)
    )


def _carried_over_the_year(patch: pytest.MonkeyPatch) -> None:
    real = contributions.placement
    patch.setattr(contributions, "placement", lambda p, *rest: real(replace(p, horizon=Horizon.LIFETIME), *rest))


def _limit_per_table(patch: pytest.MonkeyPatch) -> None:
    """Bound each table by itself: what its own filter excludes does not use up its limit."""
    real = contributions.insertion

    def mutant(population: Population, placed: str) -> str:
        alone = []
        for mine in range(1, len(population.tables) + 1):
            cells = ", ".join(
                f"cells[{each}]" if each == mine else "NULL" for each in range(1, 1 + len(population.tables))
            )
            member = f"member AND cells[{mine}] IS NOT NULL AS member"
            alone.append(real(population, f"(SELECT * REPLACE ({member}, [{cells}]::BIGINT[] AS cells) FROM {placed})"))
        return ";".join(alone)

    patch.setattr(contributions, "insertion", mutant)


def _sums_of_what_is_open(patch: pytest.MonkeyPatch) -> None:
    """Keep among the sums of a coarser table what is not settled yet: it is counted again when it is."""
    real = Bounding._sums
    patch.setattr(Bounding, "_sums", lambda self, population, table, *_: real(self, population, table))


def _by_what_the_log_still_holds(patch: pytest.MonkeyPatch) -> None:
    """Fold the log again for each declaration, and let a new population count whatever is found."""
    patch.setattr(bounding, "_behind", lambda *_: "true")
    real = State.adopt

    def mutant(state: State, populations: Sequence[Population]) -> None:
        known = state.first_open
        if known and any(each.name not in known for each in populations):
            with state.transaction() as connection:
                connection.execute("DELETE FROM open_events")
                connection.execute("UPDATE offsets SET next_offset = 0")
                for place in state.purged.items():
                    connection.execute("INSERT OR REPLACE INTO offsets VALUES (?, ?)", place)
        real(state, populations)

    patch.setattr(State, "adopt", mutant)


def _later_ones_count_the_whole_log(patch: pytest.MonkeyPatch) -> None:
    def mutant(self: State, population: str, place: Mapping[int, int]) -> None:
        """Remember no place."""

    patch.setattr(State, "begin_at", mutant)


def _a_new_log_comes_first(patch: pytest.MonkeyPatch) -> None:
    """Keep the places of open events in the old log: what comes in the new one seems to be older."""
    real = State.follow

    def mutant(self: State, topic_id: str) -> None:
        real(self, topic_id)
        with self.transaction() as connection:
            connection.execute('UPDATE open_events SET "offset" = "offset" + 9999, first_offset = first_offset + 9999')

    patch.setattr(State, "follow", mutant)


def _dated_ahead_kept(patch: pytest.MonkeyPatch) -> None:
    real = Settlement.make

    def mutant(after: int, day: dt.date, _: dt.date, *more: Any) -> Settlement:
        return real(after, day, dt.date.max, *more)

    patch.setattr(Settlement, "make", mutant)


def _begins_with_the_log(patch: pytest.MonkeyPatch) -> None:
    """Begin after a loss with all that the log still holds, and not at the newest settlement."""
    patch.setattr(Ledger, "settled_at", None)


def _carried_after_a_loss(patch: pytest.MonkeyPatch) -> None:
    """Carry after a loss also what belongs to a period that was settled before it, and may have counted."""
    patch.setattr(State, "lost_open", {})


def _withheld_released(patch: pytest.MonkeyPatch) -> None:
    """Release a period also if the sums of a part of it were lost."""
    patch.setattr(Chain, "_withhold", lambda *_: None)


def _limits_kept_after_a_loss(patch: pytest.MonkeyPatch) -> None:
    real = Deployment.lose_state

    def mutant(self: Deployment, now: dt.datetime) -> None:
        kept = {
            state.partition: [(each, state.limits.path(each).read_bytes()) for each in state.used_up]
            for state in self.states
        }
        real(self, now)
        for partition, used in kept.items():
            with State(self.state_of(partition), partition) as state, state.transaction() as connection:
                for each, content in used:
                    state.limits.path(each).write_bytes(content)
                    connection.execute("INSERT INTO limits VALUES (?, ?, ?, ?, ?)", astuple(each))

    patch.setattr(Deployment, "lose_state", mutant)


def _new_symbols_count_as_the_first(patch: pytest.MonkeyPatch) -> None:
    """Take a symbol that a schema gained after the declaration for another one than the default."""
    real = contributions._index

    def mutant(dimension: Dimension, event: str, symbols: Mapping[str, Sequence[str]]) -> str:
        column = f"{event}.{dimension.name}"
        taken = [each if each in dimension.symbols else dimension.symbols[0] for each in symbols[column]]
        return real(dimension, event, {column: taken})

    patch.setattr(contributions, "_index", mutant)


def _others_remembered(patch: pytest.MonkeyPatch) -> None:
    """Keep the mark of an event that does not belong to the population, so that a late correction by which it does
    comes to nothing.
    """
    _script_with("close.sql", "period < day AND member", "period < day", patch)


def _numbers_unbounded(patch: pytest.MonkeyPatch) -> None:
    """Sum a number up without moving it to between the two ends: then one case moves a sum by more."""
    patch.setattr(contributions, "_amount", lambda asked, event: f'"{event}.{asked.field}" - {asked.middle}')


def _numbers_uncentred(patch: pytest.MonkeyPatch) -> None:
    """Sum a number up without taking the middle off."""
    real = contributions._amount
    patch.setattr(contributions, "_amount", lambda asked, event: f"{real(asked, event)} + {asked.middle}")


def _buckets_begin_later(patch: pytest.MonkeyPatch) -> None:
    """Count the number with which a bucket begins into the one before."""
    real = contributions._index

    def mutant(dimension: Dimension, event: str, symbols: Mapping[str, Sequence[str]]) -> str:
        found = real(dimension, event, symbols)
        return found.replace(">=", ">") if dimension.bounds else found

    patch.setattr(contributions, "_index", mutant)


MUTANTS: dict[str, Patch] = {
    "numbers_unbounded": _numbers_unbounded,
    "numbers_uncentred": _numbers_uncentred,
    "buckets_begin_later": _buckets_begin_later,
    "dated_ahead_kept": _dated_ahead_kept,
    "others_remembered": _others_remembered,
    "without_spent": _without_spent,
    "spent_forgotten": _spent_forgotten,
    "turns_across_cases": _turns_across_cases,
    "without_closed_events": _without_closed_events,
    "closed_events_forgotten": _closed_events_forgotten,
    "event_mark_without_case": _event_mark_without_case,
    "without_carry": _without_carry,
    "carried_over_the_year": _carried_over_the_year,
    "last_instead_of_first": _last_instead_of_first,
    "in_log_order_alone": _in_log_order_alone,
    "limit_per_table": _limit_per_table,
    "sums_forgotten": _sums_forgotten,
    "sums_of_what_is_open": _sums_of_what_is_open,
    "withdrawal_ignored": _withdrawal_ignored,
    "withdrawal_forgotten": _withdrawal_forgotten,
    "by_what_the_log_still_holds": _by_what_the_log_still_holds,
    "later_ones_count_the_whole_log": _later_ones_count_the_whole_log,
    "a_new_log_comes_first": _a_new_log_comes_first,
    "begins_with_the_log": _begins_with_the_log,
    "carried_after_a_loss": _carried_after_a_loss,
    "withheld_released": _withheld_released,
    "limits_kept_after_a_loss": _limits_kept_after_a_loss,
    "new_symbols_count_as_the_first": _new_symbols_count_as_the_first,
}


def by_the_oracle(seed: int, folder: Path) -> None:
    played(world_of(seed), folder, judged=True)


def by_halves(seed: int, folder: Path) -> None:
    check_halves(world_of(seed), played(world_of(seed), folder))


def by_one_case(seed: int, folder: Path) -> None:
    check_one_case(world_of(seed), played(world_of(seed), folder))


def by_margins(seed: int, folder: Path) -> None:
    check_margins(world_of(seed), played(world_of(seed), folder))


def caught(check: Check, first: int, folder: Path) -> int | None:
    """Return the first seed from `first` on, and then from the beginning on, whose world shows the fault."""
    seeds: list[int] = [*range(first, WORLDS.stop), *range(WORLDS.start, first)]
    for seed in seeds:
        try:
            check(seed, folder / str(seed))
        except AssertionError:
            return seed
    return None


# Each search begins where a world that shows the fault is known to be near: that saves time and nothing else.
NEAR = {
    "without_spent": 116,
    "spent_forgotten": 115,
    "closed_events_forgotten": 116,
    "others_remembered": 104,
    "buckets_begin_later": 106,
    "carried_after_a_loss": 110,
    "carried_over_the_year": 104,
    "sums_forgotten": 110,
    "sums_of_what_is_open": 110,
    "withdrawal_forgotten": 105,
    "a_new_log_comes_first": 109,
    "begins_with_the_log": 117,
    "withheld_released": 110,
    "limits_kept_after_a_loss": 123,
    "new_symbols_count_as_the_first": 106,
}


@pytest.mark.parametrize("mutant, first", [pytest.param(name, NEAR.get(name, 100), id=name) for name in MUTANTS])
def test_the_oracle_catches_a_fold_that_breaks_a_rule(
    mutant: str, first: int, in_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MUTANTS[mutant](monkeypatch)
    found = caught(by_the_oracle, first, in_memory)
    assert found is not None
    print(f"caught by seed {found}")


@pytest.mark.promise("bound-per-case")
@pytest.mark.parametrize(
    "check, mutant, first",
    [
        pytest.param(by_one_case, "without_spent", 131, id="bound-without_spent"),
        pytest.param(by_one_case, "turns_across_cases", 107, id="bound-turns_across_cases"),
        pytest.param(by_one_case, "numbers_unbounded", 100, id="bound-numbers_unbounded"),
        pytest.param(by_one_case, "numbers_uncentred", 100, id="bound-numbers_uncentred"),
        pytest.param(by_one_case, "event_mark_without_case", 100, id="bound-event_mark_without_case"),
        pytest.param(by_one_case, "sums_of_what_is_open", 122, id="bound-sums_of_what_is_open"),
        pytest.param(by_halves, "event_mark_without_case", 100, id="halves-event_mark_without_case"),
        pytest.param(by_halves, "turns_across_cases", 100, id="halves-turns_across_cases"),
        pytest.param(by_margins, "sums_forgotten", 115, id="margins-sums_forgotten"),
        pytest.param(by_margins, "sums_of_what_is_open", 110, id="margins-sums_of_what_is_open"),
        pytest.param(by_margins, "withheld_released", 110, id="margins-withheld_released"),
    ],
)
def test_each_trial_without_the_oracle_catches_a_fold_that_breaks_its_rule(
    check: Check, mutant: str, first: int, in_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MUTANTS[mutant](monkeypatch)
    found = caught(check, first, in_memory)
    assert found is not None
    print(f"caught by seed {found}")
