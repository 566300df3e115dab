"""What is forgotten is gone from the bytes of every file, and not only from the tables."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pytest
from tests.aggregates_world import SECRET, TRIALS, ForgetfulLog, World, marks_held, utc, world_in
from tests.populations import population_of
from tests.privacy.planted_bytes import found

from quietcount_aggregates.errors import StateError
from quietcount_aggregates.noise import DiscreteLaplace
from quietcount_aggregates.populations import Horizon, Population
from quietcount_aggregates.settling import Settler
from quietcount_aggregates.state import state_file
from quietcount_aggregates.state.state import State
from quietcount_aggregates.state.state_file import OPEN_EVENT_COLUMNS
from quietcount_consumers.embedded_ledger import EmbeddedLedger
from quietcount_producers.embedded.embedded_log import EmbeddedLog
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.quick

SINCE, END = dt.date(2024, 1, 1), dt.date(2024, 2, 1)
EVENTS = 3000


def populations() -> list[Population]:
    return [
        population_of(
            "asked", events=["Asked"], registry=TRIALS, since=SINCE, epsilon=0.5, period=Period.MONTH, by=["colour"]
        ),
        population_of(
            "daily",
            events=["Asked"],
            registry=TRIALS,
            since=SINCE,
            epsilon=0.5,
            period=Period.DAY,
            horizon=Horizon.YEAR,
        ),
    ]


def events_on(day: dt.date, seed: int, count: int = EVENTS) -> list[CaseEvent]:
    """Return events of cases that come once, each."""
    rng = random.Random(seed)
    return [
        CaseEvent(
            "Asked",
            rng.randbytes(16),
            uuid.UUID(bytes=rng.randbytes(16), version=4).bytes,
            0,
            day,
            {"colour": rng.choice(("RED", "GREEN", "NONE")), "urgent": rng.choice((True, False, None))},
        )
        for _ in range(count)
    ]


def marks_of(events: list[CaseEvent]) -> list[bytes]:
    """Return the bytes by which the state holds each event, within its case."""
    keys = np.frombuffer(b"".join(event.case_key for event in events), dtype=np.uint8).reshape(-1, 16)
    ids = np.frombuffer(b"".join(event.event_id for event in events), dtype=np.uint8).reshape(-1, 16)
    # A 128-bit integer lies in DuckDB's file with its low word first, each word little-endian.
    return [
        int(low).to_bytes(8, "little") + int(high).to_bytes(8, "little") for high, low in SECRET.event_marks(keys, ids)
    ]


def settled(world: World) -> None:
    """Write everything out, as the end of a process does."""
    world.there.connection.execute("CHECKPOINT")


def lived(folder: Path, check: Callable[[World, list[CaseEvent], list[CaseEvent]], None]) -> None:
    """Fold a closed month, days before the first period, and an open month; then release."""
    closed, before, still_open = (
        events_on(day, seed) for seed, day in enumerate((dt.date(2024, 1, 10), dt.date(2023, 12, 1), END))
    )
    folder.mkdir()
    with EmbeddedLog(folder / "log.sqlite") as log, EmbeddedLedger(folder / "ledger.sqlite") as ledger:
        log.create_topic(CASE_EVENTS, 1)
        with world_in(folder, populations(), log=log, ledger_log=ledger, mechanism=DiscreteLaplace()) as world:
            world.emit(closed + before + still_open)
            world.fold(END, iter(lambda: 700, 0))
            settled(world)
            check(world, closed + before, still_open)


@pytest.mark.promise("forgetting")
def test_no_key_and_no_id_of_a_closed_period_is_left_in_any_file(tmp_path: Path) -> None:
    def check(world: World, gone: list[CaseEvent], kept: list[CaseEvent]) -> None:
        folder = world.folder
        names = [part for event in gone for part in (event.case_key, event.event_id)]
        assert sum(found(folder, names).values()) >= len(names), "the search does not find what is there"
        world.release(utc(END))
        settled(world)
        assert found(folder, names) == {}
        assert found(folder, marks_of(kept)), "open periods stay"
        world.close()
        assert found(folder, names) == {}

    lived(tmp_path / "world", check)


def residue(world: World, gone: list[CaseEvent]) -> int:
    """Release, and return how many marks that nothing needs any more the state's files hold."""
    # Events before the first period count nowhere, so that not even their marks are kept.
    needless = marks_of([event for event in gone if event.occurred_on < SINCE])
    assert found(world.folder, needless).get("state-0.duckdb", 0) > len(needless) // 2, "the search finds too little"
    world.release(utc(END))
    settled(world)
    return sum(found(world.folder, needless).values())


def test_marks_that_nothing_needs_any_more_are_gone_from_the_state(tmp_path: Path) -> None:
    left: list[int] = []
    lived(tmp_path / "world", lambda world, gone, _: left.append(residue(world, gone)))
    assert left == [0]


def _in_place(statements: Callable[[str], list[str]]) -> Callable[[State, str, object], None]:
    """Return a rewrite that replaces the tables within the file that lives on."""

    def rewrite(self: State, fill: str, _: object) -> None:
        connection = self.connection
        connection.execute("ATTACH ':memory:' AS next")
        connection.execute("USE next")
        connection.execute(state_file.schema())
        connection.execute('USE "state-0"')
        connection.execute(fill)
        names = [
            row[0]
            for row in connection.execute(
                "SELECT table_name FROM duckdb_tables() WHERE database_name = 'next'"
            ).fetchall()
        ]
        for name in names:
            for statement in statements(name):
                connection.execute(statement)
        connection.execute("DETACH next")
        connection.execute("CHECKPOINT")

    return rewrite


def _deleted(name: str) -> list[str]:
    return [f"DELETE FROM {name}", f"INSERT INTO {name} SELECT * FROM next.{name}"]


def _dropped(name: str) -> list[str]:
    if name in ("meta", "offsets", "first_open"):  # these hold no mark, and need their keys
        return _deleted(name)
    return [f"DROP TABLE {name}", f"CREATE TABLE {name} AS FROM next.{name}"]


MUTANTS = {"DELETE and CHECKPOINT": _deleted, "DROP TABLE and CHECKPOINT": _dropped}


@pytest.mark.check
@pytest.mark.parametrize("mutant", list(MUTANTS))
def test_forgetting_within_a_file_that_lives_on_is_caught(
    mutant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(State, "rewrite", _in_place(MUTANTS[mutant]))
    left: list[int] = []
    lived(tmp_path / "world", lambda world, gone, _: left.append(residue(world, gone)))
    print(f"{mutant}: {left[0]} of {EVENTS} marks left")
    assert left[0] > 0


@pytest.mark.promise("forgetting")
def test_the_state_holds_nothing_of_a_closed_event_but_its_marks(tmp_path: Path) -> None:
    def check(world: World, gone: list[CaseEvent], kept: list[CaseEvent]) -> None:
        world.release(utc(END))
        connection = world.there.connection
        assert connection.execute("SELECT count(*), min(occurred_on) FROM open_events").fetchone() == (len(kept), END)
        columns = {row[0] for row in connection.execute("DESCRIBE closed_events").fetchall()}
        assert columns == {"population", "event_mark", "case_mark", "period"}
        # The order of the marks says nothing of the order of arrival.
        query = "SELECT event_mark, period FROM closed_events WHERE population = 'asked'"
        rows = connection.execute(query).fetchall()
        assert rows == sorted(rows)
        held = [marks for (place, _), marks in marks_held(world.there).items() if place == "limits"]
        assert [len(marks) for marks in held] == [EVENTS, EVENTS]
        assert held == [sorted(marks) for marks in held]

    lived(tmp_path / "world", check)


# ---------------------------------------------------------------- years


def yearly(world: World) -> list[tuple[int, int]]:
    """Return each year of which cases have used up limits, with how many, from the files themselves."""
    listed = [each for each in world.there.used_up if each.population == "daily"]
    assert len(listed) == len(list(world.folder.glob("state-0.limits.daily.*")))
    world.there.limits.check_whole(listed)
    return [(each.year, each.marks) for each in listed]


def readable_again(folder: Path, twin: Callable[[World], None] = lambda _: None) -> list[int]:
    """Return how many events of before a release can be read after it, and after the log forgot its purge twice."""
    before, after = events_on(dt.date(2024, 1, 10), 1, 20), events_on(END, 2, 10)
    log = ForgetfulLog()
    left = []
    folder.mkdir()
    with world_in(folder, populations(), log=log, published=False) as world:
        world.emit(before)
        world.fold(END)
        world.release(utc(END))
        world.emit(after)
        left.append(len(log.records[0]))
        for again in (world.releaser.purge, lambda: world.restart(utc(END))):
            twin(world)
            log.forget()
            again()
            left.append(len(log.records[0]))
    return [count - len(after) for count in left]


def test_a_log_that_forgets_that_it_was_purged_is_purged_again_at_the_next_tick_or_start(tmp_path: Path) -> None:
    assert readable_again(tmp_path / "world") == [0, 0, 0]


def test_a_twin_that_does_not_remember_what_it_purged_is_found_out(tmp_path: Path) -> None:
    def careless(world: World) -> None:
        with world.there.transaction():
            world.there.purged = {}

    assert readable_again(tmp_path / "world", careless) == [0, 20, 20]


def test_a_new_log_is_not_purged_by_where_the_old_one_was(tmp_path: Path) -> None:
    log = ForgetfulLog()
    with world_in(tmp_path, populations(), log=log, published=False) as world:
        world.emit(events_on(dt.date(2024, 1, 10), 1, 20))
        world.fold(END)
        world.release(utc(END))
        assert world.there.purged == {0: 20}
        log.records, log.ends = [[]], [0]
        world.there.follow("another")
        assert world.there.purged == {}
        world.emit(events_on(END, 2, 10))
        world.fold(END)
        world.releaser.purge()
        assert len(log.records[0]) == 10


@pytest.mark.promise("year-forgotten")
def test_a_years_secret_and_marks_are_gone_when_its_last_period_is_released(tmp_path: Path) -> None:
    with world_in(tmp_path / "world", populations()[1:], published=False) as world:
        world.emit(events_on(dt.date(2024, 6, 3), 1, 40))
        world.fold(dt.date(2024, 12, 30))
        world.release(utc(dt.date(2024, 12, 30)))
        assert world.years.years() == [2024]
        assert yearly(world) == [(2024, 40)]
        secret = (world.folder / "years" / "0" / "2024").read_bytes().strip()
        world.emit(events_on(dt.date(2025, 1, 7), 2, 40))
        world.fold(dt.date(2025, 1, 6))
        world.release(utc(dt.date(2025, 1, 6)))
        assert world.years.years() == [2025]
        assert yearly(world) == []
        assert all(secret not in path.read_bytes() for path in world.folder.rglob("*") if path.is_file())
        world.release(utc(dt.date(2025, 1, 13)))
        assert yearly(world) == [(2025, 40)]


def years_kept(folder: Path, events: int) -> list[list[int]]:
    """Return the years that have a secret after each release of a world with so many events."""
    kept = []
    with world_in(folder, populations()[1:], published=False) as world:
        world.emit(events_on(dt.date(2024, 6, 3), 1, events))
        world.fold(dt.date(2024, 6, 4))
        for day in (dt.date(2024, 6, 10), dt.date(2024, 12, 30), dt.date(2025, 1, 2), dt.date(2025, 1, 6)):
            world.release(utc(day))
            kept.append(world.years.years())
    return kept


def test_years_have_secrets_by_the_clock_whether_anybody_came_or_not(tmp_path: Path) -> None:
    assert years_kept(tmp_path / "empty", 0) == years_kept(tmp_path / "busy", 40) == [[2024], [2024], [2025], [2025]]


@pytest.mark.check
def test_a_twin_that_makes_a_years_secret_when_it_needs_it_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settler, "_keep_years", lambda *_: None)
    assert years_kept(tmp_path / "empty", 0) != years_kept(tmp_path / "busy", 40)


def test_that_a_years_secret_is_missed_does_not_tell_that_anybody_came(tmp_path: Path) -> None:
    with world_in(tmp_path / "world", populations()[1:], published=False) as world:
        world.release(utc(dt.date(2024, 6, 10)))
        (world.folder / "years" / "0" / "2024").unlink()
        with pytest.raises(StateError, match="the secret of 2024 is missing"):
            world.release(utc(dt.date(2024, 6, 17)))
        assert world.years.years() == [], "it was made anew"


def test_a_years_marks_are_not_the_cases_marks_and_differ_between_years(tmp_path: Path) -> None:
    with world_in(tmp_path / "world", populations()[1:], published=False) as world:
        events = events_on(dt.date(2024, 6, 3), 1, 1)
        keys = np.frombuffer(events[0].case_key, dtype=np.uint8).reshape(1, 16)
        marks = SECRET.case_marks(keys)
        world.years.create(2024)
        world.years.create(2025)
        one, other = world.years.marks(2024, marks), world.years.marks(2025, marks)
        assert len({marks.tobytes(), one.tobytes(), other.tobytes()}) == 3
        assert (world.years.marks(2024, marks) == one).all()
        world.years.destroy(2024)
        world.years.destroy(2024)
        world.years.create(2024)
        assert not (world.years.marks(2024, marks) == one).all()


def test_a_years_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    with world_in(tmp_path / "world", populations()[1:], published=False) as world:
        marks = SECRET.case_marks(np.zeros((1, 16), dtype=np.uint8))
        world.years.create(2024)
        (world.folder / "years" / "0" / "2024").chmod(0o644)
        with pytest.raises(StateError, match="chmod 600"):
            world.years.marks(2024, marks)


# ---------------------------------------------------------------- what is published


def test_published_values_differ_from_the_exact_counts_as_often_as_the_noise_says(tmp_path: Path) -> None:
    """1,500 cells at scale 2: with noise, 1 - tanh(1/4) of them differ, give or take a false alarm below 1e-6."""
    population = population_of(
        "daily", events=["Asked"], registry=TRIALS, since=SINCE, epsilon=0.5, period=Period.DAY, by=["colour"]
    )
    end = utc(SINCE + dt.timedelta(days=500))
    events = [event for day in range(0, 500, 5) for event in events_on(SINCE + dt.timedelta(days=day), day, 3)]
    values: list[list[int]] = []
    for name, options in (("exact", {}), ("noised", {"mechanism": DiscreteLaplace()})):
        with world_in(tmp_path / name, [population], **options) as world:
            world.emit(events)
            world.fold(end.date())
            world.release(end)
            values.append([value for _, cells in sorted(world.released.items()) for value in cells])
    with duckdb.connect(str(tmp_path / "noised" / "statistics.duckdb"), read_only=True) as connection:
        rows = connection.execute("SELECT noisy FROM statistics ORDER BY period_start, cell").fetchall()
        columns = connection.execute(
            "SELECT column_name FROM duckdb_columns() WHERE table_name = 'statistics'"
        ).fetchall()
    published = [row[0] for row in rows]
    assert sorted(published) == sorted(values[1]), "the file holds the noised values"
    differing = float(np.mean(np.array(values[0]) != np.array(values[1])))
    expected = 1 - np.tanh(1 / 4)
    print(f"{differing:.3f} of the cells differ, {expected:.3f} expected")
    assert abs(differing - expected) < 5 * float(np.sqrt(expected * (1 - expected) / len(published)))
    assert not {name for (name,) in columns if "exact" in name or "true" in name}


def test_open_events_hold_no_column_that_names_anyone() -> None:
    assert "case_key" not in OPEN_EVENT_COLUMNS
    assert "event_id" not in OPEN_EVENT_COLUMNS
