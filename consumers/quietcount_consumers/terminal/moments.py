"""Moments that people write on the command line: which ones there are, and which ones a release may look at.

A release permanently closes every period before its moment. A mistyped year must not do that.
"""

from __future__ import annotations

import datetime as dt

import click

from quietcount_consumers.errors import ServiceError
from quietcount_schemas.events.event_types import EARLIEST, LATEST

__all__ = ["FIRST", "Moment", "check_not_far_ahead"]

FIRST = EARLIEST + dt.timedelta(days=1)
"""The day after the first on which an event may occur."""

FAR_AHEAD = dt.timedelta(days=366)


class Moment(click.ParamType[dt.datetime]):
    """A date or a moment from FIRST to LATEST, in UTC unless it says otherwise."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> dt.datetime:
        if isinstance(value, dt.datetime):
            return value
        try:
            moment = dt.datetime.fromisoformat(str(value))
        except ValueError:
            self.fail("write a date or a moment: 2023-12-08, or 2023-12-08T06:00:00", param, ctx)
        try:
            moment = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
        except OverflowError:  # an offset that leads out of the years 1 to 9999
            moment = dt.datetime.max.replace(tzinfo=dt.UTC)
        if not FIRST <= moment.date() <= LATEST:
            self.fail(f"write a date or a moment from {FIRST} to {LATEST} (UTC)", param, ctx)
        return moment


def check_not_far_ahead(as_of: dt.datetime, now: dt.datetime) -> None:
    """Warn on stderr of an `as_of` after the clock's `now`; raise ServiceError for one more than FAR_AHEAD after it."""
    if as_of - now > FAR_AHEAD:
        raise ServiceError(
            f"--as-of lies more than {FAR_AHEAD.days} days ahead of the clock. A release would permanently close "
            "periods that have not even begun",
            "Check the year; `quietcount release --dry-run` may look further ahead",
        )
    if as_of > now:
        click.echo(
            "Warning: --as-of lies ahead of the clock. What is due by then is closed permanently: events that come in "
            "later are carried into a later period or dropped.",
            err=True,
        )
