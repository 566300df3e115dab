"""datapackage.json: the CSV files as a Data Package, with the type and the meaning of each column."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from quietcount_consumers.exporting.csv_files import LINE_END
from quietcount_consumers.exporting.licences import licence_of
from quietcount_consumers.exporting.published_tables import Column, ExportedTable, Published
from quietcount_consumers.exporting.spreadsheet_cells import inert

__all__ = ["DATA_PACKAGE", "GENERATOR", "data_package"]

DATA_PACKAGE: Final = "datapackage.json"
GENERATOR: Final = "quietcount export"
"""What the package says made it: by this an earlier export is known."""

_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "reliability": ("good", "fair", "poor"),
    "status": ("provisional", "final"),
    "period": ("day", "week", "month", "quarter", "year"),
    "horizon": ("lifetime", "year"),
}
_NEVER_NEGATIVE: Final = ("shown", "lower", "upper")
_CHUNK: Final = 1 << 20


def data_package(published: Published, folder: Path, *, hxl: bool) -> str:
    """Return datapackage.json for the CSV files that were written into `folder`. Raises OSError."""
    publisher, contact = published.said("publisher"), published.said("contact")
    contributor = {"title": publisher or contact, "role": "publisher"}
    sources = {"title": published.about["citation"]}
    if contact.startswith(("https://", "http://")):
        contributor["path"] = sources["path"] = contact
    elif re.fullmatch(r"[^@\s]+@[^@\s]+", contact):
        contributor["email"] = contact
    package: dict[str, Any] = {
        "profile": "tabular-data-package",
        "name": "statistics",
        "id": published.about["ledger_id"],
        "title": f"Statistics of {publisher}" if publisher else "Statistics",
        "description": f"Noised counts with 95 % intervals. {published.about['bound']}",
        "version": published.about["edition"],
        "created": f"{published.about['edition_date']}T00:00:00Z",
        "generator": GENERATOR,
        "sources": [sources],
    }
    if publisher or contact:
        package["contributors"] = [contributor]
    if licence := licence_of(published.said("licence")):
        package["licenses"] = [
            {key: value for key, value in zip(("name", "title", "path"), licence, strict=True) if value}
        ]
    package["resources"] = [_resource(published, table, folder, hxl=hxl) for table in published.tables]
    return json.dumps(package, ensure_ascii=False, indent=2) + "\n"


def _resource(published: Published, table: ExportedTable, folder: Path, *, hxl: bool) -> dict[str, Any]:
    path = f"csv/{table.name}.csv"
    digest, size = _measured(folder / path)
    dialect: dict[str, Any] = {"delimiter": ",", "lineTerminator": LINE_END, "doubleQuote": True}
    if hxl:
        dialect |= {"header": True, "headerRows": [1], "commentRows": [2]}
    schema: dict[str, Any] = {
        "fields": [_field(published, table, column) for column in table.columns],
        "missingValues": [""],
    }
    if table.key:
        schema["primaryKey"] = list(table.key)
    if table.is_described:
        reference = {"resource": "descriptions", "fields": ["statistic"]}
        schema["foreignKeys"] = [{"fields": ["statistic"], "reference": reference}]
    titles = {row["statistic"]: row["title"] for row in published.descriptions}
    return {
        "profile": "tabular-data-resource",
        "name": table.name,
        "title": titles.get(table.name, _in_words(table.name)) if table.is_view else _in_words(table.name),
        "description": table.description,
        "path": path,
        "format": "csv",
        "mediatype": "text/csv",
        "encoding": "utf-8",
        "bytes": size,
        "hash": f"sha256:{digest}",
        "dialect": dialect,
        "schema": schema,
    }


def _field(published: Published, table: ExportedTable, column: Column) -> dict[str, Any]:
    title = published.titles.get(column.name, "") if column.symbols else ""
    found: dict[str, Any] = {"name": column.name, "title": title or _in_words(column.name), "type": _type(column.type)}
    if found["type"] == "datetime":
        found["format"] = "%Y-%m-%d %H:%M:%S"
    if column.description:
        found["description"] = column.description
    # A CSV file cannot tell an empty text from none.
    required = column.required and (found["type"] != "string" or column.name in table.key)
    constraints: dict[str, Any] = {"required": True} if required else {}
    if symbols := column.symbols or _WORDS.get(column.name):
        constraints["enum"] = [inert(symbol) for symbol in symbols]
    if table.counts and column.name in _NEVER_NEGATIVE:
        constraints["minimum"] = 0
    if constraints:
        found["constraints"] = constraints
    return found


def _type(kind: str) -> str:
    if kind == "DOUBLE" or kind.startswith("DECIMAL"):
        return "number"
    if kind == "INTEGER" or kind.endswith("INT"):
        return "integer"
    return {"DATE": "date", "TIMESTAMP": "datetime", "BOOLEAN": "boolean"}.get(kind, "string")


def _in_words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _measured(path: Path) -> tuple[str, int]:
    """Return the SHA-256 digest of a file, and its size."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size
