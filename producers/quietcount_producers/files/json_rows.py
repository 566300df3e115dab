"""The records of a JSON file: an object on each line, a list of objects, or objects written over many lines.

A list of any length needs little memory: it is read piece by piece, one record at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Final

from quietcount_producers.errors import EventRefused, ProducersError
from quietcount_producers.files.rows import Row
from quietcount_producers.files.text_lines import Lines
from quietcount_producers.strict_json import DECODER

__all__ = ["json_rows"]

_LONGEST_RECORD: Final = 1 << 20
"""Characters. A form's record has some thousand, and one that does not end must not fill the memory."""
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_FORMAT: Final = "Give --format csv if it is CSV"


_LENIENT: Final = json.JSONDecoder()
"""Finds where a record ends that the other one refuses."""


def json_rows(lines: Lines, records: str | None) -> Iterator[Row]:
    """Yield the records of `lines`; `records` is the path to their list in a document.

    Raises ProducersError for a document that is not JSON as a whole.
    """
    path = [each for each in re.split(r"[./]", records or "") if each]
    if path or _is_document(lines):
        return _Document(lines, path).rows()
    return _line_rows(lines)


def _is_document(lines: Lines) -> bool:
    """Return whether the file is a list, or objects over several lines; read no line for good."""
    lines.begin()
    first = ""
    try:
        for text in lines:
            if not first:
                first = text.strip()
                if not first:
                    lines.begin()
                    continue
                if first.startswith("["):
                    return True
                if not first.startswith("{") or not _breaks_off(first):
                    return False
            elif text.strip():
                # A line that begins an object follows one that was cut; any other goes on with the object.
                return not text.startswith("{")
    except EventRefused:
        pass
    finally:
        lines.back()
    return False


def _breaks_off(text: str) -> bool:
    try:
        _LENIENT.raw_decode(text)
    except json.JSONDecodeError as error:
        return error.pos >= len(text.rstrip())
    except (RecursionError, ValueError):
        pass
    return False


# One object a line


def _line_rows(lines: Lines) -> Iterator[Row]:
    while True:
        lines.begin()
        try:
            text = next(lines)
        except StopIteration:
            return
        except EventRefused as refused:
            yield Row(lines.number, lines.text, problem=refused)
            continue
        if not text.strip():
            continue
        try:
            yield Row(lines.number, lines.text, _object(text))
        except EventRefused as refused:
            if lines.number == 1 and not text.lstrip().startswith(("{", "[")):
                refused = EventRefused("", f"{refused.reason}. {_FORMAT}")
            yield Row(lines.number, lines.text, problem=refused)


def _object(text: str) -> dict[str, object]:
    try:
        value: object = DECODER.decode(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            raise EventRefused(
                "", "is not JSON: it breaks off before the end of its object; was the file cut?"
            ) from None
        raise EventRefused("", f"is not JSON (column {error.colno})") from None
    except (RecursionError, ValueError):  # nested too deep; a number of thousands of digits
        raise EventRefused("", "is not the JSON object of an event") from None
    return _as_object(value)


def _as_object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise EventRefused("", 'is not a JSON object; a line looks like {"event": ..., "case": ..., ...}')
    return value


# A document


class _Document:
    """A JSON document that is read in pieces; `path` leads to the list of its records."""

    def __init__(self, lines: Lines, path: Sequence[str]) -> None:
        self._lines = lines
        self._path = path
        self._text = ""
        self._at = 0
        self._line = 1
        self._ended = False

    def rows(self) -> Iterator[Row]:
        """Yield the records."""
        while True:  # pages of a tool's API that somebody put together are several documents
            for key in self._path:
                self._descend(key)
            if self._path and self._next() != "[":
                raise self._refused("has no list of records at the path that the mapping names")
            listed = self._next() == "["
            if listed:
                self._at += 1
            yield from self._records(listed)
            for key in reversed(self._path):
                self._ascend(key)
            if not self._path or not self._next():
                return

    def _records(self, listed: bool) -> Iterator[Row]:
        while character := self._next():
            if character == "]" and listed:
                self._at += 1
                if not self._path and self._next():
                    raise self._refused("has text behind the end of its list")
                return
            row = self._record()
            yield row
            if self._next() == "," and listed:
                self._at += 1
            elif listed and self._next() not in ("]", ""):
                raise self._refused("is not JSON: a comma is missing between two records")
        if listed:
            raise self._refused("is not JSON: it breaks off before the end of its list, as if it was cut")

    def _record(self) -> Row:
        line = self._line
        text = ""
        try:
            value, text = self._value(DECODER)
            return Row(line, text, _as_object(value), last=self._line)
        except EventRefused as refused:
            # The strict decoder stops inside the record, and the other one finds its end.
            text = text or self._value(_LENIENT)[1]
            return Row(line, text, problem=refused, last=self._line)

    def _descend(self, key: str) -> None:
        """Go to the value of `key` in the object that comes next."""
        nowhere = "has no list of records at the path that the mapping names"
        if self._next() != "{":
            raise self._refused(nowhere)
        self._at += 1
        while self._next() == '"':
            found, _ = self._value(_LENIENT)
            if self._next() != ":":
                break
            self._at += 1
            if found == key:
                return
            if self._next() in ("", "}", ","):
                break
            self._value(_LENIENT)
            if self._next() == ",":
                self._at += 1
        raise self._refused(nowhere)

    def _ascend(self, key: str) -> None:
        """Go behind the object that the value of `key` stands in. A second list of that name would be passed over."""
        while self._next() == ",":
            self._at += 1
            found = self._value(_LENIENT)[0] if self._next() == '"' else None
            if self._next() != ":":
                raise self._refused("is not JSON: it cannot be read")
            if found == key:
                raise self._refused("has the list of records twice")
            self._at += 1
            self._next()
            self._value(_LENIENT)
        if self._next() != "}":
            raise self._refused("is not JSON: it breaks off behind the list of records, as if it was cut")
        self._at += 1

    def _next(self) -> str:
        """Return the next character that is no space; empty at the end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            end = self._at if found is None else found.end()
            self._line += self._text.count("\n", self._at, end)
            self._at = end
            if end < len(self._text):
                return self._text[end]
            if not self._more():
                return ""

    def _value(self, decoder: json.JSONDecoder) -> tuple[object, str]:
        """Return the value that comes next, and its text; go behind it."""
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if len(self._text) - self._at > _LONGEST_RECORD:
                    what = f"has a record that is not JSON, or longer than {_LONGEST_RECORD} characters"
                    raise self._refused(what) from None
                text, start = self._text, self._at
                if self._more():
                    continue
                self._line += text.count("\n", start, error.pos)
                cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
                why = "it breaks off before the end of an object, as if it was cut" if cut else "it cannot be read"
                raise self._refused(f"is not JSON: {why}") from None
            except (RecursionError, ValueError):
                raise self._refused("has a record that is not the JSON object of an event") from None
            # A number at the end of a piece may go on in the next.
            if end == len(self._text) and self._more():
                continue
            text = self._text[self._at : end]
            self._line += text.count("\n")
            self._at = end
            return value, text

    def _more(self) -> bool:
        """Read on; return whether there was more."""
        piece = "" if self._ended else self._lines.rest()
        self._ended = not piece
        self._text = self._text[self._at :] + piece
        self._at = 0
        return bool(piece)

    def _refused(self, what: str) -> ProducersError:
        remedy = "Export the file again" if not self._path or "path" not in what else "Correct `records` in the mapping"
        return ProducersError(f"{self._lines.name} line {self._line} {what}", remedy)
