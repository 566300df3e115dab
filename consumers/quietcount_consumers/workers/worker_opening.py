"""Opening: the worker of a configuration, with everything that it uses opened and bound together."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Collection

from quietcount_aggregates.errors import LedgerMissing
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.release import check_schemas
from quietcount_aggregates.settling import populations_of
from quietcount_aggregates.state.marks import ConsumerSecret
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.monitoring import disks
from quietcount_consumers.monitoring.standing import Standing
from quietcount_consumers.partitions import BATCH, Partitions, opened_states, settlers_of
from quietcount_consumers.wiring import open_ledger, open_log, prepare_folders, watched_folders
from quietcount_consumers.workers.duty import Duty
from quietcount_consumers.workers.sums_channel import SumsChannel
from quietcount_consumers.workers.worker import Worker
from quietcount_schemas.log import CASE_EVENTS, PARTIAL_SUMS

__all__ = ["check_workers", "open_worker"]


def check_workers(configuration: Configuration) -> None:
    """Raise ServiceError if the log is one that has no workers."""
    if configuration.kafka is None:
        raise ServiceError(
            "the embedded log has one partition, and one process does all of it",
            "Run it without --role. Workers need Kafka: docs/workers.md",
        )


def open_worker(
    configuration: Configuration,
    now: dt.datetime,
    duty: Duty,
    *,
    admit: Callable[[Chain], None] | None = None,
    batch: int = BATCH,
) -> Worker:
    """Finish in each state what a crash interrupted, and return the worker; it writes to no ledger.

    Raises a QuietcountError if any of that must be refused, and LedgerMissing until a releaser has opened the ledger.
    """
    check_workers(configuration)
    registry = configuration.registry()
    prepare_folders(configuration)
    # It is never made here: every worker, and the releaser, has the same.
    if not configuration.service.secret_file.exists():
        raise ServiceError(
            f"{configuration.service.secret_file}: there is no service's secret, and a worker makes none",
            "Copy the releaser's to this place, and nothing else of its secrets: docs/workers.md",
        )
    secret = ConsumerSecret.load(configuration.service.secret_file)
    resources = contextlib.ExitStack()
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(contextlib.closing(open_log(configuration)))
        ledger_log = stack.enter_context(contextlib.closing(open_ledger(configuration, create=False)))
        ledger = Ledger(ledger_log)
        ledger.refresh()
        if not ledger.chain.entries:
            raise LedgerMissing(
                f"{ledger_log.place}: there is no ledger yet",
                "Start the releaser first: quietcount run --role release opens it",
            )
        if admit is not None:
            admit(ledger.chain)
        numbers = duty.folded(ledger.chain.opened.partitions)
        if ledger.chain.releases:
            _check_here(configuration, numbers)
        states = opened_states(configuration, numbers, stack)
        ledger.read_places()
        for state in states:
            ledger.check_not_behind(state.head, state.path.name)
        settlers = settlers_of(configuration, states, ledger, registry)
        partitions = Partitions(settlers, log=log, ledger=ledger, registry=registry, secret=secret, batch=batch)
        check_schemas(populations_of(ledger.chain), registry)
        partitions.bind(
            topic_id=log.topic_id(CASE_EVENTS),
            secret_check=secret.check,
            ledger_id=ledger.chain.opened.ledger_id.hex(),
        )
        sums_log = stack.enter_context(contextlib.closing(open_log(configuration)))
        sums_log.topic_id(PARTIAL_SUMS)  # says what to do about a topic that is missing
        folders = watched_folders(configuration)
        worker = Worker(
            log=log,
            partitions=partitions,
            ledger=ledger,
            channel=SumsChannel(sums_log, secret),
            standing=Standing(
                ledger.chain,
                states,
                now,
                interval=configuration.tick,
                grace=configuration.grace,
                digest=configuration.digest,
                disk_free=lambda: disks.free(folders),
                publishes=False,
            ),
            opened=now,
            resources=resources,
        )
        worker.follow()
        resources.enter_context(stack.pop_all())  # the worker closes them from here on
    return worker


def _check_here(configuration: Configuration, numbers: Collection[int]) -> None:
    """Raise ServiceError for a state that is not here, once there are releases: a new one would lack its limits."""
    for number in numbers:
        if number not in configuration.state_files:
            raise ServiceError(
                f"{configuration.state_file(number)}: is missing, and only it knows the limits behind the ledger's "
                "releases. Nothing was made in its place",
                "Move it here from the worker that had the partition. If it is lost permanently, run on the releaser: "
                f"quietcount ledger record-loss --partition {number}. Both are on docs/workers.md",
            )
