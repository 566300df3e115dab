"""Java programs for tests, as class paths made from a `pom.xml` by Maven, once per machine.

`python -m tests.kafka.artifacts tests/kafka/pom.xml` fetches one ahead of the tests.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

OLDEST_JAVA = 17
WANTED = "Java 17 or later and Maven (on Debian and Ubuntu: apt install openjdk-17-jre-headless maven)"
_FETCHING_SECONDS = 600  # a slow line; a hanging one must not hang the tests


class Unfetched(Exception):
    """Maven did not bring what a pom.xml asks for; the text ends with what it said."""


@cache
def java() -> str | None:
    """The path of a Java that is new enough, or None."""
    home = os.environ.get("JAVA_HOME")
    for candidate in ([str(Path(home) / "bin" / "java")] if home else []) + ["java"]:
        found = shutil.which(candidate)
        if found is None:
            continue
        said = subprocess.run([found, "-version"], capture_output=True, text=True).stderr
        version = re.search(r'version "(\d+)', said)
        if version and int(version[1]) >= OLDEST_JAVA:
            return found
    return None


def jars_folder(pom: Path) -> Path:
    """Where the class path of `pom` lies or will lie: another text of the pom, another folder."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "quietcount-tests" / f"{pom.parent.name}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:16]}"


def obtainable(pom: Path) -> bool:
    """Whether this machine can run what `pom` names, perhaps after a download."""
    return java() is not None and (jars_folder(pom).is_dir() or shutil.which("mvn") is not None)


def jars(pom: Path) -> Path:
    """The folder of the class path of `pom`, fetched when it is not there yet.

    It appears whole or not at all, and two that ask at once fetch once. Raises `Unfetched`.
    """
    folder = jars_folder(pom)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_suffix(".lock")):
        if folder.is_dir():
            return folder
        partial = folder.with_suffix(".partial")
        _fetch(pom, partial)
        partial.replace(folder)
    return folder


def class_archive(java: str, folder: Path) -> Path:
    """Where the classes that a program of the class path `folder` loads are kept, ready for this very Java.

    A broker that starts from them needs half the time. One that is ended in order leaves them there (`Broker.stop`).
    """
    program = Path(java).resolve()
    key = hashlib.sha256(f"{program} {program.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    return folder / f"classes-{key}.jsa"


def _fetch(pom: Path, folder: Path) -> None:
    # A pom names a class path as its dependencies, or an archive as an item to unpack.
    unpacked = b"<artifactItems>" in pom.read_bytes()
    goal = ["dependency:unpack"] if unpacked else ["dependency:copy-dependencies", "-DincludeScope=runtime"]
    command = ["mvn", "--quiet", "--batch-mode", "--file", str(pom), *goal, f"-DoutputDirectory={folder}"]
    said = "Maven (mvn) is not installed"
    for _ in range(2):  # a registry that stumbles once is no reason to fail
        shutil.rmtree(folder, ignore_errors=True)  # Maven takes a jar that was cut off for one it has
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCHING_SECONDS, cwd=pom.parent)
        except FileNotFoundError:
            break
        except subprocess.TimeoutExpired:
            said = f"it did not end within {_FETCHING_SECONDS} s"
            continue
        if done.returncode == 0 and any(folder.glob("*.jar")):
            return
        said = (done.stdout + done.stderr)[-2000:]
    raise Unfetched(f"Maven did not fetch what {pom} asks for: {said}")


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(jars(Path(name).resolve()))
