"""The brokers that other tests stand on do what their controls say: a kill is a kill, a pause is silence."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ACLOperation, ConfigResource, ResourceType
from kafka.errors import KafkaError, KafkaTimeoutError
from tests.kafka.cluster import Cluster, free_ports
from tests.kafka.fixtures import Clusters, Kafka, Require, pytest_runtest_makereport
from tests.kafka.secured import LISTENERS, USERS, SecuredCluster

pytestmark = [pytest.mark.check, pytest.mark.xdist_group("brokers")]  # on one worker: the others start none of these


@pytest.fixture(scope="module")
def own(apache_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A broker that these tests may end in every way; each starts it again."""
    clusters = Clusters(tmp_path_factory.mktemp("own"))
    try:
        yield clusters()
    finally:
        clusters.close()


def make_topic(bootstrap: str, name: str, replicas: int = 1) -> None:
    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        admin.create_topics({name: {"num_partitions": 1, "replication_factor": replicas}})


@contextmanager
def producing(bootstrap: str, **settings: Any) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(bootstrap_servers=bootstrap, **settings)
    try:
        yield producer
    finally:
        producer.close(timeout=0)


def read(bootstrap: str, topic: str, seconds: float = 30, **settings: Any) -> list[bytes]:
    """Everything from the beginning to the end that the partition has now."""
    place = TopicPartition(topic, 0)
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, auto_offset_reset="none", **settings
    )
    try:
        consumer.assign([place])
        consumer.seek(place, 0)
        end = consumer.end_offsets([place])[place]
        found: list[bytes] = []
        deadline = time.monotonic() + seconds
        while consumer.position(place) < end and time.monotonic() < deadline:
            for records in consumer.poll(500).values():
                found += [record.value for record in records]
        return found
    finally:
        consumer.close()


def test_a_record_comes_back_and_the_prefixes_keep_two_tests_apart(kafka: Kafka) -> None:
    mine, other = kafka.prefix() + "t", kafka.prefix() + "t"
    assert mine != other
    for topic in (mine, other):
        make_topic(kafka.bootstrap, topic)
    with producing(kafka.bootstrap) as producer:
        producer.send(mine, b"x").get(30)
    assert read(kafka.bootstrap, mine) == [b"x"]
    assert read(kafka.bootstrap, other) == []


def test_a_transaction_is_read_when_it_is_committed_and_a_second_owner_shuts_out_the_first(kafka: Kafka) -> None:
    prefix = kafka.prefix()
    topic = prefix + "t"
    make_topic(kafka.bootstrap, topic)
    with producing(kafka.bootstrap, transactional_id=prefix + "id") as first:
        first.init_transactions()
        first.begin_transaction()
        first.send(topic, b"first").get(30)
        assert read(kafka.bootstrap, topic, isolation_level="read_committed") == []
        first.commit_transaction()
        with producing(kafka.bootstrap, transactional_id=prefix + "id") as second:
            second.init_transactions()
            first.begin_transaction()
            with pytest.raises(KafkaError):
                first.send(topic, b"shut out").get(30)
            second.begin_transaction()
            second.send(topic, b"second")
            second.commit_transaction()
    assert read(kafka.bootstrap, topic, isolation_level="read_committed") == [b"first", b"second"]


def test_a_topic_is_never_made_by_using_it(kafka: Kafka) -> None:
    with producing(kafka.bootstrap, max_block_ms=1000) as producer, pytest.raises(KafkaError):
        producer.send(kafka.prefix() + "absent", b"x").get(5)


def test_a_broker_that_is_killed_and_started_again_keeps_what_it_acknowledged(own: Cluster) -> None:
    topic = own.prefix() + "t"
    make_topic(own.bootstrap, topic)
    acknowledged = [b"%d" % n for n in range(30)]
    with producing(own.bootstrap) as producer:
        for value in acknowledged:
            producer.send(topic, value).get(60)
    own.broker.kill()
    assert not own.broker.running
    own.restart()
    assert read(own.bootstrap, topic) == acknowledged


def test_a_paused_broker_is_silent_and_goes_on_when_it_is_resumed(own: Cluster) -> None:
    topic = own.prefix() + "t"
    make_topic(own.bootstrap, topic)
    with producing(own.bootstrap) as producer:
        producer.send(topic, b"before").get(30)
        own.broker.pause()
        try:
            assert own.broker.running
            waiting = producer.send(topic, b"meanwhile")
            with pytest.raises(KafkaTimeoutError):
                waiting.get(2)
        finally:
            own.broker.resume()
        own.ready()
        waiting.get(60)
    assert read(own.bootstrap, topic) == [b"before", b"meanwhile"]


def test_an_orderly_stop_frees_the_port_and_the_data_comes_back(own: Cluster) -> None:
    topic = own.prefix() + "t"
    make_topic(own.bootstrap, topic)
    with producing(own.bootstrap) as producer:
        producer.send(topic, b"x").get(30)
    own.stop()
    assert not own.broker.running
    with socket.socket() as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port.bind(("127.0.0.1", own.broker.ports["PLAINTEXT"]))
    own.start()
    assert read(own.bootstrap, topic) == [b"x"]
    assert not own.broker.recording, "what it starts quicker from is there after one orderly stop"


def leader_of(cluster: Cluster, topic: str) -> int:
    with KafkaAdminClient(bootstrap_servers=cluster.bootstrap) as admin:
        (described,) = admin.describe_topics([topic])
    return int(described["partitions"][0]["leader_id"])


def test_three_brokers_survive_the_kill_of_the_leader(kafka_three: Cluster) -> None:
    make_topic(kafka_three.bootstrap, "t", replicas=3)
    with KafkaAdminClient(bootstrap_servers=kafka_three.bootstrap) as admin:
        described = admin.describe_configs([ConfigResource("TOPIC", "t")], config_filter="all")
    assert described["topic"]["t"]["min.insync.replicas"]["value"] == "2"
    leader = kafka_three.brokers[leader_of(kafka_three, "t") - 1]
    with producing(kafka_three.bootstrap) as producer:
        producer.send("t", b"before").get(60)
        leader.kill()
        producer.send("t", b"without it").get(60)
        assert leader_of(kafka_three, "t") != leader.number
        kafka_three.restart(leader)
        producer.send("t", b"after").get(60)
    assert read(kafka_three.bootstrap, "t") == [b"before", b"without it", b"after"]


def opening(cluster: SecuredCluster, listener: str, user: str = "service") -> dict[str, Any]:
    """What a client that may come in is configured with."""
    client: dict[str, Any] = {
        "bootstrap_servers": cluster.addresses(listener),
        "security_protocol": LISTENERS[listener],
        "bootstrap_timeout_ms": 20_000,
    }
    if LISTENERS[listener].endswith("SSL"):
        client["ssl_cafile"] = str(cluster.authority.file)
    if listener == "MTLS":
        issued = cluster.clients[user]
        client |= {"ssl_certfile": str(issued.certificate_file), "ssl_keyfile": str(issued.key_file)}
    if listener.startswith("SCRAM"):
        client |= {"sasl_mechanism": "SCRAM-SHA-512"}
        client |= {"sasl_plain_username": user, "sasl_plain_password": USERS[user]}
    return client


def cluster_id(client: dict[str, Any]) -> str:
    with KafkaAdminClient(**client) as admin:
        return str(admin.describe_cluster()["cluster_id"])


OPEN = ["TLS", "MTLS", "SCRAM", "SCRAM_TLS"]


@pytest.mark.parametrize("listener", OPEN)
def test_each_listener_lets_the_right_client_in(kafka_secure: SecuredCluster, listener: str) -> None:
    assert cluster_id(opening(kafka_secure, listener)) == cluster_id({"bootstrap_servers": kafka_secure.bootstrap})


def test_scram_takes_both_sizes_and_a_client_key_may_be_locked(kafka_secure: SecuredCluster) -> None:
    assert cluster_id(opening(kafka_secure, "SCRAM_TLS") | {"sasl_mechanism": "SCRAM-SHA-256"})
    issued = kafka_secure.clients["service"]
    locked = {"ssl_keyfile": str(issued.locked_key_file), "ssl_password": issued.key_password}
    assert cluster_id(opening(kafka_secure, "MTLS") | locked)


@pytest.mark.parametrize(
    "listener, wrong",
    [
        ("TLS", {"ssl_cafile": "stranger"}),
        ("TLS", {"security_protocol": "PLAINTEXT"}),
        ("MISNAMED", {}),
        ("MTLS", {"ssl_certfile": None, "ssl_keyfile": None}),
        ("MTLS", {"ssl_certfile": "stranger", "ssl_keyfile": "stranger"}),
        ("SCRAM", {"sasl_plain_password": "wrong"}),
        ("SCRAM", {"sasl_plain_username": "unknown"}),
        ("SCRAM_TLS", {"sasl_plain_password": "wrong"}),
        ("SCRAM_TLS", {"ssl_cafile": "stranger"}),
    ],
)
def test_each_listener_keeps_the_wrong_client_out(
    kafka_secure: SecuredCluster, listener: str, wrong: dict[str, Any]
) -> None:
    foreign = kafka_secure.stranger.issue("service")
    files = {
        "ssl_cafile": str(kafka_secure.stranger.file),
        "ssl_certfile": str(foreign.certificate_file),
        "ssl_keyfile": str(foreign.key_file),
    }
    changed = {key: files[key] if value == "stranger" else value for key, value in wrong.items()}
    with pytest.raises(KafkaError):
        cluster_id(opening(kafka_secure, listener) | changed | {"bootstrap_timeout_ms": 1500})


@pytest.mark.parametrize("listener", ["MTLS", "SCRAM", "SCRAM_TLS"])
def test_a_name_may_do_what_was_allowed_and_nothing_else(kafka_secure: SecuredCluster, listener: str) -> None:
    prefix = kafka_secure.prefix()
    client = opening(kafka_secure, listener)

    def create(name: str) -> None:
        with KafkaAdminClient(**client) as admin:
            admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1}})

    with pytest.raises(KafkaError, match="Authorization"):
        create(prefix + "t")
    kafka_secure.allow("service", ResourceType.TOPIC, prefix, ACLOperation.CREATE, prefixed=True)
    create(prefix + "t")
    with pytest.raises(KafkaError, match="Authorization"):
        create("x" + prefix + "t")


_HOLDER = """
import sys, pathlib, time
from tests.kafka.cluster import Cluster, free_ports
cluster = Cluster(pathlib.Path(sys.argv[1]))
cluster.broker.launch()
print(cluster.broker.pid, flush=True)
time.sleep(600)
"""


def test_a_broker_does_not_outlive_tests_that_are_killed(
    apache_kafka: None, tmp_path: Path, root: Path, require: Require
) -> None:
    require(shutil.which("setpriv") is not None, "setpriv (of util-linux)")
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)], cwd=root, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        pid = int(holder.stdout.readline())
        deadline = time.monotonic() + 30
        while b"kafka.Kafka" not in (command := Path(f"/proc/{pid}/cmdline").read_bytes()) or b"setpriv" in command:
            assert time.monotonic() < deadline, "the process has not become the broker"
            time.sleep(0.01)
    finally:
        holder.kill()
        holder.communicate()
    deadline = time.monotonic() + 30
    while running(pid):
        assert time.monotonic() < deadline, "the broker is still there"
        time.sleep(0.05)


def running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_a_broker_that_a_thread_starts_outlives_the_thread(own: Cluster) -> None:
    own.broker.kill()
    starter = threading.Thread(target=own.restart)
    starter.start()
    starter.join()
    own.ready()
    assert own.broker.running


def test_ports_lie_where_the_kernel_gives_none_to_clients() -> None:
    ports = free_ports(40)
    assert len(set(ports)) == 40
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(ports) < lowest or lowest < 32_000
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports[0]))
        taken.listen()
        assert ports[0] not in free_ports(200)


@pytest.mark.parametrize("failed", [True, False])
def test_a_failure_shows_the_end_of_the_brokers_log(tmp_path: Path, failed: bool) -> None:
    class Logging(Clusters):
        def logs(self) -> Iterator[tuple[str, str]]:
            yield "log of Kafka broker 1", "what it said"
            yield "log of Kafka broker 2", ""

    class Report:
        def __init__(self) -> None:
            self.failed = failed
            self.sections: list[tuple[str, str]] = []

    clusters = Logging(tmp_path)
    item = SimpleNamespace(funcargs={"kafka_cluster": clusters, "again": clusters, "tmp_path": tmp_path})
    report = Report()
    hook = pytest_runtest_makereport(item)  # type: ignore[arg-type]
    next(hook)
    with pytest.raises(StopIteration):
        hook.send(report)  # type: ignore[arg-type]
    assert report.sections == ([("log of Kafka broker 1", "what it said")] if failed else [])
