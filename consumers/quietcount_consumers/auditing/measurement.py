"""Measurements: what the audit found of each table, population or question, beside what is declared of it.

A check is a module of this wing with two functions. `parts(audited)` returns the pieces of its work, which run in
processes of their own and in any order. `judged(audited, results)` makes measurements of what they returned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from quietcount_consumers.trials.audited import Audited

__all__ = ["CHECKS", "FALSE_ALARM", "Check", "Measurement", "Part"]

CHECKS: Final = ("stories", "epsilon", "noise", "intervals")
"""The names of the checks, in the order in which they are shown."""

FALSE_ALARM: Final = 1e-6
"""How likely a measurement in which chance has a part is to find fault with what is right."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one check measured of one subject.

    `check` is one of CHECKS, and `subject` a table, a population or a question. `declared` and `measured` are in the
    unit that `detail` names in one plain sentence. `confidence` is 1.0 if chance has no part in it. `shown` is false if
    the check never met what it measures, or too little of it to find a fault. A table that was never met does not hold.
    """

    check: str
    subject: str
    declared: float
    measured: float
    confidence: float
    holds: bool
    detail: str
    shown: bool = True


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a check: `run(audited, folder, *arguments)`, a function of a module, and arguments that pickle.

    `folder` is empty and its own, and is removed afterwards. `effort` says about how many seconds it takes: the longest
    begin first.
    """

    run: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    effort: float = 1.0

    def __call__(self, audited: Audited, folder: Path) -> Any:
        """Do the piece, and return what `judged` gets of it."""
        return self.run(audited, folder, *self.arguments)


class Check(Protocol):
    """A module that checks something."""

    def parts(self, audited: Audited) -> Sequence[Part]:
        """Return the pieces of the check."""
        ...

    def judged(self, audited: Audited, results: Sequence[Any]) -> Sequence[Measurement]:
        """Return what was measured; `results` are those of the parts, in their order."""
        ...
