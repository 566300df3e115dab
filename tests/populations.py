"""Populations of one table, which most tests are about."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from quietcount_aggregates.catalogue import AskedTable, resolve
from quietcount_aggregates.populations import Horizon, Late, Population
from quietcount_schemas.events.periods import Period
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["population_of"]


def population_of(
    name: str,
    *,
    events: Sequence[str],
    registry: SchemaRegistry,
    period: Period,
    epsilon: float,
    where: Mapping[str, Sequence[str | bool]] | None = None,
    by: Sequence[str] = (),
    max_contributions: int = 1,
    horizon: Horizon = Horizon.LIFETIME,
    since: dt.date | None = None,
    late: Late = Late.CARRY,
) -> Population:
    """Return a population with one table of the same name and period."""
    return resolve(
        name,
        events=events,
        registry=registry,
        period=period,
        where=where,
        max_contributions=max_contributions,
        horizon=horizon,
        since=since,
        late=late,
        tables=[AskedTable(name, epsilon, by=by)],
    )
