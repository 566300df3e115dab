"""Projects in a folder, and real processes of the `quietcount` command in them."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from click.testing import CliRunner
from tests import forking
from tests.catalogues import catalogue, statistic

from quietcount_aggregates.counting.bounding import Bounding
from quietcount_aggregates.ledger.entries import Released
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.signed_notes import SigningKey
from quietcount_aggregates.settling import stored_symbols
from quietcount_aggregates.state.marks import ConsumerSecret, YearSecrets
from quietcount_aggregates.state.state import State
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.opening import open_service
from quietcount_consumers.running.ticks import StopSignal, run_until_idle
from quietcount_consumers.running.timekeeping import fixed_clock
from quietcount_consumers.wiring import open_ledger
from quietcount_producers.commands.emit import emit_command
from quietcount_producers.composing.pseudonyms import Pepper
from quietcount_producers.embedded.embedded_log import EmbeddedLog
from quietcount_producers.simulation import Mix, Tally, encoded, simulate
from quietcount_schemas.configuration import private_folder

__all__ = [
    "BEFORE_ANY_RELEASE",
    "EXACT",
    "MIXED",
    "Cell",
    "Finished",
    "Project",
    "check_against_oracle",
    "ended",
    "simulated",
    "true_cells",
]

BEFORE_ANY_RELEASE = "2023-01-02"  # the clock of the trials: nothing is due, so states can be compared exactly
TIMEOUT = 600.0  # seconds after which a process that should have ended is a failure

# At epsilon 20 a cell is released as it is but for one time in 2.4e8: so few cells are compared that a test errs in
# less than one of 10^6 runs, and the real mechanism is what runs.
EXACT = catalogue(
    statistic("requests", "HelpRequested", by="help_kind"),
    statistic("court_cases", "CourtCaseFiled", by="charge"),
)

MIXED = Mix(duplicates=0.15, corrections=0.15, withdrawals=0.05, late=0.1)

Cell = tuple[str, str, str]
"""The statistic, the first day of the period, the cell as text."""

_COMMAND = "from quietcount_schemas.cli import main; main()"
_RUNNER = Path(__file__).with_name("service_runner.py")
_COUNTED = {"requests": ("HelpRequested", "help_kind"), "court_cases": ("CourtCaseFiled", "charge")}
_OWN_TO_A_COPY = ("ledger_id", "head_digest")


@dataclass(frozen=True, slots=True)
class Finished:
    """How a process ended, and what it said."""

    code: int
    out: str
    err: str

    def refusal(self, code: int = 1) -> str:
        """The one message of a refusal, which has no traceback; it may go on in lines that are indented."""
        assert "Traceback" not in self.err, self.err
        assert self.code == code, (self.code, self.err)
        messages = re.findall(r"^Error: .*(?:\n  .*)*", self.err, re.MULTILINE)
        assert len(messages) == 1, self.err
        return str(messages[0])

    def done(self) -> Finished:
        assert self.code == 0, (self.code, self.err)
        return self


class Project:
    """A folder with a configuration and secrets; `quietcount` commands run in it."""

    def __init__(self, folder: Path, configuration: str = EXACT, *, create: bool = True) -> None:
        self.folder = folder
        self.config = folder / "quietcount.toml"
        self.data = folder / "data"
        # Where the service keeps it, whether or not the configuration of a trial can be read.
        self.private = private_folder(self.data)
        self.public = self.data / "statistics.duckdb"
        if create:
            (folder / "secrets").mkdir(parents=True, mode=0o700)
            Pepper.generate(folder / "secrets" / "pepper")
            ConsumerSecret.generate(folder / "secrets" / "service")
            SigningKey.generate(folder / "secrets" / "service-signing")  # so that copies on Kafka have one ledger's
            self.config.write_text(configuration, encoding="utf-8")

    @property
    def configuration(self) -> Configuration:
        return Configuration.load(self.config)

    def copy(self, folder: Path) -> Project:
        """Copy the project with all its files and secrets."""
        shutil.copytree(self.folder, folder)
        return Project(folder, create=False)

    # Processes

    def start(
        self, *arguments: str, environment: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Start `quietcount` in the project's folder."""
        return self._start([sys.executable, "-c", _COMMAND, *arguments], environment or {}, options)

    def start_runner(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the service as the runner of trials does."""
        return self._start([sys.executable, str(_RUNNER), str(self.config), *arguments], {}, {})

    def quietcount(self, *arguments: str, **options: Any) -> Finished:
        """Run `quietcount` to its end."""
        return ended(self.start(*arguments, **options))

    def runner(self, *arguments: str) -> Finished:
        """Run the runner of trials to its end."""
        return ended(self.start_runner(*arguments))

    def run(self, as_of: str = "2024-01-08") -> Finished:
        """Run the service until it is idle; it must succeed."""
        return self.quietcount("run", "--until-idle", "--as-of", as_of).done()

    def run_here(self, as_of: str = "2024-01-08") -> None:
        """Do in this process what `quietcount run --until-idle` does."""
        configuration = self.configuration
        clock = fixed_clock(dt.datetime.fromisoformat(as_of).replace(tzinfo=dt.UTC))
        with StopSignal() as stop, open_service(configuration, clock()) as service:
            run_until_idle(service, clock, stop)

    def _start(
        self, command: Sequence[str], environment: Mapping[str, str], options: Mapping[str, Any]
    ) -> subprocess.Popen[str]:
        settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return forking.Popen(
            command,
            text=True,
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
                "COLUMNS": "120",
                "QUIETCOUNT_METRICS__LISTEN": "127.0.0.1:0",  # several services run at once
                **environment,
            },
            **{**settings, **options},
        )

    # What is in the project

    def emit(self, lines: Iterable[Mapping[str, object]], name: str = "cases.jsonl") -> None:
        """Write `lines` into a file and emit it, by the command but in this process."""
        file = self.folder / name
        file.write_bytes(b"".join(map(encoded, lines)))
        result = CliRunner().invoke(emit_command, [str(file), "--config", str(self.config)])
        assert result.exit_code == 0, result.output

    def log(self) -> EmbeddedLog:
        return EmbeddedLog(self.private / "log.sqlite", create=False)

    def released(self) -> dict[Cell, int]:
        """Return what the public file holds."""
        with duckdb.connect(str(self.public), read_only=True) as connection:
            rows = connection.execute("SELECT statistic, period_start::VARCHAR, cell, noisy FROM statistics").fetchall()
        cells = {(statistic, start, cell): noisy for statistic, start, cell, noisy in rows}
        assert len(cells) == len(rows), "a cell has two values"
        return cells

    def ledger_values(self) -> dict[Cell, int]:
        """Return what the ledger holds, read by itself; an entry that says a second value is a failure."""
        with contextlib.closing(open_ledger(self.configuration, create=False)) as log:
            ledger = Ledger(log)
            ledger.refresh()
        domains: dict[str, list[str]] = {table.name: table.domain for _, table in ledger.chain.tables}
        found: dict[Cell, int] = {}
        for entry in ledger.chain.entries:
            body = entry.body
            if isinstance(body, Released):
                for cell, value in zip(domains[body.statistic], body.values, strict=True):
                    key = (body.statistic, body.period_start.isoformat(), cell)
                    assert key not in found, "a cell has two values"
                    found[key] = value
        return found

    def state(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return the content of all private states, table by table, but for what no two copies share."""
        content: dict[str, list[tuple[Any, ...]]] = {}
        for _, path in sorted(self.configuration.state_files.items()):
            with duckdb.connect(str(path), read_only=True) as connection:
                tables = [row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
                for name in sorted(tables):
                    rows = connection.execute(f'SELECT * FROM "{name}" ORDER BY ALL').fetchall()
                    content.setdefault(name, []).extend(rows)
        content["meta"] = [row for row in content["meta"] if row[0] not in _OWN_TO_A_COPY]
        return content

    def open_cells(self) -> dict[Cell, int]:
        """Return the exact counts of 2023 that a release would draw from now; cells of zero are left out."""
        configuration = self.configuration
        registry = configuration.registry()
        populations = configuration.populations(registry)
        found: Counter[Cell] = Counter()
        months = [dt.date(2023, month, 1) for month in range(1, 13)]
        for partition, path in configuration.state_files.items():
            with State(path, partition) as state:
                years, upto = YearSecrets(configuration.years_of(partition)), state.offsets.get(partition, 0)
                bounding = Bounding(state, populations, stored_symbols(registry), years, upto=upto)
                for population, table in ((each, table) for each in populations for table in each.tables):
                    for start, counts in bounding.counts(population.name, table, months).items():
                        for cell, count in zip(table.domain, counts, strict=True):
                            found[table.name, start.isoformat(), cell] += count
        return {cell: count for cell, count in found.items() if count}


def ended(process: subprocess.Popen[str]) -> Finished:
    """Wait for the end of a process that this test started."""
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return Finished(process.returncode, out or "", err or "")


def true_cells(lines: Iterable[Mapping[str, object]], statistics: Iterable[str] = _COUNTED) -> dict[Cell, int]:
    """Return what EXACT counts of `lines`, by the oracle of the simulation; cells of zero are left out."""
    tally = Tally()
    for line in lines:
        tally.add(line)
    firsts: Any = tally.totals()["first_per_case"]
    return {
        (name, f"{month}-01", f"{_COUNTED[name][1]}={symbol}"): count
        for name in statistics
        for month, of_month in firsts.get(_COUNTED[name][0], {}).items()
        for symbol, count in of_month[_COUNTED[name][1]].items()
        if count and month < "2024"
    }


def simulated(events: int, seed: int = 1, mix: Mix = MIXED) -> list[dict[str, object]]:
    """Return the lines of a year of synthetic casework."""
    return list(simulate(events, seed, mix=mix))


def check_against_oracle(project: Project, oracle: Project, lines: list[dict[str, object]]) -> None:
    """The check that every twin has to pass, or to fail: the state of an undisturbed run, and the true counts."""
    oracle.run_here(BEFORE_ANY_RELEASE)
    undisturbed = oracle.state()
    assert undisturbed["open_events"]
    assert undisturbed["withdrawn"]
    assert project.state() == undisturbed
    assert project.open_cells() == oracle.open_cells() == true_cells(lines)
