"""The same ledger gives the same bytes: what of the public file DuckDB leaves to chance, and how that is settled.

DuckDB 2.0 leaves four things to chance:

* Threads number their blocks in the order in which they finish. How many rows are written together depends on the
  memory of the machine. `REPEATABLE` sets one thread, which writes each group of rows by itself.
* The compression FSST draws a sample at random. ALP and ZSTD leave gaps. `REPEATABLE` switches them off.
* Bit packing writes what was in memory in the place of each NULL. So a column of numbers, dates or times that may hold
  NULL is declared with `USING COMPRESSION uncompressed`.
* A block of strings that is nearly full keeps what was in memory between the offsets and the strings; a block of long
  strings keeps it in its last eight bytes. `detach` puts zeros there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt

from quietcount_aggregates.errors import PublicationDefect

__all__ = ["REPEATABLE", "detach"]

REPEATABLE: Final = (
    "SET threads = 1; SET write_buffer_row_group_count = 1; "
    "SET disabled_compression_methods = 'alp,alprd,dict_fsst,fsst,zstd'"
)
"""Statements for the connection that builds a file; `config` of `duckdb.connect` does not switch compression off."""

# DuckDB's storage format (src/include/duckdb/storage/storage_info.hpp): three headers, then blocks of 256 KiB, each of
# which begins with the checksum of the rest.
_HEADERS: Final = 3 * 4096
_BLOCK: Final = 256 * 1024
_CHECKSUM: Final = 8
_NEXT: Final = 8
"""The bytes at the end of a block of long strings that name the next one."""

_STRINGS: Final = """
    SELECT DISTINCT block_id, block_offset, compression, count, additional_block_ids
    FROM ({}) WHERE segment_type IN ('VARCHAR', 'BLOB') AND compression <> 'Constant'
"""
_STORED: Final = "FROM pragma_storage_info('public.{}')"

_Bytes = npt.NDArray[np.uint8]


class _Segment(NamedTuple):
    """Strings of one column: a header, their offsets, a gap, the strings. The long ones are in blocks of their own."""

    block: int
    offset: int
    compression: str
    rows: int
    long: list[int]


def detach(connection: duckdb.DuckDBPyConnection, path: Path, tables: Iterable[str]) -> None:
    """Write the database `public` to its file at `path`, detach it, and put zeros over remnants of memory in the file.

    `tables` are all its tables. Their layout is asked first: to open the file again would take long, because DuckDB
    reads all macros. Raises PublicationDefect if DuckDB laid the file out in a way that this was not made for.
    """
    connection.execute("CHECKPOINT public")
    stored = " UNION ALL ".join(_STORED.format(name) for name in tables)
    segments = [_Segment(*row) for row in connection.execute(_STRINGS.format(stored)).fetchall()]
    connection.execute("USE memory; DETACH public")
    file = np.memmap(path, np.uint8, "r+")
    for segment in segments:
        _clear(file, segment.block, _gap(segment, _contents(file, segment.block)))
        if segment.long:
            last = segment.long[-1]
            _clear(file, last, _contents(file, last)[-_NEXT:])
    file.flush()


def _contents(file: _Bytes, number: int) -> _Bytes:
    """Return the block of this number without its checksum, which has to be right."""
    block = file[_HEADERS + number * _BLOCK :][:_BLOCK]
    contents = block[_CHECKSUM:]
    if len(block) != _BLOCK or block[:_CHECKSUM].view("<u8")[0] != _checksum(contents):
        raise _unknown(f"block {number} is not where it was looked for")
    return contents


def _clear(file: _Bytes, number: int, remnant: _Bytes) -> None:
    """Put zeros in a part of the block of this number, and settle its checksum."""
    if remnant.any():
        contents = _contents(file, number)
        remnant[:] = 0
        file[_HEADERS + number * _BLOCK :][:_CHECKSUM].view("<u8")[0] = _checksum(contents)


def _gap(segment: _Segment, contents: _Bytes) -> _Bytes:
    """Return what lies between offsets and strings (src/storage/compression/: string_uncompressed.cpp, dictionary/)."""
    strings = contents[segment.offset :]
    size, end, index, indices = (int(field) for field in strings[:16].view("<u4"))
    match segment.compression:
        case "Uncompressed":
            begin = 8 + 4 * segment.rows
        case "Dictionary":
            begin = index + 4 * indices
        case other:
            raise _unknown(f"its strings are compressed with {other}")
    if not begin <= end - size <= end <= len(strings):
        raise _unknown(f"the strings of block {segment.block} are not where they were looked for")
    return strings[begin : end - size]


def _checksum(contents: _Bytes) -> int:
    """Return what DuckDB checks a block with (src/common/checksum.cpp)."""
    return int(np.bitwise_xor.reduce(contents.view("<u8") * np.uint64(0xBF58476D1CE4E5B9)) ^ np.uint64(5381))


def _unknown(what: str) -> PublicationDefect:
    return PublicationDefect(
        f"a defect of quietcount: the public file is laid out as no version of DuckDB did before: {what}",
        f"Report this line and the version of DuckDB ({duckdb.__version__}), and use the one in constraints.txt. The "
        "release is in the ledger and is not lost",
    )
