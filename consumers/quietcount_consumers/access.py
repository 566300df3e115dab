"""Access: who may read the metrics, and what TLS is spoken with; for the service and for the process that serves.

This module uses the standard library alone, because both processes load it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import ssl
from dataclasses import dataclass, field
from typing import Final

__all__ = ["QUEUE", "Credentials", "given", "server_context"]

QUEUE: Final = 128
"""How many connections wait in the system's queue until the process that serves takes them."""

# For TLS 1.2; of TLS 1.3 every cipher is as good.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password, kept as a digest under a random key; comparing takes the same time for any."""

    key: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @classmethod
    def of(cls, username: str, password: str) -> Credentials:
        """Return the credentials of `username` and `password`, under a key drawn now."""
        key = secrets.token_bytes(32)
        return cls(key, _digest(key, f"{username}:{password}".encode()))

    def accepts(self, text: bytes) -> bool:
        """Return whether `text` is "user:password" in UTF-8."""
        return hmac.compare_digest(self.digest, _digest(self.key, text))


def _digest(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, hashlib.sha256)


def given(authorization: bytes) -> bytes:
    """Return "user:password" of a header, b"" if it holds none (RFC 7617)."""
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        return base64.b64decode(token.strip(), validate=True)
    except binascii.Error:
        return b""


def server_context() -> ssl.SSLContext:
    """Return a context for a server, without a certificate: TLS 1.2 or newer, and HTTP/1.1 alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION  # a client could have the handshake computed again and again
    return context
