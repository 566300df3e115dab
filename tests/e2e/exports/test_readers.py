"""An export, opened by what it is for: Frictionless, HXL's own library, Datasette, pandas, polars, and SQLite."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.exported_world import empty_file, hostile_file, numbers_file
from tests.readers.programs import answered

from quietcount_consumers.exporting import data_package
from quietcount_consumers.exporting.export import export

pytestmark = [pytest.mark.check, pytest.mark.xdist_group("readers"), pytest.mark.promise("handed-on")]

FILES: dict[str, Callable[[Path], Path]] = {
    "hostile": lambda folder: hostile_file(folder / "statistics.duckdb"),
    "numbers": numbers_file,
    "empty": lambda folder: empty_file(folder / "statistics.duckdb"),
}


@pytest.fixture(scope="module", params=FILES)
def public(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FILES[request.param](tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def folder(public: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("exported") / "figures"
    export(public, place)
    return place


@pytest.fixture(scope="module")
def tagged(public: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("exported") / "figures"
    export(public, place, hxl=True)
    return place


def figures(public: Path, table: str) -> list[list[Any]]:
    with duckdb.connect(str(public), read_only=True) as connection:
        return [[plain(value) for value in row] for row in connection.execute(f"FROM {table}").fetchall()]


def plain(value: object) -> object:
    if isinstance(value, dt.date):
        return str(value)
    return float(value) if isinstance(value, Decimal) else int(value) if isinstance(value, bool) else value


def tables(folder: Path) -> list[str]:
    return [path.stem for path in sorted((folder / "csv").glob("*.csv"))]


# Frictionless

VALIDATE = """
import json, sys
from frictionless import Package, validate
report = validate(sys.argv[1])
rows = {each.name: len(each.read_rows()) for each in Package(sys.argv[1]).resources}
print(json.dumps([report.valid, report.flatten(["taskId", "rowNumber", "fieldName", "type", "message"])[:5], rows]))
"""


@pytest.mark.parametrize("form", ["folder", "tagged"])
def test_frictionless_finds_a_valid_package_with_and_without_hashtags(
    public: Path, form: str, request: pytest.FixtureRequest
) -> None:
    place: Path = request.getfixturevalue(form)
    valid, errors, rows = answered(VALIDATE, str(place / "datapackage.json"))
    assert valid, errors
    assert set(rows) == set(tables(place))
    assert {name: len(figures(public, name)) for name in rows if name != "data_dictionary"} == {
        name: number for name, number in rows.items() if name != "data_dictionary"
    }


@pytest.mark.parametrize("mutant", ["key", "dialect", "hash"])
def test_frictionless_finds_a_package_that_is_wrong(tmp_path: Path, mutant: str) -> None:
    """The mutants: a key that names no row alone, a row of hashtags that nobody is told of, and other bytes."""
    place = tmp_path / "figures"
    export(hostile_file(tmp_path / "statistics.duckdb"), place, hxl=True)
    package = json.loads((place / "datapackage.json").read_text(encoding="utf-8"))
    (resource,) = [each for each in package["resources"] if each["name"] == "statistics"]
    match mutant:
        case "key":
            resource["schema"]["primaryKey"] = ["statistic", "period_start"]
        case "dialect":
            del resource["dialect"]["commentRows"]
        case _:
            resource["hash"] = f"sha256:{'0' * 64}"
    (place / "datapackage.json").write_text(json.dumps(package), encoding="utf-8")
    valid, errors, _ = answered(VALIDATE, str(place / "datapackage.json"))
    assert not valid
    assert errors


# HXL

TAGGED = """
import json, sys, hxl
with hxl.data(sys.argv[1], hxl.input.InputOptions(allow_local=True)) as source:
    print(json.dumps([source.display_tags, source.headers, [row.values for row in source]]))
"""


def test_the_library_of_hxl_finds_the_hashtags_and_the_rows_below_them(public: Path, tagged: Path) -> None:
    for table in ("statistics", "margins"):
        tags, headers, rows = answered(TAGGED, str(tagged / "csv" / f"{table}.csv"))
        with duckdb.connect(str(public), read_only=True) as connection:
            names = connection.execute(f"FROM {table}").description
        # It keeps the mark of UTF-8 in the first header, which it shows to nobody.
        assert [header.lstrip("\ufeff") for header in headers] == [name[0] for name in names or []]
        assert tags[headers.index("period_start")] == "#date+start"
        assert tags[headers.index("shown")] == "#affected+num"
        shown = headers.index("shown")
        assert [int(row[shown]) for row in rows] == [row[shown] for row in figures(public, table)]


# pandas and polars

FRAMES = """
import json, sys
library, folder, names = sys.argv[1:]
found = {}
for name in names.split(","):
    if library == "pandas":
        import pandas
        frames = [pandas.read_csv(f"{folder}/csv/{name}.csv"), pandas.read_parquet(f"{folder}/parquet/{name}.parquet")]
        columns = [list(frame.columns) for frame in frames]
        sums = [[float(frame[c].sum()) for c in ("shown", "lower", "upper", "estimate", "noisy", "average", "sum")
                 if c in frame] for frame in frames]
        rows = [len(frame) for frame in frames]
    else:
        import polars
        frames = [polars.read_csv(f"{folder}/csv/{name}.csv"), polars.read_parquet(f"{folder}/parquet/{name}.parquet")]
        columns = [frame.columns for frame in frames]
        sums = [[float(frame[c].cast(polars.Float64).sum()) for c in
                 ("shown", "lower", "upper", "estimate", "noisy", "average", "sum") if c in frame.columns]
                for frame in frames]
        rows = [frame.height for frame in frames]
    found[name] = [columns, rows, sums]
print(json.dumps(found))
"""


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_pandas_and_polars_find_the_same_figures_in_csv_and_in_parquet_as_duckdb(
    public: Path, folder: Path, library: str
) -> None:
    names = [name for name in tables(folder) if name != "data_dictionary"]
    found = answered(FRAMES, library, str(folder), ",".join(names))
    for name in names:
        with duckdb.connect(str(public), read_only=True) as connection:
            rows = connection.execute(f"FROM {name}")
            columns = [column[0] for column in rows.description or []]
            content = rows.fetchall()
        wanted = [
            sum(float(row[columns.index(c)] or 0) for row in content)
            for c in ("shown", "lower", "upper", "estimate", "noisy", "average", "sum")
            if c in columns
        ]
        names_found, lengths, sums = found[name]
        assert names_found == [columns, columns], name
        assert lengths == [len(content)] * 2, name
        for each in sums:
            assert each == pytest.approx(wanted, abs=1e-6), name


# Datasette

SERVED = """
import asyncio, json, sys
from datasette.app import Datasette
folder, names = sys.argv[1:]
site = Datasette([], immutables=[f"{folder}/statistics.sqlite"],
                 metadata=json.load(open(f"{folder}/metadata.json", encoding="utf-8")))

async def main():
    await site.invoke_startup()
    found = {"home": (await site.client.get("/")).text}
    for name in names.split(","):
        page = await site.client.get(f"/statistics/{name}")
        rows = await site.client.get(f"/statistics/{name}.json?_shape=arrays&_size=max")
        facets = await site.client.get(f"/statistics/{name}.json?_size=0")
        found[name] = [page.status_code, page.text, rows.json()["rows"], sorted(facets.json()["facet_results"])]
    return found

print(json.dumps(asyncio.run(main())))
"""


def test_datasette_serves_every_table_with_what_the_file_says_of_it(public: Path, folder: Path) -> None:
    names = [name for name in tables(folder) if name != "data_dictionary"]
    found = answered(SERVED, str(folder), ",".join(names))
    package = json.loads((folder / "datapackage.json").read_text(encoding="utf-8"))
    described = {each["name"]: each for each in package["resources"]}
    assert "stays under epsilon" in found["home"]
    for name in names:
        status, page, rows, _ = found[name]
        assert status == 200
        wanted = figures(public, name)
        rows = [row[-len(wanted[0]) :] for row in rows] if wanted else rows  # without a key it has a number first
        assert sorted(map(str, rows)) == sorted(map(str, wanted))  # it sorts by the key
        assert "<script>alert" not in page
        assert [field["name"] for field in described[name]["schema"]["fields"] if f"<dt>{field['name']}</dt>" in page]
    assert "statistic" in found["statistics"][3] or not figures(public, "statistics")


def test_the_package_names_the_file_that_it_was_made_of(folder: Path) -> None:
    package = json.loads((folder / data_package.DATA_PACKAGE).read_text(encoding="utf-8"))
    assert package["id"]
    assert package["sources"][0]["title"]
