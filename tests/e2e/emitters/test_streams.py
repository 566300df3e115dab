"""`quietcount emit` started as shells start it: standard streams that are closed, other encodings, odd paths."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests import forking

from quietcount_producers import EmbeddedLog, Pepper
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.check

GOOD = "event,case,occurred_on\nHelpRequested,a,2023-10-03\n"
BAD = GOOD + "Nothing,b,2023-10-03\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "a?b\\c#d%20"  # SQLite reads such characters of a URI
    folder.mkdir()
    (folder / "quietcount.toml").write_text("")
    (folder / "secrets").mkdir()
    Pepper.generate(folder / "secrets" / "pepper")
    (folder / "good.csv").write_text(GOOD)
    (folder / "bad.csv").write_text(BAD)
    return folder


def shell(place: Path, line: str, **environment: str) -> tuple[int, str, str]:
    """Run a line of shell, in which $Q is the command."""
    process = forking.Popen(
        ["sh", "-c", line],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "Q": str(Path(sys.executable).parent / "quietcount"), **environment},
        text=True,
        errors="surrogateescape",
    )
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return process.returncode, out, err


def stored(place: Path) -> int:
    with EmbeddedLog(place / "data" / "private" / "store" / "log.sqlite", create=False) as log:
        return log.end_offsets(CASE_EVENTS)[0]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_file_is_emitted_though_a_standard_stream_is_closed(place: Path, closed: str) -> None:
    assert shell(place, f"$Q emit good.csv {closed}")[0] == 0
    assert shell(place, f"$Q emit bad.csv {closed}")[0] == 1
    assert stored(place) == 1
    content = (place / "data" / "private" / "store" / "log.sqlite").read_bytes()
    assert b"lines that cannot be emitted" not in content, "a message was written into the file that took its number"


def test_standard_input_that_is_closed_is_said(place: Path) -> None:
    code, _, err = shell(place, "$Q emit - <&-")
    assert code == 1
    assert err == "Error: Standard input is closed. Name a file, or send one in through a pipe\n"


def test_a_path_that_is_no_text_is_emitted_and_its_bad_lines_lie_beside_it(place: Path) -> None:
    name = os.fsdecode(b"caf\xe9?.csv")
    (place / name).write_text(BAD)
    code, _, err = shell(place, f"$Q emit '{name}' --skip-bad", PYTHONIOENCODING="latin-1")
    assert code == 0
    assert "1 event; every good line is in the log" in err
    assert (place / f"{name}.bad.csv").exists()
    assert stored(place) == 1


def test_a_terminal_that_lacks_letters_shows_the_table_all_the_same(place: Path) -> None:
    code, out, err = shell(place, "$Q emit good.csv --dry-run", PYTHONIOENCODING="ascii")
    assert code == 0
    assert "HelpRequested" in out
    assert "1 event; every line is good" in err
