"""The configuration: one TOML file, overridden by QUIETCOUNT_* variables, checked whole before anything starts.

Unknown keys are refused. Secrets are never in it, only the names of their files.
"""

from __future__ import annotations

import datetime as dt
import difflib
import re
import tomllib
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from quietcount_aggregates.statistics import Statistic, resolve
from quietcount_schemas.periods import Period
from quietcount_schemas.registry import SchemaRegistry

from .errors import ConfigurationError

__all__ = ["Configuration", "StatisticSection", "beginning_now"]

_DURATION = re.compile(r"([0-9]{1,9})\s*(s|m|h|d)")  # so few digits that no number of days overflows
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
    pepper_file: Path = Path("secrets/pepper")
    """The emitters' secret, from which case keys are made."""


class ServiceSection(BaseModel):
    """[service]: read by the service only."""

    model_config = _STRICT
    secret_file: Path = Path("secrets/service")
    """The service's secret, under which the private state keeps its marks; the secrets of years lie beside it."""


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

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix="QUIETCOUNT_",
        env_nested_delimiter="__",
        hide_input_in_errors=True,
        nested_model_default_partial_update=True,
    )

    log: str = "embedded"
    """Where case events are: "embedded", an SQLite log in the data folder."""
    data_dir: Path = Path("data")
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

    _file: ClassVar[Path | None] = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (the names are pydantic's)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Give flags precedence over the environment, and the environment over the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, cls._file)

    @classmethod
    def load(cls, path: Path, **flags: Any) -> Configuration:
        """Read and check the file at `path`; `flags` override what it says.

        Raises ConfigurationError, which names the file and every key that is wrong.
        """
        _readable(path)
        # The source reads the file that the class names, so each load gets a class of its own.
        bound = type("Configuration", (cls,), {"_file": path, "__module__": cls.__module__})
        try:
            loaded: Configuration = bound(**flags)
        except ValidationError as error:
            raise ConfigurationError(_explained(path, error)) from None
        names = [section.name for section in loaded.statistic]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigurationError(f"{path}: two statistics are named {twice[0]!r}; a name is given once")
        if loaded.log != "embedded":
            raise ConfigurationError(f'{path}: log: this version reads "embedded" only')
        return loaded._resolved(path.absolute().parent)

    def _resolved(self, folder: Path) -> Configuration:
        return self.model_copy(
            update={
                "data_dir": folder / self.data_dir,
                "schemas": [folder / schema for schema in self.schemas],
                "emitter": EmitterSection(pepper_file=folder / self.emitter.pepper_file),
                "service": ServiceSection(secret_file=folder / self.service.secret_file),
            }
        )

    @property
    def private_dir(self) -> Path:
        """Return the folder (mode 0700) that holds the log, the ledger and the state."""
        return self.data_dir / "private"

    @property
    def public_file(self) -> Path:
        """Return the path of the published database."""
        return self.data_dir / "statistics.duckdb"

    @property
    def years_dir(self) -> Path:
        """Return the folder of the secrets of years, beside the service's secret."""
        return self.service.secret_file.with_name(self.service.secret_file.name + "-years")

    def registry(self) -> SchemaRegistry:
        """Load the event types: the built-in ones and one's own."""
        return SchemaRegistry.load(self.schemas)

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


def _readable(path: Path) -> None:
    try:
        with path.open("rb") as file:
            tomllib.load(file)
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such file; `quietcount init` writes one") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: is not TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.__class__.__name__})") from None


def _explained(path: Path, error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        key = ".".join(str(part + 1) if isinstance(part, int) else part for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"key {key!r} is unknown{_suggestion(problem['loc'])}")
        elif problem["type"] == "missing":
            lines.append(f"key {key!r} is missing")
        else:
            lines.append(f"key {key!r}: {problem['msg'].removeprefix('Value error, ')}")
    return f"{path}: " + "; ".join(lines)


def _suggestion(location: tuple[int | str, ...]) -> str:
    sections: dict[str, type[BaseModel]] = {
        "emitter": EmitterSection,
        "service": ServiceSection,
        "statistic": StatisticSection,
    }
    model = sections.get(str(location[0]), Configuration) if len(location) > 1 else Configuration
    known = list(model.model_fields)
    last = list(location)[-1]
    close = difflib.get_close_matches(str(last), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
