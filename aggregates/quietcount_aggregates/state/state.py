"""state-N.duckdb: the private state of the fold of partition N.

It holds the offset in the same transaction as what was folded up to them, the events of open periods (as marks and
small codes), and the marks of closed events; those of limits are beside it (limits.py). It forgets by being written
again without what is to be forgotten: DuckDB leaves the bytes of dropped tables in free blocks of a file that lives on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from quietcount_aggregates.errors import StateError, StateUnwritable
from quietcount_aggregates.ledger.entries import Head
from quietcount_aggregates.populations import Population, counted_fields
from quietcount_aggregates.state import migrations, state_file
from quietcount_aggregates.state.limits import Limits, UsedUp
from quietcount_schemas.log import Mark
from quietcount_schemas.private_files import sync_folder
from quietcount_schemas.rejection import ClientFault, RejectReason

__all__ = ["State"]


_FOREIGN = {
    "partition": (
        "is the state of another partition: a file was renamed, or put in the place of another",
        "Give each file the name that it had",
    ),
    "topic_id": (
        "the log is another one than this state was made with: it was deleted, or its topic was created again",
        "Put the right log back. If it is lost permanently, run: quietcount ledger new-log",
    ),
    "ledger_id": ("the ledger is another one than this state was made with", "Put the right ledger back"),
    "secret_check": (
        "the service's secret is another one than this state was made with. Folding on would count cases again that "
        "have used up their contributions",
        "Put the right secret back. If it is lost permanently, run: quietcount ledger record-loss --lost secret",
    ),
}

# What a lost state knew; who has withdrawn stays withdrawn, if the state still knows that.
_LOST = ("open_events", "closed_events", "limits", "sums", "offsets", "first_open", "begins", "dead_letters")
# The key of the log's marks. It is not there in a state that never folded from a log that has any.
_MARKS = "log_marks"
_LOST_OPEN = "lost_open"
# The key of where the log was made to begin. It is not there in a state that never purged.
_PURGED = "log_purged"

_NOTES = {each.value: each for each in (*RejectReason, *ClientFault)}

_INDEXED = "SELECT DISTINCT table_name FROM duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY'"

# The places of the open events in a log that is no more, below 0 and in their order.
_PLACES_BEFORE = """
    CREATE OR REPLACE TEMP TABLE places AS
    SELECT place, row_number() OVER (ORDER BY place) - 1 - count(*) OVER () AS before
    FROM (SELECT "offset" AS place FROM open_events UNION SELECT first_offset FROM open_events)
"""


class State:
    """An open state file, for one process at a time; use `close` or a with statement."""

    def __init__(self, path: Path, partition: int = 0) -> None:
        self.path = path
        self.partition = partition
        self.limits = Limits(path)
        self._lock = state_file.locked(path)
        try:
            if not path.exists():
                state_file.check_no_rest(path)
                state_file.create(path)
            self.connection = state_file.connect(path)
            try:
                with self.guarded():
                    state_file.check_is_state(self.connection, path)
                self._migrate()
                self._clear_away()
            except BaseException:
                self.connection.close()
                raise
        except BaseException:
            self._lock.close()
            raise

    def _clear_away(self) -> None:
        """Remove drafts, for which the file must be held: another process could be writing its state again into one."""
        try:
            for leftover in self.path.parent.glob(self.path.name + ".ne[wx]*"):
                leftover.unlink(missing_ok=True)
        except OSError as error:
            raise state_file.explained(error, self.path) from error

    def _migrate(self) -> None:
        """Bring a file of an older format up to date, in one transaction; refuse one of a newer format."""
        found = self["format"]
        if found not in map(str, range(migrations.FIRST, state_file.FORMAT + 1)):
            raise StateError(
                f"{self.path}: written in format {found or 'unknown'}; this version reads format {state_file.FORMAT}",
                "Use the newer quietcount",
            )
        if found == str(state_file.FORMAT):
            return
        with self.transaction() as connection:
            for older in range(int(found), state_file.FORMAT):
                connection.execute(migrations.STEPS[older])
            self["format"] = str(state_file.FORMAT)

    def __enter__(self) -> State:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was committed is kept."""
        self.connection.close()
        self._lock.close()

    def __getitem__(self, key: str) -> str:
        rows = self.rows("SELECT value FROM meta WHERE key = ?", [key])
        return str(rows[0][0]) if rows else ""

    def __setitem__(self, key: str, value: str) -> None:
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [key, value])

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query; raise StateError when DuckDB refuses it."""
        with self.guarded() as connection:
            return connection.execute(sql, list(parameters)).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Run the body in one transaction: all of it is kept, or nothing."""
        with self.guarded():
            self.connection.execute("BEGIN")
            try:
                yield self.connection
                # The write-ahead log is made when there is first something to write.
                with state_file.private_files():
                    self.connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(duckdb.Error):
                    self.connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def guarded(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Turn what DuckDB raises in the body into a StateError, whose text quotes no data."""
        try:
            yield self.connection
        except duckdb.Error as error:
            raise state_file.explained(error, self.path) from error

    def bind(self, **identities: str) -> None:
        """Remember, or compare, what this state belongs to: the log's topic, the ledger, the secret.

        Raises StateError when one differs from what the state was made with.
        """
        for key, value in identities.items():
            known = self[key]
            if not known:
                with self.transaction():
                    self[key] = value
            elif known != value:
                what, remedy = _FOREIGN[key]
                raise StateError(f"{self.path}: {what}", remedy)

    @property
    def offsets(self) -> dict[int, int]:
        """Return the next offset of the partition, if it was read from."""
        return dict(self.rows('SELECT "partition", next_offset FROM offsets'))

    @property
    def marks(self) -> dict[int, Mark]:
        """Return the log's mark after the last record that was folded from each partition, if the log has marks."""
        return {int(partition): Mark(*mark) for partition, mark in json.loads(self[_MARKS] or "{}").items()}

    def mark(self, marks: Mapping[int, Mark]) -> None:
        """Remember the log's marks after what was folded; within the transaction that folds it."""
        # In the order of the partitions: theirs of arrival is nobody's business, and would differ from fold to fold.
        newest = sorted({**self.marks, **marks}.items())
        self[_MARKS] = json.dumps({str(partition): list(mark) for partition, mark in newest})

    @property
    def purged(self) -> dict[int, int]:
        """Return, per partition, the offset that the log was made to begin at; none if nothing was purged yet."""
        return {int(partition): offset for partition, offset in json.loads(self[_PURGED] or "{}").items()}

    @purged.setter
    def purged(self, beginnings: Mapping[int, int]) -> None:
        """Remember where the log was made to begin; within a transaction."""
        self[_PURGED] = json.dumps({str(partition): offset for partition, offset in sorted(beginnings.items())})

    @property
    def first_open(self) -> dict[str, dt.date]:
        """Return the first open day of each population that the state knows."""
        return dict(self.rows("SELECT population, day FROM first_open"))

    @property
    def used_up(self) -> list[UsedUp]:
        """Return the files of what cases have used up of their limits."""
        return [UsedUp(*row) for row in self.rows("SELECT population, year, generation, marks, checksum FROM limits")]

    def noted_on(self, day: dt.date) -> frozenset[RejectReason | ClientFault]:
        """Return what was seen on `day` of the fold's clock, it or the day before: why records were rejected, and what
        clients got wrong about records that count.
        """
        return frozenset(_NOTES[note] for (note,) in self.rows("SELECT note FROM noted_on WHERE day = ?", [day]))

    def note(self, seen: Collection[RejectReason | ClientFault], day: dt.date) -> None:
        """Remember what was seen on `day`; within the transaction that folds the records."""
        self.connection.execute("DELETE FROM noted_on WHERE day < ?::DATE - 1", [day])
        self.connection.execute(
            "INSERT OR IGNORE INTO noted_on SELECT ?::DATE, unnest(?::VARCHAR[])",
            [day, sorted(each.value for each in seen)],
        )

    @property
    def columns(self) -> list[str]:
        """Return the columns "Event.field" that the open events have, in order."""
        described = self.rows("SELECT column_name FROM (DESCRIBE open_events)")
        return [name for (name,) in described if "." in name]

    @property
    def head(self) -> Head:
        """Return the head of the ledger as this state last saw it."""
        return Head(int(self["head_length"]), bytes.fromhex(self["head_digest"]))

    def see(self, head: Head) -> None:
        """Remember how far the ledger went; within a transaction."""
        self["head_length"], self["head_digest"] = str(head.length), head.digest.hex()

    @property
    def released_on(self) -> dt.date | None:
        """Return the day of the newest settlement that this state counted; None before the first."""
        day = self["released_on"]
        return dt.date.fromisoformat(day) if day else None

    @property
    def purge_due(self) -> bool:
        """Return whether a release left the log to be purged."""
        return bool(self["purge_due"])

    @property
    def years(self) -> dict[int, str]:
        """Return, by year, the check of the secret under which the state's marks of that year were made."""
        rows = self.rows("SELECT key, value FROM meta WHERE key LIKE 'year %' AND value <> ''")
        return {int(key.removeprefix("year ")): value for key, value in rows}

    @property
    def begins(self) -> dict[str, dict[int, int]]:
        """Return by population, then by partition, where in the log that begins which it counts; see `begin_at`."""
        found: dict[str, dict[int, int]] = {}
        for population, partition, offset in self.rows('SELECT population, "partition", "offset" FROM begins'):
            found.setdefault(population, {})[partition] = offset
        return found

    @property
    def lost_open(self) -> dict[str, dt.date]:
        """Return the first open day of each population at the newest loss of a state."""
        return {name: dt.date.fromisoformat(day) for name, day in json.loads(self[_LOST_OPEN] or "{}").items()}

    def begin_at(self, population: str, place: Mapping[int, int]) -> None:
        """Let a population count what lies at `place` (by partition) or behind: the log's end at its declaration."""
        with self.transaction() as connection:
            connection.execute("DELETE FROM begins WHERE population = ?", [population])
            for partition, offset in place.items():
                connection.execute("INSERT INTO begins VALUES (?, ?, ?)", [population, partition, offset])

    def adopt(self, populations: Sequence[Population]) -> None:
        """Make room for what `populations` count, in one transaction.

        Nothing is folded again: a new population counts what is appended after its declaration (see `begin_at`), and
        what was folded before has no value in the columns that only it needs.
        """
        known, columns = self.first_open, set(self.columns)
        with self.transaction() as connection:
            for column in counted_fields(populations):
                if column not in columns:
                    connection.execute(f'ALTER TABLE open_events ADD COLUMN "{column}" INTEGER')
            for population in populations:
                if population.name not in known:
                    connection.execute("INSERT INTO first_open VALUES (?, ?)", [population.name, population.since])

    def check_whole(self) -> None:
        """Raise StateDamaged if any of the state cannot be read: DuckDB looks at a block only when it needs it.

        Reading a table leaves its index out, so each table that has one is written again as it is.
        """
        indexed = {name for (name,) in self.rows(_INDEXED)}
        with self.transaction() as connection:
            for (name,) in self.rows("SELECT table_name FROM duckdb_tables() WHERE NOT internal"):
                connection.execute(f'SELECT max(hash(t)) FROM "{name}" t').fetchall()
                if name in indexed:
                    connection.execute(f'INSERT OR REPLACE INTO "{name}" FROM "{name}"')
        with self.guarded() as connection:
            connection.execute("CHECKPOINT")
        self.limits.check_whole(self.used_up)

    def follow(self, topic_id: str) -> None:
        """Go on with a new log instead of one that was lost: from its beginning, and with all that is known.

        The places of open events move before every place of the new log, so that what came first keeps its turn. That
        they are counted down from 0 each time lets logs follow one another without end.
        """
        with self.transaction() as connection:
            connection.execute("DELETE FROM offsets")  # places in the old log
            connection.execute(_PLACES_BEFORE)
            connection.execute(
                'UPDATE open_events SET "offset" = of_version.before, first_offset = of_event.before '
                "FROM places AS of_version, places AS of_event "
                'WHERE of_version.place = "offset" AND of_event.place = first_offset'
            )
            connection.execute(
                'UPDATE begins SET "offset" = coalesce((SELECT min(before) FROM places WHERE place >= "offset"), 0)'
            )
            connection.execute('UPDATE withdrawn SET "offset" = -1')
            connection.execute("DROP TABLE places")
            self["topic_id"], self[_MARKS], self[_PURGED] = topic_id, "", ""

    def begin_anew(
        self,
        first_open: Mapping[str, dt.date],
        topic_id: str,
        start: Mapping[int, int],
        begins: Mapping[str, Mapping[int, int]],
    ) -> None:
        """Start after a recorded loss: at the place `start` of log `topic_id`, with the ledger's first open days.

        An event of a period that is settled by then counts nowhere: it may have counted. `begins` has the places at
        which populations begin that were declared after the ledger was opened.
        """
        with self.transaction() as connection:
            for table in _LOST:
                connection.execute(f"DELETE FROM {table}")
            connection.execute("DELETE FROM meta WHERE key LIKE 'year %'")
            connection.execute('UPDATE withdrawn SET "offset" = -1')
            for population, day in first_open.items():
                connection.execute("INSERT INTO first_open VALUES (?, ?)", [population, day])
            self[_LOST_OPEN] = json.dumps({name: day.isoformat() for name, day in sorted(first_open.items())})
            for name, place in begins.items():
                for partition, offset in place.items():
                    connection.execute("INSERT INTO begins VALUES (?, ?, ?)", [name, partition, offset])
            for partition, offset in start.items():
                connection.execute("INSERT INTO offsets VALUES (?, ?)", [partition, offset])
            for key in ("ledger_id", "secret_check", _MARKS):
                self[key] = ""
            # In another log that came before the next start, `start` would skip what was never folded.
            self["topic_id"], self.purged, self["purge_due"] = topic_id, start, "yes"

    def rewrite(self, fill: str, used_up: Sequence[UsedUp]) -> None:
        """Replace the file by a new one that the SQL script `fill` has filled (its schema is named `next`).

        `used_up` are the files of the limits that hold from then on; the others are removed at the end.
        The old file is closed, and its write-ahead log gone, before the new one takes its name: DuckDB would replay a
        leftover log into the wrong file. A crash before the last step leaves the old file as it was.
        """
        following = self.path.with_name(self.path.name + ".next")
        try:
            with state_file.private_files():
                self.connection.execute(f"ATTACH '{state_file.quoted(following)}' AS next")
                self.connection.execute("USE next")
                try:
                    self.connection.execute(state_file.schema())
                finally:
                    self.connection.execute(f"USE {state_file.main(self.connection)}")
                self.connection.execute(fill)
                for each in used_up:
                    self.connection.execute("INSERT INTO next.limits VALUES (?, ?, ?, ?, ?)", dataclasses.astuple(each))
                self.connection.execute("DETACH next")
                self.connection.execute("CHECKPOINT")
        except duckdb.Error as error:
            raise state_file.explained(error, self.path) from error
        self.connection.close()
        try:
            for path in (following, self.path):
                if path.with_name(path.name + ".wal").exists():
                    raise StateUnwritable(f"{path}: its write-ahead log could not be folded in", "Check the disk")
            with following.open("rb") as file:
                os.fsync(file.fileno())
            following.replace(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise StateUnwritable(
                f"{self.path}: cannot be replaced ({error.strerror})", "Check the folder and the disk"
            ) from error
        self.connection = state_file.connect(self.path)
        self.limits.remove_others(used_up)
