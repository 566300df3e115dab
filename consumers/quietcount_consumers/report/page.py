"""The page: the publication as one HTML file that stands alone. It holds no program, and asks nobody for anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from importlib import resources
from typing import Any, Final

from quietcount_consumers.report.drawing import draw, standalone
from quietcount_consumers.report.figures import (
    Breakdown,
    Figure,
    Gap,
    Headline,
    Note,
    Publication,
    Series,
    Statistic,
)
from quietcount_consumers.report.markup import Content, Element, element, extend, html_of
from quietcount_consumers.report.palette import style
from quietcount_consumers.report.pictures import NARROW, PANELS, WIDE, Bar, Width, bars, hover, line, panels
from quietcount_consumers.report.sentences import (
    bound,
    by,
    capital,
    counting,
    headline,
    note,
    odds,
    series_in_words,
    subject,
)
from quietcount_consumers.report.words import Words

__all__ = ["page"]

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""Even if something slipped in, no browser would run it or fetch anything for it."""


def page(publication: Publication, words: Words) -> str:
    """Return the report as HTML."""
    return html_of(_Page(publication, words).whole())


class _Page:
    """The parts of a page, each as a tree."""

    def __init__(self, publication: Publication, words: Words) -> None:
        self._publication = publication
        self._words = words
        self._say = words.text

    def whole(self) -> Element:
        publication, say = self._publication, self._say
        publisher = publication.stated("publisher")
        title = say("page.title_of", publisher=publisher) if publisher else say("page.title")
        css = resources.files("quietcount_consumers.report").joinpath("page.css").read_text(encoding="utf-8")
        head = element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="referrer", content="no-referrer"),
            element("meta", name="color-scheme", content="light dark"),
            element("title", title),
            element("style", f"{style()}\n{css}"),
        )
        body = element(
            "body",
            element("a", say("page.skip"), href="#figures", class_="skip"),
            self._header(title),
            element("main", *self._main(), id="figures", tabindex="-1"),
            element("footer", element("p", say("page.made"))),
        )
        return element("html", head, body, lang=self._words.language)

    def _header(self, title: str) -> Element:
        publication, say, words = self._publication, self._say, self._words
        edition = say(
            "page.edition_of",
            number=publication.about["edition"],
            date=self._day(publication.about["edition_date"]),
        )
        until = publication.stated("data_until")
        facts = {
            "page.data_until": self._day(until) if until else "",
            "page.edition": edition,
            "page.next_release": self._day(publication.stated("next_release")),
            "page.licence": publication.stated("licence"),
            "page.contact": publication.stated("contact"),
        }
        told = (element("div", element("dt", say(key)), element("dd", each)) for key, each in facts.items() if each)
        sentences = bound(publication.about, publication.statistics, words)
        return element(
            "header",
            element("h1", title),
            element("dl", *told, class_="facts"),
            element("div", element("p", " ".join(sentences)), class_="bound"),
            self._contents(),
        )

    def _contents(self) -> Element:
        say = self._say
        links = [
            *((f"population-{place}", tables[0].title) for place, tables in self._populations()),
            ("budget", say("budget.heading")),
            ("notes", say("notes.heading")),
            ("citing", say("citing.heading")),
        ]
        items = (element("li", element("a", text, href=f"#{target}")) for target, text in links)
        return element("nav", element("ul", *items), aria_label=say("page.contents"))

    def _populations(self) -> Iterator[tuple[int, tuple[Statistic, ...]]]:
        return enumerate(self._publication.populations, 1)

    def _main(self) -> Iterator[Element]:
        yield self._headlines()
        yield self._reading()
        for place, tables in self._populations():
            yield self._population(place, tables)
        yield self._budget()
        yield self._notes()
        yield self._citing()

    # Before the pictures

    def _headlines(self) -> Element:
        say, words = self._say, self._words
        section = element("section", element("h2", say("headlines.heading"), id="headlines"))
        section.set("aria-labelledby", "headlines")
        if not self._publication.headlines:
            extend(section, element("p", say("page.empty")))
            due = self._publication.stated("next_release")
            if due[:1].isdigit():
                extend(section, element("p", say("page.empty_next", date=self._day(due))))
            return section
        places = {tables[0].population: place for place, tables in self._populations()}
        cards = element("ul", class_="cards")
        for population in dict.fromkeys(each.statistic.population for each in self._publication.headlines):
            of_population = [each for each in self._publication.headlines if each.statistic.population == population]
            link = element("a", of_population[0].statistic.title, href=f"#population-{places[population]}")
            card = element("li", element("h3", link))
            for said in of_population:
                for number, pieces in enumerate(headline(said, words)):
                    extend(card, element("p", *pieces, **({} if number else {"class_": "total"})))
            extend(cards, card)
        return extend(section, cards)

    def _reading(self) -> Element:
        say, words = self._say, self._words
        section = element("section", element("h2", say("reading.heading"), id="reading"))
        section.set("aria-labelledby", "reading")
        example = _example(self._publication.headlines)
        if example is not None:
            count = words.number(example.shown, example.digits)
            interval = words.interval(example.lower, example.upper, example.digits)
            extend(section, element("p", say("reading.margin", example=count, interval=interval)))
        for key in ("many", "sums", "provisional", "withheld"):
            extend(section, element("p", say(f"reading.{key}")))
        return section

    # Populations

    def _population(self, place: int, tables: tuple[Statistic, ...]) -> Element:
        name = f"population-{place}"
        section = element("section", element("h2", tables[0].title, id=name), aria_labelledby=name)
        for statistic in tables:
            extend(section, *self._statistic(statistic))
        return section

    def _statistic(self, statistic: Statistic) -> Iterator[Content]:
        say, words = self._say, self._words
        parts = [each.title for each in statistic.breakdowns] or [subject(statistic, words)]
        heading = say("tables.subject", subject=", ".join(parts), by=by(statistic.period, words))
        yield element("h3", capital(heading))
        yield element("p", " ".join(counting(statistic, words)), class_="said")
        total = statistic.totals.get(statistic.drawn)
        if total is None or not total.figures:
            yield element("p", say("page.empty"))
            return
        yield self._total(statistic, total)
        for breakdown in statistic.breakdowns:
            if any(len(each.points) > 1 for each in breakdown.series):
                yield self._panels(statistic, breakdown)
            yield self._newest(statistic, breakdown)

    def _total(self, statistic: Statistic, total: Series) -> Element:
        words, period = self._words, statistic.drawn
        caption = self._say("tables.subject", subject=subject(statistic, words), by=by(period, words))
        remarks = [*self._coarser(statistic), *self._gaps(total, statistic)]
        return self._figure(
            statistic,
            caption,
            series_in_words(total, period, words),
            lambda width: line(total, period, words, width),
            self._total_table(caption, statistic, total),
            remarks,
        )

    def _panels(self, statistic: Statistic, breakdown: Breakdown) -> Element:
        words, say = self._words, self._say
        caption = say("tables.subject", subject=breakdown.title, by=by(breakdown.period, words))
        drawn = breakdown.series[:PANELS]
        remarks = [say("tables.own_scale"), *self._coarser(statistic), *self._gaps(drawn[0], statistic)]
        if len(drawn) < len(breakdown.series):
            remarks.append(say("tables.cut", count=words.number(len(drawn))))
        names = ", ".join(each.label for each in drawn)
        return self._figure(
            statistic,
            caption,
            say("alternative.panels", count=words.number(len(drawn)), symbols=names),
            lambda width: panels(breakdown, words, width),
            self._panels_table(caption, breakdown),
            remarks,
        )

    def _newest(self, statistic: Statistic, breakdown: Breakdown) -> Element:
        words, say = self._words, self._say
        newest = max(figure.start for each in breakdown.series for figure in each.figures)
        rows = [(each, figure) for each in breakdown.series for figure in each.figures if figure.start == newest]
        if not breakdown.ordered:
            rows.sort(key=lambda row: -row[1].shown)
        name = words.period(breakdown.period, newest)
        caption = say("tables.subject_at", subject=breakdown.title, period=name)
        values = "; ".join(f"{each.label}: {self._value(figure)}" for each, figure in rows)
        order = say("alternative.in_order" if breakdown.ordered else "alternative.largest_first")

        def spec(width: Width) -> dict[str, Any]:
            return bars(
                [
                    Bar(
                        each.label,
                        figure.shown,
                        figure.lower,
                        figure.upper,
                        self._compact(figure) if width is WIDE else words.number(figure.shown, figure.digits),
                        f"{each.label}. {hover(words, breakdown.period, figure)}",
                        figure.provisional,
                    )
                    for each, figure in rows
                ],
                width,
            )

        provisional = rows[0][1].provisional
        return self._figure(
            statistic,
            caption,
            say("alternative.bars", order=order, values=values),
            spec,
            self._newest_table(caption, breakdown, rows),
            [capital(say("tables.provisional")) + "."] if provisional else [],
        )

    def _figure(
        self,
        statistic: Statistic | None,
        caption: str,
        alternative: str,
        spec: Any,
        table: Element,
        remarks: Sequence[str],
    ) -> Element:
        """Return a picture in both widths, of which one is shown, with what belongs to it."""
        title = f"{statistic.title}. {capital(caption)}" if statistic else caption
        source = self._say("tables.source", citation=(statistic and statistic.citation) or self._citation())
        figure = element("figure", element("figcaption", capital(caption)))
        address = ""
        for width in (WIDE, NARROW):
            picture = draw(spec(width), self._words.number_locale)
            if width is WIDE:
                address = standalone(picture, title, source)
            picture.set("class", width.name)
            picture.set("role", "img")
            picture.set("aria-label", f"{capital(caption)}. {alternative}")
            picture.set("focusable", "false")
            extend(figure, picture)
        if remarks:
            extend(figure, element("p", " ".join(remarks), class_="said"))
        name = f"{statistic.name if statistic else 'budget'}.svg"
        link = element("a", self._say("tables.svg"), href=address, download=name)
        summary = element("summary", self._say("tables.table", subject=caption))
        tools = element("div", element("details", summary, table), link, class_="tools")
        return extend(figure, tools)

    def _coarser(self, statistic: Statistic) -> list[str]:
        if statistic.drawn == statistic.period:
            return []
        return [self._say("tables.coarser", by=by(statistic.drawn, self._words))]

    def _gaps(self, series: Series, statistic: Statistic) -> list[str]:
        gaps = [self._words.period(statistic.drawn, each.start) for each in series.points if isinstance(each, Gap)]
        return [self._say("tables.gaps", periods=", ".join(gaps))] if gaps else []

    # Tables under pictures

    def _total_table(self, caption: str, statistic: Statistic, series: Series) -> Element:
        say, words = self._say, self._words
        columns = ("tables.period", "tables.figure", "tables.interval", "tables.status")
        rows = []
        for each in series.points:
            name = words.period(statistic.drawn, each.start)
            if isinstance(each, Gap):
                reason = element("td", f"{say('tables.withheld')}: {each.reason}", class_="words withheld", colspan="3")
                rows.append([name, reason])
            else:
                rows.append([name, words.number(each.shown, each.digits), self._span(each), self._status(each)])
        return self._table(caption, [say(key) for key in columns], rows)

    def _panels_table(self, caption: str, breakdown: Breakdown) -> Element:
        say, words = self._say, self._words
        starts = sorted({point.start for each in breakdown.series for point in each.points})
        by_start = [{point.start: point for point in each.points} for each in breakdown.series]
        rows = [
            [words.period(breakdown.period, start), *(self._cell(of.get(start)) for of in by_start)] for start in starts
        ]
        return self._table(caption, [say("tables.period"), *(each.label for each in breakdown.series)], rows)

    def _newest_table(self, caption: str, breakdown: Breakdown, rows: Sequence[tuple[Series, Figure]]) -> Element:
        say, words = self._say, self._words
        columns = [breakdown.title, say("tables.figure"), say("tables.interval"), say("tables.status")]
        return self._table(
            caption,
            columns,
            [
                [each.label, words.number(figure.shown, figure.digits), self._span(figure), self._status(figure)]
                for each, figure in rows
            ],
        )

    def _table(self, caption: str, columns: Sequence[str], rows: Sequence[Sequence[Content]]) -> Element:
        head = element("thead", element("tr", *(element("th", each, scope="col") for each in columns)))
        body = element("tbody")
        for name, *cells in rows:
            whole = [each if isinstance(each, Element) else element("td", each) for each in cells]
            extend(body, element("tr", element("th", name, scope="row"), *whole))
        table = element("table", element("caption", capital(caption)), head, body)
        # It scrolls by itself where it is wider than the screen, also by the keys.
        return element("div", table, class_="scroll", tabindex="0", role="region", aria_label=capital(caption))

    def _cell(self, point: Figure | Gap | None) -> Element:
        if isinstance(point, Figure):
            extra = {"class_": "provisional"} if point.provisional else {}
            status = element("small", self._say("tables.provisional")) if point.provisional else None
            count = self._words.number(point.shown, point.digits)
            return element("td", count, " ", element("small", self._span(point)), " ", status, **extra)
        return element("td", self._say("tables.withheld" if point else "tables.missing"), class_="withheld")

    def _status(self, figure: Figure) -> Element:
        if figure.provisional:
            return element("td", self._say("tables.provisional"), class_="words provisional")
        return element("td", self._say("tables.final"), class_="words")

    def _span(self, figure: Figure) -> str:
        return self._words.span(figure.lower, figure.upper, figure.digits)

    def _compact(self, figure: Figure) -> str:
        return f"{self._words.number(figure.shown, figure.digits)} ({self._span(figure)})"

    def _value(self, figure: Figure) -> str:
        interval = self._words.interval(figure.lower, figure.upper, figure.digits)
        return f"{self._words.number(figure.shown, figure.digits)} ({interval})"

    # After the pictures

    def _budget(self) -> Element:
        say, words, publication = self._say, self._words, self._publication
        lifetime = Decimal(publication.about["lifetime_epsilon"])
        declared = Decimal(publication.about["epsilon_declared"])
        section = element("section", element("h2", say("budget.heading"), id="budget"), aria_labelledby="budget")
        sentence = say("budget.sentence", declared=words.plain(declared), lifetime=words.plain(lifetime))
        extend(section, element("p", sentence), element("p", say("bound.odds", most=odds(lifetime, words))))
        if not publication.statistics:
            return section
        spent = sorted(((each.epsilon, _named(each, words)) for each in publication.statistics), key=lambda row: -row[0])
        rows = [*spent, *([(lifetime - declared, say("budget.left"))] if lifetime > declared else [])]

        def spec(width: Width) -> dict[str, Any]:
            drawn = [
                Bar(name, float(epsilon), float(epsilon), float(epsilon), text, f"{name}: {text}", place >= len(spent))
                for place, (epsilon, name) in enumerate(rows)
                for text in [f"{words.plain(epsilon)} ({self._part(epsilon, lifetime)})"]
            ]
            return bars(drawn, width, most=float(lifetime))

        caption = say("budget.caption")
        columns = [say(f"budget.{key}") for key in ("table", "epsilon", "share", "most")]
        whole = [*rows, (declared, say("budget.all"))]
        table = self._table(
            caption,
            columns,
            [
                [name, words.plain(epsilon), self._part(epsilon, lifetime), odds(epsilon, words)]
                for epsilon, name in whole
                if name != say("budget.left")
            ],
        )
        values = "; ".join(f"{name}: {words.plain(epsilon)}" for epsilon, name in rows)
        alternative = say("alternative.bars", order=say("alternative.largest_first"), values=values)
        return extend(section, self._figure(None, caption, alternative, spec, table, []))

    def _part(self, epsilon: Decimal, lifetime: Decimal) -> str:
        return self._words.percent(round(100 * epsilon / lifetime, 1))

    def _notes(self) -> Element:
        say, words = self._say, self._words
        section = element("section", element("h2", say("notes.heading"), id="notes"), aria_labelledby="notes")
        if not self._publication.notes:
            return extend(section, element("p", say("notes.none")))
        named = {each.name: (_named(each, words), each) for each in self._publication.statistics}
        rows = [
            [*self._noted(said, named), element("td", note(said, words), class_="words")]
            for said in self._publication.notes
        ]
        columns = [say("budget.table"), say("tables.period"), say("notes.what")]
        return extend(section, self._table(say("notes.heading"), columns, rows))

    def _noted(self, said: Note, named: dict[str, tuple[str, Statistic]]) -> list[Content]:
        name, statistic = named[said.statistic]
        first = self._words.period(statistic.period, said.start)
        last = self._words.period(statistic.period, statistic.period.start(said.end))
        span = first if first == last else self._say("notes.span", first=first, last=last)
        return [name, element("td", span, class_="words")]

    def _citing(self) -> Element:
        say, publication = self._say, self._publication
        head = element("code", publication.about["ledger_head"])
        before, _, after = say("citing.ledger", head="\ue000").partition("\ue000")
        section = element("section", element("h2", say("citing.heading"), id="citing"), aria_labelledby="citing")
        extend(section, element("p", self._citation(), class_="cite"))
        rows = [
            [_named(each, self._words), element("td", each.citation, class_="words")] for each in publication.statistics
        ]
        facts = [
            element("div", element("dt", say(f"page.{key}")), element("dd", publication.stated(key) or say("page.not_stated")))
            for key in ("publisher", "licence", "contact")
        ]
        extend(section, element("dl", *facts, class_="facts"))
        if rows:
            extend(section, self._table(say("citing.one"), [say("budget.table"), say("citing.heading")], rows))
        return extend(section, element("p", before, head, after))

    def _citation(self) -> str:
        return self._publication.about["citation"]

    def _day(self, text: str) -> str:
        """Return a day that the file has as text; what is no day stands as it is."""
        import datetime as dt

        try:
            return self._words.date(dt.date.fromisoformat(text))
        except ValueError:
            return text


def _named(statistic: Statistic, words: Words) -> str:
    parts = [each.title for each in statistic.breakdowns] or [subject(statistic, words)]
    return f"{statistic.title}: {', '.join(parts)}"


def _example(headlines: Sequence[Headline]) -> Figure | None:
    """Return the figure that explains a margin best: one well above 0."""
    counted = [each.total for each in headlines if not each.statistic.averaged]
    return max(counted, key=lambda each: each.lower, default=None)
