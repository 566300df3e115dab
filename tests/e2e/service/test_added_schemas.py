"""An emitter that is upgraded before the service, and what becomes of records that nobody can read."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path

import pytest
from tests.catalogues import catalogue, statistic
from tests.e2e.projects import Project

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.opening import open_service
from quietcount_consumers.wiring import open_log
from quietcount_producers.composing.pseudonyms import Pepper
from quietcount_producers.publisher import CaseEventPublisher
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, NewRecord
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.check

DAILY = statistic("daily", "HelpRequested", period="day", since="2024-01-01")
CONFIGURATION = 'schemas = ["own"]\n' + catalogue(
    statistic("visits", "Visit", by="ward", since="2024-01-01"), DAILY, grace=None, tick=None
)
BY_OUTCOME = catalogue(statistic("visits", "OutcomeRecorded", by="outcome", since="2024-01-01"), grace=None, tick=None)
OUTCOMES = BY_OUTCOME + DAILY


def schema(symbols: list[str]) -> str:
    ward = {"type": "enum", "name": "Ward", "symbols": symbols, "default": "OTHER", "doc": "Wards."}
    envelope = json.loads(
        next(
            (Path(__file__).parents[3] / "schemas/quietcount_schemas/casework/CaseWithdrawn").glob("1.avsc")
        ).read_text()
    )["fields"]
    fields = [*envelope, {"name": "ward", "type": ward, "default": "OTHER", "doc": "The ward."}]
    return json.dumps({"type": "record", "name": "Visit", "namespace": "trial", "doc": "A visit.", "fields": fields})


def moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def test_events_of_an_emitter_that_was_upgraded_first_count_once_they_are_replayed(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", CONFIGURATION)
    own = project.folder / "own" / "Visit"
    own.mkdir(parents=True)
    (own / "1.avsc").write_text(schema(["NORTH", "OTHER"]))
    newer = tmp_path / "newer"
    shutil.copytree(project.folder / "own", newer)
    (newer / "Visit" / "2.avsc").write_text(schema(["NORTH", "OTHER", "WEST"]))
    configuration = Configuration.load(project.config)
    with open_service(configuration, moment("2024-01-02")) as service:
        service.tick(moment("2024-01-02"))
    log = open_log(configuration)
    pepper = Pepper.load(project.folder / "secrets" / "pepper")
    with CaseEventPublisher(log, pepper=pepper, registry=SchemaRegistry.load([newer])) as publisher:
        for case in range(9):
            publisher.emit("Visit", f"case-{case}", "2024-01-03", ward="NORTH")
    log.close()
    # The service does not know version 2 yet; daily releases go by, each of which purges what nobody needs.
    for day in ("2024-01-04", "2024-01-15", "2024-01-20"):
        project.quietcount("run", "--until-idle", "--as-of", day).done()
    shutil.rmtree(project.folder / "own")
    shutil.copytree(newer, project.folder / "own")
    project.quietcount("dead-letters", "replay").done()
    project.quietcount("run", "--until-idle", "--as-of", "2024-02-08").done()
    rows = project.quietcount("query", "SELECT ward, shown FROM visits ORDER BY 1", "--format", "csv").done().out
    assert rows.splitlines()[1:] == ["NORTH,9", "OTHER,0"], "the declared domain stays, and nothing was lost"


def test_dead_letters_are_kept_for_thirty_days_of_releases_and_then_leave_no_byte(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", OUTCOMES)
    configuration = Configuration.load(project.config)
    poison = b"\xc3\x01" + bytes(range(40, 48)) + b"a case key here!" + b"and more of it.."
    with open_service(configuration, moment("2024-01-01")):
        log = open_log(configuration)
    log.append(CASE_EVENTS, [NewRecord(b"k" * 16, poison, 0)])
    log.close()

    def found() -> bool:
        return any(b"a case key here!" in path.read_bytes() for path in project.data.rglob("*") if path.is_file())

    project.quietcount("run", "--until-idle", "--as-of", "2024-01-10").done()
    log = open_log(configuration)
    assert log.end_offsets(DEAD_LETTERS) == {0: 1}
    log.close()
    project.quietcount("run", "--until-idle", "--as-of", "2024-01-30").done()
    assert found(), "an operator must have had time to look"
    project.quietcount("run", "--until-idle", "--as-of", "2024-02-12").done()
    project.quietcount("run", "--until-idle", "--as-of", "2024-02-13").done()
    assert not found()


def test_a_population_that_begins_before_its_declaration_waits_until_its_past_is_there(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", BY_OUTCOME)
    project.quietcount("run", "--until-idle", "--as-of", "2024-02-10").done()
    project.config.write_text(OUTCOMES)
    said = project.quietcount("declare", "--as-of", "2024-02-11").done().err
    assert "population incomplete" in said
    assert "daily" in said
    assert "Nothing is due" in project.quietcount("release", "--dry-run", "--as-of", "2024-02-11").done().err
    assert "population incomplete" in project.quietcount("run", "--until-idle", "--as-of", "2024-02-12").done().err
    assert not [cell for cell in project.released() if cell[0] == "daily"]
    asked = {"event": "HelpRequested", "help_kind": "OTHER", "service_category": "UNKNOWN"}
    project.emit([{**asked, "case": f"case-{case}", "occurred_on": "2024-01-05"} for case in range(9)])
    told = project.quietcount("doctor").out
    assert "daily waits for its past: nothing of it is released" in told
    assert "does not wait" in project.quietcount("declare", "--complete", "visits", "--yes").refusal()
    assert "no population 'none'" in project.quietcount("declare", "--complete", "none", "--yes").refusal()
    project.quietcount("declare", "--complete", "daily", "--yes", "--as-of", "2024-02-12").done()
    assert "does not wait" in project.quietcount("declare", "--complete", "daily", "--yes").refusal()
    project.quietcount("run", "--until-idle", "--as-of", "2024-02-13").done()
    daily = {start: value for (name, start, _), value in project.released().items() if name == "daily"}
    assert {start for start, value in daily.items() if value} == {"2024-01-05"}
    assert daily["2024-01-05"] == 9
    assert min(daily) == "2024-01-01"


def test_a_configuration_alone_is_a_start_and_a_secret_that_something_depends_on_is_not_made_anew(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path / "project", OUTCOMES)
    secret = project.folder / "secrets" / "service"
    secret.unlink()
    project.quietcount("run", "--until-idle", "--as-of", "2024-01-02").done()
    assert secret.stat().st_mode & 0o777 == 0o600
    secret.unlink()
    assert "is missing" in project.quietcount("run", "--until-idle", "--as-of", "2024-01-03").refusal()
    assert not secret.exists()
