"""Labels: what people read for a field and its symbols, by language. A schema carries them, and an event does not."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from typing import Any, Final

__all__ = ["LABEL_KEYS", "MAX_LABEL", "UNPRINTABLE", "label_problems"]

MAX_LABEL: Final = 100
"""In characters: what fits beside a figure. It keeps the labels of a large schema small enough for one ledger entry."""

TITLE: Final = "quietcount.title"
LABELS: Final = "quietcount.labels"
LABEL_KEYS: Final = frozenset({TITLE, LABELS})
"""The attributes of a field that hold them. They may change at any time, as a doc may."""

UNPRINTABLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Control characters, half surrogate pairs, line separators."""

# BCP 47 (RFC 5646), section 2.1: a language, perhaps a script, perhaps a region; nothing else, and one way to write it.
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?")


def label_problems(
    field: dict[str, Any], symbols: Collection[str], *, is_number: bool = False
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the title and the labels of a field, and what to do.

    `symbols` are none for an int. A whole number has a title and no labels: its buckets have theirs from their bounds.
    """
    if LABELS in field and not symbols:
        yield f'only an enum or a boolean has "{LABELS}"', "Remove it"
        return
    if TITLE in field and not (symbols or is_number):
        yield f'only an enum, a boolean or a whole number has "{TITLE}"', "Remove it"
        return
    titles, labels = field.get(TITLE, {}), field.get(LABELS, {})
    for key, texts in ((TITLE, titles), (LABELS, labels)):
        if not isinstance(texts, dict) or not all(map(_LANGUAGE.fullmatch, texts)):
            yield f'"{key}" is not by language', 'Write an object whose keys are languages, as "en", "de" or "pt-BR"'
            return
    for language, own in labels.items():
        if not isinstance(own, dict) or own.keys() != set(symbols):
            yield f'"{LABELS}" for {language} are not one for each symbol', "Label every symbol once, and nothing else"
            return
    if not all(map(_is_line, [*titles.values(), *(text for own in labels.values() for text in own.values())])):
        yield "a title or a label is not one short line", f"Write plain text, {MAX_LABEL} characters at most"


def _is_line(text: object) -> bool:
    return (
        isinstance(text, str)
        and 0 < len(text.strip()) <= len(text) <= MAX_LABEL
        and not any(unicodedata.category(character) in UNPRINTABLE for character in text)
    )
