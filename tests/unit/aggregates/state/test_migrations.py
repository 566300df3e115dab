"""The formats of the private state: an older one is brought up to date whole or not at all, and days of rejects."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import duckdb
import pytest
from tests.aggregates_world import TRIALS, World, case_key, event_id, record_of, utc, world_in
from tests.populations import population_of

from quietcount_aggregates.errors import StateDefect, StateError
from quietcount_aggregates.populations import Population
from quietcount_aggregates.state import migrations, state_file
from quietcount_aggregates.state.state import State
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import CASE_EVENTS, Mark, NewRecord, Record
from quietcount_schemas.rejection import RejectReason

pytestmark = pytest.mark.quick

DAY = dt.date(2024, 1, 10)
NEXT = DAY + dt.timedelta(days=1)

STEP = "CREATE TABLE added (day DATE NOT NULL, PRIMARY KEY (day))"
OLD, NEW = str(state_file.FORMAT), str(state_file.FORMAT + 1)


def next_format(patch: pytest.MonkeyPatch, step: str = STEP) -> None:
    """Become the version after this one, whose state has a table more."""
    schema = state_file.schema()
    patch.setattr(state_file, "FORMAT", int(NEW))
    patch.setattr(state_file, "_META", {**state_file._META, "format": NEW})
    patch.setattr(state_file, "schema", lambda: f"{schema};{STEP}")
    patch.setattr(migrations, "STEPS", {**migrations.STEPS, int(OLD): step})


def described(path: Path) -> list[tuple[object, ...]]:
    """Each column and each constraint of a file."""
    with duckdb.connect(str(path), read_only=True) as connection:
        columns = "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns() WHERE NOT internal"
        constraints = "SELECT table_name, constraint_text, '', '' FROM duckdb_constraints()"
        return connection.execute(f"{columns} UNION ALL {constraints} ORDER BY ALL").fetchall()


def format_of(path: Path) -> str:
    with duckdb.connect(str(path), read_only=True) as connection:
        row = connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
    assert row is not None
    return str(row[0])


def monthly() -> Population:
    since = dt.date(2024, 1, 1)
    return population_of("asked", events=["Asked"], registry=TRIALS, period=Period.MONTH, since=since, epsilon=1.0)


def send_rejected(world: World, value: bytes = b"") -> None:
    """Append a record that is no event: an empty one unless it is given."""
    world.log.append(CASE_EVENTS, [NewRecord(b"\0" * 16, value, 0)])


def test_each_format_has_its_way_to_the_present_one() -> None:
    assert list(migrations.STEPS) == list(range(migrations.FIRST, state_file.FORMAT))


def test_a_state_of_an_older_format_becomes_what_a_new_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "old.duckdb", tmp_path / "new.duckdb"
    state_file.create(old)
    next_format(monkeypatch)
    state_file.create(new)
    assert described(old) != described(new)
    with State(old) as state:
        state.bind(topic_id="one")
    with State(old) as state, pytest.raises(StateError):
        state.bind(topic_id="another")
    assert described(old) == described(new)
    assert format_of(old) == NEW


def test_a_migration_that_fails_leaves_the_old_format_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state-0.duckdb"
    state_file.create(path)
    before = described(path)
    with monkeypatch.context() as patched:
        next_format(patched, f"{STEP}; SELECT nothing")
        with pytest.raises(StateDefect):
            State(path)
    assert described(path) == before
    assert format_of(path) == OLD
    next_format(monkeypatch)
    State(path).close()
    assert format_of(path) == NEW


@pytest.mark.parametrize("found", ["0", "", "one", "-1", str(state_file.FORMAT + 1)])
def test_a_format_that_is_not_known_is_refused_and_left_alone(found: str, tmp_path: Path) -> None:
    path = tmp_path / "state-0.duckdb"
    state_file.create(path)
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'format'", [found])
    before = path.read_bytes()
    with pytest.raises(StateError, match="Use the newer quietcount"):
        State(path)
    assert path.read_bytes() == before


# The days of rejects


def test_the_reasons_of_a_day_are_remembered_for_that_day_and_the_next(tmp_path: Path) -> None:
    with world_in(tmp_path, [monthly()], published=False) as world:
        send_rejected(world)
        world.fold(DAY)
        assert world.there.noted_on(DAY) == {RejectReason.EMPTY}
        send_rejected(world, b"no event")
        world.fold(NEXT)
        # What comes in today takes nothing away of what was said of yesterday.
        assert world.there.noted_on(DAY) == {RejectReason.EMPTY}
        assert world.there.noted_on(NEXT) == {RejectReason.UNKNOWN_FRAMING}
        send_rejected(world)
        world.fold(NEXT + dt.timedelta(days=1))
        assert world.there.noted_on(DAY) == frozenset()


def test_how_many_were_rejected_is_nowhere_in_the_days_of_rejects(tmp_path: Path) -> None:
    with world_in(tmp_path, [monthly()], published=False) as world:
        for _ in range(5):
            send_rejected(world)
            world.fold(DAY)
        assert world.there.rows("SELECT day, note FROM noted_on") == [(DAY, "empty")]


def test_a_batch_that_is_not_kept_leaves_no_reason_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with world_in(tmp_path, [monthly()], published=False) as world:
        records = [Record(0, 0, 0, None, b"", ())]
        monkeypatch.setattr(State, "mark", killed)
        with pytest.raises(KeyboardInterrupt):
            world.folds[0].batch(records, DAY, {0: Mark(1, 0)})
        assert world.there.noted_on(DAY) == frozenset()
        world.folds[0].batch(records, DAY)
        assert world.there.noted_on(DAY) == {RejectReason.EMPTY}


def test_records_that_are_folded_again_have_their_reasons_again(tmp_path: Path) -> None:
    with world_in(tmp_path, [monthly()], published=False) as world:
        send_rejected(world)
        world.fold(DAY)
        world.there.begin_anew({"asked": dt.date(2024, 1, 1)}, world.log.topic_id(CASE_EVENTS), {}, {})
        assert world.there.noted_on(DAY) == {RejectReason.EMPTY}
        world.restart(utc(NEXT))
        world.fold(NEXT)
        assert world.there.noted_on(NEXT) == {RejectReason.EMPTY}


def test_a_release_keeps_yesterdays_reasons_and_forgets_older_ones(tmp_path: Path) -> None:
    start, end = dt.date(2024, 1, 1), dt.date(2024, 2, 1)
    with world_in(tmp_path, [monthly()], published=False) as world:
        world.emit([CaseEvent("Asked", case_key(1), event_id(1), 0, start, {"colour": "RED", "urgent": None})])
        send_rejected(world)
        world.fold(end - dt.timedelta(days=1))
        world.there.follow(world.log.topic_id(CASE_EVENTS))
        assert world.release(utc(end)) == 1
        assert world.there.noted_on(end - dt.timedelta(days=1)) == {RejectReason.EMPTY}
        assert world.release(utc(dt.date(2024, 3, 1))) == 1
        assert world.there.rows("SELECT * FROM noted_on") == []


def test_a_state_of_an_older_format_goes_on_folding_and_releasing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world_in(tmp_path, [monthly()], published=False) as world:
        event = CaseEvent("Asked", case_key(1), event_id(1), 0, DAY, {"colour": "RED", "urgent": None})
        world.log.append(CASE_EVENTS, [record_of(Codec(TRIALS), event)])
        world.fold(DAY)
        next_format(monkeypatch)
        world.restart(utc(NEXT))
        assert world.there["format"] == NEW
        send_rejected(world)
        world.fold(NEXT)
        assert world.there.noted_on(NEXT) == {RejectReason.EMPTY}
        world.release(utc(dt.date(2024, 2, 1)))
        assert world.there["format"] == NEW
        assert list(world.released.values()) == [(1,)]
