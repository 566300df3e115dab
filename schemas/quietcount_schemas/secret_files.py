"""Files that the configuration names: read whole, and where they are secrets, refused when others can read them too."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["FileFault", "private_bytes", "readable", "secret_text"]

_MOST_BYTES: Final = 1 << 20  # a bundle of every authority of a system is a quarter of it

FileFault = Callable[[str], Exception]
"""Makes the error to raise of a sentence that says what is wrong with the file."""


def readable(path: Path, fault: FileFault) -> tuple[bytes, int]:
    """Return the bytes of the plain file at `path` (the first mebibyte) and its mode. Raises what `fault` makes."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise fault(f"{path} is not a plain file.")
            return file.read(_MOST_BYTES), stat.S_IMODE(status.st_mode)
    except FileNotFoundError:
        raise fault(f"there is no file {path}.") from None
    except OSError as error:
        raise fault(f"cannot read {path}: {os.strerror(error.errno or 0).lower()}.") from None


def private_bytes(path: Path, fault: FileFault) -> bytes:
    """Return the bytes of a secret's file, which nobody but its owner may read. Raises what `fault` makes."""
    content, mode = readable(path, fault)
    if mode & 0o077:
        raise fault(f"{path} is a secret and can be read by others. Run: chmod 600 {path}")
    return content


def secret_text(path: Path, fault: FileFault) -> str:
    """Return the password in the file at `path`; a line end after it is no part of it.

    Raises what `fault` makes when the file is missing, empty, no text in UTF-8, or open to group or others.
    """
    content = private_bytes(path, fault)
    try:
        text = content.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise fault(f"{path} is not text in UTF-8.") from None
    if not text:
        raise fault(f"{path} is empty; write the password into it.")
    return text
