"""What is said of topics: nothing of right ones, and of each fault its name, its reason and its remedy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from quietcount_consumers.commands.topics import topics_command
from quietcount_consumers.kafka.topic_descriptions import (
    TRANSACTIONS,
    ClusterDescription,
    PartitionDescription,
    TopicDescription,
)
from quietcount_consumers.kafka.topic_findings import topic_findings
from quietcount_consumers.kafka.topic_settings import PARTITIONS, TOPICS, Wanted, wanted_settings
from quietcount_consumers.kafka.topics import _transaction_replicas
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.finding import Finding, Severity
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, RELEASES

pytestmark = pytest.mark.quick

SETTINGS = KafkaSettings(brokers=("broker:9092", "other:9092"), topic_prefix="desk.")


def right(brokers: int = 3) -> ClusterDescription:
    """Describe brokers and topics as they have to be."""
    nodes = tuple(range(1, min(3, brokers) + 1))
    topics = {
        topic: TopicDescription(
            name=f"desk.{topic}",
            partitions=tuple(PartitionDescription(n, nodes[0], nodes, nodes) for n in range(PARTITIONS[topic])),
            settings={key: wanted.value for key, wanted in wanted_settings(topic, len(nodes)).items()}
            | {"a.setting.of.no.concern": "7"},
        )
        for topic in TOPICS
    }
    return ClusterDescription(brokers=brokers, topics=topics, auto_create=False, transaction_replicas=len(nodes))


def altered(description: ClusterDescription, topic: str, changes: Mapping[str, object]) -> ClusterDescription:
    changed = replace(description.topics[topic], **changes)  # type: ignore[arg-type]
    return replace(description, topics={**description.topics, topic: changed})


def only(description: ClusterDescription) -> Finding:
    (finding,) = topic_findings(description, SETTINGS)
    return finding


@pytest.mark.parametrize("brokers", [2, 3, 5])
def test_topics_as_they_have_to_be_are_not_found_fault_with(brokers: int) -> None:
    assert topic_findings(right(brokers), SETTINGS) == []


def test_one_broker_is_a_warning_and_no_fault() -> None:
    finding = only(right(1))
    assert (finding.severity, finding.code) == (Severity.WARNING, "replication factor")
    assert "flush.messages=1" in finding.what


# Per setting a value that would lose events, tell when somebody came, or keep what is to be forgotten. The settings of
# three brokers; those of one broker follow.
WRONG = {
    "cleanup.policy": "compact",
    "retention.ms": "604800000",
    "retention.bytes": "1000000000",
    "min.insync.replicas": "1",
    "unclean.leader.election.enable": "true",
    "message.timestamp.type": "LogAppendTime",
    "message.timestamp.before.max.ms": "86400000",
    "message.timestamp.after.max.ms": "3600000",
    "compression.type": "producer",
    "remote.storage.enable": "true",
    "max.message.bytes": "1000",
    "segment.ms": "604800000",
    "segment.bytes": "1024",
    "flush.messages": "9223372036854775807",
}


@pytest.mark.parametrize("brokers", [1, 3])
@pytest.mark.parametrize("topic", TOPICS)
def test_each_setting_that_is_wrong_is_named_with_its_reason_and_the_command_that_mends_it(
    topic: str, brokers: int
) -> None:
    description = right(brokers)
    wanted = wanted_settings(topic, min(3, brokers))
    for key, setting in wanted.items():
        value = "2" if key == "min.insync.replicas" and brokers == 1 else WRONG[key]
        settings = {**(description.topics[topic].settings or {}), key: value}
        found = [
            finding
            for finding in topic_findings(altered(description, topic, {"settings": settings}), SETTINGS)
            if finding.severity is Severity.WRONG
        ]
        assert [(finding.where, finding.code) for finding in found] == [(f"desk.{topic}", key)]
        assert found[0].what == f"{key} is {value}, not {setting.allowed}. {setting.why}"
        assert found[0].remedy == (
            "Run: kafka-configs.sh --bootstrap-server broker:9092 --alter --entity-type topics "
            f"--entity-name desk.{topic} --add-config {key}={setting.value}"
        )


def test_the_command_that_mends_a_setting_logs_in_where_the_brokers_ask_for_it() -> None:
    description = right()
    settings = {**(description.topics[RELEASES].settings or {}), "retention.ms": "1"}
    for secured in (replace(SETTINGS, tls=True), replace(SETTINGS, username="operator")):
        (finding,) = topic_findings(altered(description, RELEASES, {"settings": settings}), secured)
        assert "--command-config client.properties" in finding.remedy


def test_every_setting_has_a_wrong_twin_in_this_test() -> None:
    assert set(WRONG) == {key for topic in TOPICS for replicas in (1, 3) for key in wanted_settings(topic, replicas)}


@pytest.mark.parametrize(
    "topic, key, value, accepted",
    [
        (CASE_EVENTS, "max.message.bytes", "2000000", True),
        (CASE_EVENTS, "max.message.bytes", "100000000", False),
        (CASE_EVENTS, "segment.ms", "86399999", True),
        (CASE_EVENTS, "segment.ms", "86400000", False),  # the next day's first event would not close the segment
        (CASE_EVENTS, "segment.bytes", "1073741824", False),
        (CASE_EVENTS, "segment.bytes", "many", False),
        (RELEASES, "max.message.bytes", "1048588", False),
        (RELEASES, "max.message.bytes", "50000000", True),
        (RELEASES, "segment.bytes", "1073741824", True),
        (DEAD_LETTERS, "segment.bytes", "1073741824", False),
    ],
)
def test_values_that_are_as_good_are_accepted(topic: str, key: str, value: str, accepted: bool) -> None:
    assert wanted_settings(topic, 3)[key].accepts(value) is accepted


@pytest.mark.parametrize("replicas, accepted", [(1, {1}), (2, {2}), (3, {2}), (4, {2, 3}), (5, {2, 3, 4})])
def test_so_many_replicas_have_to_acknowledge_that_one_may_be_lost_and_one_may_stop(
    replicas: int, accepted: set[int]
) -> None:
    wanted = wanted_settings(CASE_EVENTS, replicas)["min.insync.replicas"]
    assert {number for number in range(1, 7) if wanted.accepts(str(number))} == accepted


def test_what_is_written_is_what_is_accepted() -> None:
    for topic in TOPICS:
        for replicas in (1, 2, 3):
            wanted = wanted_settings(topic, replicas)
            assert [key for key, setting in wanted.items() if not setting.accepts(setting.value)] == []


@pytest.mark.parametrize(
    "least, most, allowed",
    [(None, None, "x"), (1, None, "1 at least"), (None, 2, "2 at most"), (1, 2, "1 to 2"), (1, 1, "1")],
)
def test_what_is_allowed_can_be_read(least: int | None, most: int | None, allowed: str) -> None:
    assert Wanted("x", "why", least=least, most=most).allowed == allowed


def test_a_topic_that_is_missing_or_hidden_is_named() -> None:
    description = right()
    without = replace(description, topics={k: v for k, v in description.topics.items() if k != DEAD_LETTERS})
    finding = only(without)
    assert finding.where == f"desk.{DEAD_LETTERS}"
    assert "missing" in finding.what
    assert finding.remedy == "Run: quietcount topics create"
    finding = only(altered(description, DEAD_LETTERS, {"hidden": True}))
    assert finding.where == f"desk.{DEAD_LETTERS}"
    assert "hidden" in finding.what
    assert "DESCRIBE" in finding.remedy


def test_settings_that_may_not_be_read_are_a_warning_that_names_the_right() -> None:
    finding = only(altered(right(), RELEASES, {"settings": None}))
    assert finding.severity is Severity.WARNING
    assert "DESCRIBE_CONFIGS" in finding.what
    finding = only(replace(right(), auto_create=None))
    assert (finding.severity, finding.code) == (Severity.WARNING, "auto.create.topics.enable")
    assert "DESCRIBE_CONFIGS" in finding.what


def test_a_ledger_of_two_partitions_is_wrong_and_events_in_many_are_not() -> None:
    def of(count: int) -> dict[str, object]:
        return {"partitions": tuple(PartitionDescription(n, 1, (1, 2, 3), (1, 2, 3)) for n in range(count))}

    finding = only(altered(right(), RELEASES, of(2)))
    assert finding.code == "partitions"
    assert "2 partitions, not 1." in finding.what
    assert topic_findings(altered(right(), CASE_EVENTS, of(9)), SETTINGS) == []
    assert topic_findings(altered(right(), CASE_EVENTS, of(9)), SETTINGS, partitions=9) == []


@pytest.mark.parametrize("found", [3, 5])
def test_another_number_of_partitions_than_the_ledger_was_opened_with_is_wrong(found: int) -> None:
    partitions = tuple(PartitionDescription(n, 1, (1, 2, 3), (1, 2, 3)) for n in range(found))
    description = altered(right(), CASE_EVENTS, {"partitions": partitions})
    (finding,) = topic_findings(description, SETTINGS, partitions=4)
    assert (finding.severity, finding.code, finding.where) == (Severity.WRONG, "partitions", f"desk.{CASE_EVENTS}")
    assert f"has {found} partitions, and the ledger was opened with 4" in finding.what
    assert topic_findings(description, SETTINGS) == []


def test_dead_letters_in_many_partitions_are_a_warning() -> None:
    partitions = tuple(PartitionDescription(n, 1, (1, 2, 3), (1, 2, 3)) for n in range(4))
    finding = only(altered(right(), DEAD_LETTERS, {"partitions": partitions}))
    assert (finding.severity, finding.where) == (Severity.WARNING, f"desk.{DEAD_LETTERS}")
    assert finding.code == "partitions"
    assert "4 partitions, not 1." in finding.what


@pytest.mark.parametrize("brokers, replicas, wanted", [(3, 1, "3"), (3, 2, "3"), (2, 1, "2"), (5, 2, "3")])
def test_transactions_that_one_disk_can_end_are_a_warning(brokers: int, replicas: int, wanted: str) -> None:
    """The ledger is appended to in transactions, whose state the brokers keep in a topic of theirs."""
    finding = only(replace(right(brokers), transaction_replicas=replicas))
    assert (finding.severity, finding.where) == (Severity.WARNING, TRANSACTIONS)
    assert finding.code == "replication factor"
    assert f"is {replicas}, not {wanted}." in finding.what
    assert "the ledger" in finding.what
    assert f"transaction.state.log.replication.factor={wanted}" in finding.remedy
    assert topic_findings(replace(right(brokers), transaction_replicas=None), SETTINGS) == []


class Seeing:
    """An administrator's client that sees the topic of transactions with so many copies of each partition, or not."""

    def __init__(self, *copies: int) -> None:
        self._copies = copies

    def describe_topics(self, topics: list[str]) -> list[dict[str, object]]:
        partitions = [{"replica_nodes": list(range(number))} for number in self._copies]
        return [{"name": name, "error_code": 0 if partitions else 29, "partitions": partitions} for name in topics]


def test_the_copies_of_transactions_are_the_topics_own_else_those_it_will_be_made_with() -> None:
    setting = {"transaction.state.log.replication.factor": {"value": "3"}}
    assert _transaction_replicas(Seeing(3, 1, 3), setting) == 1
    assert _transaction_replicas(Seeing(), setting) == 3
    assert _transaction_replicas(Seeing(), {}) is None


def test_partitions_that_are_offline_or_short_of_replicas_are_named() -> None:
    def of(*partitions: PartitionDescription) -> ClusterDescription:
        return altered(right(), CASE_EVENTS, {"partitions": partitions})

    whole = PartitionDescription(0, 1, (1, 2, 3), (1, 2, 3))
    finding = only(of(whole, PartitionDescription(1, None, (1, 2, 3), (2,))))
    assert finding.code == "leader"
    assert "partition 1 has no leader" in finding.what
    finding = only(
        of(whole, PartitionDescription(1, 1, (1, 2, 3), (1, 3)), PartitionDescription(4, 1, (1, 2, 3), (1,)))
    )
    assert finding.code == "in-sync replicas"
    assert "too few replicas of partition 1, 4" in finding.what
    described = [finding.code for finding in topic_findings(of(PartitionDescription(0, 1, (1, 2), (1, 2))), SETTINGS)]
    assert described == ["replication factor"]


def test_topics_that_make_themselves_and_events_in_plain_text_are_told() -> None:
    finding = only(replace(right(), auto_create=True))
    assert (finding.severity, finding.code) == (Severity.WRONG, "auto.create.topics.enable")
    finding = only(replace(right(), open_hosts=("kafka.example:9092",)))
    assert (finding.severity, finding.code) == (Severity.WARNING, "kafka.tls")
    assert "kafka.example:9092" in finding.what


@pytest.mark.parametrize("command", ["create", "check"])
def test_the_embedded_log_has_no_topics_to_make(tmp_path: Path, command: str) -> None:
    config = tmp_path / "quietcount.toml"
    config.write_text("lifetime_epsilon = 1\n", encoding="utf-8")
    result = CliRunner().invoke(topics_command, [command, "--config", str(config)])
    assert isinstance(result.exception, QuietcountError)
    assert "key 'log'" in str(result.exception)
