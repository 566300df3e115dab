"""The machine as the doctor finds it: its clock, its disks, the umask, the user."""

from __future__ import annotations

import contextlib
import ctypes
import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from quietcount_aggregates.ledger.chain import Chain
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.doctor.verdicts import fine, warning, wrong
from quietcount_consumers.monitoring import disks
from quietcount_consumers.wiring import watched_folders
from quietcount_schemas.finding import Finding

__all__ = ["Machine", "check_clock", "check_disk", "check_umask", "check_user"]

_MADE: Final = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
"""A clock that shows an earlier time is wrong: this version did not exist then."""
_SYNCHRONISED: Final = Path("/run/systemd/timesync/synchronized")
"""systemd's time service makes this file when it has set the clock."""
_TIME_ERROR: Final = 5
"""What adjtimex returns if nothing keeps the clock."""
_TIMEX_BYTES: Final = 1024
"""struct timex has 208 bytes at most; zeros in it ask, and set nothing."""
_SET_CLOCK: Final = "Set the clock, and let NTP keep it"
_LITTLE: Final = 0.1
_TOO_LITTLE: Final = 0.02


class Machine:
    """Asks the system, and changes nothing in it."""

    def now(self) -> dt.datetime:
        """Return the time of day, UTC."""
        return dt.datetime.now(dt.UTC)

    def synchronised(self) -> bool | None:
        """Return whether something keeps the clock; None if the system does not say."""
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
        """Return the umask of the process; None if it cannot be read without setting it."""
        with contextlib.suppress(OSError, ValueError):
            for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
                if line.startswith("Umask:"):
                    return int(line.split()[1], 8)
        return None

    def user(self) -> int:
        """Return the effective user's number."""
        return os.geteuid()


def check_user(machine: Machine, owner: int) -> Iterator[Finding]:
    """Look at who runs this; `owner` is the user who owns the private folder, or will own it."""
    if machine.user() != owner:
        yield warning(
            "user",
            f"this is user {machine.user()}, and the data belong to user {owner}, who has other rights",
            "Run the doctor as the service's user",
        )
    elif owner == 0:
        yield warning("user", "the service runs as root", "Give it a user who owns the data and the secrets")


def check_umask(machine: Machine) -> Iterator[Finding]:
    """Look at whether others may write to new files; the service sets its own umask when it starts."""
    mask = machine.umask()
    if mask is not None and mask & 0o022 != 0o022:
        yield warning("umask", f"it is {mask:04o}: others may write to new files", "Set it: umask 027")


def check_disk(machine: Machine, configuration: Configuration) -> Iterator[Finding]:
    """Look, coarsely, at how much room there is."""
    for folder, free in machine.free(configuration).items():
        if free < _TOO_LITTLE:
            yield wrong("disk", f"less than {_TOO_LITTLE:.0%} is free for the {folder}", "Free space; nothing is lost")
        elif free < _LITTLE:
            yield warning("disk", f"less than {_LITTLE:.0%} is free for the {folder}", "Free space")


def check_clock(machine: Machine, chain: Chain | None) -> Iterator[Finding]:
    """Look at the clock, which closes periods permanently; `chain` is None if the ledger cannot be read."""
    now = machine.now()
    if now < _MADE:
        yield wrong("clock", f"it shows {now:%Y-%m-%d}, before this version was made", _SET_CLOCK)
    elif chain is not None and chain.entries and now < chain.latest:
        yield wrong(
            "clock",
            f"it shows {now:%Y-%m-%d %H:%M} UTC, before the newest entry of the ledger: the clock is wrong, or was "
            "wrong when that entry was made, or --as-of made the entry",
            f"{_SET_CLOCK}; nothing is released until it is past that entry",
        )
    match machine.synchronised():
        case True:
            yield fine("clock", "something keeps it")
        case False:
            yield warning("clock", "nothing keeps it: the system says that it is not synchronised", "Let NTP keep it")
        case None:
            yield fine("clock", "the system does not say whether anything keeps it")
