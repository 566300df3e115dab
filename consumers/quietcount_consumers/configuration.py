"""The configuration of the service: what one TOML file and the QUIETCOUNT_* variables say, checked whole at the start.

The table of keys that checks it is in quietcount_schemas.configuration, because emitters read the same file. It holds
no secret, only the names of the secrets' files.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from quietcount_aggregates.catalogue import AskedTable, resolve
from quietcount_aggregates.populations import Horizon, Late, Population
from quietcount_consumers.errors import ConfigurationError
from quietcount_consumers.monitoring_settings import LogFormat, MonitoringSettings
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.configuration import GivenConfiguration, private_folder, read_configuration
from quietcount_schemas.configuration.keys import each_key
from quietcount_schemas.errors import SchemasError
from quietcount_schemas.events.oddity import Oddity
from quietcount_schemas.events.periods import Period
from quietcount_schemas.schema_registry.settings import RegistrySettings

if TYPE_CHECKING:
    from quietcount_aggregates.description import Description
    from quietcount_schemas.registry import SchemaRegistry

__all__ = [
    "Configuration",
    "EmitterSection",
    "PopulationSection",
    "PublicationSection",
    "ServiceSection",
    "WitnessSection",
    "WitnessesSection",
    "beginning_after",
]

_STATE: Final = re.compile(r"state-(0|[1-9][0-9]{0,8})\.duckdb(?:\.wal)?")
"""The name of a partition's state, or of its write-ahead log."""


@dataclass(frozen=True, slots=True)
class EmitterSection:
    """[emitter]: only emitters read it; the service never opens the pepper."""

    pepper_file: Path
    """The emitters' secret, from which case keys are made."""
    spool: Path | None = None
    """Where an emitter keeps events while the log does not answer."""
    allow_identifiers: tuple[Oddity, ...] = ()
    """Kinds of odd identifiers that emitters take all the same."""


@dataclass(frozen=True, slots=True)
class ServiceSection:
    """[service]: only the service reads it."""

    secret_file: Path
    """The service's secret, under which the private state keeps its marks; the secrets of years lie beside it."""
    log_format: LogFormat = LogFormat.AUTO
    """How events are written to stderr: for people, as JSON, or by whether a terminal reads them."""


@dataclass(frozen=True, slots=True)
class PublicationSection:
    """[publication]: what is said beside the figures; empty text is not stated."""

    publisher: str
    licence: str
    contact: str
    citation: str


@dataclass(frozen=True, slots=True)
class WitnessSection:
    """[[witnesses.witness]]: the public key of a witness (as text), and where it answers, if it does."""

    key: str
    url: str | None


@dataclass(frozen=True, slots=True)
class WitnessesSection:
    """[witnesses]: who vouches for the ledger, how many have to, and the published copies that it must not be behind.

    A copy is an address (text) or a path.
    """

    require: int = 0
    copies: tuple[str | Path, ...] = ()
    witness: tuple[WitnessSection, ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> WitnessesSection:
        """Return the section that the checked values of its keys make."""
        return cls(given["require"], given["copies"], tuple(WitnessSection(**each) for each in given["witness"]))


@dataclass(frozen=True, slots=True)
class PopulationSection:
    """[[population]]: whom to count, with its tables."""

    name: str
    title: str
    description: str
    events: tuple[str, ...]
    where: Mapping[str, tuple[str | bool, ...]]
    period: Period
    max_contributions: int
    horizon: Horizon
    since: dt.date | None
    late: Late
    table: tuple[AskedTable, ...]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> PopulationSection:
        """Return the section that the checked values of its keys make."""
        values = dict(given)
        values |= {
            "horizon": Horizon(given["horizon"]),
            "late": Late(given["late"]),
            "table": tuple(AskedTable(**each | {"epsilon": float(each["epsilon"])}) for each in given["table"]),
        }
        return cls(**values)

    def resolved(self, registry: SchemaRegistry) -> Population:
        """Return the population, checked against the schemas. Raises PopulationError."""
        return resolve(
            self.name,
            title=self.title,
            description=self.description,
            events=self.events,
            registry=registry,
            period=self.period,
            where=self.where,
            max_contributions=self.max_contributions,
            horizon=self.horizon,
            since=self.since,
            late=self.late,
            tables=self.table,
        )


@dataclass(frozen=True, slots=True)
class Configuration:
    """The checked configuration. Every path is absolute, or relative to the working folder as --config was."""

    log: str
    """Where case events are: "embedded", an SQLite log in the data folder, or "kafka://host:9092,host2:9092"."""
    data_dir: Path
    """What the service writes: statistics.duckdb for everyone, and the folder private for nobody."""
    lifetime_epsilon: Decimal
    """The bound on what all populations together may tell about one person; fixed when the ledger is opened."""
    grace: dt.timedelta
    """How long after a period's end (UTC) it is released."""
    tick: dt.timedelta
    """How often the service folds, releases and publishes."""
    schemas: tuple[Path, ...]
    """Folders with event types of one's own."""
    emitter: EmitterSection
    service: ServiceSection
    publication: PublicationSection
    witnesses: WitnessesSection
    population: tuple[PopulationSection, ...]
    kafka: KafkaSettings | None
    """The brokers that `log` names, and the [kafka] section; None for the embedded log."""
    schema_registry: RegistrySettings
    """The Schema Registry whose ids are read, if there is one; nobody asks it while folding."""
    metrics: MonitoringSettings
    """Where `quietcount run` serves metrics and health."""
    written: Mapping[str, Any] = field(compare=False, repr=False)
    """The checked value of every key, with paths as they were written."""

    @classmethod
    def load(cls, path: Path, environment: Mapping[str, str] | None = None, **options: object) -> Configuration:
        """Read and check the file at `path`; `environment` overrides what it says, and `options` override both.

        `environment` is the process's own unless given; {} switches it off. Raises ConfigurationError, which names the
        file and every key, variable or option that is wrong.
        """
        try:
            given = read_configuration(path, environment, options)
        except SchemasError as error:
            raise ConfigurationError(error.what, error.remedy) from None
        return cls.of(given)

    @classmethod
    def of(cls, given: GivenConfiguration) -> Configuration:
        """Return what is given, if nothing is wrong with it. Raises ConfigurationError, as `load` does."""
        given.refuse_faults(ConfigurationError, for_the_service=True)
        values = given.values
        service = values["service"]
        return cls(
            **{name: values[name] for name in ("log", "data_dir", "lifetime_epsilon", "grace", "tick", "schemas")},
            emitter=EmitterSection(**values["emitter"]),
            service=ServiceSection(service["secret_file"], LogFormat(service["log_format"])),
            publication=PublicationSection(**values["publication"]),
            witnesses=WitnessesSection.of(values["witnesses"]),
            population=tuple(PopulationSection.of(each) for each in values["population"]),
            kafka=KafkaSettings.of(given),
            schema_registry=RegistrySettings.of(given),
            metrics=MonitoringSettings.of(given),
            written=given.written,
        )

    @property
    def digest(self) -> str:
        """Return what distinguishes this configuration: 16 hexadecimal digits of SHA-256, from no secret.

        Paths count as they were written, so it is the same on another machine.
        """
        import hashlib
        import json

        text = json.dumps(dict(self.written), sort_keys=True, separators=(",", ":"), default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def restart_needed(self, other: Configuration) -> list[str]:
        """Return the keys in which `other` differs and which a running service cannot change."""
        needing = [name for name, key in each_key() if key.restart]
        return [name for name in needing if self._value(name) != other._value(name)]

    def _value(self, key: str) -> object:
        section, _, name = key.rpartition(".")
        return (self.written[section] if section else self.written)[name]

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

    def state_file(self, partition: int) -> Path:
        """Return the path of the private state of a partition."""
        return self.private_dir / f"state-{partition}.duckdb"

    @property
    def state_files(self) -> dict[int, Path]:
        """Return the states that are there, or whose write-ahead log is, by partition; none if nobody may look."""
        names: list[str] = []
        with contextlib.suppress(OSError):
            names = [path.name for path in self.private_dir.iterdir()]
        found = map(_STATE.fullmatch, names)
        return {int(each[1]): self.state_file(int(each[1])) for each in found if each is not None}

    def years_of(self, partition: int) -> Path:
        """Return the folder of the secrets of years of a partition's state: they go where the state goes."""
        return self.years_dir / str(partition)

    def registry(self) -> SchemaRegistry:
        """Load the event types: the built-in ones and one's own, with the pinned ids of a Schema Registry."""
        return self.schema_registry.registry(self.schemas)

    def populations(self, registry: SchemaRegistry) -> list[Population]:
        """Return the configured populations, checked against the schemas.

        A population without `since` keeps None here: its declaration in the ledger decides, or the clock for a new one.
        """
        return [section.resolved(registry) for section in self.population]

    def description(self, registry: SchemaRegistry, declared: Iterable[Population]) -> Description:
        """Return what is to be said beside the figures of the `declared` populations."""
        from quietcount_aggregates.description import Description, labels_of

        said = self.publication
        return Description(
            grace=self.grace,
            publisher=said.publisher,
            licence=said.licence,
            contact=said.contact,
            citation=said.citation,
            labels=labels_of(declared, registry),
        )


def beginning_after(population: Population, today: dt.date) -> Population:
    """Return a population that begins with the first whole period after `today` unless it says since when."""
    return population if population.since is not None else replace(population, since=population.period.next(today))
