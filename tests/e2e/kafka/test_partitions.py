"""The number of partitions is that with which the ledger was opened: with another one nothing is folded or released."""

from __future__ import annotations

import json
import time

import pytest
from kafka import KafkaAdminClient
from tests.catalogues import statistic
from tests.e2e.kafka.kafka_projects import settings_of
from tests.e2e.kafka.kafka_services import (
    BEFORE,
    LATER,
    LINES,
    TRUE,
    admin,
    nonzero,
    project,
    recreate,
    refused,
    topic_of,
)
from tests.e2e.projects import Project

from quietcount_consumers import positions
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.opening import open_service
from quietcount_schemas.log import CASE_EVENTS, RELEASES

pytestmark = pytest.mark.check

__all__ = ["admin", "project"]  # fixtures, which tests ask for by name

SAID = "the ledger was opened with 3"


def add_a_partition(project: Project, admin: KafkaAdminClient) -> None:
    admin.create_partitions({topic_of(project): 4})


def entries_of(project: Project) -> int:
    return len(json.loads(project.quietcount("ledger", "show", "--format", "json").done().out))


def test_a_topic_that_got_more_partitions_is_refused_by_the_service_the_check_and_the_doctor(
    project: Project, admin: KafkaAdminClient
) -> None:
    project.emit(LINES)
    project.run_here("2023-06-08")
    before, released, entries = project.state(), project.released(), entries_of(project)
    add_a_partition(project, admin)
    with project.config.open("a", encoding="utf-8") as file:
        file.write(statistic("outcomes", "OutcomeRecorded"))
    assert SAID in refused(project, "run", "--until-idle", "--as-of", "2024-01-08")
    assert project.state() == before
    assert project.released() == released
    assert entries_of(project) == entries, "nothing is declared, and no budget spent, before it refuses"
    for command in (["topics", "check"], ["doctor"]):
        told = project.quietcount(*command, "--format", "json")
        told.refusal()
        (found,) = [each for each in json.loads(told.out) if SAID in each["what"]]
        assert (found["severity"], found["where"]) == ("wrong", topic_of(project))
        assert "If partitions were added" in found["remedy"]


def test_partitions_that_are_added_while_the_service_runs_are_noticed_at_the_next_tick(
    project: Project, admin: KafkaAdminClient
) -> None:
    project.emit(LINES)
    with open_service(project.configuration, BEFORE) as service:
        service.tick(BEFORE)
        add_a_partition(project, admin)
        with pytest.raises(ServiceError, match=SAID):
            service.tick(LATER)
    assert project.released() == {}


def test_a_twin_that_folds_any_number_of_partitions_is_found_out(
    project: Project, admin: KafkaAdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(positions, "check_partitions", lambda *_: None)
    project.emit(LINES)
    with open_service(project.configuration, BEFORE) as service:
        service.tick(BEFORE)
        add_a_partition(project, admin)
        service.tick(LATER)
    assert nonzero(project) == TRUE


def test_a_new_log_has_as_many_partitions_as_the_old_one(project: Project, admin: KafkaAdminClient) -> None:
    project.emit(LINES)
    project.run_here("2023-01-02")
    before = project.state()
    for partitions in (2, 4):
        recreate(project, admin, partitions)
        assert SAID in refused(project, "ledger", "new-log", "--yes")
        assert project.state() == before


def test_topics_are_made_again_with_the_ledgers_number_also_if_only_the_published_file_knows_it(
    project: Project, admin: KafkaAdminClient
) -> None:
    project.emit(LINES)
    project.run_here("2023-06-08")
    settings = settings_of(project)

    def made_again(*topics: str) -> int:
        admin.delete_topics([settings.topic(topic) for topic in topics])
        until = time.monotonic() + 20
        while set(admin.list_topics()) & {settings.topic(topic) for topic in topics}:
            assert time.monotonic() < until
            time.sleep(0.05)
        project.quietcount("topics", "create")
        return len(admin.describe_topics([settings.topic(CASE_EVENTS)])[0]["partitions"])

    assert made_again(CASE_EVENTS) == 3
    assert made_again(CASE_EVENTS, RELEASES) == 3
    assert "opened with 3 partitions" in project.quietcount("topics", "create", "--partitions", "5").refusal()
