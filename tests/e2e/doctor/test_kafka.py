"""The doctor on Kafka: brokers, topics and rights, and the service that is not fenced by it."""

from __future__ import annotations

import datetime as dt
import json
import socket
import time
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ACLOperation, ConfigResource, ResourceType
from tests.e2e.doctor.doctor_projects import WARNING, WRONG, Healthy, found, tells, unverified
from tests.e2e.kafka.kafka_projects import kafka_configuration, kafka_project, settings_of
from tests.e2e.projects import EXACT, Project
from tests.kafka.fixtures import Kafka
from tests.kafka.secured import SecuredCluster

from quietcount_consumers.doctor.broker import NEEDED
from quietcount_consumers.doctor.examination import examine
from quietcount_consumers.doctor.verdicts import CHECKS
from quietcount_consumers.kafka.topics import create_topics
from quietcount_consumers.workers.duty import Role
from quietcount_schemas.finding import Finding
from quietcount_schemas.log import CASE_EVENTS, RELEASES

pytestmark = pytest.mark.check

__all__ = ["unverified"]  # the fixture


def kafka_verdicts(project: Project) -> list[Finding]:
    return found(examine(project.config, Healthy(time=dt.datetime.now(dt.UTC))))


@pytest.fixture
def on_kafka(monkeypatch: pytest.MonkeyPatch, unverified: None) -> None:
    monkeypatch.setenv("QUIETCOUNT_METRICS__LISTEN", "off")


def test_on_kafka_the_brokers_and_the_topics_are_looked_at(kafka: Kafka, tmp_path: Path, on_kafka: None) -> None:
    project = kafka_project(tmp_path / "project", kafka.bootstrap, kafka.prefix(), topics=False)
    assert tells(kafka_verdicts(project), "brokers", WRONG, "topic")
    settings = settings_of(project)
    create_topics(settings)
    (project.folder / "secrets" / "pepper").unlink()
    assert not [each for each in kafka_verdicts(project) if each.severity is WRONG]
    project.run_here("2023-02-08")
    verdicts = examine(project.config, Healthy())
    assert {each.code for each in verdicts} == set(CHECKS) - {"log"}
    assert not [each for each in verdicts if each.severity is WRONG]
    # Nobody is kept from anything on these brokers.
    assert tells(verdicts, "rights", WARNING, "WRITE on ")
    with KafkaAdminClient(bootstrap_servers=list(settings.brokers)) as admin:
        admin.alter_configs([ConfigResource("TOPIC", settings.topic(RELEASES), {"retention.ms": "1000"})])
        deadline = time.monotonic() + 30
        while not tells(kafka_verdicts(project), "topics", WRONG, "retention.ms is 1000"):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        admin.delete_topics([settings.topic(CASE_EVENTS)])
    create_topics(settings)
    assert tells(kafka_verdicts(project), "state", WRONG, "the log is another one")


def test_the_service_on_kafka_is_not_fenced_by_the_doctor(kafka: Kafka, tmp_path: Path, on_kafka: None) -> None:
    from quietcount_consumers.opening import open_service

    project = kafka_project(tmp_path / "project", kafka.bootstrap, kafka.prefix())
    moment = dt.datetime(2023, 2, 8, tzinfo=dt.UTC)
    with open_service(project.configuration, dt.datetime(2023, 1, 8, tzinfo=dt.UTC)) as service:
        verdicts = examine(project.config, Healthy())
        assert any(each.what == "a service is running, and holds it" for each in verdicts)
        assert service.tick(moment).released, "it was fenced"


def test_brokers_that_do_not_answer_are_told_once(tmp_path: Path, on_kafka: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    project = Project(tmp_path / "project", kafka_configuration(f"127.0.0.1:{port}", "nobody."))
    verdicts = kafka_verdicts(project)
    assert tells(verdicts, "brokers", WRONG, str(port))
    assert [each.code for each in verdicts if each.severity is WRONG] == ["brokers"]


def test_a_pepper_on_the_services_machine_is_told_on_kafka(tmp_path: Path, on_kafka: None) -> None:
    project = Project(tmp_path / "project", kafka_configuration("127.0.0.1:1", "nobody."))
    assert tells(kafka_verdicts(project), "secrets", WARNING, "the pepper is on the service's machine")


def test_rights_that_lack_and_rights_beyond_are_told(
    kafka_secure: SecuredCluster, tmp_path: Path, on_kafka: None
) -> None:
    keys = kafka_secure.settings("SCRAM_TLS", "service")
    section = "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
    configuration = EXACT.replace("\n[[population]]", f"\n[kafka]\n{section}\n\n[[population]]", 1)
    project = Project(tmp_path / "project", f'log = "kafka://{kafka_secure.addresses("SCRAM_TLS")}"\n{configuration}')
    prefix = keys["topic_prefix"]
    administrator = Project(
        tmp_path / "administrator", kafka_configuration(kafka_secure.addresses("PLAINTEXT"), prefix)
    )
    create_topics(settings_of(administrator))
    for topic, operations in NEEDED[Role.BOTH].items():
        given = operations - ({"DELETE"} if topic == CASE_EVENTS else set())
        kafka_secure.allow("service", ResourceType.TOPIC, prefix + topic, *(ACLOperation[name] for name in given))
    deadline = time.monotonic() + 30
    while not tells(kafka_verdicts(project), "rights", WRONG, f"{prefix}{CASE_EVENTS}: the user of "):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    verdicts = kafka_verdicts(project)
    assert tells(verdicts, "rights", WRONG, "lacks DELETE")
    assert not tells(verdicts, "rights", WARNING, "never does")
    assert tells(verdicts, "brokers", WARNING, "runs out on")  # the trial's certificates live for two days
    kafka_secure.allow("service", ResourceType.TOPIC, prefix + CASE_EVENTS, ACLOperation.DELETE, ACLOperation.WRITE)
    while not tells(kafka_verdicts(project), "rights", WARNING, f"WRITE on {prefix}{CASE_EVENTS}"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert [each.code for each in kafka_verdicts(project) if each.severity is WRONG] == []
