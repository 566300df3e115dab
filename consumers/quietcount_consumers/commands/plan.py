"""The command plan: what a catalogue will publish, before any budget is spent."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import click

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ConfigurationError, ServiceError
from quietcount_consumers.terminal.options import chosen_format, format_option, naming
from quietcount_consumers.terminal.presentation import Format, show_rows, write
from quietcount_schemas.cli import EXIT_INTERRUPTED, config_option

if TYPE_CHECKING:
    from quietcount_aggregates.planning.epsilons import Needed
    from quietcount_aggregates.planning.plan import Planned
    from quietcount_aggregates.planning.volume import Volume
    from quietcount_aggregates.populations import Population
    from quietcount_consumers.planning.event_counts import EventCounts, PopulationCounts
    from quietcount_producers.files.event_files import FileFormat
    from quietcount_producers.mapping import Mapping as ColumnMapping
    from quietcount_schemas.registry import SchemaRegistry

__all__ = ["plan_command"]

_STANDARD: Final = "-"
_MOST: Final = 100_000_000
"""More events than any helpline has; the estimates of a published file could hold some thousand times as many."""
_SUFFIXES: Final = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".xlsx", ".xls", ".ods", ".numbers")
"""Those of which emit knows what they hold."""


class Named(click.ParamType[tuple[str, float]]):
    """A number with the name of what it is of: NAME=NUMBER; with `bare`, a number alone is of everything."""

    name = "number"

    def __init__(self, *, bare: bool) -> None:
        self._bare = bare

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        if isinstance(value, tuple):
            return cast("tuple[str, float]", value)
        name, equals, number = str(value).rpartition("=")
        try:
            found = float(number)
        except ValueError:
            found = -1.0
        if not 0 < found <= _MOST or bool(name) != bool(equals) or not (name or self._bare):
            self.fail(
                f"write {'a number, or ' if self._bare else ''}NAME=NUMBER, above 0 and up to {_MOST:,}", param, ctx
            )
        return name, found


@click.command("plan", short_help="Say which margins a catalogue will give, before any budget is spent.")
@click.argument("files", metavar="[FILE|-]...", nargs=-1)
@click.option(
    "--events",
    type=Named(bare=True),
    multiple=True,
    metavar="[POPULATION=]N",
    help="Plan for N counted events a year, spread evenly over cells and periods; repeatable.",
)
@click.option(
    "--margin",
    "wanted",
    type=Named(bare=False),
    multiple=True,
    metavar="TABLE=M",
    help="Say which epsilon TABLE needs for a margin of ±M of one cell of its period; repeatable.",
)
@click.option("--mapping", metavar="FILE|NAME", help="What the columns of FILE mean: see `quietcount mapping`.")
@config_option
@format_option
def plan_command(
    files: Sequence[str],
    events: Sequence[tuple[str, float]],
    wanted: Sequence[tuple[str, float]],
    mapping: str | None,
    config: Path,
    form: str | None,
) -> None:
    """Say which margins of error a catalogue will give, before any budget is spent.

    It reads the configuration, and no secret, ledger or state. With --events, or with FILEs of your own events, as
    `quietcount emit` takes them, it compares the margins with the sizes, and says what to change. Of a FILE nothing is
    written or kept.

    \b
    Example: quietcount plan --events 2000
    From your own cases: quietcount plan cases.csv
    The other way round: quietcount plan --margin requests_by_kind=3
    """
    if [bool(files), bool(events), bool(wanted)].count(True) > 1:
        raise click.UsageError("Give one of these: files, --events, --margin.")
    if mapping is not None and not files:
        raise click.UsageError("--mapping goes with files.")
    for option, given in (("--events", events), ("--margin", wanted)):
        if len(dict(given)) < len(given):
            raise click.UsageError(f"Give {option} once for each name.")
    configuration = Configuration.load(config)
    registry = _registry(configuration)
    with naming(config):
        populations = configuration.populations(registry)
    if not populations:
        raise ConfigurationError(
            f"{config}: there is no [[population]] to plan", "Write one; `quietcount init` has some"
        )
    try:
        if wanted:
            _show_needed(configuration, populations, dict(wanted), chosen_format(form))
            return
        counts: Mapping[str, PopulationCounts] = {}
        if files:
            counts = _counted(files, mapping, config, registry, populations)
            volumes: Mapping[str, Volume] = {name: each.volume for name, each in counts.items()}
        else:
            volumes = _even(populations, dict(events), config)
        _show(configuration, populations, volumes, counts, chosen_format(form))
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None


def _registry(configuration: Configuration) -> SchemaRegistry:
    """Load the event types, without the ids of a Schema Registry: nothing is sent."""
    from quietcount_schemas.registry import SchemaRegistry

    return SchemaRegistry.load(configuration.schemas)


def _even(populations: Sequence[Population], events: Mapping[str, float], config: Path) -> dict[str, Volume]:
    from quietcount_aggregates.planning.volume import Volume

    names = [population.name for population in populations]
    for name in events:
        if name and name not in names:
            raise ConfigurationError(
                f"{config}: there is no population {name!a} to give --events to", f"Name one of {', '.join(names)}"
            )
    volumes: dict[str, Volume] = {}
    for population in populations:
        number = events.get(population.name, events.get(""))
        if number is not None:
            volumes[population.name] = Volume.evenly(population, number)
    return volumes


def _counted(
    files: Sequence[str],
    mapping_name: str | None,
    config: Path,
    registry: SchemaRegistry,
    populations: Sequence[Population],
) -> dict[str, PopulationCounts]:
    """Count files of events; raise ServiceError if no population counts anything of them."""
    from quietcount_consumers.planning.event_counts import EventCounts
    from quietcount_producers.settings import EmitterSettings

    emitter = EmitterSettings.load(config)
    mapping = None if mapping_name is None else _mapping(mapping_name, registry)
    counts = EventCounts(registry, emitter.precision, emitter.allow_identifiers)
    good = 0
    for file in files:
        good += _read(file, counts, mapping)
    names = ", ".join("standard input" if file == _STANDARD else file for file in files)
    if not good:
        raise ServiceError(f"{names}: holds no event that can be emitted", "Name a file that `quietcount emit` takes")
    found = {population.name: counts.of(population) for population in populations}
    known: dict[str, PopulationCounts] = {name: each for name, each in found.items() if each is not None}
    if not known:
        raise ServiceError(
            f"{names}: no population of {config} counts any of its events",
            "Look at events, where and since of the populations",
        )
    for name in sorted(found.keys() - known.keys()):
        click.echo(f"{name} counts no event of {names}: its margins are shown without a size.", err=True)
    return known


def _mapping(name: str, registry: SchemaRegistry) -> ColumnMapping:
    from quietcount_producers.mapping import Mapping as ColumnMapping
    from quietcount_producers.mapping import catalogue

    return ColumnMapping.load(catalogue.found(Path(name)), registry)


def _read(file: str, counts: EventCounts, mapping: ColumnMapping | None) -> int:
    """Read one file, and say on stderr which lines are left out; return how many are good."""
    from quietcount_producers.commands.progress import Steps, progress, size_of

    name = "standard input" if file == _STANDARD else file
    with ExitStack() as stack:
        try:
            stream = sys.stdin.buffer if file == _STANDARD else stack.enter_context(Path(file).open("rb"))
            file_format = _format(stream, Path(name), None if mapping is None else mapping.reading.format)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise ServiceError(f"Cannot read {name}: {reason}", "Check the path and the rights of the file") from None
        with progress("Counting", size_of(stream)) as bar:
            found = counts.read(stream, name, file_format, mapping, Steps(bar, stream))
    for line in found.shown():
        click.echo(line, err=True)
    if found.problems:
        click.echo(f"The plan leaves these lines of {name} out.", err=True)
    for line in found.notes():
        click.echo(line, err=True)
    return found.good


def _format(stream: BinaryIO, path: Path, named: str | None) -> FileFormat:
    """Return what a file holds: as its mapping says, by its suffix, and if neither says so, by its first byte."""
    from quietcount_producers.files.event_files import FileFormat

    if named is not None:
        return FileFormat.guess(path, FileFormat(named))
    if path.suffix.lower() in _SUFFIXES:
        return FileFormat.guess(path)
    peek = getattr(stream, "peek", None)
    first = peek(1)[:64].lstrip(b"\xef\xbb\xbf \t\r\n") if peek is not None else b"{"
    return FileFormat.JSONL if first.startswith((b"{", b"[")) else FileFormat.CSV


def _show_needed(
    configuration: Configuration, populations: Sequence[Population], wanted: Mapping[str, float], form: Format
) -> None:
    """Write which epsilons the wanted margins need."""
    from quietcount_aggregates.planning.epsilons import needed
    from quietcount_consumers.planning.words import NEEDED_COLUMNS, budget_line, needed_line, needed_row

    tables = [table.name for population in populations for table in population.counts]
    for name in wanted:
        if name not in tables:
            raise ConfigurationError(
                f"there is no table {name!a} that counts, to give --margin to", f"Name one of {', '.join(tables)}"
            )
    changed: list[Population] = []
    found: list[tuple[Population, Needed]] = []
    for population in populations:
        own: dict[str, float] = {table.name: wanted[table.name] for table in population.counts if table.name in wanted}
        after, needs = needed(population, own)
        changed.append(after)
        found += [(population, need) for need in needs]
    for _, need in found:
        if need.epsilon is None:
            raise ServiceError(
                f"no epsilon that a catalogue may have gives {need.table} a margin of ±{need.wanted:g}",
                f"Ask for ±{need.reached:.2g} or more",
            )
    if form is Format.TABLE:
        write("".join(f"{needed_line(population, need)}\n" for population, need in found))
    else:
        show_rows(NEEDED_COLUMNS, [needed_row(population, need) for population, need in found], form)
    click.echo(budget_line(changed, configuration.lifetime_epsilon), err=form is not Format.TABLE)


def _show(
    configuration: Configuration,
    populations: Sequence[Population],
    volumes: Mapping[str, Volume],
    counts: Mapping[str, PopulationCounts],
    form: Format,
) -> None:
    """Write the plan: a table of figures, or rows, and what to change."""
    from quietcount_aggregates.planning.advice import advised
    from quietcount_aggregates.planning.answers import asking
    from quietcount_aggregates.planning.margins import Margins
    from quietcount_aggregates.planning.plan import planned
    from quietcount_consumers.planning.words import COLUMNS, advice_lines, budget_line, count_lines, row_of, spent_by

    rows: list[tuple[object, ...]] = []
    said: list[str] = []
    with ExitStack() as stack:
        answers = stack.enter_context(asking()) if volumes else None
        for population in populations:
            margins, volume = Margins(population), volumes.get(population.name)
            figures = list(planned(margins, volume, answers))
            lines = list(count_lines(population, counts[population.name])) if population.name in counts else []
            below: dict[str, float] = {each.table.name: each.below for each in figures if each.below is not None}
            lines += advice_lines(advised(margins, volume), below)
            if form is Format.TABLE:
                _write_population(population, figures)
                write("".join(f"{line}\n" for line in [*_wrapped(lines), ""] if lines))
            else:
                rows += [row_of(population, each) for each in figures]
                said += lines
    if form is not Format.TABLE:
        show_rows(COLUMNS, rows, form)
    for line in said:
        click.echo(line, err=True)
    click.echo(budget_line(populations, configuration.lifetime_epsilon), err=form is not Format.TABLE)
    if spent_by(populations) > configuration.lifetime_epsilon:
        raise ServiceError(
            "the catalogue spends more than lifetime_epsilon",
            "Give its tables less, or leave tables or populations out",
        )


def _wrapped(lines: Sequence[str]) -> list[str]:
    """Return lines as wide as the terminal; a figure and its margin or sign stay together."""
    width = shutil.get_terminal_size().columns
    kept = (line.replace(" %", "\xa0%").replace(" ±", "\xa0±") for line in lines)
    parts = (textwrap.wrap(line, width, initial_indent="→ ", subsequent_indent="  ") for line in kept)
    return [part.replace("\xa0", " ") for each in parts for part in each]


def _write_population(population: Population, figures: Sequence[Planned]) -> None:
    """Write the figures of a population, table by table."""
    from quietcount_aggregates.bound import plain
    from quietcount_consumers.planning.words import aligned, alone_words, figure_words, margin_words, size_words

    title = f": {population.title}" if population.title else ""
    write(f"{population.name}{title}\n{population.counting}; epsilon {plain(population.epsilon)}\n\n")
    for table in population.tables:
        own = [each for each in figures if each.table is table]
        if not own:
            continue  # without a volume nobody can say how precise an average is
        columns = {
            f"{table.name} (epsilon {table.epsilon:g})": figure_words,
            "about": size_words,
            "margin": margin_words,
            "reliability": lambda each: each.reliability or "",
            "by itself": alone_words,
        }
        if all(each.size is None for each in own):
            del columns["about"], columns["reliability"]
        if len(population.counts) == 1 or table.sum is not None:
            del columns["by itself"]
        rows = [list(columns), *([words(each) for words in columns.values()] for each in own)]
        write("".join(f"{line}\n" for line in [*aligned(rows), ""]))
