"""Events on their way through real processes: emitted twice at once, malformed, withdrawn, corrected, late."""

from __future__ import annotations

import datetime as dt
import json
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.catalogues import statistic
from tests.e2e.projects import EXACT, Project, ended, simulated, true_cells
from tests.strategies import envelope

from quietcount_consumers.dead_letters import letters
from quietcount_producers.simulation import encoded
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, NewRecord
from quietcount_schemas.registry import SchemaRegistry
from quietcount_schemas.rejection import RejectReason

pytestmark = pytest.mark.check

KEY = bytes.fromhex("c0ffee") + b"a case key 13"
OTHER_KEY = bytes.fromhex("c0ffee") + b"another key.."
SECRET_TEXT = b"Ivan Ivanov, 1st battalion"

NOT_HERE = {RejectReason.DATED_AHEAD, RejectReason.WRONG_PARTITION}
"""A settlement sees the one, and the embedded log has no other partition."""


def line(case: str, day: str, kind: str = "DESERTION", **more: object) -> dict[str, object]:
    return {"event": "HelpRequested", "case": case, "occurred_on": day, "help_kind": kind, **more}


def nonzero(project: Project) -> dict[tuple[str, str, str], int]:
    return {cell: value for cell, value in project.released().items() if value}


@pytest.mark.promise("nothing-twice")
def test_one_file_emitted_by_two_processes_at_once_counts_once(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    lines = simulated(400)
    without_ids = [{key: value for key, value in each.items() if key != "event_id"} for each in lines]
    once = [each for each in without_ids if "revision" not in each]
    (project.folder / "cases.jsonl").write_bytes(b"".join(map(encoded, once)))
    both = [project.start("emit", "cases.jsonl") for _ in range(2)]
    for process in both:
        ended(process).done()
    with project.log() as log:
        assert log.end_offsets(CASE_EVENTS) == {0: 2 * len(once)}
    project.run()
    assert nonzero(project) == true_cells([{**each, "event_id": number} for number, each in enumerate(once)])
    # After the release, too: what is closed does not come back as late events of the open period.
    project.quietcount("emit", "cases.jsonl").done()
    before = project.released()
    project.run_here("2024-03-08")
    later = {cell: value for cell, value in nonzero(project).items() if cell not in before}
    assert later == {}


@pytest.mark.promise("corrections", "withdrawal")
def test_duplicates_corrections_and_withdrawals_come_out_as_the_oracle_counts_them(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    lines = simulated(1200, seed=7)
    project.emit(lines)
    project.run_here()
    assert nonzero(project) == true_cells(lines)


@pytest.mark.promise("late")
@pytest.mark.parametrize("late, expected", [("carry", {"2023-05-01": 1}), ("drop", {})])
def test_an_event_of_a_released_period_is_carried_or_dropped(
    tmp_path: Path, late: str, expected: dict[str, int]
) -> None:
    project = Project(tmp_path / "project", EXACT.replace('period = "month"\n', f'period = "month"\nlate = "{late}"\n'))
    project.emit([line("a", "2023-04-03")])
    project.run_here("2023-05-08")
    project.emit([line("a", "2023-04-03"), line("late", "2023-04-04"), line("early", "2022-12-31")], "late.jsonl")
    project.run_here("2023-05-20")
    project.run_here("2023-08-08")
    found = {start: value for (_, start, _), value in nonzero(project).items()}
    assert found == {"2023-04-01": 1, **expected}


SPECIAL = {
    "type": "record",
    "name": "CheckedIn",
    "namespace": "example.trial",
    "doc": "A trial.",
    "quietcount.role": "event",
    "fields": [
        *envelope(),
        {"name": "urgent", "type": "boolean", "default": False, "doc": "Whether it was urgent."},
        {
            "name": "mood",
            "type": [
                "null",
                {"type": "enum", "name": "Mood", "symbols": ["CALM", "AFRAID"], "default": "CALM", "doc": "."},
            ],
            "default": None,
            "doc": "A mood.",
        },
    ],
}

CHECK_INS = statistic("check_ins", "CheckedIn", by=["mood", "urgent"])
WITH_OWN_SCHEMA = 'schemas = ["own"]\n' + EXACT + CHECK_INS


def poison(codec: Codec) -> list[tuple[RejectReason, bytes, bytes]]:
    """One record of each kind that is no event of ours: the reason, the key, the value."""
    good = codec.encode(
        CaseEvent(
            "CheckedIn",
            KEY,
            uuid.UUID(int=5, version=4).bytes,
            0,
            dt.date(2023, 2, 1),
            {"urgent": True, "mood": "AFRAID"},
        )
    )
    head, identity, tail = good[:10], good[26:42], good[42:]
    revision, day, flags = tail[:1], tail[1:-3], tail[-3:]
    envelope_ = head + KEY + identity
    not_v4 = bytearray(identity)
    not_v4[6] = 0x70
    values = {
        RejectReason.TOO_LARGE: good + SECRET_TEXT * 30,
        RejectReason.EMPTY: b"",
        RejectReason.UNKNOWN_FRAMING: SECRET_TEXT,
        RejectReason.UNKNOWN_FINGERPRINT: good[:2] + b"noschema" + good[10:],
        RejectReason.TRUNCATED: good[:-1],
        RejectReason.TRAILING_BYTES: good + SECRET_TEXT,
        RejectReason.ENUM_OUT_OF_RANGE: good[:-1] + b"\x04",
        RejectReason.UNION_OUT_OF_RANGE: good[:-2] + b"\x04\x00",
        RejectReason.BOOLEAN_INVALID: good[:-3] + b"\x02" + good[-2:],
        RejectReason.VARINT_TOO_LONG: envelope_ + b"\x80\x80\x80\x80\x80\x01" + day + flags,
        RejectReason.VARINT_NOT_CANONICAL: envelope_ + b"\x80\x00" + day + flags,
        RejectReason.INT_OUT_OF_BOUNDS: envelope_ + b"\x01" + day + flags,
        RejectReason.DATE_OUT_OF_BOUNDS: envelope_ + revision + b"\x01" + flags,
        RejectReason.EVENT_ID_NOT_V4: head + KEY + bytes(not_v4) + tail,
    }
    assert {reason: codec.check(value) for reason, value in values.items()} == {reason: reason for reason in values}
    return [(reason, KEY, value) for reason, value in values.items()] + [(RejectReason.KEY_MISMATCH, OTHER_KEY, good)]


@pytest.fixture
def poisoned(tmp_path: Path) -> tuple[Project, list[tuple[RejectReason, bytes, bytes]]]:
    """A project with one good event, one record of each malformed kind, and another good event."""
    project = Project(tmp_path / "project", WITH_OWN_SCHEMA)
    (project.folder / "own").mkdir()
    (project.folder / "own" / "CheckedIn.avsc").write_text(json.dumps(SPECIAL), encoding="utf-8")
    project.emit([{"event": "CheckedIn", "case": "first", "occurred_on": "2023-02-03", "urgent": True, "mood": "CALM"}])
    records = poison(Codec(SchemaRegistry.load([project.folder / "own"])))
    assert {reason for reason, _, _ in records} == set(RejectReason) - {
        RejectReason.DATED_AHEAD,
        RejectReason.WRONG_PARTITION,
    }
    with project.log() as log:
        log.append(CASE_EVENTS, [NewRecord(key, value, 0) for _, key, value in records])
    project.emit([{"event": "CheckedIn", "case": "second", "occurred_on": "2023-02-04"}], "second.jsonl")
    return project, records


def dead_letters(project: Project) -> list[Any]:
    with project.log() as log:
        return log.poll(DEAD_LETTERS, {0: 0}, log.end_offsets(DEAD_LETTERS), 1000)


def test_each_malformed_record_becomes_a_dead_letter_and_stops_nothing(
    poisoned: tuple[Project, list[tuple[RejectReason, bytes, bytes]]],
) -> None:
    project, records = poisoned
    finished = project.run()
    found = dead_letters(project)
    assert [(dict(letter.headers)["reason"].decode(), letter.value) for letter in found] == [
        (reason.value, value) for reason, _, value in records
    ]
    assert [dict(letter.headers) for letter in found] == [
        {"reason": reason.encode(), "topic": b"case-events", "partition": b"0", "offset": str(offset).encode()}
        for offset, (reason, _, _) in enumerate(records, start=1)
    ]
    assert all(letter.key is None and letter.timestamp == -1 for letter in found)
    assert nonzero(project) == {
        ("check_ins", "2023-02-01", "mood=CALM, urgent=true"): 1,
        ("check_ins", "2023-02-01", "mood=CALM, urgent=false"): 1,
    }
    said = finished.out + finished.err
    assert finished.out == ""
    for fragment in (SECRET_TEXT.decode(), SECRET_TEXT.hex(), KEY.hex(), "c0ffee", "a case key", *RejectReason):
        assert fragment not in said


def test_a_dead_letter_is_relayed_whatever_kills_the_relay_and_is_listed_once(
    poisoned: tuple[Project, list[tuple[RejectReason, bytes, bytes]]],
) -> None:
    project, records = poisoned
    for moment in ("dead letters stored", "dead letters appended"):
        assert project.runner("--kill-at", moment).code == -signal.SIGKILL
    project.run_here()
    values = [value for _, _, value in records]
    assert [letter.value for letter in dead_letters(project)] == values * 2  # appended, killed, and appended again
    with project.log() as log:
        assert [letter.value for letter in letters(log)] == values
    assert project.state()["dead_letters"] == []


def test_an_own_event_type_is_counted_and_broken_down_with_no_code(
    poisoned: tuple[Project, list[tuple[RejectReason, bytes, bytes]]],
) -> None:
    project, _ = poisoned
    project.run_here()
    answer = project.quietcount(
        "query", "SELECT mood, urgent, shown FROM check_ins WHERE shown > 0 ORDER BY ALL"
    ).done()
    assert answer.out == "mood,urgent,shown\nCALM,false,1\nCALM,true,1\n"
