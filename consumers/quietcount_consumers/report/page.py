"""The page: the publication as one HTML file that stands alone. It holds no program, and asks nobody for anything."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from decimal import Decimal

from quietcount_consumers.report.figures import Figure, Headline, Note, Publication, Statistic
from quietcount_consumers.report.illustrations import Illustrations
from quietcount_consumers.report.markup import Content, Element, element, extend, html_of, page_head
from quietcount_consumers.report.sentences import bound, by, capital, counting, headline, note, odds, subject
from quietcount_consumers.report.tables import Tables
from quietcount_consumers.report.words import Words
from quietcount_schemas.events.periods import Period

__all__ = ["page_of"]


def page_of(publication: Publication, words: Words) -> str:
    """Return the report as HTML."""
    return html_of(_Page(publication, words).whole())


class _Page:
    """The parts of a page, each as a tree."""

    def __init__(self, publication: Publication, words: Words) -> None:
        self._publication = publication
        self._words = words
        self._say = words.text
        self._tables = Tables(words)
        self._illustrations = Illustrations(words, self._tables, publication.about["citation"])

    def whole(self) -> Element:
        publication, say = self._publication, self._say
        publisher = publication.stated("publisher")
        title = say("page.title_of", publisher=publisher) if publisher else say("page.title")
        body = element(
            "body",
            element("a", say("page.skip"), href="#figures", class_="skip"),
            self._header(title),
            element("main", *self._main(), id="figures", tabindex="-1"),
            element("footer", element("p", say("page.made"))),
        )
        return element("html", page_head(title), body, lang=self._words.language)

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
        # Drawn first: meanwhile the database works out the headlines.
        populations = [self._population(place, tables) for place, tables in self._populations()]
        budget = self._budget()
        headlines = self._publication.headlines()
        yield self._headlines(headlines)
        yield self._reading(headlines)
        yield from populations
        yield budget
        yield self._notes()
        yield self._citing()

    # Before the pictures

    def _headlines(self, headlines: Sequence[Headline]) -> Element:
        say, words = self._say, self._words
        section = element("section", element("h2", say("headlines.heading"), id="headlines"))
        section.set("aria-labelledby", "headlines")
        if not headlines:
            extend(section, element("p", say("page.empty")))
            due = self._publication.stated("next_release")
            if due[:1].isdigit():
                extend(section, element("p", say("page.empty_next", date=self._day(due))))
            return section
        places = {tables[0].population: place for place, tables in self._populations()}
        cards = element("ul", class_="cards")
        for population in dict.fromkeys(each.statistic.population for each in headlines):
            of_population = [each for each in headlines if each.statistic.population == population]
            link = element("a", of_population[0].statistic.title, href=f"#population-{places[population]}")
            card = element("li", element("h3", link))
            for said in of_population:
                for number, pieces in enumerate(headline(said, words)):
                    extend(card, element("p", *pieces, **({} if number else {"class_": "total"})))
            extend(cards, card)
        return extend(section, cards)

    def _reading(self, headlines: Sequence[Headline]) -> Element:
        say, words = self._say, self._words
        section = element("section", element("h2", say("reading.heading"), id="reading"))
        section.set("aria-labelledby", "reading")
        example = _example(headlines)
        if example is not None:
            count = words.number(example.shown, example.digits)
            interval = words.interval(example.lower, example.upper, example.digits)
            extend(section, element("p", say("reading.margin", example=count, interval=interval)))
        kinds = {each.kind for each in self._publication.notes}
        counts = [each for each in self._publication.statistics if not each.averaged]
        limits = {
            "lifetime": any(not each.yearly for each in counts),
            "yearly": any(each.yearly and each.period is not Period.YEAR for each in counts),
        }
        told = [key for key, holds in limits.items() if holds]
        for key in ("many", *told, "sums", *(each for each in ("provisional", "withheld") if each in kinds)):
            extend(section, element("p", say(f"reading.{key}")))
        return section

    # Populations

    def _population(self, place: int, tables: tuple[Statistic, ...]) -> Element:
        name = f"population-{place}"
        section = element("section", element("h2", tables[0].title, id=name), aria_labelledby=name)
        shown: set[tuple[str, Period]] = set()
        for statistic in tables:
            counted = statistic.conditions, statistic.drawn
            # Tables that count the same have the same total. An average has one of its own.
            again = counted in shown and not statistic.averaged and bool(statistic.breakdowns)
            if not statistic.averaged:
                shown.add(counted)
            extend(section, *self._statistic(statistic, again=again))
        return section

    def _statistic(self, statistic: Statistic, *, again: bool) -> Iterator[Content]:
        """Yield the pictures of a table; without its total if that was shown."""
        say, words = self._say, self._words
        parts = _parts(statistic, words)
        heading = say("tables.subject", subject=", ".join(parts), by=by(statistic.period, words))
        yield element("h3", capital(heading))
        yield element("p", " ".join(counting(statistic, words)), class_="said")
        total = statistic.totals.get(statistic.drawn)
        if total is None or not total.points:
            yield element("p", say("page.empty"))
            return
        if not total.figures:
            yield element("p", " ".join(self._illustrations.gaps(total, statistic)))
            return
        if not again:
            yield self._illustrations.total(statistic, total)
        for breakdown in statistic.breakdowns:
            if not any(each.figures for each in breakdown.series):
                yield element("p", f"{capital(breakdown.title)}. ", *self._illustrations.untold(breakdown.series))
                continue
            if any(len(each.points) > 1 for each in breakdown.series):
                yield self._illustrations.panels(statistic, breakdown)
            yield self._illustrations.newest(statistic, breakdown)

    # After the pictures

    def _budget(self) -> Element:
        say, words, publication = self._say, self._words, self._publication
        lifetime = Decimal(publication.about["lifetime_epsilon"])
        whole = lifetime * (1 + int(publication.about["state_losses"]))
        section = element("section", element("h2", say("budget.heading"), id="budget"), aria_labelledby="budget")
        declared = Decimal(publication.about["epsilon_declared"])
        key = "bound.odds_yearly" if any(each.yearly for each in publication.statistics) else "bound.odds"
        sentence = say("budget.sentence", declared=words.plain(declared), lifetime=words.plain(lifetime))
        extend(section, element("p", sentence), element("p", say(key, most=odds(whole, words))))
        spent = [(each.epsilon, _named(each, words)) for each in publication.statistics]
        if spent:
            spent.sort(key=lambda row: -row[0])
            extend(section, self._illustrations.budget(spent, lifetime))
        return section

    def _notes(self) -> Element:
        say, words = self._say, self._words
        section = element("section", element("h2", say("notes.heading"), id="notes"), aria_labelledby="notes")
        if not self._publication.notes:
            return extend(section, element("p", say("notes.none")))
        named = {each.name: (_named(each, words), each) for each in self._publication.statistics}
        rows: list[list[Content]] = [
            [*self._noted(said, named), element("td", note(said, words), class_="words")]
            for said in self._publication.notes
        ]
        columns = [say("budget.table"), say("tables.period"), say("notes.what")]
        return extend(section, self._tables.table(say("notes.by_table"), columns, rows))

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
        extend(section, element("p", self._publication.about["citation"], class_="cite"))
        rows: list[list[Content]] = [
            [_named(each, self._words), element("td", each.citation, class_="words")] for each in publication.statistics
        ]
        facts = [
            element(
                "div",
                element("dt", say(f"page.{key}")),
                element("dd", publication.stated(key) or say("page.not_stated")),
            )
            for key in ("publisher", "licence", "contact")
        ]
        extend(section, element("dl", *facts, class_="facts"))
        if rows:
            extend(section, self._tables.table(say("citing.one"), [say("budget.table"), say("citing.heading")], rows))
        return extend(section, element("p", before, head, after))

    def _day(self, text: str) -> str:
        """Return a day that the file has as text; what is no day stands as it is."""
        try:
            return self._words.date(dt.date.fromisoformat(text))
        except ValueError:
            return text


def _parts(statistic: Statistic, words: Words) -> list[str]:
    """Return what a table is about: its average, and what it is broken down by; without either, the total."""
    average = [subject(statistic, words)] if statistic.averaged or not statistic.dimensions else []
    return [*average, *statistic.dimensions]


def _named(statistic: Statistic, words: Words) -> str:
    parts = _parts(statistic, words)
    return f"{statistic.title}: {', '.join(parts)}"


def _example(headlines: Sequence[Headline]) -> Figure | None:
    """Return the figure that explains a margin best: one well above 0."""
    counted = [each.total for each in headlines if not each.statistic.averaged]
    return max(counted, key=lambda each: each.lower, default=None)
