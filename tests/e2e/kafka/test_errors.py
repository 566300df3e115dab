"""What keeps a command from Kafka: one message that names the setting, exit 1 within seconds, no password in it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import ACLOperation, ConfigResource, KafkaAdminClient, ResourceType
from tests.e2e.kafka.kafka_projects import impatient
from tests.e2e.projects import EXACT, Finished, Project, simulated
from tests.kafka.cluster import Cluster, free_ports
from tests.kafka.fixtures import Kafka
from tests.kafka.secured import USERS, SecuredCluster

from quietcount_consumers.kafka.ledger import KafkaLedger
from quietcount_consumers.kafka.log import KafkaLog
from quietcount_consumers.kafka.topic_settings import TOPICS
from quietcount_consumers.kafka.topics import create_topics, describe_topics
from quietcount_producers.errors import LogError, LogUnavailable
from quietcount_producers.kafka import internals
from quietcount_producers.kafka.connection import reach
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_producers.kafka.writer import KafkaWriter
from quietcount_producers.simulation import encoded
from quietcount_schemas.log import CASE_EVENTS, RELEASES, NewRecord

pytestmark = pytest.mark.check

PATIENCE = 60  # seconds: what the longest of the bounds in the code lets a command take, on a machine that is busy
WRONG = "not-the-password"

EMIT = ("emit", "cases.jsonl")
RUN = ("run", "--until-idle", "--as-of", "2024-01-08")
RELEASE = ("release", "--as-of", "2024-01-08")
CHECK = ("topics", "check")
COMMANDS = (EMIT, RUN, RELEASE, CHECK)
every_command = pytest.mark.parametrize("command", COMMANDS, ids=[" ".join(each[:1]) for each in COMMANDS])


def project_of(folder: Path, brokers: str, keys: dict[str, Any]) -> Project:
    section = "\n".join(
        f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for key, value in keys.items()
    )
    project = Project(folder / "project", f'log = "kafka://{brokers}"\n{EXACT}\n[kafka]\n{section}\n')
    (project.folder / "cases.jsonl").write_bytes(b"".join(map(encoded, simulated(5))))
    return project


def settings_of(brokers: str, keys: dict[str, Any]) -> KafkaSettings:
    paths: dict[str, Any] = {key: Path(value) if key.endswith("_file") else value for key, value in keys.items()}
    return KafkaSettings(brokers=tuple(brokers.split(",")), **paths)


def refused(project: Project, command: tuple[str, ...]) -> str:
    """The one message of `command`, which ends by itself with exit 1 and shows no password.

    `topics check` tells what it found on stdout, a line each, and that comes with the message.
    """
    process = project.start(*command)
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    for password in (*USERS.values(), WRONG):
        assert password not in out + err
    assert "Traceback" not in err
    message = Finished(process.returncode, out, err).refusal()
    return f"{message}\n{out}" if command == CHECK else message


@pytest.fixture
def wrong(tmp_path: Path) -> str:
    path = tmp_path / "wrong"
    path.write_text(WRONG)
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def unused_address() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


@pytest.fixture
def silent_address() -> Iterator[str]:
    """Where connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@every_command
def test_a_wrong_password_is_told(
    kafka_secure: SecuredCluster, tmp_path: Path, wrong: str, command: tuple[str, ...]
) -> None:
    keys = kafka_secure.settings("SCRAM_TLS", "service", password_file=wrong)
    message = refused(project_of(tmp_path, kafka_secure.addresses("SCRAM_TLS"), keys), command)
    assert "key 'kafka.password_file'" in message
    assert "kafka.username 'service'" in message


@every_command
def test_an_untrusted_certificate_is_told(
    kafka_secure: SecuredCluster, tmp_path: Path, command: tuple[str, ...]
) -> None:
    keys = kafka_secure.settings("TLS", ca_file=str(kafka_secure.stranger.file))
    assert "key 'kafka.ca_file'" in refused(project_of(tmp_path, kafka_secure.addresses("TLS"), keys), command)


@every_command
def test_a_missing_topic_is_told(kafka_secure: SecuredCluster, tmp_path: Path, command: tuple[str, ...]) -> None:
    keys = kafka_secure.settings("TLS")
    message = refused(project_of(tmp_path, kafka_secure.addresses("TLS"), keys), command)
    assert "quietcount topics create" in message
    assert f"{keys['topic_prefix']}case-events" in message


@every_command
def test_a_missing_right_is_told(kafka_secure: SecuredCluster, tmp_path: Path, command: tuple[str, ...]) -> None:
    keys = kafka_secure.settings("SCRAM", "nobody")
    create_topics(KafkaSettings(brokers=(kafka_secure.bootstrap,), topic_prefix=keys["topic_prefix"]))
    message = refused(project_of(tmp_path, kafka_secure.addresses("SCRAM"), keys), command)
    assert ("Allow DESCRIBE on it" if command == CHECK else "kafka.username 'nobody' may not") in message


def test_who_may_look_and_not_write_is_told(kafka_secure: SecuredCluster, tmp_path: Path) -> None:
    keys = kafka_secure.settings("SCRAM", "nobody")
    create_topics(KafkaSettings(brokers=(kafka_secure.bootstrap,), topic_prefix=keys["topic_prefix"]))
    topic = f"{keys['topic_prefix']}{CASE_EVENTS}"
    kafka_secure.allow("nobody", ResourceType.TOPIC, topic, ACLOperation.DESCRIBE)
    message = refused(project_of(tmp_path, kafka_secure.addresses("SCRAM"), keys), EMIT)
    assert "kafka.username 'nobody' may not" in message
    assert "compose/security.md" in message


@every_command
def test_an_unreachable_broker_is_told(unused_address: str, tmp_path: Path, command: tuple[str, ...]) -> None:
    message = refused(project_of(tmp_path, unused_address, {}), command)
    assert f"key 'log': broker {unused_address} cannot be used: connection refused" in message


@pytest.mark.parametrize("command", [EMIT, RUN], ids=["emit", "run"])
def test_a_broker_that_keeps_silent_is_told(silent_address: str, tmp_path: Path, command: tuple[str, ...]) -> None:
    message = refused(project_of(tmp_path, silent_address, {}), command)
    assert f"key 'log': broker {silent_address} cannot be used: it takes connections and does not answer" in message


def test_too_few_replicas_in_step_are_told(kafka_three: Cluster, tmp_path: Path) -> None:
    """A min.insync.replicas as high as the number of replicas lets one broker's end stop every emitter."""
    settings = KafkaSettings(brokers=tuple(kafka_three.bootstrap.split(",")), topic_prefix=kafka_three.prefix())
    create_topics(settings)
    with KafkaAdminClient(bootstrap_servers=list(settings.brokers)) as admin:
        every = {"min.insync.replicas": "3"}
        admin.alter_configs([ConfigResource("TOPIC", settings.topic(topic), every) for topic in TOPICS])
    kafka_three.brokers[-1].stop()
    kafka_three.ready()
    keys = {"topic_prefix": settings.topic_prefix}
    # Each waits for brokers that may come back, so at the same time; two services, so each in a folder of its own.
    projects = {command: project_of(tmp_path / command[0], kafka_three.bootstrap, keys) for command in COMMANDS}
    with ThreadPoolExecutor(len(COMMANDS)) as pool:
        told = dict(zip(COMMANDS, pool.map(lambda command: refused(projects[command], command), COMMANDS), strict=True))
    for command, topics in ((EMIT, [CASE_EVENTS]), (RUN, [RELEASES]), (RELEASE, [RELEASES]), (CHECK, TOPICS)):
        assert "min.insync.replicas" in told[command], command
        assert "in-sync replicas" in told[command] if command == CHECK else "`quietcount topics check`" in told[command]
        assert all(settings.topic(topic) in told[command] for topic in topics)


# One step of the way at a time, in this process.


Told = Callable[[SecuredCluster, str], tuple[str, dict[str, Any]]]


def at(listener: str, user: str | None = None, address: str = "", **changed: Any) -> Told:
    def told(cluster: SecuredCluster, wrong: str) -> tuple[str, dict[str, Any]]:
        files = {
            key: {"wrong": wrong, "stranger": str(cluster.stranger.file)}.get(value, value)
            for key, value in changed.items()
        }
        return cluster.addresses(address or listener), cluster.settings(listener, user, **files)

    return told


@pytest.mark.parametrize(
    "way",
    [
        at("PLAINTEXT"),
        at("TLS"),
        at("MTLS", "emitter"),
        at("SCRAM", "emitter"),
        at("SCRAM", "emitter", sasl_mechanism="SCRAM-SHA-256"),
        at("SCRAM_TLS", "service"),
    ],
    ids=["plain", "TLS", "mTLS", "SCRAM", "SCRAM-SHA-256", "SCRAM over TLS"],
)
def test_the_right_keys_get_in(kafka_secure: SecuredCluster, wrong: str, way: Told) -> None:
    assert reach(settings_of(*way(kafka_secure, wrong)), "test") == {}


@pytest.mark.parametrize(
    "way, message",
    [
        (at("SCRAM", "emitter", password_file="wrong"), "key 'kafka.password_file': the brokers at .* refuse"),
        (at("SCRAM_TLS", "emitter", username="who"), "do not know kafka.username 'who' for SCRAM-SHA-512"),
        (at("SCRAM", "emitter", sasl_mechanism="SCRAM-SHA-1"), "key 'kafka.sasl_mechanism': .* do not take"),
        (at("SCRAM", "emitter", address="PLAINTEXT"), "key 'kafka.username': .* ask for no password there"),
        (at("TLS", ca_file="stranger"), "key 'kafka.ca_file': the authority that signed .* is not that of"),
        (at("TLS", ca_file=None, tls=True), "key 'kafka.ca_file': .* is not an authority that this system knows"),
        (at("MISNAMED"), "key 'log': the certificate of broker .* is for another host name"),
        (at("MTLS"), "key 'kafka.certificate_file': broker .* asks for a client's certificate"),
        (at("PLAINTEXT", address="TLS"), "key 'kafka.tls': broker .* speaks TLS there"),
        (at("PLAINTEXT", address="CONTROLLER"), "key 'log': .* is the port of a controller of Kafka"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_refusal_has_a_message_of_its_own(
    kafka_secure: SecuredCluster, wrong: str, way: Told, message: str
) -> None:
    with pytest.raises(LogError, match=message) as caught:
        reach(settings_of(*way(kafka_secure, wrong)), "test")
    assert not isinstance(caught.value, LogUnavailable)


def test_a_client_without_a_password_is_told_what_may_be_missing(kafka_secure: SecuredCluster, wrong: str) -> None:
    with pytest.raises(LogUnavailable, match=r"wants a password there, give kafka.username and kafka.password_file"):
        reach(settings_of(*at("PLAINTEXT", address="SCRAM")(kafka_secure, wrong)), "test")


def test_a_client_with_tls_is_told_that_there_may_be_none(kafka_secure: SecuredCluster, wrong: str) -> None:
    """A broker in plain text hangs up, as a balancer does whose brokers are away: that is waited for."""
    with pytest.raises(LogUnavailable, match=r"speaks no TLS there, name its TLS port, or leave out kafka\.tls"):
        reach(settings_of(*at("TLS", address="PLAINTEXT")(kafka_secure, wrong)), "test")


def test_a_client_s_certificate_that_the_broker_refuses_is_named(kafka_secure: SecuredCluster) -> None:
    issued = kafka_secure.stranger.issue("emitter")
    changed = {"certificate_file": str(issued.certificate_file), "key_file": str(issued.key_file)}
    settings = settings_of(kafka_secure.addresses("MTLS"), kafka_secure.settings("MTLS", "emitter", **changed))
    with pytest.raises(LogError, match=r"key 'kafka.certificate_file': broker .* refuses the certificate in .*emitter"):
        reach(settings, "test")


def test_one_broker_that_answers_is_enough(kafka_secure: SecuredCluster, unused_address: str) -> None:
    settings = KafkaSettings(brokers=(unused_address, kafka_secure.bootstrap))
    assert reach(settings, "test") == {}


def test_events_go_round_a_broker_whose_certificate_is_wrong(kafka_secure: SecuredCluster) -> None:
    brokers = f"{kafka_secure.addresses('MISNAMED')},{kafka_secure.addresses('TLS')}"
    settings = settings_of(brokers, kafka_secure.settings("TLS"))
    create_topics(settings)
    with KafkaWriter(settings) as writer:
        assert len(writer.append(CASE_EVENTS, [NewRecord(b"k", b"v", 0)])) == 1


def test_one_silent_address_of_two_keeps_no_reader_and_no_releaser_out(
    kafka: Kafka, silent_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library asks any of the addresses, and has no time for another then: half of all starts would fail."""
    impatient(monkeypatch, silent_address)
    good = tuple(kafka.bootstrap.split(","))
    settings = KafkaSettings(brokers=(silent_address, *good), topic_prefix=kafka.prefix())
    asked: list[list[str]] = []
    original = internals.network_client

    def client(**options: Any) -> Any:
        asked.append(options["bootstrap_servers"])
        return original(**options)

    monkeypatch.setattr("quietcount_producers.kafka.connection.network_client", client)
    create_topics(settings)
    assert not describe_topics(settings).topics[RELEASES].hidden
    with KafkaLog(settings) as log, KafkaLedger(settings) as ledger:
        log.append(CASE_EVENTS, [NewRecord(b"k", b"v", 0)])
        ends = log.end_offsets(CASE_EVENTS)
        assert len(log.poll(CASE_EVENTS, dict.fromkeys(ends, 0), ends, 10)) == 1
        ledger.append([b"one"], epoch=ledger.fence(), expected=0)
        assert ledger.read() == [b"one"]
    # To make the topics, to look at them, the log's three and the ledger's three.
    assert len(asked) >= 8
    assert all(servers in [[broker] for broker in good] for servers in asked)
