"""Files that are called schemas and are none, or mean harm: each is one clean refusal."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.strategies import trial

from quietcount_schemas import SchemasError
from quietcount_schemas.events.definition import MAX_SCHEMA_BYTES, parse_definition, read_definition
from quietcount_schemas.folder import FolderReason, inspect_folder
from quietcount_schemas.lint.rules import LintReason

pytestmark = pytest.mark.quick

TRIAL = trial()

HOSTILE = {
    "deep array": '{"type":"array","items":' * 10_000 + '"null"' + "}" * 10_000,
    "deep list": "[" * 100_000 + "]" * 100_000,
    "deep record": '{"type":"record","name":"Trial","fields":[{"name":"f","type":' * 5_000 + '"int"' + "}]}" * 5_000,
    "endless number": '{"type": ' + "9" * 10_000 + "}",
    "not a number": '{"type": NaN}',
    "same key twice": '{"type": "record", "type": "enum"}',
    "cut off": '{"type": "record", ',
    "empty": "",
    "too large": '"' + "x" * MAX_SCHEMA_BYTES + '"',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_clean_refusal(tmp_path: Path, name: str) -> None:
    file = tmp_path / "Trial.avsc"
    file.write_text(HOSTILE[name])
    with pytest.raises(SchemasError, match=r"^Trial\.avsc"):
        read_definition(file, "Trial.avsc")
    folder = inspect_folder(tmp_path)
    assert [finding.code for finding in folder.findings] == [FolderReason.UNREADABLE]
    assert folder.event_types == []


def test_a_recursive_schema_never_reaches_the_avro_library(tmp_path: Path) -> None:
    bomb = {
        **TRIAL,
        "fields": [*TRIAL["fields"], {"name": "more", "type": ["null", "Trial"], "default": None, "doc": "x"}],
    }
    (tmp_path / "Trial.avsc").write_text(json.dumps(bomb))
    assert [finding.code for finding in inspect_folder(tmp_path).findings] == [LintReason.RECURSION]


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    (tmp_path / "Trial.avsc").write_bytes(b'{"type": "\xff"}')
    with pytest.raises(SchemasError, match="UTF-8"):
        read_definition(tmp_path / "Trial.avsc", "Trial.avsc")


def test_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "Trial.avsc").write_bytes(b"\xef\xbb\xbf" + json.dumps(TRIAL).encode())
    assert inspect_folder(tmp_path).findings == []


@pytest.mark.parametrize("name", ["Trial.avsc", "Trial/1.avsc"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_called_like_a_schema_and_is_no_file_is_refused_unread(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    (tmp_path / "Trial").mkdir(exist_ok=True)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    make(tmp_path / name)
    assert [finding.code for finding in inspect_folder(tmp_path).findings] == [FolderReason.NOT_A_FILE]


def test_a_finding_names_its_file_once(tmp_path: Path) -> None:
    (tmp_path / "Trial.avsc").write_text('{\n"type" "record"}')
    (tmp_path / "fingerprints.txt").write_text("nonsense\n")
    found = [str(finding) for finding in inspect_folder(tmp_path, label="own").findings]
    assert found[0].startswith("own/Trial.avsc, line 2: not JSON")
    assert found[1].startswith(f"{tmp_path}/fingerprints.txt, line 1: not a line")
    assert [text.count("avsc") + text.count("fingerprints") for text in found] == [1, 1]


def test_broken_json_is_refused_with_its_line() -> None:
    with pytest.raises(SchemasError, match=r"^Trial\.avsc, line 2: not JSON"):
        parse_definition('{\n"type" "record"}', "Trial.avsc")
