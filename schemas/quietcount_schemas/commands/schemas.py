"""The `quietcount schemas` commands: list, show, write, check and register event schemas."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from quietcount_schemas.cli import DEFAULT_CONFIG, config_option
from quietcount_schemas.configuration import read_configuration
from quietcount_schemas.errors import SchemasError
from quietcount_schemas.events.event_types import EventType, Field
from quietcount_schemas.folder import SchemaFolder
from quietcount_schemas.lint.history import HistoryReason, record_history
from quietcount_schemas.registry import SchemaRegistry, configured_folders, inspect
from quietcount_schemas.schema_registry import ids as registry_ids
from quietcount_schemas.schema_registry.settings import RegistrySettings

__all__ = ["schemas"]

_OWN = "my-schemas"
_RECORDABLE = (HistoryReason.UNRECORDED, HistoryReason.MISSING)


@click.group(epilog="Example: quietcount schemas check my-schemas")
def schemas() -> None:
    """List, show, write, check and register event schemas.

    The built-in casework schemas, and those in the folders that `schemas = [...]` names in the configuration file.
    """


@schemas.command("list", epilog="Example: quietcount schemas list --format csv")
@click.option(
    "--format",
    "output",
    type=click.Choice(["table", "csv", "json"]),
    help="How to print.  [default: table on a terminal, csv in a pipe]",
)
@config_option
def list_schemas(output: str | None, config: Path) -> None:
    """List the event types, their versions, fields and dimensions."""
    registry = SchemaRegistry.load(_folders(config))
    header = ("event", "role", "version", "fields", "dimensions")
    rows = [_summary(event_type) for event_type in registry.event_types.values()]
    match output or ("table" if sys.stdout.isatty() else "csv"):
        case "json":
            click.echo(json.dumps([dict(zip(header, row, strict=True)) for row in rows], indent=2))
        case "csv":
            csv.writer(sys.stdout, lineterminator="\n").writerows([header, *rows])
        case _:
            click.echo(_table(header, rows))


@schemas.command("show", epilog="Example: quietcount schemas show HelpRequested --version 1 --format avsc")
@click.argument("event")
@click.option("--version", "number", type=click.IntRange(min=1), help="Which version.  [default: the current one]")
@click.option(
    "--format",
    "output",
    type=click.Choice(["table", "avsc"]),
    default="table",
    show_default=True,
    help="A table of the fields, or the Avro schema itself.",
)
@config_option
def show(event: str, number: int | None, output: str, config: Path) -> None:
    """Show the fields of an event type, or its Avro schema."""
    registry = SchemaRegistry.load(_folders(config))
    if event not in registry.event_types:
        raise SchemasError(f"there is no event type {event}", f"Name one of: {', '.join(registry.event_types)}")
    event_type = registry.event_type(event)
    if number is not None and number > len(event_type.versions):
        raise SchemasError(f"{event} has no version {number}", f"Its last one is {event_type.current.version}")
    version = event_type.current if number is None else event_type.versions[number - 1]
    if output == "avsc":
        # Labels have letters that not every terminal can show.
        plain = not (sys.stdout.encoding or "").lower().startswith("utf")
        click.echo(json.dumps(version.definition, indent=2, ensure_ascii=plain))
        return
    click.echo(f"{event}, version {version.version} of {len(event_type.versions)}: {version.definition['doc']}")
    click.echo(f"fingerprint {version.fingerprint.hex()}, role {event_type.role.value}\n")
    header = ("field", "type", "values", "default", "doc")
    click.echo(_table(header, [_described(field) for field in version.fields]))


@schemas.command(
    "new",
    epilog="Example: quietcount schemas new HotlineCalled --enum channel=PHONE,CHAT,OTHER --flag repeated",
    short_help="Write the schema of a new event type, to be filled in.",
)
@click.argument("name")
@click.option(
    "--enum",
    "enums",
    multiple=True,
    metavar="FIELD=SYMBOL,...",
    help="A field of symbols; give it once for each field.",
)
@click.option("--flag", "flags", multiple=True, metavar="FIELD", help="A field that is true or false.")
@click.option(
    "--number", "numbers", multiple=True, metavar="FIELD=FROM:TO", help="A field of whole numbers within these bounds."
)
@click.option("--date", "dates", multiple=True, metavar="FIELD", help="A field of dates beside occurred_on.")
@click.option(
    "--namespace",
    default="own.events",
    show_default=True,
    help="Whose event it is: the beginning of its full name, which never changes again.",
)
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help=f"The folder to put it into.  [default: the first of `schemas` in the configuration, or {_OWN}]",
)
@config_option
def new(
    name: str,
    enums: tuple[str, ...],
    flags: tuple[str, ...],
    numbers: tuple[str, ...],
    dates: tuple[str, ...],
    namespace: str,
    folder: Path | None,
    config: Path,
) -> None:
    """Write the schema of a new event type: a file that `schemas check` takes, for you to reword.

    A symbol UNKNOWN is added to an enum that has neither UNKNOWN nor OTHER: what an event gets that does not say.
    Numbers and dates may be left out, too, and are null then; a flag is false. No file is ever replaced.
    """
    from quietcount_schemas.authoring.draft import Draft, FieldDraft

    configured = _folders(config)
    folder = folder or next(iter(configured), Path(_OWN))
    fields = [FieldDraft.enum(field, given.split(",")) for field, given in map(_pair, enums)]
    fields += map(FieldDraft.flag, flags)
    fields += [FieldDraft.number(field, *_bounds(field, given)) for field, given in map(_pair, numbers)]
    fields += map(FieldDraft.date, dates)
    draft = Draft(name, fields, namespace)
    draft.check(folder, configured)
    click.echo(f"wrote {_near(draft.write(folder), Path())}\n\nNext:")
    steps = ['Open it. Say in each "doc" what is meant, and reword the titles and labels, in any language.']
    steps.append(f"Run: quietcount schemas check {_near(folder, Path())}")
    if folder.resolve() not in [each.resolve() for each in configured]:
        named = json.dumps([_near(each, config.parent) for each in (*configured, folder)], ensure_ascii=False)
        steps.append(
            f"Write at the top of {config}, in place of the line that begins with `schemas`, or if there is none above "
            f"the first line in brackets: schemas = {named}"
        )
    steps.append(f"Name {name} in the `events` of a [[population]], and run: quietcount plan")
    for number, step in enumerate(steps, 1):
        click.echo(f"  {number}. {step}")


def _near(path: Path, place: Path) -> str:
    """Return `path` as somebody writes it at `place`."""
    path, place = path.resolve(), place.resolve()
    return str(path.relative_to(place) if path.is_relative_to(place) else path)


def _pair(given: str) -> tuple[str, str]:
    """Split FIELD=REST."""
    field, equals, rest = given.partition("=")
    if not equals:
        raise click.UsageError(f"write {field}=..., a field and what it may be")
    return field.strip(), rest


def _bounds(field: str, given: str) -> tuple[int, int]:
    """Read FROM:TO."""
    try:
        minimum, maximum = map(int, given.split(":"))
    except ValueError:
        raise click.UsageError(f"write the bounds of {field} as two whole numbers: --number {field}=0:120") from None
    return minimum, maximum


@schemas.command(
    "stubs",
    epilog="Example: quietcount schemas stubs -o events.py",
    short_help="Write a Python module that tells type checkers the events.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The file to write.  [default: print it]",
)
@config_option
def stubs_command(output: Path | None, config: Path) -> None:
    """Write a Python module that tells type checkers which events there are, with their fields and symbols.

    Annotate a publisher with its `Publisher`: mypy and pyright then find a wrong event, field or symbol. Make it again
    after each change of a schema.
    """
    from quietcount_schemas.authoring.stubs import save, stubs

    text = stubs(SchemaRegistry.load(_folders(config)).event_types.values())
    if output is None:
        click.echo(text, nl=False)
    else:
        save(output, text)
        click.echo(f"wrote {output}", err=True)


@schemas.command(
    "check",
    epilog="Example: quietcount schemas check my-schemas --record",
    short_help="Check what schemas may carry, how they evolved, and their history.",
)
@click.argument("folders", nargs=-1, type=click.Path(file_okay=False, path_type=Path), metavar="[FOLDER]...")
@click.option("--record", is_flag=True, help="Add new versions to each folder's fingerprints.txt; alter no line of it.")
@config_option
def check(folders: tuple[Path, ...], record: bool, config: Path) -> None:
    """Check schemas: what they may carry, how they evolved, and that no committed version changed.

    Checks the built-in schemas, the configured folders and each FOLDER, and prints every finding. Exits 1 on any.
    """
    places = [*_folders(config), *folders]
    inspected, clashes = inspect(places)
    if record and not clashes:
        for folder in inspected:
            _record(folder)
        inspected, clashes = inspect(places)
    findings = [finding for folder in inspected for finding in folder.findings] + clashes
    for finding in findings:
        click.echo(str(finding))
    if findings:
        raise SchemasError(
            f"{len(findings)} {'finding' if len(findings) == 1 else 'findings'} in the schemas above",
            "Mend what is named, then check again",
        )
    event_types = [event_type for folder in inspected for event_type in folder.event_types]
    versions = sum(len(event_type.versions) for event_type in event_types)
    click.echo(f"{len(event_types)} event types, {versions} versions: nothing found wrong")


@schemas.command(
    "register",
    epilog="Example: quietcount schemas register",
    short_help="Register every version in the Schema Registry, and pin its ids.",
)
@config_option
def register(config: Path) -> None:
    """Register every version of every event type in the Schema Registry, and pin the ids that it gives.

    The registry is the one of [schema_registry]. A version's subject is the full name of its record, its compatibility
    FULL_TRANSITIVE. The ids are written to ids_file, from which emitters and the service read them: they never ask the
    registry. Done again it changes nothing; when the registry contradicts what is pinned, nothing is written.
    """
    # HTTP and TLS take a while to import, and no other command needs them.
    from quietcount_schemas.schema_registry.client import RegistryClient
    from quietcount_schemas.schema_registry.registration import Registration

    given = read_configuration(config)
    given.refuse_faults(SchemasError)
    settings = RegistrySettings.of(given)
    client = RegistryClient(settings)
    before = registry_ids.read(settings.ids_file)
    registration = Registration(client, settings, before)
    done = list(registration.register(SchemaRegistry.load(given.values["schemas"])))
    if registration.pinned != before:
        registry_ids.save(settings.ids_file, registration.pinned)
    for each in done:
        click.echo(f"{each.subject} version {each.version}: id {each.number}{', new' if each.new else ''}")
    new = sum(each.new for each in done)
    click.echo(f"{len(done)} versions registered, {new} of them new; their ids are pinned in {settings.ids_file}")


def _folders(config: Path) -> tuple[Path, ...]:
    """Return the configured folders. The file is optional here, unless somebody named one."""
    if config == DEFAULT_CONFIG and not config.exists():
        return ()
    return configured_folders(config)


def _record(folder: SchemaFolder) -> None:
    """Record what a folder lacks, unless something else is wrong with it: a line once written never changes."""
    if any(finding.code not in _RECORDABLE for finding in folder.findings):
        return
    for line in record_history(folder.root, folder.recordable):
        click.echo(f"recorded {line.event} version {line.version}")


def _summary(event_type: EventType) -> tuple[str, str, int, str, str]:
    return (
        event_type.name,
        event_type.role.value,
        event_type.current.version,
        " ".join(field.name for field in event_type.attributes),
        " ".join(field.name for field in event_type.dimensions),
    )


def _described(field: Field) -> tuple[str, str, str, str, str]:
    kind = field.kind.value + (" or null" if field.nullable else "")
    values = ", ".join(field.symbols) if field.symbols else field.allowed.removeprefix("must be ")
    default = json.dumps(field.default) if field.has_default else ""
    return field.name, kind, values, default.strip('"'), field.doc


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
