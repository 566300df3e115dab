"""A server that forks workers which emit, for trials that kill them: python forking_emitter.py CONFIG NAME [WORKERS].

The publisher is made before the first fork, and the parent emits as well. It forks another worker for each that is
killed. For each event that was acknowledged a line `CASE EVENT_ID` goes to stdout. It ends when its stdin does.
"""

from __future__ import annotations

import itertools
import os
import select
import signal
import sys
import threading
import time
import uuid

from quietcount_producers import CaseEventPublisher

PAUSE = 0.002  # seconds between two events


def ended() -> bool:
    return bool(select.select([0], [], [], 0)[0])


def emit(publisher: CaseEventPublisher, name: str) -> None:
    for number in itertools.count():
        if ended():
            return
        case, event_id = f"{name}-{os.getpid()}-{number % 3}", uuid.uuid4()
        publisher.emit("HelpRequested", case, "2023-10-03", event_id=event_id).result(60)
        os.write(1, f"{case} {event_id.hex}\n".encode())
        time.sleep(PAUSE)


def forked(publisher: CaseEventPublisher, name: str) -> int:
    pid = os.fork()
    if pid == 0:
        emit(publisher, name)
        publisher.close()
        os._exit(0)
    return pid


def main() -> None:
    name, workers = sys.argv[2], int(sys.argv[3])
    with CaseEventPublisher.from_config(sys.argv[1]) as publisher:
        own = threading.Thread(target=emit, args=(publisher, name))
        own.start()
        alive = {forked(publisher, name) for _ in range(workers)}
        while alive:
            pid, status = os.waitpid(-1, os.WNOHANG)
            alive.discard(pid)
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            if pid and killed and not ended():  # one whose kill shows after the end is not made again
                alive.add(forked(publisher, name))
            elif pid and status and not killed:
                os.write(2, f"a worker ended with {status}\n".encode())
            time.sleep(0.005)
        own.join()


if __name__ == "__main__":
    main()
