"""What is forked for a test is, to the test, a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests import forking

pytestmark = pytest.mark.quick

PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


@pytest.fixture(params=[subprocess.Popen, forking.Popen])
def popen(request: pytest.FixtureRequest) -> type[subprocess.Popen[str]]:
    """A true start and a fork: they may not differ in anything that is tried here."""
    found: type[subprocess.Popen[str]] = request.param
    return found


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **more}


def started(popen: type[subprocess.Popen[str]], source: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    settings: dict[str, Any] = {**PIPES, "env": environment(), **options}
    return popen([sys.executable, "-c", source, *arguments], **settings)


@pytest.mark.parametrize(
    "source, code, err",
    [
        ("print('said')", 0, ""),
        ("print('said'); raise SystemExit(3)", 3, ""),
        ("print('said'); raise SystemExit('why')", 1, "why\n"),
        ("import atexit; atexit.register(print, 'said')", 0, ""),
        ("import threading; threading.Timer(0.1, print, ['said']).start()", 0, ""),
        ("print('said', flush=True)\nimport os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
        ("print('said', flush=True); import os; os._exit(7)", 7, ""),
        (
            "print('said')\nraise ValueError(1)",
            1,
            'Traceback (most recent call last):\n  File "<string>", line 2, in <module>\nValueError: 1\n',
        ),
    ],
)
def test_it_ends_as_python_does(popen: type[subprocess.Popen[str]], source: str, code: int, err: str) -> None:
    process = started(popen, source)
    assert process.communicate(timeout=60) == ("said\n", err)
    assert process.returncode == code


def test_it_has_the_place_and_the_streams_that_it_was_given(popen: type[subprocess.Popen[str]], tmp_path: Path) -> None:
    source = (
        "import os, sys; old = os.umask(0); "
        "print(os.getcwd(), sys.argv, os.environ['OWN'], oct(old), os.listdir('/proc/self/fd'), sys.path[0] == '', "
        "sys.stdin.read(), os.getpid(), sys.stdout.isatty())"
    )
    process = started(popen, source, "one", cwd=tmp_path, env=environment(OWN="mine"))
    out, err = process.communicate("asked", timeout=60)
    descriptors = "['0', '1', '2', '3']"  # the last is the list itself
    assert (out, err) == (f"{tmp_path} ['-c', 'one'] mine 0o22 {descriptors} True asked {process.pid} False\n", "")


def test_a_script_finds_what_lies_beside_it(popen: type[subprocess.Popen[str]], tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("FOUND = 1", encoding="utf-8")
    script = tmp_path / "script.py"
    script.write_text("import sys, beside; print(__file__, __name__, sys.argv, beside.FOUND)", encoding="utf-8")
    process = popen([sys.executable, str(script), "one"], **PIPES, env=environment())
    assert process.communicate(timeout=60) == (f"{script} __main__ {[str(script), 'one']} 1\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_ends_it(popen: type[subprocess.Popen[str]], number: signal.Signals) -> None:
    process = started(popen, "import time; print('here', flush=True); time.sleep(600)")
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in err) == (number is signal.SIGINT)


def test_it_may_lead_a_session_of_its_own(popen: type[subprocess.Popen[str]]) -> None:
    process = started(popen, "import os; print(os.getsid(0), os.getpgid(0))", start_new_session=True)
    assert process.communicate(timeout=60)[0] == f"{process.pid} {process.pid}\n"
    process = started(popen, "import os; print(os.getsid(0), os.getpgid(0))")
    assert process.communicate(timeout=60)[0] == f"{os.getsid(0)} {os.getpgid(0)}\n"


def test_what_was_forked_has_the_imports_and_what_a_fork_cannot_honour_was_started() -> None:
    source = "import sys; print('quietcount_aggregates.counting.fold' in sys.modules)"
    cases: list[tuple[dict[str, Any], bool]] = [
        ({}, True),
        ({"env": environment(PYTHONOPTIMIZE="2")}, False),
        ({"preexec_fn": os.getpid}, False),
    ]
    for options, forked in cases:
        assert started(forking.Popen, source, **options).communicate(timeout=60)[0] == f"{forked}\n"
