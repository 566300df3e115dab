"""Tokens: who may deliver to a path, kept as digests under a random key; comparing takes the same time for any."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Final

__all__ = ["LEAST", "Tokens", "given"]

LEAST: Final = 32
"""Characters of a token: nobody guesses 32 random ones, and no password that somebody remembers is so long."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens that open one path. Without any, `accepts` takes as long as with one, and is false."""

    key: bytes = field(repr=False)
    digests: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def of(cls, *tokens: str) -> Tokens:
        """Return the tokens as digests under a key drawn now."""
        key = secrets.token_bytes(32)
        return cls(key, tuple(_digest(key, token.encode()) for token in tokens))

    def accepts(self, token: bytes) -> bool:
        """Return whether `token` is one of them."""
        found = _digest(self.key, token)
        fits = False
        for digest in self.digests or (b"\0" * len(found),):
            fits |= hmac.compare_digest(digest, found)
        return fits and bool(self.digests)


def _digest(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, hashlib.sha256)


def given(authorization: bytes) -> bytes:
    """Return the token in a header Authorization: of Bearer, or the password of Basic; b"" if it holds none."""
    scheme, _, rest = authorization.partition(b" ")
    match scheme.lower():
        case b"bearer":
            return rest.strip()
        case b"basic":
            try:
                return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
            except binascii.Error:
                return b""
        case _:
            return b""
