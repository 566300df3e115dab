"""Poison in real processes, on the embedded log and on Kafka: told by its reason alone, whatever is killed."""

from __future__ import annotations

import base64
import csv
import os
import random
import signal
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import closing

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource
from kafka.errors import MessageSizeTooLargeError
from tests.e2e.projects import Finished, ended
from tests.e2e.recovery.letter_desks import AS_OF, EARLY, Desk, check_in, counted, make, own_schema, record
from tests.e2e.service.test_events import KEY, OTHER_KEY, SECRET_TEXT, WITH_OWN_SCHEMA, poison

from quietcount_consumers.dead_letters import LARGEST, NO_DATE
from quietcount_consumers.wiring import open_log
from quietcount_schemas.codec import Codec
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, NewRecord
from quietcount_schemas.rejection import RejectReason

pytestmark = pytest.mark.check

__all__ = ["make"]  # fixtures, which tests ask for by name

# What each malformed kind comes to

NOT_HERE = {RejectReason.DATED_AHEAD, RejectReason.WRONG_PARTITION}
"""A settlement sees the one, and the embedded log has no other partition."""


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
    assert {reason for reason, _, _ in bad} == set(RejectReason) - {
        RejectReason.DATED_AHEAD,
        RejectReason.WRONG_PARTITION,
    }
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
        ("check_ins", "2023-02-01", "mood=CALM, urgent=true"): 1,
        ("check_ins", "2023-02-01", "mood=AFRAID, urgent=false"): len(bad),
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
