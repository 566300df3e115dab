"""States that are sound, and what is said to somebody who records the loss of one; and a crash amid a release."""

from __future__ import annotations

import datetime as dt

from click.testing import CliRunner
from tests.commanded import digest, invoked, losses
from tests.e2e.projects import Project

from quietcount_aggregates.release import Step
from quietcount_consumers.commands.ledger import ledger_command
from quietcount_consumers.commands.readers.query import query_command
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.maintenance.losses import Lost

__all__ = ["MARCH", "Crash", "asked", "bound", "check_a_sound_state_is_left_alone", "crash"]

MARCH = dt.datetime(2023, 3, 8, tzinfo=dt.UTC)


class Crash(BaseException):
    """The end of a process amid a release."""


def crash(step: Step) -> None:
    if step is Step.APPENDED:
        raise Crash


def asked(cases: range, month: str) -> list[dict[str, object]]:
    """Return requests for help of these cases, all of one kind and day."""
    return [
        {"event": "HelpRequested", "case": f"case {n}", "occurred_on": f"{month}-10", "help_kind": "DESERTION"}
        for n in cases
    ]


def bound(project: Project) -> str:
    return invoked(project, query_command, "SELECT value FROM about WHERE key = 'bound'").stdout


def check_a_sound_state_is_left_alone(project: Project) -> None:
    """Try to record a loss, with and without being asked; say what it would have cost."""
    before = digest(project.public), losses(project)
    for arguments in (("--yes",), ()):
        result = CliRunner().invoke(
            ledger_command, ["record-loss", *arguments, "--config", str(project.config)], input="y\n"
        )
        assert (digest(project.public), losses(project)) == before
        assert isinstance(result.exception, ServiceError), result.output
        assert "the state is sound" in result.exception.what
        assert "from epsilon 100 to 200, permanently" in result.exception.what
        for secret in Lost:
            assert f"--lost {secret}" in result.exception.remedy
