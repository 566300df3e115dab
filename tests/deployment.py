"""What tests need to read the files of compose/, and to do what its pages say."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

OPENSSL = "OpenSSL 3 (on Debian and Ubuntu: apt install openssl)"

# In the place of sudo: what it would have done is written down and left, so that the page is tried by anybody.
_SUDO = '#!/bin/sh\nprintf "%s\\n" "$*" >> "$SUDO_RECORD"\n'


def script(path: Path) -> ModuleType:
    """The program at `path`, as a module."""
    specification = importlib.util.spec_from_file_location(f"compose_{path.stem}", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def properties_of(text: str) -> dict[str, str]:
    """The keys and values of a server.properties."""
    lines = (line.partition("=") for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return {key: value for key, _, value in lines}


def blocks_of(page: str, language: str) -> list[str]:
    """The blocks of code of a page in one language, in its order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def openssl_there() -> bool:
    """Whether there is an openssl that signs with an authority of one's own in one command."""
    if shutil.which("openssl") is None:
        return False
    said = subprocess.run(["openssl", "version"], capture_output=True, text=True, timeout=30).stdout
    return re.match(r"OpenSSL ([3-9]|[1-9][0-9])\.", said) is not None


def make_certificates(page: str, folder: Path) -> set[Path]:
    """Run in `folder` the commands of security.md that make certificates; return what they gave to user 1000."""
    record, programs = folder / "sudo.record", folder / "programs"
    programs.mkdir()
    (programs / "sudo").write_text(_SUDO, encoding="utf-8")
    (programs / "sudo").chmod(0o755)
    record.touch()
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "SUDO_RECORD": str(record)}
    for block in blocks_of(page, "sh"):
        if "openssl " in block:
            command = ["sh", "-euc", block]
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
    given: set[Path] = set()
    for line in record.read_text(encoding="utf-8").splitlines():
        words = shlex.split(line)
        assert words[0] == "chown"
        assert words[-2] == "1000:1000"
        path = folder / words[-1]
        given |= {path, *path.rglob("*")} if "-R" in words else {path}
    return given
