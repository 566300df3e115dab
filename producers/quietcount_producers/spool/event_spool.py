"""The spool: case events on the emitter's own disk until the log has them.

It is an embedded log in a private folder. `append` returns when the events are durable; a relay (see `relay`) sends
them on in order and notes how far it is. It purges what was sent, so that no byte of it is left. Beside the events the
spool keeps the relay's position and, if the log did not take what waited, that UTC day, but no time of arrival. Offsets
begin at a random number, so that the position does not count all that was ever emitted there.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import secrets
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quietcount_producers import forks
from quietcount_producers.embedded.embedded_log import EmbeddedLog
from quietcount_producers.embedded.sqlite_file import explained
from quietcount_producers.errors import LogError
from quietcount_schemas.log import CASE_EVENTS, NewRecord, Position, Record
from quietcount_schemas.private_files import make_private_folder

__all__ = ["EventSpool", "SpoolState"]

_STORE: Final = "store"
"""The inner folder. Files come and go there, so others cannot learn from the outer folder's modification time."""
_EVENTS: Final = "events.sqlite"
_LOCK: Final = "relay.lock"

_RELAYED: Final = "spool.relayed"
"""The topic of the relay's marks; the last one counts."""
_MARK: Final = struct.Struct(">qi")
"""A mark: the first offset that was not sent, and the ordinal of a UTC day, or 0 for none."""

_FIRST_BELOW: Final = 1 << 40
"""Offsets begin somewhere below: far above any number of events, and far below where SQLite's integers end."""

_PURGE_LEAST: Final = 10_000
"""How many events must have been sent for a purge while others wait: a purge copies what still waits."""
_PURGE_MOST: Final = 200_000
"""How many events may wait at a purge: it holds up emitters, and copying so many takes about a second."""


@dataclass(frozen=True, slots=True)
class SpoolState:
    """What an operator may know of a spool: not how many events wait, and of no event when it came."""

    empty: bool
    waiting_since: dt.date | None = None
    """The UTC day on which the log first did not take what waited; the spool has not been empty since."""


class EventSpool:
    """A spool in `folder`, which is its own (mode 0700) and is made unless `create` is false; a LogWriter.

    Any number of processes may append. One at a time relays: the one that got true from `hold`. Safe to share between
    threads, and across a fork, after which the child does not relay. Raises LogError if the folder or the file in it is
    not in order.
    """

    def __init__(self, folder: str | os.PathLike[str], *, create: bool = True) -> None:
        self.folder = folder = Path(folder)
        self.store = store = folder / _STORE
        """The folder for files that belong to this spool."""
        if not create and not self.exists(folder):
            raise LogError(
                f"There is no spool at {folder} yet; the first event that is emitted makes it",
                "If there was one, see that its disk is mounted",
            )
        _make(folder, store)
        self._lock = _Lock(store / _LOCK)
        self._log = EmbeddedLog(store / _EVENTS, create=create)
        self._unstored = False
        self._unscrubbed = True  # a process that is killed while it purges leaves purged events in the WAL
        self.fault: LogError | None = None
        """Why the relay's position, or the purge of what was sent, was not stored; the relay tries again."""
        try:
            for topic in (CASE_EVENTS, _RELAYED):
                self._log.create_topic(topic, first=secrets.randbelow(_FIRST_BELOW))
            self._position, self._day = self._mark()
        except BaseException:
            self._log.close()
            raise

    @staticmethod
    def exists(folder: str | os.PathLike[str]) -> bool:
        """Return whether there is a spool in `folder`. Raises LogError if it is no folder or cannot be read."""
        folder = Path(folder)
        try:
            (folder / _STORE / _EVENTS).stat()
        except FileNotFoundError:
            return False
        except NotADirectoryError:
            raise LogError(
                f"The spool {folder} is a file, or below one", "Name a folder of its own (key 'emitter.spool')"
            ) from None
        except OSError as error:
            raise explained(error, folder, "look at") from error
        return True

    def __enter__(self) -> EventSpool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the relay's place and close the file."""
        self._lock.release()
        self._log.close()

    # For emitters

    def append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
        """Store `records` durably, all or none, and return their positions in the spool, in the order given."""
        return self._log.append(topic, records)

    def end(self) -> int:
        """Return the offset that the next event will have."""
        return self._log.end_offsets(CASE_EVENTS)[0]

    def relayed(self) -> int:
        """Return the offset before which the log has everything, as the relay of any process stored it."""
        return self._mark()[0]

    def state(self) -> SpoolState:
        """Return whether events wait, and since which day."""
        relayed, day = self._mark()
        empty = relayed >= self.end()
        return SpoolState(empty, dt.date.fromordinal(day) if day and not empty else None)

    # For the relay

    def hold(self) -> bool:
        """Become the one that relays and read its position, or return false if another process or thread relays.

        `close` gives the place back, and so does the system however the process ends.
        """
        if self._lock.held:
            return True
        if not self._lock.acquire():
            return False
        self._position, self._day = self._mark()
        self._unstored = False  # a child of a fork has its parent's
        return True

    @property
    def holding(self) -> bool:
        """Whether this is the one that relays."""
        return self._lock.held

    def waiting(self, limit: int) -> list[Record]:
        """Return the first `limit` events that the log does not have, in the order they were emitted."""
        return self._log.poll(CASE_EVENTS, {0: self._position}, self._log.end_offsets(CASE_EVENTS), limit)

    def forward(self, position: int) -> None:
        """Note that the log has everything before `position`, durably.

        If the disk takes nothing, the position stays in memory, `fault` says so, and it is stored later: events go
        on being sent, and a crash before then sends some of them twice.
        """
        self._position = position
        self._unstored = True
        self._store_mark(0 if position >= self.end() else self._day)

    def unreached(self, today: dt.date) -> None:
        """Note that the log does not take what waits; only the first day of it is kept."""
        if self._position < self.end() and not self._day:
            self._store_mark(today.toordinal())

    def tidy(self) -> None:
        """Purge what was sent, if that is worth its cost now: always if nothing waits. `fault` says what went wrong."""
        if self._unstored:
            self._store_mark(self._day)
            if self._unstored:
                return  # a crash would send it again, so it has to stay
        try:
            sent = self._position - self._log.beginning_offsets(CASE_EVENTS)[0]
            waits = self.end() - self._position
            if sent > 0 and (not waits or (sent >= max(waits, _PURGE_LEAST) and waits <= _PURGE_MOST)):
                self._unscrubbed = not self._log.purge(CASE_EVENTS, {0: self._position})
                last = self._log.end_offsets(_RELAYED)[0] - 1
                if not waits and self._log.beginning_offsets(_RELAYED)[0] < last:
                    self._unscrubbed = not self._log.purge(_RELAYED, {0: last})
            elif self._unscrubbed:
                self._unscrubbed = not self._log.scrub()
        except LogError as error:
            self.fault = error
        else:
            self.fault = None

    def _store_mark(self, day: int) -> None:
        try:
            self._log.append(_RELAYED, [NewRecord(None, _MARK.pack(self._position, day), 0)])
        except LogError as error:
            self.fault = error
        else:
            self.fault = None
            self._unstored = False
            self._day = day

    def _mark(self) -> tuple[int, int]:
        while True:
            # In this order: the last mark is never purged, so the two are equal only while there was none.
            beginning = self._log.beginning_offsets(_RELAYED)[0]
            end = self._log.end_offsets(_RELAYED)[0]
            if beginning == end:
                return self._log.beginning_offsets(CASE_EVENTS)[0], 0
            marks = self._log.poll(_RELAYED, {0: end - 1}, {0: end}, 1)
            if marks:  # else the relay has stored another and purged this one meanwhile
                try:
                    position, day = _MARK.unpack(marks[-1].value)
                except struct.error as error:
                    raise explained(error, self.folder, "read") from error
                return position, day


class _Lock:
    """The relay's place: an exclusive lock on a file, which the system takes back when the process ends.

    A child that is forked off shares it, and would keep it after its parent's end, though it relays nothing. So the
    child lets go of it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._guard = threading.RLock()  # a fork must not come between opening the file and keeping its descriptor
        forks.watch(self)

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def acquire(self) -> bool:
        with self._guard:
            try:
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise explained(error, self._path, "lock") from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            except OSError as error:
                os.close(descriptor)
                raise explained(error, self._path, "lock") from error
            self._descriptor = descriptor
            return True

    def release(self) -> None:
        with self._guard:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                with contextlib.suppress(OSError):
                    os.close(descriptor)

    def before_fork(self) -> None:
        self._guard.acquire()

    def after_fork(self) -> None:
        self._guard.release()

    def after_fork_in_child(self) -> None:
        self._guard.release()
        self.release()


def _make(folder: Path, store: Path) -> None:
    """Make the two folders with mode 0700. If a folder holds other things, it is not ours to close to other users."""
    try:
        if folder.exists() and not folder.is_dir():
            raise LogError(f"The spool {folder} is a file", "Name a folder of its own (key 'emitter.spool')")
        if folder.is_dir():
            if folder.stat().st_mode & 0o077 and any(each.name != _STORE for each in folder.iterdir()):
                raise LogError(
                    f"The spool's folder {folder} holds other files and is open to other users",
                    "Name a folder of its own (key 'emitter.spool'), or take the others' rights away: "
                    f"chmod 700 {folder}",
                )
        else:
            folder.parent.mkdir(parents=True, exist_ok=True)
        make_private_folder(folder)
        make_private_folder(store)
    except OSError as error:
        raise LogError(
            f"Cannot make the spool's folder {folder}: {os.strerror(error.errno or 0).lower()}",
            "Check the key 'emitter.spool', and that its disk can be written and has space",
        ) from error
