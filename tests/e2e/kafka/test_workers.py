"""Workers on a real broker: what they count together, whatever becomes of one of them."""

from __future__ import annotations

import datetime as dt
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from tests.e2e.kafka.kafka_projects import settings_of
from tests.e2e.kafka.kafka_services import LINES, TRUE, nonzero
from tests.e2e.kafka.working_desks import Desk, desk_on
from tests.kafka.fixtures import Kafka

from quietcount_aggregates.errors import LedgerFenced, StateBehind
from quietcount_aggregates.release import Step
from quietcount_consumers.commands.service import run_command
from quietcount_consumers.doctor.examination import examine
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.kafka.log import KafkaLog
from quietcount_consumers.monitoring.status import Status
from quietcount_consumers.opening import open_service
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.finding import Finding, Severity
from quietcount_schemas.log import PARTIAL_SUMS

pytestmark = pytest.mark.check

BEFORE = dt.datetime(2023, 1, 2, tzinfo=dt.UTC)
MARCH = dt.datetime(2023, 3, 8, tzinfo=dt.UTC)
AFTER = dt.datetime(2024, 1, 8, tzinfo=dt.UTC)


class Crash(BaseException):
    """The process ends here."""


@pytest.mark.quick
@pytest.mark.promise("kafka", "deterministic-fold")
@pytest.mark.parametrize(
    "shares",
    [
        [(0, 1), (2, 3)],
        pytest.param([(0, 1, 2, 3)], marks=pytest.mark.check),
        pytest.param([(0,), (1,), (2,), (3,)], marks=pytest.mark.check),
    ],
)
def test_what_workers_count_together_is_what_is_released(
    shares: Sequence[Sequence[int]], tmp_path: Path, kafka: Kafka
) -> None:
    with desk_on(tmp_path, kafka, shares) as desk:
        desk.turn(BEFORE)
        desk.releaser.emit(LINES)
        assert desk.turn(MARCH).released
        assert desk.turn(AFTER).released
        assert nonzero(desk.releaser) == TRUE
        assert not list(desk.releaser.private.glob("state-*")), "the releaser has no state"
        assert not any(worker.public.exists() for worker in desk.workers), "a worker publishes nothing"
        with KafkaLog(settings_of(desk.releaser)) as log:
            assert log.beginning_offsets(PARTIAL_SUMS) == log.end_offsets(PARTIAL_SUMS) != {0: 0}


@pytest.mark.promise("drawn-once", "nothing-lost")
def test_whoever_is_killed_when_the_same_is_released_once(tmp_path: Path, kafka: Kafka) -> None:
    """One seed a run, which a failure shows."""
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    print(f"seed {seed}")
    with desk_on(tmp_path, kafka, [(0,), (1, 3), (2,)]) as desk:
        desk.turn(BEFORE)
        desk.releaser.emit(LINES)

        def observe(_: Step) -> None:
            if chance.random() < 0.25:
                raise Crash

        crashes = 0
        desk.end_releaser()  # the next one is watched
        for month in range(3, 14, 2):
            now = dt.datetime(2023 + month // 13, (month - 1) % 12 + 1, 8, tzinfo=dt.UTC)
            for _ in range(400):
                who = chance.randrange(4)
                try:
                    if who < 3:
                        desk.work(who, now)
                    elif not desk.release(now, observe).waiting and not desk.due(now):
                        break
                except Crash:
                    crashes += 1
                    desk.end_releaser()
                if chance.random() < 0.2:
                    desk.end(chance.randrange(3))
            else:
                raise AssertionError(f"nothing is released in {month}")
        desk.release(AFTER)
        assert nonzero(desk.releaser) == TRUE
        assert desk.releaser.ledger_values() == desk.releaser.released()
        assert crashes, "of 42 steps none was cut short, which happens in one of 170,000 runs"


@pytest.mark.promise("kafka")
def test_a_worker_that_is_away_delays_the_release_and_is_named(tmp_path: Path, kafka: Kafka) -> None:
    with desk_on(tmp_path, kafka, [(0, 2, 3), (1,)]) as desk:
        desk.turn(BEFORE)
        desk.releaser.emit(LINES)
        now = MARCH
        for minutes in (0, 1, 30, 59):
            now = MARCH + dt.timedelta(minutes=minutes)
            desk.release(now)
            desk.work(0, now)
            assert desk.release(now).released == []
            assert missing(desk.status) == []
        assert not desk.said
        for minutes in (61, 62):
            now = MARCH + dt.timedelta(minutes=minutes)
            assert desk.release(now).released == []
            assert missing(desk.status) == [1]
        assert [(event.name, event.own_fields()) for event in desk.said] == [("partition missing", {"partition": "1"})]
        [found] = workers_found(desk)
        assert found.severity is Severity.WARNING
        assert "the worker of partition 1" in found.what
        desk.work(1, now)
        assert [found.what for found in workers_found(desk)] == ["no release waits for one"]
        assert desk.released(now).released, "nothing is released in part, and all of it when the last one is back"
        assert missing(desk.status) == []
        for minutes in (0, 61):  # the next release waits as well
            desk.work(0, AFTER + dt.timedelta(minutes=minutes))
            desk.release(AFTER + dt.timedelta(minutes=minutes))
        assert [event.name for event in desk.said] == ["partition missing"] * 2


def workers_found(desk: Desk) -> list[Finding]:
    """Return what the doctor says of workers on the releaser's machine, by the real clock."""
    return [finding for finding in examine(desk.releaser.config) if finding.code == "workers"]


def missing(status: Status) -> list[int]:
    assert [partition for partition, _ in status.missing] == [0, 1, 2, 3]
    return [partition for partition, is_missing in status.missing if is_missing]


@pytest.mark.promise("silence", "no-exact-count", "health")
def test_no_role_shows_whether_anything_came(tmp_path: Path, kafka: Kafka) -> None:
    """Of a busy log and an empty one: before a release, while it waits, and while a worker is called missing."""
    shown, said = [], []
    for name in ("empty", "busy"):
        with desk_on(tmp_path / name, kafka, [(0, 1), (2, 3)]) as desk:
            desk.release(BEFORE)
            if name == "busy":
                desk.releaser.emit(LINES)
            seen: list[Status] = []
            for now in (BEFORE, MARCH, MARCH + dt.timedelta(hours=2)):
                desk.release(now)
                desk.work(0, now)
                seen += [desk.status, *desk.statuses.values()]
            shown.append([replace(status, configuration="", disk_free=()) for status in seen])
            said.append(desk.said)
    assert shown[0] == shown[1]
    assert said[0] == said[1] != []
    assert any(missing(status) for status in shown[0] if status.missing)


@pytest.mark.promise("older-refused", "deterministic-fold")
def test_a_worker_that_wakes_up_after_its_partition_moved_is_harmless_and_an_old_copy_is_refused(
    tmp_path: Path, kafka: Kafka
) -> None:
    with desk_on(tmp_path, kafka, [(0, 1, 2, 3), ()]) as desk:
        desk.turn(BEFORE)
        desk.releaser.emit(LINES)
        desk.turn(MARCH)
        desk.end(1)
        desk.move(0, 1, partition=2)  # while the first one goes on with it, as if it had only been asleep
        old = tmp_path / "old"
        shutil.copy2(desk.workers[0].configuration.state_file(2), old)
        desk.shares[1] = (2,)
        for month in (5, 7):
            assert desk.turn(dt.datetime(2023, month, 8, tzinfo=dt.UTC)).released
        desk.end(0)
        desk.shares[0] = (0, 1, 3)
        desk.turn(AFTER)
        assert nonzero(desk.releaser) == TRUE
        desk.end(1)
        shutil.copy2(old, desk.workers[1].configuration.state_file(2))
        with pytest.raises(StateBehind, match="record-loss"):
            desk.work(1, AFTER)


@pytest.mark.promise("nothing-twice")
def test_states_that_workers_have_are_made_nowhere_else_not_even_before_the_first_release(
    tmp_path: Path, kafka: Kafka
) -> None:
    with desk_on(tmp_path, kafka, [(0, 1), (2, 3)]) as desk:
        desk.release(BEFORE)
        desk.end_releaser()
        with pytest.raises(ServiceError, match=r"a worker folds partition 0 .* its state is not here"):
            open_service(desk.releaser.configuration, BEFORE)
        desk.turn(BEFORE)
        assert desk.turn(MARCH).released
        desk.end(1)
        desk.shares[1] = (1, 2)
        with pytest.raises(ServiceError, match=r"state-1.duckdb: is missing.*--partition 1"):
            desk.work(1, MARCH)
        there = [path.name for folder in (desk.releaser, *desk.workers) for path in folder.private.rglob("*.duckdb")]
        assert sorted(there) == [f"state-{number}.duckdb" for number in range(4)]


@pytest.mark.promise("drawn-once")
def test_two_different_sums_of_a_partition_stop_everything_and_are_named(tmp_path: Path, kafka: Kafka) -> None:
    with desk_on(tmp_path, kafka, [(0, 1, 3), (2,), (2,)]) as desk:
        desk.release(BEFORE)
        desk.releaser.emit(LINES)
        for number in (0, 1, 2):
            desk.work(number, BEFORE)
        assert desk.turn(MARCH).released, "while both count the same, nothing is wrong"
        for number in (0, 1, 2):
            desk.work(number, MARCH)
        released = desk.releaser.released()
        desk.end(2)
        with duckdb.connect(str(desk.workers[2].configuration.state_file(2))) as state:
            state.execute("DELETE FROM open_events")
        desk.release(AFTER)
        for number in (0, 1):
            desk.work(number, AFTER)
        assert desk.release(AFTER).waiting, "all have counted; another one has until the next tick"
        desk.work(2, AFTER)
        with pytest.raises(ServiceError, match=r"settlement [0-9a-f]{8}, partition 2 .* different sums"):
            desk.release(AFTER)
        assert desk.releaser.released() == released


@pytest.mark.promise("drawn-once")
def test_of_two_releasers_the_older_one_is_shut_out(tmp_path: Path, kafka: Kafka) -> None:
    with desk_on(tmp_path / "one", kafka, [(0, 1, 2, 3)]) as desk:
        desk.turn(BEFORE)
        desk.releaser.emit(LINES)
        desk.release(MARCH)
        with desk_on(tmp_path / "two", kafka, [], prefix=desk.prefix) as other:
            shutil.copytree(desk.releaser.folder / "secrets", other.releaser.folder / "secrets", dirs_exist_ok=True)
            other.release(MARCH)
            desk.work(0, MARCH)
            with pytest.raises(LedgerFenced):
                desk.release(MARCH)
            assert other.released(MARCH).released


def test_a_worker_with_another_secret_is_told_apart(tmp_path: Path, kafka: Kafka) -> None:
    with desk_on(tmp_path, kafka, [(0, 1, 2, 3)]) as desk:
        desk.release(BEFORE)
        secret = desk.workers[0].configuration.service.secret_file
        secret.unlink()
        secret.write_bytes(b"0" * 64)
        secret.chmod(0o600)
        desk.work(0, BEFORE)
        desk.release(MARCH)
        desk.work(0, MARCH)
        with pytest.raises(ServiceError, match=r"another service's secret.*Copy the releaser's secret"):
            desk.release(MARCH)


@pytest.mark.quick
@pytest.mark.parametrize(
    "options, says",
    [
        (["--role", "fold"], "needs --partitions"),
        (["--partitions", "0"], "means nothing to --role both"),
        (["--role", "release", "--partitions", "0"], "means nothing to --role release"),
        (["--role", "fold", "--partitions", "3-1"], "ends before it begins"),
        (["--role", "fold", "--partitions", "one"], "is no list of partitions"),
        (["--role", "fold", "--partitions", "0-99999"], "no log has so many"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: list[str], says: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(run_command, [*options, "--config", str(tmp_path / "none.toml")])
    assert isinstance(result.exception, QuietcountError), result.output
    assert says in str(result.exception)
