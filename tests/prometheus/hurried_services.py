"""Services whose minutes are seconds, each in a process of its own: `quietcount run` as it is, but for its clock.

python hurried_services.py reads one line of JSON from stdin: a list of {"config", "start", "fault"}. It forks a process
for each (what they import, they import once), writes a line of JSON with their process ids, and ends with its stdin,
and they with it. One of a fault in `MORTAL` is started again when it has died, at the same address. What a service says
is in `said.jsonl` beside its configuration.

The clock of a service begins at `start` and runs sixty times as fast as the machine's. Where a fault cannot be made
from outside, it is a hook of a name that `FAULTS` knows; it waits until a file `fault` lies beside the configuration.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn
from unittest import mock

from prometheus_client import CollectorRegistry, start_http_server
from tests.prometheus import hurried_server_process
from tests.prometheus.hurried_server_process import HASTE

from quietcount_consumers.commands import service as commands
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.maintenance.losses import record_state_loss
from quietcount_consumers.monitoring import disks, metrics, standing
from quietcount_consumers.monitoring import server as http_server
from quietcount_consumers.monitoring.log_events import SERVING
from quietcount_consumers.running.ticks import StopSignal
from quietcount_consumers.running.timekeeping import SystemClocks
from quietcount_consumers.service import Service, Tick
from quietcount_producers import CaseEventPublisher
from quietcount_producers.composing.pseudonyms import Pepper
from quietcount_producers.embedded.embedded_log import EmbeddedLog
from quietcount_producers.prometheus import EmitterCollector
from quietcount_producers.settings import EmitterSettings, open_log
from quietcount_schemas.cli import main as quietcount

BEGAN = time.monotonic()

FAULT = "fault"
SAID = "said.jsonl"
LIFE = 2.5
"""Seconds after which a service that dies is dead: long enough to be scraped."""

__all__ = ["FAULT", "FAULTS", "HASTE", "SAID"]


def instead(owner: Any, name: str, value: Any) -> None:
    mock.patch.object(owner, name, value).start()


def passed() -> dt.timedelta:
    """Return how long the clocks have run, in the time that they show."""
    return dt.timedelta(seconds=(time.monotonic() - BEGAN) * HASTE)


def hurry(start: dt.datetime, jump: Callable[[], dt.timedelta]) -> None:
    """Let the clocks run faster from `start` on, and waits be as much shorter; `jump` is added to what people set."""
    wait = StopSignal.wait
    instead(SystemClocks, "wall", lambda _: start + passed() + jump())
    instead(SystemClocks, "running", lambda _: passed())
    instead(StopSignal, "wait", lambda self, seconds: wait(self, seconds / HASTE))
    instead(metrics, "running", hurried_server_process.running)
    instead(http_server, "MODULE", hurried_server_process.__name__)
    # For whoever holds the log's file.
    instead(EmbeddedLog, "__init__", functools.partialmethod(EmbeddedLog.__init__, timeout=30 / HASTE))
    instead(commands, "forbid_core_dumps", lambda: None)  # it is done for the parent, too, and hides it from the test


# The faults


def stuck(faulty: Callable[[], bool]) -> None:
    """A tick that does not end."""
    tick = Service.tick

    def blocked(self: Service, *arguments: Any) -> Tick:
        while faulty():
            time.sleep(0.1)
        return tick(self, *arguments)

    instead(Service, "tick", blocked)


def slow(faulty: Callable[[], bool]) -> None:
    """Each tick takes longer than a tick."""
    tick = Service.tick

    def slowed(self: Service, *arguments: Any) -> Tick:
        if faulty():
            time.sleep(3)
        return tick(self, *arguments)

    instead(Service, "tick", slowed)


def not_released(faulty: Callable[[], bool]) -> None:
    """Nothing is released, whatever is due."""
    due = Service.due
    instead(Service, "due", lambda self, now: [] if faulty() else due(self, now))


def almost_full(faulty: Callable[[], bool]) -> None:
    """The disk is as good as full, as the system tells it."""
    statvfs = os.statvfs

    def told(folder: Path) -> Any:
        share = (1 if folder.name == "secrets" else 7) if faulty() else 60
        _ = statvfs(folder)
        return SimpleNamespace(f_blocks=100, f_bfree=share, f_bavail=share)

    instead(disks, "os", SimpleNamespace(statvfs=told))


def dying(faulty: Callable[[], bool]) -> None:
    """A tick in which the process is killed."""
    tick = Service.tick

    def died(self: Service, *arguments: Any) -> Tick:
        if faulty():
            time.sleep(LIFE)
            os.kill(os.getpid(), signal.SIGKILL)
        return tick(self, *arguments)

    instead(Service, "tick", died)


def lose_state(config: Path, now: dt.datetime) -> None:
    """Lose the state and record that, as an operator does before the next start."""
    configuration = Configuration.load(config)
    for file in configuration.private_dir.glob("state-0.duckdb*"):
        file.unlink()
    record_state_loss(configuration, now)


def impatient(_: Callable[[], bool]) -> None:
    """No fault but the test's: a purge that is put off counts as overdue after two minutes, and not after a day."""
    instead(standing, "PATIENCE", dt.timedelta(minutes=2))


FAULTS: dict[str, Callable[[Callable[[], bool]], None]] = {
    "stuck": stuck,
    "slow": slow,
    "not released": not_released,
    "almost full": almost_full,
    "impatient": impatient,
    "dying": dying,
    "losing": dying,
}

MORTAL = {"dying", "losing"}
"""Faults of services that are started again; with the second the state is lost then, once."""

DEATHS = 6
"""After so many a service lives on: four starts are told, and each costs half a second of a core."""


def serve(config: Path, start: dt.datetime, fault: str) -> None:
    """Be `quietcount run`."""
    marker = config.with_name(FAULT)
    ahead = dt.timedelta(minutes=20)
    if fault == "losing" and marker.exists():
        lose_state(config, start + passed())
        marker.unlink()
    hurry(start, lambda: ahead if fault == "clock" and marker.exists() else dt.timedelta())
    if fault in FAULTS:
        FAULTS[fault](marker.exists)
    quietcount(["run", "--config", str(config)])


def emit(config: Path, start: dt.datetime, _fault: str) -> None:
    """Be a service that emits, whose log has not answered since the day of `start`; it is the day after."""
    settings = EmitterSettings.load(config)
    with CaseEventPublisher(
        lambda: open_log(settings),
        pepper=Pepper.load(settings.pepper_file),
        today=start.date,
        spool=config.with_name("spool.sqlite"),
    ) as publisher:
        publisher.emit("HelpRequested", "a trial", start.date()).result()
        # The collector looks once an hour, by a clock that stands here: not before the relay has found nobody.
        while publisher.spool_state().waiting_since is None:
            time.sleep(0.05)
        registry = CollectorRegistry()
        registry.register(EmitterCollector(publisher, now=lambda: start + dt.timedelta(days=1)))
        server, _ = start_http_server(0, "127.0.0.1", registry)
        address = "127.0.0.1:" + str(server.server_port)
        os.write(2, json.dumps({"event": SERVING.name, "address": address}).encode() + b"\n")
        signal.pause()


def fork(config: Path, start: dt.datetime, fault: str, port: int) -> int:
    """Start a process that serves at `port` (0: at one of the system's choice), and return its id."""
    child = os.fork()
    if child:
        return child
    os.environ["QUIETCOUNT_METRICS__LISTEN"] = f"127.0.0.1:{port}"
    said = os.open(config.with_name(SAID), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.dup2(said, 2)
    os.chdir(config.parent)
    code = 1
    try:
        (emit if fault == "spool" else serve)(config, start, fault)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def reserved() -> socket.socket:
    """Return a socket that keeps its port from others; a server that sets SO_REUSEADDR may listen there."""
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", 0))
    return keeper


def main() -> NoReturn:
    wanted = json.loads(sys.stdin.readline())
    ports = [reserved() if each["fault"] in MORTAL else None for each in wanted]

    starts = [0] * len(wanted)

    def begin(number: int) -> int:
        each, port = wanted[number], ports[number]
        start = dt.datetime.fromisoformat(each["start"])
        fault = "" if starts[number] == DEATHS else each["fault"]
        starts[number] += 1
        return fork(Path(each["config"]), start, fault, port.getsockname()[1] if port else 0)

    children = [begin(number) for number in range(len(wanted))]
    print(json.dumps(children), flush=True)
    while not select.select([sys.stdin], [], [], 0.25)[0]:
        for number, port in enumerate(ports):
            if port is not None and os.waitpid(children[number], os.WNOHANG)[0]:
                children[number] = begin(number)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    sys.exit(0)


if __name__ == "__main__":
    main()
