"""[receive]: where the door listens, which paths it has, and which files guard them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from quietcount_producers.errors import ProducersError
from quietcount_producers.receiving.tokens import LEAST, Tokens
from quietcount_schemas.configuration import place, read_configuration
from quietcount_schemas.errors import SchemasError
from quietcount_schemas.private_files import FileFault, read_password

if TYPE_CHECKING:
    import ssl

__all__ = ["PathSettings", "ReceiverSettings"]

_TO_DRAW: Final = "Draw one: openssl rand -hex 32"

# For TLS 1.2; of TLS 1.3 every cipher is as good.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


@dataclass(frozen=True, slots=True)
class PathSettings:
    """One table [[receive.path]]: where a tool delivers, what reads it, and the file with its token."""

    path: str
    mapping: Path
    token_file: Path

    def tokens(self, config: Path) -> Tokens:
        """Read the tokens, one a line. Raises ProducersError if the file is not in order."""

        def refusal(fault: FileFault) -> ProducersError:
            return self._refused(config, fault.what, fault.remedy)

        lines = [line.strip() for line in read_password(self.token_file, refusal).splitlines()]
        tokens = [line for line in lines if line]
        if not tokens:
            raise self._refused(config, f"{self.token_file} is empty", _TO_DRAW)
        for token in tokens:
            if len(token) < LEAST:
                raise self._refused(config, f"{self.token_file} has a token of fewer than {LEAST} characters", _TO_DRAW)
            if not token.isascii() or not token.isprintable() or " " in token:
                raise self._refused(
                    config, f"{self.token_file} has a token with characters that no header can carry", _TO_DRAW
                )
        return Tokens.of(*tokens)

    def _refused(self, config: Path, what: str, remedy: str) -> ProducersError:
        return ProducersError(f"{config}: key 'receive.path.token_file' of {self.path}: {what}", remedy)


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """What the door needs to know, besides what every emitter does. Nothing here is secret: files are read later."""

    config: Path
    address: str
    port: int
    certificate_file: Path | None
    key_file: Path | None
    paths: tuple[PathSettings, ...]
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """By key, the variable that its value comes from, for messages."""

    @classmethod
    def load(cls, config: Path, environment: Mapping[str, str] | None = None) -> ReceiverSettings:
        """Read the section of the configuration at `config` (see EmitterSettings.load). Raises ProducersError."""
        try:
            given = read_configuration(config, environment)
        except SchemasError as error:
            raise ProducersError(error.what, error.remedy) from None
        given.refuse_faults(ProducersError)
        section = given.values["receive"]
        if not section["path"]:
            raise ProducersError(
                f"{config}: no tool may deliver anything",
                "Write a table [[receive.path]] with path, mapping and token_file for each: docs/receiving.md",
            )
        if given.values["emitter"]["spool"] is None:
            raise ProducersError(
                f"{config}: there is no spool, and a delivery has to be on the disk before it is answered",
                "Name a folder for it: key 'emitter.spool'",
            )
        address, port = section["listen"]
        paths = tuple(PathSettings(**each) for each in section["path"])
        files = (section["certificate_file"], section["key_file"])
        return cls(config, address, port, *files, paths, given.origins)

    def refused(self, what: str, remedy: str) -> ProducersError:
        """Return the error for an address that cannot be listened on."""
        return ProducersError(f"{self.config}: {place('receive.listen', self.origins)}: {what}", remedy)

    def tls_context(self) -> ssl.SSLContext | None:
        """Read certificate and key, and return what speaks TLS; None without TLS. Raises ProducersError."""
        if self.certificate_file is None or self.key_file is None:
            return None
        import ssl

        from quietcount_schemas.serving.certificates import load_certificate

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.set_alpn_protocols(["http/1.1"])
        context.options |= ssl.OP_NO_RENEGOTIATION  # a client could have the handshake computed again and again
        load_certificate(context, self.certificate_file, self.key_file, self._wrong)
        return context

    def _wrong(self, key: str, what: str, remedy: str) -> ProducersError:
        return ProducersError(f"{self.config}: {place(f'receive.{key}', self.origins)}: {what}", remedy)
