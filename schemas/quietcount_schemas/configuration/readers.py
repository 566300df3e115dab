"""How one value of the configuration is read: what a person may write, and what the code works with.

A reader raises ValueError for any other value. Only the text of an Unfit is shown: other texts may hold the value.
Modules that most values do not need are imported where they are used: every command reads the configuration.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from quietcount_schemas.configuration.places import DEFAULT_LOG, DEFAULT_PORT, KAFKA_SCHEME
from quietcount_schemas.events.numbers import Buckets, Summed

__all__ = [
    "Address",
    "Reader",
    "Unfit",
    "boolean",
    "brokers_of",
    "choice",
    "choices",
    "day",
    "dimensions",
    "duration",
    "is_this_machine",
    "json_of",
    "listen",
    "log",
    "number",
    "path",
    "paths",
    "summed",
    "symbols_by_field",
    "text",
    "texts",
    "url",
    "url_path",
    "user_of_http",
    "whole_number",
]

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION: Final = re.compile(r"([0-9]{1,9})\s*(s|m|h|d)")  # so few digits that no number of days overflows
_BROKER: Final = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?::(?P<port>[0-9]{1,5}))?"
)
_LISTEN: Final = re.compile(r"(?:\[(?P<bracketed>[0-9A-Fa-f:.]+)\]|(?P<plain>[0-9.]+|localhost)):(?P<port>[0-9]{1,5})")
_OFF: Final = "off"
_LOOPBACK: Final = "127.0.0.1"
_HIGHEST_PORT: Final = 65_535


class Unfit(ValueError):
    """A value that cannot be used; the text says what is wrong, or what to write."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the value of one key.

    `wanted` says what to write, as an instruction. `read` turns a value of the file into what the code works with, and
    raises ValueError. `of_variable` turns a variable's text into what the file would have; it raises ValueError, too.
    """

    wanted: str
    read: Callable[[Any], Any]
    of_variable: Callable[[str], object] = str


class Address(NamedTuple):
    """An IPv4 or IPv6 address of this machine and a port; `host` is None if nothing is served."""

    host: str | None
    port: int


def text(wanted: str = "write text that is not empty", pattern: str = "") -> Reader:
    """Read text, which is not empty; or, with a `pattern`, text that has its form."""

    def read(value: object) -> str:
        if not pattern:
            return _text(value)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError
        return value

    return Reader(wanted, read)


def path() -> Reader:
    """Read a path."""
    return Reader("write a path as text that is not empty", lambda value: Path(_text(value)))


def paths(wanted: str) -> Reader:
    """Read a list of paths."""
    return Reader(wanted, lambda value: tuple(Path(_text(each)) for each in _list(value)), json_of)


def texts(wanted: str) -> Reader:
    """Read a list of text."""
    return Reader(wanted, lambda value: tuple(_text(each) for each in _list(value)), json_of)


def dimensions(wanted: str) -> Reader:
    """Read a list of what to break down by: names of fields, and numbers with their buckets."""
    keys = 'beside a field stand the numbers at which its buckets begin: { field = "age", buckets = [0, 18, 65] }'

    def read(value: object) -> tuple[str | Buckets, ...]:
        return tuple(_buckets(each) if isinstance(each, dict) else _text(each) for each in _list(value))

    def _buckets(value: dict[str, object]) -> Buckets:
        if value.keys() != {"field", "buckets"}:
            raise Unfit(keys)
        numbers = _numbers(value["buckets"])
        if not numbers or list(numbers) != sorted(set(numbers)):
            raise Unfit(f"the numbers at which buckets begin are in ascending order, and {keys}")
        return Buckets(_text(value["field"]), numbers)

    return Reader(wanted, read, json_of)


def summed() -> Reader:
    """Read which number is summed up."""

    def read(value: object) -> Summed:
        if not isinstance(value, dict) or value.keys() != {"field", "between", "count"}:
            raise ValueError
        numbers = _numbers(value["between"])
        if len(numbers) != 2 or numbers[0] >= numbers[1] or (numbers[1] - numbers[0]) % 2:
            raise Unfit("between has two whole numbers an even number apart, the lower one first, as [0, 120]")
        return Summed(_text(value["field"]), (numbers[0], numbers[1]), _text(value["count"]))

    wanted = 'write { field = "days_waited", between = [0, 120], count = "requests_by_kind" }'
    return Reader(wanted, read, json_of)


def choice(wanted: str, kind: type[StrEnum] | tuple[str, ...]) -> Reader:
    """Read one of a few words, as a member of `kind` if that is an enumeration."""

    def read(value: object) -> str:
        _demand(isinstance(value, str) and value in [str(each) for each in kind])
        return kind(str(value)) if isinstance(kind, type) else str(value)

    return Reader(wanted, read)


def choices(wanted: str, kind: type[StrEnum]) -> Reader:
    """Read a list of a few words, as members of `kind`."""
    return Reader(wanted, lambda value: tuple(kind(_text(each)) for each in _list(value)), json_of)


def duration(least: str, most: str) -> Reader:
    """Read a duration from `least` to `most`, both as a person writes them."""

    def read(value: object) -> dt.timedelta:
        found = _duration(value)
        _demand(_duration(least) <= found <= _duration(most))
        return found

    return Reader(f'write a duration from "{least}" to "{most}": a number, then s, m, h or d', read)


def number(wanted: str, *, above: float | None = None, most: float | None = None) -> Reader:
    """Read a number as the decimal that a person wrote."""

    def read(value: object) -> Decimal:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise ValueError
        found = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        _demand(found.is_finite() and (above is None or found > above) and (most is None or found <= most))
        return found

    def of_variable(given: str) -> Decimal:
        try:
            return Decimal(given)
        except InvalidOperation:
            raise ValueError from None

    return Reader(wanted, read, of_variable)


def whole_number() -> Reader:
    """Read a whole number."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError
        return value

    return Reader("write a whole number", read, int)


def boolean() -> Reader:
    """Read true or false."""

    def read(value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    words: dict[str, object] = {"true": True, "false": False}
    return Reader("write true or false", read, lambda given: words.get(given.strip().lower(), given))


def day() -> Reader:
    """Read a date; JSON has none, so it may be text."""

    def read(value: object) -> dt.date:
        if isinstance(value, str):
            return dt.date.fromisoformat(value)
        if isinstance(value, dt.datetime) or not isinstance(value, dt.date):
            raise ValueError
        return value

    return Reader("write a date, as 2023-04-01", read)


def symbols_by_field(wanted: str) -> Reader:
    """Read a table of lists of symbols: text, or booleans."""

    def read(value: object) -> dict[str, tuple[str | bool, ...]]:
        if not isinstance(value, dict):
            raise ValueError
        return {
            str(field): tuple(each if isinstance(each, bool) else _text(each) for each in _list(symbols))
            for field, symbols in value.items()
        }

    return Reader(wanted, read, json_of)


def log() -> Reader:
    """Read which log there is: text, with brokers that can be taken apart."""

    def read(value: object) -> str:
        brokers_of(_text(value))
        return str(value)

    return Reader(f'write "{DEFAULT_LOG}", or the brokers of Kafka, as "{KAFKA_SCHEME}host:9092,host2:9092"', read)


def brokers_of(log_name: str) -> tuple[str, ...]:
    """Return the brokers that `log` names, as "host:port"; none for the embedded log. Raises ValueError."""
    if log_name == DEFAULT_LOG:
        return ()
    _demand(log_name.startswith(KAFKA_SCHEME))
    found = []
    for each in log_name.removeprefix(KAFKA_SCHEME).rstrip("/").split(","):
        match = _BROKER.fullmatch(each.strip())
        if match is None or not 0 < int(match["port"] or DEFAULT_PORT) <= _HIGHEST_PORT:
            raise ValueError
        found.append(f"{match['host']}:{match['port'] or DEFAULT_PORT}")
    return tuple(found)


def listen(default: str, *, off: bool = True) -> Reader:
    """Read the address and port to serve at, and "off" if `off` is true.

    No name is looked up, because what it means could change.
    """

    def read(value: object) -> Address:
        given = _text(value).strip()
        if given == default:  # which needs no import
            return Address(_LOOPBACK, int(given.rpartition(":")[2]))
        if off and given == _OFF:
            return Address(None, 0)
        match = _LISTEN.fullmatch(given)
        if match is None or int(match["port"]) > _HIGHEST_PORT:
            raise ValueError
        from ipaddress import ip_address

        host = match["bracketed"] or match["plain"]
        address = ip_address(_LOOPBACK if host == "localhost" else host)
        _demand((address.version == 6) is bool(match["bracketed"]))
        return Address(str(address), int(match["port"]))

    choice_of_none = '"off", or ' if off else ""
    port = default.rpartition(":")[2]
    return Reader(f'write {choice_of_none}an address and a port, as "{default}" or "[::1]:{port}"', read)


def url() -> Reader:
    """Read an address of HTTP, without a slash at its end."""

    def read(value: object) -> str:
        from urllib.parse import urlsplit

        given = _text(value).strip().rstrip("/")
        parts = urlsplit(given)
        _demand(parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0)
        _demand(not parts.query and not parts.fragment and given.isascii() and given.isprintable() and " " not in given)
        if parts.username is not None or parts.password is not None:
            raise Unfit(
                "an address holds no name and no password; for the registry they are schema_registry.username and "
                "schema_registry.password_file"
            )
        return given

    return Reader('write an address, as "https://registry:8081"', read)


def url_path() -> Reader:
    """Read the path of an address of HTTP, in characters that no client escapes (RFC 3986, unreserved)."""
    part = "[A-Za-z0-9._~-]{1,64}"
    return text("write a path that begins with /, of letters, digits, '.', '_', '~' and '-'", f"(?:/{part}){{1,3}}")


def user_of_http() -> Reader:
    """Read the name of a user for HTTP's basic authentication (RFC 7617, where a colon ends the name)."""

    def read(value: object) -> str:
        name = _text(value)
        if ":" in name or not name.isprintable():
            raise Unfit("a name that is sent over HTTP has no ':' in it")
        return name

    return Reader("write text that is not empty", read)


def is_this_machine(host: str) -> bool:
    """Return whether an address, or the name localhost, is this machine's own and reached from nowhere else."""
    if host in (_LOOPBACK, "localhost"):
        return True
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _demand(holds: bool) -> None:
    if not holds:
        raise ValueError


def _text(value: object) -> str:
    # "" would be the configuration's own folder, and no system has a path with a NUL byte in it.
    if isinstance(value, str) and value.strip() and "\0" not in value:
        return value
    raise ValueError


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError
    return value


def _numbers(value: object) -> tuple[int, ...]:
    numbers = tuple(each for each in _list(value) if isinstance(each, int) and not isinstance(each, bool))
    _demand(numbers == tuple(_list(value)))
    return numbers


def _duration(value: object) -> dt.timedelta:
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError
    return dt.timedelta(**{_UNITS[match[2]]: int(match[1])})


def json_of(given: str) -> object:
    """Return what a variable says as JSON, as the file would have it; raises ValueError, also for NaN."""
    import json

    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    found: object = json.loads(given, parse_constant=refuse)
    return found
