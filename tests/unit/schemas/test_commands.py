"""The `quietcount` command and its `schemas` group: exit codes, messages, configuration, and a broken installation."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner, Result
from tests.strategies import envelope

from quietcount_schemas import QuietcountError
from quietcount_schemas import cli as command_line
from quietcount_schemas.cli import CommandGroup, config_option
from quietcount_schemas.commands.schemas import schemas
from quietcount_schemas.registry import CASEWORK

pytestmark = pytest.mark.quick

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `quietcount schemas ...` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUIETCOUNT_CONFIG", raising=False)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(schemas, list(arguments))

    return invoke


def write_own(folder: Path, *fields: object) -> Path:
    folder.mkdir()
    record = {"type": "record", "name": "Own", "namespace": "example.own", "doc": "Own."}
    (folder / "Own.avsc").write_text(json.dumps({**record, "fields": [*envelope(), *fields]}))
    return folder


def test_list_is_csv_in_a_pipe(run: Run) -> None:
    result = run("list")
    assert result.exit_code == 0
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["event"] for row in rows][:2] == ["CaptivityRecorded", "CaseWithdrawn"]
    assert rows[1] == {"event": "CaseWithdrawn", "role": "withdrawal", "version": "1", "fields": "", "dimensions": ""}


def test_list_as_a_table_and_as_json(run: Run) -> None:
    table = run("list", "--format", "table").stdout.splitlines()
    assert table[0].split() == ["event", "role", "version", "fields", "dimensions"]
    assert len(table) == 2 + 6
    assert json.loads(run("list", "--format", "json").stdout)[3]["event"] == "HelpRequested"


def test_show_describes_every_field(run: Run) -> None:
    output = run("show", "HelpRequested").stdout
    assert "HelpRequested, version 1 of 1: A person asked for help." in output
    assert "DESERTION, DRAFT_AVOIDANCE, SURRENDER" in output
    assert "a date from 1970-01-01 to 2099-12-31" in output


def test_show_prints_the_schema_as_it_is_committed(run: Run) -> None:
    output = run("show", "HelpRequested", "--version", "1", "--format", "avsc").stdout
    assert output == (CASEWORK / "HelpRequested" / "1.avsc").read_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("show", "HelpRequest"), "Name one of: CaptivityRecorded"),
        (("show", "HelpRequested", "--version", "2"), "Its last one is 1"),
    ],
)
def test_what_is_not_there_is_refused(run: Run, arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, QuietcountError)
    assert message in str(result.exception)


def test_check_of_the_built_in_schemas_finds_nothing(run: Run) -> None:
    result = run("check")
    assert (result.exit_code, result.stdout) == (0, "6 event types, 6 versions: nothing found wrong\n")


def test_check_prints_every_finding_and_ends_with_one(run: Run, tmp_path: Path) -> None:
    names = [{"name": f"name_{number}", "type": "string", "default": "", "doc": "x"} for number in range(30)]
    write_own(tmp_path / "own", *names)
    result = run("check", "own")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 30
    assert "own/Own.avsc: name_29: a free string can carry a name" in result.stdout
    assert "30 findings" in str(result.exception)


def test_check_records_new_versions_once(run: Run, tmp_path: Path) -> None:
    own = write_own(tmp_path / "own")
    assert "recorded Own version 1\n" in run("check", "own", "--record").stdout
    lines = (own / "fingerprints.txt").read_text()
    assert "recorded" not in run("check", "own", "--record").stdout
    assert (own / "fingerprints.txt").read_text() == lines


def test_check_records_nothing_of_a_folder_with_other_findings(run: Run, tmp_path: Path) -> None:
    own = write_own(tmp_path / "own", {"name": "who", "type": "string", "default": "", "doc": "x"})
    assert run("check", "own", "--record").exit_code == 1
    assert not (own / "fingerprints.txt").exists()


def test_configured_folders_are_listed_and_checked(run: Run, tmp_path: Path) -> None:
    write_own(tmp_path / "own")
    (tmp_path / "quietcount.toml").write_text('schemas = ["own"]\nlog = "embedded"\n')
    assert "Own,event,1,," in run("list").stdout
    assert "7 event types" in run("check").stdout


def test_a_configuration_file_that_somebody_named_must_be_there(run: Run) -> None:
    result = run("list", "--config", "other.toml")
    assert "There is no configuration file other.toml" in str(result.exception)


def test_the_configuration_file_may_come_from_the_environment(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_own(tmp_path / "own")
    (tmp_path / "else.toml").write_text('schemas = ["own"]')
    monkeypatch.setenv("QUIETCOUNT_CONFIG", "else.toml")
    assert "Own,event" in run("list").stdout


@pytest.mark.parametrize("name", ["list", "show", "check"])
def test_every_command_has_help_with_an_example(run: Run, name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"Example: quietcount schemas {name}" in result.stdout


# ---------------------------------------------------------------- the group


@click.command()
@config_option
def where(config: Path) -> None:
    """Say which configuration file is meant."""
    click.echo(str(config))


@click.command()
@click.argument("kind")
def fail(kind: str) -> None:
    """Fail in one of the ways that commands fail."""
    match kind:
        case "refused":
            raise QuietcountError("the budget is spent; declare a smaller epsilon")
        case "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "data/state-0.duckdb")
        case "interrupt":
            raise KeyboardInterrupt
        case "pipe":
            raise BrokenPipeError
        case _:
            raise click.UsageError("no such kind")


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> click.Group:
    """The `quietcount` group with two commands of this file, one that cannot be imported and one that is none."""
    return group_of(
        monkeypatch,
        COMMANDS=[
            ("broken", "quietcount_missing.commands:broken", "Be broken."),
            ("schemas", "quietcount_schemas.commands.schemas:schemas", "Know the schemas."),
            ("odd", "quietcount_schemas:MAX_EVENT_BYTES", "Be odd."),
        ],
    )


def group_of(monkeypatch: pytest.MonkeyPatch, *tables: str, **attributes: object) -> click.Group:
    """The group with a distribution whose table has these attributes, and with the further tables."""
    table = ModuleType("quietcount_trial")
    vars(table).update(attributes)
    monkeypatch.setitem(sys.modules, "quietcount_trial", table)
    made = CommandGroup(
        "quietcount",
        params=command_line.cli.params,
        tables=["quietcount_trial", *tables],
        context_settings=command_line.cli.context_settings,
    )
    made.add_command(where)
    made.add_command(fail)
    return made


def test_config_may_stand_before_and_after_the_command(group: click.Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIETCOUNT_CONFIG", "from-environment.toml")
    invoke = CliRunner().invoke
    assert invoke(group, ["where"]).stdout == "from-environment.toml\n"
    assert invoke(group, ["--config", "before.toml", "where"]).stdout == "before.toml\n"
    assert invoke(group, ["where", "--config", "after.toml"]).stdout == "after.toml\n"
    assert invoke(group, ["--config", "before.toml", "where", "--config", "after.toml"]).stdout == "after.toml\n"
    monkeypatch.delenv("QUIETCOUNT_CONFIG")
    assert invoke(group, ["where"]).stdout == "quietcount.toml\n"


def test_a_command_that_cannot_be_imported_is_named_with_the_reason_and_breaks_no_other(group: click.Group) -> None:
    for name, message in (
        ("broken", "the command broken of quietcount-trial cannot be loaded (ModuleNotFoundError: No module named"),
        ("odd", "odd of quietcount-trial is not a command"),
    ):
        error = CliRunner().invoke(group, [name]).exception
        assert isinstance(error, QuietcountError)
        assert message in error.what
        assert error.remedy == "Install quietcount-trial again"
    assert CliRunner().invoke(group, ["schemas", "--help"]).exit_code == 0


def test_help_lists_the_tables_and_imports_no_command(group: click.Group) -> None:
    shown = CliRunner().invoke(group, ["--help"]).stdout
    for name, summary in (("broken", "Be broken."), ("odd", "Be odd."), ("where", "Say which")):
        assert re.search(rf"  {name} +{summary}", shown)
    assert "cannot be loaded" not in shown


def test_a_distribution_that_is_not_installed_has_no_commands_and_is_not_mentioned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    group = group_of(monkeypatch, "quietcount_absent.commands.table", "quietcount_schemas.absent", COMMANDS=[])
    shown = CliRunner().invoke(group, ["--help"])
    assert (shown.exit_code, "absent" in shown.stdout) == (0, False)
    assert CliRunner().invoke(group, ["nowhere"]).exit_code == 2


def test_a_distribution_that_cannot_be_loaded_is_named_once_and_breaks_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "quietcount_torn.py").write_text("import quietcount_gone\n")
    monkeypatch.syspath_prepend(tmp_path)
    group = group_of(monkeypatch, "quietcount_torn", COMMANDS=[])
    shown = CliRunner().invoke(group, ["--help"]).stdout
    assert shown.count("quietcount-torn") == 1
    assert "Parts that cannot be loaded:" in shown
    assert CliRunner().invoke(group, ["where"]).exit_code == 0
    error = CliRunner().invoke(group, ["nowhere"]).exception
    assert isinstance(error, QuietcountError)
    assert "quietcount-torn cannot be loaded, which may have the command 'nowhere'" in error.what
    assert error.remedy == "Install quietcount-torn again"


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["fail", "refused"], 1, "Error: the budget is spent; declare a smaller epsilon\n"),
        (["fail", "full"], 1, "Error: No space left on device: data/state-0.duckdb\n"),
        (["broken"], 1, "No module named 'quietcount_missing'"),
        (["fail", "usage"], 2, "no such kind"),
        (["nowhere"], 2, "No such command 'nowhere'"),
        (["fail", "interrupt"], 130, "Stopped.\n"),
        (["fail", "pipe"], 141, ""),
        (["where"], 0, ""),
        (["--version"], 0, ""),
    ],
)
def test_each_way_to_end_has_its_exit_code_and_no_traceback(
    group: click.Group, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert command_line._run(group, arguments) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    program = "from quietcount_schemas import cli; cli.main()"
    reading, writing = os.pipe()
    os.close(reading)
    paths = os.pathsep.join(path for path in sys.path if path)
    ended = subprocess.run(
        [sys.executable, "-c", program, "schemas", "show", "HelpRequested"],
        stdout=writing,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
        text=True,
        timeout=60,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")
