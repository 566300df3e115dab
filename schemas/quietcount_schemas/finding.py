"""A finding: what is wrong, where, and what to do about it; one shape for the lint, the topics and the doctor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from quietcount_schemas.errors import SchemasError

__all__ = ["Finding", "Refused", "Severity", "place", "refusal"]

_SHOWN = 20
"""A message of a thousand findings helps nobody; `quietcount schemas check` prints all."""


class Severity(StrEnum):
    """How a check came out. A warning is something to look into; it stops nothing."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check.

    `where` is the file, the field, the topic or nothing. `what` says what is wrong there, and `remedy` what to do; both
    lack the last full stop. `code` names the rule or the check, for programs.
    """

    where: str
    what: str
    remedy: str = ""
    code: str = ""
    severity: Severity = Severity.WRONG

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.remedy:
            text += f". {self.remedy}"
        if self.code:
            text += f" [{self.code}]"
        # The name of a file may hold anything. The text must not act on a terminal, and must be possible to encode.
        return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class Refused(SchemasError):
    """A file of schemas cannot be used; `finding` says where and why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(f"{finding.where}: {finding.what}", finding.remedy)
        self.finding = finding

    def __reduce__(self) -> tuple[type[Refused], tuple[Finding]]:
        return type(self), (self.finding,)


def place(source: str, path: str = "") -> str:
    """Return where a finding is: in the file or folder `source`, at the field `path` if there is one."""
    return f"{source}: {path}" if path else source


def refusal(findings: Iterable[Finding]) -> SchemasError:
    """Return the error that lists `findings`, or the first ones of many."""
    lines = [str(finding) for finding in findings]
    shown = lines[:_SHOWN]
    if len(lines) > _SHOWN:
        shown.append(f"and {len(lines) - _SHOWN} more: `quietcount schemas check` prints all")
    return SchemasError("event schemas refused", "\n  ".join(["Mend this:", *shown]))
