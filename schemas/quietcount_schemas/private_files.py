"""Private files and folders: how a secret is read and written, and how a change is made durable.

A file that holds a secret has mode 0600 and a private folder 0700. A secret that others can read is refused, because
somebody may have read it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

__all__ = [
    "FileFault",
    "FileTrouble",
    "make_private_folder",
    "read_file",
    "read_password",
    "read_secret",
    "sync_folder",
    "write_file",
    "write_secret",
]

_MOST_BYTES: Final = 1 << 20
"""A bundle of all the authorities of a system has a quarter of this."""

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_SECRET: Final = 0o600
_FOLDER: Final = 0o700
_PLAIN: Final = 0o666
"""What is not secret gets the rights that the umask leaves."""


class FileTrouble(StrEnum):
    """Why a file cannot be used."""

    MISSING = "missing"
    NOT_PLAIN = "not_plain"
    UNREADABLE = "unreadable"
    OPEN = "open"
    """It is a secret, and others may read or write it."""
    EMPTY = "empty"
    NOT_TEXT = "not_text"


@dataclass(frozen=True, slots=True)
class FileFault:
    """What is wrong with a file, and what to do about it, as a QuietcountError has them."""

    trouble: FileTrouble
    what: str
    remedy: str


Refusal = Callable[[FileFault], Exception]
"""Makes the error to raise for a fault: the caller knows which key names the file, and who needs it."""


def read_file(path: Path, refusal: Refusal) -> bytes:
    """Return the bytes of the plain file at `path` (the first mebibyte). Raises what `refusal` makes."""
    return _read(path, refusal)[0]


def read_secret(path: Path, refusal: Refusal) -> bytes:
    """Return the bytes of a file that only its owner may read. Raises what `refusal` makes."""
    content, mode = _read(path, refusal)
    if mode & _OTHERS:
        what = f"{path} is a secret and can be read by others"
        raise refusal(FileFault(FileTrouble.OPEN, what, f"Run: chmod 600 {path}"))
    return content


def read_password(path: Path, refusal: Refusal) -> str:
    """Return the password in the secret file at `path`, without the line end after it.

    Raises what `refusal` makes, also if the file is empty or not text in UTF-8.
    """
    content = read_secret(path, refusal)
    try:
        text = content.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        fault = FileFault(FileTrouble.NOT_TEXT, f"{path} is not text in UTF-8", "Save the password as UTF-8")
        raise refusal(fault) from None
    if not text:
        raise refusal(FileFault(FileTrouble.EMPTY, f"{path} is empty", "Write the password into it"))
    return text


def _read(path: Path, refusal: Refusal) -> tuple[bytes, int]:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                fault = FileFault(FileTrouble.NOT_PLAIN, f"{path} is not a plain file", "Put a file in its place")
                raise refusal(fault)
            return file.read(_MOST_BYTES), stat.S_IMODE(status.st_mode)
    except FileNotFoundError:
        what = f"there is no file {path}"
        raise refusal(FileFault(FileTrouble.MISSING, what, "Put it there, or name another file")) from None
    except OSError as error:
        what = f"cannot read {path} ({os.strerror(error.errno or 0).lower()})"
        raise refusal(FileFault(FileTrouble.UNREADABLE, what, "Check the rights of the file and its folder")) from None


def _without_waiting(path: str, flags: int) -> int:
    # Otherwise a pipe at this path would keep us waiting for somebody who writes to it.
    return os.open(path, flags | os.O_NONBLOCK)


def write_secret(path: Path, content: bytes, *, replace: bool = False) -> None:
    """Write a file of mode 0600 durably, whole or not at all.

    Raises FileExistsError if there is a file and `replace` is false, and OSError if it cannot be written.
    """
    _write(path, content, _SECRET, replace=replace)


def write_file(path: Path, content: bytes, *, replace: bool = False) -> None:
    """Write a file that is not secret, with the rights that the umask leaves; otherwise as `write_secret`."""
    _write(path, content, _PLAIN, replace=replace)


def _write(path: Path, content: bytes, mode: int, *, replace: bool) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        draft.unlink(missing_ok=True)  # of a process that had the same number and was killed
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            if mode == _SECRET:
                os.fchmod(descriptor, mode)  # even if the umask took something away
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        if replace:
            draft.replace(path)
        else:
            os.link(draft, path)  # unlike a rename, this never replaces a file
    finally:
        draft.unlink(missing_ok=True)
    try:
        sync_folder(path.parent)
    except OSError:
        if not replace:
            path.unlink()  # not at all: the next attempt must not find a file that nobody has a name for
        raise


def make_private_folder(path: Path) -> None:
    """Make the folder `path` unless it is there, and close it to others. Raises OSError."""
    path.mkdir(mode=_FOLDER, exist_ok=True)
    if stat.S_IMODE(path.stat().st_mode) & 0o777 != _FOLDER:  # it was there, or the umask took rights away
        path.chmod(_FOLDER)


def sync_folder(path: Path) -> None:
    """Make new, replaced and removed names in the folder `path` survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
