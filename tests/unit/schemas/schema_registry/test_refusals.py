"""What `quietcount schemas register` says of a registry that refuses, speaks no TLS, or is none."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from pathlib import Path

import pytest
from tests.kafka.certificates import Authority
from tests.registry.stand_in import Answer, StandIn, stand_in
from tests.unit.schemas.schema_registry.registrations import HELP, PASSWORD, Place, place, registry

from quietcount_schemas import SchemasError
from quietcount_schemas.errors import Unavailable
from quietcount_schemas.schema_registry import client as registry_client
from quietcount_schemas.schema_registry.client import RegistryRefused, RegistryUnavailable

pytestmark = pytest.mark.quick

__all__ = ["place", "registry"]  # fixtures, which tests ask for by name

# ---------------------------------------------------------------- a registry that refuses, or is none

REFUSALS: dict[str, tuple[str, str, Answer, str, type[Exception]]] = {
    "no name": ("GET", "/subjects", (401, b"who?"), "asks for a name and a password. Give them", RegistryRefused),
    "forbidden": ("PUT", "/config", (403, b""), "may not register schemas or set compatibility", RegistryRefused),
    "incompatible": ("POST", f"/subjects/{HELP}", (409, {}), f"{HELP} version 1: it finds the schema", RegistryRefused),
    "invalid": ("POST", f"/subjects/{HELP}", (422, {}), f"{HELP} version 1: it refuses the schema", RegistryRefused),
    "an error of its own": ("GET", "/subjects", (503, b"oops"), "its own error 503", RegistryUnavailable),
    "too many requests": ("GET", "/subjects", (429, b""), "its own error 429", RegistryUnavailable),
    "a web site": (
        "GET",
        "/subjects",
        (200, b"<html>"),
        "not a Schema Registry. Check the key",
        RegistryRefused,
    ),
    "another service": ("GET", "/subjects", (200, {"a": 1}), "not a Schema Registry", RegistryRefused),
    "nothing there": ("GET", "/subjects", (404, b""), "not a Schema Registry", RegistryRefused),
    "read only": ("PUT", "/config", (405, b""), "not a Schema Registry", RegistryRefused),
    "no such path": ("PUT", "/config", (404, b""), "not a Schema Registry", RegistryRefused),
    "a teapot": ("GET", "/subjects", (418, b""), "answers with the status 418", RegistryRefused),
    "no end": ("GET", "/subjects", (200, b" " * (2 << 20)), "not a Schema Registry", RegistryRefused),
    "nested without end": ("GET", "/subjects", (200, b"[" * 200_000), "not a Schema Registry", RegistryRefused),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_each_refusal_is_one_message_that_names_the_setting(place: Place, registry: StandIn, case: str) -> None:
    method, path, answer, wanted, kind = REFUSALS[case]
    registry.forced[method, path] = answer
    result = place.register()
    assert type(result.exception) is kind
    said = place.refused()
    assert wanted in said
    assert said.startswith(f"{place.folder / 'quietcount.toml'}: Schema Registry {registry.url}: ")
    assert kind is RegistryRefused or isinstance(result.exception, Unavailable)


def test_a_password_is_sent_and_told_to_nobody(place: Place, registry: StandIn) -> None:
    place.password(PASSWORD + "\n")
    place.configure('username = "emitter"\npassword_file = "password"')
    assert place.register().exit_code == 0
    expected = "Basic " + base64.b64encode(f"emitter:{PASSWORD}".encode()).decode()
    assert set(registry.passwords) == {expected}
    registry.forced["GET", "/subjects"] = (401, expected.encode())
    assert "it refuses the name or the password. Check the keys 'schema_registry.username'" in place.refused()


def test_a_password_does_not_follow_a_redirect(place: Place, registry: StandIn) -> None:
    place.password()
    place.configure('username = "emitter"\npassword_file = "password"')
    with stand_in() as elsewhere:
        registry.location = elsewhere.url + "/subjects"
        for status in (301, 302, 303, 307, 308):
            registry.forced["GET", "/subjects"] = (status, b"")
            assert "it sends us to another address" in place.refused()
        assert elsewhere.asked == []


def test_a_proxy_of_the_environment_gets_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with stand_in() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert place.register().exit_code == 0
        assert proxy.asked == []


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff"], ids=["missing", "empty", "a line's end", "not text"])
def test_a_password_file_that_holds_none_is_named(place: Place, content: bytes | None) -> None:
    if content is not None:
        place.password().write_bytes(content)
    place.configure('username = "emitter"\npassword_file = "password"')
    said = place.refused()
    assert str(place.folder / "password") in said
    assert "key 'schema_registry.password_file': " in said


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_password_that_others_can_read_is_refused_and_not_sent(place: Place, registry: StandIn, mode: int) -> None:
    password = place.password()
    password.chmod(mode)
    place.configure('username = "emitter"\npassword_file = "password"')
    said = place.refused()
    assert f"key 'schema_registry.password_file': {password} is a secret and can be read by others" in said
    assert said.endswith(f"Run: chmod 600 {password}")
    assert PASSWORD not in said
    assert registry.asked == []


def test_a_password_file_that_a_variable_names_is_told_by_the_variable(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.configure('username = "emitter"\npassword_file = "password"')
    monkeypatch.setenv("QUIETCOUNT_SCHEMA_REGISTRY__PASSWORD_FILE", "nowhere")
    assert f"variable QUIETCOUNT_SCHEMA_REGISTRY__PASSWORD_FILE: there is no file {place.folder}" in place.refused()


def test_an_address_where_nobody_listens_is_named(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    place.configure(url=f"http://127.0.0.1:{port}")
    said = place.refused()
    assert f"http://127.0.0.1:{port}: it cannot be reached (connection refused)" in said
    assert said.endswith("'schema_registry.url'")


def test_a_host_that_does_not_exist_is_named(place: Place) -> None:
    place.configure(url="http://registry.invalid:8081")
    assert "http://registry.invalid:8081: it cannot be reached" in place.refused()


def talk(place: Place, said: bytes, *, drip: bool = False) -> str:
    """Register with a server that answers everything with `said`, and with `drip` goes on a byte at a time for ever."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(said)
                while drip and not done.wait(0.05):
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        place.configure(url=f"http://127.0.0.1:{server.getsockname()[1]}")
        result = place.register()
        done.set()
        thread.join()
    assert isinstance(result.exception, SchemasError)
    return str(result.exception)


def test_a_server_that_speaks_no_http_is_named(place: Place) -> None:
    assert "it does not speak HTTP" in talk(place, b"\x15\x03\x01\x00\x02\x02\x46\r\n")


def test_a_server_that_hangs_up_is_named(place: Place) -> None:
    assert "it cannot be reached" in talk(place, b"")


def test_an_answer_that_never_ends_is_not_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte in time, and the answer as a whole not: a timeout of the socket alone would wait for ever."""
    monkeypatch.setattr(registry_client, "_SECONDS", 0.3)
    assert "did not answer in time" in talk(place, b"HTTP/1.1 200 OK\r\n\r\n", drip=True)


# ---------------------------------------------------------------- TLS


def served(folder: Path, *hosts: str) -> tuple[Authority, ssl.SSLContext]:
    authority = Authority(folder / "authority")
    issued = authority.issue("registry", *hosts)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate_file, issued.key_file)
    return authority, context


def test_a_registry_over_tls_is_trusted_by_the_authority_that_is_named(place: Place) -> None:
    place.password()
    authority, context = served(place.folder, "127.0.0.1")
    with stand_in(context) as registry:
        entries = f'username = "emitter"\npassword_file = "password"\nca_file = "{authority.file}"'
        place.configure(entries, registry.url)
        assert place.register().exit_code == 0
        assert len(registry.asked) > 10


@pytest.mark.parametrize("host, ca_file", [("127.0.0.1", False), ("127.0.0.1", True), ("other.example", None)])
def test_a_certificate_that_nobody_vouches_for_gets_no_password(place: Place, host: str, ca_file: bool | None) -> None:
    """The system's authorities, another authority, or the right one for another host."""
    place.password()
    authority, context = served(place.folder, host)
    other = Authority(place.folder / "other", "another authority")
    with stand_in(context) as registry:
        entries = 'username = "emitter"\npassword_file = "password"\n'
        if ca_file is not False:
            entries += f'ca_file = "{(other if ca_file else authority).file}"'
        place.configure(entries, registry.url)
        said = place.refused()
        assert "does not vouch for its certificate" in said
        assert said.endswith("'schema_registry.ca_file'")
        assert registry.passwords == []


def test_a_registry_that_speaks_no_tls_is_named(place: Place, registry: StandIn) -> None:
    place.configure(url=registry.url.replace("http://", "https://"))
    assert "it does not speak TLS, which https:// asks for. Check the key 'schema_registry.url'" in place.refused()


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_an_authority_that_cannot_be_read_is_named(place: Place, content: bytes | None) -> None:
    if content is not None:
        (place.folder / "ca.pem").write_bytes(content)
    place.configure('ca_file = "ca.pem"', "https://127.0.0.1:1")
    assert f"{place.folder / 'ca.pem'} cannot be read as certificates in PEM" in place.refused()
