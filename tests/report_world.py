"""Published files for the report: one that has every case a report must show, with words that attack the page."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from tests.aggregates_world import utc, world_in
from tests.numbers_world import DAYS, VISITS, Visit, events_of, visits

from quietcount_aggregates.description import Description, Label
from quietcount_aggregates.noise import DiscreteLaplace
from quietcount_aggregates.publication.publication import publish
from quietcount_aggregates.tables import AskedTable
from quietcount_schemas.events.numbers import Buckets, Summed
from quietcount_schemas.events.periods import Period

__all__ = ["ATTACK", "LABELS", "daily", "lost", "scarce", "twice", "unreleased", "varied"]

ATTACK = "\u202e</style><script>alert('x')</script><img src=x onerror=alert(1)> \"'&{}\x00\x1b\u2028"
"""What must never be more than text, wherever a person may write."""

LABELS = (
    Label("visits", "kind", "en", "", f"Kind {ATTACK}"),
    Label("visits", "kind", "en", "OLD", f"Old {ATTACK}"),
    Label("visits", "kind", "ru", "OLD", "Старое"),
    Label("visits", "kind", "en", "NEW", "New"),
    Label("visits", "days", "en", "", "Days of waiting"),
)

_TABLES = (
    AskedTable("by_days", 1.0, by=["kind", DAYS]),
    AskedTable("by_quarter", 0.5, by=["kind"], period=Period.QUARTER),
    AskedTable("waiting", 0.5, by=["kind"], sum=Summed("days", (0, 60), "by_days")),
)


def varied(folder: Path) -> Path:
    """Publish counts by kind and bucket, averages that nobody can tell, a quarter withheld, and months provisional."""
    population = visits(*_TABLES, title=f"Visits {ATTACK}", description=f"A visit. {ATTACK}", max_contributions=2)
    # Published once, at the end.
    with world_in(folder, [population], registry=VISITS, mechanism=DiscreteLaplace(), published=False) as world:
        number = 0
        for month in range(1, 12):
            if month == 6:  # the second quarter is lost in its middle
                world.lose_state(utc(dt.date(2024, 6, 2)))
                world.restart(utc(dt.date(2024, 6, 2)))
            told = [
                Visit(dt.date(2024, month, 1), days, kind)
                for kind, many in (("OLD", 90), ("NEW", 40))
                for days in [3] * many + [20] * (many + 5 * month) + [80] * 9
            ]
            world.emit(events_of(told, number))
            number += len(told)
            world.fold(dt.date(2024, month, 2))
            world.release(utc(dt.date(2024, month + 1, 1)))
        description = Description(
            dt.timedelta(days=7), f"Desk {ATTACK}", f"CC {ATTACK}", f"mail {ATTACK}", f"Cite {ATTACK}", LABELS
        )
        world.ledger.describe(description, utc(dt.date(2024, 12, 2)))
        publish(world.ledger.chain, world.public)
        return world.public


def daily(folder: Path) -> Path:
    """Publish 130 days of counts by 15 buckets."""
    buckets = Buckets("days", tuple(range(0, 390, 26)))
    population = visits(AskedTable("daily", 1.0, by=[buckets]), period=Period.DAY)
    with world_in(folder, [population], registry=VISITS, mechanism=DiscreteLaplace()) as world:
        told = [
            Visit(dt.date(2024, 1, 1) + dt.timedelta(days=number % 130), 7 * number % 390) for number in range(2600)
        ]
        world.emit(events_of(told))
        world.fold(dt.date(2024, 5, 20))
        world.release(utc(dt.date(2024, 5, 10)))
        return world.public


def scarce(folder: Path, cases: int) -> Path:
    """Publish three months of averages, of so many cases of each of two kinds a month, and with no noise."""
    tables = (
        AskedTable("counted", 1.0, by=["kind"]),
        AskedTable("waiting", 1.0, by=["kind"], sum=Summed("days", (0, 60), "counted")),
    )
    with world_in(folder, [visits(*tables)], registry=VISITS, published=False) as world:
        months = [dt.date(2024, month, 1) for month in (1, 2, 3)]
        told = [Visit(day, 10, kind) for day in months for kind in ("OLD", "NEW") for _ in range(cases)]
        world.emit(events_of(told))
        world.fold(dt.date(2024, 3, 2))
        world.release(utc(dt.date(2024, 4, 20)))
        publish(world.ledger.chain, world.public)
        return world.public


def twice(folder: Path) -> Path:
    """Publish two months of two tables that count the same, one that counts a part, and one by the quarter."""
    tables = (
        AskedTable("by_kind", 1.0, by=["kind"]),
        AskedTable("by_days", 1.0, by=[DAYS]),
        AskedTable("new_by_days", 1.0, by=[DAYS], where={"kind": ["NEW"]}),
        AskedTable("quarterly", 1.0, by=[DAYS], period=Period.QUARTER),
    )
    with world_in(folder, [visits(*tables)], registry=VISITS, published=False) as world:
        world.emit(events_of([Visit(dt.date(2024, month, 1), 3) for month in (1, 2, 3) for _ in range(20)]))
        world.fold(dt.date(2024, 3, 2))
        world.release(utc(dt.date(2024, 4, 20)))
        publish(world.ledger.chain, world.public)
        return world.public


def lost(folder: Path) -> Path:
    """Publish months, and a quarter that is withheld before another one is over."""
    tables = AskedTable("monthly", 1.0), AskedTable("quarterly", 1.0, by=["kind"], period=Period.QUARTER)
    with world_in(folder, [visits(*tables)], registry=VISITS, published=False) as world:
        for month in (1, 2, 3):
            world.emit(events_of([Visit(dt.date(2024, month, 1), 3)], month))
            world.fold(dt.date(2024, month, 2))
            if month == 2:
                world.lose_state(utc(dt.date(2024, month, 2)))
                world.restart(utc(dt.date(2024, month, 2)))
            world.release(utc(dt.date(2024, month + 1, 1)))
        world.release(utc(dt.date(2024, 4, 20)))
        publish(world.ledger.chain, world.public)
        return world.public


def unreleased(folder: Path, **more: Any) -> Path:
    """Publish a file that says what is declared, before anything is released."""
    with world_in(folder, [visits(*_TABLES, **more)], registry=VISITS) as world:
        return world.public
