"""What the service uses of kafka-python beyond its public face, and the refusal of a version that has it no more.

Setting an attribute that nobody looks at any more does nothing, and says nothing: records would be unpacked by the
library again, and offsets be told to nobody. So each is looked for when a client is made.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import reduce
from typing import Any, Final

import kafka

from quietcount_producers.errors import LogError

__all__ = ["check_admin", "check_consumer", "other_version"]

_Call = tuple[tuple[object, ...], Mapping[str, object]]

# Each with the arguments that it is called with here; None where Python does not tell which are taken.
_OF_ADMIN: Final[Mapping[str, _Call | None]] = {
    "_manager.run": ((None, None, None), {}),
    "_manager.call_soon": ((None,), {}),
    "_manager.send": ((None,), {"node_id": 0}),
    "_manager.cluster._coordinators.clear": None,
    "_async_alter_group_offsets": (("", {}), {}),
}
_OF_CONSUMER: Final[Mapping[str, _Call | None]] = {
    "_fetcher.PartitionRecords._unpack_records": ((None, None, None, None, None), {}),
    "_fetcher.PartitionRecords._consume_aborted_transactions_up_to": ((None, 0), {}),
    "_fetcher.PartitionRecords._contains_abort_marker": ((None, None), {}),
    "_fetcher.PartitionRecords._is_batch_aborted": ((None, None), {}),
    "_fetcher.PartitionRecords.drain": ((None,), {}),
}


def check_admin(admin: Any) -> None:
    """Raise LogError unless an admin client has inside what KafkaLog uses."""
    _check(admin, _OF_ADMIN)


def check_consumer(consumer: Any) -> None:
    """Raise LogError unless a consumer has inside what KafkaLog uses."""
    _check(consumer, _OF_CONSUMER)


def other_version(lacks: str) -> LogError:
    """Return the refusal of the version of kafka-python that is installed; `lacks` names what it does not have."""
    return LogError(
        f"This version of kafka-python, {kafka.__version__}, has no {lacks} as the service uses it. Install the "
        "version that quietcount-producers asks for."
    )


def _check(client: object, wanted: Mapping[str, _Call | None]) -> None:
    for path, call in wanted.items():
        try:
            found = reduce(getattr, path.split("."), client)
            if call is not None:
                inspect.signature(found).bind(*call[0], **call[1])  # type: ignore[arg-type]
        except (AttributeError, TypeError):
            raise other_version(path) from None
