"""`quietcount receive` as a process: it serves, says what an operator needs, and ends in order."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import json
import socket
import ssl
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.doors import TOKEN, Served, configured, delivery, event_ids, reception_of, refused
from tests.kafka.certificates import Authority

from quietcount_producers.commands.receive import receive_command
from quietcount_producers.composing.composition import utc_today
from quietcount_producers.errors import LogUnavailable, ProducersError
from quietcount_producers.receiving import reception, server
from quietcount_producers.receiving.settings import ReceiverSettings
from quietcount_producers.spool.relay import Pauses, Relay

pytestmark = pytest.mark.quick


def test_it_takes_deliveries_and_ends_in_order_and_says_nothing_of_them(tmp_path: Path) -> None:
    config = configured(tmp_path)
    with Served(config) as served:
        good, bad = served.post(json.dumps(delivery(1)).encode()), served.post(b"no JSON")
        assert good == bad
        assert good.status == 200
        assert good.headers.keys() == {"content-type", "content-length", "cache-control"}  # no server's and no date
        assert served.post(b"{}", token="x" * 40).status == 401
        code, said = served.end()
    assert (code, said) == (0, f"Listening on http://127.0.0.1:{served.port}. The paths: /kobo\nStopped.\n")
    assert len(event_ids(tmp_path)) == 1
    assert len(refused(tmp_path)) == 1


@pytest.mark.check
def test_a_delivery_in_hand_is_answered_before_it_ends(tmp_path: Path) -> None:
    body = json.dumps(delivery(1)).encode()
    with Served(configured(tmp_path)) as served, socket.create_connection(("127.0.0.1", served.port), 30) as client:
        head = f"POST /kobo HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {len(body)}\r\n"
        client.sendall(head.encode() + b"expect: 100-continue\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 100 ")  # it waits for the body
        ending = threading.Thread(target=served.end)
        ending.start()
        client.sendall(body)
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        ending.join()
        assert served.process.returncode == 0
    assert len(event_ids(tmp_path)) == 1


@pytest.mark.check
def test_over_tls_the_certificate_is_shown_and_plain_http_gets_no_answer(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    own = authority.issue("door", "127.0.0.1")
    config = configured(tmp_path, more=f'certificate_file = "{own.certificate_file}"\nkey_file = "{own.key_file}"')
    with Served(config, tls=ssl.create_default_context(cafile=authority.file)) as served:
        assert "https://" in served.said.read_text()
        assert served.post(json.dumps(delivery(1)).encode()).status == 200
        with socket.create_connection(("127.0.0.1", served.port), 30) as client:
            client.sendall(b"POST /kobo HTTP/1.1\r\n\r\n")
            assert not client.recv(100).startswith(b"HTTP")
        assert served.end()[0] == 0


@pytest.mark.check
def test_a_handshake_that_is_never_finished_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Authority(tmp_path / "tls").issue("door", "127.0.0.1")
    config = configured(tmp_path, more=f'certificate_file = "{own.certificate_file}"\nkey_file = "{own.key_file}"')
    monkeypatch.setattr(server, "_TLS_SECONDS", {"ssl_handshake_timeout": 0.2})  # asyncio's own is a minute
    tls = ReceiverSettings.load(config, {}).tls_context()

    async def wait(listener: socket.socket) -> bytes:
        await asyncio.get_running_loop().create_server(asyncio.Protocol, sock=listener, ssl=tls)
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        try:
            return await asyncio.wait_for(reader.read(), 30)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    with socket.create_server(("127.0.0.1", 0)) as listener, asyncio.Runner(loop_factory=server._Loop) as runner:
        assert runner.run(wait(listener)) == b""


@pytest.mark.check
def test_a_port_that_another_program_has_is_said_in_a_sentence(tmp_path: Path) -> None:
    config = configured(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config.write_text(config.read_text().replace(":0", f":{taken.getsockname()[1]}"))
        result = CliRunner().invoke(receive_command, ["--config", str(config)])
    assert isinstance(result.exception, ProducersError)
    assert "key 'receive.listen': another program listens on 127.0.0.1:" in str(result.exception)


def test_check_reads_everything_and_opens_nothing(tmp_path: Path) -> None:
    config = configured(tmp_path, paths=("/kobo", "/other"))
    result = CliRunner().invoke(receive_command, ["--check", "--config", str(config)])
    assert (result.exit_code, result.output) == (0, f"{config}: the door can be opened. The paths: /kobo, /other\n")
    assert not (tmp_path / "spool").exists()
    (tmp_path / "kobo.toml").write_text("")
    result = CliRunner().invoke(receive_command, ["--check", "--config", str(config)])
    assert isinstance(result.exception, ProducersError)
    assert "kobo.toml" in str(result.exception)


def test_an_operator_hears_since_which_day_something_waits_and_no_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: object) -> None:
        raise LogUnavailable("No broker answers.")

    monkeypatch.setattr(reception, "open_log", away)
    monkeypatch.setattr(
        reception, "Relay", lambda *given: Relay(*given, pauses=Pauses(unavailable=(0.01, 0.01), idle=0.01))
    )
    config = configured(tmp_path)
    with reception_of(config) as opened:
        assert list(opened.standing()) == []
        for number in range(3):
            opened._intakes["/kobo"].take(json.dumps([delivery(number), delivery(number, day="x")]).encode())
        until = threading.Event()
        while len(said := list(opened.standing())) < 2:
            until.wait(0.01)
    today = utc_today()
    file = tmp_path / "spool" / "refused" / "kobo.jsonl"
    assert said == [
        f"Since {today} (UTC), /kobo has refused something. Move {file} away, mend it, and run: "
        f"quietcount emit FILE --mapping {tmp_path / 'kobo.toml'}",
        f"The log does not take events. They wait in the spool, which has not been empty since {today} (UTC).",
    ]


def test_how_things_stand_is_said_at_the_start_and_after_midnight_and_at_no_other_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    day = dt.date(2026, 3, 4)
    days = iter([day, day, day, day, *[day + dt.timedelta(days=1)] * 4])
    waits: list[float] = []
    said: list[int] = []

    class Standing:
        def standing(self) -> list[str]:
            return ["something"]

    async def asleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 5:
            raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", asleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(server._tell(Standing(), lambda _: said.append(len(waits)), lambda: next(days)))  # type: ignore[arg-type]
    assert waits == [server.MINUTE] * 5
    assert said == [0, 3]


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "quietcount_producers.receiving.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    importlib.invalidate_caches()
    result = CliRunner().invoke(receive_command, ["--config", str(configured(tmp_path))])
    assert isinstance(result.exception, ProducersError)
    assert result.exception.remedy == "Run: pip install './producers[receive]'"
