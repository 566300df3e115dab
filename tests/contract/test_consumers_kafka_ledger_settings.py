"""What the topic of the ledger on Kafka must be, and what the service has to be allowed there."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.contract.kafka_ledgers import admin, bare, filled, raw, settings, settings_of
from tests.kafka.secured import SecuredCluster

from quietcount_aggregates.errors import LedgerBroken, LedgerError
from quietcount_consumers.kafka.fence import TRANSACTIONAL_ID
from quietcount_consumers.kafka.ledger import KafkaLedger
from quietcount_consumers.kafka.topics import create_topics
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import RELEASES, SETTLEMENTS

pytestmark = pytest.mark.check

__all__ = ["admin", "bare", "settings"]  # fixtures, which tests ask for by name


def test_a_topic_that_is_not_there_is_named_with_the_command_that_makes_it(bare: KafkaSettings) -> None:
    with pytest.raises(LedgerError, match=rf"{bare.topic(RELEASES)}.*`quietcount topics create`"):
        KafkaLedger(bare)


def made(admin: Any, settings: KafkaSettings, configs: dict[str, str], partitions: int = 1) -> None:
    wanted = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
    admin.create_topics({settings.topic(RELEASES): wanted})
    admin.wait_for_topics([settings.topic(RELEASES)])


@pytest.mark.parametrize(
    "key, value",
    [
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", "604800000"),
        ("retention.bytes", "1000000"),
    ],
)
def test_nothing_is_released_into_a_topic_that_would_lose_entries(
    admin: Any, bare: KafkaSettings, key: str, value: str
) -> None:
    made(admin, bare, {"retention.ms": "-1", **{key: value}})
    with closing(KafkaLedger(bare)) as ledger:
        assert ledger.read() == []  # who only reads need not mend it
        with pytest.raises(LedgerBroken, match=rf"its setting {key} would delete entries.*`quietcount topics check`"):
            ledger.fence()


@pytest.mark.parametrize(
    "partitions, changed, says",
    [
        (2, {}, "more than one partition"),
        (1, {"cleanup.policy": "compact"}, "its setting cleanup.policy would delete"),
        (1, {"retention.ms": "604800000"}, "its setting retention.ms would delete"),
    ],
)
def test_a_private_log_that_would_lose_places_stops_the_fence(
    partitions: int, changed: dict[str, str], says: str, admin: Any, bare: KafkaSettings
) -> None:
    name = bare.topic(SETTLEMENTS)
    configs = {"retention.ms": "-1", **changed}
    admin.create_topics({name: {"num_partitions": partitions, "replication_factor": 1, "configs": configs}})
    create_topics(bare)
    with closing(KafkaLedger(bare)) as ledger:
        assert ledger.read() == []
        with pytest.raises(LedgerBroken, match=f"{name}.*{says}"):
            ledger.fence()


def test_a_topic_of_several_partitions_is_no_ledger(admin: Any, bare: KafkaSettings) -> None:
    made(admin, bare, {}, 2)
    with pytest.raises(LedgerBroken, match="more than one partition"):
        KafkaLedger(bare)


def test_a_topic_made_anew_under_an_open_ledger_is_noticed(admin: Any, settings: KafkaSettings) -> None:
    with closing(filled(settings)) as ledger:
        admin.delete_topics([settings.topic(RELEASES)])
        with pytest.raises(LedgerError, match=r"no topic|created it again"):
            ledger.read()
        create_topics(settings)
        with (
            closing(filled(settings, [b"one", b"two", b"three"])),
            pytest.raises(LedgerBroken, match="created it again"),
        ):
            ledger.read(1)


def test_an_entry_that_the_topic_does_not_take_is_refused_before_anything_is_sent(
    admin: Any, bare: KafkaSettings
) -> None:
    made(admin, bare, {"retention.ms": "-1", "max.message.bytes": "10000"})
    create_topics(bare)  # the private log's
    with closing(KafkaLedger(bare)) as ledger:
        epoch = ledger.fence()
        with pytest.raises(LedgerError, match=r"entry 1 of the ledger is larger than the topic's max\.message\.bytes"):
            ledger.append([b"small", bytes(9_900)], epoch=epoch, expected=0)
        assert raw(bare) == []
        ledger.append([b"small", bytes(9_800)], epoch=epoch, expected=0)
        assert ledger.read() == [b"small", bytes(9_800)]


def test_a_right_that_is_missing_is_named(kafka_secure: SecuredCluster) -> None:
    from kafka.admin import ACLOperation, ResourceType

    given = kafka_secure.settings("SCRAM", "service")
    settings = KafkaSettings(
        brokers=tuple(kafka_secure.addresses("SCRAM").split(",")),
        topic_prefix=given["topic_prefix"],
        username=given["username"],
        password_file=Path(given["password_file"]),
    )
    prefix = settings.topic_prefix
    create_topics(settings_of(kafka_secure.addresses("PLAINTEXT"), prefix))
    with pytest.raises(LedgerError, match="may not"):
        KafkaLedger(settings)
    topic = settings.topic(RELEASES)
    kafka_secure.allow("service", ResourceType.TOPIC, topic, ACLOperation.READ, ACLOperation.DESCRIBE)
    with closing(KafkaLedger(settings)) as ledger:
        assert ledger.read() == []
        with pytest.raises(LedgerError, match="Grant it DESCRIBE_CONFIGS"):
            ledger.fence()
        kafka_secure.allow("service", ResourceType.TOPIC, topic, ACLOperation.WRITE, ACLOperation.DESCRIBE_CONFIGS)
        places = settings.topic(SETTLEMENTS)
        with pytest.raises(LedgerError, match=rf"Cannot see topic {re.escape(places)}.* may not"):
            ledger.fence()
        kafka_secure.allow(
            "service",
            ResourceType.TOPIC,
            places,
            *(ACLOperation.READ, ACLOperation.WRITE, ACLOperation.DESCRIBE, ACLOperation.DESCRIBE_CONFIGS),
        )
        with pytest.raises(LedgerError, match=rf"transactional id {prefix}quietcount\.releases.*WRITE and DESCRIBE"):
            ledger.fence()
        kafka_secure.allow(
            "service",
            ResourceType.TRANSACTIONAL_ID,
            settings.topic(TRANSACTIONAL_ID),
            ACLOperation.WRITE,
            ACLOperation.DESCRIBE,
        )
        ledger.append([b"one"], [b"a"], epoch=ledger.fence(), expected=0)
        assert (ledger.read(), ledger.read_places()) == ([b"one"], [b"a"])
