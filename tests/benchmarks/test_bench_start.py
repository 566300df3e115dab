"""How long a command takes to start, beside the imports that it cannot do without: whole processes, medians, ratios."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

pytestmark = pytest.mark.bench

RUNS = 15
QUIETCOUNT = str(Path(sys.executable).with_name("quietcount"))


def cpu() -> float:
    """Seconds of CPU that the children have used so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def medians(commands: dict[str, list[str]], folder: Path, clock: Callable[[], float]) -> dict[str, float]:
    """The median of each command's time in seconds; the runs take turns, so that a busy moment meets all of them."""
    # Without its bytecode a start costs 0.2 s more, and some machines set this.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for run in range(RUNS + 1):
        for name, command in commands.items():
            before = clock()
            subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)
            if run:  # the first one writes the bytecode
                taken[name].append(clock() - before)
    return {name: statistics.median(times) for name, times in taken.items()}


def published(folder: Path) -> Path:
    """A project with a small published file."""
    (folder / "quietcount.toml").write_text("lifetime_epsilon = 1\n", encoding="utf-8")
    (folder / "data").mkdir()
    with duckdb.connect(str(folder / "data" / "statistics.duckdb")) as connection:
        connection.execute("CREATE TABLE about AS SELECT 'bound' AS key, '2.5' AS value")
    return folder


@pytest.mark.parametrize(
    "command, basis, allowed",
    [
        (["--help"], "import click", 2.5),
        (["query", "FROM about"], "import duckdb", 2.0),
    ],
    ids=["help", "query"],
)
def test_how_long_a_command_takes_beside_its_library(
    tmp_path: Path, command: list[str], basis: str, allowed: float
) -> None:
    folder = published(tmp_path)
    commands = {basis: [sys.executable, "-c", basis], "quietcount": [QUIETCOUNT, *command]}
    print()
    for what, clock in (("elapsed", time.perf_counter), ("of CPU", cpu)):
        found = medians(commands, folder, clock)
        ratio = found["quietcount"] / found[basis]
        print(
            f"quietcount {command[0]:<8}{found['quietcount'] * 1000:5.0f} ms {what:<8} {basis} "
            f"{found[basis] * 1000:5.0f} ms   ratio {ratio:.2f} (at most {allowed})"
        )
