"""The tables of a mapping file, read key by key: what is wrong is collected, and an unknown key is found."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from quietcount_producers.composition import close_match, listed
from quietcount_producers.errors import ProducersError

__all__ = ["BLANK", "Faults", "Table", "parsed", "refuse_draft"]

BLANK: Final = "FILL IN"
"""What a draft has where a person has to write something."""

_LARGEST: Final = 1024 * 1024
"""Bytes. A mapping has some thousand; a larger file is an export given in its place."""


class Faults:
    """What is wrong with the mapping at `path`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._found: dict[str, str] = {}

    def add(self, key: str, message: str) -> None:
        """Note what is wrong with a key; the first fault of a key is the one that is shown."""
        self._found.setdefault(key, message)

    def refuse(self) -> None:
        """Raise ProducersError if there is anything to mend."""
        if self._found:
            told = [f"key {key!a}: {message}" for key, message in self._found.items()]
            apart = " " if len(told) == 1 else "\n  "
            raise ProducersError(f"{self.path}: the mapping cannot be used", apart.join(["Mend this:", *told]))


class Table:
    """One table of the file, at `place` (dotted; tables of a list counted from 1)."""

    def __init__(self, given: Mapping[str, Any], place: str, known: Sequence[str], faults: Faults) -> None:
        self.given = given
        self.place = place
        self.faults = faults
        for name in given:
            if known and name not in known:
                known_names = close_match(name, known) or f": known are {', '.join(known)}"
                faults.add(self.key(name), f"is unknown{known_names}")

    def key(self, name: str) -> str:
        """Return the dotted name of a key of this table."""
        return f"{self.place}.{name}" if self.place else name

    def __contains__(self, name: str) -> bool:
        return name in self.given

    def fault(self, name: str, message: str) -> None:
        """Note what is wrong with a key of this table."""
        self.faults.add(self.key(name) if name else self.place, message)

    def text(self, name: str, wanted: str, *, required: bool = False) -> str | None:
        """Return text that is not empty, or None if it is missing or something else, which is then a fault."""
        if name not in self.given:
            if required:
                self.fault(name, f"is missing: {wanted}")
            return None
        value = self.given[name]
        if not isinstance(value, str) or not value.strip():
            self.fault(name, wanted)
            return None
        return value

    def column(self, name: str, *, required: bool = False) -> str | None:
        """Return the name of a column, as the header has it without the spaces around it."""
        found = self.text(name, "write the name of a column", required=required)
        return None if found is None else found.strip()

    def columns(self, name: str) -> tuple[str, ...]:
        """Return the name of a column, or the names of several."""
        value = self.given.get(name)
        if not isinstance(value, list):
            found = self.column(name)
            return () if found is None else (found,)
        wanted = 'write the name of a column, or a list of names as ["year", "number"]'
        if not value or not all(isinstance(each, str) and each.strip() for each in value):
            self.fault(name, wanted)
        elif len({each.strip() for each in value}) != len(value):
            self.fault(name, "names a column twice")
        else:
            return tuple(each.strip() for each in value)
        return ()

    def truth(self, name: str) -> bool | None:
        """Return true or false, or None if it is missing."""
        value = self.given.get(name)
        if value is not None and not isinstance(value, bool):
            self.fault(name, "write true or false")
            return None
        return value

    def inner(self, name: str, known: Sequence[str], wanted: str) -> Table | None:
        """Return the table `name`, or None if it is missing or no table."""
        if name not in self.given:
            return None
        value = self.given[name]
        if not isinstance(value, dict):
            self.fault(name, wanted)
            return None
        return self.nested(name, known)

    def nested(self, name: str, known: Sequence[str]) -> Table:
        """Return the table `name`, which is one."""
        return Table(self.given[name], self.key(name), known, self.faults)

    def several(self, name: str, known: Sequence[str], wanted: str) -> Iterator[Table]:
        """Yield the tables of a list; one table alone stands for a list of one."""
        value = self.given.get(name, [])
        if isinstance(value, dict):
            value = [value]
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            self.fault(name, wanted)
            return
        for number, each in enumerate(value, start=1):
            yield Table(each, f"{self.key(name)}.{number}", known, self.faults)


def parsed(path: Path) -> dict[str, Any]:
    """Return the TOML of the file at `path`. Raises ProducersError."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ProducersError(
                f"{path} is too large for a mapping", "Name the mapping, a file that ends in .toml, not the export"
            )
        return tomllib.loads(content.decode("utf-8-sig"))
    except FileNotFoundError:
        raise ProducersError(
            f"There is no mapping {path}",
            "Check the path. `quietcount mapping list` names those that come with quietcount, and "
            "`quietcount mapping new FILE` drafts one",
        ) from None
    except UnicodeDecodeError:
        raise ProducersError(f"{path}: the mapping is not UTF-8 text", "Save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        # Its text quotes keys at most, and says the line.
        raise ProducersError(f"{path}: the mapping is not TOML: {_shown(error)}", "Mend that line") from None
    except (RecursionError, ValueError):  # nesting without end, a number of more digits than Python converts
        raise ProducersError(
            f"{path}: the mapping is not TOML that can be read", "Look for a number or a nesting that does not end"
        ) from None
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise ProducersError(f"Cannot read the mapping {path}: {reason}", "Check the path and its rights") from None


def refuse_draft(given: Mapping[str, Any], path: str) -> None:
    """Raise ProducersError if the file at `path` is a draft with something left to fill in."""
    left = list(_blanks(given, ""))
    if left:
        raise ProducersError(
            f"{path}: the mapping is a draft that is not filled in",
            f'Fill in {listed(left)}: write what fits in place of "{BLANK}", or take the line out. One that comes with '
            "quietcount is copied first: quietcount mapping show NAME > my.toml",
        )


def _blanks(value: object, place: str, deepest: int = 20) -> Iterator[str]:
    """Yield the keys that are to be filled in. What stands in an export, which `values` name, is not shown."""
    if value == BLANK:
        yield place
    elif deepest == 0:
        return  # dotted keys nest without end, and no table of a mapping is so deep
    elif isinstance(value, dict):
        for number, (key, each) in enumerate(value.items(), start=1):
            hidden = place.endswith((".values", ".choices"))
            inner = f"{place} (entry {number})" if hidden else f"{place}.{key}" if place else key
            yield from _blanks(each, inner, deepest - 1)
    elif isinstance(value, list):
        for number, each in enumerate(value, start=1):
            yield from _blanks(each, f"{place}.{number}", deepest - 1)


def _shown(error: tomllib.TOMLDecodeError) -> str:
    """Return what is wrong and at which line and column, without what stands there."""
    said = str(error)
    what, at, where = said.rpartition(" (at ")
    what = what.partition(":")[0].partition("'")[0].strip()
    return f"{what or 'cannot be read'} ({at.strip(' (')} {where}" if at else "cannot be read"
