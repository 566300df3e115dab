"""A server that forks its workers, as real processes: killed with kill -9, with a spool, without one, and on Kafka."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.e2e.emitters.kafka_writers import create, read, settings
from tests.e2e.emitters.test_spool import Emitter, check, drain, embedded_values
from tests.recipes.frameworks import children
from tests.unit.producers.children import forked

from quietcount_producers import CaseEventPublisher, KafkaSettings, KafkaWriter, Pepper

# Python 3.12 and later warn of what is tried here: a fork beside other threads.
THREADED = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
pytestmark = [pytest.mark.check, pytest.mark.promise("nothing-lost"), THREADED]

__all__ = ["settings"]  # a fixture, which tests ask for by name

SERVER = Path(__file__).with_name("forking_emitter.py")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir()
    Pepper.generate(tmp_path / "secrets" / "pepper")
    return tmp_path


def workers_killed(place: Path, kills: int, *, spool: bool) -> int:
    """Kill workers and then the server itself; return how many records came more than once."""
    (place / "quietcount.toml").write_text('[emitter]\nspool = "spool"\n' if spool else "")
    seed = random.randrange(10**9)
    print("seed", seed)
    chance = random.Random(seed)
    servers = [Emitter(place, "one", "3", program=SERVER), Emitter(place, "two", "1", program=SERVER)]
    try:
        for server in servers:
            server.more(20)
        for _ in range(kills):
            server = chance.choice(servers)
            while not (workers := children(server.process.pid)):  # the last one was just killed
                time.sleep(0.005)
            os.kill(chance.choice(workers), signal.SIGKILL)
            for each in servers:
                each.more(chance.randrange(1, 20))
        assert servers[0].end() == (0, "")
        os.kill(servers[1].process.pid, signal.SIGKILL)
        servers[1].process.wait()
        before = len(servers[1].acknowledged)
        deadline = time.monotonic() + 60
        while len(servers[1].acknowledged) < before + 20:  # what it forked goes on
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert servers[1].end() == (-signal.SIGKILL, "")
    finally:
        for each in servers:
            for pid in children(each.process.pid):
                os.kill(pid, signal.SIGKILL)
            each.kill()
    if spool:
        drain(place)
    return check(servers, [embedded_values(place)])


def test_kill_9_of_forked_workers_and_of_their_server_loses_nothing_that_a_spool_took(place: Path) -> None:
    workers_killed(place, 5, spool=True)


def test_kill_9_of_forked_workers_and_of_their_server_loses_and_doubles_nothing_in_the_log(place: Path) -> None:
    assert workers_killed(place, 5, spool=False) == 0


@pytest.mark.soak
@pytest.mark.parametrize("spool", [True, False], ids=["spool", "log"])
def test_150_kill_9_of_forked_workers_lose_nothing(place: Path, spool: bool) -> None:
    assert workers_killed(place, 150, spool=spool) == 0 or spool


# On Kafka


def test_on_kafka_parent_and_child_go_on_and_what_waits_at_exit_is_stored(place: Path, settings: KafkaSettings) -> None:
    create(settings)
    (place / "quietcount.toml").write_text(
        f'log = "kafka://{",".join(settings.brokers)}"\n[kafka]\ntopic_prefix = "{settings.topic_prefix}"\n'
    )
    with CaseEventPublisher.from_config(place / "quietcount.toml") as publisher:
        publisher.emit("HelpRequested", "before", "2023-10-03").result(60)
        process = multiprocessing.get_context("fork").Process(target=child, args=(publisher,))
        process.start()
        process.join(60)
        assert process.exitcode == 0
        publisher.emit("HelpRequested", "after", "2023-10-03").result(60)
    program = (
        "from quietcount_producers import CaseEventPublisher\n"
        "publisher = CaseEventPublisher.from_config('quietcount.toml')\n"
        "publisher.emit('HelpRequested', 'at exit', '2023-10-03')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=place, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    pepper = Pepper.load(place / "secrets" / "pepper")
    wanted = [pepper.case_key(case) for case in ("before", "waited", "waits", "after", "at exit")]
    assert sorted(each.key for each in read(settings)) == sorted(wanted)


def child(publisher: CaseEventPublisher) -> None:
    publisher.emit("HelpRequested", "waited", "2023-10-03").result(60)
    publisher.emit("HelpRequested", "waits", "2023-10-03")


def test_a_writer_on_kafka_that_was_handed_in_is_refused_in_a_child(place: Path, settings: KafkaSettings) -> None:
    create(settings)
    pepper = Pepper.load(place / "secrets" / "pepper")
    with KafkaWriter(settings) as writer, CaseEventPublisher(writer, pepper=pepper) as publisher:
        publisher.emit("HelpRequested", "before", "2023-10-03").result(60)
        said = forked(lambda: publisher.emit("HelpRequested", "child", "2023-10-03"))
        assert "give it a function that opens the log" in said
        publisher.emit("HelpRequested", "after", "2023-10-03").result(60)
    assert len(read(settings)) == 2
