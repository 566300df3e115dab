"""Output: what a command writes as one text, into a file or to stdout."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from quietcount_consumers.errors import ConsumersError

__all__ = ["OutputUnwritten", "write_output"]


class OutputUnwritten(ConsumersError):
    """A text that cannot be written where it was to go."""


def write_output(output: Path, text: str) -> bool:
    """Write the text whole, or leave what was there; return whether it went into a file. `-` is the standard output."""
    if str(output) == "-":
        rest = memoryview(text.encode())
        while rest:  # a pipe takes a part, and says no error before the next one
            rest = rest[sys.stdout.buffer.write(rest) :]
        sys.stdout.flush()
        return False

    from quietcount_schemas.private_files import write_file

    place = output.resolve()  # a link stays, and what it leads to is replaced
    try:
        if place.exists() and not place.is_file():
            place.write_bytes(text.encode())  # a device or a pipe takes no other file's place
        else:
            write_file(place, text.encode(), replace=True)
    except OSError as error:
        raise OutputUnwritten(
            f"{output}: cannot be written ({os.strerror(error.errno or 0).lower()})",
            "Name another file with -o, or mend the rights of its folder",
        ) from None
    return True
