"""Signed notes: a text, and under it a line from each key that vouches for it.

The format is c2sp.org/signed-note, with its Ed25519 signatures (type 0x01); a witness signs with the time at which it
looked (type 0x04, cosignature/v1 of c2sp.org/tlog-cosignature). So other programs read what is signed here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from quietcount_aggregates.errors import KeyMissing, LedgerUnwritable, NoteError, SigningKeyError
from quietcount_schemas.private_files import FileFault, FileTrouble, read_secret, write_secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = [
    "COSIGNATURE",
    "ED25519",
    "Signature",
    "SignedNote",
    "SigningKey",
    "Verification",
    "VerifierKey",
    "cosign",
    "sign",
]

ED25519: Final = 0x01
"""The kind of a key that signs the text itself."""

COSIGNATURE: Final = 0x04
"""The kind of a key that signs the text and the time at which a witness saw it."""

_MOST_SIGNATURES: Final = 64
_MOST_BYTES: Final = 1 << 19
"""Sixty-four signatures that withstand quantum computers, of nearly 5 kB each, fit in."""

_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_TIME_BYTES: Final = 8
_LATEST: Final = 2**63 - 1

_ANOTHER_COPY: Final = "Get the note again from those who signed it, and change nothing in it"
_GIVEN_KEY: Final = "Copy the whole key, as its owner gave it to you"


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with the name of its owner. `kind` is ED25519 or COSIGNATURE, `public` 32 bytes (RFC 8032).

    Raises NoteError for what cannot be a key.
    """

    name: str
    kind: int
    public: bytes

    def __post_init__(self) -> None:
        """Refuse what no note can carry."""
        _check_name(self.name, _GIVEN_KEY)
        if self.kind not in (ED25519, COSIGNATURE):
            raise NoteError("the key is of a kind that quietcount does not know", "Use an Ed25519 key")
        if len(self.public) != _KEY_BYTES:
            raise NoteError(f"the public key does not have {_KEY_BYTES} bytes", _GIVEN_KEY)

    @property
    def key_id(self) -> bytes:
        """Return the four bytes by which a signature names its key."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    @property
    def text(self) -> str:
        """Return the key as one line of text, to be handed on: `NAME+ID+KEY`."""
        return f"{self.name}+{self.key_id.hex()}+{_encoded(bytes([self.kind]) + self.public)}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Return the key that a text is exactly. Raises NoteError."""
        parts = text.split("+", 2)
        if len(parts) != 3:
            raise NoteError("a verifier key has three parts, joined by plus signs: name, id and key", _GIVEN_KEY)
        material = _decoded(parts[2])
        if not material:
            raise NoteError("the last part of the verifier key is not base64", _GIVEN_KEY)
        key = cls(parts[0], material[0], material[1:])
        if key.text != text:
            raise NoteError("the id in the verifier key is not that of its name and its key", _GIVEN_KEY)
        return key


@dataclass(frozen=True, slots=True)
class Signature:
    """One line under a note: who signed, with which key, and what the signature is (other kinds than ours too)."""

    name: str
    key_id: bytes
    content: bytes

    def __post_init__(self) -> None:
        """Refuse what no note can carry."""
        _check_name(self.name, _ANOTHER_COPY)
        if len(self.key_id) != 4 or not self.content:
            raise NoteError("a signature has the four bytes of its key's id and at least one more", _ANOTHER_COPY)

    @property
    def line(self) -> str:
        """Return the line, with its end."""
        return f"— {self.name} {_encoded(self.key_id + self.content)}\n"

    @classmethod
    def parse(cls, line: str) -> Signature:
        """Return the signature that a line is, read without its end. Raises NoteError."""
        dash, _, rest = line.partition(" ")
        name, _, content = rest.partition(" ")
        decoded = _decoded(content)
        if dash != "—" or decoded is None:
            raise NoteError("a line under the note is not a signature: dash, name, base64", _ANOTHER_COPY)
        return cls(name, decoded[:4], decoded[4:])


@dataclass(frozen=True, slots=True)
class Verification:
    """A signature that holds. `timestamp` is when a witness signed, in seconds since 1970; None for an owner's key."""

    key: VerifierKey
    timestamp: int | None = None


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A text that ends with its last line's end, and the signatures under it. Trust none of it before `verified`."""

    text: str
    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        """Refuse what would not be read back as it is."""
        if not self.text.endswith("\n") or any(each < " " and each != "\n" for each in self.text):
            raise NoteError(
                "the text of a note ends with a line end, and has no other control characters", _ANOTHER_COPY
            )
        if not 1 <= len(self.signatures) <= _MOST_SIGNATURES:
            raise NoteError(f"a note carries 1 to {_MOST_SIGNATURES} signatures", _ANOTHER_COPY)

    @property
    def data(self) -> str:
        """Return the whole note, as it is handed on."""
        return f"{self.text}\n{''.join(each.line for each in self.signatures)}"

    @classmethod
    def parse(cls, data: bytes | str) -> SignedNote:
        """Return the note that some bytes are exactly; nothing is verified yet. Raises NoteError."""
        try:
            raw = data.encode() if isinstance(data, str) else data
            text = raw.decode() if len(raw) <= _MOST_BYTES else ""
        except UnicodeError:
            raise NoteError("the note is not text in UTF-8", _ANOTHER_COPY) from None
        if len(raw) > _MOST_BYTES:
            raise NoteError(f"the note has more than {_MOST_BYTES:,} bytes", _ANOTHER_COPY)
        body, blank, lines = text.rpartition("\n\n")
        if not blank or not lines.endswith("\n"):
            raise NoteError("the note is not a text, an empty line and lines with signatures", _ANOTHER_COPY)
        signatures = lines[:-1].split("\n")
        if len(signatures) > _MOST_SIGNATURES:
            raise NoteError(f"a note carries 1 to {_MOST_SIGNATURES} signatures", _ANOTHER_COPY)
        return cls(f"{body}\n", tuple(Signature.parse(line) for line in signatures))

    def verified(self, key: VerifierKey) -> Verification | None:
        """Return what `key` vouches for; None if it did not sign. Signatures of other keys are not looked at.

        Raises NoteError if a signature names this key and does not hold: the note was altered or forged then. Of
        several cosignatures by one key, the latest counts.
        """
        held = [Verification(key, _checked(self.text, key, each.content)) for each in self.signed_by(key)]
        return max(held, key=lambda each: each.timestamp or 0, default=None)

    def signed_by(self, key: VerifierKey) -> tuple[Signature, ...]:
        """Return the signatures that name `key`; whether they hold, `verified` says."""
        return tuple(each for each in self.signatures if (each.name, each.key_id) == (key.name, key.key_id))

    def with_signatures(self, *signatures: Signature) -> SignedNote:
        """Return the note with these signatures under it, too; one that it carries already is not added again."""
        more = dict.fromkeys(each for each in signatures if each not in self.signatures)
        return SignedNote(self.text, (*self.signatures, *more))


class SigningKey:
    """An Ed25519 private key. Its repr shows nothing of it; `place` says in messages where it was read.

    Its file (mode 0600) is an unencrypted PKCS #8 PEM, which OpenSSL reads too.
    """

    def __init__(self, key: Ed25519PrivateKey, place: str = "the signing key") -> None:
        self._key = key
        self.place = place

    def __repr__(self) -> str:
        return "SigningKey(**********)"

    @classmethod
    def generate(cls, path: Path, *, replace: bool = False) -> SigningKey:
        """Make a key and write its file; an existing one is kept unless `replace`.

        Raises SigningKeyError, and LedgerUnwritable if the disk does not take it.
        """
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        content = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            write_secret(path, content, replace=replace)
        except FileExistsError:
            raise SigningKeyError(
                f"{path}: exists already and is not overwritten", "Keep it: what it signed can be checked with no other"
            ) from None
        except OSError as error:
            raise LedgerUnwritable(
                f"{path}: cannot be written ({error.strerror})", "Check the folder and the disk"
            ) from None
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Read a key's file. Raises KeyMissing, and SigningKeyError for one that others can read or that is no key."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        def refusal(fault: FileFault) -> SigningKeyError:
            if fault.trouble is FileTrouble.MISSING:
                return KeyMissing(f"{path}: the signing key is missing", "Restore it from a backup")
            return SigningKeyError(fault.what, fault.remedy)

        content = read_secret(path, refusal)
        try:
            key = load_pem_private_key(content, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise SigningKeyError(f"{path}: is not an Ed25519 signing key", "Restore it from a backup")
        return cls(key, str(path))

    @property
    def public(self) -> bytes:
        """Return the public key: 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        """Return the signature of `data`: 64 bytes, the same ones each time."""
        return self._key.sign(data)


def sign(text: str, key: SigningKey, name: str) -> SignedNote:
    """Return a note with one signature, by its owner. Raises NoteError for a text or name that no note can carry."""
    key_id = VerifierKey(name, ED25519, key.public).key_id
    return SignedNote(text, (Signature(name, key_id, key.sign(text.encode())),))


def cosign(note: SignedNote, key: SigningKey, name: str, timestamp: int) -> Signature:
    """Return a witness's signature for a note that it looked at; `timestamp` is in seconds since 1970.

    Add it with `note.with_signatures`. Whether the note says something new and consistent is the witness's to check.
    """
    if not 0 <= timestamp <= _LATEST:
        raise NoteError("the time of a cosignature is a number of seconds since 1970", "Set the clock")
    key_id = VerifierKey(name, COSIGNATURE, key.public).key_id
    content = timestamp.to_bytes(_TIME_BYTES, "big") + key.sign(_cosigned(note.text, timestamp))
    return Signature(name, key_id, content)


def _checked(text: str, key: VerifierKey, content: bytes) -> int | None:
    """Return the timestamp of a signature that holds. Raises NoteError."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    timestamp, signed, before = None, text.encode(), 0
    if key.kind == COSIGNATURE:
        before = _TIME_BYTES
        timestamp = int.from_bytes(content[:before], "big")
        signed = _cosigned(text, timestamp)
    try:
        if len(content) != before + _SIGNATURE_BYTES or (timestamp or 0) > _LATEST:
            raise InvalidSignature
        Ed25519PublicKey.from_public_bytes(key.public).verify(content[before:], signed)
    except (InvalidSignature, ValueError):
        raise NoteError(
            f"the signature of {key.name} does not hold: the note was altered, or somebody else signed it",
            _ANOTHER_COPY,
        ) from None
    return timestamp


def _cosigned(text: str, timestamp: int) -> bytes:
    """Return what a witness signs."""
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def _check_name(name: str, remedy: str) -> None:
    if not name or "+" in name or any(each.isspace() or each < " " for each in name):
        raise NoteError("the name of a key is not empty, and has no spaces and no plus sign", remedy)


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _decoded(text: str) -> bytes | None:
    """Return what canonical base64 stands for; None for anything else."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return content if _encoded(content) == text else None
