from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from quietcount_producers import EmbeddedLog, Pepper
from quietcount_producers.commands.emit import emit_command
from quietcount_producers.commands.simulate import simulate_command
from quietcount_producers.settings import EmitterSettings
from quietcount_schemas.configuration import KEYS
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.quick


@pytest.fixture
def readme(root: Path) -> str:
    return (root / "producers" / "README.md").read_text("utf-8")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quietcount.toml").write_text("")
    (tmp_path / "secrets").mkdir()
    Pepper.generate(tmp_path / "secrets" / "pepper")
    return tmp_path


def stored(place: Path) -> int:
    path = EmitterSettings.load(place / "quietcount.toml", {}).log_file
    with EmbeddedLog(path, create=False) as log:
        return log.end_offsets(CASE_EVENTS)[0]


def test_the_readmes_python_runs(readme: str, place: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(examples) == 3
    exec(compile("\n".join(examples), "README.md", "exec"), {})  # noqa: S102  # our own words, run as a reader would
    assert stored(place) == 2
    with EmbeddedLog(place / "trial.sqlite", create=False) as log:
        assert log.end_offsets(CASE_EVENTS) == {0: 1}


def test_the_readmes_least_configuration_is_one(readme: str, place: Path) -> None:
    text = re.findall(r"```toml\n(.*?)```", readme, re.DOTALL)[0]
    (place / "quietcount.toml").write_text(text)
    settings = EmitterSettings.load(place / "quietcount.toml", {})
    assert set(settings.precision) <= set(settings.registry().event_types)
    assert dict(settings.precision) == {"HelpRequested": Period.MONTH}
    assert settings.pepper_file == place / "secrets" / "pepper"


def test_the_readme_s_way_to_kafka_has_every_key_and_is_read(readme: str, place: Path) -> None:
    text = re.findall(r"```toml\n(.*?)```", readme, re.DOTALL)[1]
    (place / "quietcount.toml").write_text(text)
    settings = EmitterSettings.load(place / "quietcount.toml", {}).kafka
    assert settings is not None
    assert settings.brokers == ("kafka1.example.org:9093", "kafka2.example.org:9093")
    assert set(tomllib.loads(text)["kafka"]) == set(KEYS["kafka"])
    assert settings.topic(CASE_EVENTS) == "helpline.case-events"


def test_the_readme_installs_from_the_repository_and_by_no_name(readme: str) -> None:
    """Nothing is published under our names: whoever installed by name would run a stranger's code with the pepper."""
    assert re.findall(r"pip install (.*)", readme) == [
        "./schemas ./producers",
        "./schemas './producers[xlsx]'",
        "./schemas './producers[prometheus]'",
    ]
    assert readme.index("-m venv") < readme.index("pip install")


def test_the_readme_says_where_an_emitter_gets_its_files_from(readme: str) -> None:
    section = readme.partition("## The configuration and the pepper")[2].partition("\n## ")[0]
    for word in ("`quietcount init`", "copy two files", "`quietcount.toml`", "`secrets/pepper`", "chmod 600"):
        assert word in section


@pytest.fixture
def emitting(root: Path) -> str:
    return (root / "docs" / "emitting.md").read_text("utf-8")


@pytest.mark.parametrize("number, lines", [(0, 2), (1, 3)], ids=["two requests", "a correction and a withdrawal"])
def test_the_csv_of_the_page_of_files_can_be_emitted(number: int, lines: int, emitting: str, place: Path) -> None:
    tables = re.findall(r"```csv\n(.*?)```", emitting, re.DOTALL)
    assert len(tables) == 2
    (place / "cases.csv").write_text(tables[number])
    assert CliRunner().invoke(emit_command, ["cases.csv"]).exit_code == 0
    assert stored(place) == lines


def test_the_pages_line_of_jsonl_can_be_emitted(emitting: str, place: Path) -> None:
    (line,) = re.findall(r"`(\{\"event\".*?\})`", emitting)
    assert CliRunner().invoke(emit_command, ["-"], input=line).exit_code == 0
    assert stored(place) == 1


def test_the_readme_names_every_option_that_needs_a_word(readme: str) -> None:
    assert re.search(r"quietcount simulate --events", readme)
    for option in ("--dry-run", "--skip-bad"):
        assert option in readme
    for command in (emit_command, simulate_command):
        assert f"quietcount {command.name}" in readme
        assert command.help
        assert f"Example: quietcount {command.name}" in (command.epilog or "")
