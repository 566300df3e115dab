"""A process that ends with a publisher that nobody closed: what waits is stored, or somebody hears of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests import forking

from quietcount_producers import EmbeddedLog, EventSpool, Pepper
from quietcount_producers.settings import EmitterSettings, open_log
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.quick

EMITTED = """
from quietcount_producers import *
def emit(publisher):
    for number in range(3):
        publisher.emit("HelpRequested", f"case {number}", "2023-10-03")
    return publisher
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "quietcount.toml").write_text("")
    (tmp_path / "secrets").mkdir()
    Pepper.generate(tmp_path / "secrets" / "pepper")
    return tmp_path


def ended(place: Path, program: str, popen: type[subprocess.Popen[str]] = forking.Popen) -> tuple[int, str]:
    """Run a program to its end; return its exit code and what it wrote to stderr."""
    process = popen(
        [sys.executable, "-c", EMITTED + program],
        cwd=place,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, said


def stored(place: Path) -> int:
    with EmbeddedLog(EmitterSettings.load(place / "quietcount.toml", {}).log_file, create=False) as log:
        return log.end_offsets(CASE_EVENTS)[0]


FROM_CONFIG = 'publisher = emit(CaseEventPublisher.from_config("quietcount.toml"))\n'


@pytest.mark.parametrize(
    "end, code",
    [
        ("", 0),
        ("import sys; sys.exit(3)", 3),
        # What the page says of SIGTERM
        (
            "import os, signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(4))\n"
            "os.kill(os.getpid(), signal.SIGTERM)",
            4,
        ),
    ],
    ids=["the end", "sys.exit", "SIGTERM, handled"],
)
def test_what_waits_at_the_end_of_a_process_is_stored(place: Path, end: str, code: int) -> None:
    assert ended(place, FROM_CONFIG + end) == (code, "")
    assert stored(place) == 3


def test_at_an_exception_too_in_a_process_that_was_truly_started(place: Path) -> None:
    code, said = ended(place, FROM_CONFIG + "raise ValueError()", subprocess.Popen)
    assert code == 1
    assert said.splitlines()[-1] == "ValueError"
    assert stored(place) == 3


def test_the_spool_has_what_waits_whatever_the_log_does(place: Path) -> None:
    (place / "quietcount.toml").write_text('log = "kafka://127.0.0.1:9"\n[emitter]\nspool = "spool"\n')
    assert ended(place, FROM_CONFIG) == (0, "")
    settings = EmitterSettings.load(place / "quietcount.toml", {})
    assert settings.spool is not None
    with EventSpool(settings.spool) as spool:
        assert spool.hold()
        assert len(spool.waiting(10)) == 3
    with pytest.raises(Exception, match="127"):
        open_log(settings)


STANDING_STILL = """
import time
from quietcount_producers import publisher as module
module.EXIT_WAIT = 0.2
class Log:
    def append(self, topic, records):
        {does}
    def close(self): ...
publisher = CaseEventPublisher(Log(), pepper=Pepper(bytes(range(32))))
emit(publisher)
"""


def test_what_a_log_does_not_take_in_time_is_said_in_one_line_that_counts_nothing(place: Path) -> None:
    assert ended(place, STANDING_STILL.format(does="time.sleep(3600)"), subprocess.Popen) == (
        0,
        "Events that this process emitted are lost. The log did not take them within 0.2 seconds of its end. Close the "
        "publisher before the process ends, or give it a spool\n",
    )


@pytest.mark.parametrize("takes, lost", [("time.sleep(0.3)", 0), ("time.sleep(3600)", 1)])
def test_a_close_that_is_cut_short_gives_nothing_up_without_a_word(place: Path, takes: str, lost: int) -> None:
    log = STANDING_STILL.replace("EXIT_WAIT = 0.2", "EXIT_WAIT = 1")
    cut_short = """
import signal, sys
signal.signal(signal.SIGALRM, lambda *_: sys.exit(5))
signal.setitimer(signal.ITIMER_REAL, 0.1)
publisher.close()
"""
    does = f"{takes}; open('stored', 'w').close(); return [Position(topic, 0, 0) for _ in records]"
    code, said = ended(place, log.format(does=does) + cut_short, subprocess.Popen)
    assert code == 5
    assert said.count("Events that this process emitted are lost") == lost
    assert (place / "stored").exists() != bool(lost)


def test_what_a_log_refused_is_said_unless_somebody_has_heard_of_it(place: Path) -> None:
    refusing = STANDING_STILL.format(does='raise LogError("The disk is full", "Free space")')
    code, said = ended(place, refusing, subprocess.Popen)
    assert (code, said) == (0, "Events that this process emitted are lost. The disk is full. Free space\n")
    heard = """
try: publisher.flush()
except LogError: pass
assert publisher.emit("HelpRequested", "case", "2023-10-03").exception(30)
"""
    assert ended(place, refusing + heard, subprocess.Popen) == (0, "")


def test_a_publisher_that_is_closed_or_never_used_says_nothing_and_waits_for_nothing(place: Path) -> None:
    unused = 'publisher = CaseEventPublisher.from_config("quietcount.toml")\n'
    assert ended(place, unused) == (0, "")
    assert ended(place, FROM_CONFIG + "publisher.close()") == (0, "")
    assert ended(place, unused + "import os\nif os.fork() == 0: raise SystemExit\nos.wait()") == (0, "")


def test_an_event_emitted_when_the_process_is_at_its_end_is_refused_or_stored(place: Path) -> None:
    late = (
        'import atexit\npublisher = CaseEventPublisher.from_config("quietcount.toml")\natexit.register(emit, publisher)'
    )
    code, said = ended(place, late)
    assert code == 0
    assert stored(place) == 3 or "ProducersError" in said
