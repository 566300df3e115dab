"""Marks: the keyed hashes that stand for a case or an event in the private state.

The consumer's secret never leaves the consumer, so that neither a stolen state nor an old copy of the log is enough
to tell whether a known case came. A mark is BLAKE2b in its keyed mode (RFC 7693), cut to 16 bytes.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import StateError

__all__ = ["MARK_BYTES", "ConsumerSecret", "YearSecrets"]

MARK_BYTES = 16
_SECRET_BYTES = 32


class ConsumerSecret:
    """The secret under which the state's marks are made. Its repr shows nothing of it."""

    def __init__(self, key: bytes) -> None:
        if len(key) < _SECRET_BYTES:
            raise StateError(f"the consumer's secret has fewer than {_SECRET_BYTES} bytes; make a new one")
        self._case = hashlib.blake2b(key=key[:64], digest_size=MARK_BYTES, person=b"case")
        self._event = hashlib.blake2b(key=key[:64], digest_size=MARK_BYTES, person=b"event")
        self._check = hashlib.blake2b(key=key[:64], digest_size=MARK_BYTES, person=b"check").hexdigest()

    def __repr__(self) -> str:
        return "ConsumerSecret(**********)"

    @classmethod
    def generate(cls, path: Path) -> ConsumerSecret:
        """Make a secret file of mode 0600; an existing file is never overwritten."""
        _write_private(path, secrets.token_bytes(_SECRET_BYTES).hex().encode() + b"\n")
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> ConsumerSecret:
        """Read the secret file; refuse one that others can read."""
        return cls(_read_private(path, "the consumer's secret"))

    @property
    def check(self) -> str:
        """Return a value by which a state recognises the secret it was made with."""
        return self._check

    def case_marks(self, case_keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
        """Return the mark of each case key: (n, 16) bytes in, (n, 2) words (high, low) out."""
        return _marks(self._case, _rows(case_keys))

    def event_marks(self, case_keys: npt.NDArray[np.uint8], event_ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
        """Return the mark of each event *within its case*: an event id that two cases share is two events."""
        return _marks(self._event, _rows(np.concatenate([case_keys, event_ids], axis=1)))


class YearSecrets:
    """One secret for each calendar year of a yearly horizon, destroyed when the year's last period is released.

    With the secret gone, not even an old copy of the state says who used up a year's limit.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"YearSecrets({self._folder})"

    def marks(self, year: int, case_marks: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """Return, for each case mark, its mark within `year`: (n, 2) words (high, low) in and out."""
        base = hashlib.blake2b(key=self._key(year), digest_size=MARK_BYTES, person=b"year")
        return _marks(base, _rows(case_marks.astype(">u8").view(np.uint8).reshape(-1, MARK_BYTES)))

    def years(self) -> list[int]:
        """Return the years whose secret still exists."""
        if not self._folder.is_dir():
            return []
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdecimal())

    def destroy(self, year: int) -> None:
        """Overwrite and remove the secret of `year`; do nothing if it is gone."""
        path = self._folder / f"{year:04d}"
        try:
            with path.open("r+b", buffering=0) as file:
                file.write(os.urandom(max(path.stat().st_size, _SECRET_BYTES)))
                os.fsync(file.fileno())
            path.unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            raise StateError(
                f"{path}: the year's secret cannot be destroyed ({error.strerror}); mend that and run again"
            ) from None

    def _key(self, year: int) -> bytes:
        path = self._folder / f"{year:04d}"
        if not path.exists():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_private(path, secrets.token_bytes(_SECRET_BYTES).hex().encode() + b"\n")
        return _read_private(path, f"the secret of {year}")


def _marks(base: hashlib.blake2b, rows: list[bytes]) -> npt.NDArray[np.uint64]:
    copy = base.copy
    digests: list[bytes] = []
    append = digests.append
    for row in rows:
        hashed = copy()
        hashed.update(row)
        append(hashed.digest())
    words = np.frombuffer(b"".join(digests), dtype=">u8").reshape(-1, 2)
    return words.astype(np.uint64)


def _rows(matrix: npt.NDArray[np.uint8]) -> list[bytes]:
    """Return each row of a (n, w) byte matrix as bytes of length w."""
    width = matrix.shape[1]
    data = matrix.tobytes()
    return [data[start : start + width] for start in range(0, len(data), width)]


def _write_private(path: Path, content: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise StateError(
            f"{path}: exists already and is not overwritten; remove it only if nothing depends on it"
        ) from None
    except OSError as error:
        raise StateError(f"{path}: cannot be written ({error.strerror}); check the folder and the disk") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read_private(path: Path, what: str) -> bytes:
    try:
        mode = path.stat().st_mode
        text = path.read_bytes().strip()
    except FileNotFoundError:
        raise StateError(f"{path}: {what} is missing; restore it, or run `quietcount init` for a new project") from None
    except OSError as error:
        raise StateError(f"{path}: {what} cannot be read ({error.strerror})") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise StateError(f"{path}: {what} can be read by others; run: chmod 600 {path}")
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        raise StateError(f"{path}: {what} is not a line of hexadecimal digits; restore it") from None
