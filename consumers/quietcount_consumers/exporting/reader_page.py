"""README.md of an export: what somebody who was handed the folder has to know, in the words of the published file."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import duckdb

from quietcount_consumers.exporting.published_tables import Published
from quietcount_consumers.exporting.spreadsheet_cells import plain_text

__all__ = ["reader_page"]

_MARKED = re.compile(r"([\\`*\[\]|])")
_NOTHING_YET: Final = "Nothing is released yet. The next release: {}."


def reader_page(connection: duckdb.DuckDBPyConnection, published: Published, *, hxl: bool) -> str:
    """Return the page, in Markdown that also reads well as it is."""
    parts = (
        _head(published),
        _reading(connection),
        _protection(published),
        _changes(connection),
        _counted(published),
        _files(published, hxl=hxl),
    )
    return "\n".join(line for part in parts for line in part)


def _head(published: Published) -> Iterator[str]:
    about = published.about
    publisher = published.said("publisher")
    yield f"# {'Statistics of ' + _text(publisher) if publisher else 'Statistics'}"
    yield ""
    yield f"Edition {about['edition']} of {about['edition_date']}. " + (
        f"It holds data until {about['data_until']}; the next release: {_text(about['next_release'])}."
        if published.said("data_until")
        else _NOTHING_YET.format(_text(about["next_release"]))
    )
    yield ""
    yield f"* Publisher: {_text(about['publisher'])}"
    yield f"* Licence: {_text(about['licence'])}"
    yield f"* Contact: {_text(about['contact'])}"
    yield f"* Please cite it as: {_text(about['citation'])}"
    yield ""


def _reading(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    yield "## How to read a figure"
    yield ""
    yield "No figure here is an exact count. Each carries random noise, added once, so that all figures together tell"
    yield "little about whether a given person is among those counted. So read each figure with its margin:"
    yield ""
    yield "* `shown` is the figure to print: whole, and never below 0."
    yield "* `lower` and `upper` are its 95 % interval. Of 100 such intervals about 5 miss the true count."
    yield "* `estimate` is the same figure with its sign and decimals. To add figures up, add these."
    if connection.execute("SELECT 1 FROM averages LIMIT 1").fetchone():
        yield "* `average` is an average, and `average_lower` and `average_upper` are its 95 % interval. It is empty if"
        yield "  nobody can tell it, and `note` says so."
    yield "* `reliability` is good if the margin is up to a tenth of the figure, fair up to three tenths, else poor."
    yield ""
    row = connection.execute(
        "SELECT d.title, m.period_start, m.period_end, m.shown, m.lower, m.upper "
        "FROM margins m JOIN descriptions d USING (statistic) WHERE m.dimension = 'all' AND m.period = d.period "
        "ORDER BY list_position(['good', 'fair', 'poor'], m.reliability), m.period_end DESC, m.statistic LIMIT 1"
    ).fetchone()
    if row:
        title, start, end, shown, lower, upper = row
        yield f"For example: {_text(title)}, all together from {start} to {end}. Print: about {shown}."
        yield f"The true number is probably between {lower} and {upper}. If two intervals overlap, do not say that one"
        yield "count is higher than the other."
        yield ""
    horizons = {horizon for (horizon,) in connection.execute("SELECT DISTINCT horizon FROM budget").fetchall()}
    if "lifetime" in horizons:
        yield "Where a case counts in its lifetime, one that has counted as often as it may never counts again."
        yield "So figures fall over the years even if as many people come. Do not call that a fall in demand."
        yield ""
    if "year" in horizons:
        yield "Where a case counts in a calendar year, its limit begins again each January. So figures are higher"
        yield "early in a year and lower late in it. Compare the same months of two years, and only if counting"
        yield "began before both."
        yield ""


def _protection(published: Published) -> Iterator[str]:
    yield "## What it says of one person"
    yield ""
    yield _text(published.about["bound"])
    yield ""
    for sentence in dict.fromkeys(row["contribution"] for row in published.descriptions):
        named = ", ".join(f"`{row['statistic']}`" for row in published.descriptions if row["contribution"] == sentence)
        yield f"* {named}: {_text(sentence)}"
    yield ""


def _changes(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    yield "## What is provisional, and what is withheld"
    yield ""
    yield "A later release revises what is provisional. What is final never changes. What is withheld is never"
    yield "released: it is missing here, and it is not zero."
    yield ""
    provisional = connection.execute(
        "SELECT statistic, min(period_start), max(period_end) FROM ("
        "SELECT statistic, period_start, period_end, status FROM statistics UNION ALL "
        "SELECT statistic, period_start, period_end, status FROM averages WHERE noisy IS NOT NULL"
        ") WHERE status = 'provisional' GROUP BY 1 ORDER BY 1"
    ).fetchall()
    for statistic, start, end in provisional:
        yield f"* `{statistic}` is provisional from {start} to {end}."
    withheld = connection.execute("FROM withheld ORDER BY statistic, period_start").fetchall()
    for statistic, start, end, reason in withheld:
        yield f"* `{statistic}` is withheld from {start} to {end}: {_text(reason)}."
    if not provisional and not withheld:
        yield "* Nothing is provisional, and nothing is withheld."
    yield ""


def _counted(published: Published) -> Iterator[str]:
    yield "## What is counted"
    yield ""
    yield "| statistic | what it counts | unit | how a case counts | data until |"
    yield "| --- | --- | --- | --- | --- |"
    for row in published.descriptions:
        yield f"| `{row['statistic']}` | {_described(row)} | {row['unit']} | {_text(row['counting'])} | " + (
            f"{row['data_until']} |"
        )
    yield ""


def _described(row: Mapping[str, Any]) -> str:
    more = "" if row["description"] == "none" else f". {_text(row['description'])}"
    where = "" if row["conditions"] == "none" else f" (only if {_text(row['conditions'])})"
    return f"{_text(row['title'])}{where}{more}"


def _files(published: Published, *, hxl: bool) -> Iterator[str]:
    yield "## The files"
    yield ""
    yield "* `csv/` is for spreadsheets: UTF-8, commas, dates as 2023-12-31, decimals with a point. An empty cell means"
    yield "  that there is no value."
    if hxl:
        yield "  The second row of each file holds the hashtags of the Humanitarian Exchange Language (HXL)."
    yield "  A spreadsheet runs text that begins with = + - or @, and turns text such as 1-2 into a date. So an"
    yield "  apostrophe stands before such text: take it away to have the text back."
    yield "* `parquet/` is for DuckDB, pandas, polars and R. Types are exact there."
    yield "* `statistics.sqlite` is for SQLite, and Datasette: `datasette statistics.sqlite --metadata metadata.json`."
    yield "* `datapackage.json` says what each column of the CSV files holds, for data portals and Frictionless."
    yield ""
    yield "| table | what it holds |"
    yield "| --- | --- |"
    for table in published.tables:
        yield f"| `{table.name}` | {_text(table.description)} |"
    yield ""


def _text(text: str) -> str:
    """Return text from people so that it means nothing in Markdown."""
    return _MARKED.sub(r"\\\1", html.escape(plain_text(text), quote=False))
