"""The report: one page that shows a published file to people, with pictures, margins and tables."""

from __future__ import annotations

from pathlib import Path

from quietcount_consumers.report.drawing import prepare
from quietcount_consumers.report.page import page_of
from quietcount_consumers.report.reading import read
from quietcount_consumers.report.words import LANGUAGES, Words

__all__ = ["LANGUAGES", "report"]


def report(path: Path, language: str, *, alone: bool = False) -> str:
    """Return the report about the published file at `path`, as HTML; the same file gives the same text.

    `alone` says that no project is around the file. Raises QueryError if it cannot be read, and DrawingMissing.
    """
    prepare()
    with read(path, language, alone=alone) as publication:
        return page_of(publication, Words(language))
