"""The `quietcount` command: a group that gathers its subcommands from the installed distributions.

Each distribution lists its commands in a table, so an emitter's install has `emit` and no `release`, and `--help` reads
the tables alone. A command is imported when it is asked for; one that cannot be imported does not break others.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from quietcount_schemas.errors import QuietcountError

__all__ = ["DEFAULT_CONFIG", "EXIT_INTERRUPTED", "TABLES", "CommandGroup", "cli", "config_option", "main"]

TABLES = (
    "quietcount_schemas.commands.table",
    "quietcount_producers.commands.table",
    "quietcount_consumers.commands.table",
)
"""The modules with the tables, if they are installed. Entry points cost twice click's import."""

CONFIG_VARIABLE = "QUIETCOUNT_CONFIG"
_CONFIG_KEY = "quietcount.config"  # in click's meta, which the contexts of one invocation share
DEFAULT_CONFIG = Path("quietcount.toml")

EXIT_REFUSED = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE: the reader went away, as `| head` does

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Row(NamedTuple):
    """A row of a table: the command's name, "module:attribute", its summary, and the distribution it comes from."""

    name: str
    target: str
    summary: str
    distribution: str


class CommandGroup(click.Group):
    """A group whose subcommands stand in tables, each imported when somebody asks for it."""

    def __init__(self, *args: Any, tables: Sequence[str] = TABLES, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._tables = tables
        self._read: tuple[dict[str, _Row], dict[str, str]] | None = None

    @property
    def _rows(self) -> dict[str, _Row]:
        return self._found()[0]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the installed commands, sorted, whether or not they can be loaded."""
        return sorted({*super().list_commands(ctx), *self._rows})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command `cmd_name` or None. Raises QuietcountError if there is one that cannot be loaded."""
        command = super().get_command(ctx, cmd_name)
        if command is None and cmd_name in self._rows:
            command = _loaded(self._rows[cmd_name])
            self.add_command(command, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the tables, and apart from them the distributions that cannot be loaded."""
        summaries = {name: row.summary for name, row in self._rows.items()}
        for name in super().list_commands(ctx):
            command = super().get_command(ctx, name)
            if command is not None and name not in summaries:
                summaries[name] = command.get_short_help_str(limit=80)
        broken = list(self._found()[1].items())
        for title, section in (("Commands", sorted(summaries.items())), ("Parts that cannot be loaded", broken)):
            if section:
                with formatter.section(title):
                    formatter.write_dl(section)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` begin with; one that is unknown may be in a part that cannot be loaded."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            for distribution, reason in self._found()[1].items():
                raise QuietcountError(
                    f"{distribution} cannot be loaded, which may have the command {args[0]!a}: {reason}",
                    f"Install {distribution} again",
                ) from None
            raise

    def _found(self) -> tuple[dict[str, _Row], dict[str, str]]:
        """Return the rows of the installed tables by command, and by distribution why a table cannot be read."""
        if self._read is None:
            rows: dict[str, _Row] = {}
            broken: dict[str, str] = {}
            for table in self._tables:
                distribution = table.partition(".")[0].replace("_", "-")
                try:
                    commands: Sequence[tuple[str, str, str]] = import_module(table).COMMANDS
                except ModuleNotFoundError as error:
                    if not f"{table}.".startswith(f"{error.name}."):  # otherwise the distribution is not installed
                        broken[distribution] = f"{type(error).__name__}: {error}"
                    continue
                except Exception as error:
                    # Whatever a distribution's import raises, the commands of the others must go on working.
                    broken[distribution] = f"{type(error).__name__}: {error}"
                    continue
                rows |= {name: _Row(name, target, summary, distribution) for name, target, summary in commands}
            self._read = rows, broken
        return self._read

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader that goes away ends it quietly."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _silence_stdout()
            ctx.exit(EXIT_BROKEN_PIPE)


def _loaded(row: _Row) -> click.Command:
    module, _, attribute = row.target.partition(":")
    try:
        command: object = getattr(import_module(module), attribute)
    except Exception as error:
        raise QuietcountError(
            f"the command {row.name} of {row.distribution} cannot be loaded ({type(error).__name__}: {error})",
            f"Install {row.distribution} again",
        ) from error
    if not isinstance(command, click.Command):
        raise QuietcountError(f"{row.name} of {row.distribution} is not a command", f"Install {row.distribution} again")
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
        # Here alone: its import takes longer than all else that this command does.
        from importlib.metadata import PackageNotFoundError, version

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


def _fill_closed_streams() -> None:
    """Put nothing in the place of standard streams that are closed (a shell's `>&-`).

    Otherwise the next file that is opened, such as the log, gets the stream's number, and what a library writes to the
    stream goes into that file. `sys.stdin` stays None, so that a command that reads it can say so.
    """
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)  # takes the lowest free number, as the next two do
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  # open as long as the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115


def _run(command: click.Command, arguments: Sequence[str] | None) -> int:
    _fill_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A symbol that the terminal's encoding lacks becomes a question mark, and no error.
        sys.stdout.reconfigure(errors="replace")
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
