"""The export: what it holds, that it says the same each time, and what people wrote in it is text and nothing else."""

from __future__ import annotations

import csv
import datetime as dt
import json
import re
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner
from tests.exported_world import FORMULA, LABELS, empty_file, hostile_file
from tests.holders import holding

from quietcount_consumers.commands.readers.export import export_command
from quietcount_consumers.exporting import spreadsheet_cells
from quietcount_consumers.exporting.export import export
from quietcount_consumers.exporting.licences import licence_of
from quietcount_consumers.queries import QueryError

pytestmark = [pytest.mark.quick, pytest.mark.xdist_group("exports")]


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_file(tmp_path_factory.mktemp("published") / "it's statistics.duckdb")


@pytest.fixture(scope="module")
def folder(public: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("exported") / 'it\'s "figures"'
    export(public, place)
    return place


def tables(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "csv").iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(folder: Path, table: str) -> list[dict[str, str]]:
    with (folder / "csv" / f"{table}.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def package(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "datapackage.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.promise("handed-on")
def test_every_format_has_every_figure_of_the_published_file(public: Path, folder: Path) -> None:
    place = str(folder / "parquet").replace("'", "''")
    with (
        duckdb.connect(str(public), read_only=True) as published,
        duckdb.connect() as exported,
        closing(sqlite3.connect(folder / "statistics.sqlite")) as copy,
    ):
        for table in tables(folder):
            if table == "data_dictionary":
                continue
            rows = published.execute(f"FROM {table}").fetchall()
            assert exported.execute(f"FROM '{place}/{table}.parquet'").fetchall() == rows
            plain = [[spreadsheet_cells.cell(value) for value in row] for row in rows]
            assert [list(row.values()) for row in read(folder, table)] == plain
            copied = copy.execute(f"SELECT * FROM {table}").fetchall()
            assert copied == [tuple(in_sqlite(value) for value in row) for row in rows]
        assert copy.execute("PRAGMA foreign_key_check").fetchall() == []


def in_sqlite(value: object) -> object:
    if isinstance(value, dt.date):
        return str(value)
    return float(value) if isinstance(value, Decimal) else value


def test_the_files_are_those_of_the_tables_and_nothing_of_the_ledger_and_the_noise(public: Path, folder: Path) -> None:
    with duckdb.connect(str(public), read_only=True) as connection:
        there = connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE NOT internal UNION ALL "
            "SELECT view_name FROM duckdb_views() WHERE NOT internal"
        ).fetchall()
    wanted = {name for (name,) in there if name != "ledger" and not name.startswith("noise_")}
    assert {"statistics", "margins", "averages", "about", "withheld", "asked", "quarterly"} <= wanted
    assert set(contents(folder)) == {
        *("README.md", "datapackage.json", "metadata.json", "statistics.sqlite"),
        *(f"csv/{table}.csv" for table in wanted),
        *(f"parquet/{table}.parquet" for table in wanted),
    }
    assert {row["table_name"] for row in read(folder, "data_dictionary")} == wanted


@pytest.mark.promise("handed-on")
def test_the_same_file_gives_the_same_bytes(public: Path, folder: Path, tmp_path: Path) -> None:
    export(public, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)


# What people wrote


@pytest.mark.promise("handed-on")
def test_no_cell_is_a_formula_and_none_has_two_lines(folder: Path) -> None:
    cells = [value for table in tables(folder) for row in read(folder, table) for value in row.values()]
    numbers = re.compile(r"-?\d+(\.\d+)?")
    assert [each for each in cells if re.match(r"\s*[=+\-@]", each) and not numbers.fullmatch(each)] == []
    assert [each for each in cells if "\n" in each or "\r" in each] == []
    assert {row["label"] for row in read(folder, "labels")} == {
        LABELS[""], f"'{FORMULA}", "'1-2", "'+7 «ред»",
    }  # fmt: skip


def test_a_formula_that_is_not_guarded_is_found(public: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: cells as they are."""
    monkeypatch.setattr(spreadsheet_cells, "inert", str)
    export(public, tmp_path / "bare")
    with pytest.raises(AssertionError):
        test_no_cell_is_a_formula_and_none_has_two_lines(tmp_path / "bare")


def test_what_people_wrote_means_nothing_in_the_readers_page(folder: Path) -> None:
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert r"\[x\](javascript" in page
    assert "«ред»" not in page
    tables = [line for line in page.splitlines() if line.startswith("| `")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {3, 6}


def test_other_formats_have_the_text_as_it_is(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "statistics.sqlite")) as copy:
        assert copy.execute("SELECT label FROM labels WHERE symbol = 'RED'").fetchall() == [(FORMULA,)]


# What the reader's page and the package say


def test_the_page_says_what_is_withheld_and_what_one_case_adds(folder: Path) -> None:
    page = (folder / "README.md").read_text(encoding="utf-8")
    for part in (
        "`quarterly` is withheld from 2024-01-01 to 2024-03-31",
        "is provisional from",
        "epsilon",
        "Licence: CC-BY-4.0",
        "Please cite it as: =1+1",
        "For example: ",
    ):
        assert part in page, part
    assert [row["statistic"] for row in read(folder, "withheld")] == ["quarterly"]
    assert read(folder, "quarterly") == []
    assert "figures fall over the years even if as many people come" in page.replace("\n", " ")
    assert "begins again each January" not in page


def test_the_package_says_who_publishes_which_edition_under_what_licence(folder: Path) -> None:
    found = package(folder)
    about = {row["key"]: row["value"] for row in read(folder, "about")}
    assert found["version"] == about["edition"]
    assert found["created"] == f"{about['edition_date']}T00:00:00Z"
    assert found["licenses"][0]["name"] == "CC-BY-4.0"
    assert found["licenses"][0]["path"].startswith("https://")
    assert found["contributors"][0]["path"] == "https://helpline.example/?a=1&b=2"
    (asked,) = [each for each in found["resources"] if each["name"] == "asked"]
    assert asked["schema"]["primaryKey"] == ["period_start", "colour", "urgent"]
    fields = {field["name"]: field for field in asked["schema"]["fields"]}
    assert fields["colour"]["title"] == LABELS[""]
    assert fields["colour"]["constraints"]["enum"] == [
        *dict.fromkeys(row["colour"] for row in read(folder, "asked")),
    ]
    assert all(field["description"] for field in fields.values())
    assert fields["period_start"]["type"] == "date"
    assert fields["estimate"]["type"] == "number"


@pytest.mark.parametrize(
    "text, name, address",
    [
        ("CC-BY-4.0", "CC-BY-4.0", True),
        ("cc by 4.0", "CC-BY-4.0", True),
        ("https://example.org/terms?x", "https-example.org-terms-x", True),
        ("Ask us first", "Ask-us-first", False),
        ("—", "other", False),
    ],
)
def test_a_licence_has_a_name_that_a_package_may_hold(text: str, name: str, address: bool) -> None:
    found = licence_of(text)
    assert found is not None
    assert (found.name, bool(found.address)) == (name, address)
    assert licence_of("") is None


def test_the_row_of_hashtags_comes_second_and_the_package_says_so(public: Path, tmp_path: Path) -> None:
    export(public, tmp_path / "tagged", hxl=True)
    first = read(tmp_path / "tagged", "asked")[0]
    assert first["period_start"] == "#date+start"
    assert first["colour"] == "#indicator+type+colour"
    assert (first["shown"], first["lower"], first["upper"]) == (
        *("#affected+num", "#affected+num+min", "#affected+num+max"),
    )
    for table in tables(tmp_path / "tagged"):
        tags = read(tmp_path / "tagged", table)[0].values()
        assert all(re.fullmatch(r"#[a-z][a-z0-9_]*(\+[a-z][a-z0-9_]*)*", tag) for tag in tags)
    assert all(each["dialect"]["commentRows"] == [2] for each in package(tmp_path / "tagged")["resources"])


def test_before_the_first_release_there_are_headers_and_the_page_says_so(tmp_path: Path) -> None:
    export(empty_file(tmp_path / "statistics.duckdb"), tmp_path / "figures")
    assert read(tmp_path / "figures", "statistics") == []
    page = (tmp_path / "figures" / "README.md").read_text(encoding="utf-8")
    assert "Nothing is released yet" in page
    assert "Licence: not stated" in page
    assert "licenses" not in package(tmp_path / "figures")


# The command


def test_the_command_exports_a_file_alone_and_names_the_edition(public: Path, tmp_path: Path) -> None:
    place = tmp_path / "made" / "figures"
    result = CliRunner().invoke(export_command, [str(place), "--database", str(public)])
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert re.fullmatch(r"Exported edition \d+ to \S+figures\. Its README\.md says what is in it\.\n", result.stderr)


def test_the_publisher_is_told_that_no_licence_is_stated(tmp_path: Path) -> None:
    """And nobody else is: who has the file alone cannot state one."""
    (tmp_path / "quietcount.toml").write_text("lifetime_epsilon = 1\n", encoding="utf-8")
    (tmp_path / "data").mkdir()
    path = empty_file(tmp_path / "data" / "statistics.duckdb")
    asked = [str(tmp_path / "figures"), "--config", str(tmp_path / "quietcount.toml")]
    told = CliRunner().invoke(export_command, asked)
    assert told.exit_code == 0, told.output
    assert "Note: no licence is stated" in told.stderr
    alone = CliRunner().invoke(export_command, [str(tmp_path / "figures"), "--database", str(path)])
    assert "licence" not in alone.stderr


@pytest.mark.parametrize("content", [None, b"", b"no database" * 1000])
def test_a_file_that_is_missing_or_not_ours_is_refused_before_anything_is_written(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "statistics.duckdb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(QueryError, match="is not there" if content is None else "Name another file"):
        export(path, tmp_path / "figures", alone=True)
    assert not (tmp_path / "figures").exists()


def test_a_file_that_another_program_holds_is_exported_all_the_same(tmp_path: Path) -> None:
    path = hostile_file(tmp_path / "statistics.duckdb", months=1)
    with holding(path):
        export(path, tmp_path / "figures")
    assert read(tmp_path / "figures", "asked")


def test_only_the_folder_of_the_export_can_be_written(public: Path, tmp_path: Path) -> None:
    from quietcount_consumers.queries import connected

    with connected(public, folder=tmp_path) as connection:
        connection.execute(f"COPY (SELECT 1) TO '{tmp_path}/inside.csv'")
        for sql in (
            f"COPY (SELECT 1) TO '{tmp_path.parent}/outside.csv'",
            f"FROM read_text('{public}')",
            "SET enable_external_access = true",
            "DELETE FROM about",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(sql.replace("it's", "it''s"))


def test_a_file_with_a_damaged_block_is_called_damaged_and_not_the_disk_full(public: Path, tmp_path: Path) -> None:
    content = public.read_bytes()
    refused = 0
    for part in (0.17, 0.19, 0.8, 0.87, 0.95):
        place = int(part * len(content))
        path = tmp_path / "statistics.duckdb"
        path.write_bytes(content[:place] + bytes(600) + content[place + 600 :])
        try:
            export(path, tmp_path / "figures")
        except QueryError as error:
            assert "is damaged" in error.what  # noqa: PT017  # most blocks hold the macros, which no export reads
            refused += 1
    assert refused
