"""A folder of schemas: what is in it, and everything that is wrong with it.

`<EventType>/<N>.avsc` holds the versions 1, 2, ... of an event type; a bare `<EventType>.avsc` is its version 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from quietcount_schemas.definition import digest, read_definition, role_of, schema_version
from quietcount_schemas.errors import SchemasError
from quietcount_schemas.event_types import EventType, SchemaVersion
from quietcount_schemas.finding import Finding
from quietcount_schemas.lint.evolution import check_evolution
from quietcount_schemas.lint.history import HISTORY_FILE, HistoryReason, Recorded, check_history, read_history
from quietcount_schemas.lint.rules import LintReason, lint

__all__ = ["FolderReason", "SchemaFolder", "inspect_folder"]

_VERSION = re.compile(r"[1-9][0-9]{0,5}")


class FolderReason(StrEnum):
    """Why a folder is not one of schemas."""

    UNREADABLE = "unreadable"
    NO_SCHEMA = "no_schema"
    FILE_NAME = "file_name"
    NOT_A_FILE = "not_a_file"
    TWO_PLACES = "two_places"
    VERSION_GAP = "version_gap"


@dataclass(slots=True)
class SchemaFolder:
    """A folder as inspected. Without findings, `event_types` is all that it holds."""

    root: Path
    history_required: bool = False
    event_types: list[EventType] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    recordable: list[Recorded] = field(default_factory=list)
    """The history lines of every version in it."""

    @property
    def refusals(self) -> list[Finding]:
        """The findings that keep its schemas from being used: a version of one's own need not be recorded yet."""
        return [
            each
            for each in self.findings
            if self.history_required
            or each.reason.value not in (HistoryReason.UNRECORDED.value, HistoryReason.MISSING.value)
        ]


def inspect_folder(root: Path, *, label: str | None = None, history_required: bool = False) -> SchemaFolder:
    """Return what `root` holds and what is wrong with it, in words that call it `label`. Nothing of it is raised."""
    folder = SchemaFolder(root, history_required=history_required)
    label = str(root) if label is None else label
    try:
        files = _files(root, label, folder.findings)
    except OSError as error:
        message = f"the folder cannot be read ({error.strerror or type(error).__name__}); create it or name another"
        folder.findings.append(Finding(label, "", FolderReason.UNREADABLE, message))
        return folder
    if not files and not folder.findings:
        message = "holds no <EventType>.avsc and no <EventType>/<N>.avsc; name the folder that does"
        folder.findings.append(Finding(label, "", FolderReason.NO_SCHEMA, message))
    present: dict[tuple[str, int], tuple[str, Recorded]] = {}
    for event in sorted(files):
        _inspect_event(event, files[event], folder, present)
    written = {(event, number) for event, versions in files.items() for number in versions}
    folder.recordable = [recorded for _, recorded in present.values()]
    try:
        history = read_history(root)
        folder.findings += check_history(root, history, written, present, required=history_required)
    except SchemasError as error:
        place = str(root / HISTORY_FILE)
        message = str(error).removeprefix(place).lstrip(":, ")
        folder.findings.append(Finding(place, "", FolderReason.UNREADABLE, message))
    return folder


def _files(root: Path, label: str, findings: list[Finding]) -> dict[str, dict[int, tuple[str, Path]]]:
    """Return, by event type and version, the label and path of each schema file."""
    files: dict[str, dict[int, tuple[str, Path]]] = {}
    for entry in sorted(root.iterdir()):
        if entry.suffix == ".avsc" and not entry.is_file():
            findings.append(_no_file(f"{label}/{entry.name}"))
        elif entry.is_dir() and not entry.name.startswith("."):
            for path in sorted(entry.glob("*.avsc")):
                source = f"{label}/{entry.name}/{path.name}"
                if not path.is_file():
                    findings.append(_no_file(source))
                elif _VERSION.fullmatch(path.stem):
                    files.setdefault(entry.name, {})[int(path.stem)] = (source, path)
                else:
                    message = "a version's file is called by its number: 1.avsc, 2.avsc, ..."
                    findings.append(Finding(source, "", FolderReason.FILE_NAME, message))
        elif entry.suffix == ".avsc":
            source = f"{label}/{entry.name}"
            if (root / entry.stem).is_dir():
                message = f"there is a folder {entry.stem} too; move this file into it as a version"
                findings.append(Finding(source, "", FolderReason.TWO_PLACES, message))
            else:
                files[entry.stem] = {1: (source, entry)}
    return files


def _no_file(source: str) -> Finding:
    # Reading a pipe would wait for ever.
    return Finding(source, "", FolderReason.NOT_A_FILE, "is not a plain file; put the schema's file in its place")


def _inspect_event(
    event: str,
    files: dict[int, tuple[str, Path]],
    folder: SchemaFolder,
    present: dict[tuple[str, int], tuple[str, Recorded]],
) -> None:
    faults: list[Finding] = []
    versions: list[SchemaVersion] = []
    definition: Any = None
    for expected, number in enumerate(sorted(files), 1):
        source, path = files[number]
        if number != expected:
            message = f"version {expected} is missing; versions are numbered 1, 2, 3, ... without a gap"
            faults.append(Finding(source, "", FolderReason.VERSION_GAP, message))
        try:
            definition = read_definition(path, source)
            found = list(_lint(definition, event, source))
            faults += found
            if not found:
                version = schema_version(definition, number, source)
                versions.append(version)
                recorded = Recorded(event, number, version.fingerprint.hex(), digest(definition))
                present[event, number] = (source, recorded)
        except SchemasError as error:
            message = str(error).removeprefix(source).lstrip(":, ")
            faults.append(Finding(source, "", FolderReason.UNREADABLE, message))
    if not faults:
        faults += check_evolution(versions)
    folder.findings += faults
    if not faults:
        folder.event_types.append(EventType(event, role_of(definition), tuple(versions), definition["doc"]))


def _lint(definition: Any, event: str, source: str) -> Iterator[Finding]:
    yield from lint(definition, source)
    if isinstance(definition, dict) and isinstance(definition.get("name"), str) and definition["name"] != event:
        message = f"the record must be called {event}, as its file or folder is"
        yield Finding(source, "", LintReason.NAME_MISMATCH, message)
