"""What is counted, judged by the oracle, and what one case can change, measured by leaving it out."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import random
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.aggregates_world import SECRET, TRIALS, MemoryLog, utc, world_in
from tests.property.counting_oracle import START, Oracle, Releases, played, story_of

import quietcount_aggregates.release
from quietcount_aggregates import bounding
from quietcount_aggregates.marks import ConsumerSecret
from quietcount_aggregates.statistics import Horizon, Late, Statistic, resolve
from quietcount_schemas.periods import Period

pytestmark = pytest.mark.quick

RUNS = int(os.environ.get("QUIETCOUNT_ORACLE_RUNS") or 12)


@pytest.fixture(autouse=True)
def _no_publication(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the public file, which these tests do not look at and which takes most of a release's time."""
    monkeypatch.setattr(quietcount_aggregates.release, "publish", lambda *_: None)


def check_oracle(seed: int, folder: Path) -> None:
    story = story_of(seed)
    played(story, folder, Oracle(story.statistics))


def distances(statistic: Statistic, one: Releases, other: Releases) -> dict[int, int]:
    """Return the L1 distance of all releases of a statistic, by year where its horizon is a year."""
    moved: dict[int, int] = defaultdict(int)
    for (name, start), values in one.items():
        if name == statistic.name:
            year = start.year if statistic.horizon is Horizon.YEAR else 0
            moved[year] += sum(abs(a - b) for a, b in zip(values, other[name, start], strict=True))
    return moved


def check_sensitivity(seed: int, folder: Path, *, judged: bool = False) -> int:
    """Leave out one case; return how far the farthest statistic moved in units of its k, in percent.

    With `judged` the oracle judges the world with the case too, which has been played anyway.
    """
    story = story_of(seed)
    keys = sorted({event.case_key for step in story.steps for event in step.events})
    key = random.Random(seed).choice(keys)
    whole = played(story, folder / "with", Oracle(story.statistics) if judged else None)
    rest = played(story.without(key), folder / "without")
    assert whole.keys() == rest.keys(), f"seed {seed}: which periods are released depends on data"
    came = {event.occurred_on.year for step in story.steps for event in step.events if event.case_key == key} | {0}
    farthest = 0
    for statistic in story.statistics:
        for year, moved in distances(statistic, whole, rest).items():
            k = statistic.max_contributions
            assert moved <= k, f"seed {seed}: one case moves {statistic.name} by more than k in {year or 'its life'}"
            assert not moved or year in came, f"seed {seed}: one case moves {statistic.name} in a year it did not come"
            farthest = max(farthest, 100 * moved // k)
    return farthest


# ---------------------------------------------------------------- the promises


@pytest.mark.promise("corrections", "withdrawal", "late")
def test_every_release_is_what_the_oracle_counts(tmp_path: Path) -> None:
    """In the test below the oracle judges as many other worlds."""
    for seed in range(RUNS - RUNS // 2):
        check_oracle(seed, tmp_path / str(seed))


@pytest.mark.promise("bound-per-case")
def test_one_case_moves_all_releases_of_a_statistic_together_by_at_most_k(tmp_path: Path) -> None:
    farthest = [check_sensitivity(seed, tmp_path / str(seed), judged=True) for seed in range(1000, 1000 + RUNS // 2)]
    assert max(farthest) == 100, "no case came near its limit: the trial shows nothing"


@pytest.mark.soak
def test_many_worlds_agree_with_the_oracle_and_keep_the_bound(tmp_path: Path) -> None:
    first = int(os.environ.get("QUIETCOUNT_SEED") or 10_000)
    for seed in range(first, first + 40 * RUNS):
        check_sensitivity(seed, tmp_path / str(seed), judged=True)


# ---------------------------------------------------------------- mutants

Patch = Callable[[pytest.MonkeyPatch], None]


def _without_spent(patch: pytest.MonkeyPatch) -> None:
    real = bounding._contributions
    old, new = "turn + coalesce(used.contributions, 0)", "turn"

    def mutant(statistic: Statistic, placed: str) -> str:
        sql = real(statistic, placed)
        assert old in sql
        return sql.replace(old, new)

    patch.setattr(bounding, "_contributions", mutant)


def _without_closed_events(patch: pytest.MonkeyPatch) -> None:
    real = bounding._contributions

    def mutant(statistic: Statistic, placed: str) -> str:
        sql, found = re.subn(
            r"ANTI JOIN \(SELECT event_mark FROM closed_events.*?USING \(event_mark\)", "", real(statistic, placed)
        )
        assert found == 1
        return sql

    patch.setattr(bounding, "_contributions", mutant)


def _event_mark_without_case(patch: pytest.MonkeyPatch) -> None:
    def mutant(self: ConsumerSecret, case_keys: Any, event_ids: Any) -> Any:
        digests = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in event_ids]
        return np.frombuffer(b"".join(digests), dtype=">u8").reshape(-1, 2).astype(np.uint64)

    patch.setattr(ConsumerSecret, "event_marks", mutant)


def _without_carry(patch: pytest.MonkeyPatch) -> None:
    real = bounding._placed
    patch.setattr(bounding, "_placed", lambda statistic, *rest: real(replace(statistic, late=Late.DROP), *rest))


def _carried_over_the_year(patch: pytest.MonkeyPatch) -> None:
    real = bounding._placed
    patch.setattr(bounding, "_placed", lambda s, *rest: real(replace(s, horizon=Horizon.LIFETIME), *rest))


def _last_instead_of_first(patch: pytest.MonkeyPatch) -> None:
    real = bounding._contributions
    patch.setattr(
        bounding,
        "_contributions",
        lambda statistic, placed: real(statistic, placed).replace("BY first_offset,", "BY first_offset DESC,"),
    )


def _caught(check: Callable[[int, Path], object], seeds: range, folder: Path) -> bool:
    for seed in seeds:
        try:
            check(seed, folder / str(seed))
        except AssertionError:
            return True
    return False


# Each search for a world that shows the fault begins where one is known to be near: that saves time and nothing else.
@pytest.mark.parametrize(
    "mutant, first",
    [
        (_without_spent, 0),
        (_without_closed_events, 4),
        (_event_mark_without_case, 0),
        (_without_carry, 9),
        (_carried_over_the_year, 37),
        (_last_instead_of_first, 0),
    ],
)
def test_the_oracle_catches_a_fold_that_breaks_a_rule(
    mutant: Patch, first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    assert _caught(check_oracle, range(first, first + 30), tmp_path)


@pytest.mark.promise("bound-per-case")
@pytest.mark.parametrize("mutant, first", [(_without_spent, 1003), (_event_mark_without_case, 1013)])
def test_the_sensitivity_trial_catches_a_fold_that_lets_a_case_move_more(
    mutant: Patch, first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    assert _caught(check_sensitivity, range(first, first + 30), tmp_path)


# ---------------------------------------------------------------- batches and refolding


def contents(world: Any) -> list[Any]:
    """Return what the state holds, in an order of its own."""
    tables = ("open_events", "withdrawn", "spent", "closed_events", "first_open", "offsets")
    return [sorted(world.there.connection.execute(f"SELECT * FROM {t}").fetchall(), key=repr) for t in tables]


@pytest.mark.check
@pytest.mark.promise("deterministic-fold")
def test_other_batches_give_the_same_state_and_the_same_releases(tmp_path: Path) -> None:
    for seed in range(200, 203):
        story = story_of(seed)
        one = played(story, tmp_path / f"{seed}a", batches=1)
        other = played(story, tmp_path / f"{seed}b", batches=2)
        assert one == other, f"seed {seed}"


@pytest.mark.promise("deterministic-fold")
def test_a_state_rebuilt_from_the_log_is_the_state(tmp_path: Path) -> None:
    for seed in range(300, 303):
        story = story_of(seed)
        log = MemoryLog(story.partitions)
        day = story.steps[-2].day
        with world_in(tmp_path / f"{seed}a", story.statistics, log=log, now=utc(START)) as world:
            for step in story.steps:
                world.emit(step.events)
                world.fold(day)
            first = contents(world)
        with world_in(tmp_path / f"{seed}b", story.statistics, log=log, now=utc(START)) as world:
            world.fold(day, iter(lambda: 3, 0))
            assert contents(world) == first, f"seed {seed}"


def test_a_statistic_declared_later_folds_the_log_again_and_counts_what_is_in_it(tmp_path: Path) -> None:
    story = story_of(400)
    first, later = (
        resolve(name, events=["Asked"], registry=TRIALS, period=Period.MONTH, epsilon=1.0, since=START, by=by)
        for name, by in (("first", []), ("later", ["colour"]))
    )
    end = utc(story.steps[-1].day)
    day = story.steps[-2].day
    with world_in(tmp_path, [first], now=utc(START)) as world:
        for step in story.steps:
            world.emit(step.events)
            world.fold(day)
        world.statistics.append(later)
        assert world.restart(utc(START)), "the log is to be folded again"
        world.fold(day)
        oracle = Oracle([first, later])
        for record in world.log.records[0]:
            oracle.fold(world.codec.decode(record.value), record.offset, day)
        due = [(period.statistic, period.start) for period in world.releaser.due(end, dt.timedelta(0))]
        world.release(end)
        assert world.released == oracle.release(due)
        assert not world.restart(end), "nothing is new"


def test_the_secret_of_a_world_is_its_own() -> None:
    other = ConsumerSecret(bytes(32))
    key = np.zeros((1, 16), dtype=np.uint8)
    assert (SECRET.case_marks(key) != other.case_marks(key)).any()
