"""The hashtags of the Humanitarian Exchange Language (HXL 1.1) for our columns.

Core hashtags and attributes are used as the dictionary of the standard has them (hxlstandard.org). A column that it has
no word for is #meta with the column's name as an attribute.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from quietcount_consumers.exporting.published_tables import Column, ExportedTable

__all__ = ["tags"]

_TAGS: Final[dict[str, str]] = {
    "period_start": "#date+start",
    "period_end": "#date+end",
    "released_at": "#date+released",
    "first_period": "#date+start+first",
    "since": "#date+start+first",
    "statistic": "#indicator+code",
    "title": "#indicator+name",
    "description": "#description",
    "cell": "#indicator+type",
    "sum": "#indicator+num+total",
    "sum_lower": "#indicator+num+total+min",
    "sum_upper": "#indicator+num+total+max",
    "average": "#indicator+num+mean",
    "average_lower": "#indicator+num+mean+min",
    "average_upper": "#indicator+num+mean+max",
    "status": "#status",
    "publisher": "#org+name",
    "licence": "#meta+license",
    "note": "#description+note",
    "reason": "#description+reason",
}
_COUNTS: Final[dict[str, str]] = {
    "estimate": "#affected+num+estimate",
    "shown": "#affected+num",
    "lower": "#affected+num+min",
    "upper": "#affected+num+max",
    "noisy": "#affected+num+noisy",
    "first_estimate": "#affected+num+estimate+first",
}
_OTHER = re.compile(r"[^a-z0-9_]+")


def tags(table: ExportedTable) -> list[str]:
    """Return the hashtag of each column of a table."""
    known = _TAGS | _COUNTS if table.counts else _TAGS
    return [_tag(table, column, known) for column in table.columns]


def _tag(table: ExportedTable, column: Column, known: Mapping[str, str]) -> str:
    attribute = _OTHER.sub("_", column.name.lower())
    if table.is_view and column.name in table.key and column.name not in known:
        return f"#indicator+type+{attribute}"  # a dimension
    return known.get(column.name, f"#meta+{attribute}")
