"""The section [witnesses]: who vouches for the ledger, and which published copies there are.

Its keys are read as the other sections' are; two of them have readers of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from quietcount_schemas.configuration import readers, rules
from quietcount_schemas.configuration.readers import Reader, json_of, url
from quietcount_schemas.configuration.rows import Key, Section

__all__ = ["WITNESSES"]

_COSIGNATURE = 4
"""The kind of a key that signs with the time at which its owner looked (c2sp.org/tlog-cosignature)."""


def _copies(wanted: str) -> Reader:
    """Read a list of addresses of HTTP, as text, and of paths."""
    address = url()

    def read(value: object) -> tuple[str | Path, ...]:
        if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
            raise ValueError
        return tuple(str(address.read(each)) if "://" in each else Path(each) for each in value)

    return Reader(wanted, read, json_of)


def _witness_key() -> Reader:
    """Read the public key of a witness, as it tells it: name, id and key (c2sp.org/signed-note)."""

    def read(value: object) -> str:
        import hashlib
        from base64 import b64decode, b64encode

        if not isinstance(value, str):
            raise ValueError
        name, key_id, text = value.split("+", 2)
        key = b64decode(text, validate=True)  # its error is a ValueError
        known = len(key) == 33 and key[0] == _COSIGNATURE and b64encode(key).decode("ascii") == text
        if not known or not name or any(each.isspace() or each < " " for each in name):
            raise ValueError
        if hashlib.sha256(f"{name}\n".encode() + key).digest()[:4].hex() != key_id:
            raise ValueError
        return value

    return Reader("write the key that `quietcount witness init` printed, as NAME+ID+KEY", read)


WITNESSES: Final = Section(
    "witnesses",
    (
        Key(
            "require",
            readers.whole_number(),
            "how many of the witnesses have to sign the ledger before anything is drawn from it or published "
            "([witnessing](witnessing.md))",
            0,
        ),
        Key(
            "copies",
            _copies('write a list of addresses and paths, as ["https://example.org/statistics.head"]'),
            "published copies that the ledger is compared with before anything is drawn: statistics.duckdb, or "
            "the signed head beside it",
            [],
        ),
    ),
    (
        Section(
            "witness",
            (
                Key(
                    "key",
                    _witness_key(),
                    "the public key of one witness, as `quietcount witness init` printed it",
                    required=True,
                    service_alone=True,
                ),
                Key(
                    "url",
                    readers.url(),
                    "where it answers; without it, you exchange files",
                    default_text="none",
                ),
            ),
            repeated=True,
        ),
    ),
    rules=(rules.witnesses_are_as_many_as_required,),
)
