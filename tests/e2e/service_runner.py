"""Run the service in a process of its own, with what a trial needs and the command has no switch for.

python service_runner.py CONFIG [options]: kills itself at a named moment, folds in small batches, lets its clock go on
by a day a tick, or is one of the faulty twins (offsets in a file of their own) that a trial must find out.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

from quietcount_aggregates.counting import fold as fold_module
from quietcount_aggregates.counting.fold import Fold
from quietcount_aggregates.due_periods import DuePeriod, due_in
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Settled
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.publication.publication import publish
from quietcount_aggregates.release import Releaser, Step
from quietcount_aggregates.state.state import State
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.kafka.log import KafkaLog
from quietcount_consumers.monitoring.log_output import LogOutput
from quietcount_consumers.opening import open_service
from quietcount_consumers.running.ticks import StopSignal, Ticking, run_until_idle
from quietcount_consumers.running.timekeeping import Clock, Grid, fixed_clock
from quietcount_producers.embedded.embedded_log import EmbeddedLog
from quietcount_schemas.log import DEAD_LETTERS


def die() -> NoReturn:
    """End as a power cut does."""
    os.kill(os.getpid(), signal.SIGKILL)
    while True:
        time.sleep(1)


def kill_at(moment: str, number: int) -> Callable[[Step], None] | None:
    """Arrange the death of this process when `moment` is reached for the `number`-th time."""
    left = [number]

    def reached() -> None:
        left[0] -= 1
        if left[0] == 0:
            die()

    def around(owner: Any, name: str, *, before: bool, when: Callable[..., bool] = lambda *_, **__: True) -> None:
        original = getattr(owner, name)

        def patched(*arguments: Any, **keywords: Any) -> Any:
            if before and when(*arguments, **keywords):
                reached()
            result = original(*arguments, **keywords)
            if not before and when(*arguments, **keywords):
                reached()
            return result

        mock.patch.object(owner, name, patched).start()

    def to_state(_path: Path, target: object) -> bool:
        return Path(str(target)).name == "state-0.duckdb"

    def dead_letter(_log: object, topic: str, _records: object) -> bool:
        return topic == DEAD_LETTERS

    match moment:
        case "before rewrite":
            around(State, "rewrite", before=True)
        case "before replace":
            around(Path, "replace", before=True, when=to_state)
        case "after replace":
            around(Path, "replace", before=False, when=to_state)
        case "before batch":
            around(Fold, "batch", before=True)
        case "after batch":
            around(Fold, "batch", before=False)
        case "within batch":
            around(Fold, "_append", before=False)
        case "dead letters appended":
            for log in (EmbeddedLog, KafkaLog):
                around(log, "append", before=False, when=dead_letter)
        case "dead letters stored":
            for log in (EmbeddedLog, KafkaLog):
                around(log, "append", before=True, when=dead_letter)
        case _:
            step = Step(moment)
            return lambda now: reached() if now is step else None
    return None


def keep_offsets_apart(path: Path, *, before: bool) -> None:
    """The faulty twin: offsets in a file of their own, written before or after the batch is committed."""
    original = Fold.batch

    def write(offsets: dict[int, int]) -> None:
        path.write_text(json.dumps(offsets), encoding="utf-8")

    def batch(self: Fold, records: Sequence[Any], clock: dt.date, marks: Any = None) -> bool:
        after = {record.partition: record.offset + 1 for record in records}
        if before:
            write(after)
        result = original(self, records, clock, marks)
        if not before:
            write(after)
        return result

    def offsets(_: State) -> dict[int, int]:
        if not path.exists():
            return {}
        return {int(partition): offset for partition, offset in json.loads(path.read_text(encoding="utf-8")).items()}

    mock.patch.object(Fold, "batch", batch).start()
    mock.patch.object(State, "offsets", property(offsets)).start()


def reject_after_advancing() -> None:
    """The faulty twin: the offset moves past a bad record first, and a transaction of its own records the rejection."""
    original, reject = Fold.batch, fold_module._reject

    def batch(self: Fold, *arguments: Any) -> bool:
        late: list[Any] = []
        with mock.patch.object(fold_module, "_reject", lambda _connection, *rest: late.append(rest)):
            result = original(self, *arguments)
        with self._state.transaction() as connection:
            for rest in late:
                reject(connection, *rest)
        return result

    mock.patch.object(Fold, "batch", batch).start()


def publish_before_append() -> None:
    """The faulty twin: what was drawn is published before the ledger holds it, and the process dies between."""
    original = Ledger.append

    def append(self: Ledger, bodies: Sequence[Any], now: dt.datetime, point: Any = None) -> Any:
        if not any(type(body).__name__ == "Released" for body in bodies):
            return original(self, bodies, now, point)
        shown = Ledger(_Recorder(self))
        shown.fence()
        original(shown, bodies, now, point)
        publish(shown.chain, PUBLIC[0])
        die()

    mock.patch.object(Ledger, "append", append).start()


def forget_what_was_released() -> None:
    """The faulty twin: it does not recover, and takes for due what was due before the ledger had any release."""

    def before_any_release(chain: Chain, until: dt.datetime) -> Sequence[DuePeriod]:
        older = Chain()
        for entry in chain.entries:
            if isinstance(entry.body, Settled):
                break
            older.extend(entry.data)
        return due_in(older, until)

    mock.patch("quietcount_aggregates.release.due_in", before_any_release).start()
    mock.patch.object(Releaser, "recover", return_value=None).start()
    mock.patch.object(Chain, "unknown_to", return_value=[]).start()


PUBLIC: list[Path] = []


class _Recorder:
    """A ledger log that keeps appended entries to itself."""

    def __init__(self, ledger: Ledger) -> None:
        self.entries = [entry.data for entry in ledger.chain.entries]
        self.places: list[bytes] = []

    def fence(self) -> int:
        return 1

    def read(self, start: int = 0) -> list[bytes]:
        return self.entries[start:]

    def read_places(self, start: int = 0) -> list[bytes]:
        return self.places[start:]

    def append(self, entries: Sequence[bytes], places: Sequence[bytes] = (), *, epoch: int, expected: int) -> None:
        self.entries.extend(entries)
        self.places.extend(places)

    def close(self) -> None:
        """Nothing is open."""


def advancing(start: dt.datetime) -> Clock:
    """Return a clock that goes on by a day each time it is looked at."""
    moment = [start]

    def now() -> dt.datetime:
        moment[0] += dt.timedelta(days=1)
        return moment[0]

    return now


def ticking(service: Ticking, clock: Clock, grid: Grid, stop: StopSignal) -> None:
    """Tick at each point of `grid` until stopped."""
    while not stop():
        service.tick(clock(), stop)
        stop.wait(grid.left)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("--as-of", default="2024-01-08")
    parser.add_argument("--batch", type=int, default=20_000)
    parser.add_argument("--kill-at", default="")
    parser.add_argument("--kill-number", type=int, default=1)
    parser.add_argument("--offsets-apart", choices=["before", "after"])
    parser.add_argument("--publish-early", action="store_true")
    parser.add_argument("--reject-late", action="store_true")
    parser.add_argument("--advance", action="store_true")
    parser.add_argument("--no-recovery", action="store_true")
    given = parser.parse_args()

    configuration = Configuration.load(given.config)
    moment = dt.datetime.fromisoformat(given.as_of).replace(tzinfo=dt.UTC)
    clock = advancing(moment) if given.advance else fixed_clock(moment)
    # Before the twin's own patch, so that "after batch" falls between the commit and the file.
    observe = kill_at(given.kill_at, given.kill_number) if given.kill_at else None
    if given.offsets_apart:
        keep_offsets_apart(configuration.private_dir / "offsets.json", before=given.offsets_apart == "before")
    if given.reject_late:
        reject_after_advancing()
    if given.publish_early:
        PUBLIC.append(configuration.public_file)
        publish_before_append()
    if given.no_recovery:
        forget_what_was_released()
    with (
        LogOutput(sys.stderr) as log,
        StopSignal() as stop,
        open_service(configuration, moment, observe=observe, say=log.say, batch=given.batch) as service,
    ):
        sys.stdout.write("open\n")
        sys.stdout.flush()
        if given.advance:
            ticking(service, clock, Grid(configuration.tick), stop)
        else:
            run_until_idle(service, clock, stop)


if __name__ == "__main__":
    main()
