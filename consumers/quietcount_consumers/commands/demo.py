"""The command demo: the whole job on synthetic cases."""

from __future__ import annotations

from pathlib import Path

import click

from quietcount_consumers.demo.demonstration import DEFAULT_DIR, run_demo
from quietcount_consumers.terminal.options import log_option

__all__ = ["demo_command"]


@click.command("demo", short_help="Do the whole job on synthetic cases, in seconds.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DIR,
    show_default=True,
    help="Where the demo's files go; each run makes the folder again.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the page for people.")
@log_option
def demo_command(folder: Path, as_json: bool, log: str) -> None:
    """Do the whole job on synthetic cases: emit, fold, release, publish, compare with published figures.

    On Kafka it makes topics of its own (quietcount-demo-...), which the next demo in the same folder deletes. It knows
    no password and no TLS: the brokers must take anyone.

    \b
    Example: quietcount demo --dir /tmp/quietcount-demo
    On Kafka: quietcount demo --log kafka://localhost:9092
    """
    run_demo(folder, as_json=as_json, log=log)
