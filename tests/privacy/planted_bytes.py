"""Bytes that were planted: the guises in which a value could lie in a file, the search for them, watched folders."""

from __future__ import annotations

import base64
import ctypes
import os
import struct
import uuid
from collections.abc import Iterable
from pathlib import Path

import numpy as np

__all__ = ["WatchedFolder", "found", "guises"]

_SHORTEST = 8
_IN_CREATE, _IN_MOVED_TO = 0x100, 0x80
_HEAD = struct.Struct("iIII")


def guises(value: bytes) -> list[bytes]:
    """Return how a value of 16 bytes or a text could be written: raw, in hex, in base64, as a UUID, as an integer."""
    found = [value, value[::-1], value.hex().encode(), value.hex().upper().encode()]
    found += [base64.b64encode(value).rstrip(b"="), base64.urlsafe_b64encode(value).rstrip(b"=")]
    found.append(value.decode("latin-1").encode("utf-16-le"))
    if len(value) == 16:
        high, low = value[:8], value[8:]
        # DuckDB writes an integer of 128 bits with its low word first, each word little-endian.
        found += [str(uuid.UUID(bytes=value)).encode(), low[::-1] + high[::-1], low + high, high[::-1] + low[::-1]]
        found.append(str(int.from_bytes(value, "big")).encode())
    return list(dict.fromkeys(found))


def found(folder: Path, needles: Iterable[bytes]) -> dict[str, int]:
    """Return how many of the needles (8 bytes or longer) each file holds, files without any left out."""
    wanted: dict[bytes, list[bytes]] = {}
    for needle in needles:
        assert len(needle) >= _SHORTEST
        wanted.setdefault(needle[:_SHORTEST], []).append(needle)
    beginnings = np.sort(np.frombuffer(b"".join(wanted), dtype=np.uint64))
    counts = {}
    for path in sorted(folder.rglob("*")):
        data = path.read_bytes() if path.is_file() else b""
        hits = 0
        for shift in range(_SHORTEST):
            words = np.frombuffer(data[shift : shift + (len(data) - shift) // 8 * 8], dtype=np.uint64)
            near = beginnings[np.searchsorted(beginnings, words).clip(max=len(beginnings) - 1)]
            for place in np.flatnonzero(near == words).tolist():
                start = shift + _SHORTEST * place
                hits += sum(data.startswith(each, start) for each in wanted[data[start : start + _SHORTEST]])
        if hits:
            counts[path.name] = hits
    return counts


class WatchedFolder:
    """A folder of which every file that is made in it is noticed, however soon it is deleted again: inotify(7)."""

    def __init__(self, folder: Path) -> None:
        system = ctypes.CDLL(None, use_errno=True)
        self._notices = system.inotify_init1(os.O_NONBLOCK)
        if (
            self._notices < 0
            or system.inotify_add_watch(self._notices, os.fsencode(folder), _IN_CREATE | _IN_MOVED_TO) < 0
        ):
            raise OSError(ctypes.get_errno(), "inotify")

    @property
    def made(self) -> list[str]:
        """Return the names of what was made since this was last asked."""
        try:
            data = os.read(self._notices, 1 << 20)
        except BlockingIOError:
            return []
        names, at = [], 0
        while at < len(data):
            *_, length = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            names.append(data[at : at + length].rstrip(b"\0").decode())
            at += length
        return names

    def close(self) -> None:
        os.close(self._notices)
