"""The positions from which the service reads the log, and what the log has lost of what it held.

Offsets only ever go forward: a gap would lose records, and a step back would count them twice.
"""

from __future__ import annotations

from collections.abc import Mapping

from quietcount_aggregates.state import State
from quietcount_consumers.errors import ASK_AGAIN, ServiceError
from quietcount_producers.errors import LogUnavailable
from quietcount_schemas.log import CASE_EVENTS, LogReader

__all__ = ["lost_of", "move_to", "resumed"]

_IF_LOST = "or, if that is lost permanently, run: quietcount ledger new-log"


def resumed(state: State, log: LogReader, ends: Mapping[int, int]) -> dict[int, int]:
    """Return by partition the offset at which reading goes on.

    Raises LogUnavailable if a broker does not know of a partition yet, and ServiceError if the log lost records.
    """
    beginnings = log.beginning_offsets(CASE_EVENTS)
    offsets = state.offsets
    # A topic's partitions only grow in number, and each answer may come from a broker that lags behind.
    for partition in sorted({*offsets, *ends}):
        if partition not in ends or partition not in beginnings:
            raise LogUnavailable(f"{_place(partition)}: a broker that was asked does not know of it yet", ASK_AGAIN)
    lost = lost_of(state, log, beginnings, ends)
    if lost is not None:
        raise lost
    # A broker that was killed may offer again what was purged: it was counted, and stays forgotten.
    purged = state.purged
    first = {partition: max(beginning, purged.get(partition, 0)) for partition, beginning in beginnings.items()}
    return {partition: offsets.get(partition, first[partition]) for partition in ends}


def move_to(state: State, ends: Mapping[int, int]) -> None:
    """Move the offsets of `state` forward to `ends`; raises ServiceError if one of them would go back."""
    for partition, offset in state.offsets.items():
        if offset > ends[partition]:
            raise ServiceError(
                f"{_place(partition)}: records came from behind the end that the log gave, so nothing is released",
                "Look at the brokers, then start again",
            )
    with state.transaction() as connection:
        for partition, end in ends.items():
            connection.execute("INSERT OR REPLACE INTO offsets VALUES (?, ?)", [partition, end])


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
