"""The command doctor: what is wrong with a project, and how to mend it."""

from __future__ import annotations

from pathlib import Path

import click

from quietcount_consumers.doctor.examination import examine
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.terminal.findings import show_findings
from quietcount_consumers.terminal.options import chosen_format, format_option
from quietcount_schemas.cli import config_option
from quietcount_schemas.finding import Severity

__all__ = ["doctor_command"]


@click.command("doctor", short_help="Look at all that the service needs; say what is wrong and how to mend it.")
@config_option
@format_option
def doctor_command(config: Path, form: str | None) -> None:
    """Look at all that the service needs, and say what is wrong and how to mend it.

    Run it on the machine of the service, as the service's user. It changes nothing, and does not disturb a service
    that is running. It exits 1 if anything is wrong, and 0 if there are only warnings.

    \b
    Example: quietcount doctor
    For a program: quietcount doctor --format json
    """
    findings = examine(config)
    show_findings(findings, chosen_format(form), code="check")
    faulty = list(dict.fromkeys(each.code for each in findings if each.severity is Severity.WRONG))
    if faulty:
        raise ServiceError(f"something is wrong ({', '.join(faulty)})", "Do what is said above, then look again")
    warned = any(each.severity is Severity.WARNING for each in findings)
    click.echo("Nothing is wrong; look at the warnings above." if warned else "Nothing is wrong.", err=True)
