"""What an emitter reads of the configuration: the log, the schemas, the pepper, and how exact a date may be.

The file and the environment are read by `quietcount_schemas.configuration`, as the service reads them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from quietcount_producers.composing.beginnings import Beginning, beginnings_of
from quietcount_producers.composing.composition import Composer, close_match, listed
from quietcount_producers.composing.pseudonyms import Pepper
from quietcount_producers.embedded.embedded_log import EmbeddedLog
from quietcount_producers.errors import LogError, ProducersError
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.configuration import LOG_FILE, private_folder, read_configuration
from quietcount_schemas.errors import SchemasError
from quietcount_schemas.events.oddity import Oddity
from quietcount_schemas.events.periods import Period, coarsest_that_serves
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS
from quietcount_schemas.private_files import make_private_folder
from quietcount_schemas.registry import SchemaRegistry
from quietcount_schemas.schema_registry.settings import RegistrySettings

if TYPE_CHECKING:
    from quietcount_producers.kafka.writer import KafkaWriter

__all__ = ["EmitterSettings", "open_log", "precision_of"]


@dataclass(frozen=True, slots=True)
class EmitterSettings:
    """What an emitter needs to know. `precision` holds, by event type, the period that its dates are coarsened to."""

    config: Path
    log: str
    data_dir: Path
    schemas: tuple[Path, ...]
    pepper_file: Path
    precision: Mapping[str, Period]
    beginnings: Mapping[str, Beginning]
    """By event type: when the populations that count it begin."""
    spool: Path | None = None
    """Where events wait while the log does not answer, if anywhere."""
    allow_identifiers: tuple[Oddity, ...] = ()
    """The kinds of odd identifiers that are taken all the same."""
    kafka: KafkaSettings | None = None
    """The brokers that `log` names; None for the embedded log."""
    schema_registry: RegistrySettings = field(default_factory=RegistrySettings)
    """The Schema Registry whose ids are written, if there is one."""

    @property
    def log_file(self) -> Path:
        """Where the embedded log lies."""
        return private_folder(self.data_dir) / LOG_FILE

    @property
    def scratch_folder(self) -> Path:
        """Where an unlinked file may lie while a command runs: beside the embedded log, else where the system says.

        An emitter of Kafka has no data folder, and need not be able to write one.
        """
        return self.log_file.parent if self.kafka is None else Path(tempfile.gettempdir())

    @classmethod
    def load(cls, config: str | os.PathLike[str], environment: Mapping[str, str] | None = None) -> EmitterSettings:
        """Read the configuration file at `config` under `environment` (the process's own by default, {} for none).

        Raises ProducersError naming the file and every key or variable that is wrong.
        """
        config = Path(config)
        try:
            given = read_configuration(config, environment)
        except SchemasError as error:
            raise ProducersError(error.what, error.remedy) from None
        given.refuse_faults(ProducersError)
        values = given.values
        return cls(
            config=config,
            log=values["log"],
            data_dir=values["data_dir"],
            schemas=values["schemas"],
            precision=MappingProxyType(precision_of(values["population"])),
            beginnings=MappingProxyType(beginnings_of(values["population"])),
            kafka=KafkaSettings.of(given),
            schema_registry=RegistrySettings.of(given),
            **values["emitter"],
        )

    def composer(self, registry: SchemaRegistry) -> Composer:
        """Return what makes records of events. Raises ProducersError if the pepper is not in order."""
        pepper = Pepper.load(self.pepper_file)
        return Composer(registry, pepper, self.precision, allow=self.allow_identifiers)

    def registry(self) -> SchemaRegistry:
        """Load the event types: the built-in ones and those of `schemas`.

        Raises SchemasError for a schema that is not in order or, where there is a Schema Registry, has no pinned id,
        and ProducersError when a population counts an event that no schema has: a misspelt one would leave the dates of
        the true one at another precision than it needs.
        """
        registry = self.schema_registry.registry(self.schemas)
        self.schema_registry.check_writable(registry)
        for name in self.precision:
            if name not in registry.event_types:
                known = list(registry.event_types)
                raise ProducersError(
                    f"{self.config}: a [[population]] names the event type {name!a}, and no schema has it",
                    f"Name one of {listed(known)}{close_match(name, known)}",
                )
        return registry


def open_log(settings: EmitterSettings) -> EmbeddedLog | KafkaWriter:
    """Open the log that `settings` name. Raises LogError, on Kafka LogUnavailable when no broker answers.

    The embedded log is made with its topics where it is missing, in private folders (mode 0700), because it holds what
    each case did. Topics on Kafka are made by `quietcount topics create` alone, and a missing one is an error.
    """
    if settings.kafka is not None:
        from quietcount_producers.kafka.writer import KafkaWriter

        return KafkaWriter(settings.kafka)
    folder = settings.log_file.parent
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        for private in (folder.parent, folder):
            make_private_folder(private)
    except OSError as error:
        raise LogError(
            f"Cannot make the folder {folder}: {os.strerror(error.errno or 0).lower()}",
            "Check data_dir, and that its disk can be written and has space",
        ) from error
    log = EmbeddedLog(settings.log_file)
    try:
        for topic in (CASE_EVENTS, DEAD_LETTERS):
            log.create_topic(topic)
    except BaseException:
        log.close()
        raise
    return log


def precision_of(populations: Sequence[Mapping[str, Any]]) -> dict[str, Period]:
    """Return, by event type, the coarsest precision that every population can still count with.

    Of each population it takes the `events` and the `period`.
    """
    periods: dict[str, set[Period]] = {}
    for population in populations:
        for name in population["events"]:
            periods.setdefault(name, set()).add(population["period"])
    return {name: coarsest_that_serves(wanted) for name, wanted in periods.items()}
