"""What the doctor says of each check: whether it is in order, what is wrong, and how to mend it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["CHECKS", "Result", "Verdict", "fine", "refused", "warning", "wrong"]

CHECKS: Final = {
    "configuration": "the file can be read and used, and nobody else may write to it",
    "user": "the doctor, and so the service, runs as the owner of the data, and not as root",
    "umask": "files that the command makes are not for others to write to",
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
    "topics": "each topic has the settings that it needs, as quietcount topics check tells",
    "ledger": "it is there and its chain holds",
    "witnesses": "the ledger holds all that the published file, the state and the witness have seen of it",
    "state": "it is there, of this version's format, and belongs to this log, ledger and secret",
    "statistics": "the next start will take the statistics of the configuration as they are declared",
    "published file": "it is there and holds exactly what the ledger says",
    "metrics": "certificate and password can be read, and the address is the service's",
}
"""By name, what a check is content with. `log` is the embedded log's; `brokers`, `rights` and `topics` are Kafka's."""

# Our messages say what is wrong, then what to do; a path that is named first ends with a colon.
_REMEDY: Final = re.compile(r"(?:\. |; )(?=[A-Za-z`])")
_NO_REMEDY: Final = "Mend what is named, and look again"


class Result(StrEnum):
    """How a check came out. A warning is something to look into that keeps nothing from working."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the doctor's: of which check, how it came out, what was found, and how to mend it."""

    check: str
    result: Result
    finding: str
    remedy: str = ""


def fine(check: str, finding: str) -> Verdict:
    """Return that a check is in order."""
    return Verdict(check, Result.OK, finding)


def warning(check: str, finding: str, remedy: str) -> Verdict:
    """Return that something is to be looked into."""
    return Verdict(check, Result.WARNING, finding, remedy)


def wrong(check: str, finding: str, remedy: str) -> Verdict:
    """Return that something is wrong."""
    return Verdict(check, Result.WRONG, finding, remedy)


def refused(check: str, error: Exception, result: Result = Result.WRONG) -> Verdict:
    """Return what one of our errors says: its first sentence is what is wrong, the rest what to do."""
    text = str(error)
    parting = _REMEDY.search(text)
    if parting is None:
        return Verdict(check, result, text.rstrip("."), _NO_REMEDY)
    remedy = text[parting.end() :].rstrip(".")
    return Verdict(check, result, text[: parting.start()], remedy[:1].upper() + remedy[1:])
