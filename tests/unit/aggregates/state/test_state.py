"""The private state: what it refuses, what it remembers in one transaction, and what it says."""

from __future__ import annotations

import datetime as dt
import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from tests.aggregates_world import TRIALS, case_key, event_id, record_of, utc, world_in
from tests.populations import population_of

from quietcount_aggregates.counting.fold import REJECTED_BYTES
from quietcount_aggregates.errors import StateError, StateUnwritable
from quietcount_aggregates.populations import Population
from quietcount_aggregates.state import state_file
from quietcount_aggregates.state.state import State
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import CASE_EVENTS, Mark, NewRecord

pytestmark = pytest.mark.quick

SINCE = dt.date(2024, 1, 1)


def monthly(name: str = "asked") -> Population:
    return population_of(
        name, events=["Asked"], registry=TRIALS, period=Period.MONTH, since=SINCE, epsilon=1.0, by=["colour"]
    )


def asked(case: int, event: int, day: dt.date = SINCE, colour: str = "RED") -> CaseEvent:
    return CaseEvent("Asked", case_key(case), event_id(event), 0, day, {"colour": colour, "urgent": None})


def test_a_state_written_in_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state-0.duckdb"
    with State(path) as state, state.transaction():
        state["format"] = str(state_file.FORMAT + 1)
    with pytest.raises(
        StateError, match=rf"state-0\.duckdb: written in format {state_file.FORMAT + 1}.*newer quietcount"
    ):
        State(path)


@pytest.mark.parametrize("key, says", [("topic_id", "topic"), ("ledger_id", "ledger"), ("secret_check", "secret")])
def test_a_state_of_another_topic_ledger_or_secret_is_refused(key: str, says: str, tmp_path: Path) -> None:
    with State(tmp_path / "state-0.duckdb") as state:
        state.bind(**{key: "one"})
        state.bind(**{key: "one"})
        with pytest.raises(StateError, match=says) as refused:
            state.bind(**{key: "other"})
        assert f"Put the right {says.replace('topic', 'log')} back" in str(refused.value)
        assert "'other'" not in str(refused.value)
        assert state[key] == "one"


def test_a_state_goes_on_with_a_new_log_and_what_came_first_keeps_its_turn(tmp_path: Path) -> None:
    with State(tmp_path / "state-0.duckdb") as state:
        state.bind(topic_id="one")
        state.connection.execute("INSERT INTO offsets VALUES (0, 7)")
        state.begin_at("later", {0: 6})
        state.begin_at("newest", {0: 7})
        state.connection.execute("INSERT INTO open_events VALUES ('Asked', 1, 2, 0, DATE '2024-01-01', 0, 6, 5)")
        state.follow("other")
        state.bind(topic_id="other")
        assert state.offsets == {}
        [(offset, first)] = state.rows('SELECT "offset", first_offset FROM open_events')
        assert first < offset < 0
        assert state.begins == {"later": {0: offset}, "newest": {0: 0}}, "each still begins where it did"


def test_the_marks_of_the_log_say_nothing_of_the_order_in_which_partitions_were_read(tmp_path: Path) -> None:
    kept = []
    for order in ([0, 1, 10, 2], [10, 2, 1, 0]):
        with State(tmp_path / f"{order[0]}.duckdb") as state:
            for partition in order:
                with state.transaction():
                    state.mark({partition: Mark(partition, 3)})
            assert state.marks == {partition: Mark(partition, 3) for partition in order}
            kept.append(state.rows("SELECT value FROM meta WHERE key = 'log_marks'"))
    assert kept[0] == kept[1]


def first_of(folder: Path, logs: int) -> tuple[int, ...]:
    """Return what is released after a case asked for RED in the first of so many logs, and for GREEN in each other.

    In the first log another case comes before it.
    """
    with world_in(folder, [monthly()], published=False) as world:
        world.emit([asked(2, 999, colour="NONE"), asked(1, 1)])
        world.fold(SINCE)
        for log in range(1, logs):
            world.log.records, world.log.ends = [[]], [0]
            world.there.follow(f"log {log}")
            world.emit([asked(1, 1 + log, colour="GREEN")])
            world.fold(SINCE)
        world.release(utc(dt.date(2024, 2, 1)))
        return world.released["asked", SINCE]


@pytest.mark.parametrize("logs", [2, 3, 20])
def test_logs_may_follow_one_another_without_end_and_what_came_first_keeps_its_turn(logs: int, tmp_path: Path) -> None:
    assert first_of(tmp_path, logs) == (0, 1, 1)  # GREEN, NONE, RED


def test_a_twin_that_leaves_the_places_of_the_old_log_as_they_were_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = 'CREATE TEMP TABLE places AS SELECT "offset" AS place, "offset" AS before FROM open_events'
    monkeypatch.setattr("quietcount_aggregates.state.state._PLACES_BEFORE", kept)
    assert first_of(tmp_path, 2) == (1, 1, 0)


def test_what_is_no_state_and_what_cannot_be_written_is_refused_in_words(tmp_path: Path) -> None:
    damaged = tmp_path / "state-0.duckdb"
    damaged.write_bytes(b"not a database" * 1000)
    with pytest.raises(StateError, match=r"state-0\.duckdb"):
        State(damaged)
    with pytest.raises(StateError, match="folder exists"):
        State(tmp_path / "missing" / "state-0.duckdb")


def test_a_second_service_on_the_same_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state-0.duckdb"
    code = (
        "import sys; from pathlib import Path; from quietcount_aggregates.state.state import State\n"
        "from quietcount_aggregates.errors import StateError\n"
        "try: State(Path(sys.argv[1]))\n"
        "except StateError as error: print(error)"
    )
    with State(path):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        found = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, env=environment, timeout=60
        )
    assert "another quietcount service holds it" in found.stdout, found.stderr


def test_every_file_of_the_state_is_for_its_owner_only_before_and_after_it_is_written_anew(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        with world_in(tmp_path, [monthly()]) as world:
            world.emit([asked(1, 1)])
            world.fold(SINCE)
            for _ in range(2):
                for path in tmp_path.glob("state-0.duckdb*"):
                    assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
                world.release(utc(dt.date(2024, 2, 1)))
            assert stat.S_IMODE(world.public.stat().st_mode) == 0o644
    finally:
        os.umask(old)


def test_offsets_are_kept_with_what_was_folded_or_not_at_all(tmp_path: Path) -> None:
    with world_in(tmp_path, [monthly()], published=False) as world:
        world.emit([asked(1, 1), asked(2, 2)])
        world.fold(SINCE)
        assert world.there.offsets == {0: 2}
        world.emit([asked(3, 3)])
        records = world.log.poll(CASE_EVENTS, {0: 2}, {0: 3}, 10)
        world.there.connection.execute("ALTER TABLE offsets RENAME TO elsewhere")
        with pytest.raises(StateError):
            world.folds[0].batch(records, SINCE)
        world.there.connection.execute("ALTER TABLE elsewhere RENAME TO offsets")
        assert world.there.offsets == {0: 2}
        assert world.there.connection.execute("SELECT count(*) FROM open_events").fetchone() == (2,)
        assert world.folds[0].batch(records, SINCE) is False
        assert world.there.offsets == {0: 3}


@pytest.mark.promise("dead-letters")
def test_a_rejected_record_is_set_aside_with_its_reason_and_stops_nothing(tmp_path: Path) -> None:
    with world_in(tmp_path, [monthly()], published=False) as world:
        good = record_of(world.codec, asked(1, 1))
        other_key = good._replace(key=case_key(2))
        no_key = good._replace(key=None)
        broken = NewRecord(good.key, good.value + b"\0", 0)
        world.log.append(CASE_EVENTS, [broken, other_key, good, no_key, NewRecord(good.key, b"", 0)])
        world.fold(SINCE)
        letters = world.there.connection.execute(
            'SELECT "offset", reason, value FROM dead_letters ORDER BY 1'
        ).fetchall()
        assert [(offset, reason) for offset, reason, _ in letters] == [
            (0, "trailing_bytes"),
            (1, "key_mismatch"),
            (3, "key_mismatch"),
            (4, "empty"),
        ]
        assert letters[0][2] == broken.value
        assert world.there.offsets == {0: 5}
        assert world.there.connection.execute("SELECT count(*) FROM open_events").fetchone() == (1,)


def test_a_large_rejected_record_is_cut(tmp_path: Path) -> None:
    """A topic takes records of a megabyte, and anybody may send many."""
    with world_in(tmp_path, [monthly()], published=False) as world:
        large = bytes(range(256)) * 4096
        world.log.append(CASE_EVENTS, [NewRecord(case_key(1), large, 0)])
        world.fold(SINCE)
        assert world.there.rows("SELECT reason, value FROM dead_letters") == [("too_large", large[:REJECTED_BYTES])]


def test_an_error_of_the_database_quotes_no_data(tmp_path: Path) -> None:
    path = tmp_path / "state-0.duckdb"
    with State(path) as state, pytest.raises(StateError) as refused, state.transaction() as inner:
        inner.execute("SELECT CAST('someone@example.org' AS INTEGER)")
    assert "someone" not in str(refused.value)
    assert isinstance(refused.value.__cause__, duckdb.Error)


def test_leftovers_of_an_interrupted_rewrite_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "state-0.duckdb"
    State(path).close()
    for name in ("state-0.duckdb.next", "state-0.duckdb.next.wal"):
        (tmp_path / name).write_bytes(b"half")
    with State(path):
        assert sorted(p.name for p in tmp_path.glob("*.next*")) == []


def test_a_disk_that_fails_when_leftovers_are_removed_is_told_and_lets_go_of_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state-0.duckdb"
    State(path).close()
    (tmp_path / "state-0.duckdb.next").write_bytes(b"half")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(StateUnwritable, match=f"{path}: cannot be opened or written"):
            State(path)
    State(path).close()


def test_a_rewrite_that_the_database_refuses_leaves_the_state_usable_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state-0.duckdb"
    with State(path) as state:
        state.bind(topic_id="one")
        with pytest.raises(StateError):
            state.rewrite("SELECT * FROM missing", [])
    with State(path) as state:
        assert state["topic_id"] == "one"


def test_adopting_again_what_is_known_changes_nothing(tmp_path: Path) -> None:
    with world_in(tmp_path, [monthly()], published=False) as world:
        world.emit([asked(1, 1)])
        world.fold(SINCE)
        before = world.there.rows("FROM open_events")
        world.restart(utc(SINCE))
        assert (world.there.offsets, world.there.begins) == ({0: 1}, {})
        world.populations.append(monthly("again"))
        world.restart(utc(SINCE))
        assert (world.there.offsets, world.there.begins) == ({0: 1}, {"again": {0: 1}})
        assert world.there.rows("FROM open_events") == before
