"""Projects that the doctor looks at, on a machine in which nothing is wrong, and what it finds in them."""

from __future__ import annotations

import datetime as dt
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.e2e.projects import Project, simulated
from tests.e2e.service.test_upgrades import CONFIGURATION

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.doctor import data as doctor_data
from quietcount_consumers.doctor.machine import Machine
from quietcount_schemas.finding import Finding, Severity

WARNING, WRONG = Severity.WARNING, Severity.WRONG
KAFKA_ONLY = {"brokers", "rights", "topics", "workers"}
# Where tests are run by root, that is found as well, and is no fault of the project.
ROOT = "the service runs as root"
STORE = ("data", "private", "store")


@dataclass
class Healthy(Machine):
    """A machine in which nothing is wrong; each fault changes one thing."""

    time: dt.datetime = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
    kept: bool | None = True
    room: float = 0.5
    mask: int | None = 0o077
    who: int = field(default_factory=os.geteuid)

    def now(self) -> dt.datetime:
        return self.time

    def synchronised(self) -> bool | None:
        return self.kept

    def free(self, configuration: Configuration) -> dict[str, float]:
        return {"data": self.room, "secrets": 1.0}

    def umask(self) -> int | None:
        return self.mask

    def user(self) -> int:
        return self.who


Fault = Callable[[Project], Machine | None]


def change(project: Project, old: str, new: str) -> None:
    text = project.config.read_text(encoding="utf-8")
    assert old in text
    project.config.write_text(text.replace(old, new, 1), encoding="utf-8")


def with_(text: str) -> Fault:
    """Write keys before the first statistic."""
    return lambda project: change(project, "\n[[population]]", f"\n{text}\n[[population]]")


def gone(*path: str) -> Fault:
    def remove(project: Project) -> None:
        place = project.folder.joinpath(*path)
        for each in place.parent.glob(place.name + "*") if place.suffix else [place]:
            each.unlink()

    return remove


def garbage(*path: str) -> Fault:
    return lambda project: ignored(project.folder.joinpath(*path).write_bytes(b"nothing of ours" * 1000))


def ignored(_: object) -> None:
    return None


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has released twice, with what was published before the second time."""
    place = tmp_path_factory.getbasetemp() / "healthy"
    if place.is_dir():  # one for all modules that a process runs: it takes a second
        return Project(place, create=False)
    project = Project(tmp_path_factory.mktemp("doctor") / "project", CONFIGURATION)
    project.config.chmod(0o600)
    project.emit(simulated(100))
    project.run_here("2023-02-08")
    shutil.copy(project.public, project.folder / "before.duckdb")
    project.run_here("2023-03-08")
    return Project(project.folder.rename(place), create=False)


@pytest.fixture
def project(healthy: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("QUIETCOUNT_METRICS__LISTEN", "127.0.0.1:0")
    return healthy.copy(tmp_path / "project")


@pytest.fixture
def unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the comparison with what would be published, which takes a second."""
    monkeypatch.setattr(doctor_data, "verify_ledger", lambda *_: ["unverified"])


def found(verdicts: Sequence[Finding]) -> list[Finding]:
    """What is not in order, but for who runs the tests."""
    return [each for each in verdicts if each.severity is not Severity.OK and each.what != ROOT]


def tells(verdicts: Sequence[Finding], check: str, severity: Severity, says: str) -> bool:
    return any(
        each.code == check and each.severity is severity and says in f"{each.where}: {each.what}" and each.remedy
        for each in found(verdicts)
    )


def snapshot(folder: Path) -> dict[str, object]:
    """Everything that is there: names, modes, times of change, bytes."""
    return {
        str(path.relative_to(folder)): (
            (status := path.stat()).st_mode,
            status.st_mtime_ns,
            status.st_ctime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [folder, *folder.rglob("*")]
    }
