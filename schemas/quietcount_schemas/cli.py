"""The `quietcount` command: a group that gathers its subcommands from the installed distributions.

Each distribution names its commands in the entry-point group `quietcount.commands`, so an emitter's install has
`emit` and no `release`. A command is imported when it is asked for; one that cannot be imported does not break others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any, TypeVar

import click

from quietcount_schemas.errors import QuietcountError

__all__ = ["COMMANDS_GROUP", "DEFAULT_CONFIG", "EXIT_INTERRUPTED", "CommandGroup", "cli", "config_option", "main"]

COMMANDS_GROUP = "quietcount.commands"
CONFIG_VARIABLE = "QUIETCOUNT_CONFIG"
_CONFIG_KEY = "quietcount.config"  # in click's meta, which the contexts of one invocation share
DEFAULT_CONFIG = Path("quietcount.toml")

EXIT_REFUSED = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE: the reader went away, as `| head` does

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _installed_commands() -> list[EntryPoint]:
    return sorted(entry_points(group=COMMANDS_GROUP), key=lambda each: each.name)


class CommandGroup(click.Group):
    """A group whose subcommands are entry points, each imported when it is first asked for."""

    def __init__(self, *args: Any, discover: Callable[[], Iterable[EntryPoint]] = _installed_commands, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._discover = discover
        self._found: dict[str, EntryPoint] | None = None

    @property
    def _entry_points(self) -> dict[str, EntryPoint]:
        if self._found is None:
            self._found = {each.name: each for each in self._discover()}
        return self._found

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the installed commands, sorted, whether or not they can be loaded."""
        return sorted({*super().list_commands(ctx), *self._entry_points})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command `cmd_name` or None. Raises QuietcountError when there is one that cannot be loaded."""
        command = super().get_command(ctx, cmd_name)
        if command is None and cmd_name in self._entry_points:
            command = self._load(self._entry_points[cmd_name])
            self.add_command(command, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, those that cannot be loaded apart, with the reason."""
        rows: list[tuple[str, str]] = []
        broken: list[tuple[str, str]] = []
        for name in self.list_commands(ctx):
            try:
                command = self.get_command(ctx, name)
            except QuietcountError as error:
                broken.append((name, str(error)))
                continue
            if command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(limit=80)))
        for title, section in (("Commands", rows), ("Commands that cannot be loaded", broken)):
            if section:
                with formatter.section(title):
                    formatter.write_dl(section)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader that goes away ends it quietly."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _silence_stdout()
            ctx.exit(EXIT_BROKEN_PIPE)

    @staticmethod
    def _load(entry_point: EntryPoint) -> click.Command:
        distribution = entry_point.dist.name if entry_point.dist is not None else "an unknown distribution"
        try:
            command: object = entry_point.load()
        except Exception as error:
            # Whatever a distribution's import raises, the commands of the others must go on working.
            raise QuietcountError(
                f"the command {entry_point.name} of {distribution} cannot be loaded"
                f" ({type(error).__name__}: {error}); install {distribution} again"
            ) from error
        if not isinstance(command, click.Command):
            raise QuietcountError(
                f"{entry_point.name} of {distribution} is not a command; install {distribution} again"
            )
        return command


def _resolve_config(ctx: click.Context, _parameter: click.Parameter, value: Path | None) -> Path:
    if value is not None:
        return value
    before = ctx.meta.get(_CONFIG_KEY)
    if isinstance(before, Path):
        return before
    return Path(os.environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG)


def _remember_config(ctx: click.Context, _parameter: click.Parameter, value: Path | None) -> None:
    ctx.meta[_CONFIG_KEY] = value


_CONFIG_HELP = f"The configuration file.  [default: {DEFAULT_CONFIG}, or {CONFIG_VARIABLE}]"


def config_option(command: _Command) -> _Command:
    """Give a command `--config FILE`, which may also stand before the command's name; it receives `config: Path`."""
    return click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        callback=_resolve_config,
        help=_CONFIG_HELP,
    )(command)


def _show_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        try:
            click.echo(f"quietcount {version('quietcount-schemas')}")
        except PackageNotFoundError:
            click.echo("quietcount (not installed)")
        ctx.exit()


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: quietcount schemas list",
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    expose_value=False,
    callback=_remember_config,
    help=_CONFIG_HELP,
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Turn case events into statistics that are safe to publish."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 refused or found wrong, 2 wrong usage, 130 interrupted."""
    sys.exit(_run(cli, arguments))


def _run(command: click.Command, arguments: Sequence[str] | None) -> int:
    try:
        outcome: object = command.main(
            args=None if arguments is None else list(arguments), prog_name="quietcount", standalone_mode=False
        )
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        # A command that knows what became of its work says so itself, and ends with this status.
        click.echo("Stopped.", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return EXIT_BROKEN_PIPE
    except QuietcountError as error:
        click.echo(f"Error: {error}", err=True)
        return EXIT_REFUSED
    except OSError as error:
        # A full disk, a read-only folder, a missing file: the person's to mend, so a sentence and no traceback.
        where = f": {os.fspath(error.filename)!s}" if isinstance(error.filename, str | os.PathLike) else ""
        click.echo(f"Error: {error.strerror or type(error).__name__}{where}", err=True)
        return EXIT_REFUSED


def _silence_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not fail on the broken pipe once more."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
