"""Opening: the service of a configuration, with everything that it uses opened and bound together."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterable
from typing import Final

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.places import LogPoint
from quietcount_aggregates.ledger.signed_heads import check_key, sign_head, signer_of
from quietcount_aggregates.noise import DiscreteLaplace, NoiseMechanism, cases_to_be_seen
from quietcount_aggregates.populations import Population
from quietcount_aggregates.publication.publication import HeldPublication
from quietcount_aggregates.release import Releaser, Step, check_seen
from quietcount_aggregates.settling import Counting
from quietcount_consumers.configuration import Configuration, beginning_after
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.monitoring import disks
from quietcount_consumers.monitoring.log_events import (
    POPULATION_DECLARED,
    POPULATION_INCOMPLETE,
    TABLE_OF_NOISE,
    Say,
    unheard,
)
from quietcount_consumers.monitoring.standing import Standing
from quietcount_consumers.partitions import BATCH, Partitions, opened_states, settlers_of
from quietcount_consumers.positions import check_known, check_partitions
from quietcount_consumers.service import Service
from quietcount_consumers.wiring import (
    open_ledger,
    open_log,
    prepare_folders,
    secret_of,
    signing_key_of,
    watched_folders,
    witness_of,
)
from quietcount_consumers.witnessing.publication import WitnessedPublication
from quietcount_consumers.witnessing.vigil import vigil_of
from quietcount_consumers.workers.duty import BOTH, Duty, Role
from quietcount_consumers.workers.elsewhere import Elsewhere
from quietcount_consumers.workers.sums_channel import SumsChannel
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import CASE_EVENTS, PARTIAL_SUMS

__all__ = ["open_service"]

_MANY_CASES: Final = {
    Period.DAY: 100,
    Period.WEEK: 600,
    Period.MONTH: 2_500,
    Period.QUARTER: 7_500,
    Period.YEAR: 30_000,
}
"""More than come to most desks; the largest of those whose figures we know had 22,000 in a year."""

_INCOMPLETE: Final = (
    "it begins before its declaration, and nothing of it is released until its past is in the log. Emit that, then run "
    "quietcount declare --complete with its name"
)


def open_service(
    configuration: Configuration,
    now: dt.datetime,
    *,
    mechanism: NoiseMechanism | None = None,
    observe: Callable[[Step], None] | None = None,
    say: Say = unheard,
    admit: Callable[[Chain], None] | None = None,
    held: bool = False,
    rest: Callable[[], None] = lambda: None,
    batch: int = BATCH,
    duty: Duty = BOTH,
) -> Service:
    """Finish what a crash interrupted, declare and describe what is new, publish, and return the service.

    Raises a QuietcountError if any of that must be refused; then nothing was folded or released. `admit` takes a
    ledger that has entries before anything is declared, and may raise. If `held`, what is published is not seen
    before `show`, which is for the points of the tick's grid; and nothing is if witnesses are named. `rest` returns at
    such a point: it is called before witnesses are asked to sign what was drawn, and not needed if `show` is called at
    one. With the `duty` to release alone, it folds nothing and adds up what workers hand over.
    """
    registry = configuration.registry()
    wanted = configuration.populations(registry)
    prepare_folders(configuration)
    signing_key = signing_key_of(configuration)
    secret = secret_of(configuration)
    vigil = vigil_of(configuration, lambda chain: sign_head(chain, signing_key))
    publication: HeldPublication | WitnessedPublication | None = HeldPublication() if held else None
    if vigil:
        publication = WitnessedPublication(vigil, rest)
    resources = contextlib.ExitStack()
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(contextlib.closing(open_log(configuration)))
        ledger = Ledger(stack.enter_context(contextlib.closing(open_ledger(configuration))), signing_key.public)
        ledger.refresh()
        found = log.partitions(CASE_EVENTS)
        numbers = range(ledger.chain.opened.partitions) if ledger.chain.entries else found
        if len(found) > len(numbers):
            # Fewer may come of a broker that lags behind; the first tick looks again.
            check_partitions(found, len(numbers))
        _check_all_here(configuration, ledger, duty)
        # Open the states before taking the fence: a second service on the same folder stops here, and harms nothing.
        states = opened_states(configuration, duty.folded(len(numbers)), stack)
        if ledger.chain.entries:  # before the fence, which ends a service that runs elsewhere
            # First: a key that does not fit is no reason to make a new one if it is the ledger that was replaced.
            check_seen(ledger, states, configuration.public_file, witness_of(configuration))
            check_key(ledger.chain, signing_key)
            if admit is not None:
                admit(ledger.chain)
            vigil.compare(ledger.chain)
        else:
            vigil.check_none(signer_of(signing_key.public).name)
        ledger.fence()
        settlers = settlers_of(configuration, states, ledger, registry)
        partitions = Partitions(settlers, log=log, ledger=ledger, registry=registry, secret=secret, batch=batch)
        counting: Counting = partitions.settlers
        if duty.role is Role.RELEASE:
            sums_log = stack.enter_context(contextlib.closing(open_log(configuration)))
            sums_log.topic_id(PARTIAL_SUMS)  # says what to do about a topic that is missing
            counting = Elsewhere(log, ledger, SumsChannel(sums_log, secret))
        releaser = Releaser(
            counting,
            ledger=ledger,
            registry=registry,
            mechanism=mechanism or DiscreteLaplace(),
            public=configuration.public_file,
            witness=witness_of(configuration),
            signing_key=signing_key,
            observe=observe,
            publishing=publication,
        )
        partitions.bind(topic_id=log.topic_id(CASE_EVENTS), secret_check=secret.check)
        releaser.recover()
        log.scrub()
        declared = ledger.chain.declarations
        dated = [each if each.name in declared else beginning_after(each, now.date()) for each in wanted]
        # What is appended from here on counts for a population that is declared now.
        end = LogPoint(log.topic_id(CASE_EVENTS), log.end_offsets(CASE_EVENTS))
        if any(each.name not in declared for each in dated):
            check_known(end.offsets, len(numbers))
        new = ledger.declare(dated, configuration.lifetime_epsilon, now, end=end)
        partitions.bind(ledger_id=ledger.chain.opened.ledger_id.hex())
        ledger.describe(configuration.description(registry, ledger.chain.declarations.values()), now)
        _say_declared(new, ledger.chain, now, say)
        releaser.adopt()
        releaser.publish()
        if duty.role is Role.RELEASE:
            releaser.announce(now, configuration.grace)
        partitions.renew()
        folders = watched_folders(configuration)
        service = Service(
            log=log,
            partitions=partitions,
            ledger=ledger,
            releaser=releaser,
            standing=Standing(
                ledger.chain,
                partitions.states,
                now,
                interval=configuration.tick,
                grace=configuration.grace,
                digest=configuration.digest,
                disk_free=lambda: disks.free(folders),
            ),
            opened=now,
            grace=configuration.grace,
            say=say,
            publication=publication,
            vouched=vigil.check_vouched,
            resources=resources,
        )
        resources.enter_context(stack.pop_all())  # the service closes them from here on
    return service


def _check_all_here(configuration: Configuration, ledger: Ledger, duty: Duty) -> None:
    """Raise ServiceError if one process is to do all, and workers elsewhere have states that it lacks."""
    if duty.role is not Role.BOTH or not ledger.chain.entries:
        return
    ledger.read_places()
    missing = [each for each in range(ledger.chain.opened.partitions) if each not in configuration.state_files]
    if ledger.has_workers and missing:
        raise ServiceError(
            f"a worker folds partition {missing[0]} of the log, and its state is not here. Nothing was changed",
            "Run it with --role release. Or stop the workers, and bring their states here: docs/workers.md",
        )


def _say_declared(new: Iterable[Population], chain: Chain, now: dt.datetime, say: Say) -> None:
    for population in new:
        say(POPULATION_DECLARED.at(now, population=population.name, since=population.first_day))
        for table in population.counts:
            needed = cases_to_be_seen(table, population.max_contributions)
            if needed > _MANY_CASES[table.period]:
                meaning = (
                    f"it has {table.cells:,} cells a {table.period}: unless some {needed:,} cases come in one, most "
                    "cells cannot be told from 0"
                )
                say(TABLE_OF_NOISE.at(now, table=table.name, meaning=meaning))
    for name in sorted(chain.incomplete):  # at each start: nothing else says why nothing is released of it
        say(POPULATION_INCOMPLETE.at(now, population=name, meaning=_INCOMPLETE))
