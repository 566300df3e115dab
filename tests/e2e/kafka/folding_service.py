"""The service in a process that is forked warm and tells of each batch, so that a trial can kill it hundreds of times.

It can be one of the faulty twins that a trial must find out: offsets that do not lie in the transaction of the fold.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NoReturn
from unittest import mock

from kafka import KafkaAdminClient, TopicPartition
from kafka.structs import OffsetAndMetadata
from tests.e2e.service_runner import kill_at
from tests.running_world import lasting

from quietcount_aggregates.counting.fold import Fold
from quietcount_aggregates.state.state import State
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.kafka.log import GROUP
from quietcount_consumers.monitoring.log_output import LogOutput
from quietcount_consumers.opening import open_service
from quietcount_consumers.partitions import Partitions
from quietcount_consumers.running.runner import Admit
from quietcount_consumers.running.ticks import Signals, run_until_idle
from quietcount_consumers.running.timekeeping import fixed_clock
from quietcount_consumers.service import Service
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.log import CASE_EVENTS

__all__ = ["BATCH_BEGINS", "DEFECT", "DONE", "FOLDED", "REFUSED", "Part", "serve"]

DONE, REFUSED, DEFECT = 0, 1, 2
BATCH_BEGINS, FOLDED = b"batch", b"folded"
LONGEST = 300  # seconds after which the process ends whatever becomes of the trial

Offsets = dict[int, int]


@dataclass(frozen=True)
class Part:
    """What the process does: `quietcount run`, or with `until_idle` no longer than there is something to fold."""

    config: Path
    as_of: str
    batch: int = 40
    until_idle: bool = False
    kill_at: str = ""
    kill_number: int = 1
    offsets: tuple[Literal["file", "group", "state"], Literal["before", "after"]] | None = None
    """The faulty twin: where the offsets are kept, and whether they are written before or after the fold commits."""


def serve(part: Part, telling: Connection, output: Path) -> NoReturn:
    """Run the service. Tells BATCH_BEGINS before each batch and FOLDED at the log's end; says the rest into a file.

    Exit code 1 is a refusal, 2 a defect.
    """
    signal.alarm(LONGEST)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    code = DONE
    try:
        os.chdir(part.config.parent)
        configuration = Configuration.load(part.config)
        log = LogOutput(sys.stderr)
        # Before the twin's own patch, so that "after batch" falls between the commit and what the twin writes.
        if part.kill_at:
            kill_at(part.kill_at, part.kill_number)
        if part.offsets:
            _keep_offsets_apart(configuration, *part.offsets)
        _tell(telling)
        clock = fixed_clock(dt.datetime.fromisoformat(part.as_of).replace(tzinfo=dt.UTC))

        def opening(configuration: Configuration, now: dt.datetime, _admit: Admit) -> Service:
            return open_service(configuration, now, say=log.say, batch=part.batch)

        with log, Signals() as signals:
            if part.until_idle:
                with opening(configuration, clock(), _everything) as service:
                    run_until_idle(service, clock, signals)
            else:
                lasting(configuration, opening, clock, signals, log).run()
    except QuietcountError as error:
        sys.stderr.write(f"{error}\n")
        code = REFUSED
    except BaseException:
        traceback.print_exc()
        code = DEFECT
    sys.stderr.flush()
    os._exit(code)


def _everything(_newest: dt.datetime) -> None:
    """Speak against nothing."""


def _tell(telling: Connection) -> None:
    batch, fold = Fold.batch, Partitions.fold_to_end

    def told_batch(self: Fold, *arguments: Any) -> bool:
        telling.send_bytes(BATCH_BEGINS)
        return batch(self, *arguments)

    def told_fold(self: Partitions, *arguments: Any) -> bool:
        reached = fold(self, *arguments)
        telling.send_bytes(FOLDED)
        return reached

    mock.patch.object(Fold, "batch", told_batch).start()
    mock.patch.object(Partitions, "fold_to_end", told_fold).start()


def _keep_offsets_apart(configuration: Configuration, where: str, when: str) -> None:
    original = Fold.batch
    write, read = {"file": _in_a_file, "group": _in_the_group, "state": _in_the_state}[where](configuration)

    def batch(self: Fold, records: Sequence[Any], *arguments: Any) -> bool:
        after = {record.partition: record.offset + 1 for record in records}
        if when == "before":
            write(self._state, after)
        result = original(self, records, *arguments)
        if when == "after":
            write(self._state, after)
        return result

    mock.patch.object(Fold, "batch", batch).start()
    mock.patch.object(State, "offsets", property(read)).start()


_Place = tuple[Callable[[State, Mapping[int, int]], None], Callable[[State], Offsets]]


def _in_a_file(configuration: Configuration) -> _Place:
    path = configuration.private_dir / "offsets.json"

    def kept() -> Offsets:
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return {int(partition): offset for partition, offset in found.items()}

    def write(_: State, after: Mapping[int, int]) -> None:
        path.write_text(json.dumps({**kept(), **after}), encoding="utf-8")

    return write, lambda state: _own(state, kept())


def _in_the_group(configuration: Configuration) -> _Place:
    settings = configuration.kafka
    assert settings is not None
    topic, group = settings.topic(CASE_EVENTS), settings.topic(GROUP)
    admin = KafkaAdminClient(bootstrap_servers=settings.servers)

    def read(state: State) -> Offsets:
        kept = admin.list_group_offsets([group])[group]
        found = {each.partition: at.offset for each, at in kept.items() if each.topic == topic and at.offset >= 0}
        return _own(state, found)

    def write(_: State, after: Mapping[int, int]) -> None:
        admin.alter_group_offsets(
            group, {TopicPartition(topic, partition): OffsetAndMetadata(at, "", -1) for partition, at in after.items()}
        )

    return write, read


def _own(state: State, offsets: Offsets) -> Offsets:
    """Return the offset of the partition that a state is of, if there is one."""
    return {partition: offset for partition, offset in offsets.items() if partition == state.partition}


def _in_the_state(_: Configuration) -> _Place:
    """In the state, but in a transaction of their own."""
    original: Callable[[State], Offsets] = State.__dict__["offsets"].fget

    def write(state: State, after: Mapping[int, int]) -> None:
        with state.transaction() as connection:
            for partition, offset in after.items():
                connection.execute("INSERT OR REPLACE INTO offsets VALUES (?, ?)", [partition, offset])

    return write, original
