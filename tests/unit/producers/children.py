"""A forked child of this process, as gunicorn, Celery and multiprocessing make them; it must come to its end."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable

__all__ = ["forked", "forked_unnoticed"]

LONGEST = 30.0  # seconds: a child that hangs is a failure, and must not hang the tests


def forked(work: Callable[[], object], fork: Callable[[], int] = os.fork) -> str:
    """Do `work` in a child, and return what it returned as text, or the name of what it raised and its words."""
    read, write = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            said = str(work())
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    try:
        until = time.monotonic() + LONGEST
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return "it hangs"
            time.sleep(0.005)
        return os.read(read, 65536).decode()
    finally:
        os.close(read)


def forked_unnoticed(work: Callable[[], object]) -> str:
    """As `forked`, by a program that does not tell Python of it, as uWSGI can be set."""
    libc = ctypes.PyDLL(None)
    return forked(work, libc.fork)
