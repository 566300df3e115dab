"""The certificates of compose/security.md: its commands are run, and what its settings name is there and fits."""

from __future__ import annotations

import re
import ssl
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.deployment import OPENSSL, blocks_of, make_certificates, openssl_there, properties_of

pytestmark = pytest.mark.quick

MOUNT = re.compile(r"`\./kafka/tls:(/etc/kafka/tls):ro`")


@pytest.fixture
def page(root: Path, require: Callable[[bool, str], None]) -> str:
    require(openssl_there(), OPENSSL)
    return (root / "compose" / "security.md").read_text(encoding="utf-8")


def faults(page: str, folder: Path) -> Iterator[str]:
    """What of the broker's files lacks, or cannot be read by its user, 1000, or can be read by others."""
    given = make_certificates(page, folder)
    (mounted,) = MOUNT.findall(page)
    named = {
        value for block in blocks_of(page, "properties") for value in properties_of(block).values() if "/tls/" in value
    }
    if len(named) != 2:
        yield "a certificate or an authority is not named"
    tls = folder / "compose" / "kafka" / "tls"
    for name in sorted(named):
        path = tls / Path(name).relative_to(mounted)
        if not path.is_file():
            yield f"{name} is not there"
        elif path not in given or not path.stat().st_mode & 0o400:
            yield f"{name} cannot be read by the broker"
    if tls not in given or tls.stat().st_mode & 0o500 != 0o500:
        yield "the folder cannot be opened by the broker"
    yield from (f"{path.name} can be read by others" for path in (tls, *folder.glob("*.key")) if open_to_others(path))


def open_to_others(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o077)


def test_who_follows_the_page_has_the_files_that_the_brokers_settings_name_and_the_broker_can_read_them(
    page: str, tmp_path: Path
) -> None:
    assert list(faults(page, tmp_path)) == []


TWINS = {
    "a folder of the caller's": (
        "chown -R 1000:1000 compose/kafka/tls",
        "chown 1000:1000 compose/kafka/tls/broker.pem",
    ),
    "no authority": ("cp ca.pem compose/kafka/tls/ca.pem\n", ""),
    "files of the caller's": ("chown -R 1000:1000", "chown 1000:1000"),
    "another name": ("/etc/kafka/tls/broker.pem", "/etc/kafka/tls/server.pem"),
    "open to everybody": ("umask 077", "umask 022"),
}


@pytest.mark.parametrize("twin", TWINS)
def test_a_page_that_leads_to_a_broker_that_does_not_start_is_found(page: str, tmp_path: Path, twin: str) -> None:
    right, wrong = TWINS[twin]
    assert right in page
    assert list(faults(page.replace(right, wrong), tmp_path)) != []


def shaken(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """Let a client that looks for `name` and a server greet each other in memory; return the server's end."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname=name)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [asking, answering] * 8
    for end in waiting:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return answering


def test_the_certificates_of_the_page_are_believed_by_name_and_say_who_the_emitter_is(
    page: str, tmp_path: Path
) -> None:
    make_certificates(page, tmp_path)
    tls = tmp_path / "compose" / "kafka" / "tls"
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tls / "broker.pem")
    server.load_verify_locations(tls / "ca.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    client.load_cert_chain(tmp_path / "emitter.crt", tmp_path / "emitter.key")
    certificate = shaken(server, client, "kafka.example.org").getpeercert()
    assert certificate is not None
    assert certificate["subject"] == ((("commonName", "quietcount-emitter"),),)
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(server, client, "kafka.example.com")


def test_the_files_that_the_page_gives_to_an_emitter_are_among_those_that_it_makes(page: str, tmp_path: Path) -> None:
    make_certificates(page, tmp_path)
    keys = {"ca_file", "certificate_file", "key_file"}
    named = {
        Path(value).name
        for block in blocks_of(page, "toml")
        for key, value in tomllib.loads(block)["kafka"].items()
        if key in keys
    }
    assert len(named) == 3
    assert {name for name in named if not (tmp_path / name).is_file()} == set()


def test_no_key_that_the_page_makes_can_be_committed(root: Path, page: str) -> None:
    ignored = set((root / ".gitignore").read_text(encoding="utf-8").split())
    assert {"/compose/kafka/tls/", "/*.key", "/*.password"} <= ignored
    assert "authority.key" in page
