"""The template of the public file: the same bytes whether it was kept or built now, and no harm from a bad copy."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from quietcount_aggregates.publication import template as module
from quietcount_aggregates.publication.template import template

pytestmark = [pytest.mark.quick, pytest.mark.xdist_group("template")]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of compiled files, in which there was nothing before: built once for all tests."""
    folder = tmp_path_factory.mktemp("built") / "compiled"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_KEPT", folder)
        again()
    return folder


@pytest.fixture
def kept(compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of compiled files of the test's own."""
    folder = tmp_path / "compiled"
    shutil.copytree(compiled, folder)
    monkeypatch.setattr(module, "_KEPT", folder)
    template.cache_clear()
    yield folder
    template.cache_clear()


def again() -> bytes:
    """What another process would get."""
    template.cache_clear()
    return template()


@pytest.mark.promise("published-again")
def test_what_is_kept_is_what_is_built(kept: Path) -> None:
    built = template()
    [file] = kept.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    modified = file.stat().st_mtime_ns
    assert again() == built
    assert file.stat().st_mtime_ns == modified, "it was read"
    file.unlink()
    assert again() == built


@pytest.mark.parametrize(
    "harm",
    [
        lambda _: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
        lambda content: content[:-1] + b"?",
    ],
    ids=["empty", "cut off", "flipped", "digest"],
)
def test_a_kept_copy_that_is_damaged_is_built_again(
    kept: Path, harm: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What building gives is shown above."""
    built = template()
    [file] = kept.iterdir()
    whole = file.read_bytes()
    file.write_bytes(harm(whole))
    building = Mock(return_value=built)
    monkeypatch.setattr(module, "_built", building)
    assert again() == built
    building.assert_called_once()
    assert file.read_bytes() == whole


def test_another_version_of_duckdb_builds_its_own(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_built", Mock(return_value=template()))
    monkeypatch.setattr("duckdb.__version__", "9.9.9")
    again()
    assert len(list(kept.iterdir())) == 2


def test_an_installation_that_may_not_be_written_publishes_all_the_same(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = template()
    [file] = kept.iterdir()
    file.unlink()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "fdopen", refuse)
    monkeypatch.setattr(module, "_built", Mock(return_value=built))
    assert again() == built
    assert list(kept.iterdir()) == []
