"""With the log on Kafka, too, a day without events and a busy one look the same to those who watch the service.

As test_indistinguishability does, and besides what a reader of the cluster's metadata learns: how far the topics of the
ledger go, and which group wrote down which offsets. What is known to count events is listed, with the sentence of the
page that says so and asks for a right of its own. Nothing here is random but the noise: no false alarms.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.structs import TopicPartition
from tests.e2e.kafka.kafka_projects import groups_answer, kafka_project, settings_of
from tests.e2e.observations import Observation, WatchedService, differences, free_port
from tests.e2e.projects import Project
from tests.kafka.fixtures import Kafka
from tests.privacy.test_indistinguishability import CATALOGUE, START, TICK, Emit, busy, nothing

from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import RELEASES, SETTLEMENTS

pytestmark = pytest.mark.check

TICKS = 6
HASH = re.compile(r'(?<=quietcount_configuration_info\{hash=")[0-9a-f]+')
KNOWN = {
    "offsets of the group": "The offsets and sizes of the topics and the offsets of the group count events. Give "
    "nobody else the right to look at them.",
}
"""By what differs: the sentence of docs/kafka.md that names it."""


class WatchedCluster(WatchedService):
    """Looks at the cluster's metadata whenever a tick is done."""

    def _supervised(self) -> Observation:
        return {**super()._supervised(), **metadata(settings_of(self.project))}


def metadata(settings: KafkaSettings) -> Observation:
    """Return what a user learns who may describe the ledger's topics and every group, and read nothing."""
    seen: Observation = {}
    with closing(KafkaConsumer(bootstrap_servers=list(settings.brokers), group_id=None)) as consumer:
        for name in (RELEASES, SETTLEMENTS):
            partition = TopicPartition(settings.topic(name), 0)
            seen[f"end of {name}"] = consumer.end_offsets([partition])[partition]
    group = settings.topic("quietcount")
    with KafkaAdminClient(bootstrap_servers=list(settings.brokers)) as admin:
        offsets = admin.list_group_offsets([group])[group]
        seen["offsets of the group"] = sorted((each.partition, at.offset) for each, at in offsets.items())
        seen["groups"] = [each["group_id"] == group for each in admin.list_groups() if group in each["group_id"]]
    return seen


def watched(folder: Path, kafka: Kafka, emit: Emit, port: int, mutants: Iterable[str] = ()) -> dict[str, Observation]:
    """Run a service for some ticks on topics of its own; return what was seen."""
    project: Project = kafka_project(folder, kafka.bootstrap, kafka.prefix(), CATALOGUE)
    groups_answer(kafka.bootstrap, settings_of(project).topic("quietcount"))
    with WatchedCluster(project, START, port, mutants) as service:
        emit(project, START)
        service.begin()
        for number in range(1, TICKS):
            emit(project, START + number * TICK)
            service.advance(TICK)
        service.stop()
    return {moment: {place: alike(what) for place, what in each.items()} for moment, each in service.seen.items()}


def alike(what: object) -> object:
    """Leave out the digest of the configuration, which names the prefix of the topics."""
    return (
        tuple(HASH.sub("own", part) if isinstance(part, str) else part for part in what)
        if isinstance(what, tuple)
        else what
    )


def pair(folder: Path, kafka: Kafka, mutants: Iterable[str] = ()) -> list[str]:
    """Return in what a quiet service and a busy one differ, but for the prefix of their topics."""
    port = free_port()
    quiet, busiest = (
        watched(folder / name / "service", kafka, emit, port, mutants)
        for name, emit in (("one", nothing), ("other", busy(4)))
    )
    assert '"event": "released"' in "".join(str(each["log"]) for each in quiet.values())
    return differences(quiet, busiest)


@pytest.mark.promise("silence")
def test_on_kafka_an_empty_log_and_a_busy_day_look_the_same(tmp_path: Path, kafka: Kafka) -> None:
    page = " ".join((Path(__file__).parents[2] / "docs" / "kafka.md").read_text(encoding="utf-8").split())
    assert all(sentence in page for sentence in KNOWN.values())
    told = pair(tmp_path, kafka)
    assert [each for each in told if not any(f": {known}: " in each for known in KNOWN)] == []
    assert any(": offsets of the group: " in each for each in told), "what is said to differ differs"


@pytest.mark.parametrize("mutant, place", [("batch size line", "batch folded"), ("lag gauge", "quietcount_log_lag")])
def test_on_kafka_a_faulty_twin_is_told_apart(mutant: str, place: str, tmp_path: Path, kafka: Kafka) -> None:
    assert any(place in each for each in pair(tmp_path, kafka, [mutant]))
