"""Where the service goes on in a log on a real broker, which log it refuses to go on with, and what it purges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.structs import OffsetAndMetadata
from tests.e2e.kafka.kafka_projects import groups_answer, kafka_project, settings_of
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
    states_of,
    topic_of,
    went_on,
)
from tests.e2e.projects import Project, simulated
from tests.kafka.fixtures import Clusters

from quietcount_aggregates.errors import StateError
from quietcount_aggregates.state.state import State
from quietcount_consumers import positions
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.kafka.log import KafkaLog
from quietcount_consumers.opening import open_service
from quietcount_producers.errors import LogError, LogUnavailable
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, LogReader, Mark, NewRecord

pytestmark = pytest.mark.check

__all__ = ["admin", "project"]  # fixtures, which tests ask for by name


def offsets_of(states: Sequence[State]) -> dict[int, int]:
    return {partition: offset for state in states for partition, offset in state.offsets.items()}


def test_a_topic_that_was_made_anew_is_not_folded_as_if_it_were_the_old_one(
    project: Project, admin: KafkaAdminClient
) -> None:
    project.emit(LINES)
    project.run_here("2023-06-08")
    released = project.released()
    recreate(project, admin)
    project.emit(simulated(150, seed=2), "others.jsonl")
    before = project.state()
    assert "quietcount ledger new-log" in refused(project, "run", "--until-idle", "--as-of", "2024-01-08")
    assert project.state() == before
    assert project.released() == released
    recreate(project, admin)
    project.emit(LINES)
    went_on(project)
    project.run_here()
    assert nonzero(project) == TRUE
    assert released.items() <= project.released().items()


def test_a_topic_that_is_made_anew_while_the_service_runs_is_noticed_at_the_next_tick(
    project: Project, admin: KafkaAdminClient
) -> None:
    project.emit(LINES)
    with open_service(project.configuration, BEFORE) as service:
        service.tick(BEFORE)
        recreate(project, admin)
        project.emit(LINES)
        with pytest.raises(StateError, match="quietcount ledger new-log"):
            service.tick(BEFORE)


def test_a_topic_that_is_made_anew_amid_a_tick_is_not_folded(
    project: Project, admin: KafkaAdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.emit(LINES)
    poll = KafkaLog.poll

    def replaced(self: KafkaLog, *arguments: Any) -> Any:
        found = poll(self, *arguments)
        recreate(project, admin)
        return found

    with open_service(project.configuration, BEFORE) as service:
        monkeypatch.setattr(KafkaLog, "poll", replaced)
        with pytest.raises(StateError, match="quietcount ledger new-log"):
            service.tick(BEFORE)
    assert project.open_cells() == {}


def test_records_that_are_gone_before_they_were_folded_stop_the_service(
    project: Project, admin: KafkaAdminClient
) -> None:
    half = len(LINES) // 2
    project.emit(LINES[:half])
    project.run_here("2023-01-02")
    project.emit(LINES[half:], "rest.jsonl")
    with KafkaLog(settings_of(project)) as log:
        ends = log.end_offsets(CASE_EVENTS)
    name = topic_of(project)
    admin.delete_records({TopicPartition(name, p): end for p, end in ends.items()})
    before = project.state()
    message = refused(project, "run", "--until-idle", "--as-of", "2024-01-08")
    assert "never folded" in message
    assert "quietcount ledger new-log" in message
    assert project.state() == before
    assert project.released() == {}
    went_on(project)
    project.emit(LINES)  # what was folded counts once, what was lost is there again
    project.run_here()
    assert nonzero(project) == TRUE


def test_a_log_that_ends_before_what_was_folded_stops_the_service(project: Project) -> None:
    project.emit(LINES)
    project.run_here("2023-01-02")
    with states_of(project) as states:
        states[2].connection.execute("UPDATE offsets SET next_offset = next_offset + 1000")
    message = refused(project, "run", "--until-idle", "--as-of", "2024-01-08")
    assert "ends before records that were folded" in message
    assert "quietcount ledger new-log" in message
    assert project.released() == {}


def test_a_log_whose_leader_lacked_records_stops_the_service_and_is_not_purged(project: Project) -> None:
    """What a real election leaves is tried in `test_leaders.py`; here the state remembers what the log lacks."""
    project.emit(LINES)
    project.run_here("2023-01-02")
    with states_of(project) as states:
        for state in states:
            marks = state.marks
            assert {p: mark.offset for p, mark in marks.items()} == state.offsets
            with state.transaction():
                state.mark({p: Mark(mark.offset, mark.epoch + 7) for p, mark in marks.items()})
                state["purge_due"] = "yes"
    with KafkaLog(settings_of(project)) as log:
        beginnings = log.beginning_offsets(CASE_EVENTS)
        message = refused(project, "run", "--until-idle", "--as-of", "2024-01-08")
        assert log.beginning_offsets(CASE_EVENTS) == beginnings
    assert "lost records that were folded" in message
    assert "unclean.leader.election.enable" in message
    assert project.released() == {}
    went_on(project)
    project.run_here()
    assert nonzero(project) == TRUE


def test_an_older_state_without_marks_opens_and_learns_them(project: Project) -> None:
    half = len(LINES) // 2
    project.emit(LINES[:half])
    project.run_here("2023-01-02")
    with states_of(project) as states:
        for state in states:
            state.connection.execute("DELETE FROM meta WHERE key = 'log_marks'")
    project.emit(LINES[half:], "rest.jsonl")
    project.run_here("2023-01-02")
    with states_of(project) as states:
        assert all(state.marks.keys() == {state.partition} for state in states)
    project.run_here()
    assert nonzero(project) == TRUE


@pytest.mark.parametrize("asked", ["beginning_offsets", "end_offsets"])
def test_a_broker_that_does_not_know_of_a_partition_yet_is_waited_for(
    project: Project, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    project.emit(LINES)
    answer = getattr(KafkaLog, asked)
    with open_service(project.configuration, BEFORE) as service:
        service.tick(BEFORE)
        with monkeypatch.context() as lagging:
            lagging.setattr(KafkaLog, asked, lambda *arguments: {p: at for p, at in answer(*arguments).items() if p})
            with pytest.raises(LogUnavailable, match="partition 0"):
                service.tick(LATER)
        service.tick(LATER)
    assert nonzero(project) == TRUE


def test_the_offsets_are_never_moved_back(project: Project) -> None:
    project.emit(LINES)
    with open_service(project.configuration, BEFORE) as service:
        service.tick(BEFORE)
        state = service._partitions.states[1]
        before = state.offsets
        with pytest.raises(ServiceError, match="behind the end"):
            positions.move_to(state, before[1] - 1)
        assert state.offsets == before


def test_a_release_purges_the_log_up_to_its_place_and_no_further(project: Project) -> None:
    project.emit(LINES)
    project.run_here("2023-06-08")
    with states_of(project) as states:
        place = offsets_of(states)
        assert all(state.rows("FROM open_events") for state in states), "what is open is in the state"
    project.emit(LINES[:5], "more.jsonl")
    project.run_here("2023-06-09")  # nothing is due
    with KafkaLog(settings_of(project)) as log:
        assert log.beginning_offsets(CASE_EVENTS) == place != log.end_offsets(CASE_EVENTS)
    project.run_here()
    with KafkaLog(settings_of(project)) as log:
        assert log.beginning_offsets(CASE_EVENTS) == log.end_offsets(CASE_EVENTS)


def readable(project: Project) -> int:
    """How many case events and dead letters anybody can read."""
    with KafkaLog(settings_of(project)) as log:
        return sum(
            sum(log.end_offsets(topic).values()) - sum(log.beginning_offsets(topic).values())
            for topic in (CASE_EVENTS, DEAD_LETTERS)
        )


def test_a_purge_that_a_killed_broker_forgot_is_repeated(tmp_path: Path, kafka_cluster: Clusters) -> None:
    """A broker writes down once a minute where its logs begin: after kill -9 they begin where they did before."""
    cluster = kafka_cluster(properties={"log.flush.start.offset.checkpoint.interval.ms": "86400000"})
    project = kafka_project(tmp_path / "project", cluster.bootstrap, cluster.prefix())
    project.emit(LINES)
    with KafkaLog(settings_of(project)) as log:
        log.append(CASE_EVENTS, [NewRecord(b"k", b"no event", 0)])
    project.run_here("2023-12-20")
    project.run_here("2024-02-08")  # more than the letters' retention after
    assert readable(project) == 0
    cluster.kill()
    cluster.restart()
    assert readable(project) > len(LINES)
    with open_service(project.configuration, LATER) as service:
        service.tick(LATER)
        assert readable(project) == 0
    assert nonzero(project) == TRUE


def test_the_groups_offsets_are_written_after_and_never_read(project: Project, admin: KafkaAdminClient) -> None:
    assert _counted_with_foreign_group_offsets(project, admin) == TRUE
    group = settings_of(project).topic("quietcount")
    told = {tp.partition: at.offset for tp, at in admin.list_group_offsets([group])[group].items()}
    with states_of(project) as states:
        assert told == offsets_of(states)


def test_a_twin_that_goes_on_from_the_groups_offsets_is_found_out(
    project: Project, admin: KafkaAdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = settings_of(project).topic("quietcount")

    def foreign(_states: Sequence[State], _log: LogReader, ends: dict[int, int], _partitions: int) -> dict[int, int]:
        told = {tp.partition: at.offset for tp, at in admin.list_group_offsets([group])[group].items()}
        return {p: told.get(p, 0) for p in ends}

    def unfounded() -> None:
        monkeypatch.setattr(positions, "resumed", foreign)

    assert _counted_with_foreign_group_offsets(project, admin, unfounded) != TRUE


def _counted_with_foreign_group_offsets(
    project: Project, admin: KafkaAdminClient, patch: Callable[[], None] = lambda: None
) -> dict[tuple[str, str, str], int]:
    """Fold half, let somebody move the group to the end, fold the rest and release."""
    half = len(LINES) // 2
    name, group = topic_of(project), settings_of(project).topic("quietcount")
    groups_answer(settings_of(project).servers, group)
    project.emit(LINES[:half])
    project.run_here("2023-01-02")
    project.emit(LINES[half:], "rest.jsonl")
    with KafkaLog(settings_of(project)) as log:
        ends = log.end_offsets(CASE_EVENTS)
    admin.alter_group_offsets(
        group, {TopicPartition(name, p): OffsetAndMetadata(end, "", -1) for p, end in ends.items()}
    )
    patch()
    project.run_here()
    return nonzero(project)


def test_a_group_that_may_not_be_written_stops_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise LogError("nobody may")

    monkeypatch.setattr(KafkaAdminClient, "_async_alter_group_offsets", refuse)
    project.emit(LINES)
    project.run_here()
    assert nonzero(project) == TRUE
