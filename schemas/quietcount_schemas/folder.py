"""A folder of schemas: what is in it, and everything that is wrong with it.

`<EventType>/<N>.avsc` holds the versions 1, 2, ... of an event type; a bare `<EventType>.avsc` is its version 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from quietcount_schemas.events.definition import digest, read_definition, role_of, schema_version
from quietcount_schemas.events.event_types import EventType, SchemaVersion
from quietcount_schemas.finding import Finding, Refused
from quietcount_schemas.lint.evolution import check_evolution
from quietcount_schemas.lint.history import HistoryReason, Recorded, check_history, read_history
from quietcount_schemas.lint.reason import LintReason
from quietcount_schemas.lint.reason import finding as lint_finding
from quietcount_schemas.lint.rules import lint

__all__ = ["FolderReason", "SchemaFolder", "inspect_folder"]

_VERSION = re.compile(r"[1-9][0-9]{0,5}")


class FolderReason(StrEnum):
    """Why a folder does not hold schemas."""

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
        """The findings that keep its schemas from use: the history of a folder of your own may come later."""
        later = () if self.history_required else (HistoryReason.UNRECORDED, HistoryReason.MISSING)
        return [each for each in self.findings if each.code not in later]


def inspect_folder(root: Path, *, label: str | None = None, history_required: bool = False) -> SchemaFolder:
    """Return what `root` holds and what is wrong with it; findings call it `label`. Raises nothing for a fault."""
    folder = SchemaFolder(root, history_required=history_required)
    label = str(root) if label is None else label
    try:
        files = _files(root, label, folder.findings)
    except OSError as error:
        what = f"the folder cannot be read ({error.strerror or type(error).__name__})"
        folder.findings.append(Finding(label, what, "Create it or name another", FolderReason.UNREADABLE))
        return folder
    if not files and not folder.findings:
        what = "holds no <EventType>.avsc and no <EventType>/<N>.avsc"
        folder.findings.append(Finding(label, what, "Name the folder that does", FolderReason.NO_SCHEMA))
    present: dict[tuple[str, int], tuple[str, Recorded]] = {}
    for event in sorted(files):
        _inspect_event(event, files[event], folder, present)
    written = {(event, number) for event, versions in files.items() for number in versions}
    folder.recordable = [recorded for _, recorded in present.values()]
    try:
        history = read_history(root)
        folder.findings += check_history(root, history, written, present, required=history_required)
    except Refused as refused:
        folder.findings.append(replace(refused.finding, code=FolderReason.UNREADABLE))
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
                    what = "the file's name is not the number of a version"
                    findings.append(Finding(source, what, "Call it 1.avsc, 2.avsc, ...", FolderReason.FILE_NAME))
        elif entry.suffix == ".avsc":
            source = f"{label}/{entry.name}"
            if (root / entry.stem).is_dir():
                what = f"there is a folder {entry.stem} too"
                findings.append(Finding(source, what, "Move this file into it as a version", FolderReason.TWO_PLACES))
            else:
                files[entry.stem] = {1: (source, entry)}
    return files


def _no_file(source: str) -> Finding:
    # Reading a pipe would wait for ever.
    return Finding(source, "is not a plain file", "Put the file of the schema in its place", FolderReason.NOT_A_FILE)


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
            what = f"version {expected} is missing"
            faults.append(Finding(source, what, "Number versions 1, 2, 3, ... without a gap", FolderReason.VERSION_GAP))
        try:
            definition = read_definition(path, source)
            found = _lint(definition, event, source)
            faults += found
            if not found:
                version = schema_version(definition, number, source)
                versions.append(version)
                recorded = Recorded(event, number, version.fingerprint.hex(), digest(definition))
                present[event, number] = (source, recorded)
        except Refused as refused:
            faults.append(replace(refused.finding, code=FolderReason.UNREADABLE))
    if not faults:
        faults += check_evolution(versions)
    folder.findings += faults
    if not faults:
        folder.event_types.append(EventType(event, role_of(definition), tuple(versions), definition["doc"]))


def _lint(definition: Any, event: str, source: str) -> list[Finding]:
    found = lint(definition, source)
    if isinstance(definition, dict) and isinstance(definition.get("name"), str) and definition["name"] != event:
        found.append(lint_finding(LintReason.NAME_MISMATCH, source, event=event))
    return found
