"""The metrics: what Prometheus may see and keep for years, in one table, and whether the service is ready.

Everything is a gauge and a function of what the board shows, which changes at points of the tick's grid alone. There
is no counter, lag, size or duration that follows from events: scraped every few seconds, it would be a list of their
arrivals.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from importlib import metadata
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client import exposition as text_format
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics import exposition as open_metrics
from prometheus_client.registry import Collector

from quietcount_consumers.monitoring.pages import AGE, BEHIND, READY, Pages, running
from quietcount_consumers.monitoring.status import NEVER, CellStatus, StatisticStatus, Status, View
from quietcount_schemas.rejection import ClientFault, RejectReason

__all__ = ["METRICS", "Metric", "pages"]

Sample = tuple[tuple[str, ...], float]
"""The values of a metric's labels, in their order, and its value."""

_NOTHING: Final = math.nan
_FOLDERS: Final = ("data", "secrets")
_VERSION: Final = metadata.version("quietcount-consumers")


@dataclass(frozen=True, slots=True)
class Metric:
    """A gauge: its full name, its HELP text, its labels, and its samples as a function of what may be seen."""

    name: str
    help: str
    samples: Callable[[View], Iterable[Sample]]
    labels: tuple[str, ...] = ()
    marker: str = ""
    """What stands in the place of its value until a scrape; "" if the value is that of the samples."""


def pages(view: View, left: float | None) -> Pages:
    """Return what is served of `view`, finished but for what follows from the time of a scrape.

    `left` is how many seconds there are to the next point of the grid, None if the clock stands. A turn costs the fold
    one making of each format; scrapes cost it nothing.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Shown(view))
    plain, openly = (
        _marked(made(registry).decode()) for made in (text_format.generate_latest, open_metrics.generate_latest)
    )
    return Pages(
        text=plain,
        open_metrics=openly,
        reasons=tuple(_reasons(view.status)),
        interval=view.status.interval.total_seconds(),
        age=view.age.total_seconds(),
        left=left,
        made=running(),
    )


def _marked(exposition: str) -> str:
    """Return `exposition` with markers in the place of the values that change between two turns."""
    for metric in METRICS:
        if metric.marker:
            exposition = exposition.replace(f"\n{metric.name} NaN\n", f"\n{metric.name} {metric.marker}\n")
    return exposition


class _Shown(Collector):
    """Every metric of the table, of one view."""

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for metric in METRICS:
            family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            for labels, value in metric.samples(self._view):
                family.add_metric(labels, value)
            yield family


def _reasons(status: Status) -> Iterator[str]:
    """Yield why the service is not ready, except late ticks: the process that answers counts those."""
    if status.tick == NEVER:
        yield "No tick was done yet."
    if not status.state_open:
        yield "The private state is not open."
    if not status.ledger_verified:
        yield "The ledger is not verified."
    if not status.broker_reachable:
        yield "The log does not answer."
    if not status.clock_trusted:
        yield "The clock is not trusted."


def _at_the_scrape(_: View) -> Iterable[Sample]:
    """Return the sample of a metric with a marker."""
    return [((), _NOTHING)]


def _one(value: Callable[[View], float]) -> Callable[[View], Iterable[Sample]]:
    """Return the samples of a metric without labels."""
    return lambda view: [((), value(view))]


def _time(moment: Callable[[View], dt.datetime]) -> Callable[[View], Iterable[Sample]]:
    return _one(lambda view: moment(view).timestamp())


def _known(fact: bool | None) -> float:
    return _NOTHING if fact is None else float(fact)


def _number(number: Decimal | None) -> float:
    return _NOTHING if number is None else float(number)


def _day(day: dt.date | None, days: int = 0) -> float:
    """Return the start of `day` (UTC), so many days later, as a timestamp."""
    if day is None:
        return _NOTHING
    return dt.datetime.combine(day + dt.timedelta(days=days), dt.time(), dt.UTC).timestamp()


def _successes(view: View) -> Iterator[Sample]:
    status = view.status
    times = {"fold": status.fold, "release": status.release, "publication": status.publication, "purge": status.purge}
    return ((((operation,)), moment.timestamp()) for operation, moment in times.items())


def _rejects(view: View) -> Iterator[Sample]:
    return (((reason.value,), float(reason in view.status.rejects_seen)) for reason in RejectReason)


def _faults(view: View) -> Iterator[Sample]:
    return (((fault.value,), float(fault in view.status.faults_seen)) for fault in ClientFault)


def _partitions(view: View) -> Iterator[Sample]:
    return (((str(partition),), float(missing)) for partition, missing in view.status.missing)


def _disks(view: View) -> Iterator[Sample]:
    free = dict(view.status.disk_free)
    return (((folder,), free.get(folder, _NOTHING)) for folder in _FOLDERS)


def _by_the_clock(count: Callable[[Status, StatisticStatus], int]) -> Callable[[View], Iterable[Sample]]:
    """Return the samples, by statistic, of what the tick's time decides: a wrong clock would call everything due."""

    def samples(view: View) -> Iterator[Sample]:
        for each in view.status.statistics:
            yield (each.name,), float(count(view.status, each)) if view.status.clock_trusted else _NOTHING

    return samples


def _cells(value: Callable[[CellStatus], int]) -> Callable[[View], Iterable[Sample]]:
    def samples(view: View) -> Iterator[Sample]:
        for statistic in view.status.statistics:
            released = {cell.cell: float(value(cell)) for cell in statistic.released}
            for cell in statistic.cells:
                yield (statistic.name, cell), released.get(cell, _NOTHING)

    return samples


METRICS: Final[tuple[Metric, ...]] = (
    Metric(
        "quietcount_build_info",
        "The version that runs, in a label; the value is always 1.",
        lambda _: [((_VERSION,), 1.0)],
        ("version",),
    ),
    Metric(
        "quietcount_configuration_info",
        "The first 16 hexadecimal digits of the SHA-256 of the effective configuration, in a label; the value is "
        "always 1. It holds no secret, and changes only with the configuration.",
        lambda view: [((view.status.configuration,), 1.0)],
        ("hash",),
    ),
    Metric(
        "quietcount_start_timestamp_seconds",
        "When the process was started, on the tick's grid.",
        _time(lambda view: view.started),
    ),
    Metric(
        "quietcount_tick_interval_seconds",
        "How long it is from one point of the tick's grid to the next, as configured.",
        _one(lambda view: view.status.interval.total_seconds()),
    ),
    Metric(
        "quietcount_last_tick_timestamp_seconds",
        "The newest tick that was done, even if it failed; 0 before the first.",
        _time(lambda view: view.status.tick),
    ),
    Metric(
        "quietcount_tick_age_seconds",
        "How long ago the newest tick was, in whole ticks; since the start if none is done yet. One tick is usual.",
        _at_the_scrape,
        marker=AGE,
    ),
    Metric(
        "quietcount_ticks_behind",
        "How many points of the tick's grid passed without a tick that was done by the next one.",
        _at_the_scrape,
        marker=BEHIND,
    ),
    Metric(
        "quietcount_caught_up",
        "1 if the newest tick folded the log to its end as it stood at the tick's start.",
        _one(lambda view: float(view.status.caught_up)),
    ),
    Metric(
        "quietcount_ready",
        "1 if /readyz says that the service is ready.",
        _at_the_scrape,
        marker=READY,
    ),
    Metric(
        "quietcount_state_open",
        "1 if the private state was open at the newest tick.",
        _one(lambda view: float(view.status.state_open)),
    ),
    Metric(
        "quietcount_broker_reachable",
        "1 if the log and the ledger answered at the newest tick: the brokers, or the files of the embedded ones; "
        "NaN until the service has looked, or while another fault prevents it.",
        _one(lambda view: _known(view.status.broker_reachable)),
    ),
    Metric(
        "quietcount_clock_trusted",
        "0 while the clock has jumped or lies behind an earlier tick: then nothing is folded or released.",
        _one(lambda view: float(view.status.clock_trusted)),
    ),
    Metric(
        "quietcount_last_success_timestamp_seconds",
        "The newest tick, by operation: fold reached the end of the log, release released, publication built the "
        "public file, and purge left nothing that had waited for a day or more. 0 if it has not happened since the "
        "start; a release counts since the ledger was opened.",
        _successes,
        ("operation",),
    ),
    Metric(
        "quietcount_publication_waits",
        "1 while what is in the ledger is not published because too few witnesses have signed its head.",
        _one(lambda view: float(view.status.publication_waits)),
    ),
    Metric(
        "quietcount_partition_missing",
        "1 if a settlement has waited for an hour or more for what the worker of this partition counts; of a releaser "
        "with workers alone.",
        _partitions,
        ("partition",),
    ),
    Metric(
        "quietcount_rejects_seen",
        "1 if records were rejected for this reason on the day (UTC) before the newest tick's.",
        _rejects,
        ("reason",),
    ),
    Metric(
        "quietcount_client_faults_seen",
        "1 if a client got this wrong, as seen on the day (UTC) before the newest tick's, about records that count all "
        "the same.",
        _faults,
        ("fault",),
    ),
    Metric(
        "quietcount_ledger_verified",
        "1 if the ledger's chain held at the newest tick and was not behind what was published from it; older entries "
        "are compared once an hour and before each release. NaN until the ledger has been read, or while another fault "
        "prevents it.",
        _one(lambda view: _known(view.status.ledger_verified)),
    ),
    Metric(
        "quietcount_ledger_entries",
        "How many entries the ledger has: declarations, and releases, which follow from the clock; 0 before it was "
        "read.",
        _one(lambda view: float(view.status.ledger_entries)),
    ),
    Metric(
        "quietcount_ledger_state_losses",
        "How many losses of the private state the ledger records; each may raise the stated bound.",
        _one(lambda view: float(view.status.state_losses)),
    ),
    Metric(
        "quietcount_releases_due",
        "How many periods of the statistic were due at the newest tick and are not released; NaN while the clock is "
        "not trusted.",
        _by_the_clock(Status.due),
        ("statistic",),
    ),
    Metric(
        "quietcount_releases_overdue",
        "How many of the periods that are due had been due at the point of the grid before the newest tick already; "
        "NaN while the clock is not trusted.",
        _by_the_clock(Status.overdue),
        ("statistic",),
    ),
    Metric(
        "quietcount_budget_limit_epsilon",
        "The lifetime epsilon: what all statistics together may spend.",
        _one(lambda view: _number(view.status.budget.limit)),
    ),
    Metric(
        "quietcount_budget_bound_epsilon",
        "The stated bound: the lifetime epsilon, once more for each recorded loss of the private state; NaN before the "
        "ledger was read.",
        _one(lambda view: _number(view.status.budget.bound)),
    ),
    Metric(
        "quietcount_budget_left_epsilon",
        "How much of the lifetime epsilon is left to declare; NaN before the ledger was read.",
        _one(lambda view: _number(view.status.budget.left)),
    ),
    Metric(
        "quietcount_budget_spent_epsilon",
        "What the statistic spent when its population was declared, for all of its releases together, permanently; NaN "
        "before the ledger was read.",
        lambda view: [((each.name,), _number(each.epsilon)) for each in view.status.statistics],
        ("statistic",),
    ),
    Metric(
        "quietcount_statistic_retired",
        "1 if the population of the statistic is retired: it is not released any more, and its epsilon stays spent.",
        lambda view: [((each.name,), float(each.retired)) for each in view.status.statistics],
        ("statistic",),
    ),
    Metric(
        "quietcount_statistic_estimate",
        "The published figure of the cell in the newest released period, with its noise, as analysts see it; NaN "
        "before the first release. Do not add estimates up. A statistic of more than 200 cells is left out.",
        _cells(lambda cell: cell.estimate),
        ("statistic", "cell"),
    ),
    Metric(
        "quietcount_statistic_lower",
        "The lower end of the 95 % interval for the true count of the cell in the newest released period; NaN before "
        "the first release. A statistic of more than 200 cells is left out.",
        _cells(lambda cell: cell.lower),
        ("statistic", "cell"),
    ),
    Metric(
        "quietcount_statistic_upper",
        "The upper end of the 95 % interval for the true count of the cell in the newest released period; NaN before "
        "the first release. A statistic of more than 200 cells is left out.",
        _cells(lambda cell: cell.upper),
        ("statistic", "cell"),
    ),
    Metric(
        "quietcount_statistic_period_start_timestamp_seconds",
        "The start (UTC) of the newest released period of the statistic; NaN before the first release.",
        lambda view: [((each.name,), _day(each.period_start)) for each in view.status.statistics],
        ("statistic",),
    ),
    Metric(
        "quietcount_statistic_period_end_timestamp_seconds",
        "The end (UTC) of the newest released period of the statistic: the midnight after its last day; NaN before the "
        "first release.",
        lambda view: [((each.name,), _day(each.period_end, 1)) for each in view.status.statistics],
        ("statistic",),
    ),
    Metric(
        "quietcount_disk_free_ratio",
        "How much of the folder's disk is free, rounded down to 0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5 or 1; NaN before it "
        "was looked at.",
        _disks,
        ("folder",),
    ),
)
"""Every metric there is, in the order of the exposition."""
