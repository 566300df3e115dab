"""Child processes of Python that are forked from one process which has the imports, and not started each by itself.

`Popen` is `subprocess.Popen`: a true child for signals, process groups, exit codes and streams. What runs in it is what
`python -c SOURCE` or `python SCRIPT` would run, without the second that the imports take. Whatever a fork cannot honour
(another environment of Python, limits, a shell) is started truly. Tests of the start itself use `subprocess`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import inspect
import json
import os
import pkgutil
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

__all__ = ["Popen"]

_PARTS = ("quietcount_schemas", "quietcount_producers", "quietcount_aggregates", "quietcount_consumers")
# What the parts import where it is used: it is here before the first fork.
_LAZY = ("click.testing", "duckdb", "fastavro", "kafka.admin", "numpy", "opendp.prelude", "rich.table")
# Settings that Python or a library reads when it starts, and a forked process never would.
_AT_START = ("PYTHON", "LC_", "LANG", "TZ", "MALLOC_", "LD_", "OPENBLAS_", "OMP_")
_MESSAGE = 1 << 18
_STATUS = struct.Struct("i")


class Popen(subprocess.Popen[Any]):
    """As `subprocess.Popen`; forked if it is this Python with the environment that it started with."""

    _status: int | None = None
    """The pipe that tells how a forked process ended; None for one that was started truly."""

    def _execute_child(self, *arguments: Any) -> None:
        given = inspect.signature(subprocess.Popen._execute_child).bind(self, *arguments).arguments  # type: ignore[attr-defined]
        command = [os.fspath(word) for word in given["args"]] if not isinstance(given["args"], str) else []
        if not _forkable(command, given):
            super()._execute_child(*arguments)  # type: ignore[misc]
            return
        streams = [given[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        # As subprocess has it: -1 is a stream of this process.
        handed = [own if stream == -1 else stream for own, stream in enumerate(streams)]
        read, write = os.pipe()
        try:
            umask = os.umask(0o077)
            os.umask(umask)
            order = {
                "command": command[1:],
                "directory": os.path.abspath(given["cwd"] or "."),  # noqa: PTH100  # a path that may be a link
                "environment": dict(given["env"] if given["env"] is not None else os.environ),
                "umask": umask,
                "session": bool(given["start_new_session"]),
            }
            self.pid = _server().fork(order, [*handed, write])
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        self._status = read
        self._child_created = True
        ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(given[name] for name in ends))  # type: ignore[attr-defined]

    def _try_wait(self, flags: int) -> tuple[int, int]:
        if self._status is None:
            return super()._try_wait(flags)  # type: ignore[misc, no-any-return]
        if flags & os.WNOHANG and not select.select([self._status], [], [], 0)[0]:
            return 0, 0
        told = os.read(self._status, _STATUS.size)
        os.close(self._status)
        if not told:
            raise RuntimeError("the process that forks the others has ended")
        return self.pid, int(_STATUS.unpack(told)[0])

    def _internal_poll(self, *given: Any, **named: Any) -> int | None:
        if self._status is None:
            return super()._internal_poll(*given, **named)  # type: ignore[misc, no-any-return]
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):  # type: ignore[attr-defined]
            try:
                if self.returncode is None:
                    pid, status = self._try_wait(os.WNOHANG)
                    if pid == self.pid:
                        self._handle_exitstatus(status)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode


def _forkable(command: list[str], given: Mapping[str, Any]) -> bool:
    environment = given["env"] if given["env"] is not None else os.environ
    usual = {"preexec_fn": None, "pass_fds": (), "shell": False, "uid": None, "gid": None, "gids": None, "umask": -1}
    return (
        len(command) > 1
        and command[0] == sys.executable
        and (command[1] == "-c" or command[1].endswith(".py"))
        and given["executable"] in (None, sys.executable)
        and all(given[key] in (value, None) for key, value in usual.items())
        and given.get("process_group", -1) in (-1, None)
        and _of_start(environment) == _of_start(_environment())
    )


def _of_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in environment.items() if key.startswith(_AT_START)}


@functools.cache
def _environment() -> dict[str, str]:
    """The environment in which children of tests find the modules of this process."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


# ---------------------------------------------------------------- the process that forks


@dataclass(frozen=True)
class _Server:
    process: subprocess.Popen[bytes]
    asked: socket.socket
    lock: threading.Lock

    def fork(self, order: Mapping[str, Any], streams: list[int]) -> int:
        """Return the process id of a new process with the three streams; its status comes through the fourth."""
        with self.lock:
            socket.send_fds(self.asked, [json.dumps(order).encode()], streams)
            answer = self.asked.recv(_MESSAGE)
        if not answer.isdigit():
            raise RuntimeError(answer.decode() or "the process that forks the others has ended")
        return int(answer)

    def close(self) -> None:
        self.asked.close()
        self.process.wait()


@functools.cache
def _server() -> _Server:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MESSAGE)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.forking", str(theirs.fileno())],
            env={**_environment(), "OPENBLAS_NUM_THREADS": "1"},  # a thread of a library would not be forked
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    server = _Server(process, ours, threading.Lock())
    atexit.register(server.close)
    return server


def _prepare() -> None:
    """Import everything, and open and start nothing."""
    for part in _PARTS:
        package = importlib.import_module(part)
        for module in pkgutil.walk_packages(package.__path__, f"{part}."):
            if not module.name.endswith("__main__"):
                with contextlib.suppress(ImportError):  # an extra that is not installed
                    importlib.import_module(module.name)
    for name in _LAZY:
        importlib.import_module(name)
    threads = list(Path("/proc/self/task").iterdir())
    if len(threads) > 1:
        raise RuntimeError(f"importing started {len(threads) - 1} threads, which a fork would lose")
    gc.collect()
    gc.freeze()


def _serve(asked: socket.socket) -> dict[str, Any] | None:
    """Fork as asked. Returns the order in each new process, and None in this one at the end."""
    reports: dict[int, int] = {}
    read, write = os.pipe()
    for end in (read, write):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, and for those that are forked
    while True:
        ready, _, _ = select.select([asked.fileno(), read], [], [])
        if read in ready:
            os.read(read, 4096)
            _report(reports)
        if asked.fileno() in ready:
            message, streams, _, _ = socket.recv_fds(asked, _MESSAGE, 4)
            if not message:
                return None
            pid = os.fork()
            if pid == 0:
                order: dict[str, Any] = json.loads(message)
                _become(order, asked, streams)
                return order
            for stream in streams[:3]:
                os.close(stream)
            reports[pid] = streams[3]


def _report(reports: dict[int, int]) -> None:
    # It is told before it is reaped: until then nobody else has its process id.
    while reports and (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)):
        crashed = ended.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
        status = ended.si_status if crashed else ended.si_status << 8
        with contextlib.suppress(BrokenPipeError), os.fdopen(reports.pop(ended.si_pid), "wb") as report:
            report.write(_STATUS.pack(status))
        os.waitpid(ended.si_pid, 0)


def _become(order: Mapping[str, Any], asked: socket.socket, streams: list[int]) -> None:
    """Be in every respect a process that was just started, and only then tell that it is there: it may get signals."""
    try:
        os.chdir(order["directory"])
    except OSError as error:
        asked.send(str(error).encode())
        os._exit(1)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if order["session"]:
        os.setsid()
    for number, stream in enumerate(streams[:3]):
        os.dup2(stream, number)
    asked.send(str(os.getpid()).encode())
    asked.detach()
    for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if number > 2:
            with contextlib.suppress(OSError):  # the one that listed them
                os.close(number)
    os.umask(order["umask"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.stdin = sys.__stdin__ = _stream(0, sys.stdin, "r")  # type: ignore[misc, assignment]
    sys.stdout = sys.__stdout__ = _stream(1, sys.stdout, "w")  # type: ignore[misc, assignment]
    sys.stderr = sys.__stderr__ = _stream(2, sys.stderr, "w")  # type: ignore[misc, assignment]
    for library in ("numpy.random", "random"):
        if hasattr(seed := sys.modules.get(library), "seed"):
            seed.seed()  # type: ignore[union-attr]


def _stream(number: int, like: Any, mode: str) -> IO[str]:
    by_line = number == 2 or os.isatty(number)
    return open(number, mode, buffering=1 if by_line else -1, encoding=like.encoding, errors=like.errors, closefd=False)


def _run(command: list[str]) -> None:
    """Run what follows `python` in a command line, as the main module."""
    first, rest = command[0], command[1:]
    if first == "-c":
        source, name, folder = rest[0], "<string>", ""
        sys.argv = ["-c", *rest[1:]]
    else:
        source, name, folder = Path(first).read_text(encoding="utf-8"), first, str(Path(first).parent)
        sys.argv = [first, *rest]
    sys.path[0] = folder
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    if folder:
        main.__file__ = name
    sys.modules["__main__"] = main
    try:
        exec(compile(source, name, "exec", dont_inherit=True), main.__dict__)  # noqa: S102  # what a test wants run
    finally:
        main.__dict__.clear()


def _end(command: list[str]) -> NoReturn:
    """Run a command, and end as Python does, without taking apart what was imported before: that takes long."""
    code: object = 0
    try:
        _run(command)
    except SystemExit as ended:
        code = ended.code
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        within = error.__traceback__
        while within is not None and within.tb_frame.f_code.co_filename == __file__:
            within = within.tb_next
        sys.excepthook(type(error), error.with_traceback(within), within)
        code = 128 + signal.SIGINT if interrupted else 1
        if interrupted:
            atexit.register(_interrupt)
        del error, within
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    gc.collect()  # what the command leaves open is closed as at the end of any process
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        code = 120
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit((code or 0) & 0xFF)


def _interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    _prepare()
    with socket.socket(fileno=int(sys.argv[1])) as _asked:
        _order = _serve(_asked)
    if _order is None:
        os._exit(0)  # nothing is taken apart
    _end(_order["command"])
