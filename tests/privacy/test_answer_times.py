"""How long an answer of the metrics' server takes, while its own service works and while another process does.

Prometheus keeps for years how long each scrape took. That a busy processor slows down everything on its machine is no
secret of the service. It would be one if a fold slowed down answers more than other work does. So two things are
compared that use the processor alike: work in the process that folds, which never leaves Python (the worst that a fold
can do to what shares its interpreter), and the same work in a process that has nothing to do with it.

python test_answer_times.py apart|within serves, and reads "own", "other" or the end from stdin.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from tests.e2e.service.served_within import ServerWithin

from quietcount_consumers.monitoring.server import MonitoringServer
from quietcount_consumers.monitoring.status import Board
from quietcount_consumers.monitoring_settings import MonitoringSettings

pytestmark = pytest.mark.soak

PAIRS = 40
ANSWERS = 25
"""How many answers each half of a pair has; their median is compared."""

FEWEST = 5
"""Each pair's halves come in an order drawn at random. If nothing tells them apart, either is the slower one with odds
of 1 in 2. It is so in fewer than FEWEST of 40 pairs, or in more than 40 - FEWEST, once in 5.3 million runs: 2 * sum of
C(40, j) for j < 5, divided by 2**40, is 1.9e-7."""

WITHIN = 60.0
WORK = "while True: sum(range(1000))"


class Served:
    """A process that serves, and works when it is told to."""

    def __init__(self, how: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        self._connection = http.client.HTTPConnection("127.0.0.1", int(self._said()), timeout=WITHIN)

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def close(self) -> None:
        self._connection.close()
        self._process.communicate()

    def median(self, where: str) -> float:
        """Return the median time of answers, in seconds, while there is work `where` (own, other)."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{where}\n")
        self._process.stdin.flush()
        assert self._said() == "ok\n"
        times = []
        for _ in range(ANSWERS + 2):
            time.sleep(random.uniform(0.0, 0.01))
            asked = time.perf_counter()
            self._connection.request("GET", "/metrics")
            assert self._connection.getresponse().read()
            times.append(time.perf_counter() - asked)
        return statistics.median(times[2:])


def slower(how: str) -> int:
    """Return in how many pairs answers took longer while the service itself worked."""
    seed = random.randrange(10**6)
    print(f"{how}: seed {seed}")
    chance = random.Random(seed)
    own, other = list[float](), list[float]()
    with contextlib.closing(Served(how)) as served:
        for _ in range(PAIRS):
            for where in chance.sample(("own", "other"), 2):
                (own if where == "own" else other).append(served.median(where))
    count = sum(one > two for one, two in zip(own, other, strict=True))
    medians = " and ".join(f"{1000 * statistics.median(each):.2f} ms" for each in (own, other))
    print(f"{how}: {medians} while it works and while another process does; slower in {count} of {PAIRS} pairs")
    return count


def test_an_answer_takes_no_longer_while_the_service_works_than_while_another_process_does() -> None:
    assert FEWEST <= slower("apart") <= PAIRS - FEWEST


def test_answers_that_share_the_interpreter_with_the_work_are_found_out() -> None:
    """The mutant: a server in a thread beside the fold."""
    assert slower("within") > PAIRS - FEWEST


@contextlib.contextmanager
def other() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", WORK])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main(how: str) -> None:
    board = Board(lambda: dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.timedelta(minutes=1))
    own = threading.Event()

    def obey() -> None:
        with contextlib.ExitStack() as stack:
            for line in sys.stdin:
                stack.close()
                own.clear()
                if line.strip() == "own":
                    own.set()
                else:
                    stack.enter_context(other())
                print("ok", flush=True)
        os._exit(0)

    kind = {"apart": MonitoringServer, "within": ServerWithin}[how]
    with kind(MonitoringSettings(port=0), board) as server:
        assert server.address is not None
        print(server.address[1], flush=True)
        threading.Thread(target=obey, daemon=True).start()
        while True:
            if own.is_set():
                sum(range(1000))
            else:
                time.sleep(0.005)


if __name__ == "__main__":
    main(sys.argv[1])
