"""On Kafka an older copy of the ledger is refused by each part that was not put back with it.

The topic of the ledger is made again from what it held a month before, as after a restore of the brokers' disks; state,
public file and witness are put back as files. The private log of places is a topic of its own, and may know alone.
"""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from tests.catalogues import catalogue, statistic
from tests.e2e.kafka.kafka_projects import PARTITIONS, kafka_project, settings_of
from tests.e2e.projects import Project
from tests.kafka.fixtures import Kafka

from quietcount_aggregates.errors import LedgerBehind
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_consumers.kafka.ledger import KafkaLedger
from quietcount_consumers.kafka.topics import create_topics
from quietcount_schemas.log import RELEASES, SETTLEMENTS

pytestmark = pytest.mark.check

CONFIGURATION = catalogue(statistic("requests", "HelpRequested", by="help_kind", epsilon=0.2), grace="1d")
FILES = {"state": "data/private/store/state-*", "public": "data/statistics.duckdb", "witness": "secrets/service-head"}
ALONE = (*FILES, "places")


def copied(project: Project, folder: Path) -> Path:
    for name, pattern in FILES.items():
        (folder / name).mkdir(parents=True)
        for path in project.folder.glob(pattern):
            shutil.copy2(path, folder / name / path.name)
    return folder


def put_back(project: Project, copy: Path, names: Sequence[str]) -> None:
    for name in names:
        for path in project.folder.glob(FILES[name]):
            path.unlink()
        shutil.copytree(copy / name, (project.folder / FILES[name]).parent, dirs_exist_ok=True)


def ledger_of(project: Project) -> tuple[list[bytes], list[bytes]]:
    with closing(KafkaLedger(settings_of(project))) as ledger:
        return ledger.read(), ledger.read_places()


def made_again(project: Project, entries: Sequence[bytes], places: Sequence[bytes]) -> None:
    """Make both topics of the ledger again, with what they held once."""
    settings = settings_of(project)
    with KafkaAdminClient(bootstrap_servers=list(settings.brokers)) as admin:
        admin.delete_topics([settings.topic(RELEASES), settings.topic(SETTLEMENTS)])
    create_topics(settings, partitions=PARTITIONS)
    with closing(KafkaLedger(settings)) as ledger:
        ledger.append(entries, places, epoch=ledger.fence(), expected=0)


@pytest.mark.promise("older-refused", "drawn-once")
def test_each_part_that_was_not_put_back_keeps_a_ledger_on_kafka_from_being_drawn_again(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = kafka_project(tmp_path / "project", kafka.bootstrap, kafka.prefix(), CONFIGURATION)
    project.run_here(str(dt.date(2023, 2, 3)))
    older, (entries, places) = copied(project, tmp_path / "older"), ledger_of(project)
    project.run_here(str(dt.date(2023, 3, 3)))
    newer, drawn, newest_places = copied(project, tmp_path / "newer"), project.released(), ledger_of(project)[1]
    assert len(newest_places) == len(places) + 2, "a settlement, and its place"
    for alone in ALONE:
        made_again(project, entries, newest_places if alone == "places" else places)
        put_back(project, newer, [alone] if alone in FILES else [])
        put_back(project, older, [name for name in FILES if name != alone])
        with pytest.raises(LedgerBehind):
            project.run_here(str(dt.date(2023, 3, 3)))
    # The control: nothing knows better, or nothing is asked. What is drawn again would not fit the newer places.
    made_again(project, entries, places)
    monkeypatch.setattr(Ledger, "check_places", lambda _: None)
    project.run_here(str(dt.date(2023, 3, 3)))
    again = project.released()
    # The noise of scale 5 gives 8 or more cells the same values in one of 1e8 runs.
    assert again.keys() == drawn.keys()
    assert again != drawn
