"""The configuration: one TOML file, overridden by QUIETCOUNT_* variables, checked whole before anything starts.

Unknown keys are refused. Secrets are never in it, only the names of their files.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from quietcount_aggregates.statistics import Statistic, resolve
from quietcount_consumers.errors import ConfigurationError
from quietcount_consumers.monitoring_settings import LogFormat, MonitoringSettings
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.configuration import (
    DEFAULT_DATA_DIR,
    DEFAULT_LOG,
    DEFAULT_PEPPER_FILE,
    DEFAULT_SECRET_FILE,
    KEYS,
    Fault,
    RawConfiguration,
    private_folder,
    read_configuration,
)
from quietcount_schemas.errors import SchemasError
from quietcount_schemas.periods import Period
from quietcount_schemas.registry import SchemaRegistry
from quietcount_schemas.schema_registry.settings import RegistrySettings

__all__ = ["Configuration", "StatisticSection", "beginning_now"]

_DURATION = re.compile(r"([0-9]{1,9})\s*(s|m|h|d)")  # so few digits that no number of days overflows
# Sections that are checked by the code that reads them, which for two of them is the emitters' too.
_READ_ELSEWHERE = ("kafka", "schema_registry", "metrics")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _duration(value: object) -> object:
    """Read "60s", "15m", "12h" or "7d"."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError('write a duration as a number and s, m, h or d: "60s", "7d"')
        return dt.timedelta(**{_UNITS[match[2]]: int(match[1])})
    if isinstance(value, dt.timedelta):
        return value
    raise ValueError('write a duration as text, a number and s, m, h or d: "60s", "7d"')


def _decimal(value: object) -> object:
    """Take a float as the decimal that was written."""
    return Decimal(repr(value)) if isinstance(value, float) else value


Duration = Annotated[dt.timedelta, BeforeValidator(_duration)]
_STRICT = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class EmitterSection(BaseModel):
    """[emitter]: read by emitters only; the service never opens the pepper."""

    model_config = _STRICT
    pepper_file: Path = Path(DEFAULT_PEPPER_FILE)
    """The emitters' secret, from which case keys are made."""
    spool: Path | None = None
    """Where an emitter keeps events while the log does not answer."""


class ServiceSection(BaseModel):
    """[service]: read by the service only."""

    model_config = _STRICT
    secret_file: Path = Path(DEFAULT_SECRET_FILE)
    """The service's secret, under which the private state keeps its marks; the secrets of years lie beside it."""
    log_format: LogFormat = LogFormat.AUTO
    """How events are written to stderr: for people, as JSON, or by whether a terminal reads them."""


class StatisticSection(BaseModel):
    """[[statistic]]: one declared count."""

    model_config = _STRICT
    name: str
    events: list[str]
    where: dict[str, list[str | bool]] = {}
    by: list[str] = []
    period: Period
    max_contributions: int = 1
    horizon: Literal["lifetime", "year"] = "lifetime"
    since: dt.date | None = None
    epsilon: float
    late: Literal["carry", "drop"] = "carry"


class Configuration(BaseSettings):
    """The checked configuration. Paths are absolute once loaded."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    log: str = DEFAULT_LOG
    """Where case events are: "embedded", an SQLite log in the data folder, or "kafka://host:9092,host2:9092"."""
    data_dir: Path = Path(DEFAULT_DATA_DIR)
    """What the service writes: statistics.duckdb for everyone, and the folder private for nobody."""
    lifetime_epsilon: Annotated[Decimal, BeforeValidator(_decimal), Field(gt=0, le=100)]
    """The bound on what all statistics together may tell about one person; fixed when the ledger is opened."""
    grace: Annotated[Duration, Field(ge=dt.timedelta(0), le=dt.timedelta(days=366))] = dt.timedelta(days=7)
    """How long after a period's end (UTC) it is released."""
    tick: Annotated[Duration, Field(ge=dt.timedelta(seconds=1), le=dt.timedelta(days=1))] = dt.timedelta(seconds=60)
    """How often the service folds, releases and publishes."""
    schemas: list[Path] = []
    """Folders with event types of one's own."""
    emitter: EmitterSection = EmitterSection()
    service: ServiceSection = ServiceSection()
    statistic: list[StatisticSection] = []
    kafka: KafkaSettings | None = None
    """The brokers that `log` names, and the [kafka] section; None for the embedded log."""
    schema_registry: RegistrySettings = RegistrySettings()
    """The Schema Registry whose ids are read, if there is one; nobody asks it while folding."""
    metrics: MonitoringSettings = MonitoringSettings()
    """Where `quietcount run` serves metrics and health."""
    _digest: str = PrivateAttr("")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (the names are pydantic's)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what `load` hands in and nothing else: file and environment were read before, as emitters read them."""
        return (init_settings,)

    @classmethod
    def load(cls, path: Path, environment: Mapping[str, str] | None = None, **flags: Any) -> Configuration:
        """Read and check the file at `path`; `environment` overrides what it says, and `flags` override both.

        `environment` is the process's own unless given; {} switches it off. Raises ConfigurationError, which names the
        file and every key or variable that is wrong.
        """
        try:
            raw = read_configuration(path, environment)
        except SchemasError as error:
            raise ConfigurationError(str(error)) from None
        # Unknown keys are among the faults already; as arguments some would mean something to pydantic.
        elsewhere: list[Fault] = []
        flags["kafka"] = KafkaSettings.of(raw, elsewhere)
        flags["schema_registry"] = RegistrySettings.of(raw, elsewhere)
        flags["metrics"] = MonitoringSettings.of(raw, elsewhere)
        given = {
            key: value for key, value in raw.table.items() if key in KEYS[""] and key not in _READ_ELSEWHERE
        } | flags
        try:
            loaded = cls(**given)
        except ValidationError as error:
            raise ConfigurationError(raw.refusal([*_faults(raw, error), *elsewhere])) from None
        if raw.faults or elsewhere:
            raise ConfigurationError(raw.refusal(elsewhere))
        names = [section.name for section in loaded.statistic]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigurationError(f"{path}: two statistics are named {twice[0]!r}; a name is given once")
        resolved = loaded._resolved(raw.folder)
        resolved._digest = loaded._digest_of(raw)
        return resolved

    def _digest_of(self, raw: RawConfiguration) -> str:
        """Return `digest` of what is in force, paths as they were written: it is the same on another machine."""
        effective = self.model_dump(mode="json", exclude=set(_READ_ELSEWHERE))
        # These are checked by those who read them; only what is written of them counts here.
        effective |= {section: raw.table[section] for section in _READ_ELSEWHERE if section in raw.table}
        text = json.dumps(effective, sort_keys=True, separators=(",", ":"), default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def digest(self) -> str:
        """Return what tells this configuration from another: 16 hexadecimal digits of SHA-256, and of no secret."""
        return self._digest

    def _resolved(self, folder: Path) -> Configuration:
        return self.model_copy(
            update={
                "data_dir": folder / self.data_dir,
                "schemas": [folder / schema for schema in self.schemas],
                "emitter": EmitterSection(
                    pepper_file=folder / self.emitter.pepper_file,
                    spool=None if self.emitter.spool is None else folder / self.emitter.spool,
                ),
                "service": self.service.model_copy(update={"secret_file": folder / self.service.secret_file}),
            }
        )

    @property
    def log_format(self) -> LogFormat:
        """Return how events are written."""
        return self.service.log_format

    @property
    def private_dir(self) -> Path:
        """Return the folder that holds the log, the ledger and the state; it and its parent have mode 0700."""
        return private_folder(self.data_dir)

    @property
    def public_file(self) -> Path:
        """Return the path of the published database."""
        return self.data_dir / "statistics.duckdb"

    @property
    def years_dir(self) -> Path:
        """Return the folder of the secrets of years, beside the service's secret."""
        return self.service.secret_file.with_name(self.service.secret_file.name + "-years")

    def registry(self) -> SchemaRegistry:
        """Load the event types: the built-in ones and one's own, with the pinned ids of a Schema Registry."""
        return self.schema_registry.registry(self.schemas)

    def statistics(self, registry: SchemaRegistry) -> list[Statistic]:
        """Return the configured statistics, checked against the schemas.

        A statistic without `since` keeps None here: its declaration in the ledger decides, or the clock for a new one.
        """
        return [
            resolve(
                section.name,
                events=section.events,
                registry=registry,
                period=section.period.value,
                epsilon=section.epsilon,
                where=section.where,
                by=section.by,
                max_contributions=section.max_contributions,
                horizon=section.horizon,
                since=section.since,
                late=section.late,
            )
            for section in self.statistic
        ]


def beginning_now(statistic: Statistic, today: dt.date) -> Statistic:
    """Return a statistic that begins with the period of `today` unless it says since when."""
    return statistic if statistic.since is not None else replace(statistic, since=statistic.period.start(today))


def _faults(raw: RawConfiguration, error: ValidationError) -> list[Fault]:
    """Return what pydantic found, in our words: its own speak of classes and of bounds as Python writes them."""
    faults: dict[str, Fault] = {}
    for problem in error.errors(include_url=False, include_input=False):
        # Within a list or a table of a statistic the key is as near as a person needs.
        depth = 3 if problem["loc"][0] == "statistic" else 2 if problem["loc"][0] in ("emitter", "service") else 1
        location = problem["loc"][:depth]
        key = ".".join(str(part + 1) if isinstance(part, int) else part for part in location)
        missing = problem["type"] == "missing"
        faults.setdefault(key, Fault(key, f"key {key!a} is missing") if missing else raw.fault(key))
    return list(faults.values())
