"""The clients of Kafka that the log reads with; each begins at a broker that lets it in."""

from __future__ import annotations

import contextlib
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaConsumer

from quietcount_consumers.kafka.records import Epochs, Unpacked, Volume
from quietcount_producers.kafka.connection import client_options, way_in
from quietcount_producers.kafka.internals import check_admin, unpack_by
from quietcount_producers.kafka.settings import KafkaSettings

__all__ = ["CLIENT", "MAX_PARTITION_FETCH", "admin_client", "record_reader"]

CLIENT: Final = "quietcount-service"

FETCH_WAIT_MS: Final = 10
"""How long a broker may wait for more to send. We ask only for records that are there; but the client asks ahead, also
for partitions that have none left, and asks that broker for nothing else before the answer."""
MAX_PARTITION_FETCH: Final = 256 * 1024
"""How many bytes of a partition one answer may hold. It bounds the reader's memory under any backlog: as objects it
takes about six times as much, and the client asks for more only if a partition has none left. A quarter of a MiB is
about 3,000 events, enough that a request's fixed costs fade."""
MAX_FETCH: Final = 8 * 1024 * 1024
"""How many bytes one answer may hold in all."""


def admin_client(settings: KafkaSettings) -> KafkaAdminClient:
    """Return a client that asks what is known of topics. Raises KafkaError, and LogError for another version."""
    admin = KafkaAdminClient(**_options(settings))
    with contextlib.ExitStack() as stack:
        stack.callback(admin.close)
        check_admin(admin)
        stack.pop_all()
    return admin


def record_reader(settings: KafkaSettings, epochs: Epochs, volume: Volume) -> KafkaConsumer:
    """Return a client that fetches committed records, which we unpack ourselves; `epochs` and `volume` note what comes.

    Raises KafkaError, and LogError for another version of the library.
    """
    consumer = KafkaConsumer(
        **_options(settings),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        max_partition_fetch_bytes=MAX_PARTITION_FETCH,
        fetch_max_bytes=MAX_FETCH,
        fetch_max_wait_ms=FETCH_WAIT_MS,
        metrics_enabled=False,
    )
    with contextlib.ExitStack() as stack:
        stack.callback(consumer.close)
        unpack_by(consumer, type("_", (Unpacked,), {"epochs": epochs, "volume": volume}))
        stack.pop_all()
    return consumer


def _options(settings: KafkaSettings) -> dict[str, Any]:
    """Return the options for a client that begins at a broker that lets it in.

    From several brokers the client takes any, and if that one keeps silent it has no time for another.
    """
    broker, _ = way_in(settings, CLIENT)
    return client_options(settings, CLIENT) | {"bootstrap_servers": [broker]}
