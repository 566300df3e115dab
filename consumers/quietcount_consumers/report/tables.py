"""Tables: the figures under each picture, for whoever reads numbers rather than lines, or listens."""

from __future__ import annotations

from collections.abc import Sequence

from quietcount_consumers.report.figures import Breakdown, Figure, Gap, Series, Statistic
from quietcount_consumers.report.markup import Content, Element, element, extend
from quietcount_consumers.report.sentences import capital
from quietcount_consumers.report.words import Words

__all__ = ["Tables"]


class Tables:
    """What makes tables, in the words of a language."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._say = words.text

    def total(self, caption: str, statistic: Statistic, series: Series) -> Element:
        """Return the table of a series, a row a period."""
        say, words = self._say, self._words
        columns = ("tables.period", "tables.figure", "tables.interval", "tables.status")
        rows: list[list[Content]] = []
        for each in series.points:
            name = words.period(statistic.drawn, each.start)
            if isinstance(each, Gap):
                reason = self.foreign(each.reason)
                rows.append(
                    [name, element("td", say("tables.withheld"), ": ", reason, class_="words withheld", colspan="3")]
                )
            else:
                rows.append([name, words.number(each.shown, each.digits), self.span(each), self._status(each)])
        return self.table(caption, [say(key) for key in columns], rows)

    def panels(self, caption: str, breakdown: Breakdown) -> Element:
        """Return the table of all series of a dimension, a row a period and a column a symbol."""
        say, words = self._say, self._words
        starts = sorted({point.start for each in breakdown.series for point in each.points})
        by_start = [{point.start: point for point in each.points} for each in breakdown.series]
        rows: list[list[Content]] = [
            [words.period(breakdown.period, start), *(self._cell(of.get(start)) for of in by_start)] for start in starts
        ]
        return self.table(caption, [say("tables.period"), *(each.label for each in breakdown.series)], rows)

    def newest(self, caption: str, breakdown: Breakdown, rows: Sequence[tuple[Series, Figure]]) -> Element:
        """Return the table of the newest figures, a row a symbol."""
        say, words = self._say, self._words
        columns = [breakdown.title, say("tables.figure"), say("tables.interval"), say("tables.status")]
        cells: list[list[Content]] = [
            [each.label, words.number(figure.shown, figure.digits), self.span(figure), self._status(figure)]
            for each, figure in rows
        ]
        return self.table(caption, columns, cells)

    def table(self, caption: str, columns: Sequence[str], rows: Sequence[Sequence[Content]]) -> Element:
        """Return a table whose first column names its rows; it scrolls by itself if it is wider than the screen."""
        worded = {
            place
            for place, cell in enumerate(rows[0] if rows else [])
            if isinstance(cell, Element) and "words" in cell.get("class", "").split()
        }
        titles = (
            element("th", each, scope="col", **({"class_": "words"} if place in worded else {}))
            for place, each in enumerate(columns)
        )
        body = element("tbody")
        for name, *cells in rows:
            whole = [each if isinstance(each, Element) else element("td", each) for each in cells]
            extend(body, element("tr", element("th", name, scope="row"), *whole))
        table = element("table", element("caption", capital(caption)), element("thead", element("tr", *titles)), body)
        # In the order of the keys, because it scrolls.
        return element("div", table, class_="scroll", tabindex="0", role="region", aria_label=capital(caption))

    def _cell(self, point: Figure | Gap | None) -> Element:
        if isinstance(point, Figure):
            extra = {"class_": "provisional"} if point.provisional else {}
            status = element("small", self._say("tables.provisional")) if point.provisional else None
            count = self._words.number(point.shown, point.digits)
            return element("td", count, " ", element("small", self.span(point)), " ", status, **extra)
        return element("td", self._say("tables.withheld" if point else "tables.missing"), class_="withheld")

    def _status(self, figure: Figure) -> Element:
        if figure.provisional:
            return element("td", self._say("tables.provisional"), class_="words provisional")
        return element("td", self._say("tables.final"), class_="words")

    def span(self, figure: Figure) -> str:
        """Return the interval of a figure in few characters."""
        return self._words.span(figure.lower, figure.upper, figure.digits)

    def foreign(self, text: str) -> Content:
        """Return what the file says in English only, so that a screen reader reads it as that."""
        return text if self._words.language == "en" else element("span", text, lang="en")
