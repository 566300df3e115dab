"""The systemd unit: what systemd says of it, what its page leads to, and what the real process tells it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Require
from tests.e2e.deployment.confined import possible
from tests.e2e.projects import Project

pytestmark = pytest.mark.check

EXPOSURE = 1.0
"""Of 10, by `systemd-analyze security`: below it are services that can do next to nothing but their work."""

WITHIN = 60.0
"""Seconds after which something that should have been told is missing."""


@pytest.fixture
def systemd(require: Require) -> None:
    require(shutil.which("systemd-analyze") is not None, "systemd-analyze")


@pytest.fixture
def folder(root: Path) -> Path:
    return root / "compose" / "systemd"


def runnable(folder: Path, name: str, there: Path) -> Path:
    """Return a copy of a unit with a command that this machine has."""
    there.parent.mkdir()
    text = (folder / name).read_text(encoding="utf-8")
    there.write_text(text.replace("ExecStart=/opt/quietcount/bin/quietcount", "ExecStart=/bin/true"), encoding="utf-8")
    return there


@pytest.fixture
def unit(folder: Path, tmp_path: Path) -> Path:
    """The unit with a command that this machine has."""
    return runnable(folder, "quietcount.service", tmp_path / "unit" / "quietcount.service")


def values(unit: Path, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)


def test_systemd_finds_nothing_wrong_with_the_unit(systemd: None, unit: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_template_of_workers_is_the_unit_with_another_command(systemd: None, folder: Path, tmp_path: Path) -> None:
    def body(name: str) -> list[str]:
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        return lines[lines.index("[Unit]") :]

    pairs = zip(body("quietcount.service"), body("quietcount-worker@.service"), strict=True)
    assert [ours for theirs, ours in pairs if theirs != ours] == [
        "Description=Quietcount: a worker that folds partitions %i of the log",
        "ExecStart=/opt/quietcount/bin/quietcount run --role fold --partitions %i --config "
        "/etc/quietcount/quietcount.toml",
    ]
    there = runnable(folder, "quietcount-worker@.service", tmp_path / "worker" / "quietcount-worker@0-1.service")
    done = subprocess.run(["systemd-analyze", "verify", there], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_unit_is_shut_off_from_what_the_service_does_not_need(systemd: None, unit: Path) -> None:
    done = subprocess.run(["systemd-analyze", "security", "--offline=yes", unit], capture_output=True, text=True)
    found = re.search(r"Overall exposure level for quietcount.service: ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) < EXPOSURE


def test_the_unit_says_nothing_of_how_much_there_was_to_do_and_keeps_counts_out_of_dumps_and_swap(unit: Path) -> None:
    for key in ("CPUAccounting", "IOAccounting", "IPAccounting"):
        assert values(unit, key) == ["no"]
    assert values(unit, "LimitCORE") == ["0"]
    assert values(unit, "OOMPolicy") == ["continue"]  # else the end of the process that serves ended the service
    assert values(unit, "MemorySwapMax") == ["0"]


def page(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def blocks(text: str) -> list[str]:
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


def test_the_page_says_what_the_unit_says(folder: Path, unit: Path) -> None:
    text = re.sub(r"\s+", " ", page(folder))
    assert values(unit, "TimeoutStopSec") == ["90s"]
    assert "after 90 seconds systemd kills it" in text
    assert values(unit, "RestartSec") == ["30s"]
    assert "tried again every 30 seconds" in text
    assert values(unit, "WatchdogSec") == ["5min"]
    assert "wait for five minutes" in text
    assert f"an exposure below {EXPOSURE}" in text
    assert values(unit, "StateDirectory") == ["quietcount"]
    assert "/var/lib/quietcount/data/statistics.duckdb" in text
    # What systemd itself writes has other marks: its times of a start and a stop follow what there was to fold.
    assert f"_SYSTEMD_UNIT={unit.name}" in text


def test_the_pages_commands_lead_to_a_service_that_runs_within_what_the_unit_allows(
    systemd: None, require: Require, folder: Path, root: Path, tmp_path: Path
) -> None:
    """Below a folder of the test's, without the installation, and as whoever runs the test."""
    require(possible(), "the numbers of x86-64's system calls")
    require(shutil.which("systemd-sysusers") is not None, "systemd-sysusers")
    there = tmp_path / "root"
    (there / "etc").mkdir(parents=True)
    state = there / "var" / "lib" / "quietcount"
    state.mkdir(parents=True)
    command = shutil.which("quietcount", path=str(Path(sys.executable).parent))
    require(command is not None, "the command of an installation")
    lines = [
        line for line in blocks(page(folder)) if not line.startswith(("python3 -m venv", "/opt/quietcount/bin/pip"))
    ]
    assert len(lines) == 9
    for line in lines:
        here = line.replace("/opt/quietcount/bin/quietcount", str(command))
        here = here.replace(" /etc/", f" {there}/etc/").replace('"/var/', f'"{there}/var/')
        here = here.replace("systemd-sysusers ", f"systemd-sysusers --root={there} ")
        done = subprocess.run(["sh", "-ec", here], cwd=root, capture_output=True, text=True)
        # systemd looks for the unit's command, which is in /opt on a machine that followed the page.
        if "verify" not in line:
            assert done.returncode == 0, (line, done.stderr)
    assert "quietcount" in (there / "etc" / "passwd").read_text(encoding="ascii")
    config = there / "etc" / "quietcount" / "quietcount.toml"
    assert not (state / "data").exists()
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("confined.py"), folder / "quietcount.service",
         str(command), "run", "--config", config],
        cwd=state, text=True, stderr=subprocess.PIPE, umask=0o077,
        env={"PATH": "/usr/bin:/bin", "QUIETCOUNT_METRICS__LISTEN": "127.0.0.1:0", "QUIETCOUNT_TICK": "1s"},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        heard = []
        for text in process.stderr:
            heard.append(text)
            if "population declared" in text:
                break
        else:
            pytest.fail("".join(heard))
        [address] = re.findall(r"serving.*?(127\.0\.0\.1:\d+)", "".join(heard))
        with contextlib.closing(http.client.HTTPConnection(address, timeout=WITHIN)) as connection:
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200, "the process that serves is confined, too"
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN) == 0, process.stderr.read()
    finally:
        process.kill()
        process.communicate()
    modes = {path.relative_to(state).as_posix(): path.stat().st_mode & 0o777 for path in state.rglob("*")}
    assert modes["data"] == 0o755
    assert modes["data/statistics.duckdb"] == 0o644
    assert modes["data/private"] == modes["secrets"] == modes.pop("secrets/private") == 0o700
    secrets = {name: mode for name, mode in modes.items() if name.startswith("secrets/")}
    assert {mode for name, mode in secrets.items() if (state / name).is_file()} == {0o600}
    assert all(mode & 0o077 == 0 for mode in secrets.values())


def test_confining_refuses_what_the_unit_refuses(systemd: None, require: Require, folder: Path) -> None:
    """So that the trial above can fail."""
    require(possible(), "the numbers of x86-64's system calls")
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("confined.py"), folder / "quietcount.service", sys.executable, "-c",
         "import os; os.sched_setaffinity(0, {0})"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert "PermissionError" in done.stderr


class Told:
    """What a real process tells a real socket."""

    def __init__(self, project: Project, **environment: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(project.folder / "notify"))
        self._socket.settimeout(WITHIN)
        self.process = project.start(
            "run",
            "--as-of",
            "2023-02-08",
            environment={"NOTIFY_SOCKET": str(project.folder / "notify"), "WATCHDOG_USEC": "1000000", **environment},
        )
        self.heard: list[str] = []

    def until(self, wanted: str) -> list[str]:
        """Return what was told before and with a message that holds `wanted`."""
        before = len(self.heard)
        deadline = time.monotonic() + WITHIN
        while time.monotonic() < deadline:
            self.heard.append(self._socket.recv(4096).decode())
            if wanted in self.heard[-1]:
                return self.heard[before:]
        pytest.fail(f"{wanted!r} was not told, but {self.heard}")

    def close(self) -> None:
        self._socket.close()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    with contextlib.closing(Told(Project(tmp_path / "project"))) as told:
        yield told


def test_the_real_process_tells_when_it_is_started_lives_reloads_and_stops(told: Told) -> None:
    assert told.until("READY=1")[-2:] == ["STATUS=Works", "READY=1"]
    told.until("WATCHDOG=1")
    told.until("WATCHDOG=1")
    told.process.send_signal(signal.SIGHUP)
    (reloading,) = [each for each in told.until("RELOADING=1") if "RELOADING" in each]
    # Of the same clock as systemd's, which takes it for the moment from which on READY=1 counts.
    assert 0 < int(reloading.split("MONOTONIC_USEC=")[1]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    told.until("READY=1")
    told.process.send_signal(signal.SIGTERM)
    told.until("STOPPING=1")
    assert told.process.wait(WITHIN) == 0
    assert told.process.stderr is not None
    assert json.loads(told.process.stderr.read().splitlines()[-1])["event"] == "stopped"


def test_a_service_that_is_refused_at_its_start_never_says_that_it_is_ready(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    project.run("2023-03-08")
    os.truncate(project.private / "ledger.sqlite", 4096)
    with contextlib.closing(Told(project)) as told:
        told.until("STOPPING=1")
        assert told.process.wait(WITHIN) == 1
    assert not [each for each in told.heard if "READY" in each]
