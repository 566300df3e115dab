"""The drill on Kafka: lost topics are made anew, and the ledger comes back from what was published."""

from __future__ import annotations

from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from tests.e2e.kafka.kafka_projects import kafka_project, settings_of
from tests.e2e.recovery.restore_drills import LINES, NEW, Drill, Page, held, page
from tests.e2e.service.test_upgrades import CONFIGURATION, counted
from tests.kafka.fixtures import Kafka

from quietcount_schemas.log import CASE_EVENTS, RELEASES, SETTLEMENTS

pytestmark = pytest.mark.check

__all__ = ["page"]  # a fixture, which the test asks for by name


def test_lost_topics_are_made_anew_and_the_ledger_comes_back_from_what_was_published(
    kafka: Kafka, tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = kafka_project(tmp_path / "project", kafka.bootstrap, kafka.prefix(), CONFIGURATION)
    drill = Drill(project, page)
    monkeypatch.chdir(project.folder)
    settings = settings_of(project)
    project.emit(LINES)
    drill.start().done()
    before = drill.released
    assert before
    with KafkaAdminClient(bootstrap_servers=list(settings.brokers)) as admin:
        admin.delete_topics([settings.topic(RELEASES)])
    assert "topics create" in drill.start().text
    drill.quietcount("topics", "create")
    drill.start().refused(*page.messages("The ledger is lost, or an older one was put back"))
    drill.quietcount("ledger", "restore", "--yes", "data/statistics.duckdb").done()
    drill.start().done()
    assert drill.released == before
    for lost in (SETTLEMENTS, CASE_EVENTS):
        with KafkaAdminClient(bootstrap_servers=list(settings.brokers)) as admin:
            admin.delete_topics([settings.topic(lost)])
        if lost == SETTLEMENTS:
            drill.quietcount("topics", "create")
            drill.start().done()
            assert drill.released == before
    drill.quietcount("topics", "create")
    drill.start().refused(*page.messages("The log is lost, or an older one was put back"))
    drill.quietcount("ledger", "new-log", "--yes").done()
    project.emit(NEW)
    assert held(drill, before) == counted([*LINES, *NEW])
