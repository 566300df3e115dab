"""Case keys: a person's identifier goes in, sixteen bytes that mean nothing without the pepper come out.

The pepper is a secret of the emitters. Without it nobody can test whether a name is among the keys; with it anybody
can, which is why a file that others can read is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import unicodedata
from pathlib import Path
from typing import Final

from quietcount_producers.errors import EventRefused, ProducersError

__all__ = ["Pepper"]

_LEAST_BYTES: Final = 32
_LEAST_DISTINCT: Final = 8
_MOST_BYTES: Final = 4096
# 0xFF begins no UTF-8 text, so this can never be the identifier of a case.
_EVENT_IDS: Final = b"\xffquietcount derived event ids, 1"


class Pepper:
    """The emitters' secret of at least 256 bits. Its repr shows nothing of it, and it cannot be pickled."""

    __slots__ = ("_event_ids", "_secret")

    def __init__(self, secret: bytes) -> None:
        if len(secret) < _LEAST_BYTES:
            raise ProducersError(
                f"A pepper has at least {_LEAST_BYTES} bytes. Let `Pepper.generate` or `quietcount init` make one."
            )
        self._secret = secret
        self._event_ids = hmac.digest(secret, _EVENT_IDS, hashlib.sha256)

    def __repr__(self) -> str:
        return "Pepper(<secret>)"

    def __reduce__(self) -> str:
        raise TypeError("a Pepper is not pickled: it would put the secret where nobody looks for it")

    @classmethod
    def load(cls, path: Path) -> Pepper:
        """Read the pepper file at `path`; a line end after it is not part of it.

        Raises ProducersError when it is missing, too short, evidently not random, or open to group or others.
        """
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise ProducersError(f"The pepper {path} is not a plain file. Check emitter.pepper_file.")
                if stat.S_IMODE(status.st_mode) & 0o077:
                    raise ProducersError(
                        f"The pepper {path} can be read by others: whoever has it can test any name against the log. "
                        f"Run: chmod 600 {path}"
                    )
                content = file.read(_MOST_BYTES + 1).rstrip(b"\r\n")
        except FileNotFoundError:
            raise ProducersError(
                f"There is no pepper at {path}. `quietcount init` makes the first one; on an emitter copy the one that "
                "it made and that your other emitters use: with another pepper the same person gets another case key."
            ) from None
        except OSError as error:
            raise ProducersError(
                f"Cannot read the pepper {path}: {os.strerror(error.errno or 0).lower()}. "
                "Check emitter.pepper_file and who owns the file."
            ) from error
        if len(content) > _MOST_BYTES:
            raise ProducersError(f"The pepper {path} is longer than {_MOST_BYTES} bytes. Check emitter.pepper_file.")
        if len(content) < _LEAST_BYTES or len(set(content)) < _LEAST_DISTINCT:
            raise ProducersError(
                f"The pepper {path} is not a random secret of {_LEAST_BYTES} bytes or more, and one that can be "
                "guessed protects nobody. Copy the one that `quietcount init` made and that your other emitters use."
            )
        return cls(content)

    @classmethod
    def generate(cls, path: Path) -> Pepper:
        """Write a new random pepper to `path` (mode 0600) and return it; an existing file is never replaced."""
        content = secrets.token_hex(_LEAST_BYTES).encode()
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise ProducersError(
                f"There is a pepper at {path} already, and a new one would give every person a new case key. "
                "Keep it; move it away only if nothing was emitted with it."
            ) from None
        except OSError as error:
            raise ProducersError(
                f"Cannot write the pepper {path}: {os.strerror(error.errno or 0).lower()}. Check the folder."
            ) from error
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask
            file.write(content + b"\n")
            file.flush()
            os.fsync(descriptor)
        return cls(content)

    def case_key(self, identifier: str) -> bytes:
        """Return the 16-byte case key of `identifier`: HMAC-SHA256 of its NFC form without outer spaces, cut short.

        Raises EventRefused when nothing is left of it or it is not text.
        """
        return hmac.digest(self._secret, normal_identifier(identifier).encode(), hashlib.sha256)[:16]

    def derived_event_id(self, canonical: bytes, occurrence: int) -> bytes:
        """Return the event id of the `occurrence`-th (from 0) event whose canonical form is `canonical`.

        It is a keyed hash under a key of its own, in the shape of a UUIDv4 (RFC 9562, section 5.4).
        """
        message = occurrence.to_bytes(8, "big") + canonical
        digest = bytearray(hmac.digest(self._event_ids, message, hashlib.sha256)[:16])
        digest[6] = digest[6] & 0x0F | 0x40
        digest[8] = digest[8] & 0x3F | 0x80
        return bytes(digest)


def normal_identifier(identifier: str) -> str:
    """Return the form of `identifier` that is hashed. Raises EventRefused."""
    normal = unicodedata.normalize("NFC", identifier).strip()
    if not normal:
        raise EventRefused("case", "is empty; give the identifier of the case")
    try:
        normal.encode()
    except UnicodeEncodeError:
        raise EventRefused("case", "is not valid text") from None
    return normal
