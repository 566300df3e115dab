"""Prometheus, promtool and a browser: where this machine has them.

`python -m tests.prometheus.programs` fetches Debian's Prometheus and unpacks it into the user's cache, where none is
there. It is not installed: its package starts a server that listens on every address, then and at each start of the
machine. Fetching takes no root, and that `apt-get update` was done.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

WANTED = (
    "Prometheus (on Debian and Ubuntu: python -m tests.prometheus.programs fetches it without installing it; "
    "elsewhere: prometheus and promtool on the PATH)"
)
WANTED_BROWSER = "a browser of the Chromium family (on Debian: apt install chromium)"

_SECONDS = 300  # a slow line; a hanging one must not hang the tests
# What the pages of Debian's Prometheus are made of; libjs-d3 comes with libjs-rickshaw.
_PAGES = re.compile(r"Depends: ((?:libjs|fonts|node)-\S+)")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_KEPT = ("usr/bin/prometheus", "usr/bin/promtool", "usr/share")


class Unfetched(Exception):
    """The package could not be fetched; the text ends with what apt-get said."""


@dataclass(frozen=True)
class Programs:
    """A Prometheus: the server and the tool, and the folder of its pages where they are not at their usual place."""

    prometheus: str
    promtool: str
    pages: Path | None = None


def cache_folder() -> Path:
    """Where the unpacked package lies or will lie."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "quietcount-tests" / "prometheus"


@cache
def programs() -> Programs | None:
    """What this machine has, or None. One on the PATH comes first."""
    server, tool = shutil.which("prometheus"), shutil.which("promtool")
    if server and tool:
        return Programs(server, tool)
    folder = cache_folder()
    if folder.is_dir():
        usr = folder / "usr"
        return Programs(str(usr / "bin/prometheus"), str(usr / "bin/promtool"), usr / "share/prometheus/web")
    return None


def required(require: Callable[[bool, str], None]) -> Programs:
    """Return what this machine has; without it, `require` leaves the test out or fails it."""
    found = programs()
    require(found is not None, WANTED)
    assert found is not None
    return found


@cache
def browser() -> str | None:
    """The path of a browser, or None."""
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


def fetch() -> Path:
    """Download and unpack the package with what its pages need; the folder appears whole or not at all."""
    folder = cache_folder()
    if folder.is_dir():
        return folder
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        shown = _said(["apt-cache", "depends", "--important", "prometheus"], partial)
        rickshaw = ["libjs-d3"] if "libjs-rickshaw" in shown else []
        _said(["apt-get", "download", "-qq", "prometheus", *_PAGES.findall(shown), *rickshaw], partial)
        unpacked = partial / "unpacked"
        for package in sorted(partial.glob("*.deb")):
            _said(["dpkg-deb", "--extract", str(package), str(unpacked)], partial)
        _said([str(unpacked / "usr/bin/prometheus"), "--version"], partial)
        for name in _KEPT:
            (partial / "kept" / name).parent.mkdir(parents=True, exist_ok=True)
            (unpacked / name).rename(partial / "kept" / name)
        for name in ("doc", "man"):
            shutil.rmtree(partial / "kept/usr/share" / name, ignore_errors=True)
        try:
            (partial / "kept").rename(folder)
        except OSError:
            if not folder.is_dir():  # another one was quicker: its folder is as good
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _said(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, cwd=folder)
    except FileNotFoundError:
        raise Unfetched(f"this machine has no {command[0]}; it needs {WANTED}") from None
    except subprocess.TimeoutExpired:
        raise Unfetched(f"{' '.join(command)}: did not end within {_SECONDS} s") from None
    if done.returncode != 0:
        raise Unfetched(f"{' '.join(command)}: {(done.stdout + done.stderr)[-2000:].strip()}")
    return done.stdout


if __name__ == "__main__":
    if programs() is None:
        try:
            fetch()
        except Unfetched as error:
            sys.exit(f"Error: {error}")
