"""Illustrations: each picture of the page with its caption, its words for those who do not see it, and its table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from quietcount_consumers.report.drawing import draw, grid, standalone
from quietcount_consumers.report.figures import Breakdown, Figure, Gap, Series, Statistic
from quietcount_consumers.report.markup import Content, Element, element, extend
from quietcount_consumers.report.pictures import BARS, NARROW, PANELS, WIDE, Bar, Spec, Width, bars, hover, line, panel
from quietcount_consumers.report.sentences import by, capital, odds, part, series_in_words, subject
from quietcount_consumers.report.tables import Tables
from quietcount_consumers.report.words import Words

__all__ = ["Illustrations"]


class Illustrations:
    """What makes illustrations, in the words of a language. `citation` says where a picture of everything is from."""

    def __init__(self, words: Words, tables: Tables, citation: str) -> None:
        self._words = words
        self._say = words.text
        self._tables = tables
        self._citation = citation

    def total(self, statistic: Statistic, total: Series) -> Element:
        """Return the line of the totals."""
        words, period = self._words, statistic.drawn
        caption = self._say("tables.subject", subject=subject(statistic, words), by=by(period, words))
        remarks = [*self._coarser(statistic), *self._dashed([total]), *self.gaps(total, statistic)]
        return self._figure(
            statistic,
            f"{statistic.name}-total",
            caption,
            series_in_words(total, period, words),
            lambda width: self._draw(line(total, period, words, width)),
            self._tables.total(caption, statistic, total),
            remarks,
        )

    def panels(self, statistic: Statistic, breakdown: Breakdown) -> Element:
        """Return a small line for each symbol of a dimension."""
        words, say = self._words, self._say
        caption = say("tables.subject_each", subject=part(statistic, breakdown, words), by=by(breakdown.period, words))
        told = [each for each in breakdown.series if each.figures]
        drawn = _largest(told)
        remarks = [say("tables.own_scale"), *self._coarser(statistic), *self._dashed(drawn)]
        remarks += self._withheld(drawn[0], statistic)  # which is the same for all
        if any(not each.reason for one in drawn for each in one.gaps):
            remarks.append(say("tables.shaded"))
        if len(drawn) < len(told):
            remarks.append(say("tables.cut", count=words.number(len(drawn))))
        remarks += self.untold(each for each in breakdown.series if not each.figures)
        names = ", ".join(each.label for each in drawn)
        small = [self._draw(panel(each, breakdown.period, words)) for each in drawn]
        return self._figure(
            statistic,
            f"{statistic.name}-{breakdown.dimension}",
            caption,
            say("alternative.panels", count=words.number(len(drawn)), symbols=names),
            lambda width: grid(small, width.whole),
            self._tables.panels(caption, breakdown),
            remarks,
        )

    def newest(self, statistic: Statistic, breakdown: Breakdown) -> Element:
        """Return the bars of the newest period, one for each symbol of a dimension."""
        words, say = self._words, self._say
        newest = max(figure.start for each in breakdown.series for figure in each.figures)
        found = [(each, point) for each in breakdown.series for point in each.points if point.start == newest]
        rows = [(each, point) for each, point in found if isinstance(point, Figure)]
        untold = [(each, point) for each, point in found if isinstance(point, Gap)]
        if not breakdown.ordered:
            rows.sort(key=lambda row: -row[1].shown)
        shown = _most(rows)
        name = words.period(breakdown.period, newest)
        caption = say("tables.subject_at", subject=part(statistic, breakdown, words), period=name)
        values = "; ".join(f"{each.label}: {self._value(figure)}" for each, figure in shown)
        order = say("alternative.in_order" if breakdown.ordered else "alternative.largest_first")

        def picture(width: Width) -> Element:
            drawn = [
                Bar(
                    each.label,
                    figure.shown,
                    figure.lower,
                    figure.upper,
                    self._compact(figure, " " if width is WIDE else "\n"),
                    f"{each.label}. {hover(words, breakdown.period, figure)}",
                    figure.provisional,
                )
                for each, figure in shown
            ]
            return self._draw(bars(drawn, width))

        remarks = [say("tables.pale")] if rows[0][1].provisional else []
        if len(shown) < len(rows):
            remarks.append(say("tables.cut", count=words.number(len(shown))))
        remarks += self.untold(each for each, _ in untold)
        return self._figure(
            statistic,
            f"{statistic.name}-{breakdown.dimension}-newest",
            caption,
            say("alternative.bars", order=order, values=values),
            picture,
            self._tables.newest(caption, breakdown, [*rows, *untold]),
            remarks,
        )

    def budget(self, spent: Sequence[tuple[Decimal, str]], lifetime: Decimal) -> Element:
        """Return the bars of what each table spends of the lifetime epsilon, and of what is left."""
        say, words = self._say, self._words
        declared = sum((epsilon for epsilon, _ in spent), Decimal(0))
        rows = [*spent, *([(lifetime - declared, say("budget.left"))] if lifetime > declared else [])]

        def part(epsilon: Decimal) -> str:
            return words.percent(round(100 * epsilon / lifetime, 1))

        def picture(width: Width) -> Element:
            drawn = []
            for place, (epsilon, name) in enumerate(rows):
                text, size = f"{words.plain(epsilon)} ({part(epsilon)})", float(epsilon)
                drawn.append(Bar(name, size, size, size, text, f"{name}: {text}", place >= len(spent)))
            return self._draw(bars(drawn, width, most=float(lifetime)))

        caption = say("budget.caption")
        columns = [say(f"budget.{key}") for key in ("table", "epsilon", "share", "most")]
        cells: list[list[Content]] = [
            [name, words.plain(epsilon), part(epsilon), odds(epsilon, words)]
            for epsilon, name in [*spent, (declared, say("budget.all"))]
        ]
        values = "; ".join(f"{name}: {words.plain(epsilon)}" for epsilon, name in rows)
        alternative = say("alternative.bars", order=say("alternative.largest_first"), values=values)
        table = self._tables.table(caption, columns, cells)
        return self._figure(None, "budget", caption, alternative, picture, table, [])

    def _figure(
        self,
        statistic: Statistic | None,
        name: str,
        caption: str,
        alternative: str,
        drawn: Callable[[Width], Element],
        table: Element,
        remarks: Sequence[str],
    ) -> Element:
        """Return a picture in both widths, of which one is shown, with what belongs to it."""
        title = f"{statistic.title}. {capital(caption)}" if statistic else caption
        source = self._say("tables.source", citation=(statistic and statistic.citation) or self._citation)
        figure = element("figure", element("figcaption", capital(caption)))
        address = ""
        for width in (WIDE, NARROW):
            picture = drawn(width)
            if width is WIDE:
                address = standalone(picture, title, source)
            picture.set("class", width.name)
            picture.set("role", "img")
            picture.set("aria-label", alternative)  # its caption is the name of the figure
            picture.set("focusable", "false")
            for inside in picture:
                # A hundred marks one by one tell a listener less than the sentence and the table.
                inside.set("aria-hidden", "true")
            # A browser without SVG, as Tor Browser at its safest level, shows this instead, and no browser shows both.
            picture.insert(0, element("desc", alternative, aria_hidden="true"))
            extend(figure, picture)
        if remarks:
            extend(figure, element("p", " ".join(remarks), class_="said"))
        link = element("a", self._say("tables.svg"), href=address, download=f"{name}.svg")
        link.set("aria-label", self._say("tables.svg_of", subject=caption))
        summary = element("summary", self._say("tables.table", subject=caption))
        tools = element("div", element("details", summary, table), link, class_="tools")
        return extend(figure, tools)

    def _draw(self, spec: Spec) -> Element:
        return draw(spec, self._words.number_locale)

    def _coarser(self, statistic: Statistic) -> list[str]:
        if statistic.drawn == statistic.period:
            return []
        return [self._say("tables.coarser", by=by(statistic.drawn, self._words))]

    def _dashed(self, drawn: Sequence[Series]) -> list[str]:
        provisional = any(figure.provisional for each in drawn for figure in each.figures)
        return [self._say("tables.dashed")] if provisional else []

    def gaps(self, series: Series, statistic: Statistic) -> list[str]:
        """Return which periods have no figure, in words."""
        names = [self._words.period(statistic.drawn, each.start) for each in series.gaps if not each.reason]
        untold = [self._say("tables.untold", periods=", ".join(names))] if names else []
        return [*self._withheld(series, statistic), *untold]

    def untold(self, series: Iterable[Series]) -> list[str]:
        """Return which symbols have no figure because they are of too few, in words."""
        labels = ", ".join(each.label for each in series)
        return [self._say("tables.untold", periods=labels)] if labels else []

    def _withheld(self, series: Series, statistic: Statistic) -> list[str]:
        names = [self._words.period(statistic.drawn, each.start) for each in series.gaps if each.reason]
        return [self._say("tables.gaps", periods=", ".join(names))] if names else []

    def _compact(self, figure: Figure, separator: str) -> str:
        return f"{self._words.number(figure.shown, figure.digits)}{separator}({self._tables.span(figure)})"

    def _value(self, figure: Figure) -> str:
        interval = self._words.interval(figure.lower, figure.upper, figure.digits)
        return f"{self._words.number(figure.shown, figure.digits)} ({interval})"


def _largest(series: Sequence[Series]) -> Sequence[Series]:
    """Return the symbols that get a small line, in their order: the largest, if they are too many."""
    sizes = {each.symbol: sum(figure.shown for figure in each.figures) for each in series}
    largest = sorted(sizes, key=lambda symbol: -sizes[symbol])[:PANELS]
    return [each for each in series if each.symbol in largest]


def _most(rows: Sequence[tuple[Series, Figure]]) -> Sequence[tuple[Series, Figure]]:
    """Return those that get a bar, in their order: the largest, if they are too many."""
    largest = [each.symbol for each, _ in sorted(rows, key=lambda row: -row[1].shown)[:BARS]]
    return [row for row in rows if row[0].symbol in largest]
