"""The topics on the real broker: made right, each fault named, nothing touched that is there, purged bytes gone."""

from __future__ import annotations

import csv
import datetime as dt
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from kafka import KafkaAdminClient
from kafka.admin import ACLOperation, ConfigResource, ResourceType
from tests.kafka.cluster import Cluster
from tests.kafka.fixtures import Kafka
from tests.kafka.secured import SecuredCluster
from tests.unit.consumers.test_topics import WRONG

from quietcount_consumers.commands.topics import topics_command
from quietcount_consumers.dead_letters import NO_DATE
from quietcount_consumers.kafka.log import KafkaLog
from quietcount_consumers.kafka.topic_findings import topic_findings
from quietcount_consumers.kafka.topic_settings import PARTITIONS, TOPICS, wanted_settings
from quietcount_consumers.kafka.topics import create_topics, delete_topics, describe_topics
from quietcount_producers.errors import LogError
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.finding import Severity
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, PARTIAL_SUMS, RELEASES, SETTLEMENTS, NewRecord

pytestmark = pytest.mark.check


@pytest.fixture
def settings(kafka: Kafka) -> KafkaSettings:
    return KafkaSettings(brokers=tuple(kafka.bootstrap.split(",")), topic_prefix=kafka.prefix())


@pytest.fixture
def admin(settings: KafkaSettings) -> Iterator[KafkaAdminClient]:
    with KafkaAdminClient(bootstrap_servers=list(settings.brokers)) as client:
        yield client


def wrong(settings: KafkaSettings) -> list[tuple[str, str, str]]:
    """The topic, the setting and what is wrong, up to what is wanted."""
    return [
        (finding.where, finding.code, re.split("[,:.] ", finding.what)[0])
        for finding in topic_findings(describe_topics(settings), settings)
        if finding.severity is Severity.WRONG
    ]


def until(holds: Callable[[], bool]) -> None:
    """Wait for what the brokers have been told to be known to all of them."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def command(tmp_path: Path, settings: KafkaSettings) -> Callable[..., Result]:
    config = tmp_path / "quietcount.toml"
    config.write_text(
        f'log = "kafka://{settings.servers}"\nlifetime_epsilon = 1\n'
        f'[kafka]\ntopic_prefix = "{settings.topic_prefix}"\n',
        encoding="utf-8",
    )

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(topics_command, [*arguments, "--config", str(config)])

    return run


def refused(result: Result) -> str:
    assert isinstance(result.exception, QuietcountError), result.output
    return str(result.exception)


def test_topics_are_made_with_settings_in_which_nothing_is_wrong_and_are_deleted_whole(settings: KafkaSettings) -> None:
    names = [settings.topic(topic) for topic in TOPICS]
    assert sorted(create_topics(settings)) == sorted(names)
    described = describe_topics(settings)
    assert {topic: len(each.partitions) for topic, each in described.topics.items()} == PARTITIONS
    assert [finding.severity for finding in topic_findings(described, settings)] == [Severity.WARNING]  # one broker
    assert described.transaction_replicas == 1
    assert create_topics(settings) == []
    assert sorted(delete_topics(settings)) == sorted(names)
    assert delete_topics(settings) == []
    assert [(topic, found) for topic, _, found in wrong(settings)] == [(name, "it is missing") for name in names]


@pytest.mark.parametrize("topic", TOPICS)
def test_each_setting_that_somebody_alters_on_the_broker_is_named(
    settings: KafkaSettings, admin: KafkaAdminClient, topic: str
) -> None:
    """One mutant per setting, where the broker takes it."""
    create_topics(settings)
    name = settings.topic(topic)

    def alter(key: str, value: str) -> str:
        return str(admin.alter_configs([ConfigResource("TOPIC", name, {key: value})])["topic"][name])

    for key, wanted in wanted_settings(topic, 1).items():
        value = {"min.insync.replicas": "2", "segment.bytes": "1048576"}.get(key, WRONG[key])
        answer = alter(key, value)
        if key == "remote.storage.enable":
            assert answer != "OK"  # a broker without such a storage refuses it; tests/unit shows that it is named
            continue
        assert answer == "OK", key
        until(lambda expected=[(name, key, f"{key} is {value}")]: wrong(settings) == expected)  # type: ignore[misc]
        alter(key, wanted.value)
        until(lambda: wrong(settings) == [])


def test_the_remedy_that_check_tells_mends_the_fault(settings: KafkaSettings, admin: KafkaAdminClient) -> None:
    create_topics(settings)
    name = settings.topic(CASE_EVENTS)
    admin.alter_configs([ConfigResource("TOPIC", name, {"retention.ms": "1000000"})])
    until(lambda: len(wrong(settings)) == 1)
    (finding,) = [
        each for each in topic_findings(describe_topics(settings), settings) if each.severity is Severity.WRONG
    ]
    words = finding.remedy.removeprefix("Run: ").split()
    assert words[0] == "kafka-configs.sh"
    given = dict(itertools.pairwise(words))
    assert given["--bootstrap-server"] in settings.brokers
    key, _, value = given["--add-config"].partition("=")
    admin.alter_configs([ConfigResource("TOPIC", given["--entity-name"], {key: value})])
    until(lambda: wrong(settings) == [])


def test_what_is_there_already_stays_as_it_is_and_is_checked(
    settings: KafkaSettings, admin: KafkaAdminClient, command: Callable[..., Result]
) -> None:
    name = settings.topic(RELEASES)
    admin.create_topics({name: {"num_partitions": 3, "replication_factor": 1, "configs": {"retention.ms": "1000"}}})
    result = command("create", "--partitions", "2")
    made = (CASE_EVENTS, DEAD_LETTERS, SETTLEMENTS, PARTIAL_SUMS)
    assert set(result.stdout.split()) == {settings.topic(topic) for topic in made}
    assert f"{name}: is already there" in result.stderr
    assert "partitions" in refused(result)
    assert f"{name}: retention.ms is 1000, not -1." in result.stderr
    described = describe_topics(settings)
    assert {topic: len(each.partitions) for topic, each in described.topics.items()} == {
        CASE_EVENTS: 2,
        DEAD_LETTERS: 1,
        RELEASES: 3,
        SETTLEMENTS: 1,
        PARTIAL_SUMS: 1,
    }
    assert (described.topics[RELEASES].settings or {})["retention.ms"] == "1000"


def test_check_ends_with_1_and_names_what_is_missing_and_with_0_once_it_is_made(
    settings: KafkaSettings, command: Callable[..., Result]
) -> None:
    result = command("check")
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert [row["where"] for row in rows] == [settings.topic(topic) for topic in TOPICS]
    assert {row["remedy"] for row in rows} == {"Run: quietcount topics create"}
    assert "(topic)" in refused(result)
    assert command("create").exit_code == 0
    result = command("check", "--format", "json")
    assert result.exit_code == 0
    assert [row["severity"] for row in json.loads(result.stdout)] == ["warning"]
    assert "as they have to be" in result.stderr


def test_more_replicas_than_brokers_are_refused_in_a_sentence(command: Callable[..., Result]) -> None:
    assert "replication factor" in refused(command("create", "--replication-factor", "3"))


def test_three_brokers_get_three_replicas_and_one_that_is_down_is_told(kafka_three: Cluster) -> None:
    settings = KafkaSettings(brokers=tuple(kafka_three.bootstrap.split(",")), topic_prefix=kafka_three.prefix())
    create_topics(settings)
    described = describe_topics(settings)
    assert {each.replicas for each in described.topics.values()} == {3}
    assert {(each.settings or {})["min.insync.replicas"] for each in described.topics.values()} == {"2"}
    assert topic_findings(described, settings) == []
    with KafkaAdminClient(bootstrap_servers=kafka_three.bootstrap) as admin:
        alone = settings.topic(RELEASES)
        admin.delete_topics([alone])
        admin.create_topics({alone: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
    until(lambda: (alone, "replication factor", "the replication factor is 1") in wrong(settings))
    kafka_three.brokers[2].kill()
    behind = (settings.topic(CASE_EVENTS), "in-sync replicas")
    until(lambda: behind in [each[:2] for each in wrong(settings)])


def test_a_user_who_may_not_read_settings_is_told_which_right_is_missing(kafka_secure: SecuredCluster) -> None:
    keys: dict[str, Any] = kafka_secure.settings("SCRAM", "nobody")
    brokers = tuple(kafka_secure.addresses("SCRAM").split(","))
    mine = KafkaSettings(
        brokers=brokers,
        topic_prefix=keys["topic_prefix"],
        username=keys["username"],
        password_file=Path(keys["password_file"]),
    )
    everything = KafkaSettings(brokers=tuple(kafka_secure.bootstrap.split(",")), topic_prefix=mine.topic_prefix)
    with pytest.raises(LogError, match="may not"):
        create_topics(mine)
    create_topics(everything)
    # The broker does not say that they are there.
    assert [found for _, _, found in wrong(mine)] == ["it is hidden"] * len(TOPICS)
    kafka_secure.allow("nobody", ResourceType.TOPIC, mine.topic_prefix, ACLOperation.DESCRIBE, prefixed=True)
    until(lambda: wrong(mine) == [])
    told = [finding for finding in topic_findings(describe_topics(mine), mine) if "hidden" in finding.what]
    assert [finding.code for finding in told] == ["settings"] * len(TOPICS) + ["auto.create.topics.enable"]
    assert all("DESCRIBE_CONFIGS" in finding.what for finding in told)


@pytest.fixture
def segments(kafka: Kafka, require: Callable[[bool, str], None]) -> Callable[[str], bytes]:
    """Return a function that gives the bytes that the broker holds of a topic's first partition on its disk."""
    require(kafka.cluster is not None, "a broker whose disk can be seen (unset QUIETCOUNT_TEST_KAFKA)")
    assert kafka.cluster is not None
    folder = kafka.cluster.broker.folder / "data"

    def held(topic: str) -> bytes:
        # Files go while they are looked at.
        return b"".join(path.read_bytes() for path in sorted((folder / f"{topic}-0").glob("*.log*")) if path.exists())

    return held


def test_purged_events_leave_the_disk_with_the_first_event_of_a_later_date(
    settings: KafkaSettings, segments: Callable[[str], bytes]
) -> None:
    """With coarse dates a segment is closed by the next date; the newest segment of a partition stays until then."""
    create_topics(settings, partitions=1)
    name = settings.topic(CASE_EVENTS)
    with KafkaLog(settings) as log:

        def append(day: str, value: bytes) -> None:
            moment = int(dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC).timestamp()) * 1000
            log.append(CASE_EVENTS, [NewRecord(b"k" * 16, value, moment)])

        append("2023-10-01", b"OF OCTOBER")
        append("2023-10-01", b"OF OCTOBER, TOO")
        assert log.purge(CASE_EVENTS, {0: 2})
        time.sleep(3)  # the broker looks each second, and deletes half a second later
        assert b"OF OCTOBER" in segments(name)  # the limit that the page of the service states
        append("2023-10-02", b"OF THE NEXT DAY")
        append("2023-10-01", b"LATE")
        until(lambda: b"OF OCTOBER" not in segments(name))
        assert b"OF THE NEXT DAY" in segments(name)
        assert b"LATE" in segments(name)


@pytest.mark.parametrize("date, goes", [(NO_DATE, True), (0, False)])
def test_purged_dead_letters_leave_the_disk_because_they_have_no_date(
    settings: KafkaSettings, admin: KafkaAdminClient, segments: Callable[[str], bytes], date: int, goes: bool
) -> None:
    create_topics(settings)
    name = settings.topic(DEAD_LETTERS)
    admin.alter_configs([ConfigResource("TOPIC", name, {"segment.ms": "1000"})])  # in the place of an hour
    with KafkaLog(settings) as log:
        log.append(DEAD_LETTERS, [NewRecord(None, b"THE OLD ONE", date)])
        assert log.purge(DEAD_LETTERS, {0: 1})
        time.sleep(1.5)
        log.append(DEAD_LETTERS, [NewRecord(None, b"THE NEXT ONE", date)])
        if goes:
            until(lambda: b"THE OLD ONE" not in segments(name))
        else:
            time.sleep(3)
            assert b"THE OLD ONE" in segments(name)
        assert b"THE NEXT ONE" in segments(name)
