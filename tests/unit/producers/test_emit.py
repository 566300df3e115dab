"""`quietcount emit`: what is sent, what a dry run and a bad line change, and what an interruption leaves."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
from tests.unit.producers.emissions import GOOD, HEADER, NAME, Place, line, place, said

from quietcount_producers import EmbeddedLog
from quietcount_producers.errors import LogError
from quietcount_producers.files import bad_lines
from quietcount_producers.files import emission as emission_module
from quietcount_schemas.cli import main
from quietcount_schemas.codec import Codec
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

__all__ = ["place"]  # fixtures, which tests ask for by name


def test_a_good_file_is_emitted_coarsened_and_named_in_one_last_line(place: Place) -> None:
    result = place.emit(line() + "\n" + line(case="b", occurred_on="2023-11-30"))
    assert result.exit_code == 0, said(result)
    assert result.stderr.endswith("cases.jsonl: 2 events; every line is in the log.\n")
    assert result.stdout == ""
    assert [str(event.occurred_on) for event in place.events()] == ["2023-10-01", "2023-11-01"]


def test_csv_and_jsonl_of_the_same_facts_have_the_same_ids(place: Place) -> None:
    place.emit(line() + line() + line(region="URAL") + line(case="b"))
    first = [event.event_id for event in place.events()]
    assert len(set(first)) == 4
    text = (
        "\ufeffoccurred_on,region,case,event,service_category,event_id,revision\r\n"
        f"2023-10-03,,{NAME},HelpRequested,MOBILISED,,\r\n\r\n"
        f'2023-10-03,UNKNOWN," {NAME} ",HelpRequested,MOBILISED,,0\r\n'
        f'2023-10-03,"URAL",{NAME},HelpRequested, MOBILISED ,,\r\n'
        "2023-10-03,,b,HelpRequested,MOBILISED,,\r\n,,,,,,\r\n"
    )
    assert place.emit(text, name="cases.csv").exit_code == 0
    assert [event.event_id for event in place.events()][4:] == first


@pytest.mark.parametrize("between", [";", "\t"])
def test_a_spreadsheet_may_write_semicolons_or_tabs_between_columns(place: Place, between: str) -> None:
    rows = [
        ["event", "case", "occurred_on", '"service_category"'],
        ["HelpRequested", '"a;b,c d"', "2023-10-03", "MOBILISED"],
        ["HelpRequested", "b", "2023-10-03", "SOLDIER"],
    ]
    text = "\ufeff\r\n" + "".join(between.join(row) + "\r\n" for row in rows)
    result = place.emit(text, "--skip-bad", name="cases.csv")
    assert "cases.csv line 4: service_category: must be one of" in result.stderr
    (event,) = place.events()
    place.emit(line(case="a;b,c d"))
    assert place.events()[1] == event
    # The bad line is written as any other, and can be mended and emitted.
    kept = (place.folder / "cases.csv.bad.csv").read_text(encoding="utf-8")
    assert place.emit(kept.replace("SOLDIER", "MOBILISED"), name="mended.csv").exit_code == 0
    assert len(place.events()) == 3


def test_two_days_that_are_coarsened_to_one_are_two_events_in_one_file_and_one_in_two_files(place: Place) -> None:
    place.emit(line() + line(occurred_on="2023-10-04"))
    events = place.events()
    assert events[0].occurred_on == events[1].occurred_on
    assert events[0].event_id != events[1].event_id
    place.emit(line(occurred_on="2023-10-05"), name="later.jsonl")
    assert place.events()[2] == events[0]


def test_an_own_id_and_a_revision_are_kept(place: Place) -> None:
    identity = "35634c09-e5ef-48a7-ba44-95f0feff2761"
    assert place.emit(line(event_id=identity, revision=3)).exit_code == 0
    (event,) = place.events()
    assert (event.event_id.hex(), event.revision) == (identity.replace("-", ""), 3)


def test_an_empty_file_is_no_mistake(place: Place) -> None:
    for name, content in (("a.jsonl", ""), ("b.jsonl", "\n\n"), ("c.csv", HEADER)):
        result = place.emit(content, name=name)
        assert result.exit_code == 0
        assert "holds no events" in result.stderr


def test_a_dry_run_sends_and_makes_nothing(place: Place) -> None:
    result = place.emit(line(), "--dry-run")
    assert result.exit_code == 0
    assert "every line is good. Nothing was sent." in result.stderr
    assert not (place.folder / "data").exists()
    assert place.emit(line(region="MOON"), "--dry-run").exit_code == 1


def test_skip_bad_sends_the_good_and_writes_the_bad_beside_so_that_they_can_be_mended(place: Place) -> None:
    rows = [f"HelpRequested,{n},2023-10-0{n},{s}" for n, s in ((1, "MOBILISED"), (2, "MOBILISD"), (3, "CONTRACT"))]
    result = place.emit(HEADER + "\n".join([*rows, "HelpRequested,4", ""]), "--skip-bad", name="cases.csv")
    assert result.exit_code == 0, said(result)
    bad = place.folder / "cases.csv.bad.csv"
    assert f"every good line is in the log. The bad ones are in {bad}" in result.stderr
    assert stat.S_IMODE(bad.stat().st_mode) == 0o600
    table = list(csv.DictReader(io.StringIO(bad.read_text())))
    assert [each["line"] for each in table] == ["3", "5"]
    assert table[0]["case"] == "2"
    assert table[0]["reason"].startswith("service_category: must be one of")
    assert table[1]["original"] == "HelpRequested,4"
    assert len(place.events()) == 2
    mended = bad.read_text().replace("MOBILISD", "MOBILISED").splitlines(keepends=True)[:2]
    assert place.emit("".join(mended), name="mended.csv").exit_code == 0
    whole = Place.emit(place, HEADER + "\n".join([*rows[:1], rows[1].replace("ISD", "ISED"), rows[2]]), name="all.csv")
    assert whole.exit_code == 0
    assert len({event.event_id for event in place.events()}) == 3


def test_skip_bad_of_jsonl_keeps_keys_and_what_could_not_be_read(place: Place) -> None:
    result = place.emit(line() + line(region="MOON") + "{nonsense\n", "--skip-bad")
    assert result.exit_code == 0
    bad = [json.loads(each) for each in (place.folder / "cases.jsonl.bad.jsonl").read_text().splitlines()]
    assert bad[0] == {**GOOD, "region": "MOON", "line": 2, "reason": bad[0]["reason"]}
    assert (bad[1]["line"], bad[1]["original"]) == (3, "{nonsense")


def check_unmended(place: Place) -> None:
    """A bad line that could not be read is emitted again as it is: it keeps its original and the reason of then."""
    for name, content in (
        ("cases.jsonl", line() + "{nonsense\n"),
        ("cases.csv", HEADER + f"HelpRequested,{NAME},2023-10-03,\nHelpRequested,4\n"),
    ):
        assert place.emit(content, "--skip-bad", name=name).exit_code == 0
        bad = place.folder / f"{name}.bad{Path(name).suffix}"
        again = said(place.run(str(bad), "--skip-bad"))
        assert "is a bad line that nobody has mended yet; put the event that `original` stands for" in again
        assert "is missing" not in again
        twice = bad.with_name(f"{bad.name}.bad{bad.suffix}").read_text()
        number = "3" if bad.suffix == ".csv" else "2"
        first = "2" if bad.suffix == ".csv" else "1"
        assert twice.replace(first, number, 1) == bad.read_text(), "the original is lost"


def test_a_bad_line_that_nobody_has_mended_keeps_its_original_and_its_reason(place: Place) -> None:
    check_unmended(place)


def test_a_twin_that_takes_it_for_an_event_is_found(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (emission_module, bad_lines):
        monkeypatch.setattr(module, "is_not_mended", lambda _: False)
    with pytest.raises(AssertionError):
        check_unmended(place)


def test_more_than_one_reason_for_a_line_is_numbered(place: Place) -> None:
    place.emit(line(case="", region="MOON") + line(), "--skip-bad")
    reason = json.loads((place.folder / "cases.jsonl.bad.jsonl").read_text())["reason"]
    assert re.fullmatch(r"\(1\) case: .* \(2\) region: must be one of .*", reason)


def check_another_day(place: Place) -> None:
    """The same file is emitted the day after: the reason names another latest date, and that stops nothing."""
    for name, content in (
        ("cases.jsonl", line() + line(occurred_on="2098-01-01")),
        ("cases.csv", HEADER + f"HelpRequested,{NAME},2023-10-03,\nHelpRequested,{NAME},2098-01-01,\n"),
    ):
        assert place.emit(content, "--skip-bad", name=name).exit_code == 0
        bad = place.folder / f"{name}.bad{Path(name).suffix}"
        today = bad.read_text()
        bad.write_text(re.sub(r"taken is \S+,", "taken is 2026-01-01,", today))
        assert bad.read_text() != today
        assert place.emit(content, "--skip-bad", name=name).exit_code == 0, "it is refused"
        assert bad.read_text() == today
        for mended in (
            today.replace("2098", "2008"),
            today + today,
            today.replace("reason", "region", 1),
            today.replace("2098-01-01", "[", 1),
            "[1]\n",
            "",
        ):
            bad.write_text(mended)
            assert "is there already" in said(place.emit(content, "--skip-bad", name=name)), "what was mended is lost"
            assert bad.read_text() == mended
        bad.unlink()


def test_a_bad_file_that_differs_in_its_reasons_alone_is_replaced(place: Place) -> None:
    check_another_day(place)


@pytest.mark.parametrize(
    "equal, found", [(lambda *_: False, "it is refused"), (lambda *_: True, "what was mended is lost")]
)
def test_a_twin_that_compares_otherwise_is_found(
    place: Place, equal: Callable[..., bool], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bad_lines.BadLines, "_holds_the_same", equal)
    with pytest.raises(AssertionError, match=found):
        check_another_day(place)


def test_skip_bad_without_one_good_line_is_refused(place: Place) -> None:
    result = place.emit(line(region="MOON"), "--skip-bad")
    assert result.exit_code == 1
    bad = place.folder / "cases.jsonl.bad.jsonl"
    assert f"{place.folder / 'cases.jsonl'} has no good line; nothing was sent. Mend the lines: {bad} has them" in said(
        result
    )
    assert json.loads(bad.read_text())["line"] == 1
    assert place.events() == []


def test_a_bad_file_that_somebody_may_be_mending_is_not_replaced(place: Place) -> None:
    bad = place.folder / "cases.jsonl.bad.jsonl"
    content = line() + line(region="MOON")
    assert place.emit(content, "--skip-bad").exit_code == 0
    before = bad.read_bytes()
    assert place.emit(content, "--skip-bad").exit_code == 0  # the same again is no loss
    bad.write_bytes(before.replace(b"MOON", b"URAL"))
    events = len(place.events())
    result = place.emit(line(case="more") + line(region="MOON"), "--skip-bad")
    assert result.exit_code == 1
    assert "is there already" in said(result)
    assert "--bad-file" in said(result)
    assert b"URAL" in bad.read_bytes()
    assert len(place.events()) == events
    assert not list(place.folder.glob("*.partial"))
    other = str(place.folder / "other")
    assert place.emit(line(case="more") + line(region="MOON"), "--skip-bad", "--bad-file", other).exit_code == 0
    (place.folder / "folder").mkdir()
    assert place.emit(content, "--skip-bad", "--bad-file", str(place.folder / "folder")).exit_code == 2
    fifo = place.folder / "fifo"
    os.mkfifo(fifo)
    assert "is there already" in said(place.emit(content, "--skip-bad", "--bad-file", str(fifo)))


@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--skip-bad",)])
def test_ctrl_c_while_a_file_is_checked_says_that_nothing_was_sent(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    path = place.folder / "cases.jsonl"
    path.write_text(line())
    with monkeypatch.context() as patch:
        patch.setattr("quietcount_producers.commands.emit.check", interrupted)
        with pytest.raises(SystemExit) as ended:
            main(["emit", str(path), *options, "--config", str(place.config)])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "Stopped; nothing was sent.\n"
    assert place.events() == []


def test_ctrl_c_while_the_log_is_opened_says_that_nothing_was_sent(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Brokers that do not answer are waited for."""

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    path = place.folder / "cases.jsonl"
    path.write_text(line())
    monkeypatch.setattr("quietcount_producers.commands.emit.open_log", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["emit", str(path), "--config", str(place.config)])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "Stopped; nothing was sent.\n"


def test_ctrl_c_while_events_are_sent_says_how_to_go_on(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    path = place.folder / "cases.jsonl"
    path.write_text(line())
    monkeypatch.setattr("quietcount_producers.commands.emit.send", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["emit", str(path), "--config", str(place.config)])
    assert ended.value.code == 130
    assert capsys.readouterr().err.startswith("Stopped. Run the same command again")


def test_standard_input_is_jsonl_and_needs_a_place_for_bad_lines(place: Place) -> None:
    assert place.run("-", stdin=line().encode()).exit_code == 0
    assert len(place.events()) == 1
    assert place.run("-", "--skip-bad", stdin=b"").exit_code == 2
    bad = place.folder / "bad"
    both = (line(case="b") + line(region="MOON")).encode()
    assert place.run("-", "--skip-bad", "--bad-file", str(bad), stdin=both).exit_code == 0
    assert json.loads(bad.read_text())["line"] == 2
    text = HEADER + "HelpRequested,c,2023-10-03,MOBILISED\n"
    assert place.run("-", "--format", "csv", stdin=text.encode()).exit_code == 0
    assert len(place.events()) == 3


def test_usage_errors_exit_2_and_others_1(place: Place) -> None:
    assert place.emit(line(), "--bad-file", "b").exit_code == 2
    assert place.emit(line(), "--format", "xml").exit_code == 2
    assert "Give --format" in said(place.emit(line(), name="cases.txt"))
    assert "Cannot read" in said(place.run(str(place.folder / "absent.csv")))
    assert "Cannot read" in said(place.run(str(place.folder), "--format", "csv"))


def test_a_bad_file_that_is_the_input_or_cannot_be_written_is_refused(place: Place) -> None:
    same = str(place.folder / "cases.jsonl")
    assert "is the file to be emitted" in said(place.emit(line(), "--skip-bad", "--bad-file", same))
    nowhere = str(place.folder / "absent" / "bad")
    result = place.emit(line() + line(region="MOON"), "--skip-bad", "--bad-file", nowhere)
    assert "Name another file with --bad-file" in said(result)
    assert place.events() == []


def test_a_file_that_changes_while_it_is_read_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place.folder / "cases.jsonl"
    real = emission_module._Rows.made

    def meddling(*arguments: object) -> object:
        with path.open("a") as file:
            file.write("\n")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(emission_module._Rows, "made", meddling)
    result = place.emit(line())
    assert "changed while it was read; nothing was sent" in said(result)
    assert place.events() == []


def _failing(after: int, error: BaseException) -> Callable[..., object]:
    real = EmbeddedLog.append
    calls = iter(range(10**6))

    def append(self: EmbeddedLog, *arguments: object) -> object:
        if next(calls) >= after:
            raise error
        return real(self, *arguments)  # type: ignore[arg-type]

    return append


@pytest.mark.parametrize("error, code", [(LogError("No space is left."), 1), (KeyboardInterrupt(), 130)])
def test_what_stops_midway_is_completed_by_running_again(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    content = "".join(line(case=str(number)) for number in range(2500))
    with monkeypatch.context() as patch:
        patch.setattr(EmbeddedLog, "append", _failing(1, error))
        result = place.emit(content)
        assert result.exit_code == code
        shown = result.output + str(result.exception)
        assert "Run the same command again" in shown or "emit the same file again" in shown
    assert len(place.events()) == 1000
    assert place.emit(content).exit_code == 0
    events = place.events()
    assert len(events) == 3500
    assert len({event.event_id for event in events}) == 2500
    assert [each.name for each in (place.folder / "data" / "private" / "store").iterdir()] == ["log.sqlite"]


def test_an_event_type_of_ones_own_is_emitted_without_code(place: Place) -> None:
    """A folder of schemas adds an event type: its enums, booleans, numbers and dates are checked in both formats."""
    source = Path(str(resources.files("quietcount_schemas"))) / "casework" / "HelpRequested" / "1.avsc"
    schema = json.loads(source.read_text())
    schema |= {"name": "MealServed", "namespace": "kitchen"}
    schema["fields"] = [
        *schema["fields"][:4],
        {"name": "vegetarian", "type": "boolean", "default": False, "doc": "Without meat."},
        {
            "name": "people",
            "type": {"type": "int", "minimum": 1, "maximum": 20},
            "default": 1,
            "doc": "How many.",
        },
    ]
    folder = place.folder / "kitchen" / "MealServed"
    folder.mkdir(parents=True)
    (folder / "1.avsc").write_text(json.dumps(schema))
    place.config.write_text('schemas = ["kitchen"]\n' + place.config.read_text())
    registry = SchemaRegistry.load((place.folder / "kitchen",))
    header = "event,case,occurred_on,vegetarian,people\n"
    emitted = place.emit(header + "MealServed,a,2023-10-03,TRUE,12\nMealServed,b,2023-10-03,,\n", name="m.csv")
    assert emitted.exit_code == 0
    assert "Note: MealServed: a line without people counts with 1, its default." in emitted.stderr
    meal = {"event": "MealServed", "case": "a", "occurred_on": "2023-10-03", "vegetarian": True, "people": 12}
    emitted = place.emit(json.dumps(meal))
    assert emitted.exit_code == 0
    assert "a line without" not in emitted.stderr
    events = place.events(Codec(registry))
    assert [dict(event.attributes) for event in events] == [
        {"vegetarian": True, "people": 12},
        {"vegetarian": False, "people": 1},
        {"vegetarian": True, "people": 12},
    ]
    assert events[0].event_id == events[2].event_id
    shown = said(
        place.emit(header + "MealServed,a,2023-10-03,perhaps,21\nMealServed,a,2023-10-03,,4.5\n", name="m.csv")
    )
    assert shown.count("vegetarian: must be true or false") == 1
    assert "m.csv lines 2-3: people: must be a whole number from 1 to 20" in shown
    assert "must be a whole number" in said(place.emit(json.dumps({**meal, "people": True})))
