"""The folder of an export: replaced as a whole or not at all, and nothing of anybody else's is ever removed."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests import forking
from tests.exported_world import hostile_file

from quietcount_consumers.exporting import export as exports
from quietcount_consumers.exporting import folder as folders
from quietcount_consumers.exporting.export import export
from quietcount_consumers.exporting.folder import ExportError, replacing

pytestmark = [pytest.mark.quick, pytest.mark.xdist_group("export folders")]


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_file(tmp_path_factory.mktemp("earlier") / "statistics.duckdb", months=1)


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_file(tmp_path_factory.mktemp("later") / "statistics.duckdb", months=2)


@pytest.fixture
def place(earlier: Path, tmp_path: Path) -> Path:
    """An earlier export, and nothing beside it."""
    export(earlier, tmp_path / "place" / "figures")
    return tmp_path / "place" / "figures"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What is refused


@pytest.mark.parametrize(
    "name",
    [
        *("thesis.txt", "csv/mine.xlsx", "parquet/deep/a.parquet", ".hidden"),
        *("csv/mine.csv", "parquet/mine.parquet"),
        *("notes/README.md", "mine/csv/a.csv", "statistics.csv"),
    ],
)
def test_an_export_with_a_file_of_somebody_else_is_refused_and_the_file_is_named(
    place: Path, later: Path, name: str
) -> None:
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    (place / name).write_text("years of work")
    before = contents(place)
    with pytest.raises(ExportError, match=f"holds {name}, which no export wrote"):
        export(later, place)
    assert contents(place) == before
    assert names(place.parent) == ["figures"]


@pytest.mark.parametrize("name", ["thesis.txt", "datapackage.json", "csv/statistics.csv"])
def test_a_folder_that_is_no_export_is_refused(tmp_path: Path, later: Path, name: str) -> None:
    """Somebody else's Data Package is no export either."""
    file = tmp_path / "theirs" / name
    file.parent.mkdir(parents=True)
    file.write_text('{"name": "theirs", "resources": []}')
    with pytest.raises(ExportError, match="is not empty, and not an earlier export"):
        export(later, tmp_path / "theirs")
    assert list(contents(tmp_path / "theirs")) == [name]


def test_a_folder_in_which_nothing_can_be_made_is_refused_and_what_to_do_is_said(tmp_path: Path, later: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written") as caught:
        export(later, tmp_path / "file" / "figures")
    assert caught.value.remedy


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EBUSY])
def test_what_the_system_refuses_midway_leaves_the_earlier_export_and_nothing_beside_it(
    place: Path, later: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refused(_draft: Path, _place: Path) -> None:
        raise OSError(code, os.strerror(code))

    before = contents(place)
    monkeypatch.setattr(folders, "_swap", refused)
    with pytest.raises(ExportError, match="mount point" if code == errno.EBUSY else "What was there is unchanged"):
        export(later, place)
    assert contents(place) == before
    assert names(place.parent) == ["figures"]


def test_an_export_that_is_stopped_leaves_the_earlier_one_and_nothing_beside_it(
    place: Path, later: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    before = contents(place)
    monkeypatch.setattr(exports, "write_sqlite", stopped)
    with pytest.raises(KeyboardInterrupt):
        export(later, place)
    assert contents(place) == before
    assert names(place.parent) == ["figures"]


# How it is replaced


@pytest.mark.promise("handed-on")
@pytest.mark.parametrize("exchange", [True, False])
def test_an_earlier_export_is_replaced_and_nothing_of_it_is_left(
    place: Path, later: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(folders, "_exchanged", lambda _draft, _place: False)
    stale = place / "csv" / "retired.csv"
    stale.write_text("")
    package = json.loads((place / "datapackage.json").read_bytes())
    package["resources"].append({"path": "csv/retired.csv"})
    (place / "datapackage.json").write_text(json.dumps(package))
    export(later, place)
    assert not stale.exists()
    export(later, place.parent / "new")
    assert contents(place) == contents(place.parent / "new")
    assert names(place.parent) == ["figures", "new"]


def test_an_empty_folder_is_taken_and_a_link_is_followed(tmp_path: Path, later: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "figures").symlink_to("elsewhere")
    for _ in range(2):
        export(later, tmp_path / "figures")
        assert (tmp_path / "figures").is_symlink()
        assert (tmp_path / "elsewhere" / "README.md").is_file()


def test_what_a_killed_export_left_is_removed_and_what_is_being_written_is_not(place: Path, later: Path) -> None:
    left = place.parent / ".figures.export-12345678"
    left.mkdir()
    (left / "half").write_text("")
    other = place.parent / ".figures-of-mine.export-1"
    other.mkdir()
    with replacing(place.parent / "figures") as draft:
        assert not left.exists()
        (draft / "README.md").write_text("")
        (draft / "datapackage.json").write_text('{"generator": "quietcount export"}')
        export(later, place)
        assert draft.exists()
    assert names(place.parent) == [".figures-of-mine.export-1", "figures"]


KILLED = """
import os, sys
from pathlib import Path
import contextlib, shutil
from quietcount_consumers.exporting import export as exports, folder
from quietcount_consumers.exporting.export import export

source, place, number, exchange = sys.argv[1:]
if exchange == "without":
    folder._exchanged = lambda draft, place: False
if exchange == "in place":
    @contextlib.contextmanager
    def replacing(place):
        shutil.rmtree(place)
        place.mkdir()
        yield place
    exports.replacing = replacing
left = int(number)
WRITES = ("os.mkdir", "os.rename", "os.rmdir", "os.remove", "shutil.rmtree", "sqlite3.connect", "ctypes.dlsym")

def count(event, arguments):
    global left
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes or event.startswith(WRITES):
        left -= 1
        if left == 0:
            os._exit(9)  # as kill -9: nothing is cleaned up

sys.addaudithook(count)
export(Path(source), Path(place))
"""


def killed_at(number: int, source: Path, place: Path, exchange: str) -> int:
    """Export, and be killed before the given call that changes a file; return how it ended."""
    command = [sys.executable, "-c", KILLED, str(source), str(place), str(number), exchange]
    return forking.Popen(command, stderr=subprocess.DEVNULL).wait(60)


def check_kills(place: Path, earlier: Path, later: Path, exchange: str) -> int:
    """Kill an export before each call in turn; return how many calls there are."""
    export(later, place.parent.parent / "new")
    whole = [contents(place), contents(place.parent.parent / "new")]
    number, seen = 1, set[int]()
    while killed_at(number, later, place, exchange) != 0:
        if place.exists() or exchange != "without":
            found = contents(place)
            assert found in whole, f"killed before call {number}"
            seen.add(whole.index(found))
        if contents(place) != whole[0]:
            export(earlier, place)
            assert contents(place) == whole[0]
            assert names(place.parent) == ["figures"], f"killed before call {number}"
        number += 1
    assert seen == {0, 1}
    return number


@pytest.mark.soak
@pytest.mark.parametrize("exchange", ["with", "without"])
def test_killed_between_any_two_writes_there_is_the_earlier_export_or_the_later_one(
    place: Path, earlier: Path, later: Path, exchange: str
) -> None:
    """Where two folders cannot be exchanged, there may be none for a moment."""
    assert check_kills(place, earlier, later, exchange) > 30


@pytest.mark.promise("handed-on")
def test_an_export_that_is_written_in_place_is_found(place: Path, earlier: Path, later: Path) -> None:
    """The mutant: no folder beside it."""
    with pytest.raises(AssertionError, match="killed before call"):
        check_kills(place, earlier, later, "in place")
