"""The doctor's look at workers: which partitions a release waits for."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator

from quietcount_aggregates.due_periods import due_in
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.doctor.verdicts import warning
from quietcount_consumers.monitoring.standing import WORKERS_PATIENCE
from quietcount_consumers.wiring import open_ledger, open_log
from quietcount_consumers.workers.sums_channel import partitions_answered
from quietcount_schemas.finding import Finding

__all__ = ["check_workers"]


def check_workers(configuration: Configuration, now: dt.datetime) -> Iterator[Finding]:
    """Name each partition for which a release has waited for an hour. Raises what ledger and log raise."""
    with contextlib.closing(open_ledger(configuration, create=False)) as ledger_log:
        ledger = Ledger(ledger_log)
        ledger.refresh()
        ledger.read_places()
    settlement = ledger.open_settlement
    if settlement is None or not due_in(ledger.chain, settlement.until):
        return
    if now - (settlement.until + configuration.grace) < WORKERS_PATIENCE:
        return
    partitions = ledger.chain.opened.partitions
    with contextlib.closing(open_log(configuration)) as log:
        answered = partitions_answered(log, settlement, partitions)
    for partition in range(partitions):
        if partition not in answered:
            yield warning(
                "workers",
                f"a release has waited for over an hour for the worker of partition {partition}",
                "Start that worker; if it runs, its log says what it waits for. Nothing is lost, and the release "
                "follows",
            )
