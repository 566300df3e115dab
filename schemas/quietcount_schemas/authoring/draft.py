"""The draft of an event schema: made from a name and its fields, right from the start, and for a person to reword.

What can never change again (types, bounds, symbols) is asked for. What may change at any time (docs, titles, labels) is
filled in, so that the person sees where it stands.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from quietcount_schemas.errors import SchemasError
from quietcount_schemas.events.definition import schema_version
from quietcount_schemas.events.event_types import EARLIEST, EPOCH_ORDINAL, LATEST, Role, SchemaVersion
from quietcount_schemas.finding import Finding, refusal
from quietcount_schemas.lint.labels import MAX_LABEL
from quietcount_schemas.lint.rules import lint
from quietcount_schemas.registry import CASEWORK, inspect

__all__ = ["NAMESPACE", "Draft", "FieldDraft"]

NAMESPACE: Final = "own.events"
_FALLBACKS: Final = ("UNKNOWN", "OTHER")
"""The symbols that an older reader can take a new one for, the better one first."""
_LANGUAGE: Final = "en"


@dataclass(frozen=True, slots=True)
class FieldDraft:
    """A field that somebody asked for: its name, and its type and default as the schema has them."""

    name: str
    type: Any
    default: object

    @classmethod
    def enum(cls, name: str, symbols: Sequence[str]) -> FieldDraft:
        """Return a field of symbols. One that stands for all others is added, if there is none."""
        fallback = next((symbol for symbol in _FALLBACKS if symbol in symbols), _FALLBACKS[0])
        symbols = list(symbols) if fallback in symbols else [*symbols, fallback]
        written = {"type": "enum", "name": _type_name(name), "symbols": symbols, "default": fallback}
        return cls(name, {**written, "doc": f"What {_words(name)} may be."}, fallback)

    @classmethod
    def flag(cls, name: str) -> FieldDraft:
        """Return a field that is true or false: false, if an emitter does not say."""
        return cls(name, "boolean", False)

    @classmethod
    def number(cls, name: str, minimum: int, maximum: int) -> FieldDraft:
        """Return a field of whole numbers: none, if an emitter does not say."""
        return cls(name, ["null", {"type": "int", "minimum": minimum, "maximum": maximum}], None)

    @classmethod
    def date(cls, name: str) -> FieldDraft:
        """Return a field of dates: none, if an emitter does not say."""
        first, last = (day.toordinal() - EPOCH_ORDINAL for day in (EARLIEST, LATEST))
        return cls(name, ["null", {"type": "int", "logicalType": "date", "minimum": first, "maximum": last}], None)

    @property
    def symbols(self) -> list[str]:
        """What people need a label for."""
        if isinstance(self.type, dict):
            return list(self.type["symbols"])
        return ["true", "false"] if self.type == "boolean" else []

    def written(self) -> dict[str, Any]:
        """Return the field as the schema has it."""
        field: dict[str, Any] = {"name": self.name, "type": self.type, "default": self.default}
        field["doc"] = f"Say here in one line what {self.name} means."
        is_date = isinstance(self.type, list) and "logicalType" in self.type[1]
        if not is_date:
            field["quietcount.title"] = {_LANGUAGE: _title(self.name)}
        if self.symbols:
            answers = {"true": "Yes", "false": "No"}
            labels = {symbol: answers.get(symbol, _title(symbol)) for symbol in self.symbols}
            field["quietcount.labels"] = {_LANGUAGE: labels}
        return field


@dataclass(frozen=True, slots=True)
class Draft:
    """A schema that somebody asked for, its first version."""

    name: str
    fields: Sequence[FieldDraft]
    namespace: str = NAMESPACE

    def definition(self) -> dict[str, Any]:
        """Return the JSON value of its file."""
        envelope = json.loads((CASEWORK / "CaseWithdrawn" / "1.avsc").read_text(encoding="utf-8"))["fields"]
        return {
            "type": "record",
            "name": self.name,
            "namespace": self.namespace,
            "doc": f"Say here in one line when a {_words(self.name)} event is emitted.",
            "quietcount.role": Role.EVENT.value,
            "fields": [*envelope, *(field.written() for field in self.fields)],
        }

    def check(self, folder: Path, others: Sequence[Path] = ()) -> SchemaVersion:
        """Return what the schema stands for. Raises SchemasError if it is refused, or an event type has its name.

        `folder` is where it is to be, and `others` are the folders that the configuration names.
        """
        definition = self.definition()
        findings = lint(definition, self.name)
        if findings:
            raise refusal(findings)
        folders = [each for each in dict.fromkeys([*others, folder]) if each.is_dir()]
        for each in inspect(folders)[0]:
            for known in each.event_types:
                if known.name.lower() == self.name.lower():
                    what = f"{known.current.source} already has an event type of that name"
                    raise refusal([Finding(self.name, what, "Choose another name, or add a version to that one")])
        return schema_version(definition, 1, self.name)

    def write(self, folder: Path) -> Path:
        """Write the schema into `folder`, which is made if it is missing; return the file. It replaces no file."""
        path = folder / f"{self.name}.avsc"
        text = json.dumps(self.definition(), indent=2, ensure_ascii=False) + "\n"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            taken = path if path.exists() else folder
            remedy = "Choose another name, or edit the file that is there" if path.exists() else "Name a folder"
            raise SchemasError(f"{taken}: is there already", remedy) from None
        except OSError as error:
            raise SchemasError(
                f"{path}: cannot be written ({error.strerror or type(error).__name__})",
                "Check the folder, its rights and the disk",
            ) from None
        return path


def _words(name: str) -> str:
    """Return a name as words: `help_kind` and `HelpKind` are "help kind"."""
    spaced = "".join(f" {each}" if each.isupper() and not name.isupper() else each for each in name)
    return " ".join(spaced.replace("_", " ").lower().split()) or name


def _title(name: str) -> str:
    return _words(name).capitalize()[:MAX_LABEL]


def _type_name(name: str) -> str:
    """Return what the type of an enum field is called: two fields never share one."""
    return f"{name[:1].upper()}{name[1:]}"
