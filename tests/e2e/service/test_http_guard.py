"""The server of metrics behind TLS and a password: who is let in, what a reload takes, and handshakes without end."""

from __future__ import annotations

import datetime as dt
import errno
import re
import shlex
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.service.http_clients import (
    DRIBBLING,
    ME,
    WITHIN,
    Serve,
    authority,
    connected,
    ended,
    get,
    guard,
    peak_under,
    serve,
    where,
)
from tests.kafka.certificates import Authority
from tests.serving_world import twin

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ConfigurationError, ServiceError
from quietcount_consumers.monitoring import places, server_process
from quietcount_consumers.monitoring.server import MonitoringServer
from quietcount_consumers.monitoring.server_process import FILES
from quietcount_consumers.monitoring.status import Board
from quietcount_consumers.monitoring_settings import MonitoringSettings

pytestmark = pytest.mark.check

__all__ = ["authority", "guard", "serve"]  # fixtures, which tests ask for by name


def test_behind_tls_and_a_password_only_health_is_told_to_everybody(
    serve: Serve, guard: dict[str, Any], authority: Authority
) -> None:
    server = serve(**guard)
    trust = authority.file
    assert get(server, trust=trust) == (200, "ok\n")
    assert get(server, "/metrics", trust=trust, user=ME)[0] == 200
    assert get(server, "/readyz", trust=trust, user=ME)[0] == 503
    strangers = (None, "prometheus:", "prometheus:open sesam", "root:open sesame", "")
    with ThreadPoolExecutor(8) as clients:
        asked = [
            clients.submit(get, server, path, trust=trust, user=user)
            for user in strangers
            for path in ("/metrics", "/readyz")
        ]
        assert {each.result() for each in asked} == {(401, "a user and a password are needed\n")}
    with connected(server) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"ok" not in ended(client)


def monitoring(root: Path) -> str:
    """The section of docs/monitoring.md."""
    text = (root / "docs" / "monitoring.md").read_text(encoding="utf-8")
    return text.partition("\n## Health and metrics over HTTP\n")[2].partition("\n## ")[0]


def asked(line: str, server: MonitoringServer) -> tuple[int, str]:
    """Run a line of the page against `server`; return the exit code of curl and what it says."""
    host, port = where(server)
    line = re.sub(r"(https?)://[a-z0-9.]+:9464", rf"\1://{host}:{port}", line)
    words = [*shlex.split(line, comments=True), "--silent", "--show-error", "--max-time", "20"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_curl_reads_what_the_page_says(serve: Serve, root: Path, require: Callable[[bool, str], None]) -> None:
    require(shutil.which("curl") is not None, "curl")
    lines = re.findall(r"^curl http://.*", monitoring(root), re.MULTILINE)
    server = serve()
    health, ready, metrics = (asked(line, server) for line in lines)
    assert health == (0, "ok\n")
    assert ready[1].startswith("No tick was done yet.\n")
    assert "\nquietcount_ready 0.0\n" in metrics[1]


def test_certificate_and_password_are_made_and_used_as_the_page_says(
    serve: Serve, root: Path, tmp_path: Path, require: Callable[[bool, str], None]
) -> None:
    require(shutil.which("curl") is not None and shutil.which("openssl") is not None, "curl and openssl")
    script = re.findall(r"```sh\n(umask.*?)```", monitoring(root), re.DOTALL)[0]
    (tmp_path / "secrets").mkdir()
    subprocess.run(
        ["bash", "-euc", script.replace("DNS:statistics.example", "IP:127.0.0.1")],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    section = re.findall(r"```toml\n\[metrics\]\n(.*?)```", monitoring(root), re.DOTALL)[0]
    config = tmp_path / "quietcount.toml"
    config.write_text(f"lifetime_epsilon = 1\n[metrics]\n{section}", encoding="utf-8")
    settings = Configuration.load(config).metrics
    assert settings.address == "192.0.2.7"
    server = serve(
        certificate_file=settings.certificate_file,
        key_file=settings.key_file,
        username=settings.username,
        password_file=settings.password_file,
    )
    password = (tmp_path / "secrets" / "metrics-password").read_text().strip()
    assert len(password) == 64
    (line,) = re.findall(r"^curl --cacert.*", monitoring(root), re.MULTILINE)
    line = line.replace("secrets/", f"{tmp_path}/secrets/")
    code, metrics = asked(line.replace("--user prometheus", f"--user prometheus:{password}"), server)
    assert code == 0
    assert "\nquietcount_ready 0.0\n" in metrics
    assert asked(line.replace("--user prometheus", "--user prometheus:guessed"), server)[1].startswith("a user and")


def test_no_older_tls_is_spoken(serve: Serve, guard: dict[str, Any]) -> None:
    server = serve(**guard)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with connected(server) as client, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(client)


def test_half_a_handshake_ends_in_time(
    serve: Serve, guard: dict[str, Any], authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    twin(monkeypatch, tmp_path, "server_process._TLS_SECONDS['ssl_handshake_timeout'] = 3.0")
    server = serve(**guard)
    hello = bytes.fromhex("16030100c8010000c40303")  # the beginning of a client's first message
    clients = [connected(server) for _ in range(20)]
    for client in clients:
        client.sendall(hello)
    for client in clients:
        assert ended(client) == b""
        client.close()
    assert get(server, trust=authority.file) == (200, "ok\n")


def test_a_handshake_has_as_long_as_a_header() -> None:
    assert server_process._TLS_SECONDS["ssl_handshake_timeout"] == places.HEADER_SECONDS


@pytest.mark.parametrize("dribbling", [DRIBBLING, 2 * FILES])
def test_handshakes_that_are_never_finished_take_no_more_files_than_there_are_and_shut_nobody_out(
    serve: Serve, guard: dict[str, Any], authority: Authority, dribbling: int
) -> None:
    peak, answered = peak_under(serve(**guard), 3 * WITHIN, authority.file, dribbling)
    assert answered
    assert 0 < peak < FILES


def certificate_of(server: MonitoringServer, trust: Path) -> bytes | None:
    context = ssl.create_default_context(cafile=trust)
    with connected(server) as client, context.wrap_socket(client, server_hostname="127.0.0.1") as spoken:
        return spoken.getpeercert(binary_form=True)


def test_a_reload_takes_a_new_certificate_and_password_and_leaves_bad_ones(
    serve: Serve, guard: dict[str, Any], authority: Authority
) -> None:
    server = serve(**guard)
    trust, before = authority.file, certificate_of(server, authority.file)
    second = authority.issue("second", "127.0.0.1")

    shutil.copy(second.certificate_file, guard["certificate_file"])
    guard["password_file"].write_text("another", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="is not the key of the certificate"):
        server.reload()
    assert certificate_of(server, trust) == before
    assert get(server, "/metrics", trust=trust, user=ME)[0] == 200

    shutil.copy(second.key_file, guard["key_file"])
    guard["key_file"].chmod(0o600)
    guard["password_file"].chmod(0o644)
    with pytest.raises(ConfigurationError, match="can be read by others"):
        server.reload()
    assert certificate_of(server, trust) == before

    guard["password_file"].chmod(0o600)
    server.reload()
    assert certificate_of(server, trust) not in (before, None)
    assert get(server, "/metrics", trust=trust, user=ME)[0] == 401
    assert get(server, "/metrics", trust=trust, user="prometheus:another")[0] == 200


def test_an_address_that_cannot_be_had_is_one_plain_error(
    serve: Serve, guard: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(lambda: dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.timedelta(seconds=60))

    def refusal(**settings: Any) -> str:
        with pytest.raises(ServiceError) as caught, MonitoringServer(MonitoringSettings(**settings), board):
            pass
        return str(caught.value)

    host, port = where(serve())
    taken = refusal(port=port)
    assert f"another program listens on {host}:{port} already. Stop it, or choose another port" in taken
    assert "key 'metrics.listen'" in taken
    assert "this machine has no address 192.0.2.7" in refusal(address="192.0.2.7", port=0, **guard)

    class Unprivileged(socket.socket):
        def bind(self, address: Any) -> None:
            raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(socket, "socket", Unprivileged)
    assert "this user may not listen on 127.0.0.1:80. Choose a port above 1023" in refusal(port=80)
    monkeypatch.undo()
