"""Defects: what nobody foresaw is told by its place, and its text, which may quote data, nowhere."""

from __future__ import annotations

import datetime as dt
import sys
import threading
from pathlib import Path

import click
import duckdb
import pytest
from tests.e2e.projects import Project

from quietcount_consumers.defects import hearing_threads, telling_defects
from quietcount_consumers.monitoring.log_events import DEFECT, LogEvent
from quietcount_consumers.service import Service
from quietcount_schemas.cli import main
from quietcount_schemas.defects import Defect, described
from quietcount_schemas.errors import QuietcountError

pytestmark = pytest.mark.quick

NOON = dt.datetime(2023, 5, 1, 12, tzinfo=dt.UTC)
SECRET = "caller-000"


def fail() -> None:
    with duckdb.connect() as connection:
        connection.execute("SELECT CAST(? AS INTEGER)", [SECRET])


def test_the_text_of_an_unforeseen_error_may_quote_data() -> None:
    with pytest.raises(duckdb.Error, match=SECRET):
        fail()


def test_a_defect_is_told_by_its_kind_and_its_place_without_its_text() -> None:
    with pytest.raises(Defect) as caught, telling_defects():
        fail()
    message = str(caught.value)
    assert "ConversionException at " in message
    assert "test_defects.py:" in message
    assert SECRET not in message
    assert caught.value.__suppress_context__
    assert "\n" not in message


@pytest.mark.parametrize(
    "error",
    [QuietcountError("for a person"), OSError(28, "full"), click.Abort(), click.UsageError("so"), SystemExit(3)],
)
def test_what_has_words_for_a_person_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, telling_defects():
        raise error
    assert caught.value is error


def test_the_end_of_a_thread_is_an_event(capfd: pytest.CaptureFixture[str]) -> None:
    said: list[LogEvent] = []
    before = threading.excepthook, sys.unraisablehook
    with hearing_threads(said.append, lambda: NOON):
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    assert (threading.excepthook, sys.unraisablehook) == before
    (event,) = said
    assert event.kind is DEFECT
    assert event.tick == NOON
    assert event.own_fields()["meaning"].startswith("ConversionException at ")
    assert SECRET not in event.own_fields()["meaning"]
    assert capfd.readouterr().err == ""


def test_a_failing_destructor_is_an_event(capfd: pytest.CaptureFixture[str]) -> None:
    class Failing:
        def __del__(self) -> None:
            fail()

    said: list[LogEvent] = []
    with hearing_threads(said.append, lambda: NOON):
        Failing()
    assert [event.name for event in said] == ["defect"]
    assert capfd.readouterr().err == ""


def test_few_calls_are_named() -> None:
    def deep(left: int) -> None:
        if not left:
            fail()
        deep(left - 1)

    with pytest.raises(duckdb.Error) as caught:
        deep(20)
    assert described(caught.value).count("test_defects.py") == 5


@pytest.mark.parametrize("arguments", [("run", "--until-idle"), ("release",)])
def test_a_defect_of_the_service_reaches_stderr_without_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    project = Project(tmp_path / "project")
    monkeypatch.setattr(Service, "tick", lambda *_: fail())
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--config", str(project.config), "--as-of", "2023-02-08"])
    assert caught.value.code == 1
    told = capfd.readouterr().err.splitlines()
    assert told[-1].startswith("Error: a defect of quietcount: ConversionException at ")
    assert not any(SECRET in line or "Traceback" in line for line in told)
