"""Run a command under the system call filter and the memory rule of the unit, where there is no systemd to do it.

python confined.py UNIT COMMAND...: the groups of the unit's SystemCallFilter are asked of systemd-analyze.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import struct
import subprocess
import sys
from pathlib import Path

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_SET_MDWE = 22, 38, 65
ALLOW, REFUSE = 0x7FFF0000, 0x00050001  # with EPERM, as the unit says
NUMBERS = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")


def possible() -> bool:
    """Return whether this machine has what confining needs."""
    return platform.machine() == "x86_64" and NUMBERS.exists()


def group(name: str) -> set[str]:
    """Return the system calls of a group such as @system-service."""
    listed = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    found: set[str] = set()
    for line in listed.stdout.splitlines()[1:]:
        call = line.strip()
        if call and not call.startswith("#"):
            found |= group(call) if call.startswith("@") else {call}
    return found


def allowed(unit: str) -> set[str]:
    """Return the system calls that the unit allows."""
    calls = group("@default")
    for line in re.findall(r"^SystemCallFilter=(.*)$", unit, re.MULTILINE):
        refused = line.startswith("~")
        for name in line.removeprefix("~").split():
            calls = calls - group(name) if refused else calls | group(name)
    return calls


def confine(unit: str) -> None:
    """Let this process do what the unit allows, and no more, for good."""
    numbers = {name: int(value) for name, value in re.findall(r"#define __NR_(\w+) (\d+)", NUMBERS.read_text())}
    program = [struct.pack("HBBI", 0x20, 0, 0, 0)]  # load the call's number
    for call in sorted(allowed(unit) & set(numbers)):
        program += [struct.pack("HBBI", 0x15, 0, 1, numbers[call]), struct.pack("HBBI", 0x06, 0, 0, ALLOW)]
    program.append(struct.pack("HBBI", 0x06, 0, 0, REFUSE))
    code = ctypes.create_string_buffer(b"".join(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    libc = ctypes.CDLL(None, use_errno=True)
    given = Program(len(program), ctypes.addressof(code))
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_MDWE, 1, 0, 0, 0),
        (PR_SET_SECCOMP, 2, ctypes.byref(given), 0, 0),
    ):
        # A kernel before 6.3 does not know the memory rule.
        if libc.prctl(*arguments) != 0 and arguments[0] != PR_SET_MDWE:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    confine(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 (what is confined is what the test says)
