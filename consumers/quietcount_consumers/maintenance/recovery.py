"""What an operator does on purpose: end a population, go on with a new log, bring a lost ledger back from what was
published. Recording that the private state is lost is in `losses`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from quietcount_aggregates.bound import bound_sentence
from quietcount_aggregates.errors import (
    LedgerError,
    LedgerMissing,
    PopulationError,
    PublicationError,
    PublicationHeld,
    StateBehind,
    StateDamaged,
    StateError,
)
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Body, Completed, Retired
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.signed_heads import check_key, check_signed, sign_head
from quietcount_aggregates.ledger.signed_notes import SignedNote, SigningKey
from quietcount_aggregates.losses import is_out_of_place
from quietcount_aggregates.populations import Population
from quietcount_aggregates.publication.publication import publish, published_head
from quietcount_aggregates.release import check_newest
from quietcount_aggregates.state import state_file
from quietcount_aggregates.state.state import State
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.maintenance.rehearsal import rehearsed
from quietcount_consumers.maintenance.state_facts import state_missing, state_of
from quietcount_consumers.partitions import opened_states, settlers_of
from quietcount_consumers.positions import check_partitions, lost_of
from quietcount_consumers.wiring import open_ledger, open_log, prepare_folders, signing_key_of, witness_of
from quietcount_consumers.witnessing.published_copy import NotVerified, published_copy
from quietcount_consumers.witnessing.requests import read_request
from quietcount_consumers.witnessing.vigil import unsigned, vigil_of
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.log import CASE_EVENTS

__all__ = [
    "check_published",
    "compared_state",
    "complete_population",
    "fence",
    "folded_here",
    "follow_new_log",
    "open_states",
    "opened_partitions",
    "publish_ledger",
    "published_chain",
    "reading_ledger",
    "restore_ledger",
    "retire_population",
    "signing_key_for",
]


def retire_population(
    configuration: Configuration, name: str, now: dt.datetime, agree: Callable[[Population], None]
) -> None:
    """Append the retirement of a declared population to the ledger, and publish it.

    `agree` is handed the population before anything is changed, and may raise. The state is held meanwhile.
    """

    def check(chain: Chain) -> None:
        if name in chain.retired:
            raise PopulationError(
                f"population {name!r} is retired already. Nothing was changed",
                "If the configuration still has it, take it out there: the service does not start otherwise",
            )

    _append(configuration, name, Retired(name), now, check, agree)


def complete_population(
    configuration: Configuration, name: str, now: dt.datetime, agree: Callable[[Population], None]
) -> None:
    """Append to the ledger that the past of a population is in the log: its periods are released from then on.

    As for `retire_population`.
    """

    def check(chain: Chain) -> None:
        if name in chain.retired:
            raise PopulationError(
                f"population {name!r} was retired: nothing more is released of it, so it waits for no past",
                "If such cases should count again, declare a population under new names",
            )
        if name not in chain.incomplete:
            raise PopulationError(f"population {name!r} does not wait for its past", "Nothing is left to do")

    _append(configuration, name, Completed(name), now, check, agree)


def _append(
    configuration: Configuration,
    name: str,
    body: Body,
    now: dt.datetime,
    check: Callable[[Chain], None],
    agree: Callable[[Population], None],
) -> None:
    """Append an entry about a declared population, and publish the ledger."""
    # The states are opened before the fence: that refuses while a service runs, and the fence would stop that service.
    with reading_ledger(configuration) as ledger, open_states(configuration, ledger) as states:
        _check_states(states, ledger)
        if name not in ledger.chain.declarations:
            known = ", ".join(ledger.chain.declarations) or "none"
            raise PopulationError(f"no population {name!r} is declared", f"Name one of: {known}")
        check(ledger.chain)
        check_newest(ledger, states, configuration.public_file, witness_of(configuration))
        signing_key_for(ledger, configuration)
        agree(ledger.chain.declarations[name])  # not fenced yet: an answer may take longer than a fence lasts
        fence(ledger, states, configuration)
        ledger.append([body], now)
        publish_ledger(ledger, configuration)


def follow_new_log(configuration: Configuration, agree: Callable[[], None] = lambda: None) -> None:
    """Bind the states to the log that is there now, or to a new one; limits and marks stay as they are.

    A settlement that a crash cut short is finished first: afterwards nothing would say what lay before it. `agree` is
    called once everything was looked at, and may raise. Raises StateError if there is no state, and ServiceError if
    there is nothing to follow, or if the log has another number of partitions.
    """
    with (
        reading_ledger(configuration) as ledger,
        open_states(configuration, ledger) as states,
        contextlib.closing(open_log(configuration)) as log,
    ):
        check_partitions(log.partitions(CASE_EVENTS), ledger.chain.opened.partitions)
        topic = log.topic_id(CASE_EVENTS)
        beginnings, ends = log.beginning_offsets(CASE_EVENTS), log.end_offsets(CASE_EVENTS)
        if all(state["topic_id"] in ("", topic) and lost_of(state, log, beginnings, ends) is None for state in states):
            raise ServiceError(
                f"{log.place}: is the log that the state folds already. Nothing was changed",
                "If the log is lost, move this one away, then run this again",
            )
        ledger.read_places()
        registry = configuration.registry()
        settlers = settlers_of(configuration, states, ledger, registry)
        agree()
        for settler in settlers:
            settler.recover()
            state = settler.state
            # Of several partitions one alone may be lost: in the others every place holds as before.
            if state["topic_id"] not in ("", topic) or lost_of(state, log, beginnings, ends) is not None:
                state.follow(topic)


def restore_ledger(configuration: Configuration, published: Path) -> list[str]:
    """Write the ledger that a published file holds to where there is none; return what is to be said, a line each.

    Every published file holds all entries of the ledger that it was built from. Raises a QuietcountError, and then
    changes nothing, if there is a ledger, if the chain in the file does not hold, or if the public file in its
    place, the state or the witness knows of a newer one. A damaged state knows nothing: its loss is to be recorded.
    """
    chain = published_chain(published)
    entries = [entry.data for entry in chain.entries]
    ledger, said = rehearsed(chain), [bound_sentence(chain)]
    with contextlib.ExitStack() as stack:
        for partition, path in sorted(configuration.state_files.items()):
            try:
                stack.enter_context(compared_state(configuration, partition, ledger))
            except StateDamaged:
                said.append(
                    f"{path} is damaged, so it cannot say whether this ledger is the newest. If it is lost "
                    "permanently, run now: quietcount ledger record-loss"
                )
        check_published(configuration, ledger)
        witness_of(configuration).check(ledger)
        vigil_of(configuration, unsigned).check_shown(chain)
        prepare_folders(configuration)
        log = stack.enter_context(contextlib.closing(open_ledger(configuration)))
        epoch = log.fence()
        if log.read():
            raise LedgerError(
                f"{log.place}: there is a ledger already, and it is never written over. Nothing was changed",
                "If it is an older copy, move it away first",
            )
        log.append(entries, epoch=epoch, expected=0)
        if log.read() != entries:
            raise LedgerError(f"{log.place}: what was written did not come back", "Look at the disk, then run again")
    return said


def published_chain(published: Path) -> Chain:
    """Return the chain that a published file holds, or what a witness gave back (which is a request of ours).

    It is signed with the newest key in it: anybody can write a ledger that begins with somebody's public key. Raises
    ServiceError for another file, WitnessError for a request that is none, NoteError and LedgerBroken.
    """
    if _is_request(published):
        request = read_request(published)
        chain, note = Chain(), request.note
        for entry in request.entries:
            chain.extend(entry)
    else:
        chain, note = _published(published)
    check_signed(chain, note)
    return chain


def _is_request(published: Path) -> bool:
    """Return whether a file begins as a request for all entries does."""
    with contextlib.suppress(OSError), published.open("rb") as file:
        return file.read(6) == b"old 0\n"
    return False


def _published(published: Path) -> tuple[Chain, SignedNote]:
    """Read the ledger in a published file, which may be the last copy that there is, and its signed head."""
    if not published.exists():
        raise ServiceError(f"{published}: there is no such file", "Name the newest copy of what was published")
    try:
        with published_copy(published) as copy:
            return copy.chain(), copy.note
    except NotVerified as error:
        raise ServiceError(
            error.what,
            "Keep it, and try another copy: every published file holds the whole ledger, and anybody who copied one "
            "may have the newest",
        ) from None


@contextlib.contextmanager
def compared_state(configuration: Configuration, partition: int, ledger: Ledger) -> Iterator[None]:
    """Hold a state, if no service runs on it and it knows of no newer ledger; it keeps the format that it has."""
    path = configuration.state_file(partition)
    facts = state_of(configuration, partition)
    with contextlib.closing(state_file.locked(path)):  # says so where a service holds it
        if facts is None:
            raise StateError(f"{path}: was held by another program", "Run again")
        ledger_id = facts.meta.get("ledger_id", "")
        if ledger_id not in ("", ledger.chain.opened.ledger_id.hex()):
            raise StateError(
                f"{path}: the ledger is another one than this state was made with. Nothing was changed",
                "Restore the one that belongs to it",
            )
        ledger.check_not_behind(facts.head, path.name)
        yield


def check_published(configuration: Configuration, ledger: Ledger) -> None:
    """Raise LedgerBehind if the public file in its place was built from more than the ledger holds.

    Raises ServiceError if that file is damaged, and cannot say so.
    """
    public = configuration.public_file
    try:
        head = published_head(public)
    except PublicationHeld:
        raise  # nothing is wrong with it, and it knows how new the ledger has to be
    except PublicationError:
        raise ServiceError(
            f"{public}: is damaged, or not a file that quietcount published, and cannot say whether this ledger is the "
            "newest",
            "Move it away and keep it, then run again",
        ) from None
    if head is not None:
        ledger.check_not_behind(head, public.name)


def folded_here(configuration: Configuration, ledger: Ledger) -> list[int]:
    """Return the partitions whose state has to be here: all of them, or with workers those that are."""
    ledger.read_places()
    partitions = range(ledger.chain.opened.partitions)
    return [each for each in partitions if not ledger.has_workers or each in configuration.state_files]


@contextlib.contextmanager
def open_states(configuration: Configuration, ledger: Ledger) -> Iterator[list[State]]:
    """Open the state of each partition of a ledger, or those that are here if there are workers.

    Raises StateError if one is missing, and then makes none.
    """
    numbers = folded_here(configuration, ledger)
    for number in numbers:
        if not configuration.state_file(number).exists():
            raise state_missing(configuration.state_file(number))
    with contextlib.ExitStack() as stack:
        yield opened_states(configuration, numbers, stack)


@contextlib.contextmanager
def reading_ledger(configuration: Configuration) -> Iterator[Ledger]:
    """Open and verify a ledger that has entries; make nothing.

    Raises LedgerMissing if there is none, which says what to do if there was one.
    """
    try:
        log = open_ledger(configuration, create=False)
    except LedgerMissing as error:
        raise _missing(configuration, error) from None
    with contextlib.closing(log):
        ledger = Ledger(log)
        ledger.refresh()
        if not ledger.chain.entries:
            raise _missing(
                configuration, LedgerMissing(f"{log.place}: there is no ledger yet", "`quietcount run` opens it")
            )
        yield ledger


def opened_partitions(configuration: Configuration) -> int | None:
    """Return in how many partitions case events lie, as the ledger says, or else the published file.

    None if there is neither yet, or if neither can be read here: the service and the doctor compare it, too.
    """
    with contextlib.suppress(QuietcountError), reading_ledger(configuration) as ledger:
        return ledger.chain.opened.partitions
    with contextlib.suppress(QuietcountError):
        return published_chain(configuration.public_file).opened.partitions
    return None


def _missing(configuration: Configuration, otherwise: LedgerMissing) -> LedgerMissing:
    """Return what there is to say of a ledger that is not there: `otherwise` if there never was one."""
    for path in (configuration.public_file, witness_of(configuration).path):
        if os.path.lexists(path):
            return LedgerMissing(
                f"there is no ledger, and {path} was made from one",
                "Put the newest ledger back, or bring it back from the newest file that was published, with: "
                "quietcount ledger restore",
            )
    return otherwise


def _check_states(states: Iterable[State], ledger: Ledger) -> None:
    """Raise StateError if these are not the states of the service, before the fence is taken from one elsewhere.

    A start that is refused because a state is lost leaves an empty one behind.
    """
    ledger.read_places()
    for state in states:
        state.bind(ledger_id=ledger.chain.opened.ledger_id.hex())
        if ledger.chain.is_ahead_of(state.first_open) or is_out_of_place(ledger, state):
            raise StateBehind(
                f"the ledger has releases that {state.path} does not know: it is lost, an older copy, or not that of "
                "the service which releases on this ledger",
                "Run this where that service runs",
            )


def fence(ledger: Ledger, states: Iterable[State], configuration: Configuration) -> None:
    """Fence the ledger and refuse an older copy: what is appended to that would be lost, or fork the chain.

    Witnesses and published copies are asked, too, and may be away. Raises SigningKeyError if the key is not there
    that signs what is published then.
    """
    key = signing_key_for(ledger, configuration)
    vigil_of(configuration, lambda chain: sign_head(chain, key)).compare(ledger.chain)
    ledger.fence()
    check_newest(ledger, states, configuration.public_file, witness_of(configuration))


def signing_key_for(ledger: Ledger, configuration: Configuration) -> SigningKey:
    """Return the key that signs the heads of a ledger. Raises SigningKeyError if it is missing or another one."""
    key = signing_key_of(configuration)
    check_key(ledger.chain, key)
    return key


def publish_ledger(ledger: Ledger, configuration: Configuration) -> None:
    """Let the witness see the ledger, then sign its head and publish it.

    If other organisations have to sign first, the next tick or start of the service publishes.
    """
    key = signing_key_for(ledger, configuration)
    witness_of(configuration).see(ledger.chain.head)
    if configuration.witnesses.require:
        return
    publish(ledger.chain, configuration.public_file, sign_head(ledger.chain, key).data)
