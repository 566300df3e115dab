"""What is audited: a catalogue with its schemas, and how much of it is tried."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Final

from quietcount_aggregates.noise import DiscreteLaplace
from quietcount_aggregates.populations import Population
from quietcount_consumers.configuration import Configuration, PopulationSection
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.project import create_project
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.configuration import DEFAULT_LOG, checked
from quietcount_schemas.events.periods import Period
from quietcount_schemas.registry import SchemaRegistry
from quietcount_schemas.schema_registry.settings import RegistrySettings

__all__ = ["DRAWS", "STORIES", "Audited"]

STORIES: Final = 16
DRAWS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Audited:
    """A catalogue to audit. It pickles, so that every process has the same.

    `stories` says how many stories are told, `draws` how often the noise of each pair of logs is drawn, and `seed`
    which stories and pairs. The noise has no seed. `log` is "embedded" or brokers of one's own; there the names of all
    topics begin with `topic_prefix`. `mechanism` makes what draws: a test of the audit puts a broken one there.
    """

    sections: tuple[PopulationSection, ...]
    schemas: tuple[Path, ...]
    schema_registry: RegistrySettings
    lifetime_epsilon: Decimal
    grace: dt.timedelta
    seed: int
    stories: int = STORIES
    draws: int = DRAWS
    log: str = DEFAULT_LOG
    topic_prefix: str = ""
    mechanism: Callable[[], DiscreteLaplace] = DiscreteLaplace

    @classmethod
    def of(cls, configuration: Configuration, seed: int) -> Audited:
        """Return the catalogue of a configuration. Nothing else of the project is read."""
        return cls(
            sections=configuration.population,
            schemas=configuration.schemas,
            schema_registry=configuration.schema_registry,
            lifetime_epsilon=configuration.lifetime_epsilon,
            grace=configuration.grace,
            seed=seed,
        )

    @classmethod
    def starting(cls, seed: int) -> Audited:
        """Return the catalogue that `quietcount init` writes."""
        with tempfile.TemporaryDirectory(prefix="quietcount-audit-") as folder:
            create_project(Path(folder))
            return cls.of(Configuration.load(Path(folder) / "quietcount.toml", environment={}), seed)

    def registry(self) -> SchemaRegistry:
        """Load the event types."""
        return self.schema_registry.registry(self.schemas)

    def beginning(self, since: dt.date) -> tuple[PopulationSection, ...]:
        """Return the populations as they are written when each begins with its period that holds `since`."""
        return tuple(replace(section, since=section.period.start(since)) for section in self.sections)

    def populations(self, since: dt.date) -> list[Population]:
        """Return the same populations, checked against the schemas."""
        registry = self.registry()
        return [section.resolved(registry) for section in self.beginning(since)]

    def precision(self) -> dict[str, Period]:
        """Return, by event type, what an emitter of this catalogue coarsens dates to."""
        from quietcount_producers.settings import precision_of

        return precision_of([{"events": each.events, "period": each.period} for each in self.sections])

    def kafka(self) -> KafkaSettings | None:
        """Return the brokers that `log` names, with the prefix of all topics; None for the embedded log."""
        table = {"log": self.log, "kafka": {"topic_prefix": self.topic_prefix}} if self.topic_prefix else {}
        given = checked(Path("quietcount audit"), table, {"log": "--log"})
        given.refuse_faults(ServiceError)
        return KafkaSettings.of(given)

    def project(self, folder: Path, since: dt.date, name: str) -> Configuration:
        """Make a project of the audit's own in `folder`, with its own secrets, and return its configuration.

        Each population begins with its period that holds `since`. On brokers its topics have `name` in theirs.
        """
        prefix = f"{self.topic_prefix}{name}." if self.topic_prefix else ""
        create_project(folder, log=self.log, topic_prefix=prefix)
        # Not the environment: it speaks of the real project.
        own = Configuration.load(folder / "quietcount.toml", environment={})
        return replace(
            own,
            lifetime_epsilon=self.lifetime_epsilon,
            grace=self.grace,
            schemas=self.schemas,
            schema_registry=self.schema_registry,
            population=self.beginning(since),
        )
