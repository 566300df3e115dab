"""Poison in real processes, on the embedded log and on Kafka: told by its reason alone, and replayed."""

from __future__ import annotations

import base64
import csv
import datetime as dt
import json
import os
import random
import signal
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource
from kafka.errors import MessageSizeTooLargeError
from tests.catalogues import catalogue, statistic
from tests.e2e.projects import Finished, Project, ended
from tests.e2e.test_service_events import CHECK_INS, KEY, OTHER_KEY, SECRET_TEXT, SPECIAL, WITH_OWN_SCHEMA, poison
from tests.kafka.fixtures import Kafka

from quietcount_consumers.commands.dead_letters import dead_letters_command
from quietcount_consumers.dead_letters import LARGEST, NO_DATE, Letter, letters
from quietcount_consumers.kafka.topics import create_topics
from quietcount_consumers.wiring import open_log
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, NewRecord
from quietcount_schemas.registry import SchemaRegistry
from quietcount_schemas.rejection import RejectReason

pytestmark = pytest.mark.check

AS_OF = "2024-01-08"
EARLY = "2023-01-02"  # nothing is due: states can be compared exactly


@dataclass(frozen=True)
class Desk:
    """A project on one of the logs."""

    project: Project
    broker_log: Path | None = None

    def append(self, records: Iterable[NewRecord]) -> None:
        with closing(open_log(self.project.configuration)) as log:
            log.append(CASE_EVENTS, list(records))

    def letters(self) -> list[Letter]:
        with closing(open_log(self.project.configuration)) as log:
            return list(letters(log))

    def command(self, *arguments: str) -> list[str]:
        """Run `quietcount dead-letters` in this process; return the last column of what it shows, without its head."""
        result = CliRunner().invoke(dead_letters_command, [*arguments, "--config", str(self.project.config)])
        assert result.exit_code == 0, (result.output, result.exception)
        return [row[-1] for row in csv.reader(result.stdout.splitlines())][1:]

    def case_events(self) -> int:
        """How many records were ever appended."""
        with closing(open_log(self.project.configuration)) as log:
            return sum(log.end_offsets(CASE_EVENTS).values())


@pytest.fixture(params=["embedded", "kafka"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Desk]:
    """Return a function that makes a project with a configuration on one of the logs, and its topics."""

    def made(configuration: str, name: str = "project", *, partitions: int = 1) -> Desk:
        if request.param == "embedded":
            desk = Desk(Project(tmp_path / name, configuration))
            desk.project.private.mkdir(parents=True, mode=0o700)
            desk.project.private.parent.chmod(0o700)
            return desk
        kafka: Kafka = request.getfixturevalue("kafka")
        prefix = kafka.prefix()
        settings = KafkaSettings(brokers=tuple(kafka.bootstrap.split(",")), topic_prefix=prefix)
        create_topics(settings, partitions=partitions)
        configuration = f'log = "kafka://{kafka.bootstrap}"\n{configuration}\n[kafka]\ntopic_prefix = "{prefix}"\n'
        project = Project(tmp_path / name, configuration)
        return Desk(project, kafka.cluster.broker.log if kafka.cluster else None)

    return made


def own_schema(project: Project) -> SchemaRegistry:
    (project.folder / "own").mkdir()
    (project.folder / "own" / "CheckedIn.avsc").write_text(json.dumps(SPECIAL), encoding="utf-8")
    return SchemaRegistry.load([project.folder / "own"])


def check_in(case: int, *, day: int = 3, event_id: int | None = None, **attributes: object) -> CaseEvent:
    return CaseEvent(
        "CheckedIn",
        case.to_bytes(16, "big"),
        uuid.UUID(int=case if event_id is None else event_id, version=4).bytes,
        0,
        dt.date(2023, 2, day),
        attributes,
    )


def record(codec: Codec, event: CaseEvent) -> NewRecord:
    return NewRecord(event.case_key, codec.encode(event), 0)


def counted(project: Project, table: str = "check_ins") -> dict[tuple[str, ...], int]:
    """Return the cells above zero; at epsilon 20 they are as they were counted."""
    found = project.released()
    return {cell: value for cell, value in found.items() if value and cell[0] == table}


# What each malformed kind comes to


def traces(values: Collection[bytes]) -> set[bytes]:
    """Return what would show that a payload was written somewhere: its bytes, in hex, in base64, as Python shows it."""
    found: set[bytes] = set()
    for value in values:
        for start in range(0, max(1, len(value) - 11), 4):
            part = value[start : start + 12]
            if len(part) < 12 or len(set(part)) < 4:
                continue
            found |= {part, part.hex().encode(), part.hex().upper().encode(), part.hex(" ").encode()}
            found.add(repr(part)[2:-1].encode())
            found |= {base64.b64encode(part[skip : skip + 9]) for skip in range(3)}
    return found


def shown(where: Mapping[str, bytes], values: Collection[bytes]) -> list[str]:
    """Return the names of those texts in which a trace of a payload is found."""
    wanted = traces(values)
    return [name for name, text in where.items() if any(trace in text for trace in wanted)]


def test_the_search_for_payloads_finds_them_in_every_guise() -> None:
    value = bytes(range(40, 140))
    middle = value[10:40]
    for guise in (
        middle,
        middle.hex().encode(),
        base64.b64encode(middle),
        repr(middle).encode(),
        value.hex(" ").encode(),
    ):
        assert shown({"here": b"line\n..." + guise + b"..."}, [value]) == ["here"]
    assert shown({"here": b"a line of no concern"}, [value]) == []


def test_poison_of_each_kind_is_told_by_its_reason_and_the_next_good_record_is_folded(
    make: Callable[..., Desk],
) -> None:
    desk = make(WITH_OWN_SCHEMA)
    project = desk.project
    codec = Codec(own_schema(project))
    project.emit([{"event": "CheckedIn", "case": "first", "occurred_on": "2023-02-03", "urgent": True, "mood": "CALM"}])
    bad = poison(codec)
    assert {reason for reason, _, _ in bad} == set(RejectReason)
    # Between any two bad ones lies a good one.
    mixed = [
        each
        for number, (_, key, value) in enumerate(bad)
        for each in (NewRecord(key, value, 0), record(codec, check_in(number + 1, mood="AFRAID")))
    ]
    desk.append(mixed)
    finished = {
        "run": project.run(AS_OF),
        "list": project.quietcount("dead-letters", "list").done(),
        "replay --dry-run": project.quietcount("dead-letters", "replay", "--dry-run").done(),
    }
    found = desk.letters()
    assert [(letter.reason, letter.value) for letter in found] == [(reason, value) for reason, _, value in bad]
    assert {(letter.topic, letter.partition) for letter in found} == {(CASE_EVENTS, 0)}
    assert [letter.offset for letter in found] == [1 + 2 * number for number in range(len(bad))]
    with closing(open_log(project.configuration)) as log:
        for each in log.poll(DEAD_LETTERS, {0: 0}, log.end_offsets(DEAD_LETTERS), 100):
            assert [name for name, _ in each.headers] == ["reason", "topic", "partition", "offset"]
            assert (each.key, each.timestamp) == (None, NO_DATE)
    assert counted(project) == {
        ("check_ins", "2023-02-01", '{"mood":"CALM","urgent":"true"}'): 1,
        ("check_ins", "2023-02-01", '{"mood":"AFRAID","urgent":"false"}'): len(bad),
    }
    rows = list(csv.DictReader(finished["list"].out.splitlines()))
    assert rows == [
        {"reason": reason.value, "topic": CASE_EVENTS, "partition": "0", "offset": str(1 + 2 * number)}
        for number, (reason, _, _) in enumerate(bad)
    ]
    dry = list(csv.DictReader(finished["replay --dry-run"].out.splitlines()))
    assert [row["outcome"] for row in dry] == [row["reason"] for row in rows]
    # None of it is anywhere but in the log and the private folder.
    places = {name: (each.out + each.err).encode() for name, each in finished.items()}
    places |= {
        str(path): path.read_bytes()
        for path in project.folder.rglob("*")
        if path.is_file() and project.private not in path.parents and path.name != "cases.jsonl"
    }
    if desk.broker_log is not None:
        places["the broker's log"] = desk.broker_log.read_bytes()
    assert str(project.public) in places
    assert shown(places, [*(value for _, _, value in bad), KEY, OTHER_KEY, SECRET_TEXT]) == []
    assert not any(reason.value in finished["run"].err for reason in RejectReason)


@pytest.mark.parametrize("make", ["kafka"], indirect=True)
def test_what_only_a_client_of_kafka_can_send_stops_nothing(make: Callable[..., Desk]) -> None:
    """A record that unpacks to more than any topic takes, one without a value, and one without a key."""
    desk = make(WITH_OWN_SCHEMA)
    project = desk.project
    codec = Codec(own_schema(project))
    settings = project.configuration.kafka
    assert settings is not None
    good = record(codec, check_in(1))
    topic = settings.topic(CASE_EVENTS)

    def send(key: bytes | None, value: bytes | None) -> None:
        producer = KafkaProducer(
            bootstrap_servers=list(settings.brokers), compression_type="gzip", max_request_size=1 << 24
        )
        try:
            producer.send(topic, key=key, value=value, partition=0, timestamp_ms=0).get(30)
        finally:
            producer.close(timeout=5)

    bomb = b"\xc3\x01" + bytes(8_000_000)
    with pytest.raises(MessageSizeTooLargeError):
        send(KEY, bomb)
    # As if somebody had altered the setting by which the broker unpacks before it looks at the size.
    with KafkaAdminClient(bootstrap_servers=list(settings.brokers)) as admin:
        answer = admin.alter_configs([ConfigResource("TOPIC", topic, {"compression.type": "producer"})])
        assert answer["topic"][topic] == "OK"
    deadline = time.monotonic() + 60
    while True:
        try:
            send(KEY, bomb)
            break
        except MessageSizeTooLargeError:  # the broker has not heard of it yet
            assert time.monotonic() < deadline
    send(KEY, None)
    send(None, good.value)
    send(good.key, good.value)
    for _ in range(2):
        project.run_here(EARLY)
        assert [(letter.reason, letter.offset, len(letter.value)) for letter in desk.letters()] == [
            (RejectReason.TOO_LARGE, 0, LARGEST),
            (RejectReason.EMPTY, 1, 0),
            (RejectReason.KEY_MISMATCH, 2, len(good.value)),
        ]
    assert sum(project.open_cells().values()) == 1


# Kills


def poisoned(make: Callable[..., Desk], name: str, events: int) -> tuple[Desk, int]:
    """Return a desk whose log holds good and bad records in turn, all different, and the number of the bad ones."""
    desk = make(WITH_OWN_SCHEMA, name)
    codec = Codec(own_schema(desk.project))
    mixed = []
    for number in range(1, events + 1):
        good = record(codec, check_in(number))
        mixed.append(good if number % 3 else good._replace(value=good.value + b"trailing"))
    desk.append(mixed)
    return desk, events // 3


def check(desk: Desk, events: int, bad: int) -> None:
    """The check that every twin has to pass, or to fail: each good record is folded once, each bad one is a letter."""
    found = desk.letters()
    assert len(found) == bad
    assert [letter.offset for letter in found] == list(range(2, events, 3))
    assert desk.project.state()["dead_letters"] == []
    assert desk.project.state()["offsets"] == [(0, events)]
    assert sum(desk.project.open_cells().values()) == events - bad


@pytest.mark.parametrize("moment", ["within batch", "after batch", "dead letters stored", "dead letters appended"])
def test_a_kill_at_each_moment_loses_no_rejection_and_lists_none_twice(make: Callable[..., Desk], moment: str) -> None:
    desk, bad = poisoned(make, "project", 60)
    options = ("--as-of", EARLY, "--batch", "20")
    number = "2" if "batch" in moment else "1"
    killed = desk.project.runner(*options, "--kill-at", moment, "--kill-number", number)
    assert killed.code == -signal.SIGKILL, killed.err
    desk.project.run_here(EARLY)
    check(desk, 60, bad)


def test_a_twin_that_advances_before_it_records_the_rejection_fails_the_same_check(make: Callable[..., Desk]) -> None:
    desk, bad = poisoned(make, "project", 60)
    options = ("--as-of", EARLY, "--batch", "20", "--reject-late")
    killed = desk.project.runner(*options, "--kill-at", "after batch", "--kill-number", "2")
    assert killed.code == -signal.SIGKILL, killed.err
    desk.project.runner(*options).done()
    with pytest.raises(AssertionError):
        check(desk, 60, bad)
    assert len(desk.letters()) < bad


@pytest.mark.soak
def test_the_twin_that_advances_first_is_right_while_nothing_kills_it(make: Callable[..., Desk]) -> None:
    desk, bad = poisoned(make, "project", 60)
    desk.project.runner("--as-of", EARLY, "--batch", "20", "--reject-late").done()
    check(desk, 60, bad)


def kill_at_random(desk: Desk, kills: int) -> int:
    """Start the service and kill it, `kills` times; return how many kills met a process that was at work."""
    seed = int(os.environ.get("QUIETCOUNT_TEST_SEED", random.randrange(10**9)))
    print("seed", seed)
    chance = random.Random(seed)
    working = 0
    for _ in range(kills):
        process = desk.project.start_runner("--as-of", EARLY, "--batch", "5")
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        finished: Finished = ended(process)
        assert finished.code in (-signal.SIGKILL, 0), finished.err
        working += finished.code == -signal.SIGKILL
    return working


@pytest.mark.soak
@pytest.mark.parametrize("events, kills", [(300, 3), pytest.param(15_000, 100, marks=pytest.mark.soak)])
def test_kills_at_any_moment_lose_no_rejection_and_list_none_twice(
    make: Callable[..., Desk], events: int, kills: int
) -> None:
    desk, bad = poisoned(make, "project", events)
    assert kill_at_random(desk, kills) >= kills // 3
    desk.project.run_here(EARLY)
    check(desk, events, bad)


# Replaying


def without_schema(project: Project) -> Path:
    """Put the schema of one's own aside, as in a service that is older than its emitters."""
    aside = project.folder / "aside"
    (project.folder / "own" / "CheckedIn.avsc").rename(aside)
    (project.folder / "own" / "Other.avsc").write_text(json.dumps({**SPECIAL, "name": "Other"}), encoding="utf-8")
    return aside


HELP = 'schemas = ["own"]\n' + catalogue(statistic("requests", "HelpRequested"))


@pytest.fixture
def behind(make: Callable[..., Desk]) -> tuple[Desk, Codec]:
    """A service that was older than its emitters: events of a type that it did not know are dead letters."""
    desk = make(HELP)
    project = desk.project
    codec = Codec(own_schema(project))
    aside = without_schema(project)
    project.run_here(EARLY)
    events = [check_in(case, mood="CALM") for case in range(1, 8)]
    mismatch = record(codec, check_in(50, mood="AFRAID"))._replace(key=OTHER_KEY)
    desk.append([*(record(codec, each) for each in events), NewRecord(KEY, b"no event of ours", 0), mismatch])
    project.run_here("2023-01-20")
    assert [letter.reason for letter in desk.letters()] == [
        *[RejectReason.UNKNOWN_FINGERPRINT] * 7,
        RejectReason.UNKNOWN_FRAMING,
        RejectReason.UNKNOWN_FINGERPRINT,
    ]
    # Now the service learns the schema, and a statistic that counts it is declared.
    (project.folder / "own" / "Other.avsc").unlink()
    aside.rename(project.folder / "own" / "CheckedIn.avsc")
    text = project.config.read_text(encoding="utf-8")
    tail = text.find("[kafka]")
    text = text + CHECK_INS if tail < 0 else text[:tail] + CHECK_INS + text[tail:]
    project.config.write_text(text, encoding="utf-8")
    return desk, codec


EIGHT = {
    ("check_ins", "2023-02-01", '{"mood":"CALM","urgent":"false"}'): 7,
    ("check_ins", "2023-02-01", '{"mood":"AFRAID","urgent":"false"}'): 1,
}


def test_a_replay_counts_once_however_often_and_although_the_service_has_counted_by_itself(
    behind: tuple[Desk, Codec],
) -> None:
    desk, _ = behind
    project = desk.project
    before = desk.case_events()
    # Before the service has folded again.
    assert desk.command("replay") == [*["replayed"] * 7, "unknown_framing", "replayed"]
    project.run_here("2023-03-01")  # folds all of it again, since a schema is new
    for _ in range(2):
        # The service has found out by now that the key of the eighth is wrong, and it is left alone.
        assert desk.command("replay", "--reason", "unknown_fingerprint") == ["replayed"] * 7
        project.run_here("2023-03-02")
    assert desk.command("replay", "--dry-run")[-2:] == ["unknown_framing", "key_mismatch"]
    assert desk.case_events() == before + 8 + 2 * 7
    project.run_here(AS_OF)
    # The eighth is the record of a wrong key: it was unknown when it came, and is found out only when it is folded
    # where it lies. Replayed before that, it counts under its own case.
    assert counted(project) == EIGHT
    # After the release, too.
    desk.command("replay")
    project.run_here("2024-03-08")
    assert counted(project) == EIGHT


def test_what_the_service_no_longer_finds_in_the_log_is_counted_by_a_replay(behind: tuple[Desk, Codec]) -> None:
    """As when the schema comes so late that the log was purged meanwhile."""
    desk, _ = behind
    project = desk.project
    with closing(open_log(project.configuration)) as log:
        assert log.purge(CASE_EVENTS, log.end_offsets(CASE_EVENTS), {})
    project.run_here("2023-03-01")
    desk.command("replay")
    project.run_here(AS_OF)
    assert counted(project) == EIGHT


def test_a_replay_that_is_killed_is_completed_by_another(behind: tuple[Desk, Codec]) -> None:
    desk, _ = behind
    project = desk.project
    process = project.start("dead-letters", "replay")
    time.sleep(random.uniform(0.5, 1.5))
    process.kill()
    ended(process)
    desk.command("replay")
    project.run_here(AS_OF)
    assert counted(project) == EIGHT


def test_a_dry_run_appends_nothing(behind: tuple[Desk, Codec]) -> None:
    desk, _ = behind
    before = desk.case_events()
    assert desk.command("replay", "--dry-run").count("would be replayed") == 8
    assert desk.case_events() == before


def test_a_project_that_has_no_log_yet_is_told_so_and_gets_none(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", WITH_OWN_SCHEMA)
    own_schema(project)
    for command in ("list", "replay"):
        assert "there is no log yet" in project.quietcount("dead-letters", command).refusal()
    assert not project.data.exists()
