"""The catalogue of log events: closed, documented, used; and nothing in it can hold a number."""

from __future__ import annotations

import ast
import datetime as dt
import io
import re
from pathlib import Path

import pytest

from quietcount_consumers import service
from quietcount_consumers.monitoring import log_events
from quietcount_consumers.monitoring.log_events import CATALOGUE, GOING_ON, RELEASED, WAITING, EventKind, Level
from quietcount_consumers.monitoring.log_output import LogOutput

pytestmark = pytest.mark.quick

NOON = dt.datetime(2023, 5, 1, 12, tzinfo=dt.UTC)
PACKAGE = Path(service.__file__).parent

BATCH_FOLDED = EventKind("batch folded", Level.INFO, ("records",), "A batch was folded.", "nothing")
"""The mutant: how much there was to fold."""


def trees() -> dict[str, ast.Module]:
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


@pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.name)
def test_a_kind_has_a_name_of_words_and_says_what_it_means_and_what_to_do(kind: EventKind) -> None:
    assert re.fullmatch(r"[a-z]+( [a-z]+)*", kind.name)
    assert kind.meaning.endswith(".")
    assert kind.todo
    assert not kind.todo.endswith(".")


@pytest.mark.parametrize("value", [739, 0.5, True, None, b"739"])
def test_a_number_is_refused_in_every_field(value: object) -> None:
    for kind in CATALOGUE:
        for name in kind.fields:
            fields = dict.fromkeys(kind.fields, "text") | {name: value}
            with pytest.raises(TypeError, match=f"{name} of `{kind.name}` is neither text nor a date"):
                kind.at(NOON, **fields)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_what_the_catalogue_does_not_have_is_not_said_even_in_words() -> None:
    """The mutant puts its number into a text, which no type refuses."""
    output = LogOutput(io.StringIO())
    with pytest.raises(TypeError, match="catalogue"):
        output.say(BATCH_FOLDED.at(NOON, records="739"))
    output.say(GOING_ON.at(NOON))


def test_an_event_takes_its_own_fields_alone_and_all_of_them() -> None:
    with pytest.raises(TypeError, match="fields of `going on`"):
        GOING_ON.at(NOON, records="739")
    with pytest.raises(TypeError, match="fields of `waiting`"):
        WAITING.at(NOON)


def test_every_kind_is_in_the_catalogue_once() -> None:
    defined = [each for each in vars(log_events).values() if isinstance(each, EventKind)]
    assert list(CATALOGUE) == defined
    assert len({kind.name for kind in CATALOGUE}) == len(CATALOGUE)


def test_the_catalogue_is_the_table_of_the_documentation(root: Path) -> None:
    head = "| event | level | fields | what it means | what to do |\n"
    pages = [root / "consumers" / "README.md", root / "docs" / "monitoring.md"]
    texts = [page.read_text(encoding="utf-8") for page in pages if page.exists()]
    (text,) = [text for text in texts if head in text]
    documented = text.partition(head)[2].partition("\n\n")[0].splitlines()[1:]
    assert documented == [
        f"| `{kind.name}` | {kind.level.value} | {', '.join(f'`{name}`' for name in kind.fields) or '–'} "
        f"| {kind.meaning} | {kind.todo} |"
        for kind in CATALOGUE
    ]


def test_every_kind_is_said_somewhere_and_each_time_with_its_own_fields() -> None:
    kinds = {name: each for name, each in vars(log_events).items() if isinstance(each, EventKind)}
    said: dict[str, list[set[str | None]]] = {}
    for tree in trees().values():
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="at")) if name in kinds:
                    said.setdefault(name, []).append({each.arg for each in node.keywords})
                case _:
                    pass
    assert set(said) == set(kinds)
    assert [name for name, each in said.items() if any(fields != set(kinds[name].fields) for fields in each)] == []


def test_nothing_is_said_past_the_catalogue() -> None:
    """No module but the output writes to stderr, logs or warns; commands tell a person by click alone."""
    said: set[tuple[str, str]] = set()
    for name, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                said |= {(name, each.name) for each in node.names if each.name in ("logging", "warnings")}
            if isinstance(node, ast.ImportFrom) and node.module in ("logging", "warnings"):
                said.add((name, node.module))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                said.add((name, "print"))
            if isinstance(node, ast.Attribute) and node.attr in ("stderr", "__stderr__"):
                said.add((name, "stderr"))
    # `run`, `release` and `declare` hand their stderr to the output.
    handed = {(f"commands/{name}.py", "stderr") for name in ("service", "declare")}
    assert said - handed == {("monitoring/log_output.py", "logging")}


def test_what_is_released_is_said_by_statistic_and_days() -> None:
    event = RELEASED.at(NOON, statistic="requests", period_start=dt.date(2023, 1, 1), period_end=dt.date(2023, 3, 31))
    assert event.own_fields() == {
        "statistic": "requests",
        "period_start": "2023-01-01",
        "period_end": "2023-03-31",
    }
