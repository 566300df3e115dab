"""Configurations of trials: a budget, a grace period and a tick, and the statistics that are counted."""

from __future__ import annotations

import json
from collections.abc import Sequence

__all__ = ["catalogue", "statistic"]


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
    """Return the table of one statistic, after an empty line; a key that is None, or of no dimension, is left out."""
    keys = {
        "name": f'"{name}"',
        "events": _listed(events),
        "by": _listed(by) if by else None,
        "period": f'"{period}"',
        "since": since,  # TOML has dates of its own, in no quotes
        "max_contributions": max_contributions,
        "horizon": None if horizon is None else f'"{horizon}"',
        "late": None if late is None else f'"{late}"',
        "epsilon": epsilon,
    }
    return "\n[[statistic]]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items() if value is not None)


def _listed(names: str | Sequence[str]) -> str:
    return json.dumps([names] if isinstance(names, str) else list(names))
