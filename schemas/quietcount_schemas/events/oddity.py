"""The kinds of text that are hardly the identifier of a case.

`quietcount_producers.composing.identifiers` recognises them.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Oddity"]


class Oddity(StrEnum):
    """A kind of identifier that an emitter refuses unless `emitter.allow_identifiers` names it."""

    PLACEHOLDER = "placeholder"
    """A word or sign that stands for none: `n/a`, `---`, `unknown`."""
    SPREADSHEET = "spreadsheet"
    """What a spreadsheet makes of one: `7.90123E+10`, `17.0`, `="00017"`, `#REF!`."""
    INVISIBLE = "invisible"
    """Characters that nobody sees: zero-width spaces, soft hyphens, marks of direction."""
    SPACES = "spaces"
    """Spaces other than the ordinary one, or two in a row."""
    COMPATIBILITY = "compatibility"
    """Letters and digits in another look, such as full-width ones."""
    MIXED_SCRIPTS = "mixed_scripts"
    """Latin, Cyrillic or Greek letters in one word."""
