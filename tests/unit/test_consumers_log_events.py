"""The catalogue of log events: closed, documented, used; and nothing in it can hold a number."""

from __future__ import annotations

import ast
import datetime as dt
import io
import re
import typing
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from quietcount_consumers.monitoring import log_events
from quietcount_consumers.monitoring.log_events import CATALOGUE, GoingOn, Level, LogEvent, StatisticReleased, Waiting
from quietcount_consumers.monitoring.log_output import LogOutput

NOON = dt.datetime(2023, 5, 1, 12, tzinfo=dt.UTC)
PACKAGE = Path(log_events.__file__).parent
ALLOWED = {str, dt.date}


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFolded(LogEvent):
    """The mutant: how much there was to fold."""

    name = "batch folded"
    level = Level.INFO
    todo = "nothing"
    records: int


def faults(event: type[LogEvent]) -> list[str]:
    """Return what an event of the catalogue may not have."""
    found = [] if re.fullmatch(r"[a-z]+( [a-z]+)*", event.name) else ["its name has more than words"]
    types = typing.get_type_hints(event, dict(vars(log_events)))
    found += [
        f"{each.name} is a {types[each.name].__name__}"
        for each in fields(event)
        if each.name != "tick" and types[each.name] not in ALLOWED
    ]
    if not (event.__doc__ or "").strip() or not event.todo:
        found.append("it says not what it means or what to do")
    return found


def trees() -> dict[str, ast.Module]:
    return {path.name: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.glob("*.py"))}


@pytest.mark.parametrize("event", CATALOGUE, ids=lambda event: event.name)
def test_an_event_has_words_and_dates_alone(event: type[LogEvent]) -> None:
    assert faults(event) == []


def test_the_size_of_a_batch_is_found_in_an_event_and_refused_in_what_is_said() -> None:
    assert faults(BatchFolded) == ["records is a int"]
    with pytest.raises(TypeError, match="catalogue"):
        LogOutput(io.StringIO()).say(BatchFolded(tick=NOON, records=739))


def test_an_event_takes_its_own_fields_alone() -> None:
    with pytest.raises(TypeError):
        GoingOn(tick=NOON, records=739)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError):
        Waiting(tick=NOON)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


def test_every_event_is_in_the_catalogue_once() -> None:
    defined = {each for each in vars(log_events).values() if isinstance(each, type) and issubclass(each, LogEvent)}
    assert set(CATALOGUE) == defined - {LogEvent}
    assert len({event.name for event in CATALOGUE}) == len(CATALOGUE)


def test_the_catalogue_is_the_table_of_its_page(root: Path) -> None:
    text = (root / "docs" / "monitoring.md").read_text(encoding="utf-8")
    table = text.partition("| event | level | fields | what it means | what to do |\n")[2].partition("\n\n")[0]
    documented = table.splitlines()[1:]
    assert documented == [
        f"| `{event.name}` | {event.level.value} | "
        + (", ".join(f"`{each.name}`" for each in fields(event) if each.name != "tick") or "–")
        + f" | {' '.join((event.__doc__ or '').split())} | {event.todo} |"
        for event in CATALOGUE
    ]


def test_every_event_is_said_somewhere() -> None:
    called = {
        node.func.id
        for name, tree in trees().items()
        if name != "log_events.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert {event.__name__ for event in CATALOGUE} - called == set()


def test_nothing_is_said_past_the_catalogue() -> None:
    """No module but the output writes to stderr, logs or warns; commands tell a person by click alone."""
    said: set[tuple[str, str]] = set()
    for name, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                said |= {(name, each.name) for each in node.names if each.name in ("logging", "structlog", "warnings")}
            if isinstance(node, ast.ImportFrom) and node.module in ("logging", "structlog", "warnings"):
                said.add((name, node.module))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                said.add((name, "print"))
            if isinstance(node, ast.Attribute) and node.attr in ("stderr", "__stderr__"):
                said.add((name, "stderr"))
    assert said - {("commands.py", "stderr")} == {("log_output.py", "logging"), ("log_output.py", "structlog")}


def test_what_is_released_is_said_by_statistic_and_days() -> None:
    event = StatisticReleased(
        tick=NOON, statistic="requests", period_start=dt.date(2023, 1, 1), period_end=dt.date(2023, 3, 31)
    )
    assert event.own_fields() == {
        "statistic": "requests",
        "period_start": "2023-01-01",
        "period_end": "2023-03-31",
    }
