"""The commands of the spool: what state it is in, and sending what waits in it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from quietcount_producers.errors import LogError, ProducersError
from quietcount_producers.settings import EmitterSettings, open_log
from quietcount_producers.spool.event_spool import EventSpool, SpoolState
from quietcount_producers.spool.relay import relay_rest
from quietcount_schemas.cli import config_option
from quietcount_schemas.errors import QuietcountError, Unavailable

__all__ = ["sent_on", "spool_command"]


@click.group(
    "spool",
    epilog="Example: quietcount spool status",
    short_help="Show the state of an emitter's spool, or send what waits in it.",
)
def spool_command() -> None:
    """Show the state of an emitter's spool, or send what waits in it.

    The spool (key emitter.spool) is where events wait on the emitter's disk until the log has them.
    """


@spool_command.command(
    "status", epilog="Example: quietcount spool status --json", short_help="Say whether events wait in the spool."
)
@click.option("--json", "as_json", is_flag=True, help="Print an object with empty (null: no spool) and waiting_since.")
@config_option
def status(as_json: bool, config: Path) -> None:
    """Say whether events wait in the spool, and since which day (UTC), if the log did not take them.

    Nothing says how many wait, or when one came.
    """
    folder = _folder(EmitterSettings.load(config))
    state: SpoolState | None = None
    if EventSpool.exists(folder):
        with EventSpool(folder, create=False) as spool:
            state = spool.state()
    since = state and state.waiting_since
    if as_json:
        click.echo(json.dumps({"empty": state and state.empty, "waiting_since": since and since.isoformat()}))
    elif state is None:
        click.echo(f"There is no spool at {folder} yet. It is made when the first event is emitted.")
    elif state.empty:
        click.echo("The spool is empty: the log has every event.")
    elif since is None:
        click.echo("Events wait in the spool.")
    else:
        click.echo(f"Events wait in the spool, which has not been empty since {since} (UTC).")


@spool_command.command(
    "drain", epilog="Example: quietcount spool drain", short_help="Send what waits in the spool to the log."
)
@config_option
def drain(config: Path) -> None:
    """Send what waits in the spool to the log, in order. What is not sent stays; run it again.

    A service that emits with this spool does so itself; this is for when none runs.
    """
    settings = EmitterSettings.load(config)
    folder = _folder(settings)
    with EventSpool(folder, create=False) as spool:
        try:
            done = relay_rest(spool, lambda: open_log(settings))
        except QuietcountError as error:
            raise ProducersError(f"Events stay in the spool {folder}. {error.what}", error.remedy) from error
    if not done:
        raise ProducersError(
            f"Another process sends what waits in the spool {folder}",
            "`quietcount spool status` says whether it is done",
        )
    click.echo("The spool is empty: the log has every event.", err=True)


def sent_on(spool: EventSpool, settings: EmitterSettings, name: str) -> str:
    """Send what waits in `spool` as long as the log answers, and return where the lines of `name` are now.

    Raises ProducersError if the log does not take them for a reason that waiting does not mend.
    """
    try:
        done = relay_rest(spool, lambda: open_log(settings))
    except Unavailable as error:
        return f"in the spool, and `quietcount spool drain` sends it when the log answers. {error}"
    except QuietcountError as error:
        after = "After that, run: quietcount spool drain"
        raise ProducersError(
            f"The good lines of {name} are safe in the spool, and the log does not take them. {error.what}",
            f"{error.remedy}. {after}" if error.remedy else after,
        ) from error
    return "in the log" if done else "in the spool, and another process sends it"


def _folder(settings: EmitterSettings) -> Path:
    if settings.spool is None:
        raise LogError(f"{settings.config}: there is no spool", "Name a folder for it: key 'emitter.spool'")
    return settings.spool
