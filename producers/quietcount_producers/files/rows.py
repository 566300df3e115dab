"""What every reader of a file yields, and how a file says what it is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from quietcount_producers.errors import EventRefused, ProducersError

__all__ = ["LONGEST_LINE", "FileFormat", "Row", "cell_text"]

LONGEST_LINE: Final = 64 * 1024
"""Characters. An event's line has some hundred; a longer one is no event, and must not fill the memory."""

_SUFFIXES: Final = {
    **dict.fromkeys((".csv", ".tsv", ".tab"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    **dict.fromkeys((".json", ".geojson"), "json"),
    **dict.fromkeys((".xlsx", ".xlsm"), "xlsx"),
}


class FileFormat(StrEnum):
    """A format that events are read from; what is JSON may be one object a line, a list, or written over many lines."""

    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    XLSX = "xlsx"

    @classmethod
    def guess(cls, path: Path, otherwise: FileFormat | None = None) -> FileFormat:
        """Return the format that the suffix of `path` names, or `otherwise`. Raises ProducersError."""
        suffix = path.suffix.lower()
        if suffix in _SUFFIXES:
            return cls(_SUFFIXES[suffix])
        if otherwise is not None:
            return otherwise
        if suffix in (".xls", ".xlsb", ".ods", ".numbers"):
            raise ProducersError(
                f"{path}: is a spreadsheet of a kind that is not read", "Save the file as .xlsx, or as CSV in UTF-8"
            )
        raise ProducersError(f"{path}: the name does not say the format", f"Give --format: one of {', '.join(cls)}")

    @property
    def of_bad_lines(self) -> FileFormat:
        """The format of the file that keeps the bad lines of one in this format."""
        return FileFormat.CSV if self in (FileFormat.CSV, FileFormat.XLSX) else FileFormat.JSONL


@dataclass(slots=True)
class Row:
    """One row: the line it begins on, its text, and either what it says or why it cannot be read.

    `values` are by column or key: stripped text of a CSV file without what is empty, typed values of the others.
    `columns` is the header and `cells` the row as it stands under it. `last` is the line the row ends on, if that is
    another. `faulty` are columns whose cells cannot be read, with the reason: they matter if the column does.
    """

    line: int
    original: str
    values: dict[str, object] = field(default_factory=dict)
    columns: Sequence[str] = ()
    cells: Sequence[str] = ()
    problem: EventRefused | None = None
    last: int = 0
    faulty: Sequence[EventRefused] = ()


def cell_text(value: object) -> str:
    """Return what a cell would be in a CSV file: days as 2023-10-03, whole numbers without a point."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, dt.datetime):
        return value.isoformat(" ", "seconds")
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    return str(value).strip()
