"""Replays of dead letters, on the embedded log and on Kafka: each record counts once."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.catalogues import catalogue, statistic
from tests.e2e.projects import Project, ended
from tests.e2e.recovery.letter_desks import AS_OF, EARLY, Desk, check_in, counted, make, own_schema, record
from tests.e2e.service.test_events import CHECK_INS, KEY, OTHER_KEY, SPECIAL, WITH_OWN_SCHEMA

from quietcount_consumers.wiring import open_log
from quietcount_schemas.codec import Codec
from quietcount_schemas.log import CASE_EVENTS, NewRecord
from quietcount_schemas.rejection import RejectReason

pytestmark = pytest.mark.check

__all__ = ["make"]  # fixtures, which tests ask for by name


def without_schema(project: Project) -> Path:
    """Put the schema of one's own aside, as in a service that is older than its emitters."""
    aside = project.folder / "aside"
    (project.folder / "own" / "CheckedIn.avsc").rename(aside)
    (project.folder / "own" / "Other.avsc").write_text(json.dumps({**SPECIAL, "name": "Other"}), encoding="utf-8")
    return aside


HELP = 'schemas = ["own"]\n' + catalogue(statistic("requests", "HelpRequested"))


@pytest.fixture
def behind(make: Callable[..., Desk]) -> Desk:
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
    # Now the service learns the schema, and a population that counts it is declared: first the service, then a replay.
    (project.folder / "own" / "Other.avsc").unlink()
    aside.rename(project.folder / "own" / "CheckedIn.avsc")
    text = project.config.read_text(encoding="utf-8")
    tail = text.find("[kafka]")
    text = text + CHECK_INS if tail < 0 else text[:tail] + CHECK_INS + text[tail:]
    project.config.write_text(text, encoding="utf-8")
    project.run_here("2023-03-01")
    project.quietcount("declare", "--complete", "check_ins", "--yes", "--as-of", "2023-03-01").done()
    return desk


EIGHT = {
    ("check_ins", "2023-02-01", "mood=CALM, urgent=false"): 7,
    ("check_ins", "2023-02-01", "mood=AFRAID, urgent=false"): 1,
}


def test_a_replay_counts_once_however_often(behind: Desk) -> None:
    project = behind.project
    before = behind.case_events()
    assert behind.command("replay") == [*["replayed"] * 7, "unknown_framing", "replayed"]
    project.run_here("2023-03-01")
    for _ in range(2):
        assert behind.command("replay", "--reason", "unknown_fingerprint") == ["replayed"] * 8
        project.run_here("2023-03-02")
    assert behind.case_events() == before + 8 + 2 * 8
    project.run_here(AS_OF)
    # The eighth is the record of a wrong key: it was unknown when it came. Replayed, it counts under its own case.
    assert counted(project) == EIGHT
    # After the release, too.
    behind.command("replay")
    project.run_here("2024-03-08")
    assert counted(project) == EIGHT


def test_what_the_service_no_longer_finds_in_the_log_is_counted_by_a_replay(behind: Desk) -> None:
    """As when the schema comes so late that the log was purged meanwhile."""
    project = behind.project
    with closing(open_log(project.configuration)) as log:
        assert log.purge(CASE_EVENTS, log.end_offsets(CASE_EVENTS))
    project.run_here("2023-03-01")
    behind.command("replay")
    project.run_here(AS_OF)
    assert counted(project) == EIGHT


def test_a_replay_that_is_killed_is_completed_by_another(behind: Desk) -> None:
    project = behind.project
    process = project.start("dead-letters", "replay")
    time.sleep(random.uniform(0.5, 1.5))
    process.kill()
    ended(process)
    behind.command("replay")
    project.run_here(AS_OF)
    assert counted(project) == EIGHT


def test_a_dry_run_appends_nothing(behind: Desk) -> None:
    before = behind.case_events()
    assert behind.command("replay", "--dry-run").count("would be replayed") == 8
    assert behind.case_events() == before


def test_a_project_that_has_no_log_yet_is_told_so_and_gets_none(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", WITH_OWN_SCHEMA)
    own_schema(project)
    for command in ("list", "replay"):
        assert "there is no log yet" in project.quietcount("dead-letters", command).refusal()
    assert not project.data.exists()
