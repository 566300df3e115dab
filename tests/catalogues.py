"""Configurations of trials: a budget, a grace period and a tick, and what is counted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

__all__ = ["COARSER", "catalogue", "statistic"]

COARSER = """
[[population]]
name = "asked"
title = "Who asked for help"
events = ["HelpRequested"]
period = "month"
since = 2023-01-01
[[population.table]]
name = "by_month"
by = ["help_kind"]
epsilon = 20
[[population.table]]
name = "by_quarter"
by = ["service_category"]
period = "quarter"
epsilon = 10
"""
"""A population of two tables, of which one is released by a coarser period than the population settles by."""


def catalogue(
    *statistics: str, lifetime_epsilon: float = 100, grace: str | None = "7d", tick: str | None = "1s"
) -> str:
    """Return the text of a configuration; a key that is None is left out."""
    keys = [f"lifetime_epsilon = {lifetime_epsilon}"]
    keys += [f'{key} = "{value}"' for key, value in {"grace": grace, "tick": tick}.items() if value is not None]
    return "".join(["\n", *(f"{key}\n" for key in keys), *statistics])


def statistic(
    name: str,
    events: str | Sequence[str],
    *,
    by: str | Sequence[str] = (),
    period: str = "month",
    since: str | None = "2023-01-01",
    epsilon: float = 20.0,
    max_contributions: int | None = None,
    horizon: str | None = None,
    late: str | None = None,
) -> str:
    """Return a population with one table of its name, after an empty line; keys that are None are left out."""
    population = {
        "name": f'"{name}"',
        "events": _listed(events),
        "period": f'"{period}"',
        "since": since,  # TOML has dates of its own, in no quotes
        "max_contributions": max_contributions,
        "horizon": None if horizon is None else f'"{horizon}"',
        "late": None if late is None else f'"{late}"',
    }
    table = {"name": f'"{name}"', "by": _listed(by) if by else None, "epsilon": epsilon}
    return f"\n[[population]]\n{_keys(population)}[[population.table]]\n{_keys(table)}"


def _keys(values: Mapping[str, object]) -> str:
    return "".join(f"{key} = {value}\n" for key, value in values.items() if value is not None)


def _listed(names: str | Sequence[str]) -> str:
    return json.dumps([names] if isinstance(names, str) else list(names))
