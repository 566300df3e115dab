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
        rows = [[words.period(statistic.drawn, each.start), *self._values(each)] for each in series.points]
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

    def newest(self, caption: str, breakdown: Breakdown, rows: Sequence[tuple[Series, Figure | Gap]]) -> Element:
        """Return the table of the newest figures, a row a symbol."""
        say = self._say
        columns = [breakdown.title, say("tables.figure"), say("tables.interval"), say("tables.status")]
        cells = [[each.label, *self._values(point)] for each, point in rows]
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
        withheld = point is not None and point.reason
        return element("td", self._say("tables.withheld" if withheld else "tables.missing"), class_="withheld")

    def _values(self, point: Figure | Gap) -> list[Content]:
        """Return the cells of figure, interval and status."""
        if isinstance(point, Gap):
            return [self._absence(point)]
        return [self._words.number(point.shown, point.digits), self.span(point), self._status(point)]

    def _absence(self, gap: Gap) -> Element:
        """Return why there is no figure, in the place of figure, interval and status."""
        if not gap.reason:
            return element("td", self._say("tables.missing"), class_="words withheld", colspan="3")
        reason = self.foreign(gap.reason)
        return element("td", self._say("tables.withheld"), ": ", reason, class_="words withheld", colspan="3")

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
