"""The server of metrics and its clients over real sockets: slow ones, hostile ones, and those it is there for."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import errno
import http.client
import random
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.kafka.certificates import Authority, Issued
from tests.serving_world import pid_of, twin

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ConfigurationError, ServiceError
from quietcount_consumers.monitoring import places, server_process
from quietcount_consumers.monitoring.places import CONNECTIONS
from quietcount_consumers.monitoring.server import MonitoringServer
from quietcount_consumers.monitoring.server_process import FILES
from quietcount_consumers.monitoring.status import Board
from quietcount_consumers.monitoring_settings import MonitoringSettings

pytestmark = pytest.mark.check

WITHIN = 30.0  # seconds after which what should have come is a failure
DRIBBLING = 200

Serve = Callable[..., MonitoringServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers that end with the test."""
    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> MonitoringServer:
            board = Board(lambda: dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.timedelta(seconds=60))
            return stack.enter_context(MonitoringServer(MonitoringSettings(port=0, **settings), board))

        yield start


def where(server: MonitoringServer) -> tuple[str, int]:
    assert server.address is not None
    return server.address


def get(
    server: MonitoringServer,
    path: str = "/healthz",
    *,
    trust: Path | None = None,
    user: str | None = None,
    timeout: float = WITHIN,
) -> tuple[int, str]:
    """Ask as a client does that means well; `user` is "name:password"."""
    host, port = where(server)
    if trust is None:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    else:
        context = ssl.create_default_context(cafile=trust)
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    headers = {} if user is None else {"Authorization": "Basic " + base64.b64encode(user.encode()).decode()}
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def ended(client: socket.socket) -> bytes:
    """Read until the server ends the connection; return what it said."""
    client.settimeout(WITHIN)
    said = b""
    with contextlib.suppress(ConnectionError):
        while data := client.recv(65_536):
            said += data
    return said


def connected(server: MonitoringServer) -> socket.socket:
    return socket.create_connection(where(server), timeout=WITHIN)


def test_the_three_pages_answer_and_no_other(serve: Serve) -> None:
    server = serve()
    assert get(server) == (200, "ok\n")
    status, reasons = get(server, "/readyz")
    assert status == 503
    assert "No tick was done yet." in reasons.splitlines()
    status, metrics = get(server, "/metrics")
    assert status == 200
    assert "quietcount_ready 0.0" in metrics.splitlines()
    assert get(server, "/")[0] == 404


def test_an_ipv6_address_is_served_too(serve: Serve) -> None:
    try:
        server = serve(address="::1")
    except ServiceError:
        pytest.skip("this machine has no IPv6")
    assert get(server) == (200, "ok\n")


def test_off_listens_nowhere(serve: Serve) -> None:
    server = serve(address=None, username="prometheus", password_file=Path("none"))
    assert server.address is None
    server.reload()


def dribbling(address: tuple[str, int]) -> list[socket.socket]:
    """Open connections that will never finish a request, without waiting for any."""
    clients = []
    for _ in range(DRIBBLING):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(address)
        clients.append(client)
    return clients


def dribble(clients: list[socket.socket]) -> None:
    for client in clients:
        with contextlib.suppress(OSError):
            client.send(b"x")


def established(server: MonitoringServer) -> int:
    """Count the connections that the process that serves has, unfinished handshakes included."""
    host, port = where(server)
    local = f"{int.from_bytes(socket.inet_aton(host), 'little'):08X}:{port:04X}"
    lines = (line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines())
    known = {f"socket:[{words[9]}]" for words in lines if words[1] == local and words[3] != _LISTENS}
    # The table alone is read in pieces, and counts those that come and those that go meanwhile.
    count = 0
    for descriptor in Path(f"/proc/{pid_of(server)}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += str(descriptor.readlink()) in known
    return count


_LISTENS = "0A"


def peak_under(server: MonitoringServer, seconds: float, trust: Path | None = None) -> tuple[int, bool]:
    """Let clients dribble for so long; return the most connections at once, and whether one who asks is answered."""
    clients = dribbling(where(server))
    try:
        until, peak, answered = time.monotonic() + seconds, 0, False
        while time.monotonic() < until and not answered:
            dribble(clients)
            peak = max(peak, established(server))
            with contextlib.suppress(OSError, http.client.HTTPException):
                answered = get(server, timeout=1.5, trust=trust) == (200, "ok\n")
        return max(peak, established(server)), answered
    finally:
        for client in clients:
            client.close()


@contextlib.contextmanager
def those_who_dribble(server: MonitoringServer) -> Iterator[None]:
    """Clients that dribble without a pause."""
    clients, stop = dribbling(where(server)), threading.Event()

    def dribbles() -> None:
        while not stop.wait(0.1):
            dribble(clients)

    thread = threading.Thread(target=dribbles)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for client in clients:
            client.close()


def settles(server: MonitoringServer, seconds: float) -> bool:
    """Let clients dribble; return whether no more than the places are left of them within `seconds`."""
    with those_who_dribble(server):
        until = time.monotonic() + WITHIN
        while established(server) < DRIBBLING // 2:
            assert time.monotonic() < until
        until = time.monotonic() + seconds
        while established(server) > CONNECTIONS + 1 and time.monotonic() < until:
            assert get(server) == (200, "ok\n")
        return established(server) <= CONNECTIONS + 1


def test_those_who_dribble_take_no_more_than_their_places_and_shut_nobody_out(serve: Serve) -> None:
    assert settles(serve(), 3 * WITHIN)


def test_without_a_cap_there_is_no_bound_on_connections(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The mutant."""
    twin(monkeypatch, tmp_path, "places.CONNECTIONS = 10_000")
    assert not settles(serve(), 3 * places.PATIENCE_SECONDS)


STOCK = """
from uvicorn import Config
def stock(application, places, tls=None):
    return Config(application, http="h11", ws="none", lifespan="off", interface="asgi3", log_config=None,
        limit_concurrency=places_limit, timeout_keep_alive=75, h11_max_incomplete_event_size=16384)
places_limit = places.CONNECTIONS
server_process.configuration = stock
"""


def test_stock_limits_alone_let_clients_that_say_nothing_shut_everybody_out(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The mutant, and the reason for places: uvicorn's own limit refuses whoever comes last, while the others stay."""
    twin(monkeypatch, tmp_path, STOCK)
    server = serve()
    with those_who_dribble(server):
        until = time.monotonic() + WITHIN
        while established(server) < DRIBBLING:
            assert time.monotonic() < until
        assert {get(server)[0] for _ in range(20)} == {503}


BACKWARDS = """
import time
places._Place.__init__.__defaults__ = (0.3,)
times = iter(range(10**9, 0, -1))
time.time = lambda: next(times)
"""


def test_a_client_is_held_to_its_deadline_while_somebody_sets_the_clock_back(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    twin(monkeypatch, tmp_path, BACKWARDS)
    with connected(serve()) as client:
        client.sendall(b"GET /healthz HT")
        assert ended(client) == b""


BY_UVICORN = """
import asyncio
ours = server_process.configuration
def notified(application, places, tls=None):
    config = ours(application, places, tls)
    async def sweep():
        places.sweep()
    config.callback_notify, config.timeout_notify = sweep, 0
    return config
async def idle(*_):
    await asyncio.sleep(1000)
server_process.configuration, server_process._live = notified, idle
"""


def test_deadlines_by_the_clock_that_people_set_are_found_out(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The mutant: uvicorn looks at the clock, and calls nobody until that is where it was."""
    twin(monkeypatch, tmp_path, BACKWARDS + BY_UVICORN)
    with connected(serve()) as client:
        client.sendall(b"GET /healthz HT")
        client.settimeout(3.0)
        with pytest.raises(TimeoutError):
            client.recv(1)


def test_a_flood_of_new_connections_shuts_nobody_out(serve: Serve) -> None:
    """Who came just now gives way to none: one that asks at once is answered."""
    server = serve()
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                connected(server).close()

    with ThreadPoolExecutor(4) as clients:
        for _ in range(4):
            clients.submit(flood)
        try:
            assert [get(server, "/metrics")[0] for _ in range(50)] == [200] * 50
        finally:
            stop.set()


def test_garbage_is_refused_and_the_next_is_answered(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    server = serve()
    random.seed(4)
    pieces = [random.randbytes(random.randint(1, 3000)) + b"\r\n\r\n" for _ in range(30)]
    pieces += [
        b"GET / HTTP/1.1\r\n\r\n" * 3,
        b"\r\n\r\n",
        b"\x16\x03\x01" * 50 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]
    clients = []
    for piece in pieces:
        client = connected(server)
        client.sendall(piece)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)
        clients.append(client)
    for client in clients:
        ended(client)
        client.close()
    assert get(server) == (200, "ok\n")
    assert capfd.readouterr() == ("", ""), "whoever reaches the port could fill the log"


def test_a_header_without_end_is_refused(serve: Serve) -> None:
    server = serve()
    with connected(server) as client:
        sent = 0
        with contextlib.suppress(ConnectionError, TimeoutError):
            client.sendall(b"GET / HTTP/1.1\r\nx: ")
            client.settimeout(2)
            while sent < 64 << 20:
                sent += client.send(b"x" * 65_536)
        assert sent < 64 << 20
        with contextlib.suppress(ConnectionError):
            assert ended(client).startswith((b"HTTP/1.1 400 ", b""))
    assert get(server) == (200, "ok\n")


@pytest.mark.parametrize("header", [b"content-length: 1099511627776", b"transfer-encoding: chunked"])
def test_a_body_without_end_is_refused_and_not_read(serve: Serve, header: bytes) -> None:
    server = serve()
    with connected(server) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\n" + header + b"\r\n\r\n")
        said = client.recv(1000)
        assert said.startswith(b"HTTP/1.1 413 ")
        sent = 0
        with contextlib.suppress(ConnectionError, TimeoutError):
            client.settimeout(2)
            while sent < 64 << 20:
                sent += client.send(b"5\r\nhello\r\n" * 1000)
        assert sent < 64 << 20
    assert get(server) == (200, "ok\n")


def test_one_who_never_reads_holds_up_nobody(serve: Serve) -> None:
    server = serve()
    with connected(server) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n" * 500)
        assert get(server) == (200, "ok\n")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def guard(tmp_path: Path, authority: Authority) -> dict[str, Any]:
    """Certificate, key, user and password, as settings name them."""
    issued: Issued = authority.issue("first", "127.0.0.1")
    for name, source in (("certificate", issued.certificate_file), ("key", issued.key_file)):
        shutil.copy(source, tmp_path / name)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "password").write_text("open sesame\n", encoding="utf-8")
    (tmp_path / "password").chmod(0o600)
    return {
        "certificate_file": tmp_path / "certificate",
        "key_file": tmp_path / "key",
        "username": "prometheus",
        "password_file": tmp_path / "password",
    }


ME = "prometheus:open sesame"


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
    serve: Serve, guard: dict[str, Any], authority: Authority, monkeypatch: pytest.MonkeyPatch, dribbling: int
) -> None:
    monkeypatch.setitem(globals(), "DRIBBLING", dribbling)
    peak, answered = peak_under(serve(**guard), 3 * WITHIN, authority.file)
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


def test_a_reload_ends_connections_that_were_let_in_before(serve: Serve) -> None:
    server = serve()
    with connected(server) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        client.settimeout(WITHIN)
        said = b""
        while not said.endswith(b"ok\n"):
            said += client.recv(1000)
        server.reload()
        assert ended(client) == b""


def test_ending_waits_for_no_client(serve: Serve) -> None:
    board = Board(lambda: dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.timedelta(seconds=60))
    with MonitoringServer(MonitoringSettings(port=0), board) as server:
        clients = [connected(server) for _ in range(10)]
        for client in clients[:5]:
            client.sendall(b"GET /healthz HT")
        assert get(server) == (200, "ok\n")
        child = server._child
    assert child is not None
    assert child.wait() == "exit code 0", "it had to be killed"
    for client in clients:
        assert ended(client) == b""
        client.close()


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


def test_without_descriptors_it_waits_and_goes_on(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    twin(monkeypatch, tmp_path, "places.CONNECTIONS, server_process.FILES = 8, 40")
    server = serve()
    peak, answered = peak_under(server, WITHIN)
    assert answered
    assert 0 < peak < 40
