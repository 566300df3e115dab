"""Files of events as people have them, read row by row, each row with the line it begins on.

A reader never stops at a bad row: it says what is wrong and goes on, so that one pass finds every mistake. Reasons
never show what stands in the file, because what stands there can be somebody's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from quietcount_producers.files.columns import Columns
from quietcount_producers.files.csv_rows import csv_rows
from quietcount_producers.files.json_rows import json_rows
from quietcount_producers.files.rows import LONGEST_LINE, FileFormat, Row
from quietcount_producers.files.text_lines import Lines
from quietcount_producers.mapping import Reading

__all__ = ["LONGEST_LINE", "FileFormat", "Row", "rows"]


def rows(stream: BinaryIO, name: str, file_format: FileFormat, columns: Columns, reading: Reading) -> Iterator[Row]:
    """Yield the rows of `stream`, empty lines left out.

    `name` is what messages call the file; `columns` judges the header of a table. Raises ProducersError, before the
    first row, for a header that is not in order and for a file that is not what its format says.
    """
    match file_format:
        case FileFormat.XLSX:
            from quietcount_producers.files.workbook import workbook_rows  # other formats need no XML

            return workbook_rows(stream, name, reading, columns)
        case FileFormat.CSV:
            return csv_rows(Lines(stream, name, reading.encoding), reading, columns)
        case _:
            # The bad lines of a document stand one on each line, without what lay around their list.
            records = reading.records if file_format is FileFormat.JSON else None
            return json_rows(Lines(stream, name, reading.encoding), records)
