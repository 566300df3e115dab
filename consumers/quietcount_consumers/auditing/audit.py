"""The audit as a whole: the parts of all checks, spread over processes that end with this one, and what came out."""

from __future__ import annotations

import contextlib
import datetime as dt
import multiprocessing
import os
import platform
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, cast

from quietcount_consumers.auditing.measurement import CHECKS, Check, Measurement, Part
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.trials.audited import Audited

__all__ = ["PREFIX", "Audit", "Progress", "audit", "measured"]

PREFIX: Final = "quietcount-audit-"
"""What the name of the temporary folder begins with, and those of topics."""

_MODULES: Final[Mapping[str, str]] = {
    "stories": "quietcount_consumers.auditing.story_distances",
    "epsilon": "quietcount_consumers.auditing.lower_bounds",
    "noise": "quietcount_consumers.auditing.noise_fit",
    "intervals": "quietcount_consumers.auditing.coverage",
}
_MOST_PROCESSES: Final = 8
"""Each takes some 300 MB."""
_VERSIONS: Final = ("quietcount", "duckdb", "opendp")
_ATTEMPTS: Final = 50

Progress = Callable[[float, float], None]
"""Hears how much of the work is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found, and all that it takes to do it again but the noise, which has no seed."""

    measurements: tuple[Measurement, ...]
    seed: int
    stories: int
    draws: int
    day: dt.date
    catalogue: str
    """The name of the configuration file, or what stands for the starting catalogue."""
    versions: Mapping[str, str]

    @property
    def holds(self) -> bool:
        """Return whether all that was measured is as declared."""
        return all(each.holds for each in self.measurements)

    @property
    def plain(self) -> dict[str, Any]:
        """Return the audit as JSON has it."""
        return {
            "holds": self.holds,
            "catalogue": self.catalogue,
            "date": self.day.isoformat(),
            "seed": self.seed,
            "stories": self.stories,
            "draws": self.draws,
            "versions": dict(self.versions),
            "measurements": [asdict(each) for each in self.measurements],
        }


def audit(
    audited: Audited,
    catalogue: str,
    *,
    checks: Sequence[str] = CHECKS,
    processes: int | None = None,
    progress: Progress = lambda *_: None,
) -> Audit:
    """Do the checks and return what they measured.

    It works in a temporary folder, which is gone at the end, also if this process is killed. `processes` is by default
    the number of cores; with 0 all is done in this process. Raises what a check raises that cannot be done.
    """
    with _topics(audited), tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
        try:
            measurements = measured(audited, Path(name), checks=checks, processes=processes, progress=progress)
        except BrokenProcessPool:
            raise ServiceError(
                "a process of the audit was ended from outside, as it is when the memory is used up",
                "Run it again with more memory, or do one check at a time with --only",
            ) from None
    versions = {each: metadata.version(each) for each in _VERSIONS} | {"python": platform.python_version()}
    return Audit(
        measurements=tuple(measurements),
        seed=audited.seed,
        stories=audited.stories,
        draws=audited.draws,
        day=dt.datetime.now(dt.UTC).date(),
        catalogue=catalogue,
        versions=versions,
    )


def measured(
    audited: Audited,
    folder: Path,
    *,
    checks: Sequence[str] = CHECKS,
    processes: int | None = None,
    progress: Progress = lambda *_: None,
) -> list[Measurement]:
    """Return what the checks measure, working in `folder`."""
    found = [cast(Check, import_module(_MODULES[each])) for each in CHECKS if each in checks and each in _MODULES]
    parts = [(check, part) for check in found for part in check.parts(audited)]
    work = sum(part.effort for _, part in parts)
    results: dict[int, Any] = {}
    done = 0.0
    progress(done, work)
    order = sorted(range(len(parts)), key=lambda number: -parts[number][1].effort)
    with _pool(folder, processes, len(parts)) as submit:
        futures = {submit(_done, parts[each][1], audited, folder / str(each)): each for each in order}
        for future in as_completed(futures):
            number = futures[future]
            results[number] = future.result()
            done += parts[number][1].effort
            progress(done, work)
    measurements: list[Measurement] = []
    for check in found:
        own = [results[number] for number, (of, _) in enumerate(parts) if of is check]
        measurements += check.judged(audited, own)
    return measurements


def _done(part: Part, audited: Audited, folder: Path) -> Any:
    """Do one part in its folder, and remove that."""
    folder.mkdir()
    try:
        return part(audited, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


Submit = Callable[..., "Future[Any]"]


@contextlib.contextmanager
def _pool(folder: Path, processes: int | None, parts: int) -> Iterator[Submit]:
    """Yield what lets a function be called in another process, or in this one."""
    wanted = min(_MOST_PROCESSES, len(os.sched_getaffinity(0))) if processes is None else processes
    wanted = min(wanted, parts)
    if not wanted:
        yield _called
        return
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    with (
        reader,
        ProcessPoolExecutor(wanted, mp_context=context, initializer=_live, initargs=(reader, folder)) as pool,
    ):
        try:
            yield pool.submit
        except BaseException:
            writer.close()  # the processes end at once, and do not finish what they have in hand
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        finally:
            pool.shutdown(wait=True)
            writer.close()


def _called(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(function(*arguments))
    return future


def _live(lifeline: Connection, folder: Path) -> None:
    """End this process as soon as the other end of the pipe is closed, as it is when the command is killed."""
    # DuckDB shows its progress there in a process that has no program file.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the command says what becomes of them

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            lifeline.recv()
        for _ in range(_ATTEMPTS):  # another process may still write into it
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
        signal.raise_signal(signal.SIGKILL)  # whatever another thread has in hand

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _topics(audited: Audited) -> Iterator[None]:
    """Delete at the end the topics that the audit made on brokers. Raises LogError if they cannot be reached."""
    settings = audited.kafka()
    if settings is None:
        yield
        return
    from quietcount_consumers.kafka.topics import delete_all_topics
    from quietcount_producers.kafka.connection import reach

    reach(settings, "quietcount-audit")
    try:
        yield
    finally:
        delete_all_topics(settings)
