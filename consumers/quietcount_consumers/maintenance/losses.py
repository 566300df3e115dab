"""Recording in the ledger that the private state, or a secret, is lost: what is found, what it costs, and doing it.

A recorded loss raises the stated bound permanently, so nothing is recorded of a state that is sound unless a person
says which secret is lost.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

from quietcount_aggregates.bound import bound_sentence, plain
from quietcount_aggregates.errors import StateDamaged
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import StateLost
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.places import LogPoint
from quietcount_aggregates.losses import begin_anew, bound_after_losses, is_out_of_place, record_loss
from quietcount_aggregates.state import state_file
from quietcount_aggregates.state.marks import ConsumerSecret, YearSecrets
from quietcount_aggregates.state.state import State
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.maintenance.recovery import (
    fence,
    folded_here,
    publish_ledger,
    reading_ledger,
    signing_key_for,
)
from quietcount_consumers.partitions import opened_states
from quietcount_consumers.positions import check_known
from quietcount_consumers.wiring import open_log
from quietcount_schemas.log import CASE_EVENTS

__all__ = ["Loss", "Lost", "examine_loss", "record_state_loss"]


class Lost(StrEnum):
    """The secrets whose loss a sound state cannot say, or that a person might only have misplaced."""

    PEPPER = "pepper"
    SECRET = "secret"  # noqa: S105 (which one, not the secret)
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class Loss:
    """What was found lost, the stated bound before and after that is recorded, and what is there of the states."""

    found: str
    bound: Decimal
    after: Decimal
    partitions: tuple[int, ...] = ()
    """Of which partitions the state begins again; none if the states go on, and only the emitters lost something."""
    damaged: tuple[int, ...] = ()
    """Of which of them the state is there, and damaged."""
    part: bool = False
    """Whether other partitions keep theirs."""

    @property
    def kept(self) -> bool:
        return not self.partitions

    @property
    def price(self) -> str:
        """Say what recording the loss costs, in a sentence without its full stop."""
        stays = f"The stated bound stays at epsilon {plain(self.bound)}"
        if self.after == self.bound and not self.part:
            return f"The loss is recorded already. {stays}"
        cases = "Every case"
        if self.part:
            cases = f"Every case of partition {' and '.join(map(str, self.partitions))}, and of no other,"
        said = [f"{cases} gets its limits again, and nobody is known to have withdrawn"]
        if not self.kept:
            said.append("What a table had counted of a longer period is lost, and that period is never released")
        rises = f"The stated bound rises from epsilon {plain(self.bound)} to {plain(self.after)}, permanently"
        # A person is in one partition, so only the one that was lost most often counts.
        said.append(f"{stays}: it covers that loss" if self.after == self.bound else rises)
        return ". ".join(said)


def examine_loss(configuration: Configuration, lost: Lost | None, partitions: Collection[int] = ()) -> Loss:
    """Return what a person would record as lost, and its price; change nothing.

    Looks at the `partitions` that are named, or at all. Raises ServiceError if nothing is lost: the state is sound, and
    `lost` names no secret or one that is there.
    """
    with reading_ledger(configuration) as ledger:
        return _examined(configuration, ledger, lost, partitions)


def record_state_loss(
    configuration: Configuration, now: dt.datetime, lost: Lost | None = None, partitions: Collection[int] = ()
) -> list[str]:
    """Record the loss in the ledger, begin the state again if it is lost, and return what there is to say, a line each.

    Looks first, as `examine_loss` does. A damaged state is moved aside, never overwritten. The ledger must hold all
    that was published: an older copy of it is refused. If the service's secret is gone, it makes a new one.
    """
    with reading_ledger(configuration) as ledger:
        loss, said = _examined(configuration, ledger, lost, partitions), []
        signing_key_for(ledger, configuration)
        for partition in loss.damaged:
            aside = _set_aside(configuration.state_file(partition))
            said.append(
                f"The damaged state is now {aside}. Delete it as soon as you have rescued from it what you can: it may "
                "hold what quietcount promised to forget."
            )
        _record(ledger, configuration, now, loss)
        secret = configuration.service.secret_file
        if lost is Lost.SECRET and not secret.exists():
            ConsumerSecret.generate(secret)
            said.append(f"A new secret is in {secret}. Make a backup of it.")
        if not loss.kept:
            said += _to_emit_again(ledger.chain)
        return [*said, bound_sentence(ledger.chain)]


def _to_emit_again(chain: Chain) -> list[str]:
    """Return which events the log lacks that the state knew alone: those of open periods from before a release."""
    days = [day for name, day in chain.first_open.items() if name not in chain.retired]
    if not chain.releases or not days:
        return []
    return [
        f"Before you start the service, emit again all that is dated {min(days)} or later, and every withdrawal: what "
        "came before the newest release is not in the log any more. More does no harm. What comes twice counts once, "
        "and what belongs to a settled period counts nowhere."
    ]


def _looked_at(configuration: Configuration, ledger: Ledger, lost: Lost | None, named: Collection[int]) -> list[int]:
    """Return at which partitions to look. Raises ServiceError if workers may have the states that are not here."""
    number = ledger.chain.opened.partitions
    if beyond := [each for each in named if not 0 <= each < number]:
        raise ServiceError(f"--partition {beyond[0]}: the log has {number}, numbered from 0", "Name one that is there")
    here = folded_here(configuration, ledger)
    if not named and len(here) < number and lost is not Lost.PEPPER:
        raise ServiceError(
            "workers fold the partitions whose state is not here, so nothing says that it is lost. Nothing was "
            "recorded",
            "If one is lost permanently, name it: --partition N. Stop workers and releaser before: docs/workers.md",
        )
    return sorted(named) or here


def _examined(configuration: Configuration, ledger: Ledger, lost: Lost | None, named: Collection[int]) -> Loss:
    """Return what is lost. Raises ServiceError if it is nothing, with the price that it would have had."""
    chain, found, damaged = ledger.chain, dict[int, str](), list[int]()
    partitions = _looked_at(configuration, ledger, lost, named)
    for partition in partitions:
        path = configuration.state_file(partition)
        if not path.exists() and not _wal(path).exists():
            found[partition] = f"{path} is missing"
            continue
        try:
            what = _found(configuration, ledger, partition, lost)
        except StateDamaged as error:
            what, damaged = error.what, [*damaged, partition]
        if what:
            found[partition] = what
    if not found and lost is Lost.PEPPER:
        return _lost_pepper(chain)
    if not found and lost is Lost.YEAR:
        raise _is_there(f"{configuration.years_dir}: holds the secret of each year that a state needs")
    which = _concerned(chain, found or partitions)
    bound, after = chain.budget.bound, bound_after_losses(chain, which)
    if not found:
        price = (
            f"A loss is recorded already, and the stated bound is epsilon {plain(bound)}"
            if after == bound
            else "A recorded loss would raise the stated bound "
            f"from epsilon {plain(bound)} to {plain(after)}, permanently"
        )
        raise ServiceError(
            f"{configuration.state_file(0)}: the state is sound, and knows all that the ledger released. Nothing was "
            f"recorded. {price}"
            if len(partitions) == 1
            else f"{configuration.private_dir}: the state of each partition is sound, and knows all that the ledger "
            f"released. Nothing was recorded. {price}",
            "If a secret is lost permanently, say which one: --lost pepper, --lost secret or --lost year. If a command "
            "still calls a state damaged, move that state away, then run this again",
        )
    text = ". ".join(dict.fromkeys(found.values()))
    return Loss(text, bound, after, tuple(found), tuple(damaged), part=None not in which)


def _lost_pepper(chain: Chain) -> Loss:
    found = "The emitters have a new pepper, and recognise nobody who comes back"
    if chain.entries[-1].body == StateLost(chain.losses, kept=True):
        found += ". The newest entry of the ledger records such a loss: go on only if another pepper is lost since"
    return Loss(found, chain.budget.bound, bound_after_losses(chain, [None], kept=True))


def _concerned(chain: Chain, partitions: Collection[int]) -> list[int | None]:
    """Return of which partitions a loss is recorded: each by its number, or None for all of them together."""
    return [None] if len(partitions) == chain.opened.partitions else list(partitions)


def _found(configuration: Configuration, ledger: Ledger, partition: int, lost: Lost | None) -> str:
    """Return what is lost of a partition, in a sentence without its full stop, or nothing. Raises StateDamaged."""
    path = configuration.state_file(partition)
    with State(path, partition) as state:
        ledger.check_not_behind(state.head, path.name)
        state.check_whole()
        ledger.read_places()
        if ledger.chain.is_ahead_of(state.first_open) or is_out_of_place(ledger, state):
            return f"{path} does not know what the ledger released"
        return "" if lost is None else _lost_secret(configuration, state, lost)


def _lost_secret(configuration: Configuration, state: State, lost: Lost) -> str:
    """Return that the secret is lost, or raise ServiceError if it is there. Of the pepper the service knows nothing."""
    match lost:
        case Lost.PEPPER:
            return ""
        case Lost.SECRET:
            secret, known = configuration.service.secret_file, state["secret_check"]
            if not secret.exists():
                return f"{secret} is missing"
            if not known:  # as after a recorded loss: the state begins again, under whatever secret it is given
                raise _is_there(f"{secret}: is there, and the state takes it as its secret when it is next opened")
            if ConsumerSecret.load(secret).check == known:
                raise _is_there(f"{secret}: is the secret that the state was made with")
            return f"{secret} is another secret than the state was made with"
        case Lost.YEAR:
            years = YearSecrets(configuration.years_of(state.partition))
            lacking = [year for year, check in state.years.items() if years.check(year) != check]
            if not lacking:
                return ""
            return f"{years.path(lacking[0])} is missing, or is another secret than the state was made with"


def _is_there(what: str) -> ServiceError:
    return ServiceError(f"{what}. Nothing was recorded", "Run quietcount doctor: it says what is wrong")


def _record(ledger: Ledger, configuration: Configuration, now: dt.datetime, loss: Loss) -> None:
    number = ledger.chain.opened.partitions
    with contextlib.ExitStack() as stack:
        states = opened_states(configuration, {*folded_here(configuration, ledger), *loss.partitions}, stack)
        # The fence comes first: a release elsewhere could purge the log between that and what is read of it.
        fence(ledger, states, configuration)
        with contextlib.closing(open_log(configuration)) as log:
            end = LogPoint(log.topic_id(CASE_EVENTS), log.end_offsets(CASE_EVENTS))
            beginnings = log.beginning_offsets(CASE_EVENTS)
        check_known(end.offsets.keys() & beginnings.keys(), number)
        for partition in [None] if loss.kept else _concerned(ledger.chain, loss.partitions):
            record_loss(ledger, now, partition, kept=loss.kept)
        for state in states:
            if state.partition in loss.partitions:
                begin_anew(state, ledger, beginnings, end)
        publish_ledger(ledger, configuration)


def _set_aside(path: Path) -> Path:
    """Move a state and its write-ahead log, which DuckDB would replay into the next one, to a name that is free."""
    with contextlib.closing(state_file.locked(path)):
        aside = path.with_name(path.name + ".damaged")
        number = 1
        while aside.exists() or _wal(aside).exists():
            number += 1
            aside = path.with_name(f"{path.name}.damaged-{number}")
        try:
            if _wal(path).exists():
                _wal(path).rename(_wal(aside))
            if path.exists():  # else only its write-ahead log was left
                path.rename(aside)
        except OSError as error:
            raise ServiceError(
                f"{path}: is damaged and cannot be moved to {aside.name} ({os.strerror(error.errno or 0)})",
                "Mend that, then run again",
            ) from None
        return aside


def _wal(path: Path) -> Path:
    return path.with_name(path.name + ".wal")
