"""The public file opens with other versions of DuckDB than the one that wrote it."""

from __future__ import annotations

import os
import subprocess
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.published_world import published_in

pytestmark = pytest.mark.check


@pytest.mark.promise("public-file")
@pytest.mark.parametrize("wanted", ["<2", "==1.4.0"])  # the newest, and the one that finds no WITH in our macros
def test_it_opens_with_the_newest_duckdb_of_the_line_before(
    tmp_path: Path, require: Callable[[bool, str], None], wanted: str
) -> None:
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON"))}
    environment.update({key: value for key, value in os.environ.items() if key in ("PIP_INDEX_URL", "PIP_CONFIG_FILE")})
    installed = subprocess.run(
        [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", f"duckdb{wanted}"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    require(installed.returncode == 0, "a package index, to install an older DuckDB from")
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
        [str(python), "-c", code, str(public)], capture_output=True, text=True, env=environment, timeout=60
    )
    assert found.returncode == 0, found.stderr
    version, *answers = found.stdout.split()
    print(f"opened with DuckDB {version}")
    assert version.startswith("1.")
    assert answers == ["42", "36", "True", "True", "6", "True"]
