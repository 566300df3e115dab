"""The files of what cases have used up: counted exactly, checked when they are read, removed when they hold no more."""

from __future__ import annotations

import datetime as dt
import errno
import os
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.aggregates_world import utc, world_in
from tests.privacy.settling_world import asked, first_of
from tests.privacy.settling_world import event as event_of

from quietcount_aggregates.errors import StateBehind, StateDamaged, StateError, StateUnwritable
from quietcount_aggregates.ledger.entries import Retired
from quietcount_aggregates.settling import Settler
from quietcount_aggregates.state import limits as limits_module
from quietcount_aggregates.state.limits import LIFETIME, Limits, UsedUp, Words
from quietcount_aggregates.state.state import State
from quietcount_schemas.codec import CaseEvent

pytestmark = pytest.mark.quick

# Few numbers, so that marks come again; some end in zero bytes, which numpy leaves out of what it compares.
MARKS = st.sampled_from(
    [0, 1, 255, 256, 1 << 64, (1 << 64) + 1, 1 << 127, (1 << 128) - 1] + [7 << s for s in range(125)]
)
SETTLEMENTS = st.lists(st.lists(MARKS, max_size=20), max_size=6)


def words_of(marks: Iterable[int]) -> Words:
    """Return marks in ascending order as words (high, low)."""
    words = [(mark >> 64, mark & (2**64 - 1)) for mark in sorted(marks)]
    return np.array(words, dtype=np.uint64).reshape(-1, 2)


def written(limits: Limits, settlements: Sequence[Sequence[int]]) -> UsedUp | None:
    listed = None
    for marks in settlements:
        listed = limits.extended("asked", LIFETIME, listed, words_of(marks))
    return listed


def check_counts(folder: Path, settlements: Sequence[Sequence[int]], asked_for: Sequence[int]) -> None:
    limits = Limits(folder / "state-0.duckdb")
    listed = written(limits, settlements)
    if listed is not None:
        counts = Counter(mark for marks in settlements for mark in marks)
        wanted = sorted(set(asked_for) | set(counts))
        assert limits.used(listed, words_of(wanted)).tolist() == [counts[mark] for mark in wanted]
        held = [mark.to_bytes(16) for mark in sorted(counts.elements())]
        content = limits.path(listed).read_bytes()
        assert content[: 16 * listed.marks] == b"".join(held), "the order says nothing of the order of arrival"
        assert content[16 * listed.marks :].strip(b"\0") == b"", "and nothing else is there"
        limits.check_whole([listed])
        limits.remove_others([listed])
        assert list(folder.iterdir()) == [limits.path(listed)]


@settings(max_examples=150, deadline=None)
@given(settlements=SETTLEMENTS, asked_for=st.lists(MARKS, max_size=10), piece=st.integers(1, 5))
def test_each_case_has_used_up_what_counted_of_it(
    settlements: list[list[int]], asked_for: list[int], piece: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits_module, "_PIECE", piece)
        check_counts(tmp_path_factory.mktemp("limits"), settlements, asked_for)


def test_a_lookup_that_goes_on_behind_the_mark_at_the_end_of_a_piece_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant of the property above: a mark that stands in two pieces is counted in the first alone."""
    real: Any = np.searchsorted
    monkeypatch.setattr(limits_module, "_PIECE", 2)
    check_counts(tmp_path, [[5, 5, 5]], [])
    monkeypatch.setattr(
        np, "searchsorted", lambda where, what, side="left": real(where, what, "right" if len(what) == 1 else side)
    )
    with pytest.raises(AssertionError):
        check_counts(tmp_path, [[5, 5, 5, 9]], [])


def test_only_its_owner_may_read_a_file(tmp_path: Path) -> None:
    limits = Limits(tmp_path / "state-0.duckdb")
    listed = limits.extended("asked", 2024, None, words_of([1]))
    assert limits.path(listed).name == "state-0.limits.asked.2024.1"
    assert stat.S_IMODE(limits.path(listed).stat().st_mode) == 0o600


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[77] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a flipped bit": _flipped,
    "a cut": lambda path: path.write_bytes(path.read_bytes()[:144]),
    "half a mark": lambda path: path.write_bytes(path.read_bytes()[:152]),
    "nothing": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_is_not_what_was_written_is_refused_before_anything_counts(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits_module, "_PIECE", 4)
    limits = Limits(tmp_path / "state-0.duckdb")
    listed = limits.extended("asked", LIFETIME, None, words_of(range(10)))
    DAMAGE[damage](limits.path(listed))
    reading: list[Callable[[], object]] = [
        lambda: limits.used(listed, words_of([3])),
        lambda: limits.check_whole([listed]),
    ]
    if damage != "a flipped bit":  # `used` finds that first
        reading.append(lambda: limits.extended("asked", LIFETIME, listed, words_of([3])))
    for read in reading:
        with pytest.raises(
            StateDamaged, match=r"is missing, damaged, or belongs to another moment than state-0\.duckdb"
        ):
            read()


@pytest.mark.parametrize("at_work", ["read", "write"])
def test_a_disk_that_fails_is_no_damage(at_work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(tmp_path / "state-0.duckdb")
    listed = limits.extended("asked", LIFETIME, None, words_of([1]))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path if at_work == "read" else os, "open", refuse)
    with pytest.raises(StateUnwritable, match=f"cannot be {'read' if at_work == 'read' else 'written'}"):
        limits.extended("asked", LIFETIME, listed if at_work == "read" else None, words_of([2]))


def check_sizes(folder: Path) -> None:
    sizes = set()
    for number, count in enumerate((0, 1, 34, 57)):
        limits = Limits(folder / f"{number}" / "state-0.duckdb")
        (folder / f"{number}").mkdir()
        sizes.add(limits.path(limits.extended("asked", LIFETIME, None, words_of(range(count)))).stat().st_size)
    assert sizes <= {0, 1 << 18}, "a backup store sees how many came"


@pytest.mark.promise("no-exact-count")
def test_the_size_of_a_file_is_no_exact_count(tmp_path: Path) -> None:
    check_sizes(tmp_path)


def test_a_file_that_ends_with_its_last_mark_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_module, "_BLOCK", 1)
    with pytest.raises(AssertionError, match="how many came"):
        check_sizes(tmp_path)


# ---------------------------------------------------------------- with a state

FIRST = first_of(1)


def event(case: int, day: dt.date) -> CaseEvent:
    return event_of(case, case, day, "RED", None)


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("state-0.limits.*"))


def test_a_settlement_leaves_the_files_that_the_state_lists_and_no_others(tmp_path: Path) -> None:
    with world_in(tmp_path, [asked()], published=False) as world:
        for month in (1, 2):
            world.emit([event(month, first_of(month))])
            world.fold(first_of(month + 1))
            world.release(utc(first_of(month + 1)))
            assert files_of(tmp_path) == [f"state-0.limits.asked.lifetime.{month}"]


def test_what_a_crash_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    with world_in(tmp_path, [asked()], published=False) as world:
        world.emit([event(1, FIRST)])
        world.fold(first_of(2))
        world.release(utc(first_of(2)))
        [kept] = files_of(tmp_path)
        there = world.there
        there.limits.extended("asked", LIFETIME, there.used_up[0], words_of([1]))
        assert len(files_of(tmp_path)) == 2
        world.restart(utc(first_of(2)))
        assert files_of(tmp_path) == [kept]


def check_older_state(folder: Path, *, missing: bool) -> None:
    """Start on an older state, or on none: the files of the right one are still there when it is put back."""
    state, aside = folder / "state-0.duckdb", folder / "aside"
    with world_in(folder, [asked()], published=False) as world:
        for month in (1, 2):
            world.emit([event(month, first_of(month))])
            world.fold(first_of(month + 1))
            if month == 2:
                world.close()
                shutil.copy(state, aside)
                world.restart(utc(first_of(3)))
                world.fold(first_of(3))
            world.release(utc(first_of(month + 1)))
        world.close()
        newest = state.read_bytes()
        if missing:
            state.unlink()
        else:
            shutil.copy(aside, state)
        # An older one that has folded all of it could finish the settlement, if its own files were there.
        with pytest.raises(StateBehind if missing else StateDamaged):
            world.restart(utc(first_of(3)))
        world.close()
        state.write_bytes(newest)
        world.restart(utc(first_of(3)))
        assert len(world.released) == 2


@pytest.mark.promise("older-refused")
@pytest.mark.parametrize("missing", [True, False])
def test_a_start_on_the_wrong_state_leaves_the_files_of_the_right_one(missing: bool, tmp_path: Path) -> None:
    check_older_state(tmp_path, missing=missing)


def test_a_state_that_removes_files_before_anything_is_compared_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = State._clear_away

    def mutant(self: State) -> None:
        real(self)
        self.limits.remove_others(self.used_up)

    monkeypatch.setattr(State, "_clear_away", mutant)
    with pytest.raises(StateDamaged):
        check_older_state(tmp_path, missing=False)


def check_retired(folder: Path) -> None:
    with world_in(folder, [asked()], published=False) as world:
        world.emit([event(1, FIRST)])
        world.fold(first_of(2))
        world.release(utc(first_of(2)))
        world.emit([event(2, first_of(2))])
        world.fold(first_of(2))
        world.ledger.append([Retired("asked")], utc(first_of(2)))
        world.populations = []
        world.restart(utc(first_of(2)))
        assert files_of(folder) == [], "limits of a retired population"
        assert world.there.rows("SELECT count(*) FROM open_events") == [(0,)]
        assert world.log.records == [[]]
        # Emitters may not know of it.
        world.emit([event(3, first_of(2))])
        world.fold(first_of(2))
        world.restart(utc(first_of(2)))
        assert world.log.records == [[]], "events that nobody needs"


@pytest.mark.promise("forgetting")
def test_if_the_last_population_is_retired_nothing_of_it_is_left_after_the_next_start(tmp_path: Path) -> None:
    check_retired(tmp_path)


def test_a_start_that_waits_with_that_for_a_settlement_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Settler.close

    def mutant(self: Settler, *arguments: Any) -> None:
        if arguments != (None,):
            real(self, *arguments)

    monkeypatch.setattr(Settler, "close", mutant)
    with pytest.raises(AssertionError, match="limits of a retired population"):
        check_retired(tmp_path)


def test_a_start_that_does_that_once_alone_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Settler.close

    def mutant(self: Settler, *arguments: Any) -> None:
        if arguments != (None,) or self.state.used_up:
            real(self, *arguments)

    monkeypatch.setattr(Settler, "close", mutant)
    with pytest.raises(AssertionError, match="events that nobody needs"):
        check_retired(tmp_path)


def test_a_state_whose_file_is_gone_is_refused_at_the_start(tmp_path: Path) -> None:
    with world_in(tmp_path, [asked()], published=False) as world:
        world.emit([event(1, FIRST)])
        world.fold(first_of(2))
        world.release(utc(first_of(2)))
        (tmp_path / files_of(tmp_path)[0]).unlink()
        with pytest.raises(StateError, match=r"is missing, damaged.*record-loss"):
            world.restart(utc(first_of(2)))
