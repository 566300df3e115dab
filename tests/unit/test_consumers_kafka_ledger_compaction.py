"""What compacting leaves of the ledger on Kafka: every entry, because each has a key of its own.

The twins at the end each lack one safeguard, and fail the check that it is there for.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource
from tests.kafka.cluster import Cluster
from tests.kafka.fixtures import Clusters
from tests.unit.kafka_ledgers import FAILED, Opened, producer_of, raw, settings_of

from quietcount_aggregates.errors import LedgerBroken
from quietcount_consumers.kafka import fence as kafka_fence
from quietcount_consumers.kafka import ledger as kafka_ledger
from quietcount_consumers.kafka.ledger import KafkaLedger
from quietcount_consumers.kafka.topics import create_topics
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import RELEASES

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def cleaning(apache_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A broker that compacts at once what it may, for all these tests."""
    clusters = Clusters(tmp_path_factory.mktemp("cleaning"))
    try:
        yield clusters(properties={"log.cleaner.backoff.ms": "100"})
    finally:
        clusters.close()


compacting = pytest.mark.xdist_group("kafka_compacting")  # they share that broker


def compacted(cluster: Cluster, settings: KafkaSettings) -> None:
    """Have the topic compacted, as somebody did who set the wrong policy, and set it right again."""
    name = settings.topic(RELEASES)
    with KafkaAdminClient(bootstrap_servers=cluster.bootstrap.split(",")) as admin:

        def set_to(**configs: str) -> None:
            values = {key.replace("_", "."): value for key, value in configs.items()}
            admin.alter_configs([ConfigResource("TOPIC", name, values)])

        # Only closed segments are compacted. A record of a later time closes the one before.
        set_to(segment_ms="1")
        with closing(producer_of(settings, secrets.token_hex(8))) as stranger:
            stranger.init_transactions()
            for _ in range(2):
                stranger.begin_transaction()
                stranger.send(name, b"aborted", key=b"aborted", partition=0).get(10)
                stranger.abort_transaction()
        set_to(cleanup_policy="compact", min_cleanable_dirty_ratio="0.0")
        deadline = time.monotonic() + 60
        while sum(record.key == b"aborted" for record in raw(settings)) > 1:
            assert time.monotonic() < deadline, "the broker does not compact"
            time.sleep(0.1)
        set_to(cleanup_policy="delete", segment_ms="604800000")


@pytest.fixture
def cleaned(cleaning: Cluster) -> KafkaSettings:
    settings = settings_of(cleaning.bootstrap, cleaning.prefix())
    create_topics(settings)
    return settings


def check_compacting_takes_no_entry_away(open_ledger: Opened, settings: KafkaSettings, cluster: Cluster) -> None:
    with closing(open_ledger(settings)) as ledger:
        epoch = ledger.fence()
        ledger.append([b"one", b"two"], epoch=epoch, expected=0)
        ledger.append([b"two"], epoch=epoch, expected=2)
        compacted(cluster, settings)
        assert ledger.read() == [b"one", b"two", b"two"]
    with closing(open_ledger(settings)) as anew:
        assert anew.read() == [b"one", b"two", b"two"]
        anew.append([b"four"], epoch=anew.fence(), expected=3)
        assert anew.read(2) == [b"two", b"four"]


@compacting
def test_compacting_takes_no_entry_away(cleaned: KafkaSettings, cleaning: Cluster) -> None:
    check_compacting_takes_no_entry_away(KafkaLedger, cleaned, cleaning)


def test_what_compacting_leaves_of_a_mark_is_passed_over() -> None:
    records = object.__new__(kafka_ledger._Compacted)
    mark = SimpleNamespace(is_control_batch=True, records_count=0)
    assert records._passed_over(mark)


# The twins, each without one safeguard


@compacting
def test_a_twin_whose_entries_have_no_keys_is_found(
    cleaned: KafkaSettings, cleaning: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_fence, "key_of", lambda _: None)
    monkeypatch.setattr(KafkaLedger, "_keep", lambda self, _, record: self._offsets.append(record.offset))
    with pytest.raises((*FAILED, LedgerBroken)):
        check_compacting_takes_no_entry_away(KafkaLedger, cleaned, cleaning)
