"""Reloading: which configuration a running service uses, and which one it goes back to.

    Settled ──a new one is read──▶ Trying ──the service opens with it──▶ Settled
                                   Trying ──it is refused──────────────▶ Refused, with the proven one
    Settled ──a new one cannot be read────────────────────────────────▶ Refused, with the same one

A service that said that the old configuration goes on must not end because of it. Both may need the same file, and that
file may be half written now. So a Refused service waits, while a Settled one ends.
"""

from __future__ import annotations

from dataclasses import dataclass

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ConfigurationError
from quietcount_schemas.errors import QuietcountError, Unavailable

__all__ = ["Holding", "Refused", "Settled", "Trying", "check_reloadable", "opened", "refused", "replaced", "unreadable"]


@dataclass(frozen=True, slots=True)
class Settled:
    """The configuration is the one that the service was started with, or one that it has opened with since."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Trying:
    """The configuration is new; the service has yet to open with it."""

    configuration: Configuration
    proven: Configuration
    """The one to go back to if the ledger refuses the new one."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A newer configuration was refused, and this one goes on."""

    configuration: Configuration


Holding = Settled | Trying | Refused


def replaced(holding: Holding, fresh: Configuration) -> Trying:
    """Return what holds after `fresh` was read."""
    return Trying(fresh, holding.proven if isinstance(holding, Trying) else holding.configuration)


def unreadable(holding: Holding) -> Holding:
    """Return what holds after a new configuration could not be read; one that is still being tried is tried."""
    return holding if isinstance(holding, Trying) else Refused(holding.configuration)


def refused(holding: Holding, error: QuietcountError) -> Refused:
    """Return what holds after the service could not open with its configuration because of `error`.

    Raises `error` if no configuration is left to go back to, and Unavailable if a file that the old one needs is wrong
    now: the service waits until somebody mends it.
    """
    match holding:
        case Trying(_, proven):
            return Refused(proven)
        case Refused():
            raise Unavailable(error.what, error.remedy) from error
        case Settled():
            raise error


def opened(holding: Holding) -> Holding:
    """Return what holds after the service has opened."""
    return Settled(holding.configuration) if isinstance(holding, Trying) else holding


def check_reloadable(old: Configuration, new: Configuration) -> None:
    """Raise ConfigurationError if a key differs that can only change with a restart."""
    changed = old.restart_needed(new)
    if changed:
        raise ConfigurationError(
            f"{', '.join(changed)} cannot change while the service runs, so nothing of the new configuration is used",
            "Put the old value back, or restart the service",
        )
