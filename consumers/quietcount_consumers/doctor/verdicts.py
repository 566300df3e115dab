"""The doctor's checks by name, and the findings that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.finding import Finding, Severity

__all__ = ["CHECKS", "fine", "refused", "warning", "wrong"]

CHECKS: Final = {
    "configuration": "the file can be read and used, and nobody else may write to it",
    "user": "the doctor, and so the service, runs as the owner of the data, and not as root",
    "umask": "others may not write to files that the command makes",
    "secrets": "each is there, belongs to the service's user, and can be read by no other; they lie apart from the "
    "data, and, with Kafka, from the pepper",
    "folders": "the service can write to them, what is private is closed to others, what is published is not, and no "
    "damaged state is left over",
    "disk": "there is room for the data and the secrets",
    "schemas": "the event types carry nothing that could name a person, and have not changed since they were committed",
    "clock": "it is plausible, not behind the newest entry of the ledger, and kept by something",
    "log": "the embedded log is there, readable, and the one that the state folds",
    "brokers": "a broker lets this user in, and certificates will not run out soon",
    "rights": "this user may do on the topics what the service does, and not more",
    "topics": "each topic has the settings that it needs, as quietcount topics check says",
    "ledger": "it is there, its chain holds, it names the signing key, and the places beside it are those that it "
    "commits to",
    "newest ledger": "the ledger holds all that the published file, the state and the witness have seen of it",
    "witnesses": "each witness and published copy that is named answers, and holds nothing that the ledger does not "
    "hold",
    "state": "it is there, of this version's format, and belongs to this log, ledger and secret",
    "workers": "no release has waited for over an hour for one; the releaser's doctor looks",
    "populations": "the next start will take the populations of the configuration as they are declared",
    "published file": "it is there, holds exactly what the ledger says, and no program holds it open to write",
    "metrics": "certificate and password can be read, and the address is the service's",
}
"""By name, what is true if a check finds nothing. `log` is for the embedded log; `brokers`, `rights`, `topics` and
`workers` are for Kafka."""

_NO_REMEDY: Final = "Correct what is named, and look again"


def fine(check: str, what: str) -> Finding:
    """Return that a check found nothing wrong."""
    return Finding("", what, code=check, severity=Severity.OK)


def warning(check: str, what: str, remedy: str, where: str | Path = "") -> Finding:
    """Return something to look into, which stops nothing."""
    return Finding(str(where), what, remedy, check, Severity.WARNING)


def wrong(check: str, what: str, remedy: str, where: str | Path = "") -> Finding:
    """Return that something is wrong."""
    return Finding(str(where), what, remedy, check)


def refused(check: str, error: QuietcountError) -> Finding:
    """Return what one of our errors says; with a general remedy if the error has none."""
    return Finding("", error.what, error.remedy or _NO_REMEDY, check)
