"""Accounting: what a receipt says of one ledger, in sentences. Every number in them comes from the chain of entries."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version

from quietcount_aggregates.bound import bound_sentence, plain
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Released, StateLost
from quietcount_aggregates.populations import Horizon, Population, Table, exact_epsilon
from quietcount_aggregates.publication.metadata import condition_of, contribution_sentences
from quietcount_consumers.report.markup import clean

__all__ = [
    "adjacency",
    "composition",
    "domain",
    "mechanisms",
    "notes",
    "parameters",
    "preprocessing",
    "product",
    "releases",
    "sources",
    "told",
]

_HORIZONS = {Horizon.LIFETIME: "over the lifetime of the deployment", Horizon.YEAR: "in each calendar year"}


def told(text: str) -> str:
    """Return what a person wrote as one line, without characters that steer a terminal or a page.

    A backslash would begin a formula where the registry shows the text.
    """
    return " ".join(clean(text).replace("\\", "/").split())


def product(chain: Chain) -> str:
    """Return what is published."""
    rows = []
    for population in chain.declarations.values():
        tables = "; ".join(f"`{told(each.name)}`, {_breakdown(each)}" for each in population.tables)
        also = f" {told(population.description).rstrip('.')}." if population.description else ""
        rows.append(f"{_title(population)}.{also} Tables: {tables}.")
    return "Statistics of case work, with noise. Figures of a period are published once, after its end.\n\n" + _list(
        rows or ["No population is declared yet."]
    )


def domain(chain: Chain) -> str:
    """Return which logs of events are possible."""
    populations = chain.declarations.values()
    events = sorted({told(event) for population in populations for event in population.events})
    symbols = {
        dimension.name: dimension
        for population in populations
        for table in population.tables
        for dimension in (*table.by, *(each.field for each in (*population.where, *table.where)))
    }
    return (
        "Every log of case events. An event has a type, a case key of 16 bytes, an id, a revision, a date, and fields "
        "that are symbols, truth values or whole numbers within declared ends.\n\n"
        + _list(
            [
                f"Event types counted: {', '.join(events) or 'none yet'}.",
                *(f"`{told(name)}`: {', '.join(map(told, each.symbols))}." for name, each in sorted(symbols.items())),
            ]
        )
    )


def adjacency(chain: Chain) -> str:
    """Return when two logs are neighbours, and how far that moves each table."""
    rows = [f"`{told(name)}`: {told(sentence)}" for name, sentence in contribution_sentences(chain).items()]
    return (
        "Two logs are adjacent if one holds all that the other holds and, beside it, any events of one more case key. "
        "One case key stands for one person: somebody who is registered under two identifiers is two. How far the true "
        "values of adjacent logs lie apart in L1, by table:\n\n" + _list(rows or ["No table is declared yet."])
    )


def parameters(chain: Chain) -> str:
    """Return the bound, and what it is made up of."""
    rows = []
    for population in chain.declarations.values():
        parts = " + ".join(f"{_epsilon(table)} (`{told(table.name)}`)" for table in population.tables)
        ended = ". It is retired, and its epsilon stays spent" if population.name in chain.retired else ""
        rows.append(
            f"`{told(population.name)}`: {plain(population.epsilon)} {_HORIZONS[population.horizon]}, "
            f"as {parts}{ended}."
        )
    return f"{bound_sentence(chain)}\n\n" + _list(rows or ["No population is declared yet."])


def releases(chain: Chain) -> str:
    """Return when releases are made, and what was released so far."""
    if chain.described:
        grace = f"{_span(chain.described.grace)} after the end of each"
    else:
        grace = "some time after the end of each, by the clock alone"
    sentences = [
        f"Each table is released once for each of its periods, {grace}.",
        "A value is drawn once, whatever happens, and is never drawn again.",
    ]
    yearly = [each for each in chain.declarations.values() if each.horizon is Horizon.YEAR]
    if len(yearly) < len(chain.declarations) or not yearly:
        what = "A budget" if not yearly else "The budget of the other populations"
        sentences.append(
            f"{what} is spent when a population is declared, however many releases follow, and is never given back."
        )
    if yearly:
        names = ", ".join(f"`{told(each.name)}`" for each in yearly)
        sentences.insert(
            2, f"The contribution bound, and the loss, of {names} begin again each calendar year, and add up."
        )
    bodies = list(_released(chain))
    if bodies:
        first, last = min(body.period_start for body in bodies), max(body.period_end for body in bodies)
        sentences.append(f"So far there are {len(bodies)} releases, of periods from {first} to {last}.")
    else:
        sentences.append("Nothing is released yet.")
    return " ".join(sentences)


def composition(chain: Chain) -> str:
    """Return how the losses of tables, populations and losses of the state add up."""
    budget = chain.budget
    spent = " + ".join(plain(each.epsilon) for each in chain.declarations.values())
    rows = [
        "Over the periods of a table nothing adds up: the contribution bound holds for all of them together, so the "
        "epsilon of the table covers every release of it over the horizon.",
        "Tables of a population, and populations, compose sequentially: their epsilons are added.",
        f"Declared so far: {f'{spent} = ' if len(chain.declarations) > 1 else ''}{plain(budget.declared)} of a "
        f"lifetime epsilon of {plain(budget.lifetime_epsilon)}. No declaration can exceed that.",
    ]
    if budget.yearly:
        rows.append(
            f"Of this, {plain(budget.yearly)} is for populations with a yearly horizon: a person who comes in several "
            "calendar years loses it in each."
        )
    if budget.losses:
        rows.append(
            f"The record of past contributions, or the emitters' secret, was lost {budget.losses} "
            f"{'time' if budget.losses == 1 else 'times'}. A case may then have counted again, so the bound is "
            f"{1 + budget.losses} x {plain(budget.lifetime_epsilon)} = {plain(budget.bound)}."
        )
    return _list(rows)


def preprocessing(chain: Chain) -> str:
    """Return what is done to events before they are counted."""
    rows = []
    for population in chain.declarations.values():
        condition = condition_of(population.where)
        where = f" Only events count whose {told(condition)}." if condition else ""
        rows.append(f"`{told(population.name)}`: {population.counting}.{where}")
        rows.extend(
            f"`{told(table.name)}` sums up `{told(table.sum.field)}`, moved to between {table.sum.low} and "
            f"{table.sum.high}, less {table.sum.middle}."
            for table in population.sums
            if table.sum
        )
    return _list(
        [
            "An event id counts once. A higher revision replaces a lower one, and a withdrawal removes a case, while "
            "the period is open.",
            "Of a case with more contributions than its limit, those of the oldest period count, and within it the "
            "first to come.",
            *rows,
            "Nothing is tuned on the data. Limits, tables, cells and epsilons are declared in the ledger before "
            "anything is counted by them, and a declaration never changes. If the publisher looked at real counts "
            "when choosing them, that is not part of the bound.",
        ]
    )


def mechanisms(chain: Chain) -> str:
    """Return how the noise is drawn."""
    drawn = {f"`{told(body.mechanism)}`" for body in _released(chain)}
    recorded = f" The ledger records it with each release, as {', '.join(sorted(drawn))}." if drawn else ""
    used = {body.statistic: body.noise_scale for body in _released(chain)}
    scales = (
        (table.name, used.get(table.name, table.sensitivity(population.max_contributions) / table.epsilon))
        for population, table in chain.tables
    )
    return _list(
        [
            "The discrete Laplace mechanism: one draw is added to each cell, of scale sensitivity / epsilon."
            f"{recorded}",
            *(f"`{told(name)}`: scale {scale:g}." for name, scale in scales),
            "It is implemented by the OpenDP library (`make_laplace` on vectors of 64-bit integers). Its privacy map "
            "is evaluated before each draw, and a draw above the declared epsilon is refused. There is no seed, and no "
            "setting without noise.",
            "Floating point: counts and noise are whole numbers, and the library samples them exactly.",
            "Timing: the clock alone decides when a period is released and when the file is published. Nobody can "
            "submit a query to the data.",
            "Platform: metrics, logs, errors and file names hold no exact count.",
            "Security: state, secrets and an embedded log are files of their owner alone, and brokers give rights by "
            "role. The attributes of a settled period are removed by rewriting the files that held them.",
            "Who has access to the machine, the operator states.",
            f"This record was made by quietcount {version('quietcount-consumers')} with OpenDP {version('opendp')}.",
        ]
    )


def sources(chain: Chain, named: Sequence[str]) -> str:
    """Return where to look it up."""
    head = chain.head
    described = chain.described
    said = [("Contact", described.contact), ("Licence", described.licence)] if described else []
    return _list(
        [
            *map(told, named),
            f"The published file `statistics.duckdb` holds the whole ledger: {head.length} entries, head "
            f"{head.digest.hex()}, signed with the key `{chain.signer.text}`.",
            "`quietcount ledger verify FILE` checks all of that, with nothing but the file.",
            *(f"{what}: {told(text)}" for what, text in said if text),
        ]
    )


def notes(chain: Chain) -> str:
    """Return what a careful reader should know of this ledger beside its numbers."""
    rows = [
        "All fields but intended use, region, sector, justification and authors were filled in by a program, from the "
        "ledger alone."
    ]
    rows += [f"`{told(name)}` is retired: nothing more is released of it." for name in sorted(chain.retired)]
    rows += [f"`{told(name)}` waits for its past: nothing of it is released yet." for name in sorted(chain.incomplete)]
    for entry in chain.entries:
        if isinstance(entry.body, StateLost):
            lost = "The emitters' secret" if entry.body.kept else "The record of past contributions"
            rows.append(f"{lost} was lost (ledger entry {entry.index}, {entry.recorded_at.date()}).")
    rows += [
        f"`{told(name)}` is withheld permanently for the period from {start}: a part of it was in a lost state."
        for name, start in sorted(chain.withheld)
    ]
    return _list(rows)


def _released(chain: Chain) -> Iterator[Released]:
    return (entry.body for entry in chain.entries if isinstance(entry.body, Released))


def _title(population: Population) -> str:
    return told(population.title or ", ".join(population.events)).rstrip(".")


def _breakdown(table: Table) -> str:
    what = f"average of {told(table.sum.field)}" if table.sum else "count"
    by = ", ".join(told(each.name) for each in table.by)
    condition = condition_of(table.where)
    where = f" where {told(condition)}" if condition else ""
    return f"{what}{where}{f' by {by}' if by else ''} each {table.period.value}"


def _epsilon(table: Table) -> str:
    return plain(exact_epsilon(table.epsilon))


def _span(grace: dt.timedelta) -> str:
    hours, rest = divmod(grace, dt.timedelta(hours=1))
    if grace and not rest and not hours % 24:
        return "1 day" if hours == 24 else f"{hours // 24} days"
    return f"{hours} hours" if not rest else f"{grace // dt.timedelta(seconds=1)} seconds"


def _list(items: Iterable[str]) -> str:
    return "".join(f"- {item}\n" for item in items)
