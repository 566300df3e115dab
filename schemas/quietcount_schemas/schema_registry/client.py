"""A Schema Registry over HTTP: the few calls of the Confluent Schema Registry API that registration needs.

It uses the standard library alone, so that an emitter installs nothing for it. It bounds the answers in size and in
time. It follows no redirect, which would carry the password elsewhere, and uses no proxy of the environment. No message
repeats what the registry says.
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
_URL: Final = f"the key '{_SECTION}.url'"
_LOGIN_KEYS: Final = f"'{_SECTION}.username' and '{_SECTION}.password_file'"
_REFUSALS: Final[Mapping[int, tuple[str, str]]] = {
    http.HTTPStatus.FORBIDDEN: (
        f"the user of '{_SECTION}.username' may not register schemas or set compatibility",
        "Give that user the right in the registry",
    ),
    http.HTTPStatus.CONFLICT: (
        "it finds the schema incompatible with what it holds under that subject",
        "Check which schemas the registry holds there, and who wrote them",
    ),
    http.HTTPStatus.UNPROCESSABLE_ENTITY: (
        "it refuses the schema, or the compatibility FULL_TRANSITIVE, as invalid",
        "Use a registry that reads Avro and has this compatibility",
    ),
}
"""By status: what is wrong, and what to do."""


class RegistryRefused(SchemasError):
    """The Schema Registry, or another program in its place, does not do what it was asked."""


class RegistryUnavailable(SchemasError, Unavailable):
    """The Schema Registry did not answer; later it may."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Treats a redirect as the answer."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class RegistryClient:
    """Asks the registry that `settings` name. Raises SchemasError if a file that they name cannot be used.

    Each call raises RegistryUnavailable if nothing answers, and RegistryRefused if the answer is a refusal or does not
    come from a registry. Answers are JSON values; the caller checks their shape.
    """

    def __init__(self, settings: RegistrySettings) -> None:
        if settings.url is None:
            raise SchemasError(
                f"{settings.config}: there is no Schema Registry to register with",
                "Write its address as 'url = \"https://registry:8081\"' into the section [schema_registry]",
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
        """Return what is at `path` below the address, or None if there is nothing; `about` is for messages."""
        return self._call("GET", path, None, about)

    def send(self, method: str, path: str, body: Mapping[str, object], about: str = "") -> Any:
        """Send `body` to `path` and return the answer. Raises RegistryRefused also if there is no such path."""
        return self._call(method, path, body, about)

    def refused(self, what: str, remedy: str, *, about: str = "") -> RegistryRefused:
        """Return the error that says `what` is wrong with the registry; `about` names the schema it is about."""
        return RegistryRefused(self._what(what, about), remedy)

    def no_registry(self, about: str = "") -> RegistryRefused:
        """Return the error for an answer that no Schema Registry gives."""
        return self.refused(
            "another program answers there, not a Schema Registry",
            f"Check {_URL}. The address ends where /subjects begins (for Apicurio, with /apis/ccompat/v7)",
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
        """Return the body, unless it is too large or drips: a timeout alone begins again with each byte."""
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
            if settings.username is None:
                raise self.refused(
                    "it asks for a name and a password", f"Give them with the keys {_LOGIN_KEYS}", about=about
                )
            raise self.refused("it refuses the name or the password", f"Check the keys {_LOGIN_KEYS}", about=about)
        if 300 <= status < 400:
            raise self.refused(
                "it sends us to another address, and the password must not go there", f"Check {_URL}", about=about
            )
        if status in _REFUSALS:
            raise self.refused(*_REFUSALS[status], about=about)
        if status == http.HTTPStatus.TOO_MANY_REQUESTS or status >= 500:
            what = self._what(f"it answers with its own error {status}", about)
            raise RegistryUnavailable(what, "Run this again later; if the error stays, look at its log")
        if status in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.METHOD_NOT_ALLOWED):
            raise self.no_registry(about)
        raise self.refused(f"it answers with the status {status}", f"Check {_URL}", about=about)

    def _explain(self, reason: object, about: str) -> NoReturn:
        if isinstance(reason, ssl.SSLCertVerificationError):
            authority = "the authority of 'schema_registry.ca_file'" if self._settings.ca_file else "this system"
            raise self.refused(
                f"{authority} does not vouch for its certificate ({reason.verify_message})",
                "Use the host name of the certificate in 'schema_registry.url', or name the authority that signed it "
                "with 'schema_registry.ca_file'",
                about=about,
            ) from None
        if isinstance(reason, ssl.SSLError):
            raise self.refused("it does not speak TLS, which https:// asks for", f"Check {_URL}", about=about) from None
        if isinstance(reason, http.client.HTTPException) and not isinstance(reason, OSError):
            remedy = f"Check whether {_URL} begins with http:// or https:// rightly"
            raise self.refused("it does not speak HTTP", remedy, about=about) from None
        what = "it did not answer in time" if isinstance(reason, TimeoutError) else "it cannot be reached"
        number = reason.errno if isinstance(reason, OSError) else None
        detail = os.strerror(number).lower() if number is not None and number > 0 else ""
        said = self._what(what + (f" ({detail})" if detail else ""), about)
        raise RegistryUnavailable(said, f"Start it, or check {_URL}") from None

    def _what(self, what: str, about: str) -> str:
        return f"{self._settings.config}: Schema Registry {self._url}: " + (f"{about}: " if about else "") + what

    def _authorization(self, username: str) -> str:
        key = self._settings.place(f"{_SECTION}.password_file")
        path = self._settings.password_file
        if path is None:
            raise SchemasError(f"{key}: is missing", "Write the path of the file that holds the password")
        password = read_password(path, lambda fault: SchemasError(f"{key}: {fault.what}", fault.remedy))
        return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii")

    def _context(self) -> ssl.SSLContext:
        path = self._settings.ca_file
        try:
            return ssl.create_default_context(cafile=path)
        except (OSError, ssl.SSLError):
            raise self.refused(
                f"{path} cannot be read as certificates in PEM form", f"Check the key '{_SECTION}.ca_file'"
            ) from None
