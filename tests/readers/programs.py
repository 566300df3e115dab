"""The programs that open an export or a published file in the tests, installed once a machine into folders of theirs.

`python -m tests.readers.programs` installs them ahead of the tests.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["answered", "installed", "older_duckdb", "readers", "run"]

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_SECONDS = 600  # a slow line; a hanging one must not hang the tests


def readers() -> Path:
    """The folder with the packages."""
    return installed(REQUIREMENTS)


def installed(requirements: Path) -> Path:
    """A folder with the packages of a file of requirements."""
    return packages(requirements.parent.name, requirements.read_text(encoding="utf-8"))


def older_duckdb(version: str) -> Path:
    """A folder with another DuckDB than ours."""
    name = "duckdb-" + version.replace(".", "-")  # a dot would begin a suffix
    return packages(name, f"duckdb=={version}\n")


def packages(name: str, requirements: str) -> Path:
    """A folder with packages, which appears whole or not at all; two that ask at once install once."""
    asked = requirements.encode() + sys.version.encode()
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quietcount-tests"
    folder = caches / f"{name}-{hashlib.sha256(asked).hexdigest()[:16]}"
    caches.mkdir(parents=True, exist_ok=True)
    with (caches / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            draft = folder.with_suffix(".next")
            shutil.rmtree(draft, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-deps"]
            wanted = folder.with_suffix(".txt")
            wanted.write_text(requirements, encoding="utf-8")
            command = [*pip, "--no-compile", "--target", str(draft), "-r", str(wanted)]
            subprocess.run(command, check=True, timeout=_SECONDS)
            draft.rename(folder)
    return folder


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run Python with the packages on its path, to its end."""
    environment = {**os.environ, "PYTHONPATH": str(readers()), "MPLBACKEND": "agg", **options.pop("environment", {})}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=_SECONDS, **options
    )


def answered(code: str, *arguments: str) -> Any:
    """Return what Python code prints as its last line, which is JSON; it must succeed."""
    done = run("-c", code, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    readers()
