"""Files that are broken at random: whatever stands in them, they are read or refused, and no message shows a cell."""

from __future__ import annotations

import datetime as dt
import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest

from quietcount_producers import Pepper, ProducersError
from quietcount_producers.composing.composition import Composer
from quietcount_producers.files import json_rows
from quietcount_producers.files.bad_lines import BadLines
from quietcount_producers.files.emission import check
from quietcount_producers.files.event_files import FileFormat
from quietcount_producers.files.findings import Tally
from quietcount_producers.mapping import Mapping
from quietcount_schemas.events.periods import Period
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.check

REGISTRY = SchemaRegistry.load()
COMPOSER = Composer(REGISTRY, Pepper(bytes(range(32))), Period.MONTH, lambda: dt.date(2024, 1, 1))
SECRET = "Qzvx"
"""Is in every cell that no message may show."""

COLUMNS = ["event", "case", "occurred_on", "region", "event_id", "revision"]
ROWS = [
    ["HelpRequested", f"{SECRET} 1", "2023-10-03", "URAL", "", ""],
    ["HelpRequested", f'{SECRET}, "two"', "2023-10-04", f"{SECRET}moon", "", ""],
    ["OutcomeRecorded", f"{SECRET}Я", "2023-11-05", "", "35634c09-e5ef-48a7-ba44-95f0feff2761", "1"],
    ["HelpRequested", f"{SECRET} 4", f"{SECRET}day", "VOLGA", "", f"{SECRET}"],
    ["CaseWithdrawn", f"{SECRET} 5", "2023-12-01", "", "", ""],
]
MAPPING = """
source = "form"
case = "case"
record = "case"
ignore = "all others"
[[event]]
event = "HelpRequested"
occurred_on = "occurred_on"
fields = { region = "region" }
"""
PIECES = [
    *(b'"', b",", b";", b"\t", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"\\", b"#", b"'", b"{", b"}"),
    *(b"[", b"]", b":", b"\\u0000", b"\\ud800", b"NaN", b"1e999", b"null", b'""', b"sep=;\n", b"\xe2\x80\xa8", b"-"),
    *(b"event", b"case", b"line,reason,original", b"<", b">", b"&", b"#N/A", b"\xff\xfe", b"9" * 400, b"[" * 3000),
]


def table(between: str) -> bytes:
    quoted = [[f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row] for row in [COLUMNS, *ROWS]]
    return "\n".join(between.join(row) for row in quoted).encode() + b"\n"


def parts() -> dict[str, bytes]:
    made = openpyxl.Workbook()
    sheet = made.active
    assert sheet is not None
    for row in [COLUMNS, *ROWS]:
        sheet.append(row)
    sheet["C2"] = dt.date(2023, 10, 3)
    sheet["F2"] = 1
    file = io.BytesIO()
    made.save(file)
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


OBJECTS = [{name: cell for name, cell in zip(COLUMNS, row, strict=True) if cell} for row in ROWS]
SAMPLES: dict[str, tuple[FileFormat, bytes]] = {
    "commas": (FileFormat.CSV, table(",")),
    "semicolons": (FileFormat.CSV, table(";")),
    "bare": (FileFormat.CSV, table("\t").replace(b'"', b"")),
    "lines": (FileFormat.JSONL, "\n".join(map(json.dumps, OBJECTS)).encode()),
    "list": (FileFormat.JSON, json.dumps(OBJECTS, indent=1, ensure_ascii=False).encode()),
}
PARTS = parts()


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Return `data` with one to six things changed."""
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        at = chance.randrange(len(data) + 1)
        to = min(len(data), at + chance.choice((0, 1, 1, 2, 9, 80)))
        match chance.randrange(6):
            case 0:
                data = data[:at] + data[to:]
            case 1 | 2:
                data = data[:at] + chance.choice(PIECES) + data[to:]
            case 3:
                data = data[:at] + bytes([chance.randrange(256)]) + data[to:]
            case 4:
                data = data[:to] + data[at:]
            case _:
                data = data[:at] if chance.random() < 0.3 else data[:at] + data[at:to] * 3 + data[to:]
    match chance.randrange(12):
        case 0:
            return data.decode("utf-8", "replace").encode("utf-16")
        case 1:
            return data.decode("utf-8", "replace").encode("utf-16-le")
        case 2:
            return data.decode("utf-8", "replace").encode("cp1251", "replace")
        case _:
            return data


def workbook(chance: random.Random) -> bytes:
    """Return a workbook with a part of it changed, or its archive."""
    file = io.BytesIO()
    name = chance.choice(list(PARTS))
    inside = chance.random() < 0.7
    with zipfile.ZipFile(file, "w") as archive:
        for each, data in PARTS.items():
            archive.writestr(each, mutated(data, chance) if inside and each == name else data)
    return file.getvalue() if inside else mutated(file.getvalue(), chance)


def sample(chance: random.Random) -> tuple[FileFormat, bytes]:
    if chance.random() < 0.06:  # it takes ten times as long as another
        return FileFormat.XLSX, workbook(chance)
    file_format, data = SAMPLES[chance.choice(list(SAMPLES))]
    return file_format, mutated(data, chance)


def check_mutations(number: int, folder: Path, taken: Callable[[FileFormat, bool], None] = lambda *_: None) -> None:
    seed = random.randrange(10**9)
    print("seed", seed)
    (folder / "form.toml").write_text(MAPPING)
    mapping = Mapping.load(folder / "form.toml", REGISTRY)
    for turn in range(number):
        chance = random.Random(seed + turn)
        file_format, data = sample(chance)
        mapped = chance.random() < 0.4
        bad = BadLines(folder / "bad", file_format, mapping.reading if mapped else None) if turn % 20 == 0 else None
        refused: ProducersError | None = None
        said = ""
        try:
            found = check(
                *(io.BytesIO(data), "the file", file_format, COMPOSER),
                mapping=mapping if mapped else None,
                bad=bad,
                tally=(tally := Tally()),
            )
            said = "\n".join([*found.shown(), *found.notes(), *tally.table()])
            taken(file_format, found.events > 0)
        except ProducersError as error:
            refused, said = error, str(error)
            taken(file_format, False)
        except Exception as error:
            error.add_note(f"seed {seed + turn}")
            raise
        finally:
            if bad is not None:
                bad.discard()
        assert SECRET not in said, f"seed {seed + turn}"
        assert refused is None or (refused.what and refused.remedy), f"seed {seed + turn}"
    assert list(folder.glob("bad*")) == []


@pytest.mark.quick
def test_some_hundred_broken_files_are_read_or_refused(tmp_path: Path) -> None:
    check_mutations(400, tmp_path)


def test_five_thousand_broken_files_are_read_or_refused_and_some_of_each_format_give_events(tmp_path: Path) -> None:
    outcomes: set[tuple[FileFormat, bool]] = set()
    check_mutations(5_000, tmp_path, lambda *outcome: outcomes.add(outcome))
    assert outcomes == {(each, given) for each in FileFormat for given in (True, False)}


@pytest.mark.soak
def test_a_million_broken_files_are_read_or_refused(tmp_path: Path) -> None:
    check_mutations(1_000_000, tmp_path)


@pytest.mark.quick
def test_a_reader_whose_message_shows_a_cell_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = json_rows._object

    def telling(text: str) -> dict[str, object]:
        try:
            return real(text)
        except ProducersError as error:
            raise type(error)("", text) from None

    monkeypatch.setattr(json_rows, "_object", telling)
    with pytest.raises(AssertionError):
        check_mutations(2_000, tmp_path)
