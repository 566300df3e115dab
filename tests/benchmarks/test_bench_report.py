"""How long the report of the demo takes, beside one question of the same file: whole processes, medians, a ratio."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.e2e.projects import Project

pytestmark = pytest.mark.bench

RUNS = 5
QUIETCOUNT = str(Path(sys.executable).with_name("quietcount"))


def test_how_long_a_report_takes_beside_a_question(tmp_path: Path) -> None:
    answer = json.loads(Project(tmp_path, create=False).quietcount("demo", "--json").done().out)
    database = ["--database", str(tmp_path / answer["statistics_db"])]
    page = tmp_path / "report.html"
    commands = {
        "query": [QUIETCOUNT, "query", *database, "FROM total('requests_by_kind', '2023-01-01', '2023-06-30')"],
        "report": [QUIETCOUNT, "report", *database, "-o", str(page)],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for run in range(RUNS + 1):
        for name, command in commands.items():
            before = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            if run:  # the first one writes the bytecode
                taken[name].append(time.perf_counter() - before)
    found = {name: statistics.median(times) for name, times in taken.items()}
    print(
        f"\nreport {found['report']:.2f} s, {page.stat().st_size / 1e6:.2f} MB; one question {found['query']:.2f} s; "
        f"ratio {found['report'] / found['query']:.1f}"
    )
