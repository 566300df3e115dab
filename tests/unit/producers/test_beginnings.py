"""What `emit` says of events that count nowhere, by the configuration at hand, to the person who emits them."""

from __future__ import annotations

import datetime as dt
import inspect
import json
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from tests.unit.producers.emissions import Place, place, said

from quietcount_consumers import Configuration
from quietcount_consumers.configuration import beginning_after
from quietcount_producers import EmitterSettings
from quietcount_producers.commands import emit
from quietcount_producers.composing import beginnings
from quietcount_producers.composing.beginnings import Beginning
from quietcount_producers.files.emission import Check
from quietcount_schemas.configuration import read_configuration
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

__all__ = ["place"]  # fixtures, which tests ask for by name

REGISTRY = SchemaRegistry.load()
TODAY = dt.date(2024, 1, 20)
Module = types.ModuleType


def population(period: str = "month", since: str = "", events: str = "HelpRequested") -> str:
    begins = f"since = {since}\n" if since else ""
    return f'[[population]]\nevents = ["{events}"]\nperiod = "{period}"\n{begins}'


def notes(folder: Path, text: str, earliest: Mapping[str, str], module: Module = beginnings) -> list[str]:
    """Return what is said of events with these earliest dates under this configuration."""
    config = folder / "quietcount.toml"
    config.write_text(text)
    found = module.beginnings_of(read_configuration(config, {}).values["population"])
    days = {name: dt.date.fromisoformat(day) for name, day in earliest.items()}
    lines: Iterator[str] = module.counted_nowhere(days, found, REGISTRY, TODAY)
    return list(lines)


# ---------------------------------------------------------------- what is said, and when

APRIL = "dated before 2023-04-01 count nowhere"
UNKNOWN = "no `since`"
NEVER = "no population counts such events"
TRIALS: dict[str, tuple[str, Mapping[str, str], list[str]]] = {
    "no population at all": ("", {"HelpRequested": "2020-01-01"}, []),
    "from the first day on": (population(since="2023-04-01"), {"HelpRequested": "2023-04-01"}, []),
    "before the first day": (population(since="2023-04-01"), {"HelpRequested": "2023-03-31"}, [APRIL]),
    "the period of `since` is whole": (population(since="2023-04-20"), {"HelpRequested": "2023-04-01"}, []),
    "before the period of `since`": (population(since="2023-04-20"), {"HelpRequested": "2023-03-31"}, [APRIL]),
    "the earliest of two counts": (
        population(since="2023-04-01") + population(since="2023-07-01"),
        {"HelpRequested": "2023-06-30"},
        [],
    ),
    "the coarser period begins earlier": (
        population(since="2023-05-20") + population("quarter", since="2023-05-20"),
        {"HelpRequested": "2023-03-31"},
        [APRIL],
    ),
    "no since, and history": (population(), {"HelpRequested": "2023-10-01"}, [UNKNOWN]),
    "no since, and no history": (population(), {"HelpRequested": "2023-11-01"}, []),
    "one since of two, and history": (
        population(since="2023-04-01") + population(),
        {"HelpRequested": "2023-03-01"},
        [UNKNOWN],
    ),
    "one since of two, which counts it": (
        population(since="2023-04-01") + population(),
        {"HelpRequested": "2023-04-01"},
        [],
    ),
    "a type that nobody counts": (population(), {"OutcomeRecorded": "2024-01-01"}, [NEVER]),
    "a withdrawal": (population(since="2023-04-01"), {"CaseWithdrawn": "2020-01-01"}, []),
    "a line for each reason": (
        population(since="2023-04-01") + population(events="SentencePassed"),
        {"HelpRequested": "2023-01-01", "SentencePassed": "2023-01-01", "OutcomeRecorded": "2023-01-01"},
        [NEVER, APRIL, UNKNOWN],
    ),
    "one line for types that begin together": (
        population(since="2023-04-01") + population(since="2023-04-01", events="SentencePassed"),
        {"HelpRequested": "2023-01-01", "SentencePassed": "2023-01-01"},
        [APRIL],
    ),
}


def check_said(folder: Path, module: Module = beginnings) -> None:
    for what, (text, earliest, expected) in TRIALS.items():
        found = notes(folder, text, earliest, module)
        assert len(found) == len(expected), f"{what}: {found}"
        for line, part in zip(found, expected, strict=True):
            assert part in line, f"{what}: {line}"


def test_what_counts_nowhere_is_said_and_nothing_else(tmp_path: Path) -> None:
    check_said(tmp_path)


def test_each_line_names_the_events_and_the_way_out(tmp_path: Path) -> None:
    text, earliest, _ = TRIALS["a line for each reason"]
    for line, name in zip(
        notes(tmp_path, text, earliest), ("OutcomeRecorded", "HelpRequested", "SentencePassed"), strict=True
    ):
        assert line.startswith(f"Note: {name}: ")
        assert line.endswith(": docs/configuration.md")
        assert "\n" not in line
    together, both, _ = TRIALS["one line for types that begin together"]
    (line,) = notes(tmp_path, together, both)
    assert line.startswith("Note: HelpRequested, SentencePassed: ")


@pytest.mark.parametrize("period", ["day", "week", "month", "quarter", "year"])
def test_the_emitter_and_the_service_begin_on_the_same_day(tmp_path: Path, period: str) -> None:
    """The service's own reading of the same file, whatever day of the period somebody wrote."""
    config = tmp_path / "quietcount.toml"
    for day in (dt.date(2023, 5, 1), dt.date(2023, 5, 17), dt.date(2023, 12, 31)):
        table = '[[population.table]]\nname = "asked"\nepsilon = 0.5\n'
        text = population(period, str(day)).replace("\n", '\nname = "people"\n', 1) + table
        config.write_text(f"lifetime_epsilon = 1\n{text}")
        (counted,) = Configuration.load(config, {}).populations(REGISTRY)
        assert EmitterSettings.load(config, {}).beginnings == {"HelpRequested": Beginning(counted.first_day, False)}
    config.write_text(config.read_text().replace("since = ", "# since = "))
    (counted,) = Configuration.load(config, {}).populations(REGISTRY)
    assert beginning_after(counted, TODAY).first_day > TODAY, "it begins after its declaration"
    assert EmitterSettings.load(config, {}).beginnings == {"HelpRequested": Beginning(None, True)}


# ---------------------------------------------------------------- at the terminal

OLD = {"event": "HelpRequested", "case": "Nobody-may-read-this", "occurred_on": "2022-12-31"}


def emitted(place: Place, *lines: Mapping[str, Any], options: tuple[str, ...] = ()) -> Result:
    return place.emit("".join(json.dumps(each) + "\n" for each in lines), *options)


def check_emitted(place: Place, options: tuple[str, ...]) -> None:
    young = OLD | {"occurred_on": "2023-01-01"}
    result = emitted(place, young, OLD, young, options=options)
    assert result.exit_code == 0, said(result)
    assert ("HelpRequested" in result.stdout) is (options == ("--dry-run",))
    note, last = ["it is not said", *result.stderr.splitlines()][-2:]
    assert note.startswith("Note: HelpRequested: events dated before 2023-01-01 count nowhere")
    assert last.endswith("Nothing was sent." if options == ("--dry-run",) else "every line is in the log.")
    assert len(place.events()) == (0 if options == ("--dry-run",) else 3)


OPTIONS = pytest.mark.parametrize("options", [(), ("--dry-run",), ("--skip-bad",)])


@OPTIONS
def test_emit_says_it_in_a_line_and_sends_what_it_would_send(place: Place, options: tuple[str, ...]) -> None:
    check_emitted(place, options)


def test_emit_says_nothing_if_all_may_count_and_never_how_many_do_not(place: Place) -> None:
    young = OLD | {"occurred_on": "2023-01-01"}
    assert "Note" not in emitted(place, young).stderr
    one, many = emitted(place, OLD), emitted(place, *[OLD] * 5, young, *[young | {"case": "b"}] * 3)
    # The file is said to hold nine events, and not how many of them count nowhere.
    assert one.stderr == many.stderr.replace("9 events", "1 event")
    assert OLD["case"] not in one.stderr


def test_a_line_that_is_not_sent_brings_no_note(place: Place) -> None:
    bad = OLD | {"region": "MOON"}
    result = emitted(place, bad, OLD | {"occurred_on": "2023-02-01"}, options=("--skip-bad",))
    assert result.exit_code == 0, said(result)
    assert "Note" not in result.stderr
    assert "Note" not in emitted(place, bad, OLD).stderr, "nothing is sent, so only the mistake is shown"


def check_dry_run(place: Place) -> None:
    result = emitted(place, OLD | {"region": "MOON"}, OLD, options=("--dry-run",))
    assert result.exit_code == 1, said(result)
    mistake, note, *rest = result.stderr.splitlines()
    assert "line 1: region: must be one of" in mistake
    assert note.startswith("Note: HelpRequested: events dated before 2023-01-01 count nowhere"), "it is not said"
    assert rest == []
    bad_only = emitted(place, OLD | {"region": "MOON"}, options=("--dry-run",))
    assert "Note" not in bad_only.stderr, "only what could be sent is looked at"


def test_a_dry_run_says_it_beside_the_mistakes_so_that_a_file_is_mended_once(place: Place) -> None:
    check_dry_run(place)


def test_a_dry_run_that_shows_the_mistakes_alone_is_found(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    real = emit._note

    def late(found: list[Check], *others: Any) -> None:
        if not any(each.problems for each in found):
            real(found, *others)

    monkeypatch.setattr(emit, "_note", late)
    with pytest.raises(ValueError, match="not enough values"):
        check_dry_run(place)


# ---------------------------------------------------------------- mutants


def faulty(right: str, wrong: str) -> Module:
    """Return the module with one piece of its source replaced."""
    source = inspect.getsource(beginnings)
    assert source.count(right) == 1, f"the module no longer has exactly one {right!r}: adapt this mutant"
    module = types.ModuleType("faulty_beginnings")
    module.__dict__["__name__"] = beginnings.__name__  # a dataclass looks its module up by name while it is made
    exec(compile(source.replace(right, wrong), "faulty_beginnings.py", "exec"), module.__dict__)  # noqa: S102
    return module


@pytest.mark.parametrize(
    "right, wrong, found_by",
    [
        pytest.param("if not beginnings:", "if False:", "no population at all", id="no populations"),
        pytest.param('population["period"].start(since)', "since", "the period of", id="since, and not its period"),
        pytest.param("min((day for", "max((day for", "the earliest of two", id="the latest population"),
        pytest.param("day >= found.day", "day > found.day", "from the first day", id="the first day itself"),
        pytest.param("is Role.WITHDRAWAL", "is None", "a withdrawal", id="a withdrawal"),
        pytest.param("if not found.unknown and", "if", "one since of two, and", id="certain of what nobody knows"),
        pytest.param("elif day < today - _HISTORY:", "else:", "no since, and no history", id="late and not history"),
        pytest.param("unnamed.append(name)", "continue", "a type that nobody counts", id="a type that nobody counts"),
    ],
)
def test_a_note_that_is_wrong_or_missing_is_found(right: str, wrong: str, found_by: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=f"^{found_by}"):
        check_said(tmp_path, faulty(right, wrong))


@OPTIONS
def test_a_command_that_keeps_it_to_itself_is_found(
    place: Place, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quietcount_producers.commands.emit._note", lambda *_: None)
    with pytest.raises(AssertionError, match="it is not said"):
        check_emitted(place, options)
