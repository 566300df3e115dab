"""How long the service takes to start behind ten million settled cases, beside a start behind none.

A whole process of `quietcount run --until-idle` on a project with nothing to do. Prints ratios, and judges no time.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from pathlib import Path

import pytest
from tests.benchmarks.marks import hold, size
from tests.benchmarks.settled_cases import remember
from tests.benchmarks.test_bench_start import QUIETCOUNT, cpu
from tests.catalogues import catalogue, statistic
from tests.e2e.projects import Project

pytestmark = pytest.mark.bench

SETTLED = size(10_000_000)
ROUNDS = 7


def opened(project: Project) -> tuple[float, float]:
    """Return the seconds that a start takes, by the clock and by the processor."""
    used, started = cpu(), time.perf_counter()
    subprocess.run(
        [QUIETCOUNT, "run", "--until-idle", "--as-of", "2023-01-15"],
        cwd=project.folder,
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - started, cpu() - used


def test_a_start_behind_many_settled_cases(tmp_path: Path) -> None:
    empty = Project(tmp_path / "empty", catalogue(statistic("requests", "HelpRequested", by="help_kind")))
    opened(empty)
    full = empty.copy(tmp_path / "full")
    remember(full.private / "state-0.duckdb", "requests", SETTLED)
    rounds = [(opened(empty), opened(full)) for _ in range(ROUNDS)]
    none, many = statistics.median(e[0] for e, _ in rounds), statistics.median(f[0] for _, f in rounds)
    print(f"\na start behind none takes {none:.2f} s, behind {SETTLED:,} settled cases {many:.2f} s")
    for at, clock in enumerate(("clock", "processor")):
        ratio = statistics.median(f[at] / e[at] for e, f in rounds)
        told = f"start with {SETTLED:,} settled cases / with none, by the {clock}"
        hold(told, ratio, most=1.5 if clock == "clock" else None)
