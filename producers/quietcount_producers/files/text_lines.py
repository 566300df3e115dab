"""The lines of a file as text: its encoding found, its line ends those of any system.

A line that is no text in that encoding, or too long, is refused and the next one read. What is not text in the
encoding is kept with escapes, so that the file of bad lines shows it.
"""

from __future__ import annotations

import codecs
import io
import re
from typing import BinaryIO, Final

from quietcount_producers.errors import EventRefused, ProducersError
from quietcount_producers.files.rows import LONGEST_LINE

__all__ = ["Lines"]

_CHUNK: Final = 1 << 18
_HEAD: Final = 4096
_MARKS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_ENCODINGS: Final = re.compile(
    r"ascii|utf-8|utf-16(-[lb]e)?|cp(1[0-9]{3}|[78][0-9]{2}|437)|iso8859-[0-9]+|koi8-[rut]|mac-[a-z0-9]+"
    r"|gbk|gb18030|big5|shift_jis|cp932|euc_(jp|kr)"
)
"""Encodings of texts that people save. Python knows others, such as rot13 and idna, that would only hide a mistake."""
_NOT_TEXT: Final = {True: re.compile("[\udc80-\udcff]"), False: re.compile("\ufffd")}
"""What bytes become that are no text in UTF-8, and in any other encoding."""
_LEAST_ZEROS: Final = 0.05
"""The share of UTF-16 characters that are ASCII: in a table of Cyrillic names, the header, the dates and the commas."""
_LEAST_CYRILLIC: Final = 0.6
"""The share of the bytes above ASCII that stand in a row: a Cyrillic word has many, a French one one or two."""


class Lines:
    """The lines of a binary stream, with their ends; an iterator that goes on after a line it has refused.

    A mark at the beginning decides, then `encoding` if it is given, then the zeros of UTF-16. Else the file is UTF-8.
    Raises ProducersError for an encoding that is unknown or that the file is evidently not in.
    """

    def __init__(self, stream: BinaryIO, name: str, encoding: str | None = None) -> None:
        self.name = name
        self.ended = False
        """Whether a line was asked for behind the last one."""
        self._stream = stream
        self._buffer: list[str] = []
        self._first = 1  # the number of the line that the buffer begins with
        self._start = 0  # where the row begins in it
        self._at = 0  # which line comes next
        self._size = 0  # how long the row is behind its first line
        self._refused: dict[int, EventRefused] = {}
        self._rest = ""
        self._whole = False
        self._head = stream.read(_HEAD)
        self._named = encoding is not None
        self._encoding = self._recognised(encoding)
        self._decoder = codecs.getincrementaldecoder(self._encoding)()
        self._looks_utf_8 = self._named and not self._encoding.startswith("utf-")
        self._beyond_ascii = False
        self._utf_8 = codecs.getincrementaldecoder("utf-8")()

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        at = self._at
        if at >= len(self._buffer):
            if not self._fill():
                self.ended = True
                raise StopIteration
            at = self._at
        self._at = at + 1
        text = self._buffer[at]
        if self._refused and (refused := self._refused.get(self._first + at)) is not None:
            raise refused
        if at > self._start:
            self._size += len(text)
            if self._size > LONGEST_LINE:
                raise EventRefused("", f"begins a row longer than {LONGEST_LINE} characters")
        return text

    def begin(self) -> None:
        """Forget the text so far: a new row begins."""
        self._start = self._at
        self._size = 0

    def back(self, lines: int = 0) -> None:
        """Give the lines of the row again, without its first `lines`."""
        self._at = min(self._at, self._start + lines)
        self._size = 0
        self.ended = False

    def ahead(self) -> list[str]:
        """Return the lines that are next and read already, without giving them; empty at the end."""
        if self._at >= len(self._buffer):
            self._start = self._at
            if not self._fill():
                return []
        return self._buffer[self._at :] if self._at else self._buffer

    def are_refused(self) -> bool:
        """Return whether one of the lines that are next and read already is refused."""
        return any(number >= self._first + self._at for number in self._refused)

    def skip(self, lines: int) -> None:
        """Go on behind the next `lines`."""
        self._at += lines

    @property
    def number(self) -> int:
        """The number of the line that was given last."""
        return self._first + self._at - 1

    @property
    def span(self) -> int:
        """How many lines the row has so far."""
        return self._at - self._start

    @property
    def row(self) -> list[str]:
        """The lines of the row so far."""
        return self._buffer[self._start : self._at]

    @property
    def text(self) -> str:
        """The text of the row so far, without its line end."""
        return "".join(self.row).rstrip("\r\n")

    def rest(self) -> str:
        """Return the next piece of text as it comes, lines or not; empty at the end."""
        if self._buffer or self._rest:
            text = "".join(self._buffer[self._start :]) + self._rest
            self._buffer, self._rest, self._start, self._at = [], "", 0, 0
            return text
        while not self._whole:
            if text := self._read(strict=True):
                return text
        return ""

    def _fill(self) -> bool:
        """Read on until there is another line; return whether there is one."""
        if self._start:
            del self._buffer[: self._start]
            self._first += self._start
            self._at -= self._start
            self._start = 0
            self._refused = {number: each for number, each in self._refused.items() if number >= self._first}
        while self._at >= len(self._buffer):
            if self._is_whole():
                return False
            text = self._rest + self._read()
            # A carriage return at the very end may be the half of a line end.
            end = len(text) if self._is_whole() else max(text.rfind("\n"), text.rfind("\r", 0, len(text) - 1)) + 1
            self._rest = text[end:][: LONGEST_LINE + 1]
            lines = list(io.StringIO(text[:end], newline=""))
            if lines and max(map(len, lines)) > LONGEST_LINE:
                self._refuse_long(lines)
            self._buffer += lines
        return True

    def _is_whole(self) -> bool:
        """Return whether the stream was read to its end."""
        return self._whole

    def _refuse_long(self, lines: list[str]) -> None:
        for place, line in enumerate(lines):
            if len(line) > LONGEST_LINE:
                reason = f"is longer than {LONGEST_LINE} characters; one line is one event"
                self._refused[self._first + len(self._buffer) + place] = EventRefused("", reason)
                lines[place] = ""

    def _read(self, *, strict: bool = False) -> str:
        """Read a piece and return its text; mark the lines of what is none."""
        data, self._head = self._head or self._stream.read(_CHUNK), b""
        self._whole = not data
        if self._looks_utf_8:
            self._compare(data)
        try:
            return self._decoder.decode(data, self._whole)
        except UnicodeDecodeError:
            reason = f"is not {self._title} text{self._advice(data)}"
        if strict:
            what, _, remedy = reason.partition("; ")
            raise ProducersError(f"{self.name} {what}", remedy[0].upper() + remedy[1:])
        utf_8 = self._encoding == "utf-8"
        self._decoder.errors = "surrogateescape" if utf_8 else "replace"
        text = self._decoder.decode(data, self._whole)
        self._decoder.errors = "strict"
        lines = list(io.StringIO(self._rest + text, newline=""))
        for place, line in enumerate(lines):
            if _NOT_TEXT[utf_8].search(line):
                self._refused[self._first + len(self._buffer) + place] = EventRefused("", reason)
        # Escapes, and no surrogates: the file of bad lines is UTF-8.
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

    def _recognised(self, encoding: str | None) -> str:
        """Return the encoding of the file and take its mark away."""
        marked = next(((mark, its) for mark, its in _MARKS if self._head.startswith(mark)), None)
        named = None if encoding is None else self._looked_up(encoding)
        if marked is not None:
            mark, its = marked
            self._head = self._head[len(mark) :]
            return its
        if named is not None and named != "utf-16":
            return named
        for its, zeros, letters in (("utf-16-le", self._head[1::2], self._head[::2]), ("utf-16-be", *self._halves())):
            if letters and zeros.count(0) > len(letters) * _LEAST_ZEROS and 0 not in letters:
                return its
        return "utf-16-le" if named else "utf-8"

    def _halves(self) -> tuple[bytes, bytes]:
        return self._head[::2], self._head[1::2]

    def _looked_up(self, encoding: str) -> str:
        try:
            found = codecs.lookup(encoding).name
        except (LookupError, ValueError):
            found = ""
        if not _ENCODINGS.fullmatch(found):
            raise ProducersError(
                f"{self.name}: there is no encoding of the name that was given",
                "Give one such as utf-8, utf-16, windows-1251, windows-1252 or iso-8859-1",
            )
        return found

    @property
    def _title(self) -> str:
        return {"utf-8": "UTF-8", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}.get(self._encoding, self._encoding)

    def _advice(self, data: bytes) -> str:
        """Return what to do about bytes that are no text in the encoding, with a guess of what they are."""
        if self._encoding != "utf-8":
            return "; name another with --encoding, or save the file as UTF-8"
        high = re.findall(rb"[\x80-\xff]+", data)
        letters = sum(len(run) for run in high if len(run) > 2)
        cyrillic = letters > _LEAST_CYRILLIC * sum(map(len, high))
        guess = "windows-1251 (Cyrillic)" if cyrillic else "windows-1252 (Western Europe)"
        option = guess.partition(" ")[0]
        return f"; save the file as UTF-8, or if it is {guess}, give --encoding {option}"

    def _compare(self, data: bytes) -> None:
        """Refuse a file that is UTF-8 throughout, and is not in the encoding that was named.

        Read as another encoding, each name would give another case key, and nothing would say so.
        """
        self._beyond_ascii = self._beyond_ascii or not data.isascii()
        try:
            self._utf_8.decode(data, not data)
        except UnicodeDecodeError:
            self._looks_utf_8 = False
            return
        if not data and self._beyond_ascii:
            raise ProducersError(
                f"{self.name} is UTF-8 text, and not in the encoding that was named", "Leave the encoding out"
            )
