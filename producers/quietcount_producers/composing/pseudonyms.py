"""Case keys: a person's identifier goes in, sixteen bytes that mean nothing without the pepper come out.

The pepper is a secret of the emitters. Without it nobody can test whether a name is among the keys. With it anybody
can, so a file that others can read is refused.
"""

from __future__ import annotations

import hmac
import os
import secrets
import unicodedata
from collections.abc import Collection
from pathlib import Path
from typing import Final

from quietcount_producers.composing.identifiers import normal_identifier
from quietcount_producers.errors import EventRefused, ProducersError
from quietcount_schemas.events.oddity import Oddity
from quietcount_schemas.private_files import FileFault, FileTrouble, read_secret, write_secret

__all__ = ["Pepper", "record_name"]

_LEAST_BYTES: Final = 32
_LEAST_DISTINCT: Final = 8
_MOST_BYTES: Final = 4096
_EVENT_IDS: Final = b"\xffquietcount derived event ids, 1"
"""No UTF-8 text begins with 0xFF, so this can never be the identifier of a case."""
_CHECK: Final = "Check emitter.pepper_file"


class Pepper:
    """The emitters' secret of at least 256 bits. Its repr shows nothing of it, and it cannot be pickled."""

    __slots__ = ("_event_ids", "_secret")

    def __init__(self, secret: bytes) -> None:
        if len(secret) < _LEAST_BYTES:
            raise ProducersError(
                f"A pepper has at least {_LEAST_BYTES} bytes", "Let `Pepper.generate` or `quietcount init` make one"
            )
        self._secret = secret
        self._event_ids = hmac.digest(secret, _EVENT_IDS, "sha256")

    def __repr__(self) -> str:
        return "Pepper(<secret>)"

    def __reduce__(self) -> str:
        raise TypeError("a Pepper is not pickled: it would put the secret where nobody looks for it")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Pepper:
        """Read the pepper file at `path`, without the line end after it.

        Raises ProducersError if it is missing, too short, evidently not random, or open to group or others.
        """
        path = Path(path)
        content = read_secret(path, lambda fault: _refused(path, fault)).rstrip(b"\r\n")
        if len(content) > _MOST_BYTES:
            raise ProducersError(f"The pepper {path} is longer than {_MOST_BYTES} bytes", _CHECK)
        if len(content) < _LEAST_BYTES or len(set(content)) < _LEAST_DISTINCT:
            raise ProducersError(
                f"The pepper {path} is not a random secret of {_LEAST_BYTES} bytes or more, and one that can be "
                "guessed protects nobody",
                "Copy the one that `quietcount init` made and that your other emitters use",
            )
        return cls(content)

    @classmethod
    def generate(cls, path: str | os.PathLike[str]) -> Pepper:
        """Write a new random pepper to `path` (mode 0600) and return it; an existing file is never replaced."""
        path = Path(path)
        content = secrets.token_hex(_LEAST_BYTES).encode()
        try:
            write_secret(path, content + b"\n")
        except FileExistsError:
            raise ProducersError(
                f"There is a pepper at {path} already, and a new one would give every person a new case key",
                "Keep it; move it away only if nothing was emitted with it",
            ) from None
        except OSError as error:
            raise ProducersError(
                f"Cannot write the pepper {path}: {os.strerror(error.errno or 0).lower()}",
                "Check the folder and the disk",
            ) from error
        return cls(content)

    def case_key(self, identifier: str, allowed: Collection[Oddity] = ()) -> bytes:
        """Return the case key of `identifier`: the first 16 bytes of the HMAC-SHA256 of its normal form.

        Raises EventRefused for text that is no identifier, or hardly one and not of an `allowed` kind.
        """
        return hmac.digest(self._secret, normal_identifier(identifier, allowed).encode(), "sha256")[:16]

    def derived_event_id(self, canonical: bytes, occurrence: int) -> bytes:
        """Return the event id of the `occurrence`-th (from 0) event whose canonical form is `canonical`.

        It is a keyed hash with a key of its own, in the shape of a UUIDv4 (RFC 9562, section 5.4).
        """
        return self._event_id(occurrence.to_bytes(8, "big") + canonical)

    def record_event_id(self, event: str, record: object) -> bytes:
        """Return the event id of the event `event` that a tool's own record `record` (text) stands for.

        Raises EventRefused if `record` is empty or not text.
        """
        if not isinstance(record, str) or not record.strip():
            raise EventRefused("event_id", "is empty; give what the tool calls the record")
        try:
            name = record_name(record).encode()
        except UnicodeEncodeError:
            raise EventRefused("event_id", "is not valid text") from None
        # No occurrence is so large, so that this is never the message of a derived id.
        return self._event_id(b"\xff" * 8 + event.encode() + b"\0" + name)

    def _event_id(self, message: bytes) -> bytes:
        digest = bytearray(hmac.digest(self._event_ids, message, "sha256")[:16])
        digest[6] = digest[6] & 0x0F | 0x40
        digest[8] = digest[8] & 0x3F | 0x80
        return bytes(digest)


def record_name(record: str) -> str:
    """Return the form of what a tool calls a record that its event id is made of: NFC, without white space around."""
    return unicodedata.normalize("NFC", record).strip()


def _refused(path: Path, fault: FileFault) -> ProducersError:
    match fault.trouble:
        case FileTrouble.MISSING:
            return ProducersError(
                f"There is no pepper at {path}",
                "Copy the one that your other emitters use, or that `quietcount init` made: with another pepper the "
                "same person gets another case key. If it is lost permanently, do what docs/recovery.md says "
                "of the pepper",
            )
        case FileTrouble.OPEN:
            return ProducersError(
                f"The pepper {path} can be read by others, who can then test any name against the log", fault.remedy
            )
        case FileTrouble.NOT_PLAIN:
            return ProducersError(f"The pepper {path} is not a plain file", _CHECK)
        case _:
            return ProducersError(f"Cannot read the pepper {path}: {fault.what}", f"{_CHECK} and who owns the file")
