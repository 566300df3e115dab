"""Core dumps: none of a process whose memory holds exact counts or secrets.

This module uses the standard library alone, because the process that serves metrics loads it, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import resource
from typing import Final

__all__ = ["forbid_core_dumps"]

_PR_SET_DUMPABLE: Final = 4


def forbid_core_dumps() -> None:
    """Forbid core dumps of this process, and keep other processes of this user out of its memory.

    A limit of zero keeps a dump out of a file, but not out of a program to which the kernel pipes dumps
    (systemd-coredump). A process that is not dumpable is dumped to neither. If the system refuses either, the process
    goes on without it. A program that this process executes has to do it again: the kernel forgets it then.
    """
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, AttributeError):  # no prctl: not Linux
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
