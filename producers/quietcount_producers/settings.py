"""What an emitter reads of the configuration file: the log, the schemas, the pepper, and how exact a date may be.

Precedence: flag, then environment (`QUIETCOUNT_LOG`, `QUIETCOUNT_DATA_DIR`, `QUIETCOUNT_EMITTER__PEPPER_FILE`), then
file. Every path is relative to the folder of the file, also one from the environment.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from quietcount_producers.composition import close_match
from quietcount_producers.embedded_log import EmbeddedLog
from quietcount_producers.errors import LogError, ProducersError
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS
from quietcount_schemas.periods import Period

__all__ = ["EmitterSettings", "open_log"]

_TOP_LEVEL: Final = (
    "log",
    "data_dir",
    "lifetime_epsilon",
    "grace",
    "tick",
    "schemas",
    "emitter",
    "statistic",
    "service",
)
_EMITTER: Final = ("pepper_file",)
_EMBEDDED: Final = "embedded"


@dataclass(frozen=True, slots=True)
class EmitterSettings:
    """What an emitter needs to know. `precision` holds, by event type, the period that its dates are coarsened to."""

    config: Path
    log: str
    data_dir: Path
    schemas: tuple[Path, ...]
    pepper_file: Path
    precision: Mapping[str, Period]

    @property
    def log_file(self) -> Path:
        """Where the embedded log lies."""
        return self.data_dir / "private" / "log.sqlite"

    @classmethod
    def load(cls, config: Path, environment: Mapping[str, str] = os.environ) -> EmitterSettings:
        """Read the configuration file at `config`. Raises ProducersError naming the file and the key."""
        table = _read(config)
        _refuse_unknown(config, "", table, _TOP_LEVEL)
        emitter = table.get("emitter", {})
        if not isinstance(emitter, dict):
            raise ProducersError(f"{config}: emitter must be a table: [emitter].")
        _refuse_unknown(config, "emitter.", emitter, _EMITTER)
        folder = config.parent
        schemas = table.get("schemas", [])
        if not isinstance(schemas, list) or not all(isinstance(entry, str) for entry in schemas):
            raise ProducersError(f"{config}: schemas must be a list of folders.")
        return cls(
            config=config,
            log=_text(config, "log", environment.get("QUIETCOUNT_LOG") or table.get("log", _EMBEDDED)),
            data_dir=folder
            / _text(config, "data_dir", environment.get("QUIETCOUNT_DATA_DIR") or table.get("data_dir", "data")),
            schemas=tuple(folder / entry for entry in schemas),
            pepper_file=folder
            / _text(
                config,
                "emitter.pepper_file",
                environment.get("QUIETCOUNT_EMITTER__PEPPER_FILE") or emitter.get("pepper_file", "secrets/pepper"),
            ),
            precision=MappingProxyType(_precision(config, table.get("statistic", []))),
        )


def open_log(settings: EmitterSettings) -> EmbeddedLog:
    """Open the log that `settings` name, with its topics, creating what is missing. Raises LogError.

    The folder of the log is private (mode 0700), because the log holds what each case did.
    """
    if settings.log != _EMBEDDED:
        raise LogError(
            f'{settings.config}: log must be "{_EMBEDDED}": this version has the embedded log only, Kafka is to come.'
        )
    folder = settings.log_file.parent
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise LogError(
            f"Cannot make the folder {folder}: {os.strerror(error.errno or 0).lower()}. "
            "Check data_dir, and that its disk can be written and has space."
        ) from error
    log = EmbeddedLog(settings.log_file)
    try:
        for topic in (CASE_EVENTS, DEAD_LETTERS):
            log.create_topic(topic)
    except BaseException:
        log.close()
        raise
    return log


def _read(config: Path) -> dict[str, object]:
    try:
        return tomllib.loads(config.read_text("utf-8"))
    except FileNotFoundError:
        raise ProducersError(
            f"There is no configuration file {config}. Make one with `quietcount init`, or name it with --config."
        ) from None
    except OSError as error:
        raise ProducersError(f"Cannot read {config}: {os.strerror(error.errno or 0).lower()}.") from error
    except tomllib.TOMLDecodeError as error:
        raise ProducersError(f"{config} is not valid TOML: {error}.") from error
    except UnicodeDecodeError:
        raise ProducersError(f"{config} is not UTF-8 text. Save it as UTF-8.") from None


def _refuse_unknown(config: Path, prefix: str, table: Mapping[str, object], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            hint = close_match(key, known)
            raise ProducersError(f"{config}: unknown key {prefix}{key}{hint or '.'} Known here: {', '.join(known)}.")


def _text(config: Path, key: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ProducersError(f"{config}: {key} must be text and not empty.")
    return value


def _precision(config: Path, statistics: object) -> dict[str, Period]:
    """Return the coarsest precision with which every statistic can still be told, by event type it counts."""
    if not isinstance(statistics, list) or not all(isinstance(entry, dict) for entry in statistics):
        raise ProducersError(f"{config}: statistic must be tables: [[statistic]].")
    periods: dict[str, set[Period]] = {}
    for number, entry in enumerate(statistics, start=1):
        where = f"{config}: [[statistic]] number {number}"
        events = entry.get("events")
        if not isinstance(events, list) or not all(isinstance(name, str) for name in events):
            raise ProducersError(f"{where}: events must be a list of event types.")
        try:
            period = Period(str(entry.get("period")))
        except ValueError:
            raise ProducersError(f"{where}: period must be one of: {', '.join(Period)}.") from None
        for name in events:
            periods.setdefault(name, set()).add(period)
    return {name: _finest(wanted) for name, wanted in periods.items()}


def _finest(wanted: set[Period]) -> Period:
    # A week can lie in two months, so its first day tells the week but not the month, quarter or year.
    if Period.WEEK in wanted and len(wanted) > 1:
        return Period.DAY
    return min(wanted, key=list(Period).index)
