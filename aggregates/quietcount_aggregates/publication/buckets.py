"""The buckets of dimensions that are numbers: their bounds and their labels, as rows of the public file.

Both follow from the declarations alone, so no schema has to label a bucket.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.populations import Dimension

__all__ = ["bucket_label_rows", "bucket_rows"]


class _Words(NamedTuple):
    """How a language says a bucket."""

    below: str
    between: str
    and_more: str
    unknown: str


_WORDS: Final = {
    "en": _Words("below {}", "{} to {}", "{} and more", "unknown"),
    "ru": _Words("меньше {}", "от {} до {}", "{} и больше", "неизвестно"),
    "uk": _Words("менше {}", "від {} до {}", "{} і більше", "невідомо"),
}


def bucket_rows(chain: Chain) -> Iterator[tuple[str, str, int, str, int | None, int | None]]:
    """Yield the rows of `buckets`: what is unknown has no bounds, and the last place."""
    for population, dimension in _bucketed(chain):
        bounds: list[tuple[int | None, int | None]] = [*dimension.bounds]
        bounds += [(None, None)] * (len(dimension.symbols) - len(bounds))
        for place, (symbol, (lower, upper)) in enumerate(zip(dimension.symbols, bounds, strict=True), 1):
            yield population, dimension.name, place, symbol, lower, upper


def bucket_label_rows(chain: Chain) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield the rows of `labels` that say what people read for a bucket."""
    for population, dimension in _bucketed(chain):
        for language, words in _WORDS.items():
            for symbol in dimension.symbols:
                yield population, dimension.name, symbol, language, _label(symbol, dimension, words)


def _bucketed(chain: Chain) -> Iterator[tuple[str, Dimension]]:
    """Yield each dimension in buckets of each declared population, once."""
    for population in chain.declarations.values():
        dimensions = {each.name: each for table in population.tables for each in table.by if each.bounds}
        for dimension in dimensions.values():
            yield population.name, dimension


def _label(symbol: str, dimension: Dimension, words: _Words) -> str:
    place = dimension.symbols.index(symbol)
    if place == len(dimension.bounds):
        return words.unknown
    if symbol.startswith("<"):
        return words.below.format(symbol[1:])
    if symbol.endswith("+"):
        return words.and_more.format(symbol[:-1])
    lower, upper = dimension.bounds[place]
    if lower == upper:
        return str(lower)
    # A minus beside a dash cannot be read.
    return f"{lower}–{upper}" if lower >= 0 else words.between.format(lower, upper)
