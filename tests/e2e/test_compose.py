"""compose/ on a real broker: its server.properties as they are, but for ports and folder, and its users and ACLs.

What each role can do is tried, deed by deed, by logging in as it. The whole table of deeds is the promise: one that is
possible and should not be turns the test red as much as one that is needed and not possible.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, UserScramCredentialDeletion
from kafka.errors import (
    AuthorizationError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    TopicDeletionDisabledError,
    TransactionalIdAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from tests.deployment import OPENSSL, blocks_of, make_certificates, openssl_there, properties_of, script
from tests.kafka import artifacts
from tests.kafka.broker import Broker
from tests.kafka.cluster import POM, STARTING_SECONDS, free_ports

pytestmark = [pytest.mark.check, pytest.mark.xdist_group("compose")]

ROLES = ("administrator", "emitter", "service", "operator")
CASE_EVENTS, DEAD_LETTERS, RELEASES = "case-events", "case-events.dead-letter", "releases"
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


@pytest.fixture(scope="module")
def deployment(root: Path, apache_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(root, tmp_path_factory.mktemp("compose"), settings_of(root)) as made:
        yield made


@pytest.fixture(scope="module")
def topics(deployment: Deployment, root: Path) -> subprocess.CompletedProcess[str]:
    """The topics, made as compose.yaml makes them: by the administrator, with the configuration of compose/."""
    made = deployment.quietcount("administrator", root / "compose" / "quietcount.toml", "topics", "create")
    assert made.returncode == 0, made.stderr
    # Something to read and to purge.
    producer = KafkaProducer(bootstrap_servers=deployment.admin)
    for topic in (CASE_EVENTS, DEAD_LETTERS, RELEASES):
        producer.send(topic, b"a record", partition=0).get(timeout=30)
    producer.close()
    return made


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
    **{("read", topic): read for topic in (CASE_EVENTS, DEAD_LETTERS, RELEASES)},
    **{("write", topic): write for topic in (CASE_EVENTS, DEAD_LETTERS, RELEASES)},
    **{("purge", topic): purge for topic in (CASE_EVENTS, DEAD_LETTERS, RELEASES)},
    **{("count", topic): count for topic in (CASE_EVENTS, DEAD_LETTERS, RELEASES)},
    **{("see the settings of", topic): settings for topic in (CASE_EVENTS, DEAD_LETTERS, RELEASES)},
    **{("change the settings of", topic): change_settings for topic in (CASE_EVENTS, DEAD_LETTERS, RELEASES)},
    **{("add partitions to", topic): add_partitions for topic in (CASE_EVENTS, DEAD_LETTERS, RELEASES)},
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
        *(("count", topic) for topic in (CASE_EVENTS, DEAD_LETTERS, RELEASES)),
        *(("see the settings of", topic) for topic in (CASE_EVENTS, DEAD_LETTERS, RELEASES)),
    },
    "emitter": {("write", CASE_EVENTS), ("count", CASE_EVENTS)},
    "service": {
        *(("read", topic) for topic in (CASE_EVENTS, DEAD_LETTERS, RELEASES)),
        *(("write", topic) for topic in (DEAD_LETTERS, RELEASES)),
        *(("purge", topic) for topic in (CASE_EVENTS, DEAD_LETTERS)),
        *(("count", topic) for topic in (CASE_EVENTS, DEAD_LETTERS, RELEASES)),
        ("see the settings of", RELEASES),
        ("release as", "quietcount.releases"),
        ("commit as", "quietcount"),
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


def test_the_administrator_makes_the_topics_and_finds_them_right(
    deployment: Deployment, topics: subprocess.CompletedProcess[str], root: Path
) -> None:
    assert topics.stdout.split() == [CASE_EVENTS, DEAD_LETTERS, RELEASES]
    checked = deployment.quietcount("administrator", root / "compose" / "quietcount.toml", "topics", "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.fixture
def trial(deployment: Deployment) -> Iterator[str]:
    """A topic prefix for which the roles have their rights, and no others."""
    deployment.set_acls(deployment.table, "trial.")
    yield "trial."
    deployment.set_acls(deployment.table)


@pytest.mark.soak
def test_each_role_does_its_part_of_the_whole_job_with_its_own_rights_alone(
    deployment: Deployment, root: Path, tmp_path: Path, trial: str
) -> None:
    text = (root / "compose" / "quietcount.toml").read_text(encoding="utf-8")
    # The registry has tests of its own; here no ids are pinned, and the events say themselves what they are.
    text = re.sub(
        r"\[schema_registry\].*?(?=\[emitter\])", f'[kafka]\ntopic_prefix = "{trial}"\n', text, flags=re.DOTALL
    )
    text = text.replace("/var/lib/quietcount/secrets", str(deployment.secrets))
    config = tmp_path / "quietcount.toml"
    config.write_text(text.replace("/var/lib/quietcount", str(tmp_path)), encoding="utf-8")
    line = '{"event": "HelpRequested", "case": "a trial", "occurred_on": "2023-01-15", "help_kind": "DESERTION"}\n'
    (tmp_path / "cases.jsonl").write_text(line, encoding="utf-8")
    for role, *command in (
        ("administrator", "topics", "create"),
        ("service", "run", "--until-idle", "--as-of", "2023-01-01"),
        ("emitter", "emit", str(tmp_path / "cases.jsonl")),
        ("service", "run", "--until-idle", "--as-of", "2023-02-15"),
        ("service", "query", "FROM about", "--format", "json"),  # what the image's health check asks
    ):
        done = deployment.quietcount(role, config, *command)
        assert done.returncode == 0, (role, command, done.stderr)
    asked = deployment.quietcount("service", config, "query", "FROM desertion_requests", "--format", "json")
    assert len(json.loads(asked.stdout)) == 1
    # Another role gets nowhere with the service's command, nor the service with an emitter's.
    for role, *command in (
        ("emitter", "run", "--until-idle", "--as-of", "2023-02-15"),
        ("operator", "release", "--as-of", "2023-02-15"),
        ("service", "emit", str(tmp_path / "cases.jsonl")),
    ):
        refused = deployment.quietcount(role, config, *command)
        assert refused.returncode == 1, (role, command, refused.stderr)
        assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("role", ROLES)
def test_a_role_can_do_its_work_and_not_anothers(
    deployment: Deployment, topics: subprocess.CompletedProcess[str], role: str
) -> None:
    assert possible(deployment, role, set(DEEDS)) == PROMISED[role]


TWINS = {
    "an emitter that reads": (MORE.format("emitter", "topic", CASE_EVENTS, "READ"), "emitter", ("read", CASE_EVENTS)),
    "a service that writes events": (
        MORE.format("service", "topic", CASE_EVENTS, "WRITE"),
        "service",
        ("write", CASE_EVENTS),
    ),
    "an operator that writes releases": (
        MORE.format("operator", "topic", RELEASES, "WRITE"),
        "operator",
        ("write", RELEASES),
    ),
    "a service that purges the ledger": (
        MORE.format("service", "topic", RELEASES, "DELETE"),
        "service",
        ("purge", RELEASES),
    ),
    "an administrator that lets the ledger expire": (
        MORE.format("administrator", "topic", RELEASES, "ALTER_CONFIGS"),
        "administrator",
        ("change the settings of", RELEASES),
    ),
    "an administrator that parts the ledger": (
        MORE.format("administrator", "topic", RELEASES, "ALTER"),
        "administrator",
        ("add partitions to", RELEASES),
    ),
}


@pytest.mark.parametrize("twin", TWINS)
def test_a_table_that_allows_more_is_seen(
    deployment: Deployment, topics: subprocess.CompletedProcess[str], twin: str
) -> None:
    text, role, deed = TWINS[twin]
    assert possible(deployment, role, {deed}) == set()
    try:
        deployment.set_acls(deployment.table + text)
        assert possible(deployment, role, {deed}) == {deed}
    finally:
        deployment.set_acls(deployment.table)
    assert possible(deployment, role, {deed}) == set()  # what the table no longer has is taken away


def test_a_table_that_allows_less_is_seen(deployment: Deployment, topics: subprocess.CompletedProcess[str]) -> None:
    entries = tomllib.loads(deployment.table)["acl"]
    less = "".join(
        MORE.format(entry["role"], entry["resource"], entry["name"], '", "'.join(entry["operations"]))
        for entry in entries
        if (entry["role"], entry["resource"]) != ("service", "transactional_id")
    )
    try:
        deployment.set_acls(less)
        assert possible(deployment, "service", {("release as", "quietcount.releases")}) == set()
    finally:
        deployment.set_acls(deployment.table)


def test_nobody_deletes_a_topic_not_even_who_may_purge_it(
    deployment: Deployment, topics: subprocess.CompletedProcess[str]
) -> None:
    for role in ROLES:
        with pytest.raises((TopicAuthorizationFailedError, TopicDeletionDisabledError)):
            delete(deployment, role, CASE_EVENTS)


@pytest.mark.parametrize("listener", ["CLIENTS", "EMITTERS"])
def test_nobody_comes_in_without_a_password(
    deployment: Deployment, topics: subprocess.CompletedProcess[str], listener: str
) -> None:
    at = {"bootstrap_servers": deployment.broker.address(listener), "bootstrap_timeout_ms": 1500}
    right = deployment.options("emitter") | at
    with KafkaAdminClient(**right) as admin:
        assert admin.describe_topics([CASE_EVENTS])[0]["error_code"] == 0
    for refused in (right | {"sasl_plain_password": "wrong"}, right | {"sasl_plain_username": "nobody"}, at):
        with pytest.raises(KafkaError):
            KafkaAdminClient(**refused)


def test_setting_access_again_changes_nothing(deployment: Deployment, root: Path) -> None:
    def there() -> set[Any]:
        access = deployment.access
        with deployment.administrator() as admin:
            anything = access.ResourcePatternFilter(access.ResourceType.ANY, None, access.ACLResourcePatternType.ANY)
            every = access.ACLFilter(None, None, access.ACLOperation.ANY, access.ACLPermissionType.ANY, anything)
            return set(admin.describe_acls(every)[0])

    before = there()
    assert deployment.access.main(deployment.admin, deployment.secrets) == 0
    assert there() == before == set(deployment.access.acls_of(deployment.table))


def test_an_unreachable_broker_or_a_missing_password_is_one_sentence(
    deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deployment.access.main(deployment.admin, tmp_path) == 1
    said = capsys.readouterr().err
    assert "kafka-password: cannot be read" in said
    assert said.count("\n") == 1


def test_a_broker_that_is_set_as_the_page_says_knows_an_emitter_by_its_certificate(
    root: Path, apache_kafka: None, tmp_path: Path, require: Callable[[bool, str], None]
) -> None:
    """The page of mTLS, for a broker that is found under the name localhost."""
    require(openssl_there(), OPENSSL)
    page = (root / "compose" / "security.md").read_text(encoding="utf-8").replace("kafka.example.org", "localhost")
    make_certificates(page, tmp_path)
    settings = settings_of(root)
    for block in blocks_of(page, "properties"):
        settings |= properties_of(block)
    settings = {
        key: value.replace("/etc/kafka/tls/", f"{tmp_path}/compose/kafka/tls/") for key, value in settings.items()
    }
    with deployed(root, tmp_path, settings, host="localhost") as deployment:
        with deployment.administrator() as admin:
            admin.create_topics({CASE_EVENTS: {"num_partitions": 1, "replication_factor": 1}})
        options = {
            "bootstrap_servers": f"localhost:{deployment.broker.ports['EMITTERS']}",
            "security_protocol": "SSL",
            "ssl_cafile": str(tmp_path / "ca.pem"),
            "bootstrap_timeout_ms": 10_000,
        }
        certificate = {
            "ssl_certfile": str(tmp_path / "emitter.crt"),
            "ssl_keyfile": str(tmp_path / "emitter.key"),
        }
        producer = KafkaProducer(**options, **certificate, max_block_ms=WAIT_MS)
        producer.send(CASE_EVENTS, b"x", partition=0).get(timeout=30)
        producer.close()
        with KafkaAdminClient(**options, **certificate) as admin, pytest.raises(TopicAuthorizationFailedError):
            admin.delete_records({TopicPartition(CASE_EVENTS, 0): 0}, timeout_ms=WAIT_MS)
        with pytest.raises(KafkaError):
            KafkaAdminClient(**options | {"bootstrap_timeout_ms": 1500})
