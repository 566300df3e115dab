"""The command simulate: synthetic case events with known totals."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click

from quietcount_producers.errors import ProducersError
from quietcount_producers.simulation import Mix, Tally, encoded, simulate
from quietcount_schemas.commands.days import Day

__all__ = ["simulate_command"]

_STANDARD = "-"
_DAY = Day()
_SHARE = click.FloatRange(0.0, 1.0)


@click.command(
    "simulate",
    epilog="Example: quietcount simulate --events 5000 --seed 7 --duplicates 0.05 --totals totals.json -o trial.jsonl",
    short_help="Write synthetic case events with known totals.",
)
@click.option("--events", type=click.IntRange(min=0), default=1000, show_default=True, help="How many events.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same bytes everywhere.")
@click.option("--from", "first", type=_DAY, metavar="DAY", default="2023-01-01", show_default=True, help="First day.")
@click.option("--to", "last", type=_DAY, metavar="DAY", default="2023-12-31", show_default=True, help="Last day.")
@click.option("--duplicates", type=_SHARE, metavar="SHARE", default=0.0, help="Share of events that are sent twice.")
@click.option(
    "--corrections", type=_SHARE, metavar="SHARE", default=0.0, help="Share of events that are corrected later."
)
@click.option("--withdrawals", type=_SHARE, metavar="SHARE", default=0.0, help="Share of cases that withdraw.")
@click.option(
    "--late",
    type=_SHARE,
    metavar="SHARE",
    default=0.0,
    help="Share of events that come up to four months after their day.",
)
@click.option("-o", "--output", default=_STANDARD, metavar="FILE|-", help="Where the lines go.  [default: -]")
@click.option(
    "--totals",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the true totals, as JSON: what an exact count of the lines would give.",
)
def simulate_command(
    events: int,
    seed: int,
    first: dt.date,
    last: dt.date,
    duplicates: float,
    corrections: float,
    withdrawals: float,
    late: float,
    output: str,
    totals: Path | None,
) -> None:
    """Write synthetic case events as JSONL, for trials and benchmarks.

    No line is about anybody. The totals are those after duplicates, corrections and withdrawals, before any bound on
    contributions, and beside them those of each case's first event of a type.
    """
    tally = Tally() if totals is not None else None
    try:
        mix = Mix(duplicates=duplicates, corrections=corrections, withdrawals=withdrawals, late=late)
        lines = simulate(events, seed, first=first, last=last, mix=mix)
    except ProducersError as error:  # shares and days come from the command line alone
        raise click.UsageError(f"{error}.") from None
    with _written(output) as stream:
        for line in lines:
            stream.write(encoded(line))
            if tally is not None:
                tally.add(line)
    if totals is not None and tally is not None:
        with _written(str(totals)) as stream:
            stream.write(json.dumps(tally.totals(), indent=1, sort_keys=True).encode() + b"\n")


@contextlib.contextmanager
def _written(target: str) -> Iterator[BinaryIO]:
    if target == _STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with Path(target).open("wb") as stream:
            yield stream
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise ProducersError(f"Cannot write {target}: {reason}", "Check the folder and the disk") from error
