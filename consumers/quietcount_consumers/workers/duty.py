"""What a process does: fold, release, or both."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from quietcount_consumers.errors import ServiceError

__all__ = ["BOTH", "Duty", "Role", "duty_of"]

_RANGES: Final = re.compile(r"\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*")


class Role(StrEnum):
    """What `run --role` names."""

    BOTH = "both"
    FOLD = "fold"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Duty:
    """A role; a process that folds alone has its `partitions`."""

    role: Role = Role.BOTH
    partitions: tuple[int, ...] = ()

    def folded(self, partitions: int) -> list[int]:
        """Return which of so many partitions the process folds. Raises ServiceError for one that there is not."""
        if self.role is Role.BOTH:
            return list(range(partitions))
        beyond = [partition for partition in self.partitions if partition >= partitions]
        if beyond:
            raise ServiceError(
                f"--partitions names partition {beyond[0]}, and the log has 0 to {partitions - 1}",
                "Name partitions that are there",
            )
        return list(self.partitions)


BOTH: Final = Duty()
"""That of a process which does all."""


def duty_of(role: str, partitions: str | None) -> Duty:
    """Return what the options of `run` ask for; `partitions` is as in "0-3,6". Raises ServiceError."""
    asked = Role(role)
    if (partitions is None) is (asked is Role.FOLD):
        raise ServiceError(
            "--role fold needs --partitions" if partitions is None else f"--partitions means nothing to --role {role}",
            "A worker is told which partitions it folds: quietcount run --role fold --partitions 0-3",
        )
    if partitions is None:
        return Duty(asked)
    if not _RANGES.fullmatch(partitions):
        raise ServiceError(
            f"--partitions {partitions!r}: is no list of partitions", "Write numbers and ranges, as in 0-3,6"
        )
    found: set[int] = set()
    for part in partitions.split(","):
        first, _, last = part.partition("-")
        if last and int(last) < int(first):
            raise ServiceError(f"--partitions {part}: ends before it begins", "Write the smaller number first")
        if int(last or first) - int(first) >= 10_000:
            raise ServiceError(f"--partitions {part}: no log has so many", "Write numbers and ranges, as in 0-3,6")
        found.update(range(int(first), int(last or first) + 1))
    return Duty(asked, tuple(sorted(found)))
