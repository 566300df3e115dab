"""The description: what the publisher says of the figures, as the ledger records it and the public file shows it.

It says nothing about events: all of it comes from the configuration and the schemas.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from quietcount_aggregates.populations import Population

if TYPE_CHECKING:
    from quietcount_schemas.registry import SchemaRegistry

__all__ = ["Description", "Label", "labels_of"]


class Label(NamedTuple):
    """What people read for a symbol of a dimension, in one language; for the dimension itself if `symbol` is empty."""

    population: str
    dimension: str
    language: str
    symbol: str
    text: str


@dataclass(frozen=True, slots=True)
class Description:
    """What the publisher says; `grace` is how long after its end a period is released. Empty text is not stated."""

    grace: dt.timedelta
    publisher: str = ""
    licence: str = ""
    contact: str = ""
    citation: str = ""
    labels: tuple[Label, ...] = ()

    @property
    def canonical(self) -> str:
        """Return the canonical JSON text that the ledger records."""
        labels: dict[str, dict[str, dict[str, dict[str, str]]]] = {}
        for population, dimension, language, symbol, text in self.labels:
            of_dimension = labels.setdefault(population, {}).setdefault(dimension, {})
            of_dimension.setdefault(language, {})[symbol] = text
        return json.dumps(
            {
                "publisher": self.publisher,
                "licence": self.licence,
                "contact": self.contact,
                "citation": self.citation,
                "grace": self.grace // dt.timedelta(seconds=1),
                "labels": labels,
            },
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
        )

    @classmethod
    def from_canonical(cls, text: str) -> Description:
        """Read a description back from its canonical text; raise ValueError for any other text."""
        data = json.loads(text)
        description = cls(
            grace=dt.timedelta(seconds=data["grace"]),
            publisher=data["publisher"],
            licence=data["licence"],
            contact=data["contact"],
            citation=data["citation"],
            labels=tuple(
                Label(population, dimension, language, symbol, label)
                for population, dimensions in data["labels"].items()
                for dimension, languages in dimensions.items()
                for language, symbols in languages.items()
                for symbol, label in symbols.items()
            ),
        )
        words = [description.publisher, description.licence, description.contact, description.citation]
        if not all(isinstance(word, str) for word in (*words, *(label.text for label in description.labels))):
            raise ValueError("a description is made of text")
        if description.canonical != text or description.grace < dt.timedelta(0):
            raise ValueError("the description is not in canonical form")
        return description


def labels_of(populations: Iterable[Population], registry: SchemaRegistry) -> tuple[Label, ...]:
    """Return the labels that the schemas have for the dimensions of `populations`, their declared symbols, and sums.

    If several event types of a population label a dimension, the first of them decides.
    """
    labels: list[Label] = []
    for population in populations:
        known = [registry.event_types[event] for event in population.events if event in registry.event_types]
        for name, symbols in _named(population).items():
            fields = (field for each in known for field in (*each.dimensions, *each.numbers))
            labelled = (field for field in fields if field.name == name)
            field = next((each for each in labelled if each.titles or each.labels), None)
            if field is None:
                continue
            for language, title in field.titles.items():
                labels.append(Label(population.name, name, language, "", title))
            for language, texts in field.labels.items():
                labels.extend(
                    Label(population.name, name, language, symbol, texts[symbol])
                    for symbol in symbols
                    if symbol in texts
                )
    return tuple(sorted(labels))


def _named(population: Population) -> dict[str, tuple[str, ...]]:
    """Return the symbols of each field that the population or a table refers to: none of a number that is summed up."""
    conditions = [*population.where, *(each for table in population.tables for each in table.where)]
    summed: dict[str, tuple[str, ...]] = {table.sum.field: () for table in population.tables if table.sum is not None}
    filters = {each.field.name: each.field.symbols for each in conditions}
    return summed | filters | {each.name: each.symbols for table in population.tables for each in table.by}
