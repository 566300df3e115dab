"""One broker for all processes of a run: the first that asks has it started, and it ends with the last.

A process of its own keeps the broker. Everyone who uses it holds the writing end of a pipe that the keeper reads: when
nobody holds it any more, however they ended, the keeper ends the broker and itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.kafka.cluster import Cluster
from tests.kafka.secured import SecuredCluster

KINDS: Mapping[str, Callable[[Path], Cluster]] = {"plain": Cluster, "secured": SecuredCluster}
_ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def shared(home: Path, kind: str) -> Iterator[Cluster]:
    """The cluster of this kind that lives in `home`, started if nobody has started it: as it is seen from elsewhere.

    It answers as long as somebody uses it. Its process is not this one's child, so nothing here stops or pauses it.
    """
    home.mkdir(parents=True, exist_ok=True)
    users = home / "users"
    with _alone(home):
        try:
            held = os.open(users, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # no pipe yet, or nobody who reads it
            held = _kept(home, kind)
        try:
            cluster: Cluster = pickle.loads((home / "cluster").read_bytes())  # noqa: S301  # the keeper wrote it
        except BaseException:
            os.close(held)
            raise
    try:
        yield cluster
    finally:
        os.close(held)


def _kept(home: Path, kind: str) -> int:
    """Start a keeper, and return this process's hold of what it keeps."""
    users = home / "users"
    users.unlink(missing_ok=True)
    os.mkfifo(users, 0o600)
    read = os.open(users, os.O_RDONLY | os.O_NONBLOCK)
    held = os.open(users, os.O_WRONLY)
    try:
        with (home / "keeper.log").open("wb") as log:
            keeper = subprocess.Popen(
                [sys.executable, "-m", "tests.kafka.keeper", str(home), kind, str(read)],
                cwd=_ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                pass_fds=[read],
                start_new_session=True,  # Ctrl-C is for the tests, which then let it go
            )
        assert keeper.stdout is not None
        with keeper.stdout as said:
            if said.read() != b"ready":
                keeper.wait()
                raise RuntimeError(f"no broker was started:\n{(home / 'keeper.log').read_text(encoding='utf-8')}")
        keeper.returncode = 0  # it outlives this process, which will not wait for it
    except BaseException:
        os.close(held)
        raise
    finally:
        os.close(read)
    return held


def keep(home: Path, kind: str, read: int) -> None:
    """Start a cluster, say so on standard output, and end it when nobody holds the pipe any more."""
    cluster = KINDS[kind](home / "brokers")
    try:
        cluster.start()
        (home / "cluster").write_bytes(pickle.dumps(cluster))
        with contextlib.suppress(BrokenPipeError):
            os.write(1, b"ready")
        os.close(1)
        while True:
            select.select([read], [], [])
            with _alone(home):  # whoever comes now either is seen, or finds nobody who reads
                if _held(read):
                    continue
                os.close(read)
                (home / "cluster").unlink()
                return
    finally:
        cluster.close()


def _held(read: int) -> bool:
    try:
        return os.read(read, 1) != b""
    except BlockingIOError:
        return True


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    keep(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
