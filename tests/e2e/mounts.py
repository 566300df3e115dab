"""Small disks and read-only folders, for tests on a machine that gives them the right to mount."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import Require


def mounted(require: Require, *arguments: str | Path) -> None:
    """Mount, which needs a right that not every machine gives to its tests."""
    mount = shutil.which("mount")
    done = mount is not None and subprocess.run([mount, *arguments], capture_output=True).returncode == 0
    require(done, "the right to mount a file system")


def unmounted(folder: Path) -> None:
    subprocess.run(["umount", folder], check=True)


@contextlib.contextmanager
def small_disk(folder: Path, kibibytes: int, require: Require) -> Iterator[None]:
    """Mount a file system of so many KiB at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted(require, "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", folder)
    try:
        yield
    finally:
        unmounted(folder)


def resized(folder: Path, kibibytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kibibytes}k", folder], check=True)


@contextlib.contextmanager
def read_only(folder: Path, require: Require) -> Iterator[None]:
    """Make a folder read-only, for root too."""
    mounted(require, "--bind", folder, folder)
    try:
        mounted(require, "-o", "remount,bind,ro", folder)
        yield
    finally:
        unmounted(folder)
