"""The file of pinned ids: which schema each id of the Schema Registry stands for, as it was when it was registered.

    {"ids": {"17": "d342b9d1508dd981"}, "subjects": {"quietcount.casework.HelpRequested": {"1": 17}}}

`ids` holds, by id, the CRC-64-AVRO fingerprint as `quietcount schemas show` prints it, and is all that readers and
emitters go by. `subjects` holds, by subject and version of ours, the same ids for people to read.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn

from quietcount_schemas.errors import SchemasError
from quietcount_schemas.framing import MAX_CONFLUENT_ID
from quietcount_schemas.private_files import write_file

__all__ = ["PinnedIds", "load", "read", "save"]

_MOST_BYTES: Final = 1 << 20
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,9}")
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{16}")
_KEYS: Final = ("ids", "subjects")


@dataclass(frozen=True, slots=True)
class PinnedIds:
    """What the file holds: the fingerprint (8 bytes) of each id, and by subject and version the id, for people."""

    ids: Mapping[int, bytes] = field(default_factory=dict)
    subjects: Mapping[str, Mapping[int, int]] = field(default_factory=dict)


def load(path: Path) -> Mapping[int, bytes]:
    """Return the fingerprint (8 bytes) of each pinned id. Raises SchemasError naming the file and what is wrong."""
    pinned = read(path)
    if pinned is None:
        remedy = "`quietcount schemas register` writes it, and the key 'schema_registry.ids_file' names it"
        raise SchemasError(f"{path}: there is no such file", remedy)
    return pinned.ids


def read(path: Path) -> PinnedIds | None:
    """Return what the file holds, or None if there is none. Raises SchemasError if it cannot be used."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        what = f"{path}: cannot be read ({os.strerror(error.errno or 0).lower()})"
        raise SchemasError(what, "Check the rights of the file and its folder") from None
    if len(raw) > _MOST_BYTES:
        raise _refused(path, "it is larger than 1 MiB")
    try:
        found: object = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise _refused(path, "it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise _refused(path, f"line {error.lineno} is not JSON") from None
    except _Twice:
        raise _refused(path, "a key is there twice") from None
    except (ValueError, RecursionError):
        raise _refused(path, "it is not JSON that can be read") from None
    if not isinstance(found, dict) or sorted(found) != sorted(_KEYS):
        raise _refused(path, "it must have the keys 'ids' and 'subjects', and no others")
    ids = _ids(path, found["ids"])
    return PinnedIds(MappingProxyType(ids), MappingProxyType(_subjects(path, found["subjects"], ids)))


def save(path: Path, pinned: PinnedIds) -> None:
    """Write the file whole or not at all. Raises SchemasError if it cannot be written."""
    table = {
        "ids": {str(number): pinned.ids[number].hex() for number in sorted(pinned.ids)},
        "subjects": {
            subject: {str(version): versions[version] for version in sorted(versions)}
            for subject, versions in sorted(pinned.subjects.items())
        },
    }
    try:
        write_file(path, (json.dumps(table, indent=2) + "\n").encode(), replace=True)
    except OSError as error:
        raise SchemasError(
            f"{path}: cannot be written ({os.strerror(error.errno or 0).lower()})",
            "Check the folder and the disk, or name another file with schema_registry.ids_file",
        ) from None


class _Twice(ValueError):
    """A key is twice in one object."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Twice
    return found


def _no_constant(constant: str) -> NoReturn:
    raise ValueError(constant)


def _ids(path: Path, given: object) -> dict[int, bytes]:
    if not isinstance(given, dict) or not given:
        raise _refused(path, "'ids' must hold, by id, the fingerprint of a schema")
    ids: dict[int, bytes] = {}
    for key, value in given.items():
        number = _number(path, "an id", key, MAX_CONFLUENT_ID)
        if not isinstance(value, str) or not _FINGERPRINT.fullmatch(value):
            raise _refused(path, f"the fingerprint of id {number} must be 16 digits from 0 to 9 and a to f, as text")
        ids[number] = bytes.fromhex(value)
    return ids


def _subjects(path: Path, given: object, ids: Mapping[int, bytes]) -> dict[str, Mapping[int, int]]:
    """Return what is there for people; it is checked too, because they trust it."""
    wanted = "'subjects' must hold, by subject and version, an id that is among 'ids'"
    if not isinstance(given, dict):
        raise _refused(path, wanted)
    subjects: dict[str, Mapping[int, int]] = {}
    for subject, versions in given.items():
        if not isinstance(versions, dict) or not all(type(each) is int and each in ids for each in versions.values()):
            raise _refused(path, wanted)
        subjects[subject] = {_number(path, "a version", key, 999_999): number for key, number in versions.items()}
    return subjects


def _number(path: Path, what: str, text: str, highest: int) -> int:
    if not _NUMBER.fullmatch(text) or int(text) > highest:
        raise _refused(path, f"{what} must be a whole number from 1 to {highest}, written as text without signs")
    return int(text)


def _refused(path: Path, what: str) -> SchemasError:
    return SchemasError(
        f"{path}: not a file of pinned ids: {what}",
        "Restore it (the key 'schema_registry.ids_file' names it), or remove it and run: quietcount schemas register",
    )
