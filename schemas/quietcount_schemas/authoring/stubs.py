"""Stubs: what the schemas say, as a Python module that a type checker reads.

`CaseEventPublisher.emit` takes any event type with any attributes, because it reads the schemas when it runs. The
module has a Protocol with one overload of `emit` for each event type. If a program annotates its publisher with it,
mypy or pyright names a wrong event, field or symbol before the program runs. The module needs quietcount_schemas alone.
"""

from __future__ import annotations

import datetime as dt
import keyword
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from quietcount_schemas.errors import SchemasError
from quietcount_schemas.events.event_types import EventType, Field, FieldKind

__all__ = ["save", "stubs"]

_FIRST: Final = '"""The events of this project, for type checkers.'
"""How a file begins that may be replaced."""

_WIDTH: Final = 88
_HEAD: Final = f'''{_FIRST} Made by `quietcount schemas stubs`; make it again, do not edit it.

Annotate a publisher with `Publisher`, and mypy or pyright finds a wrong event, field or symbol.
"""

import datetime as dt
import uuid
from concurrent.futures import Future
from typing import Literal, Protocol, TypeAlias, overload

from quietcount_schemas.log import Position
'''

_ENVELOPE: Final = (
    "case: str",
    "occurred_on: dt.date | str",
    "*",
    "event_id: uuid.UUID | str | None = None",
    "revision: int = 0",
    "timeout: float | None = None",
)
_TYPES: Final = {FieldKind.BOOLEAN: "bool", FieldKind.INT: "int", FieldKind.DATE: "dt.date | str"}


def stubs(event_types: Iterable[EventType]) -> str:
    """Return the text of the module; there must be two event types or more, as there are with the built-in ones."""
    known = list(event_types)
    names = _aliases(known)
    aliases = [_listed(f"{name}: TypeAlias = Literal[", field.symbols) for (_, field), name in names.items()]
    methods = [
        text
        for start, result in (("def emit", "Future[Position]"), ("async def emit_async", "Position"))
        for event_type in known
        for text in _overload(start, result, event_type, names)
    ]
    exported = _listed("__all__ = [", ["Publisher", *names.values()])
    protocol = ["class Publisher(Protocol):", '    """What a CaseEventPublisher takes, by event type."""', "", *methods]
    return "\n".join([_HEAD, exported, "", *aliases, "", "", *protocol, ""])


def save(path: Path, text: str) -> None:
    """Write the module to `path`. Raises SchemasError; it replaces only a module that was made here."""
    try:
        if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(_FIRST):
            raise SchemasError(
                f"{path}: is there, and `quietcount schemas stubs` did not make it", "Choose another file"
            )
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SchemasError(
            f"{path}: cannot be written ({error.strerror or type(error).__name__})",
            "Check the folder, its rights and the disk",
        ) from None


def _aliases(event_types: Iterable[EventType]) -> dict[tuple[str, Field], str]:
    """Return the name of each enum field's type, with its annotation, by event type and field."""
    names: dict[tuple[str, Field], str] = {}
    for event_type in event_types:
        for field in event_type.attributes:
            if field.kind is FieldKind.ENUM:
                name = f"{event_type.name}_{field.name}"
                while name in names.values():  # of the event A_b with c, and A with b_c
                    name += "_"
                names[event_type.name, field] = name
    return names


def _listed(start: str, names: Iterable[str]) -> str:
    """Return `start`, the quoted names and a closing bracket, on several lines if they are long."""
    quoted = list(map(_quoted, names))
    line = f"{start}{', '.join(quoted)}]"
    return line if len(line) <= _WIDTH else "\n".join([start, *(f"    {each}," for each in quoted), "]"])


def _overload(start: str, result: str, event_type: EventType, names: dict[tuple[str, Field], str]) -> Iterator[str]:
    parameters = ["self", f"event: Literal[{_quoted(event_type.name)}]", *_ENVELOPE]
    others = False
    for field in event_type.attributes:
        if keyword.iskeyword(field.name):
            others = True
            continue
        written = names.get((event_type.name, field)) or _TYPES[field.kind]
        nullable = " | None" if field.nullable else ""
        parameters.append(f"{field.name}: {written}{nullable} = {_default(field)}")
    if others:
        # A field such as `from`, which a caller can only give as **{"from": ...}: then any name has to be taken.
        parameters.append("**others: object")
    yield "    @overload"
    yield f"    {start}("
    yield from (f"        {each}," if not each.startswith("**") else f"        {each}" for each in parameters)
    yield f"    ) -> {result}: ..."


def _default(field: Field) -> str:
    value = field.default_value
    if isinstance(value, dt.date):
        return f"dt.date({value.year}, {value.month}, {value.day})"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    """Return a name between quotation marks; names need no escapes."""
    return f'"{text}"'
