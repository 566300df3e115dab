"""The command audit: the guarantee, measured on synthetic events."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ConfigurationError, ServiceError
from quietcount_consumers.terminal.options import log_option, naming
from quietcount_consumers.terminal.output import write_output
from quietcount_consumers.terminal.presentation import Format, default_format, show_rows, write
from quietcount_schemas.cli import DEFAULT_CONFIG, config_option
from quietcount_schemas.configuration import DEFAULT_LOG

if TYPE_CHECKING:
    from quietcount_consumers.auditing.audit import Audit, Progress
    from quietcount_consumers.trials.audited import Audited

__all__ = ["audit_command"]

_CHECKS: Final = ("stories", "epsilon", "noise", "intervals")
_STARTING: Final = "the starting catalogue"


@click.command(
    "audit", short_help="Measure the guarantee on synthetic events, from emitted bytes to the published file."
)
@config_option
@click.option("--stories", type=click.IntRange(1, 100_000), help="How many stories are told.  [default: 16]")
@click.option(
    "--draws",
    type=click.IntRange(1000, 100_000_000),
    help="About how often the noise of each log is drawn: more come nearer to epsilon.  [default: 100000]",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Which stories are told.  [default: others each time]")
@log_option
@click.option("--only", type=click.Choice(_CHECKS), help="Do this check alone.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a page to FILE, too."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of the table.")
def audit_command(
    config: Path,
    stories: int | None,
    draws: int | None,
    seed: int | None,
    log: str,
    only: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Measure the guarantee on synthetic events, from emitted bytes to the published file.

    It takes the populations and the schemas of the configuration, or the starting catalogue if there is none. It never
    opens the project's log, ledger, state or secrets: it works in a temporary folder, which it removes. On Kafka it
    makes topics of its own (quietcount-audit-...) and deletes them; the brokers must need no password.

    It exits 0 if all that it measured is as declared, and 1 if anything is not, or if it never met a table.

    \b
    Example: quietcount audit -o audit.html
    The same stories again: quietcount audit --seed 7 --only stories
    """
    from dataclasses import replace

    from quietcount_consumers.auditing.audit import PREFIX, audit
    from quietcount_consumers.auditing.page import page_of

    audited, catalogue = _audited(config, secrets.randbelow(2**31) if seed is None else seed)
    prefix = "" if log == DEFAULT_LOG else f"{PREFIX}{secrets.token_hex(4)}."
    audited = replace(
        audited,
        stories=stories or audited.stories,
        draws=draws or audited.draws,
        log=log,
        topic_prefix=prefix,
    )
    with ExitStack() as stack:
        found = audit(audited, catalogue, checks=(only,) if only else _CHECKS, progress=_progress(stack))
    if output is None or write_output(output, page_of(found)):  # on stdout the page takes the place of the table
        _show(found, as_json)
    failed = {f"{each.check} of {each.subject}": each.shown for each in found.measurements if not each.holds}
    broken = [name for name, shown in failed.items() if shown]
    if broken:
        raise ServiceError(
            f"this does not hold: {'; '.join(broken)} (seed {found.seed})",
            "Publish nothing with this installation, and report these lines",
        )
    if failed:
        raise ServiceError(
            f"nothing is shown of this, because nothing of it was counted: {'; '.join(failed)} (seed {found.seed})",
            "Tell more stories (--stories). If it stays so, the audit does not cover this catalogue: report the line",
        )
    click.echo(f"All that was measured is as declared (seed {found.seed}).", err=True)


def _audited(config: Path, seed: int) -> tuple[Audited, str]:
    """Return the catalogue of the configuration, or the starting one if none was named and none is there."""
    from quietcount_consumers.trials.audited import Audited

    if config == DEFAULT_CONFIG and not config.exists():
        return Audited.starting(seed), _STARTING
    configuration = Configuration.load(config)
    if not configuration.population:
        raise ConfigurationError(
            f"{config}: there is no [[population]] to audit", "Write one; `quietcount init` has some"
        )
    with naming(config):
        configuration.populations(configuration.registry())
    return Audited.of(configuration, seed), str(config)


def _progress(stack: ExitStack) -> Progress:
    """Return what shows progress on stderr at a terminal, and nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        return lambda *_: None
    bar = stack.enter_context(
        Progress(TextColumn("Auditing"), BarColumn(), TimeElapsedColumn(), console=console, transient=True)
    )
    task = bar.add_task("audit", total=None)
    return lambda done, work: bar.update(task, completed=done, total=work)


def _show(found: Audit, as_json: bool) -> None:
    if as_json:
        import json

        write(json.dumps(found.plain, indent=2) + "\n")
        return
    from quietcount_consumers.auditing.page import COLUMNS, certainty, figure, verdict

    form = default_format()
    rows = [
        (each.check, each.subject, figure(each.declared), figure(each.measured), certainty(each), verdict(each))
        for each in found.measurements
    ]
    if form is Format.TABLE:
        show_rows(COLUMNS, rows, form)
    else:
        show_rows((*COLUMNS, "detail"), [(*r, m.detail) for r, m in zip(rows, found.measurements, strict=True)], form)
