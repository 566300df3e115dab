"""The file of pinned ids: written whole, read back, and refused by name if it is not in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from quietcount_schemas import SchemasError
from quietcount_schemas.schema_registry import ids as registry_ids
from quietcount_schemas.schema_registry.ids import PinnedIds

pytestmark = pytest.mark.quick

# ---------------------------------------------------------------- the file of pinned ids

GOOD = '{"ids": {"1": "d342b9d1508dd981"}, "subjects": {"a.B": {"1": 1}}}'


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "ids.json"
    pinned = PinnedIds({2**31 - 1: bytes(8), 3: bytes(range(8))}, {"a.B": {1: 3, 2: 2**31 - 1}})
    registry_ids.save(path, pinned)
    assert registry_ids.read(path) == pinned
    assert [each.name for each in tmp_path.iterdir()] == ["ids.json"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ids.json"
    path.write_text(GOOD)

    def full(_: int) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SchemasError, match=r"cannot be written \(no space left on device\)"):
        registry_ids.save(path, PinnedIds({1: bytes(8)}))
    assert path.read_text() == GOOD
    assert [each.name for each in tmp_path.iterdir()] == ["ids.json"]


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("", "line 1 is not JSON"),
        ("[]", "must have the keys 'ids' and 'subjects'"),
        ('{"ids": {"1": "d342b9d1508dd981"}}', "must have the keys"),
        (GOOD.replace('"subjects"', '"more": 1, "subjects"'), "must have the keys"),
        (GOOD.replace('"1": "d342b9d1508dd981"', ""), "'ids' must hold"),
        (GOOD.replace('{"1": "d342b9d1508dd981"}', "[]"), "'ids' must hold"),
        (GOOD.replace('{"1": "d3', '{"1": "ff42b9d1508dd981", "1": "d3'), "a key is there twice"),
        (GOOD.replace('"1": "d3', '"01": "d3'), "an id must be a whole number"),
        (GOOD.replace('"1": "d3', '"0": "d3'), "an id must be a whole number"),
        (GOOD.replace('"1": "d3', '"-1": "d3'), "an id must be a whole number"),
        (GOOD.replace('"1": "d3', '"2147483648": "d3'), "an id must be a whole number from 1 to 2147483647"),
        (GOOD.replace('"1": "d3', '"١": "d3'), "an id must be a whole number"),
        (GOOD.replace("d342", "D342"), "the fingerprint of id 1 must be 16 digits"),
        (GOOD.replace("d342", "d34"), "the fingerprint of id 1 must be 16 digits"),
        (GOOD.replace('"d342b9d1508dd981"', "1"), "the fingerprint of id 1 must be 16 digits"),
        (GOOD.replace('{"1": 1}', "1"), "'subjects' must hold"),
        (GOOD.replace('{"1": 1}', '{"1": 2}'), "'subjects' must hold, by subject and version, an id that is among"),
        (GOOD.replace('{"1": 1}', '{"1": true}'), "'subjects' must hold"),
        (GOOD.replace('{"1": 1}', '{"x": 1}'), "a version must be a whole number"),
        (GOOD.replace("1}}", "NaN}}"), "not JSON that can be read"),
        ("[" * 200_000, "not JSON that can be read"),
        (" " * (1 << 20) + GOOD, "larger than 1 MiB"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_a_file_that_is_not_in_order_is_refused_by_name(tmp_path: Path, text: str, wanted: str) -> None:
    path = tmp_path / "ids.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SchemasError) as caught:
        registry_ids.load(path)
    assert str(caught.value).startswith(f"{path}: not a file of pinned ids: ")
    assert wanted in str(caught.value)


def test_a_file_that_is_missing_or_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SchemasError, match="there is no such file"):
        registry_ids.load(tmp_path / "absent.json")
    with pytest.raises(SchemasError, match=f"{tmp_path}: cannot be read \\(is a directory\\)"):
        registry_ids.load(tmp_path)
