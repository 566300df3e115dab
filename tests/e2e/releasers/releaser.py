"""A service in a process that is forked warm, so that a trial of many starts and kills takes seconds."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from quietcount_aggregates.errors import LedgerFenced, LedgerUnavailable
from quietcount_aggregates.release import Step
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.kafka import fence as kafka_fence
from quietcount_consumers.kafka.fence import Fence
from quietcount_consumers.kafka.ledger import KafkaLedger
from quietcount_consumers.monitoring.log_output import LogOutput
from quietcount_consumers.opening import open_service
from quietcount_consumers.running.ticks import StopSignal, run_until_idle
from quietcount_consumers.running.timekeeping import fixed_clock
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.errors import QuietcountError

DONE, REFUSED, DEFECT = 0, 1, 2


def release(config: Path, as_of: str, kill_at: str, delay: float, output: Path) -> NoReturn:
    """Do what `quietcount run --until-idle` does, and die at the step `kill_at`.

    Exit code 1 is a refusal, whose class stands in the last line of `output`; 2 is a defect.
    """
    _say_into(output)
    time.sleep(delay)

    def observe(step: Step) -> None:
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

    moment = dt.datetime.fromisoformat(as_of).replace(tzinfo=dt.UTC)
    code = DONE
    try:
        os.chdir(config.parent)
        configuration = Configuration.load(config)
        with (
            LogOutput(sys.stderr) as log,
            StopSignal() as stop,
            open_service(configuration, moment, observe=observe, say=log.say) as service,
        ):
            run_until_idle(service, fixed_clock(moment), stop)
    except QuietcountError as error:
        sys.stderr.write(f"{error}\n{type(error).__name__}\n")
        code = REFUSED
    except BaseException:
        traceback.print_exc()
        code = DEFECT
    sys.stderr.flush()
    os._exit(code)


def race(settings: KafkaSettings, name: str, rounds: int, seed: int, output: Path, twin: bool) -> NoReturn:
    """Append "<index> <name>" `rounds` times, each time under a fence taken anew, against whoever does the same.

    The twin has neither a fence, nor does it compare what it expected, nor look where its entries lie.
    """
    _say_into(output)
    chance = random.Random(seed)
    if twin:
        kafka_fence.TRANSACTIONAL_ID = f"{name}.{seed}"  # type: ignore[misc]
        Fence.send = _anywhere  # type: ignore[method-assign]
        KafkaLedger._keep = believed  # type: ignore[method-assign]
    code = DONE
    try:
        while rounds:
            # Where a commit meets the other's fence, the broker may leave the outcome open.
            shut_out = contextlib.suppress(LedgerFenced, LedgerUnavailable)
            with shut_out, contextlib.closing(KafkaLedger(settings)) as ledger:
                epoch = ledger.fence()
                length = len(ledger.read())
                time.sleep(chance.choice((0.0, 0.0, 0.01, 0.1)))
                expected = len(ledger.read()) if twin else length
                ledger.append([f"{length} {name}".encode()], epoch=epoch, expected=expected)
                rounds -= 1
    except BaseException:
        traceback.print_exc()
        code = DEFECT
    sys.stderr.flush()
    os._exit(code)


def _anywhere(self: Fence, entries: Sequence[bytes], offset: int, first: int, places: Any = None) -> None:
    del offset, places
    self._producer.begin_transaction()
    for index, entry in enumerate(entries, start=first):
        self._producer.send(self._topic, key=kafka_fence.key_of(index), value=entry, partition=0).get(20)


def believed(self: KafkaLedger, index: int, record: Any) -> None:
    """Keep an entry without a look at its key: the twin of `KafkaLedger._keep`."""
    if index == len(self._offsets):
        self._offsets.append(record.offset)
        self._end = record.offset + 1


def _say_into(output: Path) -> None:
    """What this process says goes into a file."""
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
