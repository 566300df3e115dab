"""The brokers and the topics on Kafka as they are: what `topics check` judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["TRANSACTIONS", "ClusterDescription", "PartitionDescription", "TopicDescription"]

TRANSACTIONS: Final = "__transaction_state"
"""Where the brokers keep the state of transactions; the service appends to the ledger in transactions."""


@dataclass(frozen=True, slots=True)
class PartitionDescription:
    """A partition as the brokers describe it; `leader` is None while it has none."""

    number: int
    leader: int | None
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic as the brokers describe it. `settings` is None if this user may not read them."""

    name: str
    partitions: tuple[PartitionDescription, ...] = ()
    settings: Mapping[str, str] | None = None
    hidden: bool = False
    """This user may not describe it."""

    @property
    def replicas(self) -> int:
        """The number of copies of the partition that has the fewest."""
        return min((len(partition.replicas) for partition in self.partitions), default=0)


@dataclass(frozen=True, slots=True)
class ClusterDescription:
    """The brokers and the topics by their plain names; a topic that is missing is left out."""

    brokers: int
    topics: Mapping[str, TopicDescription] = field(default_factory=dict)
    auto_create: bool | None = None
    """Whether a broker makes a topic that a client only asks for; None if this user may not read it."""
    open_hosts: tuple[str, ...] = ()
    """Brokers on other machines that are used without TLS."""
    transaction_replicas: int | None = None
    """The copies of TRANSACTIONS, or how many it will have; None if this user may see neither."""
