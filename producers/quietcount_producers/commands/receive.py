"""The command receive: an HTTP door for tools that can only send JSON."""

from __future__ import annotations

from pathlib import Path

import click

from quietcount_producers.errors import ProducersError
from quietcount_schemas.cli import config_option

__all__ = ["receive_command"]


@click.command(
    "receive",
    epilog="Example: quietcount receive --check",
    short_help="Take events over HTTP from tools that can only send JSON.",
)
@click.option("--check", is_flag=True, help="Check the configuration and the mappings, say how things stand, and end.")
@config_option
def receive_command(check: bool, config: Path) -> None:
    """Take events over HTTP from tools that can only send JSON, until SIGTERM or Ctrl-C.

    Each [[receive.path]] of the configuration is an address for one tool, with its own mapping and token. A delivery is
    answered with 200 when its events are on the disk, in the spool, and they are sent on when the log takes them. What
    a mapping refuses is answered so, too, and kept in a private file beside the spool.
    """
    try:
        from quietcount_producers.receiving.server import serve
    except ModuleNotFoundError as error:
        if error.name not in ("uvicorn", "h11"):
            raise
        raise ProducersError(
            "The HTTP door needs a server, which is not installed", "Run: pip install './producers[receive]'"
        ) from None
    from quietcount_producers.receiving.reception import Reception
    from quietcount_producers.receiving.settings import ReceiverSettings
    from quietcount_producers.settings import EmitterSettings

    settings = ReceiverSettings.load(config)
    reception = Reception(settings, EmitterSettings.load(config))

    def say(line: str) -> None:
        click.echo(line, err=True)

    if not check:
        serve(settings, reception, say)
        return
    settings.tls_context()
    say(f"{config}: the door can be opened. The paths: {', '.join(reception.tokens)}")
    for line in reception.standing():
        say(line)
