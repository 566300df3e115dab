"""A service that emits through a spool, for trials that kill it: python spool_emitter.py CONFIG NAME [options].

For each event that was acknowledged it writes a line `NAME-CASE EVENT_ID` to stdout, in the order of emission, and ends
when its stdin does, or when an event is not acknowledged (which it tells on stderr).
"""

from __future__ import annotations

import argparse
import os
import random
import select
import sys
import time
import uuid
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from unittest import mock

from quietcount_producers import CaseEventPublisher, EventSpool
from quietcount_producers.errors import LogUnavailable
from quietcount_producers.settings import EmitterSettings, open_log
from quietcount_producers.spool.relay import relay_batch
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.log import CASE_EVENTS, LogWriter, NewRecord, Position

CASES = 7


class FaultyLog:
    """A log that the first and every third time does not answer: it has not stored the records, or it has."""

    def __init__(self, log: LogWriter) -> None:
        self._log = log
        self._answered = False

    def append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
        fate = random.randrange(6) if self._answered else 0
        self._answered = True
        if fate == 0:
            raise LogUnavailable("Nobody answers.")
        stored = self._log.append(topic, records)
        if fate == 1:
            raise LogUnavailable("Nobody says what became of it.")
        return stored

    def close(self) -> None:
        self._log.close()


def opened(settings: EmitterSettings) -> LogWriter:
    return FaultyLog(open_log(settings))


def absent(_: EmitterSettings) -> LogWriter:
    raise LogUnavailable("Nobody answers.")


def noted_before_it_is_sent(spool: EventSpool, log: LogWriter) -> bool:
    """A relay that a trial must find out."""
    waiting = spool.waiting(1000)
    if waiting:
        spool.forward(waiting[-1].offset + 1)
        log.append(CASE_EVENTS, [NewRecord(each.key, each.value, each.timestamp) for each in waiting])
    return bool(waiting)


def ended() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


def tell(waiting: deque[tuple[str, uuid.UUID, Future[Position]]], most: int) -> None:
    """Write the lines of what was acknowledged, until at most `most` events wait."""
    while waiting and (len(waiting) > most or waiting[0][2].done()):
        case, event_id, future = waiting.popleft()
        future.result()
        os.write(1, f"{case} {event_id.hex}\n".encode())


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("name")
    parser.add_argument("--pause", type=float, default=0.001, help="seconds between two events")
    parser.add_argument("--log", choices=["faulty", "absent"], help="a log in place of the configuration's")
    parser.add_argument("--mutant", action="store_true", help="note events as sent before they are")
    arguments = parser.parse_args()
    opener = {"faulty": opened, "absent": absent, None: open_log}[arguments.log]
    waiting: deque[tuple[str, uuid.UUID, Future[Position]]] = deque()
    number = 0
    try:
        with (
            mock.patch("quietcount_producers.publisher.open_log", opener),
            mock.patch(
                "quietcount_producers.spool.relay.relay_batch",
                noted_before_it_is_sent if arguments.mutant else relay_batch,
            ),
            CaseEventPublisher.from_config(arguments.config) as publisher,
        ):
            while not ended():
                case, event_id = f"{arguments.name}-{number % CASES}", uuid.uuid4()
                future = publisher.emit("HelpRequested", case, "2023-10-03", event_id=event_id)
                waiting.append((case, event_id, future))
                number += 1
                tell(waiting, 500)
                time.sleep(arguments.pause)
            publisher.flush()
            tell(waiting, 0)
    except QuietcountError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
