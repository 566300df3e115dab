"""Days that people write on the command line."""

from __future__ import annotations

import datetime as dt

import click

from quietcount_schemas.events.event_types import EARLIEST, LATEST

__all__ = ["Day"]


class Day(click.ParamType[dt.date]):
    """A day on which an event may occur, as 2023-04-01."""

    name = "day"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> dt.date:
        """Return the day that `value` names. Raises click.BadParameter that says what to write."""
        if isinstance(value, dt.date):
            return value
        try:
            # Text as the configuration has it. The standard library also reads 20230401 and 2023-W13-6.
            day = dt.datetime.strptime(str(value), "%Y-%m-%d").replace(tzinfo=dt.UTC).date()
        except ValueError:
            self.fail("is not a day of the calendar; write one, as 2023-04-01", param, ctx)
        if not EARLIEST <= day <= LATEST:
            self.fail(f"no event may have this date; write a day from {EARLIEST} to {LATEST}", param, ctx)
        return day
