"""The public file opens with other versions of DuckDB than the one that wrote it."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.buckets_world import BOUNDS, SYMBOLS
from tests.published_world import published_in
from tests.questions_world import Table, alone, months, written
from tests.readers.programs import older_duckdb

pytestmark = pytest.mark.check


def newest_before(folder: Path) -> Path:
    """Install the newest DuckDB 1, which may be another one tomorrow."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-deps"]
    subprocess.run([*pip, "--no-compile", "--target", str(folder), "duckdb<2"], check=True, timeout=300)
    return folder


@pytest.mark.promise("public-file")
@pytest.mark.parametrize("version", ["", "1.4.0"])  # the newest, and the one that finds no WITH in our macros
def test_it_opens_with_the_newest_duckdb_of_the_line_before(
    tmp_path: Path, require: Callable[[bool, str], None], version: str
) -> None:
    try:
        folder = older_duckdb(version) if version else newest_before(tmp_path / "newest")
    except subprocess.CalledProcessError:
        require(False, "a package index, to install an older DuckDB from")
        raise
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment["PYTHONPATH"] = str(folder)
    code = (
        "import sys, duckdb\n"
        "c = duckdb.connect(sys.argv[1], read_only=True)\n"
        "print(duckdb.__version__)\n"
        "for query in ('SELECT count(*) FROM statistics', 'SELECT count(*) FROM detailed', "
        "\"SELECT shown > 0 FROM total('plain', '2024-01-01', '2024-03-31')\", "
        "\"SELECT note LIKE '%Fieller%' OR note LIKE '%withheld%' FROM "
        "compare('plain', '2024-01-01', '2024-03-31', '2024-04-01', '2024-06-30')\", "
        "\"SELECT count(*) FROM series('detailed')\", 'SELECT count(*) > 60 FROM data_dictionary'):\n"
        "    print(c.execute(query).fetchone()[0])\n"
    )
    with published_in(tmp_path / "published") as world:
        public = world.public
    found = subprocess.run(
        [sys.executable, "-c", code, str(public)], capture_output=True, text=True, env=environment, timeout=300
    )
    assert found.returncode == 0, found.stderr
    used, *answers = found.stdout.split()
    print(f"opened with DuckDB {used}")
    assert used.startswith(version or "1.")
    assert answers == ["42", "36", "True", "True", "6", "True"]


ASKED = """
import json, sys
import duckdb
path, lines = json.load(sys.stdin)
answers = []
for under in (None, "another name"):
    with duckdb.connect(":memory:" if under else path, read_only=not under) as connection:
        connection.execute("SET enable_progress_bar = false")  # a slow machine would write it to stdout
        if under:
            connection.execute(f"ATTACH '{path}' AS \\"{under}\\" (READ_ONLY)")
        for line in lines:
            asked = f'"{under}".{line[:-1]}, db := \\'{under}\\')' if under else line
            answers.append(repr(connection.execute(f"FROM {asked}").fetchall()))
print(json.dumps([duckdb.__version__, answers]))
"""


@pytest.mark.promise("public-file")
@pytest.mark.parametrize(
    "version", [*(pytest.param(each, marks=pytest.mark.soak) for each in ("1.2.0", "1.3.2")), "1.4.0"]
)
def test_an_older_duckdb_answers_of_buckets_what_this_one_does(tmp_path: Path, version: str) -> None:
    """The file is opened, and attached under another name."""
    month = months(dt.date(2024, 1, 1), 1)
    of_kinds = [[30.0 * place + kind for kind in (40, 90) for place in range(6)]]
    by = {"kind": ("A", "B"), "days": SYMBOLS}
    table = Table("asked", 3.3, month, of_kinds, by, buckets={"days": BOUNDS})
    public = written(tmp_path / "public.duckdb", alone(table))
    span = "'days', '2024-01-01', '2024-01-31'"
    lines = [
        f"distribution('asked', {span})",
        f"percentile('asked', {span}, 50)",
        f"percentile('asked', {span}, 90, cells := 'kind=A, days!=365+', level := 99)",
        f"mean('asked', {span})",
        f"mean('asked', {span}, cells := 'days=7..29|unknown')",
    ]
    asked = json.dumps([str(public), lines])
    (used, expected), (older, found) = (
        json.loads(
            subprocess.run(
                [sys.executable, "-c", ASKED],
                input=asked,
                env={**os.environ, **environment},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for environment in ({}, {"PYTHONPATH": str(older_duckdb(version))})
    )
    assert (used != older, older) == (True, version)
    assert found == expected
    assert expected[: len(lines)] == expected[len(lines) :]
