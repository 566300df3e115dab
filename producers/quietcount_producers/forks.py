"""Forks: how what a process has open gets through a fork of it, as by `gunicorn --preload`, Celery or multiprocessing.

A child has none of its parent's threads, and its locks are as they were at that moment. Of an SQLite file that was open
it takes the locks for its own though the system gave it none, so it may damage the file, even if it opens the file
again by itself (https://www.sqlite.org/howtocorrupt.html, section 2.6). So whoever has such things is told before a
fork and after it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Protocol

__all__ = ["Forked", "held_off", "known", "watch"]


class Forked(Protocol):
    """Something that a fork concerns. No thread may hold a lock of it while it asks for another one's."""

    def before_fork(self) -> None:
        """Bring it into a state that parent and child can share, and keep the other threads from changing it."""
        ...

    def after_fork(self) -> None:
        """Let the other threads of the parent go on."""
        ...

    def after_fork_in_child(self) -> None:
        """Make it the child's own, or unusable there."""
        ...


_watched: weakref.WeakSet[Forked] = weakref.WeakSet()
_guard = threading.RLock()
_forking: list[Forked] = []
"""What was told of the fork that is under way: each that was told before it has to be told after it."""


def watch(each: Forked) -> None:
    """Tell `each` of the forks of this process as long as it exists."""
    with _guard:
        _watched.add(each)


def known() -> list[Forked]:
    """Return everything that is watched."""
    with _guard:
        return list(_watched)


@contextlib.contextmanager
def held_off() -> Iterator[None]:
    """Let no other thread fork meanwhile: what is being opened is not watched yet."""
    with _guard:
        yield


def _before() -> None:
    _guard.acquire()
    for each in list(_watched):
        each.before_fork()
        _forking.append(each)


def _after() -> None:
    for each in _forking:
        each.after_fork()
    _forking.clear()
    _guard.release()


def _after_in_child() -> None:
    for each in _forking:
        each.after_fork_in_child()
    _forking.clear()
    _guard.release()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
