"""A Schema Registry over HTTP: the few calls of the Confluent Schema Registry API that registration needs.

Only the standard library is used, so that an emitter installs nothing for it. What the registry answers is bounded in
size and in time, redirects are not followed (they would carry the password elsewhere), proxies of the environment are
not used, and nothing that it says is repeated in a message.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from quietcount_schemas.errors import SchemasError, Unavailable
from quietcount_schemas.private_files import read_password
from quietcount_schemas.schema_registry.settings import RegistrySettings

__all__ = ["RegistryClient", "RegistryRefused", "RegistryUnavailable"]

_SECONDS: Final = 10.0
"""How long one step of a call (to connect, to receive something) may take, and one answer as a whole."""
_MOST_BYTES: Final = 1 << 20
_MEDIA: Final = "application/vnd.schemaregistry.v1+json"
_SECTION: Final = "schema_registry"


class RegistryRefused(SchemasError):
    """The Schema Registry, or what stands in its place, does not do what it was asked."""


class RegistryUnavailable(SchemasError, Unavailable):
    """The Schema Registry did not answer; later it may."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for the answer."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class RegistryClient:
    """Asks the registry that `settings` name. Raises SchemasError when a file that they name cannot be used.

    Each call raises RegistryUnavailable when nothing answers, and RegistryRefused when the answer is no answer of a
    registry, or a refusal. Answers are JSON values whose shape the caller checks.
    """

    def __init__(self, settings: RegistrySettings) -> None:
        if settings.url is None:
            raise SchemasError(
                f"{settings.config}: there is no Schema Registry to register with; write its address as "
                "'url = \"https://registry:8081\"' into the section [schema_registry]"
            )
        self._settings = settings
        self._url = settings.url
        self._headers = {"Accept": f"{_MEDIA}, application/json", "Content-Type": _MEDIA, "User-Agent": "quietcount"}
        if settings.username is not None:
            self._headers["Authorization"] = self._authorization(settings.username)
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects(), urllib.request.ProxyHandler({})]
        if settings.url.startswith("https://"):
            handlers.append(urllib.request.HTTPSHandler(context=self._context()))
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path: str, about: str = "") -> Any:
        """Return what is at `path` below the address, or None where there is nothing; `about` is for messages."""
        return self._call("GET", path, None, about)

    def send(self, method: str, path: str, body: Mapping[str, object], about: str = "") -> Any:
        """Send `body` to `path` and return the answer. Raises RegistryRefused where there is no such path too."""
        return self._call(method, path, body, about)

    def refused(self, what: str, key: str = "", *, about: str = "") -> RegistryRefused:
        """Return the error that says `what` of the registry, and of `about` it; `key` is one of [schema_registry]."""
        return RegistryRefused(self._message(what, key, about))

    def no_registry(self, about: str = "") -> RegistryRefused:
        """Return the error for an answer that no Schema Registry gives."""
        return self.refused(
            "what answers there is no Schema Registry; its address goes up to where /subjects begins (Apicurio's "
            "ends in /apis/ccompat/v7): check the key",
            "url",
            about=about,
        )

    def _call(self, method: str, path: str, body: Mapping[str, object] | None, about: str) -> Any:
        data = None if body is None else json.dumps(body).encode("ascii")
        request = urllib.request.Request(self._url + path, data, self._headers, method=method)  # noqa: S310 (checked)
        try:
            with self._opener.open(request, timeout=_SECONDS) as answer:
                raw = self._received(answer, about)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == http.HTTPStatus.NOT_FOUND and method == "GET":
                    return None
                self._refuse(error.code, about)
        except urllib.error.URLError as error:
            self._explain(error.reason, about)
        except (OSError, http.client.HTTPException) as error:
            self._explain(error, about)
        try:
            return json.loads(raw.decode("utf-8"))
        except (ValueError, RecursionError):
            raise self.no_registry(about) from None

    def _received(self, answer: http.client.HTTPResponse, about: str) -> bytes:
        """Return the body, unless it is too large or drips: a timeout alone begins anew with each byte."""
        until = time.monotonic() + _SECONDS
        raw = bytearray()
        while chunk := answer.read1(65_536):
            raw += chunk
            if len(raw) > _MOST_BYTES:
                raise self.no_registry(about)
            if time.monotonic() > until:
                raise TimeoutError
        return bytes(raw)

    def _refuse(self, status: int, about: str) -> NoReturn:
        settings = self._settings
        if status == http.HTTPStatus.UNAUTHORIZED:
            keys = "'schema_registry.username' and 'schema_registry.password_file'"
            if settings.username is None:
                raise self.refused(f"it asks for a name and a password; give them with the keys {keys}", about=about)
            raise self.refused(f"it refuses the name or the password; check the keys {keys}", about=about)
        if status == http.HTTPStatus.FORBIDDEN:
            raise self.refused(
                "the user of 'schema_registry.username' may not register schemas or set compatibility", about=about
            )
        if 300 <= status < 400:
            raise self.refused(
                "it sends us to another address, where no password goes; check the key", "url", about=about
            )
        if status == http.HTTPStatus.CONFLICT:
            raise self.refused("it finds the schema incompatible with what it holds under that subject", about=about)
        if status == http.HTTPStatus.UNPROCESSABLE_ENTITY:
            raise self.refused("it takes the schema, or the compatibility FULL_TRANSITIVE, for invalid", about=about)
        if status == http.HTTPStatus.TOO_MANY_REQUESTS or status >= 500:
            raise RegistryUnavailable(
                self._message(f"it answers with the error {status} of its own; later it may do", "", about)
            )
        if status in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.METHOD_NOT_ALLOWED):
            raise self.no_registry(about)
        raise self.refused(f"it answers with the status {status}; check the key", "url", about=about)

    def _explain(self, reason: object, about: str) -> NoReturn:
        if isinstance(reason, ssl.SSLCertVerificationError):
            authority = "the authority of 'schema_registry.ca_file'" if self._settings.ca_file else "this system"
            raise self.refused(
                f"its certificate is not one that {authority} vouches for ({reason.verify_message}); "
                "call the host as its certificate does, or name the authority that signed it with the key",
                "ca_file",
                about=about,
            ) from None
        if isinstance(reason, ssl.SSLError):
            raise self.refused("it does not speak TLS as https:// does; check the key", "url", about=about) from None
        if isinstance(reason, http.client.HTTPException) and not isinstance(reason, OSError):
            raise self.refused(
                "it does not speak HTTP; check http:// or https:// in the key", "url", about=about
            ) from None
        what = "it did not answer in time" if isinstance(reason, TimeoutError) else "it cannot be reached"
        number = reason.errno if isinstance(reason, OSError) else None
        detail = os.strerror(number).lower() if number is not None and number > 0 else ""
        said = self._message(what + (f" ({detail})" if detail else "") + "; start it, or check the key", "url", about)
        raise RegistryUnavailable(said) from None

    def _message(self, what: str, key: str, about: str) -> str:
        place = f"{self._settings.config}: Schema Registry {self._url}: " + (f"{about}: " if about else "")
        return place + what + (f" '{_SECTION}.{key}'" if key else "")

    def _authorization(self, username: str) -> str:
        key = self._settings.place(f"{_SECTION}.password_file")
        path = self._settings.password_file
        if path is None:
            raise SchemasError(f"{key}: is missing; name the file of the password")
        password = read_password(path, lambda fault: SchemasError(f"{key}: {fault.what}", fault.remedy))
        return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii")

    def _context(self) -> ssl.SSLContext:
        path = self._settings.ca_file
        try:
            return ssl.create_default_context(cafile=path)
        except (OSError, ssl.SSLError):
            raise self.refused(f"{path} cannot be read as certificates in PEM; mend the key", "ca_file") from None
