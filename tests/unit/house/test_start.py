"""A command loads what it needs and no more: the modules of `quietcount --help` and of a query are closed lists.

How long a start takes is measured by `make bench`; here nothing depends on a clock.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import duckdb
import pytest

from quietcount_schemas.cli import TABLES
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.lazy_names import names_of

pytestmark = pytest.mark.quick

PROGRAM = """
import json, sys
{before}
base = set(sys.modules)
{first}
sys.argv = ["quietcount", *json.loads({arguments!r})]
from quietcount_schemas.cli import main
try:
    main()
except SystemExit as ended:
    assert ended.code == 0, ended
sys.stderr.write(json.dumps(sorted(set(sys.modules) - base)))
"""

TABLE_MODULES = (
    {table.rpartition(".")[0] for table in TABLES} | {table.partition(".")[0] for table in TABLES} | {*TABLES}
)
START = {*TABLE_MODULES, "quietcount_schemas.cli", "quietcount_schemas.errors", "quietcount_schemas.lazy_names"}

QUERY = START | {
    "quietcount_aggregates",
    "quietcount_aggregates.axes",
    "quietcount_aggregates.catalogue",
    "quietcount_aggregates.errors",
    "quietcount_aggregates.populations",
    "quietcount_aggregates.tables",
    "quietcount_aggregates.publication",
    "quietcount_aggregates.publication.published_file",
    "quietcount_consumers.terminal",
    "quietcount_consumers.terminal.moments",
    "quietcount_consumers.terminal.options",
    "quietcount_consumers.terminal.presentation",
    "quietcount_consumers.commands.readers",
    "quietcount_consumers.commands.readers.query",
    "quietcount_consumers.configuration",
    "quietcount_consumers.errors",
    "quietcount_consumers.monitoring_settings",
    "quietcount_consumers.queries",
    "quietcount_consumers.running",
    "quietcount_consumers.running.timekeeping",
    "quietcount_producers.errors",
    "quietcount_producers.kafka",
    "quietcount_producers.kafka.settings",
    "quietcount_schemas.configuration",
    "quietcount_schemas.configuration.keys",
    "quietcount_schemas.configuration.partners",
    "quietcount_schemas.configuration.places",
    "quietcount_schemas.configuration.readers",
    "quietcount_schemas.configuration.reading",
    "quietcount_schemas.configuration.rows",
    "quietcount_schemas.configuration.rules",
    "quietcount_schemas.defects",
    "quietcount_schemas.events",
    "quietcount_schemas.events.event_types",
    "quietcount_schemas.events.numbers",
    "quietcount_schemas.events.oddity",
    "quietcount_schemas.events.periods",
    "quietcount_schemas.schema_registry",
    "quietcount_schemas.schema_registry.settings",
    "quietcount_schemas.private_files",
}
"""What a query loads of ours: the configuration and what checks it, and not the core, the service or the codec."""

PATHLIB = {"fnmatch", "ipaddress", "ntpath", "pathlib", "urllib", "urllib.parse"}
TOMLLIB = {"tomllib", "tomllib._parser", "tomllib._re", "tomllib._types"}
"""What may come from Python's own library on top of what click (and the database) load by themselves."""

CLICK = "import click; click.Group().get_help(click.Context(click.Group()))"


def loaded(before: str, *arguments: str, first: str = "", folder: Path) -> set[str]:
    """The modules that a command loads in a process of its own which has imported what `before` says."""
    program = PROGRAM.format(before=before, first=first, arguments=json.dumps(arguments))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("QUIETCOUNT_")}
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr))


def surplus(found: set[str], allowed: set[str]) -> set[str]:
    """What was loaded and is in no list."""
    return {each for each in found - allowed if not each.startswith("encodings.")}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose statistics are published: all that a query looks at."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "quietcount.toml").write_text("lifetime_epsilon = 1\n", encoding="utf-8")
    (folder / "data").mkdir()
    with duckdb.connect(str(folder / "data" / "statistics.duckdb")) as connection:
        connection.execute("CREATE TABLE about (key VARCHAR)")
    return folder


def help_of(folder: Path, first: str = "") -> set[str]:
    return surplus(loaded(CLICK, "--help", first=first, folder=folder), START | PATHLIB)


def query_of(folder: Path, first: str = "") -> set[str]:
    found = loaded(f"{CLICK}; import duckdb", "query", "FROM about", first=first, folder=folder)
    return surplus(found, QUERY | PATHLIB | TOMLLIB)


def test_help_imports_no_command(published: Path) -> None:
    assert help_of(published) == set()


def test_a_query_imports_the_configuration_and_the_database(published: Path) -> None:
    assert query_of(published) == set()


MUTANTS: Sequence[tuple[str, str]] = [
    ("import quietcount_consumers.configuration", "quietcount_schemas.configuration"),  # the package imports the world
    ("import importlib.metadata; importlib.metadata.entry_points()", "importlib.metadata"),  # no static tables
    ("import rich.console", "rich.console"),
]


@pytest.mark.parametrize("first, seen", MUTANTS)
def test_a_module_that_help_does_not_need_is_seen(published: Path, first: str, seen: str) -> None:
    assert seen in help_of(published, first)


@pytest.mark.parametrize(
    "first, seen",
    [
        ("from quietcount_aggregates import State", "quietcount_aggregates.state.state"),
        ("from quietcount_schemas import Codec", "fastavro"),
        ("import rich.table", "rich.table"),
    ],
)
def test_a_module_that_a_query_does_not_need_is_seen(published: Path, first: str, seen: str) -> None:
    assert seen in query_of(published, first)


@pytest.mark.parametrize("part", ["schemas", "producers", "aggregates", "consumers"])
def test_each_name_that_a_package_offers_is_there_when_somebody_asks(part: str) -> None:
    package = import_module(f"quietcount_{part}")
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = package.nonsense


def test_a_name_that_is_offered_and_has_no_home_is_seen() -> None:
    find = names_of("quietcount_schemas", {"errors": "QuietcountError Nowhere"})
    assert find("QuietcountError") is QuietcountError
    for name in ("Nowhere", "Codec"):
        with pytest.raises(AttributeError):
            find(name)
