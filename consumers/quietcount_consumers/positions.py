"""The positions from which the service reads the log, and what the log has lost of what it held.

Offsets only ever go forward: a gap would lose records, and a step back would count them twice. The number of partitions
is that with which the ledger was opened: with another one the events of a case lie in several, and have no order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from quietcount_aggregates.state.state import State
from quietcount_consumers.errors import ASK_AGAIN, ServiceError
from quietcount_producers.errors import LogUnavailable
from quietcount_schemas.log import CASE_EVENTS, LogReader

__all__ = ["check_known", "check_partitions", "lost_of", "move_to", "resumed"]

_IF_LOST = "or, if that is lost permanently, run: quietcount ledger new-log"


def resumed(states: Sequence[State], log: LogReader, ends: Mapping[int, int], partitions: int) -> dict[int, int]:
    """Return by partition of `states` the offset at which reading goes on; the log has to have so many `partitions`.

    Raises LogUnavailable if a broker does not know of a partition yet, and ServiceError if there are more of them, or
    if the log lost records.
    """
    beginnings = log.beginning_offsets(CASE_EVENTS)
    check_known(ends.keys() & beginnings.keys(), partitions)
    check_partitions({*ends, *beginnings}, partitions)
    offsets: dict[int, int] = {}
    for state in states:
        lost = lost_of(state, log, beginnings, ends)
        if lost is not None:
            raise lost
        # A broker that was killed may offer again what was purged: it was counted, and stays forgotten.
        partition = state.partition
        first = max(beginnings[partition], state.purged.get(partition, 0))
        offsets[partition] = state.offsets.get(partition, first)
    return offsets


def check_known(found: Collection[int], partitions: int) -> None:
    """Raise LogUnavailable if an answer of the log leaves one of its partitions out.

    A topic's partitions only grow in number, and each answer may come from a broker that lags behind.
    """
    for partition in range(partitions):
        if partition not in found:
            raise LogUnavailable(f"{_place(partition)}: a broker that was asked does not know of it yet", ASK_AGAIN)


def check_partitions(found: Collection[int], partitions: int) -> None:
    """Raise ServiceError if the log has another number of partitions than the ledger was opened with."""
    if len(found) != partitions:
        raise ServiceError(
            f"topic {CASE_EVENTS}: has {len(found)} partitions, and the ledger was opened with {partitions}. The "
            "events of a case would lie in several partitions, where they have no order, so nothing is folded or "
            "released",
            'Stop the emitters, and do what docs/kafka.md says under "If partitions were added"',
        )


def move_to(state: State, end: int) -> None:
    """Move the offset of `state` forward to `end`; raises ServiceError if it would go back."""
    if state.offsets.get(state.partition, 0) > end:
        raise ServiceError(
            f"{_place(state.partition)}: records came from behind the end that the log gave, so nothing is released",
            "Look at the brokers, then start again",
        )
    with state.transaction() as connection:
        connection.execute("INSERT OR REPLACE INTO offsets VALUES (?, ?)", [state.partition, end])


def lost_of(
    state: State, log: LogReader, beginnings: Mapping[int, int], ends: Mapping[int, int]
) -> ServiceError | None:
    """Return the error for what the log has lost of what `state` folded or will fold; None if it lost nothing."""
    for partition, offset in state.offsets.items():
        if offset < beginnings.get(partition, 0):
            return ServiceError(
                f"{_place(partition)}: the log has lost records that were never folded. Only this service may purge it",
                f"Restore the log, {_IF_LOST}",
            )
        if offset > ends.get(partition, 0):
            return ServiceError(
                f"{_place(partition)}: the log ends before records that were folded from it. It is an older copy, or "
                "it lost its end",
                f"Put the newest log back, {_IF_LOST}",
            )
    for partition in log.diverged(CASE_EVENTS, state.marks):
        return ServiceError(
            f"{_place(partition)}: the log lost records that were folded, and has others in their places. A broker "
            "that lacked them became its leader",
            f"Put the newest log back, {_IF_LOST}. Set unclean.leader.election.enable to false (quietcount topics "
            "check)",
        )
    return None


def _place(partition: int) -> str:
    return f"topic {CASE_EVENTS}, partition {partition}"
