"""What a client is answered and when it is cut off, on a clock that passes only where somebody waits."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import re
import selectors
from collections.abc import Callable
from typing import Any

import h11
import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from quietcount_consumers.access import Credentials
from quietcount_consumers.monitoring import application as http_application
from quietcount_consumers.monitoring.application import HEADER_BYTES, Application
from quietcount_consumers.monitoring.pages import Pages
from quietcount_consumers.monitoring.places import (
    ANSWER_SECONDS,
    CONNECTIONS,
    HEADER_SECONDS,
    IDLE_SECONDS,
    PATIENCE_SECONDS,
    Places,
)
from quietcount_consumers.monitoring.server_process import configuration

pytestmark = pytest.mark.quick

SECRET = base64.b64encode(b"prometheus:secret").decode()
WRONG = base64.b64encode(b"prometheus:secreT").decode()
SWEEP = 1.0
"""Seconds from one look at the deadlines to the next, at which uvicorn calls what looks at them."""

PAGES = Pages("text\n" * 20, "open\n", ("No tick was done yet.",), 60.0, 60.0, None, 0.0)


class PassingLoop(asyncio.SelectorEventLoop):
    """A loop whose time passes at once, and only when there is nothing else to do."""

    def __init__(self) -> None:
        self.now = 0.0
        loop = self

        class Selector(selectors.SelectSelector):
            def select(self, timeout: float | None = None) -> Any:
                found = super().select(0)
                if not found and timeout:
                    loop.now += timeout
                return found

        super().__init__(Selector())

    def time(self) -> float:
        return self.now


class Wire(asyncio.Transport):
    """The other side of a connection: what it was sent and when, and how it ended."""

    def __init__(self, loop: PassingLoop, *, reads: bool = True) -> None:
        super().__init__()
        self._loop = loop
        self._reads = reads
        self.protocol: H11Protocol | None = None
        self.sent: list[tuple[float, bytes]] = []
        self.ended: float | None = None
        self.paused = False
        self._closing = False
        self._peer = ("192.0.2.1", next(_PORTS))

    @property
    def answer(self) -> bytes:
        return b"".join(data for _, data in self.sent)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._peer if name == "peername" else default

    def get_write_buffer_size(self) -> int:
        return 0 if self._reads else len(self.answer)

    def write(self, data: Any) -> None:
        if data:
            self.sent.append((self._loop.now, bytes(data)))
        if not self._reads and self.protocol is not None:
            self.protocol.pause_writing()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
        if self._reads:  # else what was written has to go out first
            self.abort()

    def abort(self) -> None:
        self._closing = True
        if self.ended is None and self.protocol is not None:
            self.ended = self._loop.now
            self._loop.call_soon(self.protocol.connection_lost, None)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


Play = Callable[[Wire], Any]
_PORTS = itertools.count(1)


def connected(places: Places, application: Application, loop: PassingLoop, *, reads: bool = True) -> Wire:
    settings = configuration(application, places)
    settings.load()
    wire = Wire(loop, reads=reads)
    wire.protocol = settings.http_protocol_class(settings, ServerState(), {}, loop)  # type: ignore[assignment, call-arg]
    assert wire.protocol is not None
    wire.protocol.connection_made(wire)
    return wire


def played(scene: Callable[[Places, Application, PassingLoop], Any], credentials: Credentials | None = None) -> Any:
    """Let `scene` (a coroutine function) happen while deadlines are looked at; return what it returns."""

    async def run(loop: PassingLoop) -> Any:
        places = Places(loop.time)

        async def sweeping() -> None:
            while True:
                await asyncio.sleep(SWEEP)
                places.sweep()

        sweeper = asyncio.create_task(sweeping())
        try:
            return await scene(places, Application(lambda: PAGES, credentials, lambda: 0.0), loop)
        finally:
            sweeper.cancel()

    with asyncio.Runner(loop_factory=PassingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, PassingLoop)
        faults: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: faults.append(context))
        found = runner.run(run(loop))
    assert faults == []
    return found


def play(script: Play, *, credentials: Credentials | None = None, reads: bool = True) -> Wire:
    """Connect, and let `script` (a coroutine function) send what it wants; return the wire after some hours."""

    async def scene(places: Places, application: Application, loop: PassingLoop) -> Wire:
        wire = connected(places, application, loop, reads=reads)
        await script(wire)
        await asyncio.sleep(7200)
        return wire

    wire = played(scene, credentials)
    assert isinstance(wire, Wire)
    return wire


def sending(*data: bytes, gap: float = 0.0) -> Play:
    async def script(wire: Wire) -> None:
        for each in data:
            if wire.ended is None and wire.protocol is not None:
                wire.protocol.data_received(each)
            await asyncio.sleep(gap)

    return script


def request(path: str = "/metrics", method: str = "GET", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: x", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


ANSWERS = [
    pytest.param(request("/healthz"), 200, id="health"),
    pytest.param(request(authorization=f"Basic {SECRET}"), 200, id="metrics"),
    pytest.param(request(authorization=f"bAsIc {SECRET}", method="HEAD"), 200, id="metrics, head"),
    pytest.param(request("/readyz", authorization=f"Basic {SECRET}"), 503, id="not ready"),
    pytest.param(request("/readyz"), 401, id="readiness without a password"),
    pytest.param(request(), 401, id="no password"),
    pytest.param(request(authorization=f"Basic {WRONG}"), 401, id="wrong password"),
    pytest.param(request(authorization="Basic ?"), 401, id="no base64"),
    pytest.param(request(authorization=f"Bearer {SECRET}"), 401, id="another scheme"),
    pytest.param(request("/"), 404, id="no such page"),
    pytest.param(request("/metrics/"), 404, id="nearly a page"),
    pytest.param(request("/%6detrics"), 404, id="a page by another name"),
    pytest.param(request("*", method="OPTIONS"), 405, id="another method"),
    pytest.param(request(method="POST"), 405, id="post"),
    pytest.param(request(**{"content-length": "1000000000000"}), 413, id="a body"),
    pytest.param(request(**{"transfer-encoding": "chunked"}), 413, id="a body without an end"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, id="garbage"),
    pytest.param(b"GET  /metrics HTTP/1.1\r\n\r\n", 400, id="no request line"),
    pytest.param(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: " + b"x" * HEADER_BYTES, 400, id="a long header"),
    pytest.param(request(x="x" * 70_000), 431, id="a header of 70,000 bytes in one piece"),
    pytest.param(request("/" + "x" * 70_000), 431, id="a path of 70,000 bytes in one piece"),
    pytest.param(request("/healthz?" + "x" * 70_000), 431, id="a query of 70,000 bytes in one piece"),
    pytest.param(request("/healthz", **{f"x{n}": "y" * 100 for n in range(200)}), 431, id="many headers in one piece"),
    pytest.param(request("/healthz", x="x" * 10_000), 200, id="a header that is long enough"),
    pytest.param(request("/healthz?x=y"), 200, id="a query"),
]


@pytest.mark.parametrize("data, status", ANSWERS)
def test_what_is_asked_is_answered_once_and_at_once(data: bytes, status: int) -> None:
    wire = play(sending(data), credentials=Credentials.of("prometheus", "secret"))
    assert re.findall(rb"HTTP/1.1 (\d+)", wire.answer) == [str(status).encode()]
    assert {moment for moment, _ in wire.sent} == {0.0}


def test_without_a_bound_of_our_own_a_header_in_one_piece_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: h11's bound is for what comes in several pieces."""
    monkeypatch.setattr(http_application, "HEADER_BYTES", 10**9)
    assert play(sending(request("/healthz", x="x" * 70_000))).answer.startswith(b"HTTP/1.1 200 ")


def test_a_fault_of_ours_is_told_by_its_kind_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> list[str]:
        raise KeyError("5ec2e7")

    monkeypatch.setattr(Pages, "not_ready", broken)
    wire = play(sending(request("/readyz")))
    assert wire.answer.startswith(b"HTTP/1.1 500 ")
    assert b"KeyError" in wire.answer
    assert b"5ec2e7" not in wire.answer


def test_requests_in_one_packet_are_answered_one_after_the_other() -> None:
    wire = play(sending(request("/healthz") * 5))
    assert wire.answer.count(b"HTTP/1.1 200 ") == 5


def test_a_kept_connection_ends_when_nothing_is_asked_any_more() -> None:
    wire = play(sending(request("/healthz"), request("/healthz"), gap=30))
    assert wire.answer.count(b"HTTP/1.1 200 ") == 2
    assert wire.ended == pytest.approx(30 + IDLE_SECONDS, abs=2 * SWEEP)


def dribble(start: float = 0.0) -> Play:
    async def script(wire: Wire) -> None:
        await asyncio.sleep(start)
        for _ in range(200):
            if wire.ended is None and wire.protocol is not None:
                wire.protocol.data_received(b"x")
            await asyncio.sleep(1)

    return script


def test_a_client_that_dribbles_its_request_is_cut_off_in_time() -> None:
    wire = play(dribble())
    assert wire.ended == pytest.approx(HEADER_SECONDS, abs=2 * SWEEP)
    assert wire.sent == []


def test_a_client_that_says_nothing_is_cut_off_in_time() -> None:
    wire = play(sending())
    assert wire.ended == pytest.approx(HEADER_SECONDS, abs=2 * SWEEP)


def test_a_client_that_dribbles_its_second_request_is_cut_off_in_time() -> None:
    async def script(wire: Wire) -> None:
        await sending(request("/healthz"))(wire)
        await dribble(20)(wire)

    assert play(script).ended == pytest.approx(IDLE_SECONDS, abs=2 * SWEEP)
    half = play(sending(request("/healthz") + b"GET /he"))
    assert half.ended == pytest.approx(IDLE_SECONDS, abs=2 * SWEEP)


def test_without_deadlines_a_client_that_dribbles_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: uvicorn alone."""
    monkeypatch.setattr(Places, "sweep", lambda _self: None)
    assert play(dribble()).ended is None
    assert play(sending(request("/healthz") * 3), reads=False).ended is None


def test_a_client_that_never_reads_its_answer_is_cut_off_in_time() -> None:
    for data in (request("/healthz"), request("/healthz") * 3, request("/healthz", connection="close")):
        wire = play(sending(data), reads=False)
        assert wire.ended is not None
        assert wire.ended <= ANSWER_SECONDS + 2 * SWEEP


def test_of_too_many_connections_those_that_have_waited_longest_give_way() -> None:
    """The first one came first, and was answered after the second and the third had come."""

    async def scene(places: Places, application: Application, loop: PassingLoop) -> list[Wire]:
        wires = [connected(places, application, loop) for _ in range(3)]
        await asyncio.sleep(0.01)
        await sending(request("/healthz"))(wires[0])
        wires += [connected(places, application, loop) for _ in range(CONNECTIONS - 1)]
        await asyncio.sleep(PATIENCE_SECONDS / 2)
        assert not [wire for wire in wires if wire.ended is not None]
        await asyncio.sleep(PATIENCE_SECONDS + SWEEP)
        return wires

    assert [number for number, wire in enumerate(played(scene)) if wire.ended is not None] == [1, 2]


def test_a_burst_of_newcomers_ends_none_that_came_just_now() -> None:
    async def scene(places: Places, application: Application, loop: PassingLoop) -> list[Wire]:
        await asyncio.sleep(SWEEP / 2)
        wires = [connected(places, application, loop) for _ in range(3 * CONNECTIONS)]
        await asyncio.sleep(SWEEP)
        return [wire for wire in wires if wire.ended is not None]

    assert played(scene) == []


def test_a_place_is_free_again_when_its_connection_has_ended() -> None:
    async def scene(places: Places, application: Application, loop: PassingLoop) -> list[Wire]:
        waiting = [connected(places, application, loop) for _ in range(CONNECTIONS - 1)]
        for _ in range(100):
            passing = connected(places, application, loop)
            passing.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return waiting

    assert not [wire for wire in played(scene) if wire.ended is not None]


@pytest.mark.parametrize("body", [{"content-length": str(1 << 40)}, {"transfer-encoding": "chunked"}])
def test_a_request_with_a_body_ends_its_connection(body: dict[str, str]) -> None:
    wire = play(sending(request(**body) + b"5\r\nhello\r\n"))
    assert wire.answer.startswith(b"HTTP/1.1 413 ")
    assert wire.ended == 0.0


def test_garbage_behind_a_request_is_answered_once() -> None:
    for behind in (b"\x00\x01\r\n\r\n", b"GET\r\n\r\n"):
        wire = play(sending(request("/healthz") + behind))
        assert re.findall(rb"HTTP/1.1 (\d+)", wire.answer) == [b"200", b"400"]
        assert wire.ended is not None
    body = play(sending(request(**{"transfer-encoding": "chunked"}) + b"no number\r\n"))
    assert body.answer.count(b"HTTP/1.1 ") == 1


def test_no_answer_says_what_serves_it_or_when() -> None:
    wire = play(sending(request()))
    head = wire.answer.partition(b"\r\n\r\n")[0].lower()
    names = [line.split(b":")[0] for line in head.split(b"\r\n")[1:]]
    assert names == [b"content-type", b"content-length", b"cache-control"]


def test_a_head_is_an_answer_without_its_body() -> None:
    whole, head = (play(sending(request(method=method))).answer for method in ("GET", "HEAD"))
    assert whole.startswith(head)
    assert head.endswith(b"\r\n\r\n")
    assert len(whole) > len(head)


def test_h11_bounds_what_it_keeps_of_a_header() -> None:
    """The option's name is uvicorn's: one that it does not know any more would be ignored."""
    settings = configuration(Application(lambda: PAGES), Places(lambda: 0.0))
    settings.load()
    with contextlib.closing(PassingLoop()) as loop:
        protocol = H11Protocol(settings, ServerState(), {}, loop)
        protocol.conn.receive_data(b"GET / HTTP/1.1\r\n" + b"x" * HEADER_BYTES)
        with pytest.raises(h11.RemoteProtocolError):
            protocol.conn.next_event()
