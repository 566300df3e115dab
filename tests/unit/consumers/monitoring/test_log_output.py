"""The log's output: when lines are written, how they look, and what becomes of what cannot be written."""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
import re
import sys
import threading

import pytest

from quietcount_consumers.monitoring.log_events import (
    GOING_ON,
    HALTED,
    LINES_LEFT_OUT,
    RELEASED,
    WAITING,
    Level,
    LogEvent,
)
from quietcount_consumers.monitoring.log_output import MOST_LINES, LogOutput
from quietcount_consumers.monitoring_settings import LogFormat

pytestmark = pytest.mark.quick

NOON = dt.datetime(2023, 5, 1, 12, tzinfo=dt.UTC)
RELEASE = RELEASED.at(NOON, statistic="requests", period_start=dt.date(2023, 1, 1), period_end=dt.date(2023, 3, 31))


class Stream(io.StringIO):
    """Notes each write, may be a terminal, and may refuse."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self.terminal, self.writes, self.full = terminal, list[str](), False

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        self.writes.append(text)
        return super().write(text)


def test_what_is_said_is_written_at_the_flush_and_all_at_once() -> None:
    stream = Stream()
    log = LogOutput(stream)
    log.say(WAITING.at(NOON, meaning="no answer"))
    log.say(RELEASE)
    assert stream.writes == []
    log.flush()
    assert len(stream.writes) == 1
    assert len(stream.getvalue().splitlines()) == 2
    log.flush()
    assert len(stream.writes) == 1, "nothing said, nothing written"


def test_an_event_in_json_is_one_object_with_the_tick_and_no_other_time() -> None:
    stream = Stream()
    log = LogOutput(stream, LogFormat.JSON)
    log.say(RELEASE)
    log.say(HALTED.at(NOON, meaning="entry missing\nin a line of its own"))
    log.flush()
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert list(first.items()) == [
        ("tick", "2023-05-01T12:00:00+00:00"),
        ("level", "info"),
        ("event", "released"),
        ("statistic", "requests"),
        ("period_start", "2023-01-01"),
        ("period_end", "2023-03-31"),
    ]
    assert second["meaning"] == "entry missing\nin a line of its own"


def test_for_people_it_is_a_line_that_nothing_in_it_can_break() -> None:
    stream = Stream()
    log = LogOutput(stream, LogFormat.CONSOLE)
    log.say(WAITING.at(NOON, meaning="no\nanswer\x1b[2J \u202e é"))
    log.flush()
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("2023-05-01T12:00:00+00:00 [warning] waiting")
    assert "no answer [2J" in line
    assert line.isprintable()


def test_for_people_names_and_values_stand_in_columns_and_in_colours_at_a_terminal() -> None:
    lines = []
    for terminal in (False, True):
        stream = Stream(terminal=terminal)
        log = LogOutput(stream, LogFormat.CONSOLE)
        log.say(RELEASE)
        log.say(GOING_ON.at(NOON))
        log.flush()
        lines.append(stream.getvalue().splitlines())
    plain, coloured = lines
    assert re.fullmatch(
        r"2023-05-01T12:00:00\+00:00 \[info   \] released +"
        r" statistic=requests period_start=2023-01-01 period_end=2023-03-31",
        plain[0],
    )
    assert plain[1] == "2023-05-01T12:00:00+00:00 [info   ] going on"
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in coloured] == plain
    assert all(line.count("\x1b[0m") == len(re.findall(r"\x1b\[[1-9]", line)) for line in coloured), "no colour runs on"


def test_in_json_the_bytes_are_fixed() -> None:
    """Programs read them: any change of a byte is one that a person must want."""
    stream = Stream()
    log = LogOutput(stream, LogFormat.JSON)
    log.say(WAITING.at(NOON, meaning="no answer from b\u00fccher"))
    log.flush()
    assert stream.getvalue() == (
        '{"tick": "2023-05-01T12:00:00+00:00", "level": "warning", "event": "waiting", '
        '"meaning": "no answer from b\\u00fccher"}\n'
    )


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("form", LogFormat)
def test_auto_is_for_people_at_a_terminal_and_json_in_a_pipe(form: LogFormat, terminal: bool) -> None:
    stream = Stream(terminal=terminal)
    log = LogOutput(stream, form)
    log.say(RELEASE)
    log.flush()
    as_json = form is LogFormat.JSON or (form is LogFormat.AUTO and not terminal)
    assert stream.getvalue().startswith("{") is as_json
    assert ("\x1b[" in stream.getvalue()) is (terminal and not as_json), "colours are for a terminal"


def test_another_form_holds_from_the_next_flush_on() -> None:
    stream = Stream()
    log = LogOutput(stream, LogFormat.CONSOLE)
    log.say(RELEASE)
    log.use(LogFormat.JSON)
    log.flush()
    assert stream.getvalue().startswith("{")


def test_less_than_a_level_is_dropped() -> None:
    stream = Stream()
    with LogOutput(stream, least=Level.WARNING) as log:
        log.say(RELEASE)
        log.say(WAITING.at(NOON, meaning="no answer"))
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["waiting"]


def test_what_is_left_is_written_before_an_error_that_ends_the_process() -> None:
    stream = Stream()
    with pytest.raises(ValueError, match="the end"), LogOutput(stream) as log:  # noqa: PT012
        log.say(RELEASE)
        raise ValueError("the end")
    assert "released" in stream.getvalue()


def test_what_is_kept_is_bounded_and_a_line_says_that_some_are_missing() -> None:
    stream = Stream()
    log = LogOutput(stream)
    for _ in range(MOST_LINES + 50):
        log.say(GOING_ON.at(NOON))
    log.flush()
    lines = stream.getvalue().splitlines()
    assert len(lines) == MOST_LINES + 1
    assert json.loads(lines[-1])["event"] == LINES_LEFT_OUT.name
    log.say(GOING_ON.at(NOON))
    log.flush()
    assert json.loads(stream.getvalue().splitlines()[-1])["event"] == "going on"


def test_a_stream_that_cannot_be_written_ends_nothing() -> None:
    stream = Stream()
    log = LogOutput(stream)
    stream.full = True
    log.say(RELEASE)
    log.flush()
    stream.full = False
    log.say(GOING_ON.at(NOON))
    log.flush()
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["going on"]


def test_threads_say_without_losing_a_line() -> None:
    stream = Stream()
    log = LogOutput(stream)

    def say() -> None:
        for _ in range(500):
            log.say(RELEASE)

    threads = [threading.Thread(target=say) for _ in range(4)]
    for thread in threads:
        thread.start()
    log.flush()
    for thread in threads:
        thread.join()
    log.flush()
    assert len(stream.getvalue().splitlines()) == 2000


def test_a_destructor_may_say_something_while_lines_are_written() -> None:
    class Late(Stream):
        def write(self, text: str) -> int:
            log.say(GOING_ON.at(NOON))
            return super().write(text)

    log: LogOutput = LogOutput(Late())
    log.say(RELEASE)
    log.flush()


@pytest.mark.parametrize("name", ["kafka.conn", "uvicorn.error", "asyncio", "anything"])
def test_what_libraries_log_goes_nowhere(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own
    with LogOutput(sys.stderr):
        logging.getLogger(name).error("0123456789abcdef")
    assert capfd.readouterr().err == ""
    if name == "anything":
        logging.getLogger(name).error("without the output Python writes it")
        assert "Python writes it" in capfd.readouterr().err


def test_the_tick_is_that_of_the_event_whatever_the_clock_says() -> None:
    stream = Stream()
    log = LogOutput(stream)
    said: list[LogEvent] = [RELEASE, GOING_ON.at(NOON + dt.timedelta(minutes=1))]
    for event in said:
        log.say(event)
    log.flush()
    assert [json.loads(line)["tick"] for line in stream.getvalue().splitlines()] == [
        event.tick.isoformat() for event in said
    ]
