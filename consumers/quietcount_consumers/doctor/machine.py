"""The machine as the doctor finds it: its clock, its disks, the umask, the user."""

from __future__ import annotations

import contextlib
import ctypes
import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from quietcount_aggregates.ledger import Chain
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.doctor.verdicts import Verdict, fine, warning, wrong
from quietcount_consumers.monitoring import disks
from quietcount_consumers.wiring import watched_folders

__all__ = ["Machine", "check_clock", "check_disk", "check_umask", "check_user"]

# Before this version was written no clock was right that showed it.
_MADE: Final = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
# systemd's own service for the time leaves this file when it has set the clock.
_SYNCHRONISED: Final = Path("/run/systemd/timesync/synchronized")
_TIME_ERROR: Final = 5  # what adjtimex returns of a clock that nothing keeps
_TIMEX_BYTES: Final = 1024  # struct timex has 208 at most; zeros in it ask and set nothing
_LITTLE: Final = 0.1
_TOO_LITTLE: Final = 0.02


class Machine:
    """What is asked of the system; nothing of it is changed."""

    def now(self) -> dt.datetime:
        """Return the time of day, UTC."""
        return dt.datetime.now(dt.UTC)

    def synchronised(self) -> bool | None:
        """Return whether something keeps the clock; None where the system does not tell."""
        if _SYNCHRONISED.exists():
            return True
        try:
            state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
        except (OSError, AttributeError):  # no Linux
            return None
        return None if state < 0 else state != _TIME_ERROR

    def free(self, configuration: Configuration) -> dict[str, float]:
        """Return, by "data" and "secrets", the share of that folder's disk that is free, rounded down coarsely."""
        return dict(disks.free(watched_folders(configuration)))

    def umask(self) -> int | None:
        """Return the process's umask; None where it cannot be read without setting it."""
        with contextlib.suppress(OSError, ValueError):
            for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
                if line.startswith("Umask:"):
                    return int(line.split()[1], 8)
        return None

    def user(self) -> int:
        """Return the effective user's number."""
        return os.geteuid()


def check_user(machine: Machine, owner: int) -> Iterator[Verdict]:
    """Look at who runs this; `owner` is the user to whom the private folder belongs, or would."""
    if machine.user() != owner:
        yield warning(
            "user",
            f"this is user {machine.user()}, and the data belong to user {owner}, who may do other things",
            "Run the doctor as the service's user",
        )
    elif owner == 0:
        yield warning("user", "the service runs as root", "Give it a user of its own, and the data and secrets to that")


def check_umask(machine: Machine) -> Iterator[Verdict]:
    """Look at what files are made for others to write to; the service sets its own umask when it starts."""
    mask = machine.umask()
    if mask is not None and mask & 0o022 != 0o022:
        yield warning("umask", f"it is {mask:04o}: others may write to new files", "Set it: umask 027")


def check_disk(machine: Machine, configuration: Configuration) -> Iterator[Verdict]:
    """Look, coarsely, at how much room there is."""
    for folder, free in machine.free(configuration).items():
        if free < _TOO_LITTLE:
            yield wrong("disk", f"less than {_TOO_LITTLE:.0%} is free for the {folder}", "Make room; nothing is lost")
        elif free < _LITTLE:
            yield warning("disk", f"less than {_LITTLE:.0%} is free for the {folder}", "Make room")


def check_clock(machine: Machine, chain: Chain | None) -> Iterator[Verdict]:
    """Look at the clock, by which periods close for ever; `chain` is None where the ledger cannot be read."""
    now = machine.now()
    if now < _MADE:
        yield wrong("clock", f"it shows {now:%Y-%m-%d}, before this version was made", "Set it, and have it kept (NTP)")
    elif chain is not None and chain.entries and now < chain.entries[-1].recorded_at:
        yield wrong(
            "clock",
            f"it shows {now:%Y-%m-%d %H:%M} UTC, before the newest entry of the ledger: it is wrong, or was when that "
            "entry was made, or the entry was made with --as-of",
            "Set the clock, and have it kept (NTP); nothing is released until it is past that entry",
        )
    match machine.synchronised():
        case True:
            yield fine("clock", "it is kept")
        case False:
            yield warning(
                "clock", "nothing keeps it: the system says that it is not synchronised", "Have it kept (NTP)"
            )
        case None:
            yield fine("clock", "the system does not tell whether anything keeps it")
