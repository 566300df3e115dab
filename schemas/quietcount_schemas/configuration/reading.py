"""The configuration file, overlaid by the environment and checked whole by the table of keys.

An emitter and the service that read the same file in the same environment find the same log, the same schemas and the
same populations, because both begin here. `QUIETCOUNT_<KEY>` goes before a key of the file and
`QUIETCOUNT_<SECTION>__<KEY>` before a key of a section; names are case-sensitive, an empty variable counts as unset,
and lists and tables are given as JSON. Every path is relative to the folder of the file, also one from the environment.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from quietcount_schemas.configuration.keys import CONFIGURATION, FORMER, Key, Section
from quietcount_schemas.configuration.readers import Unfit, json_of
from quietcount_schemas.errors import QuietcountError, SchemasError

__all__ = ["Fault", "GivenConfiguration", "checked", "place", "read_configuration"]

_PREFIX: Final = "QUIETCOUNT_"
_JSON: Final[Mapping[type, tuple[str, str]]] = {
    list: ("a list", '["my-schemas"]'),
    dict: ("a table", '{"key": "text"}'),
}
_NOT_KEYS: Final = frozenset({"CONFIG", "REQUIRE_ALL", "MUTATIONS", "ORACLE_RUNS", "SEED"})
"""Variables with our prefix that are no keys: the file's own name, and what the project's trials are steered by."""
_TRIALS: Final = "TEST_"
_PLACE: Final = re.compile(r"\.[0-9]+\.")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one key (dotted, populations counted from 1: "population.1.period"), and what to write."""

    key: str
    message: str


@dataclass(frozen=True, slots=True)
class GivenConfiguration:
    """What the file and the environment say, checked: for each key its value, or the default.

    `values` nests as the file does; a repeated section is a tuple. If there are `faults`, the keys that they name have
    no value that means anything: call `refuse_faults` first. `missing` are the keys that the service alone requires.
    """

    path: Path
    values: Mapping[str, Any]
    written: Mapping[str, Any] = field(repr=False)
    """The same with paths as they were written, which are the same on another machine."""
    origins: Mapping[str, str]
    """By key, the variable that its value comes from, or the option."""
    faults: tuple[Fault, ...] = ()
    missing: tuple[Fault, ...] = ()

    def refuse_faults(self, error: type[QuietcountError], *, for_the_service: bool = False) -> None:
        """Raise `error`, with every fault in it, a line each, if there is any."""
        faults = (*self.faults, *self.missing) if for_the_service else self.faults
        if faults:
            told = list(dict.fromkeys(fault.message for fault in faults))
            apart = " " if len(told) == 1 else "\n  "
            raise error(f"{self.path}: the configuration cannot be used", apart.join(["Mend this:", *told]))


def place(key: str, origins: Mapping[str, str]) -> str:
    """Return where a dotted key is given, for a message; `origins` is that of the GivenConfiguration."""
    origin = origins.get(key)
    if origin is None:
        return f"key {key!a}"
    return f"{'option' if origin.startswith('--') else 'variable'} {origin}"


def read_configuration(
    path: Path, environment: Mapping[str, str] | None = None, options: Mapping[str, object] | None = None
) -> GivenConfiguration:
    """Read the TOML file at `path` once, lay the environment and then `options` of a command over it, and check all.

    `environment` is the process's own unless given; an empty one switches it off. Raises SchemasError if the file is
    missing, cannot be read or is not TOML in UTF-8. Faults are not raised: see GivenConfiguration.refuse_faults.
    """
    table: dict[str, Any] = _parsed(path)
    origins: dict[str, str] = {}
    faults = list(_overlay(table, os.environ if environment is None else environment, origins))
    for name, value in (options or {}).items():
        table[name], origins[name] = value, f"--{name.replace('_', '-')}"
    return checked(path, table, origins, faults)


def checked(
    path: Path, table: Mapping[str, Any], origins: Mapping[str, str], faults: Iterable[Fault] = ()
) -> GivenConfiguration:
    """Check a table as the file would have it; `faults` were found before."""
    check = _Check(origins, faults)
    written = check.section(CONFIGURATION, table, "")
    values = _beside(path.absolute().parent, written)
    found = tuple(check.faults.values()), tuple(check.missing)
    return GivenConfiguration(path, MappingProxyType(values), MappingProxyType(written), origins, *found)


class _Check:
    """Reads the values of sections, and collects what is wrong, for each key what was found first."""

    def __init__(self, origins: Mapping[str, str], faults: Iterable[Fault]) -> None:
        self._origins = origins
        self.faults = {fault.key: fault for fault in faults}
        self.missing: list[Fault] = []

    def section(self, section: Section, table: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        """Return the values of `table`, with the defaults of what it leaves out."""
        for name in table:
            if name not in section.members:
                unknown = f"key {prefix + name!a} is unknown{_close(name, section.members, section.members)}"
                if prefix + name in FORMER:
                    unknown = f"key {name!a}: {FORMER[name]}"
                self.faults.setdefault(prefix + name, Fault(prefix + name, unknown))
        values = {key.name: self._value(key, table, prefix) for key in section.keys}
        values |= {inner.name: self._inner(inner, table, prefix) for inner in section.sections}
        for key in section.keys:
            if key.needs and key.name in table and key.needs not in table:
                self._fault(prefix + key.name, f"goes with {prefix}{key.needs}, which is missing")
        for rule in section.rules:
            for name, message in rule(values):
                self._fault(prefix + name, message)
        return values

    def _value(self, key: Key, table: Mapping[str, Any], prefix: str) -> Any:
        name = prefix + key.name
        if key.name in table:
            try:
                return key.reader.read(table[key.name])
            except ValueError as error:
                self._fault(name, str(error) if isinstance(error, Unfit) else key.wanted)
        elif key.required and name not in self.faults:
            fault = Fault(name, f"key {name!a} is missing: {key.wanted}")
            if key.service_alone:
                self.missing.append(fault)
            else:
                self.faults[name] = fault
        return None if key.default is None else key.reader.read(key.default)

    def _inner(self, section: Section, table: Mapping[str, Any], prefix: str) -> Any:
        name = prefix + section.name
        if not section.repeated:
            given = table.get(section.name, {})
            if not isinstance(given, dict):
                self._fault(name, f"write a table: [{_PLACE.sub('.', name)}]")
            return self.section(section, given if isinstance(given, dict) else {}, f"{name}.")
        entries = table.get(section.name, [])
        if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
            self._fault(name, f"write a list of tables: [[{_PLACE.sub('.', name)}]]")
            return ()
        return tuple(self.section(section, each, f"{name}.{number}.") for number, each in enumerate(entries, 1))

    def _fault(self, key: str, message: str) -> None:
        self.faults.setdefault(key, Fault(key, f"{place(key, self._origins)}: {message}"))


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise SchemasError(
            f"There is no configuration file {path}",
            "Go to the project's folder, or name the file with --config. On an emitter copy it from the service's "
            "machine. For a new project, run: quietcount init",
        ) from None
    except UnicodeDecodeError:
        raise SchemasError(f"{path} is not UTF-8 text", "Save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SchemasError(f"{path} is not TOML: {error}", "Mend that line") from None
    except (RecursionError, ValueError):  # nesting without end, a number of more digits than Python converts
        raise SchemasError(
            f"{path} is not TOML that can be read", "Look for a number or a nesting that does not end"
        ) from None
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise SchemasError(f"Cannot read the configuration file {path}: {reason}", "Check --config") from None


def _overlay(table: dict[str, Any], environment: Mapping[str, str], origins: dict[str, str]) -> Iterator[Fault]:
    """Lay the variables over `table`, a section's keys after the section, and yield those that cannot be."""
    names: dict[str, tuple[str, Key | Section]] = {
        f"{_PREFIX}{name.upper()}": (name, member) for name, member in CONFIGURATION.members.items()
    }
    for section in CONFIGURATION.sections:
        if not section.repeated:
            names |= {
                f"{_PREFIX}{section.name}__{name}".upper(): (f"{section.name}.{name}", member)
                for name, member in section.members.items()
            }
    for variable in sorted(environment):
        given = variable.removeprefix(_PREFIX)
        if given == variable or not environment[variable] or given in _NOT_KEYS or given.startswith(_TRIALS):
            continue
        if variable not in names:
            every = [f"{_PREFIX}CONFIG", *names]
            alike = [name for name in every if name.rpartition("__")[0] == variable.rpartition("__")[0]]
            known = _close(variable, every, alike or [name for name in every if "__" not in name])
            yield Fault(f"${variable}", f"variable {_plain(variable)} is unknown{known}")
    for variable, (key, member) in names.items():
        if environment.get(variable):
            yield from _lay(table, key, member, variable, environment[variable], origins)


def _lay(
    table: dict[str, Any], key: str, member: Key | Section, variable: str, text: str, origins: dict[str, str]
) -> Iterator[Fault]:
    """Put the value of one variable into `table`; yield what is wrong with it."""
    section, _, name = key.rpartition(".")
    kind = _json_kind(member)
    value: Any = text
    if kind is not None:
        try:
            value = json_of(text)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, kind):
            what, example = _JSON[kind]
            yield Fault(key, f"variable {variable}: write {what} as JSON, as {example}")
            table.pop(name, None)
            return
    elif isinstance(member, Key):
        try:
            value = member.reader.of_variable(text)
        except ValueError:
            value = text  # which its reader refuses
    origins[key] = variable
    inner = table.setdefault(section, {}) if section else table
    if not isinstance(inner, dict):
        return  # the file has something else in the section's place, and is refused for that
    inner[name] = {**inner[name], **value} if kind is dict and isinstance(inner.get(name), dict) else value


def _json_kind(member: Key | Section) -> type | None:
    if isinstance(member, Section):
        return list if member.repeated else dict
    return list if member.reader.of_variable is json_of else None


def _beside(folder: Path, value: Any) -> Any:
    """Return `value` with every path in it made relative to `folder`."""
    match value:
        case Path():
            return folder / value
        case dict():
            return {name: _beside(folder, each) for name, each in value.items()}
        case tuple() if type(value) is tuple:  # an Address is one, too
            return tuple(_beside(folder, each) for each in value)
        case _:
            return value


def _plain(name: str) -> str:
    return name if re.fullmatch(r"\w+", name, re.ASCII) else ascii(name)


def _close(name: str, known: Iterable[str], shown: Iterable[str]) -> str:
    """Return the known name that `name` is a slip of, or which names there are: those that are `shown`."""
    from difflib import get_close_matches

    folded = {each.casefold(): each for each in known}
    given = name.casefold()[:100]
    # A slip is a letter or two, however long the name is: long names of one section are much alike.
    close = get_close_matches(given, folded, n=1, cutoff=1 - 1.5 / (len(given) + 1))
    close += [each for each in folded if each.startswith(f"{given}_")]  # as "password" for "password_file"
    return f": did you mean {folded[close[0]]!r}?" if close else f": known are {', '.join(shown)}"
