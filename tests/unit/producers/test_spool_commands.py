"""`quietcount spool` and `quietcount emit` with a spool: where events are is said, how many there are is not."""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.kafka.cluster import free_ports

from quietcount_producers import CaseEventPublisher, EmbeddedLog, EventSpool, LogError, Pepper
from quietcount_producers.commands import spool as spool_commands
from quietcount_producers.commands.emit import emit_command
from quietcount_producers.commands.spool import spool_command
from quietcount_producers.errors import LogUnavailable
from quietcount_producers.settings import EmitterSettings, open_log
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.quick

EVENT = '{"event": "HelpRequested", "case": "a person", "occurred_on": "2023-10-03"}\n'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quietcount.toml").write_text('[emitter]\nspool = "spool"\n')
    (tmp_path / "secrets").mkdir()
    Pepper.generate(tmp_path / "secrets" / "pepper")
    (tmp_path / "cases.jsonl").write_text(EVENT * 3)
    return tmp_path


@pytest.fixture
def log_raises(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception | None], None]:
    """A function that lets the log be opened no more, or again."""

    def fail(error: Exception | None) -> None:
        def refuse(_: EmitterSettings) -> EmbeddedLog:
            assert error is not None
            raise error

        monkeypatch.setattr(spool_commands, "open_log", open_log if error is None else refuse)

    return fail


def run(*arguments: str, ok: bool = True) -> Result:
    result = CliRunner().invoke(emit_command if arguments[0] == "emit" else spool_command, arguments[1:])
    assert (result.exit_code == 0) is ok, result.output
    assert ok or isinstance(result.exception, QuietcountError)
    return result


def stored(place: Path) -> int:
    with EmbeddedLog(EmitterSettings.load(place / "quietcount.toml", {}).log_file, create=False) as log:
        return log.end_offsets(CASE_EVENTS)[0]


AWAY = LogUnavailable("No broker answers at 127.0.0.1:9092")
REFUSED = LogError("The password is wrong.")


def test_a_file_goes_through_the_spool_into_a_log_that_answers(place: Path) -> None:
    assert run("emit", "cases.jsonl").stderr == "Emitted cases.jsonl: 3 events; every line is in the log.\n"
    assert stored(place) == 3
    assert run("spool", "status").stdout == "The spool is empty: the log has every event.\n"
    names = {file.name for file in (place / "spool" / "store").iterdir()}
    assert names == {"events.sqlite", "relay.lock"}  # and no temporary file


def test_a_file_waits_in_the_spool_for_a_log_that_does_not_answer(
    place: Path, log_raises: Callable[[Exception | None], None]
) -> None:
    log_raises(AWAY)
    said = run("emit", "cases.jsonl").stderr
    assert said == (
        "Emitted cases.jsonl: 3 events; every line is in the spool, and `quietcount spool drain` sends it when the log "
        "answers. No broker answers at 127.0.0.1:9092.\n"
    )
    today = dt.datetime.now(dt.UTC).date()
    status = run("spool", "status").stdout
    assert status == f"Events wait in the spool, which has not been empty since {today} (UTC).\n"
    assert json.loads(run("spool", "status", "--json").stdout) == {"empty": False, "waiting_since": str(today)}
    error = run("spool", "drain", ok=False).exception
    assert "Events stay in the spool" in str(error)
    assert "No broker answers" in str(error)
    log_raises(None)
    assert run("spool", "drain").stderr == "The spool is empty: the log has every event.\n"
    assert stored(place) == 3
    assert json.loads(run("spool", "status", "--json").stdout) == {"empty": True, "waiting_since": None}


def test_what_waiting_does_not_mend_is_an_error_and_the_events_are_safe(
    place: Path, log_raises: Callable[[Exception | None], None]
) -> None:
    log_raises(REFUSED)
    error = run("emit", "cases.jsonl", ok=False).exception
    assert "safe in the spool" in str(error)
    assert "The password is wrong." in str(error)
    log_raises(None)
    run("spool", "drain")
    assert stored(place) == 3


def test_what_is_left_out_of_a_file_is_said_beside_where_the_rest_is(
    place: Path, log_raises: Callable[[Exception | None], None]
) -> None:
    (place / "cases.jsonl").write_text(EVENT + "{}\n")
    log_raises(AWAY)
    assert "every good line is in the spool" in run("emit", "cases.jsonl", "--skip-bad").stderr


def test_beside_a_process_that_relays_emit_leaves_it_to_that_and_drain_says_so(place: Path) -> None:
    with EventSpool(place / "spool") as other:
        assert other.hold()
        assert run("emit", "cases.jsonl").stderr == (
            "Emitted cases.jsonl: 3 events; every line is in the spool, and another process sends it.\n"
        )
        assert "Another process sends" in str(run("spool", "drain", ok=False).exception)
        assert run("spool", "status").stdout == "Events wait in the spool.\n"


def test_without_a_spool_the_key_is_named(place: Path) -> None:
    (place / "quietcount.toml").write_text("")
    for command in ("status", "drain"):
        assert "emitter.spool" in str(run("spool", command, ok=False).exception)


def test_where_no_spool_is_nobody_says_that_the_log_has_every_event(place: Path) -> None:
    """It was never made, or its disk is not mounted: what waits there is unknown."""

    def told() -> None:
        folder = (place / "spool").absolute()
        assert run("spool", "status").output == (
            f"There is no spool at {folder} yet. It is made when the first event is emitted.\n"
        )
        assert json.loads(run("spool", "status", "--json").stdout) == {"empty": None, "waiting_since": None}
        drained = run("spool", "drain", ok=False)
        assert "every event" not in drained.output
        assert f"There is no spool at {folder} yet" in str(drained.exception)
        assert not (place / "spool" / "store" / "events.sqlite").exists()

    told()
    assert not (place / "spool").exists()
    (place / "spool" / "store").mkdir(mode=0o700, parents=True)  # as an emit leaves it that a full disk refused
    told()


def test_a_file_in_the_spools_place_is_refused(place: Path) -> None:
    (place / "spool").touch()
    for command in (["status"], ["status", "--json"], ["drain"]):
        refused = run("spool", *command, ok=False)
        assert refused.output == ""
        assert "is a file, or below one. Name a folder of its own (key 'emitter.spool')" in str(refused.exception)


def test_no_output_tells_how_many_events_wait(place: Path, log_raises: Callable[[Exception | None], None]) -> None:
    def outputs(count: int) -> list[str]:
        (place / "cases.jsonl").write_text(EVENT * count)
        log_raises(AWAY)
        said = [
            # Who has the file may know how many events it holds.
            run("emit", "cases.jsonl").output.replace(f"{count:,} event{'s' * (count > 1)}", "events"),
            run("spool", "status").output,
            run("spool", "status", "--json").output,
        ]
        said.append(str(run("spool", "drain", ok=False).exception))
        log_raises(None)
        return [*said, run("spool", "drain").output]

    assert outputs(1) == outputs(1234)


def test_a_publisher_from_the_configuration_opens_and_emits_though_no_broker_is_there(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (place / "quietcount.toml").write_text(
        f'log = "kafka://127.0.0.1:{free_ports(1)[0]}"\n[emitter]\nspool = "spool"\n'
    )
    caplog.set_level(logging.INFO)
    with CaseEventPublisher.from_config(place / "quietcount.toml") as publisher:
        publisher.emit("HelpRequested", "a", "2023-05-05").result(30)
    assert json.loads(run("spool", "status", "--json").stdout)["empty"] is False
    assert "a person" not in caplog.text
