"""A finding: one thing that is wrong with a schema, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from quietcount_schemas.errors import SchemasError

__all__ = ["Finding", "refusal"]

_SHOWN = 20  # a message of a thousand findings helps nobody; `quietcount schemas check` prints all


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong (`reason`, `message`), in which file or folder (`source`), at which field (`path`, or empty)."""

    source: str
    path: str
    reason: StrEnum
    message: str

    def __str__(self) -> str:
        where = f"{self.source}: {self.path}" if self.path else self.source
        text = f"{where}: {self.message} [{self.reason.value}]"
        # A file's name may hold anything, and what is printed must not act on a terminal or fail to encode.
        return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def refusal(findings: Iterable[Finding]) -> SchemasError:
    """Return the error that tells all of `findings`, or the first ones of many."""
    lines = [str(finding) for finding in findings]
    shown = lines[:_SHOWN]
    if len(lines) > _SHOWN:
        shown.append(f"and {len(lines) - _SHOWN} more: `quietcount schemas check` prints all")
    return SchemasError("event schemas refused:\n  " + "\n  ".join(shown))
