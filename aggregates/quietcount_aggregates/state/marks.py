"""Marks: the keyed hashes that stand for a case or an event in the private state.

The service's secret never leaves the service. So a stolen state and an old copy of the log are not enough to find out
whether a known case came. A mark is the AES-256-CMAC (NIST SP 800-38B; RFC 4493) of the 16-byte case key, or of
the case key and the event id: what is marked has one or two whole blocks, so that the marks of a batch take one or two
calls of the cipher over all of its blocks. A hash a record would cost the fold as much as all of its decoding.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from quietcount_aggregates.errors import StateError, StateUnwritable
from quietcount_schemas.private_files import FileFault, FileTrouble, make_private_folder, read_secret, write_secret

__all__ = ["MARK_BYTES", "ConsumerSecret", "YearSecrets"]

MARK_BYTES = 16
_SECRET_BYTES = 32


class ConsumerSecret:
    """The secret under which the state's marks are made. Its repr shows nothing of it."""

    def __init__(self, key: bytes) -> None:
        self._mac = _BulkMac(hashlib.sha256(b"quietcount marks\x00" + key).digest())
        self._check = hashlib.sha256(b"quietcount secret check\x00" + key).hexdigest()[:32]
        self._sums_key = hashlib.sha256(b"quietcount partial sums\x00" + key).digest()

    def __repr__(self) -> str:
        return "ConsumerSecret(**********)"

    @classmethod
    def generate(cls, path: Path) -> ConsumerSecret:
        """Make a secret file of mode 0600; an existing file is never overwritten."""
        _write_key(path)
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> ConsumerSecret:
        """Read the secret file; refuse one that others can read."""
        return cls(_read_key(path, "the service's secret", "secret"))

    @property
    def check(self) -> str:
        """Return a value that lets a state recognise the secret it was made with."""
        return self._check

    @property
    def sums_key(self) -> bytes:
        """Return the key under which a worker vouches for what it counted: 32 bytes."""
        return self._sums_key

    def case_marks(self, case_keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
        """Return the mark of each case key: (n, 16) bytes in, (n, 2) words (high, low) out."""
        return self._mac.of(case_keys)

    def event_marks(self, case_keys: npt.NDArray[np.uint8], event_ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
        """Return the mark of each event *within its case*: an event id that two cases share is two events."""
        return self._mac.of(case_keys, event_ids)


class YearSecrets:
    """One secret for each calendar year of a yearly horizon, destroyed when the year's last period is released.

    Once the secret is gone, not even an old copy of the state shows who used up the limit of that year.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"YearSecrets({self._folder})"

    def marks(self, year: int, case_marks: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """Return, for each case mark, its mark within `year`: (n, 2) words (high, low) in and out."""
        mac = _BulkMac(hashlib.sha256(b"quietcount year\x00" + self._key(year)).digest())
        return mac.of(case_marks.astype(">u8").view(np.uint8).reshape(-1, MARK_BYTES))

    def path(self, year: int) -> Path:
        """Return where the secret of `year` lies."""
        return self._folder / f"{year:04d}"

    def prepare(self) -> None:
        """Make the folder, whether or not there will ever be a secret in it.

        A new folder changes the one around it, which others may see. If it were made with the first secret, it would
        show that one was needed, and when. Raises StateUnwritable.
        """
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            make_private_folder(self._folder)
        except OSError as error:
            raise StateUnwritable(
                f"{self._folder}: must be a folder that can be written ({error.strerror})",
                "Check its rights and the disk",
            ) from None

    def create(self, year: int) -> None:
        """Make the secret of `year` unless there is one."""
        if self.path(year).exists():
            return
        self.prepare()
        _write_key(self.path(year))

    def check(self, year: int) -> str:
        """Return a value that lets a state recognise the secret of `year`, or nothing if there is no such secret."""
        if not self.path(year).exists():
            return ""
        return hashlib.sha256(b"quietcount year check\x00" + self._key(year)).hexdigest()[:32]

    def years(self) -> list[int]:
        """Return the years whose secret still exists. Raises StateUnwritable if the folder cannot be read."""
        try:
            return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdecimal())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StateUnwritable(
                f"{self._folder}: must be a folder that can be read ({error.strerror})", "Check its rights and the disk"
            ) from None

    def destroy(self, year: int) -> None:
        """Overwrite and remove the secret of `year`, unless it is gone. Raises StateUnwritable."""
        path = self.path(year)
        try:
            with path.open("r+b", buffering=0) as file:
                file.write(os.urandom(max(path.stat().st_size, _SECRET_BYTES)))
                os.fsync(file.fileno())
            path.unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            raise StateUnwritable(
                f"{path}: the year's secret cannot be destroyed ({error.strerror})",
                "Check the rights of the file and the disk, and run again",
            ) from None

    def _key(self, year: int) -> bytes:
        return _read_key(self.path(year), f"the secret of {year}", "year")


class _BulkMac:
    """AES-CMAC of many messages of one length at once."""

    def __init__(self, key: bytes) -> None:
        self._cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 (the bare block cipher CMAC is made of)
        # The subkey K1: the encrypted zero block, doubled in GF(2^128) (SP 800-38B, section 6.1).
        zero = int.from_bytes(self._encrypt(np.zeros((1, MARK_BYTES), np.uint8)).tobytes(), "big")
        doubled = (zero << 1) ^ (0x87 if zero >> 127 else 0)
        self._subkey = np.frombuffer((doubled & (2**128 - 1)).to_bytes(MARK_BYTES, "big"), np.uint8)

    def of(self, *blocks: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
        """Return the CMACs as (n, 2) words (high, low); `blocks` are the messages' blocks, (n, 16) bytes each."""
        chained = np.zeros(MARK_BYTES, np.uint8)
        for block in blocks[:-1]:
            chained = self._encrypt(chained ^ block)
        return self._encrypt(chained ^ blocks[-1] ^ self._subkey).view(">u8").astype(np.uint64)

    def _encrypt(self, blocks: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        encrypted = self._cipher.encryptor().update(np.ascontiguousarray(blocks).tobytes())
        return np.frombuffer(encrypted, dtype=np.uint8).reshape(-1, MARK_BYTES)


def _write_key(path: Path) -> None:
    """Write a new random key. Raises StateError, and StateUnwritable if the disk does not take it."""
    try:
        write_secret(path, secrets.token_bytes(_SECRET_BYTES).hex().encode() + b"\n")
    except FileExistsError:
        raise StateError(
            f"{path}: exists already and is not overwritten",
            "Keep it: what was made with it cannot be used with another. For a new project choose another folder",
        ) from None
    except OSError as error:
        raise StateUnwritable(
            f"{path}: cannot be written ({error.strerror})", "Check the folder and the disk"
        ) from None


def _read_key(path: Path, what: str, lost: str) -> bytes:
    """Return the key in a file; `what` names it in messages, `lost` for `record-loss --lost`. Raises StateError."""

    def refusal(fault: FileFault) -> StateError:
        remedy = fault.remedy
        if fault.trouble is FileTrouble.MISSING:
            remedy = (
                f"Restore it from a backup. If it is lost permanently, run: quietcount ledger record-loss --lost {lost}"
            )
        return StateError(f"{path}: {what} {_TROUBLES.get(fault.trouble, 'cannot be read')}", remedy)

    restore = "Restore it from a backup"
    try:
        key = bytes.fromhex(read_secret(path, refusal).strip().decode("ascii"))
    except ValueError:
        raise StateError(f"{path}: {what} is not a line of hexadecimal digits", restore) from None
    if len(key) < _SECRET_BYTES:
        raise StateError(f"{path}: {what} has fewer than {_SECRET_BYTES} bytes", restore)
    return key


_TROUBLES = {
    FileTrouble.MISSING: "is missing",
    FileTrouble.NOT_PLAIN: "is not a plain file",
    FileTrouble.OPEN: "can be read by others",
}
