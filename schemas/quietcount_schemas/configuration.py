"""The configuration as every part reads it: one TOML file, overlaid by the environment, its keys and paths checked.

An emitter and the service that read the same file in the same environment find the same log, the same schemas and the
same statistics, because both begin here. `QUIETCOUNT_<KEY>` goes before a key of the file and
`QUIETCOUNT_<SECTION>__<KEY>` before a key of a section; names are case-sensitive, an empty variable counts as unset,
and lists and tables are given as JSON. Every path is relative to the folder of the file, also one from the environment.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn

from quietcount_schemas.errors import SchemasError
from quietcount_schemas.periods import Period

__all__ = [
    "DEFAULT_DATA_DIR",
    "DEFAULT_IDS_FILE",
    "DEFAULT_LOG",
    "DEFAULT_PEPPER_FILE",
    "DEFAULT_SECRET_FILE",
    "KAFKA_SCHEME",
    "KEYS",
    "LOG_FILE",
    "Fault",
    "RawConfiguration",
    "place",
    "private_folder",
    "read_configuration",
]

DEFAULT_LOG: Final = "embedded"
DEFAULT_DATA_DIR: Final = "data"
DEFAULT_PEPPER_FILE: Final = "secrets/pepper"
DEFAULT_SECRET_FILE: Final = "secrets/service"  # noqa: S105 (a path)
DEFAULT_IDS_FILE: Final = "registry-ids.json"

KAFKA_SCHEME: Final = "kafka://"
"""What `log` begins with when it names the brokers of Kafka and not the embedded log."""

LOG_FILE: Final = "log.sqlite"
"""The embedded log's file in the private folder."""

_DURATION: Final = 'write a duration from "{}" to "{}": a number, then s, m, h or d'
_PATH: Final = "write a path as text that is not empty"
_TEXT: Final = "write text that is not empty"

KEYS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "": {
            "log": f'write "{DEFAULT_LOG}", or the brokers of Kafka, as "{KAFKA_SCHEME}host:9092,host2:9092"',
            "data_dir": _PATH,
            "lifetime_epsilon": "write a number above 0, 100 at most",
            "grace": _DURATION.format("0d", "366d"),
            "tick": _DURATION.format("1s", "1d"),
            "schemas": 'write a list of folders, as ["my-schemas"]',
            "emitter": "write a table: [emitter]",
            "service": "write a table: [service]",
            "kafka": "write a table: [kafka]",
            "schema_registry": "write a table: [schema_registry]",
            "metrics": "write a table: [metrics]",
            "statistic": "write a list of tables: [[statistic]]",
        },
        "emitter": {"pepper_file": _PATH, "spool": _PATH},
        "service": {"secret_file": _PATH, "log_format": 'write "auto", "console" or "json"'},
        "kafka": {
            "topic_prefix": "write letters, digits, '.', '_' and '-', as text",
            "tls": "write true or false",
            "ca_file": _PATH,
            "certificate_file": _PATH,
            "key_file": _PATH,
            "key_password_file": _PATH,
            "username": _TEXT,
            "password_file": _PATH,
            "sasl_mechanism": 'write "SCRAM-SHA-512" or "SCRAM-SHA-256"',
        },
        "schema_registry": {
            "url": 'write an address, as "https://registry:8081"',
            "username": _TEXT,
            "password_file": _PATH,
            "ca_file": _PATH,
            "ids_file": _PATH,
        },
        "metrics": {
            "listen": 'write "off", or an address and a port, as "127.0.0.1:9464" or "[::1]:9464"',
            "certificate_file": _PATH,
            "key_file": _PATH,
            "username": _TEXT,
            "password_file": _PATH,
        },
        "statistic": {
            "name": "write text",
            "events": 'write a list of event types, as ["HelpRequested"]',
            "where": 'write a table of lists, as { help_kind = ["DESERTION"] }',
            "by": 'write a list of fields, as ["service_category"]',
            "period": f"write one of {', '.join(Period)}, as text",
            "max_contributions": "write a whole number",
            "horizon": 'write "lifetime" or "year"',
            "since": "write a date, as 2023-04-01",
            "epsilon": "write a number",
            "late": 'write "carry" or "drop"',
        },
    }
)
"""Every key by section (the top level is ""), with what to write there."""

_PREFIX: Final = "QUIETCOUNT_"
_SECTIONS: Final = ("emitter", "service", "kafka", "schema_registry", "metrics")
_JSON: Final[Mapping[str, type]] = {"schemas": list, "statistic": list} | dict.fromkeys(_SECTIONS, dict)
_BOOLEANS: Final = {"kafka.tls": {"true": True, "false": False}}
"""Keys that are no text, with what a variable says for them."""
_NOT_KEYS: Final = frozenset({"CONFIG", "REQUIRE_ALL", "MUTATIONS", "ORACLE_RUNS", "SEED"})
"""Variables with our prefix that are no keys: the file's own name, and what the project's trials are steered by."""
_TRIALS: Final = "TEST_"
_PLACE: Final = re.compile(r"\.[0-9]+\.")


def private_folder(data_dir: Path) -> Path:
    """Return the folder of the log, the ledger and the state, two levels down, both of mode 0700.

    Files come and go in the inner one, so the modification time of the outer one, which others can see, tells nothing.
    """
    return data_dir / "private" / "store"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one key (dotted, statistics counted from 1: "statistic.1.period")."""

    key: str
    message: str


@dataclass(frozen=True, slots=True)
class RawConfiguration:
    """The table of the file and the environment together; `faults` are the unknown keys and the paths out of order.

    Who goes on to check values refuses with `refusal`, which tells these faults with its own.
    """

    path: Path
    table: Mapping[str, Any]
    origins: Mapping[str, str]
    """By key, the variable that its value comes from, or the option."""
    faults: tuple[Fault, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder that paths are relative to."""
        return self.path.absolute().parent

    @property
    def log(self) -> str:
        """Which log there is."""
        return str(self.table.get("log", DEFAULT_LOG))

    @property
    def data_dir(self) -> Path:
        """The data folder."""
        return self.folder / str(self.table.get("data_dir", DEFAULT_DATA_DIR))

    @property
    def schemas(self) -> tuple[Path, ...]:
        """The folders with event types of one's own."""
        return tuple(self.folder / str(each) for each in self.table.get("schemas", ()))

    @property
    def pepper_file(self) -> Path:
        """The emitters' secret."""
        return self.folder / str(self.table.get("emitter", {}).get("pepper_file", DEFAULT_PEPPER_FILE))

    @property
    def spool(self) -> Path | None:
        """The emitters' spool, if they have one."""
        return self.path_of("emitter.spool")

    def path_of(self, key: str) -> Path | None:
        """Return the path that a dotted key of a section names, or None where it is not given."""
        given = self.value_of(key)
        return None if given is None else self.folder / str(given)

    def value_of(self, key: str) -> Any:
        """Return the value of a dotted key of a section, or None where it is not given."""
        section, _, name = key.rpartition(".")
        return self.table.get(section, {}).get(name)

    def fault(self, key: str, message: str = "") -> Fault:
        """Return the fault of a key: `message`, or what to write there."""
        section, _, name = _PLACE.sub(".", key).rpartition(".")
        wanted = message or KEYS.get(section, {}).get(name, "this cannot stand here")
        return Fault(key, f"{place(key, self.origins)}: {wanted}")

    def refusal(self, faults: Iterable[Fault] = ()) -> str:
        """Return the message that tells every fault: those found in reading, and the others' of other keys."""
        known = {fault.key for fault in self.faults}
        others = [fault for fault in faults if fault.key not in known]
        return f"{self.path}: " + "; ".join(dict.fromkeys(fault.message for fault in (*self.faults, *others)))


def place(key: str, origins: Mapping[str, str]) -> str:
    """Return where a dotted key is given, for a message; `origins` is that of the RawConfiguration."""
    origin = origins.get(key)
    if origin is None:
        return f"key {key!a}"
    return f"{'option' if origin.startswith('--') else 'variable'} {origin}"


def read_configuration(path: Path, environment: Mapping[str, str] | None = None) -> RawConfiguration:
    """Read the TOML file at `path` once, lay the environment over it, and note what is wrong with keys and paths.

    `environment` is the process's own unless given; an empty one switches it off. Raises SchemasError when the file is
    missing, cannot be read or is not TOML in UTF-8. Faults are not raised: see RawConfiguration.refusal.
    """
    table: dict[str, Any] = _parsed(path)
    origins: dict[str, str] = {}
    faults = list(_overlay(table, os.environ if environment is None else environment, origins))
    bare = RawConfiguration(path, table, MappingProxyType(origins))
    faults += [*_unknown(table), *_misshapen(bare)]
    return RawConfiguration(path, MappingProxyType(table), bare.origins, tuple(faults))


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise SchemasError(
            f"There is no configuration file {path}. `quietcount init` writes one; on an emitter copy it from the "
            "machine where that was run. Or name another with --config."
        ) from None
    except UnicodeDecodeError:
        raise SchemasError(f"{path} is not UTF-8 text. Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise SchemasError(f"{path} is not TOML: {error}. Mend that line.") from None
    except (RecursionError, ValueError):  # nesting without end, a number of more digits than Python converts
        raise SchemasError(f"{path} is not TOML that can be read: a number or the nesting has no end.") from None
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise SchemasError(f"Cannot read the configuration file {path}: {reason}. Check --config.") from None


def _overlay(table: dict[str, Any], environment: Mapping[str, str], origins: dict[str, str]) -> Iterator[Fault]:
    """Lay the variables over `table`, a section's keys after the section, and yield those that cannot be."""
    names = {f"{_PREFIX}{key.upper()}": key for key in KEYS[""]}
    names |= {f"{_PREFIX}{each.upper()}__{key.upper()}": f"{each}.{key}" for each in _SECTIONS for key in KEYS[each]}
    for variable in sorted(environment):
        given = variable.removeprefix(_PREFIX)
        if given == variable or not environment[variable] or given in _NOT_KEYS or given.startswith(_TRIALS):
            continue
        if variable not in names:
            yield Fault(f"${variable}", f"variable {_plain(variable)} is unknown{_close(variable, names)}")
    for variable, key in names.items():
        value: Any = environment.get(variable)
        if not value:
            continue
        section, _, name = key.rpartition(".")
        if name in _JSON:
            value = _json(value)
            if not isinstance(value, _JSON[name]):
                what, example = ("a list", '["my-schemas"]') if _JSON[name] is list else ("a table", '{"key": "text"}')
                yield Fault(key, f"variable {variable}: write {what} as JSON, as {example}")
                table.pop(name, None)
                continue
        elif key in _BOOLEANS:
            value = _BOOLEANS[key].get(value.strip().lower(), value)
        origins[key] = variable
        inner = table.get(section, {}) if section else table
        if not isinstance(inner, dict):
            continue  # the file has something else in the section's place, which is told as such
        if isinstance(value, dict) and isinstance(inner.get(name), dict):
            value = {**inner[name], **value}
        inner[name] = value
        if section:
            table[section] = inner


def _json(text: str) -> object:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    try:
        found: object = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return None
    return found


def _unknown(table: Mapping[str, Any]) -> Iterator[Fault]:
    yield from _unknown_in("", "", table)
    for section in _SECTIONS:
        if isinstance(table.get(section), dict):
            yield from _unknown_in(section, f"{section}.", table[section])
    if isinstance(table.get("statistic"), list):
        for number, entry in enumerate(table["statistic"], 1):
            if isinstance(entry, dict):
                yield from _unknown_in("statistic", f"statistic.{number}.", entry)


def _unknown_in(section: str, prefix: str, table: Mapping[str, Any]) -> Iterator[Fault]:
    for key in table:
        if key not in KEYS[section]:
            yield Fault(f"{prefix}{key}", f"key {prefix + key!a} is unknown{_close(key, KEYS[section])}")


def _misshapen(raw: RawConfiguration) -> Iterator[Fault]:
    """Yield what no part could read: sections that are none, and paths that name nothing."""
    table = raw.table
    for key in ("log", "data_dir"):
        if key in table and not _is_name(table[key]):
            yield raw.fault(key)
    schemas = table.get("schemas", [])
    if not isinstance(schemas, list) or not all(map(_is_name, schemas)):
        yield raw.fault("schemas")
    for section in _SECTIONS:
        inner = table.get(section, {})
        if not isinstance(inner, dict):
            yield raw.fault(section)
            continue
        for key in KEYS[section]:
            if key in inner and not _is_right(f"{section}.{key}", inner[key]):
                yield raw.fault(f"{section}.{key}")
    statistics = table.get("statistic", [])
    if not isinstance(statistics, list) or not all(isinstance(entry, dict) for entry in statistics):
        yield raw.fault("statistic")


def _is_right(key: str, value: object) -> bool:
    if key in _BOOLEANS:
        return isinstance(value, bool)
    return _is_name(value) or (key == "kafka.topic_prefix" and value == "")


def _is_name(value: object) -> bool:
    # "" would be the configuration's own folder, and no system has a path with a NUL byte in it.
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value


def _plain(name: str) -> str:
    return name if re.fullmatch(r"\w+", name, re.ASCII) else ascii(name)


def _close(name: str, known: Iterable[str]) -> str:
    folded = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(name.casefold()[:100], folded, n=1)
    return f"; did you mean {folded[close[0]]!r}?" if close else f"; known are {', '.join(folded.values())}"
