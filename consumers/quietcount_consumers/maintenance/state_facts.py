"""What the private state belongs to, read without changing it."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from quietcount_aggregates.errors import StateError
from quietcount_aggregates.ledger.entries import Head
from quietcount_aggregates.state import migrations, state_file
from quietcount_aggregates.state.limits import UsedUp
from quietcount_consumers.configuration import Configuration

__all__ = ["StateFacts", "is_read", "state_missing", "state_of"]


@dataclass(frozen=True, slots=True)
class StateFacts:
    """What of a state the doctor compares with others; nothing of what it holds."""

    path: Path
    partition: int
    meta: Mapping[str, str]
    first_open: Mapping[str, dt.date]
    used_up: Sequence[UsedUp] = ()
    """The files of the limits that it lists."""

    @property
    def head(self) -> Head:
        """How far the state has seen the ledger go."""
        return Head(int(self.meta.get("head_length", "0")), bytes.fromhex(self.meta.get("head_digest", "")))


def state_of(configuration: Configuration, partition: int) -> StateFacts | None:
    """Read what a state belongs to; None where a service holds it. Raises StateError, also where it is missing."""
    path = configuration.state_file(partition)
    lock = path.with_name(path.name + ".lock")
    with contextlib.ExitStack() as stack:
        if lock.exists():
            try:
                held = stack.enter_context(lock.open("rb"))
                fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            except OSError as error:
                raise state_file.explained(error, path) from None
        if not path.exists():
            raise state_missing(path)
        state_file.check_opens(path)
        try:
            connection = stack.enter_context(contextlib.closing(duckdb.connect(str(path), read_only=True)))
            connection.execute("SET temp_directory = ''")
            state_file.check_is_state(connection, path)
            meta = dict(_rows(connection, "SELECT key, value FROM meta"))
            if not is_read(meta.get("format", "")):
                return StateFacts(path, partition, meta, {})
            first_open = dict(_rows(connection, "SELECT population, day FROM first_open"))
            used_up = _rows(connection, "SELECT population, year, generation, marks, checksum FROM limits")
            return StateFacts(path, partition, meta, first_open, [UsedUp(*row) for row in used_up])
        except (duckdb.Error, OSError) as error:
            raise state_file.explained(error, path) from None


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    return connection.execute(sql).fetchall()


def state_missing(path: Path) -> StateError:
    """Return the error for a state that is not there."""
    return StateError(
        f"{path}: is missing", "Put it back. If it is lost permanently, run: quietcount ledger record-loss"
    )


def is_read(number: str) -> bool:
    """Return whether this version reads a state of that format."""
    return number in map(str, range(migrations.FIRST, state_file.FORMAT + 1))
