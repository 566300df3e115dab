"""The README's code, run in its order as a newcomer would."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import duckdb
import pytest
from tests.unit.test_docs_commands import shell_lines

from quietcount_consumers import Configuration
from quietcount_schemas.cli import main
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.quick

BLOCK = re.compile(r"```(sh|python)\n(.*?)```", re.DOTALL)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_line(line: str) -> int:
    """Run a line that begins with `quietcount`; return its exit code."""
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(line)[1:])
    return int(caught.value.code or 0)


def run_blocks(text: str) -> None:
    for language, block in BLOCK.findall(text):
        if language == "python":
            exec(compile(block, "README.md", "exec"), {})  # noqa: S102  # our own words, run as a reader would
            continue
        for line in block.splitlines():
            if line.startswith("quietcount "):
                assert run_line(line) == 0, line


@pytest.mark.promise("commands")
def test_the_readmes_code_runs_from_top_to_bottom(root: Path, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    assert {language for language, _ in BLOCK.findall(text)} == {"sh", "python"}
    run_blocks(text)
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    assert "holds exactly what the ledger says" in out
    assert sorted(path.name for path in place.iterdir()) == ["cases.jsonl", "data", "quietcount.toml", "secrets"]


def test_a_line_of_the_readme_that_fails_is_found(place: Path) -> None:
    with pytest.raises(AssertionError, match="quietcount query"):
        run_blocks('```sh\nquietcount init\nquietcount query "SELECT 1"\n```\n')


def test_each_published_table_column_and_macro_is_described(root: Path, place: Path) -> None:
    """In the file's own data dictionary, whole; and the README names each table and macro."""
    assert run_line("quietcount init") == 0
    assert run_line("quietcount run --until-idle --as-of 2023-01-01") == 0
    configuration = Configuration.load(Path("quietcount.toml"))
    readme = (root / "README.md").read_text(encoding="utf-8")
    with duckdb.connect(str(configuration.public_file), read_only=True) as connection:

        def rows(sql: str) -> set[tuple[str, ...]]:
            return set(connection.execute(sql).fetchall())

        described = rows("SELECT table_name, column_name FROM data_dictionary WHERE description <> ''")
        columns = rows("SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal")
        tables = rows("SELECT table_name FROM duckdb_tables() WHERE NOT internal")
        views = rows("SELECT view_name FROM duckdb_views() WHERE NOT internal")
        macros = rows("SELECT DISTINCT function_name FROM duckdb_functions() WHERE NOT internal")
    assert len(columns) > 40
    assert columns <= described
    assert {(name, None) for (name,) in tables | views | macros} <= described
    assert {name for (name,) in views} == {section.name for section in configuration.statistic}
    for (name,) in tables:
        assert f"`{name}`" in readme
    for (name,) in macros:
        assert f"`{name}()`" in readme


def test_the_names_that_other_programs_use_do_not_change(root: Path) -> None:
    """Topics and file names that the documentation of operators tells."""
    readme = (root / "README.md").read_text(encoding="utf-8")
    assert CASE_EVENTS in readme
    for name in (
        "statistics.duckdb",
        "private/store/ledger.sqlite",
        "private/store/state.duckdb",
        "private/store/log.sqlite",
    ):
        assert f"`{name}`" in readme


def test_every_link_of_the_documentation_leads_to_a_file(root: Path) -> None:
    for name in ("README.md", *(f"{part}/README.md" for part in ("schemas", "producers", "aggregates", "consumers"))):
        text = (root / name).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (root / name).parent.joinpath(target).exists(), (name, target)


def test_shell_lines_are_found() -> None:
    assert shell_lines("```sh\nquietcount init\n# no\nls\n```\n```\nquietcount x\n```") == ["quietcount init"]
