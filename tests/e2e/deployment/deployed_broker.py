"""The broker of compose/ on this machine, and each deed that a client can try there in the name of a role."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, UserScramCredentialDeletion
from kafka.errors import (
    AuthorizationError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from tests.deployment import properties_of, script
from tests.kafka import artifacts
from tests.kafka.broker import Broker
from tests.kafka.cluster import POM, STARTING_SECONDS, free_ports

ROLES = ("administrator", "emitter", "service", "worker", "releaser", "operator")
CASE_EVENTS, DEAD_LETTERS, RELEASES = "case-events", "case-events.dead-letter", "releases"
SETTLEMENTS, PARTIAL_SUMS = "settlements", "partial-sums"
TOPICS = (CASE_EVENTS, DEAD_LETTERS, RELEASES, SETTLEMENTS, PARTIAL_SUMS)
CLUSTER_ID = "cXVpZXRjb3VudC1jb21wbw"
DENIED = (
    AuthorizationError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
    UnknownTopicOrPartitionError,  # it is there: whoever may not describe it is told that it is not
)
WAIT_MS = 20_000
MORE = '\n[[acl]]\nrole = "{}"\nresource = "{}"\nname = "{}"\noperations = ["{}"]\n'


@dataclass
class Deployment:
    """The broker of compose.yaml, its users, and the scripts that make them."""

    broker: Broker
    secrets: Path
    access: ModuleType
    table: str

    @property
    def admin(self) -> str:
        return self.broker.address("ADMIN")

    @property
    def clients(self) -> str:
        return self.broker.address("CLIENTS")

    def password_file(self, role: str) -> Path:
        return self.secrets / role / "kafka-password"

    def options(self, role: str) -> dict[str, Any]:
        return {
            "bootstrap_servers": self.clients,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": f"quietcount-{role}",
            "sasl_plain_password": self.password_file(role).read_text(encoding="ascii").strip(),
        }

    def administrator(self) -> KafkaAdminClient:
        """Everything is allowed to who is in the broker's own network."""
        return KafkaAdminClient(bootstrap_servers=self.admin)

    def set_acls(self, table: str, prefix: str = "") -> None:
        with self.administrator() as admin:
            self.access.set_acls(admin, self.access.acls_of(table, prefix))

    def quietcount(self, role: str, config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run quietcount as the container of `role` does."""
        place = {
            "QUIETCOUNT_CONFIG": str(config),
            "QUIETCOUNT_LOG": f"kafka://{self.clients}",
            "QUIETCOUNT_KAFKA__USERNAME": f"quietcount-{role}",
            "QUIETCOUNT_KAFKA__PASSWORD_FILE": str(self.password_file(role)),
        }
        command = [str(Path(sys.executable).with_name("quietcount")), *arguments]
        return subprocess.run(command, env=dict(os.environ) | place, capture_output=True, text=True, timeout=120)


@contextmanager
def deployed(root: Path, folder: Path, settings: dict[str, str], host: str = "127.0.0.1") -> Iterator[Deployment]:
    """A broker with `settings` for ports and folders of its own, its users and its ACLs, as compose.yaml makes them."""
    secrets = folder / "secrets"
    for role in (*ROLES, "monitoring"):
        (secrets / role).mkdir(parents=True)
    script(root / "compose" / "credentials.py").make_credentials(secrets)
    ports = dict(zip(("CLIENTS", "EMITTERS", "ADMIN", "CONTROLLER"), free_ports(4), strict=True))
    settings["listeners"] = ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
    advertised = settings["listeners"].rpartition(",CONTROLLER")[0]
    settings["advertised.listeners"] = advertised.replace("EMITTERS://127.0.0.1", f"EMITTERS://{host}")
    settings["controller.quorum.voters"] = f"1@127.0.0.1:{ports['CONTROLLER']}"
    settings["log.dirs"] = str(folder / "data")
    java = artifacts.java()
    assert java is not None
    broker = Broker(1, folder / "broker", ports | {"PLAINTEXT": ports["ADMIN"]}, settings, java, artifacts.jars(POM))
    broker.format(CLUSTER_ID, {})
    access = script(root / "compose" / "kafka" / "access.py")
    try:
        broker.launch()
        broker.wait_until_it_knows({1}, time.monotonic() + STARTING_SECONDS)
        assert access.main(broker.address("ADMIN"), secrets) == 0
        table = (root / "compose" / "kafka" / "acls.toml").read_text(encoding="utf-8")
        yield Deployment(broker, secrets, access, table)
    finally:
        broker.kill()


def settings_of(root: Path) -> dict[str, str]:
    return properties_of((root / "compose" / "kafka" / "server.properties").read_text(encoding="utf-8"))


# ------------------------------------------------------------------ deeds


def write(deployment: Deployment, role: str, topic: str) -> None:
    producer = KafkaProducer(**deployment.options(role), max_block_ms=WAIT_MS)
    try:
        producer.send(topic, b"x", partition=0).get(timeout=30)
    except KafkaError as error:
        # An idempotent producer of who may write nowhere is refused its id, and wraps the refusal in words.
        if "AuthorizationFailed" not in str(error):
            raise
        raise TopicAuthorizationFailedError(topic) from error
    finally:
        producer.close(timeout=1)


def read(deployment: Deployment, role: str, topic: str) -> None:
    consumer = KafkaConsumer(
        **deployment.options(role), group_id=None, auto_offset_reset="none", enable_auto_commit=False
    )
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, consumer.beginning_offsets([partition])[partition])
        # Until something comes, or the refusal of it: who may neither read nor be refused is not to be believed.
        for _ in range(20):
            if consumer.poll(timeout_ms=1000):
                return
        raise AssertionError(f"{role} was not refused, and read nothing")
    finally:
        consumer.close()


def count(deployment: Deployment, role: str, topic: str) -> None:
    with KafkaAdminClient(**deployment.options(role)) as admin:
        described = admin.describe_topics([topic])[0]
    if described["error_code"]:
        raise TopicAuthorizationFailedError(topic)


def purge(deployment: Deployment, role: str, topic: str) -> None:
    with KafkaAdminClient(**deployment.options(role)) as admin:
        admin.delete_records({TopicPartition(topic, 0): 0}, timeout_ms=WAIT_MS)


def delete(deployment: Deployment, role: str, topic: str) -> None:
    with KafkaAdminClient(**deployment.options(role)) as admin:
        admin.delete_topics([topic])


def settings(deployment: Deployment, role: str, topic: str) -> None:
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    with KafkaAdminClient(**deployment.options(role)) as admin:
        found = admin.describe_configs([resource])
    if not found["topic"][topic]:  # the client leaves the refusal out
        raise TopicAuthorizationFailedError(topic)


def change_settings(deployment: Deployment, role: str, topic: str) -> None:
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "-1"})
    with KafkaAdminClient(**deployment.options(role)) as admin:
        said = admin.alter_configs([resource], validate_only=True, raise_on_unknown=False)["topic"][topic]
    if said != "OK":
        assert "AuthorizationFailed" in said
        raise TopicAuthorizationFailedError(topic)


def add_partitions(deployment: Deployment, role: str, topic: str) -> None:
    with KafkaAdminClient(**deployment.options(role)) as admin:
        admin.create_partitions({topic: 64}, validate_only=True)


def make(deployment: Deployment, role: str, topic: str) -> None:
    with KafkaAdminClient(**deployment.options(role)) as admin:
        admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}}, validate_only=True)


def release(deployment: Deployment, role: str, transactional_id: str) -> None:
    producer = KafkaProducer(
        **deployment.options(role), transactional_id=transactional_id, max_block_ms=WAIT_MS, transaction_timeout_ms=5000
    )
    try:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(RELEASES, b"x", partition=0).get(timeout=30)
        producer.commit_transaction()
    finally:
        producer.close(timeout=1)


def commit(deployment: Deployment, role: str, group: str) -> None:
    consumer = KafkaConsumer(**deployment.options(role), group_id=group, enable_auto_commit=False)
    try:
        partition = TopicPartition(CASE_EVENTS, 0)
        consumer.assign([partition])
        consumer.commit({partition: OffsetAndMetadata(0, "", -1)})
    finally:
        consumer.close(autocommit=False)


def rule(deployment: Deployment, role: str, topic: str) -> None:
    more = deployment.access.acls_of(MORE.format(role, "topic", topic, "READ"))
    with KafkaAdminClient(**deployment.options(role)) as admin:
        done = admin.create_acls(more)
    if done["failed"]:
        raise done["failed"][0]


def take_a_user(deployment: Deployment, role: str, name: str) -> None:
    with KafkaAdminClient(**deployment.options(role)) as admin:
        said = admin.alter_user_scram_credentials([UserScramCredentialDeletion(name, "SCRAM-SHA-512")])[name]
    if said is not None and "needs ALTER permission" in said:
        raise ClusterAuthorizationFailedError


DEEDS: dict[tuple[str, str], Callable[[Deployment, str, str], None]] = {
    **{("read", topic): read for topic in TOPICS},
    **{("write", topic): write for topic in TOPICS},
    **{("purge", topic): purge for topic in TOPICS},
    **{("count", topic): count for topic in TOPICS},
    **{("see the settings of", topic): settings for topic in TOPICS},
    **{("change the settings of", topic): change_settings for topic in TOPICS},
    **{("add partitions to", topic): add_partitions for topic in TOPICS},
    ("make", "another-topic"): make,
    ("release as", "quietcount.releases"): release,
    ("release as", "somebody.else"): release,
    ("commit as", "quietcount"): commit,
    ("commit as", "somebody.else"): commit,
    ("let oneself read", "another-topic"): rule,
    ("take the user", "nobody"): take_a_user,
}

PROMISED = {
    "administrator": {
        *(("count", topic) for topic in TOPICS),
        *(("see the settings of", topic) for topic in TOPICS),
    },
    "emitter": {("write", CASE_EVENTS), ("count", CASE_EVENTS)},
    "service": {
        *(("read", topic) for topic in TOPICS),
        *(("write", topic) for topic in (DEAD_LETTERS, RELEASES, SETTLEMENTS, PARTIAL_SUMS)),
        *(("purge", topic) for topic in (CASE_EVENTS, DEAD_LETTERS, PARTIAL_SUMS)),
        *(("count", topic) for topic in TOPICS),
        ("see the settings of", RELEASES),
        ("see the settings of", SETTLEMENTS),
        ("release as", "quietcount.releases"),
        ("commit as", "quietcount"),
    },
    "worker": {
        *(("read", topic) for topic in (CASE_EVENTS, RELEASES, SETTLEMENTS)),
        *(("write", topic) for topic in (DEAD_LETTERS, PARTIAL_SUMS)),
        *(("purge", topic) for topic in (CASE_EVENTS, DEAD_LETTERS)),
        *(("count", topic) for topic in TOPICS),
        ("see the settings of", RELEASES),
        ("see the settings of", SETTLEMENTS),
        ("commit as", "quietcount"),
    },
    "releaser": {
        *(("read", topic) for topic in (RELEASES, SETTLEMENTS, PARTIAL_SUMS)),
        *(("write", topic) for topic in (RELEASES, SETTLEMENTS)),
        ("purge", PARTIAL_SUMS),
        *(("count", topic) for topic in TOPICS),
        ("see the settings of", RELEASES),
        ("see the settings of", SETTLEMENTS),
        ("release as", "quietcount.releases"),
    },
    "operator": {
        ("read", DEAD_LETTERS),
        ("write", CASE_EVENTS),
        ("count", DEAD_LETTERS),
        ("count", CASE_EVENTS),
    },
}


def possible(deployment: Deployment, role: str, deeds: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which of `deeds` the broker lets `role` do. Whatever fails for another reason fails the test."""
    done = set()
    for deed in deeds:
        try:
            DEEDS[deed](deployment, role, deed[1])
        except DENIED:
            continue
        done.add(deed)
    return done
