"""An export onto a disk that is full or for reading only: one sentence, the earlier export, and nothing beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import Require
from tests.e2e.mounts import read_only, resized, small_disk
from tests.exported_world import hostile_file

from quietcount_consumers.exporting.export import export
from quietcount_consumers.exporting.folder import ExportError

pytestmark = [pytest.mark.check, pytest.mark.promise("handed-on")]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kibibytes", range(0, 400, 40))
def test_a_disk_that_fills_up_at_any_point_keeps_the_earlier_export(
    tmp_path: Path, require: Require, kibibytes: int
) -> None:
    public = hostile_file(tmp_path / "statistics.duckdb", months=2)
    disk = tmp_path / "disk"
    with small_disk(disk, 2000, require):
        export(hostile_file(tmp_path / "earlier.duckdb", months=1), disk / "figures")
        before = contents(disk / "figures")
        used = sum(4 * -(-len(content) // 4096) for content in before.values())
        resized(disk, used + 16 + kibibytes)
        try:
            export(public, disk / "figures")
        except ExportError as error:
            assert "room" in error.remedy  # noqa: PT017  # at some sizes there is room enough
            assert contents(disk / "figures") == before
        else:
            assert contents(disk / "figures") != before
        assert [path.name for path in disk.iterdir()] == ["figures"]


def test_a_folder_for_reading_only_is_refused(tmp_path: Path, require: Require) -> None:
    public = hostile_file(tmp_path / "statistics.duckdb", months=1)
    (tmp_path / "fixed").mkdir()
    with (
        read_only(tmp_path / "fixed", require),
        pytest.raises(ExportError, match=r"cannot be written \(Read-only file system\)"),
    ):
        export(public, tmp_path / "fixed" / "figures")


def test_a_mount_point_is_refused_and_a_folder_within_it_is_proposed(tmp_path: Path, require: Require) -> None:
    public = hostile_file(tmp_path / "statistics.duckdb", months=1)
    with small_disk(tmp_path / "disk", 2000, require):
        with pytest.raises(ExportError, match="name a folder within it"):
            export(public, tmp_path / "disk")
        export(public, tmp_path / "disk" / "figures")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
