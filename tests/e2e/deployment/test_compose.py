"""compose/ on a real broker: its server.properties as they are, but for ports and folder, and its users and ACLs.

What each role can do is tried, deed by deed, by logging in as it. The whole table of deeds is the promise: one that is
possible and should not be turns the test red as much as one that is needed and not possible.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import (
    KafkaError,
    TopicAuthorizationFailedError,
    TopicDeletionDisabledError,
)
from tests.deployment import OPENSSL, blocks_of, make_certificates, openssl_there, properties_of
from tests.e2e.deployment.deployed_broker import (
    CASE_EVENTS,
    DEAD_LETTERS,
    DEEDS,
    MORE,
    PARTIAL_SUMS,
    PROMISED,
    RELEASES,
    ROLES,
    SETTLEMENTS,
    TOPICS,
    WAIT_MS,
    Deployment,
    delete,
    deployed,
    possible,
    settings_of,
)
from tests.e2e.kafka.kafka_projects import kafka_project
from tests.e2e.projects import Project

from quietcount_consumers.wiring import signing_key_file

pytestmark = [pytest.mark.check, pytest.mark.xdist_group("compose")]


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
    for topic in TOPICS:
        producer.send(topic, b"a record", partition=0).get(timeout=30)
    producer.close()
    return made


def test_the_administrator_makes_the_topics_and_finds_them_right(
    deployment: Deployment, topics: subprocess.CompletedProcess[str], root: Path
) -> None:
    assert topics.stdout.split() == [CASE_EVENTS, DEAD_LETTERS, RELEASES, SETTLEMENTS, PARTIAL_SUMS]
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
    asked = deployment.quietcount("service", config, "query", "FROM requests_by_kind", "--format", "json")
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


@pytest.mark.promise("kafka")
def test_worker_and_releaser_release_together_with_their_own_rights_alone(
    deployment: Deployment, tmp_path: Path, trial: str
) -> None:
    releaser, worker = (
        kafka_project(tmp_path / name, deployment.clients, trial, topics=False) for name in ("releaser", "worker")
    )
    shutil.copy2(releaser.configuration.service.secret_file, worker.configuration.service.secret_file)
    signing_key_file(worker.configuration).unlink()
    made = deployment.quietcount("administrator", releaser.config, "topics", "create", "--partitions", "4")
    assert made.returncode == 0, made.stderr

    def fold(role: str, day: str) -> subprocess.CompletedProcess[str]:
        asked = ("run", "--role", "fold", "--partitions", "0-3", "--until-idle", "--as-of", day)
        return deployment.quietcount(role, worker.config, *asked)

    def release(role: str, day: str) -> subprocess.CompletedProcess[str]:
        return deployment.quietcount(role, releaser.config, "run", "--role", "release", "--until-idle", "--as-of", day)

    assert "Start the releaser first" in fold("worker", "2023-01-01").stderr
    for step in (release("releaser", "2023-01-01"), fold("worker", "2023-01-01")):
        assert step.returncode == 0, step.stderr

    def emit(case: str) -> None:
        line = {"event": "HelpRequested", "case": case, "occurred_on": "2023-01-15", "help_kind": "DESERTION"}
        (tmp_path / "cases.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
        emitted = deployment.quietcount("emitter", releaser.config, "emit", str(tmp_path / "cases.jsonl"))
        assert emitted.returncode == 0, emitted.stderr

    def faults(role: str, project: Project) -> list[str]:
        done = deployment.quietcount(role, project.config, "doctor", "--format", "json")
        verdicts = json.loads(done.stdout)
        assert {"rights", "brokers"} <= {each["code"] for each in verdicts}
        ours = ("brokers", "rights", "topics", "ledger", "state", "workers", "secrets", "published file", "metrics")
        return [each["what"] for each in verdicts if each["code"] in ours and each["severity"] == "wrong"]

    assert faults("releaser", releaser) == faults("worker", worker) == [], "nothing was settled yet"
    emit("a trial")
    with ThreadPoolExecutor(1) as beside:
        released = beside.submit(release, "releaser", "2023-02-15")
        while not released.done():  # it writes what is settled, and waits for what the worker counts
            folded = fold("worker", "2023-02-15")
            assert folded.returncode == 0, folded.stderr
            assert faults("worker", worker) == [], "it may not read what workers hand over"
        assert released.result().returncode == 0, released.result().stderr
    assert releaser.released()["requests", "2023-01-01", "help_kind=DESERTION"] == 1
    assert faults("releaser", releaser) == faults("worker", worker) == []
    emit("another one")
    for refused in (fold("releaser", "2023-02-15"), release("worker", "2023-03-15")):
        assert refused.returncode == 1, refused.stderr
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
