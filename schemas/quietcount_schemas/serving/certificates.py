"""Certificates: how a server of ours reads its certificate and its key, and what is said if they are not in order."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from quietcount_schemas.private_files import Refusal, read_file, read_secret

__all__ = ["load_certificate"]

Refused = Callable[[str, str, str], Exception]
"""Makes the error to raise of the key of the configuration that names the file, what is wrong, and what to do."""


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path, refused: Refused) -> None:
    """Load the files of the keys certificate_file and key_file into `context`. Raises what `refused` makes."""

    def refusal(name: str) -> Refusal:
        return lambda fault: refused(name, fault.what, fault.remedy)

    read_file(certificate, refusal("certificate_file"))
    read_secret(key, refusal("key_file"))
    asked = False

    def password() -> str:
        # Without a callback OpenSSL would ask at the terminal, and a service would wait there for ever.
        nonlocal asked
        asked = True
        return ""

    try:
        context.load_cert_chain(certificate, key, password)
    except (OSError, ValueError) as error:
        if asked:
            raise refused("key_file", f"{key} is encrypted", "Write the key into it without a password") from None
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            what = f"{key} is not the key of the certificate {certificate}"
            raise refused("key_file", what, "Name the key that belongs to it") from None
        try:
            ssl.create_default_context(cafile=certificate)
        except (OSError, ValueError):
            what = f"{certificate} holds no certificate in PEM form"
            raise refused("certificate_file", what, "Name a file in PEM form") from None
        what = f"{key} holds no private key in PEM form"
        raise refused("key_file", what, "Name a file in PEM form") from None
