"""The history of a schema folder: `fingerprints.txt`, a line for every committed version, which never changes.

A line is: event type, version, CRC-64-AVRO fingerprint, SHA-256 of the definition (see `definition.digest`). The
fingerprint alone would not show a default or a bound that was edited in place.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from quietcount_schemas.finding import Finding, Refused, place

__all__ = ["HISTORY_FILE", "HistoryReason", "Recorded", "check_history", "read_history", "record_history"]

HISTORY_FILE = "fingerprints.txt"

_LINE = re.compile(
    r"(?P<event>[A-Za-z]\w*) (?P<version>[1-9]\d*) (?P<fingerprint>[0-9a-f]{16}) (?P<digest>[0-9a-f]{64})"
)
_SECOND = 2
"""A second version shows that there was a first one to keep."""
_HEADER = """\
# The committed history of these schemas: event type, version, CRC-64-AVRO fingerprint, SHA-256 of the definition.
# A committed version never changes. `quietcount schemas check --record` adds the lines of new versions.
"""
_RECORD = "run: quietcount schemas check --record"
_RESTORE = "Restore the file from your version control"


class HistoryReason(StrEnum):
    """Why a folder differs from its history."""

    CHANGED = "committed_version_changed"
    VANISHED = "committed_version_vanished"
    UNRECORDED = "version_not_recorded"
    MISSING = "history_missing"


class Recorded(NamedTuple):
    """One line of the history."""

    event: str
    version: int
    fingerprint: str
    digest: str

    def __str__(self) -> str:
        return f"{self.event} {self.version} {self.fingerprint} {self.digest}"


def read_history(root: Path) -> dict[tuple[str, int], Recorded] | None:
    """Return the history of a folder by event type and version, or None if it has none yet.

    Raises Refused for a line that is not one of a history, or that is there twice.
    """
    path = root / HISTORY_FILE
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        what = f"cannot be read ({type(error).__name__})"
        raise Refused(Finding(str(path), what, "Restore it from your version control")) from None
    lines: dict[tuple[str, int], Recorded] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise Refused(Finding(f"{path}, line {number}", "not a line of a schema history", _RESTORE))
        recorded = Recorded(match["event"], int(match["version"]), match["fingerprint"], match["digest"])
        if (recorded.event, recorded.version) in lines:
            raise Refused(Finding(f"{path}, line {number}", "the version is recorded twice", _RESTORE))
        lines[recorded.event, recorded.version] = recorded
    return lines


def check_history(
    root: Path,
    history: dict[tuple[str, int], Recorded] | None,
    files: Collection[tuple[str, int]],
    present: dict[tuple[str, int], tuple[str, Recorded]],
    *,
    required: bool,
) -> Iterator[Finding]:
    """Yield where a folder differs from its history.

    `files` are the event types and versions that have a file; `present` has the file and line of those that are
    sound. A file with faults of its own already has findings.
    """
    file = str(root / HISTORY_FILE)
    for key, recorded in (history or {}).items():
        event, version = key
        if key not in files:
            yield Finding(
                place(file, f"{event} {version}"),
                "the file of a committed version is gone",
                "Restore it: messages and statistics may still need it",
                HistoryReason.VANISHED,
            )
        elif key in present and present[key][1] != recorded:
            yield Finding(
                present[key][0],
                "a committed version changed",
                f"Restore it, and put the change into {event}/{_next(event, present)}.avsc",
                HistoryReason.CHANGED,
            )
    if history is None and not required:
        for event, version in files:
            if version == _SECOND:
                yield Finding(
                    place(file, event),
                    "there is no such file, and this event type has more than one version",
                    f"{_RESTORE}; if there never was one, {_RECORD}",
                    HistoryReason.MISSING,
                )
        return
    for key, (source, _) in present.items():
        if key not in (history or {}):
            yield Finding(source, "not in the history yet", _RECORD.capitalize(), HistoryReason.UNRECORDED)


def record_history(root: Path, present: Iterable[Recorded]) -> list[Recorded]:
    """Add the lines that the history lacks, change none, and return the added ones."""
    path = root / HISTORY_FILE
    history = read_history(root)
    missing = [line for line in present if (line.event, line.version) not in (history or {})]
    if missing:
        # An editor may have left the last line without its end; a new line must not be glued to it.
        before = _HEADER if history is None else "" if path.read_bytes().endswith(b"\n") else "\n"
        with path.open("a", encoding="utf-8") as file:
            file.write(before + "".join(f"{line}\n" for line in missing))
    return missing


def _next(event: str, present: dict[tuple[str, int], tuple[str, Recorded]]) -> int:
    return 1 + max(version for name, version in present if name == event)
