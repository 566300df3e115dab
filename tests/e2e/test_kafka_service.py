"""The service on a real broker: what it counts, where it goes on, and which log it refuses to go on with."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka import Producer
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata
from tests.e2e.kafka_projects import groups_answer, kafka_configuration, kafka_project, settings_of
from tests.e2e.projects import Project, simulated, true_cells
from tests.kafka.fixtures import Clusters, Kafka
from tests.running_world import Hands, MovedClocks

from quietcount_aggregates.errors import StateError
from quietcount_aggregates.state import State
from quietcount_consumers import kafka_log
from quietcount_consumers.commands import ledger_command, run_command
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.kafka_log import KafkaLog
from quietcount_consumers.log_output import LogOutput
from quietcount_consumers.runner import Admit, Runner
from quietcount_consumers.service import Service
from quietcount_consumers.status import Board
from quietcount_consumers.timekeeping import Grid, fixed_clock
from quietcount_consumers.topics import create_topics
from quietcount_producers.errors import LogError, LogUnavailable
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, Mark, NewRecord

LINES = simulated(150)
TRUE = true_cells(LINES)
LATER = dt.datetime(2024, 1, 8, tzinfo=dt.UTC)
BEFORE = dt.datetime(2023, 1, 2, tzinfo=dt.UTC)  # nothing is due


@pytest.fixture
def project(tmp_path: Path, kafka: Kafka) -> Project:
    return kafka_project(tmp_path / "project", kafka.bootstrap, kafka.prefix())


@pytest.fixture
def admin(kafka: Kafka) -> Iterator[KafkaAdminClient]:
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    yield admin
    admin.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for records that cannot come waits for a second."""
    monkeypatch.setattr(kafka_log, "ANSWER_SECONDS", 1.0)


def nonzero(project: Project) -> dict[tuple[str, str, str], int]:
    return {cell: value for cell, value in project.released().items() if value}


def refused(project: Project, *arguments: str) -> str:
    command = ledger_command if arguments[0] == "ledger" else run_command
    result = CliRunner().invoke(command, [*arguments[1:], "--config", str(project.config)])
    assert isinstance(result.exception, QuietcountError), (result.output, result.exception)
    return str(result.exception)


def went_on(project: Project) -> None:
    result = CliRunner().invoke(ledger_command, ["new-log", "--yes", "--config", str(project.config)])
    assert result.exit_code == 0, (result.output, result.exception)


def topic_of(project: Project) -> str:
    return settings_of(project).topic(CASE_EVENTS)


def recreate(project: Project, admin: KafkaAdminClient) -> None:
    admin.delete_topics([topic_of(project)])
    until = time.monotonic() + 20
    while topic_of(project) in admin.list_topics():
        assert time.monotonic() < until
        time.sleep(0.05)
    create_topics(settings_of(project), partitions=3)


@contextlib.contextmanager
def transaction(project: Project, kafka: Kafka) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(
        bootstrap_servers=kafka.bootstrap, transactional_id=f"{settings_of(project).topic_prefix}foreign"
    )
    producer.init_transactions()
    producer.begin_transaction()
    try:
        yield producer
    finally:
        producer.close()


def test_what_was_emitted_is_released_once_and_no_log_or_ledger_lies_in_the_data_folder(project: Project) -> None:
    project.emit(LINES)
    project.run_here()
    assert nonzero(project) == TRUE
    project.emit(LINES)  # again: counts once
    project.run_here("2024-03-08")
    assert nonzero(project) == TRUE
    assert project.ledger_values() == project.released()
    assert sorted(path.name for path in project.private.iterdir()) == ["state.duckdb", "state.duckdb.lock"]


def test_the_commands_of_the_ledger_work_on_a_ledger_on_kafka(project: Project) -> None:
    project.emit(LINES)
    assert "requests,2023-01-01,2023-01-31" in project.quietcount("release", "--as-of", "2023-03-08").done().out
    assert "holds exactly what the ledger says" in project.quietcount("ledger", "verify").done().out
    assert "released" in project.quietcount("ledger", "show").done().out
    due = project.quietcount("release", "--dry-run", "--as-of", "2023-04-08").done().out
    assert "2023-03-01" in due
    assert "2023-02-01" not in due
    project.quietcount("ledger", "retire", "court_cases").done()
    assert "retired" in project.quietcount("ledger", "show").done().out


def test_a_lost_state_is_recorded_in_a_ledger_on_kafka(project: Project) -> None:
    project.emit(LINES)
    project.run_here("2023-06-08")
    released = project.released()
    (project.private / "state.duckdb").unlink()
    assert "quietcount ledger record-loss" in refused(project, "run", "--until-idle", "--as-of", "2024-01-08")
    result = CliRunner().invoke(ledger_command, ["record-loss", "--yes", "--config", str(project.config)])
    assert result.exit_code == 0, result.output
    project.run_here()
    assert released.items() <= project.released().items()


def test_no_new_secret_is_made_where_the_ledger_on_kafka_has_entries(project: Project) -> None:
    project.run_here("2023-03-08")
    secret = project.configuration.service.secret_file
    secret.unlink()
    (project.private / "state.duckdb").unlink()
    assert str(secret) in refused(project, "run", "--until-idle", "--as-of", "2023-03-08")
    assert not secret.exists()


def test_a_missing_topic_is_named_with_the_command_that_makes_it(tmp_path: Path, kafka: Kafka) -> None:
    project = kafka_project(tmp_path / "project", kafka.bootstrap, kafka.prefix(), topics=False)
    message = refused(project, "run", "--until-idle", "--as-of", "2023-03-08")
    assert topic_of(project) in message
    assert "quietcount topics create" in message
    assert not project.public.exists()


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
    with Service(project.configuration, BEFORE) as service:
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

    with Service(project.configuration, BEFORE) as service:
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
    with State(project.private / "state.duckdb") as state:
        state.connection.execute("UPDATE offsets SET next_offset = next_offset + 1000")
    message = refused(project, "run", "--until-idle", "--as-of", "2024-01-08")
    assert "ends before what was folded" in message
    assert "quietcount ledger new-log" in message
    assert project.released() == {}


def test_a_log_whose_leader_lacked_records_stops_the_service_and_is_not_purged(project: Project) -> None:
    """What a real election leaves is tried below; here the state remembers what the log does not have."""
    project.emit(LINES)
    project.run_here("2023-01-02")
    with State(project.private / "state.duckdb") as state:
        marks = state.marks
        assert marks
        assert {p: mark.offset for p, mark in marks.items()} == {
            p: offset for p, offset in state.offsets.items() if p in marks
        }
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
    with State(project.private / "state.duckdb") as state, state.transaction() as connection:
        connection.execute("DELETE FROM meta WHERE key = 'log_marks'")
    project.emit(LINES[half:], "rest.jsonl")
    project.run_here("2023-01-02")
    with State(project.private / "state.duckdb") as state:
        assert state.marks
    project.run_here()
    assert nonzero(project) == TRUE


@pytest.mark.parametrize("asked", ["beginning_offsets", "end_offsets"])
def test_a_broker_that_does_not_know_of_a_partition_yet_is_waited_for(
    project: Project, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    project.emit(LINES)
    answer = getattr(KafkaLog, asked)
    with Service(project.configuration, BEFORE) as service:
        service.tick(BEFORE)
        with monkeypatch.context() as lagging:
            lagging.setattr(KafkaLog, asked, lambda *arguments: {p: at for p, at in answer(*arguments).items() if p})
            with pytest.raises(LogUnavailable, match="partition 0"):
                service.tick(LATER)
        service.tick(LATER)
    assert nonzero(project) == TRUE


def test_the_offsets_are_never_moved_back(project: Project) -> None:
    project.emit(LINES)
    with Service(project.configuration, BEFORE) as service:
        service.tick(BEFORE)
        before = service._state.offsets
        with pytest.raises(ServiceError, match="behind the end"):
            service._move_to({p: at - (p == 1) for p, at in before.items()})
        assert service._state.offsets == before


def test_a_release_purges_the_log_up_to_what_open_periods_need_and_no_further(project: Project) -> None:
    project.emit(LINES)
    project.run_here("2023-06-08")
    with State(project.private / "state.duckdb") as state:
        offsets = state.offsets
        needed: dict[int, int] = dict(
            state.rows('SELECT "partition", min(least("offset", first_offset)) FROM open_events GROUP BY ALL')
        )
    assert needed
    with KafkaLog(settings_of(project)) as log:
        beginnings = log.beginning_offsets(CASE_EVENTS)
        ends = log.end_offsets(CASE_EVENTS)
    assert beginnings == {p: needed.get(p, offsets[p]) for p in ends}
    assert any(beginnings.values())
    project.emit(LINES[:5], "more.jsonl")
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
    with Service(project.configuration, LATER) as service:
        service.tick(LATER)
        assert readable(project) == 0
    assert nonzero(project) == TRUE


def test_the_groups_offsets_are_written_after_and_never_read(project: Project, admin: KafkaAdminClient) -> None:
    assert _counted_with_foreign_group_offsets(project, admin) == TRUE
    group = settings_of(project).topic("quietcount")
    told = {tp.partition: at.offset for tp, at in admin.list_group_offsets([group])[group].items()}
    with State(project.private / "state.duckdb") as state:
        assert told == state.offsets


def test_a_twin_that_goes_on_from_the_groups_offsets_is_found_out(
    project: Project, admin: KafkaAdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = settings_of(project).topic("quietcount")

    def positions(self: Service, ends: dict[int, int]) -> dict[int, int]:
        told = {tp.partition: at.offset for tp, at in admin.list_group_offsets([group])[group].items()}
        return {p: told.get(p, 0) for p in ends}

    def unfounded() -> None:
        monkeypatch.setattr(Service, "_positions", positions)

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


def test_a_release_waits_for_a_transaction_that_is_open_and_loses_nothing(
    project: Project, kafka: Kafka, hasty: None
) -> None:
    """What was acknowledged behind an open transaction cannot be read yet: a period must not close over it."""
    with transaction(project, kafka) as foreign:
        for partition in range(3):
            foreign.send(topic_of(project), value=b"foreign", key=b"foreign", partition=partition)
        foreign.flush()
        project.emit(LINES)
        with Service(project.configuration, LATER) as service, pytest.raises(LogUnavailable, match="transaction"):
            service.tick(LATER)
        assert project.released() == {}
        foreign.abort_transaction()
    project.run_here()
    assert nonzero(project) == TRUE
    with State(project.private / "state.duckdb") as state:
        assert state.rows("SELECT * FROM dead_letters") == []
    with KafkaLog(settings_of(project)) as log:
        dead = log.end_offsets("case-events.dead-letter")
    assert not any(dead.values())  # an aborted record is no rejected one


def test_a_twin_that_closes_over_an_open_transaction_is_found_out(
    project: Project, kafka: Kafka, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The faulty twin takes the last stable offset for the end, as a read_committed consumer gives it."""

    def stable(self: KafkaLog, topic: str) -> dict[int, int]:
        consumer = self._reader()
        partitions = [TopicPartition(self.settings.topic(topic), p) for p in self.partitions(topic)]
        return {tp.partition: end for tp, end in consumer.end_offsets(partitions).items()}

    with transaction(project, kafka) as foreign:
        for partition in range(3):
            foreign.send(topic_of(project), value=b"foreign", key=b"foreign", partition=partition)
        foreign.flush()
        project.emit(LINES)
        with monkeypatch.context() as patch:
            patch.setattr(KafkaLog, "end_offsets", stable)
            with Service(project.configuration, LATER) as service:
                service.tick(LATER)
        foreign.abort_transaction()
    project.run_here()
    assert nonzero(project) != TRUE


def test_only_what_was_committed_of_transactions_is_counted(project: Project, kafka: Kafka) -> None:
    """The same events, written by a client with transactions: one half committed, the other aborted."""
    project.emit(LINES)
    with KafkaLog(settings_of(project)) as log:
        ends = log.end_offsets(CASE_EVENTS)
        records = log.poll(CASE_EVENTS, dict.fromkeys(ends, 0), ends, 100_000)
    other = kafka_project(project.folder.parent / "other", kafka.bootstrap, kafka.prefix())
    (other.folder / "secrets" / "pepper").write_bytes((project.folder / "secrets" / "pepper").read_bytes())
    producer = KafkaProducer(
        bootstrap_servers=kafka.bootstrap, transactional_id=f"{settings_of(other).topic_prefix}foreign"
    )
    producer.init_transactions()
    for commit in (False, True, False):
        producer.begin_transaction()
        for record in records if commit else records[::2]:
            # An aborted record that were folded would be rejected for its key.
            key = record.key if commit else b"not the case key"
            producer.send(
                topic_of(other), value=record.value, key=key, partition=record.partition, timestamp_ms=record.timestamp
            )
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    producer.close()
    other.run_here()
    assert nonzero(other) == TRUE
    with KafkaLog(settings_of(other)) as log:
        assert not any(log.end_offsets("case-events.dead-letter").values())
        assert log.beginning_offsets(CASE_EVENTS) == log.end_offsets(CASE_EVENTS)


def test_events_that_another_client_compressed_are_counted(project: Project, kafka: Kafka) -> None:
    """The service itself unpacks gzip alone; the topic has the broker unpack what comes in otherwise."""
    project.emit(LINES)
    with KafkaLog(settings_of(project)) as log:
        ends = log.end_offsets(CASE_EVENTS)
        records = log.poll(CASE_EVENTS, dict.fromkeys(ends, 0), ends, 100_000)
    other = kafka_project(project.folder.parent / "other", kafka.bootstrap, kafka.prefix())
    (other.folder / "secrets" / "pepper").write_bytes((project.folder / "secrets" / "pepper").read_bytes())
    codecs = ("gzip", "snappy", "lz4", "zstd")
    producers = [
        Producer({"bootstrap.servers": kafka.bootstrap, "compression.type": codec, "linger.ms": 100})
        for codec in codecs
    ]
    keys = sorted({record.key or b"" for record in records})
    for record in records:
        # A case stays with one client, whose order is that of the first log.
        producer = producers[keys.index(record.key or b"") % len(producers)]
        producer.produce(
            topic_of(other), key=record.key, value=record.value, partition=record.partition, timestamp=record.timestamp
        )
    for producer in producers:
        assert producer.flush(30) == 0
    other.run_here()
    assert nonzero(other) == TRUE


@pytest.mark.soak
def test_a_service_waits_for_brokers_that_are_away_opens_anew_and_goes_on(
    tmp_path: Path, kafka_cluster: Clusters, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, with the outage between two ticks; the process itself is tried below."""
    cluster = kafka_cluster()
    project = kafka_project(tmp_path / "project", cluster.bootstrap, cluster.prefix())
    project.emit(LINES)
    clocks = MovedClocks(LATER)
    written = io.StringIO()
    signals = Hands(clocks, 20, {1: cluster.stop, 2: cluster.start})
    grid = Grid(dt.timedelta(seconds=1), clocks.wall)
    log = LogOutput(written)

    def opening(configuration: Configuration, now: dt.datetime, _admit: Admit) -> Service:
        return Service(configuration, LATER, say=log.say)

    Runner(
        project.configuration,
        opening,
        clock=fixed_clock(LATER),
        grid=grid,
        board=Board(grid, grid.tick),
        signals=signals,
        output=log,
        reading=lambda: project.configuration,
        pause=lambda _: None,
    ).run()
    assert nonzero(project) == TRUE
    said = [json.loads(line)["event"] for line in written.getvalue().splitlines()]
    assert [each for each in said if each in ("waiting", "going on")] == ["waiting", "going on"]


class Said:
    """What a process says on stderr, as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        self._coming: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(process.stderr,), daemon=True)
        self._reader.start()

    def _read(self, stream: Iterable[str]) -> None:
        for line in stream:
            self._coming.put(line)
        self._coming.put("")

    def until(self, word: str) -> None:
        """Wait for a line with `word` in it; fail when the process ends first, or two minutes are over."""
        deadline = time.monotonic() + 120
        while True:
            try:
                line = self._coming.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                line = ""
            if not line:
                self._coming.put("")  # for `rest`
                pytest.fail(f"{word!r} was not said, but: {''.join(self.lines)}")
            self.lines.append(line)
            if word in line:
                return

    def rest(self) -> list[str]:
        """Return all lines; the process has ended."""
        self._reader.join()
        while line := self._coming.get_nowait():
            self.lines.append(line)
        return self.lines


@pytest.mark.soak
def test_a_service_that_runs_waits_for_brokers_that_are_away_and_goes_on(
    tmp_path: Path, kafka_cluster: Clusters
) -> None:
    cluster = kafka_cluster()
    project = kafka_project(tmp_path / "project", cluster.bootstrap, cluster.prefix())
    project.emit(LINES)
    with project.start("run", "--as-of", "2024-01-08") as process:
        said = Said(process)
        try:
            said.until('"period_end": "2023-12-31"')
            assert nonzero(project) == TRUE
            cluster.stop()
            said.until('"event": "waiting"')
            cluster.start()
            said.until('"event": "going on"')
            # Gone again, for good: the signal ends it all the same.
            cluster.kill()
            said.until('"event": "waiting"')
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0
        finally:
            process.kill()
            lines = said.rest()
    assert sum('"event": "waiting"' in line for line in lines) == 2
    assert "Traceback" not in "".join(lines)


@pytest.mark.parametrize("command", ["run", "release"])
def test_brokers_that_do_not_answer_at_the_start_end_it_within_seconds(tmp_path: Path, command: str) -> None:
    project = Project(tmp_path / "project", kafka_configuration("127.0.0.1:1", "t."))
    message = project.quietcount(command).refusal()
    assert "127.0.0.1:1" in message
    assert not project.public.exists()
