"""When a client is answered and when it is cut off, on a clock that passes only where somebody waits."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import re
import selectors
from collections.abc import Callable
from typing import Any

import h11
import pytest
from uvicorn.server import ServerState

from quietcount_consumers.monitoring import protocol as http_protocol
from quietcount_consumers.monitoring import server as http_server
from quietcount_consumers.monitoring.protocol import (
    ANSWER_AFTER,
    ANSWER_SECONDS,
    HEADER_BYTES,
    HEADER_SECONDS,
    IDLE_SECONDS,
    MOST_NOISE,
    BoundedProtocol,
    answer_delay,
    protocol_configuration,
)
from quietcount_consumers.monitoring.server import Application
from quietcount_consumers.monitoring.status import Board
from quietcount_consumers.monitoring_settings import Credentials

pytestmark = pytest.mark.quick

DELAY = 0.25  # what is drawn here, for every answer
SECRET = base64.b64encode(b"prometheus:secret").decode()
WRONG = base64.b64encode(b"prometheus:secreT").decode()


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
        self.protocol: BoundedProtocol | None = None
        self.sent: list[tuple[float, bytes]] = []
        self.ended: float | None = None
        self.paused = False
        self._closing = False

    @property
    def answer(self) -> bytes:
        return b"".join(data for _, data in self.sent)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

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


def play(script: Play, *, credentials: Credentials | None = None, delay: float = DELAY, reads: bool = True) -> Wire:
    """Connect, and let `script` (a coroutine function) send what it wants; return the wire after some hours."""
    board = Board(lambda: dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.timedelta(seconds=60))
    application = Application(board, lambda: credentials, lambda: delay)

    async def run(loop: PassingLoop) -> Wire:
        wire = Wire(loop, reads=reads)
        wire.protocol = BoundedProtocol(protocol_configuration(application), ServerState(), {}, loop)
        wire.protocol.connection_made(wire)
        await script(wire)
        await asyncio.sleep(7200)
        return wire

    with asyncio.Runner(loop_factory=PassingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, PassingLoop)
        faults: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: faults.append(context))
        wire = runner.run(run(loop))
    assert faults == []
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
]


@pytest.mark.parametrize("data, status", ANSWERS)
def test_every_answer_comes_the_same_time_after_its_request(
    data: bytes, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "answer_delay", lambda: DELAY)
    wire = play(sending(data), credentials=Credentials("prometheus", "secret"))
    assert wire.answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert [moment for moment, _ in wire.sent] == [pytest.approx(DELAY, abs=1e-6)] * len(wire.sent)


def test_an_answer_that_takes_long_to_make_comes_no_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object) -> list[str]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, PassingLoop)
        loop.now += 0.15
        return []

    monkeypatch.setattr(http_server, "readiness", busy)
    wire = play(sending(request("/readyz")))
    assert wire.answer.startswith(b"HTTP/1.1 200 ")
    assert [moment for moment, _ in wire.sent] == [pytest.approx(DELAY, abs=1e-6)] * len(wire.sent)


def test_a_server_that_answers_when_it_is_done_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant of the two above."""
    monkeypatch.setattr(asyncio, "sleep", _no_sleep(asyncio.sleep))
    with pytest.raises(AssertionError):
        test_an_answer_that_takes_long_to_make_comes_no_later(monkeypatch)


def _no_sleep(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda seconds, *rest: original(0 if seconds < 1 else seconds, *rest)


def test_a_fault_of_ours_is_told_by_its_kind_alone_and_at_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> list[str]:
        raise KeyError("5ec2e7")

    monkeypatch.setattr(http_server, "readiness", broken)
    wire = play(sending(request("/readyz")))
    assert wire.answer.startswith(b"HTTP/1.1 500 ")
    assert b"KeyError" in wire.answer
    assert b"5ec2e7" not in wire.answer
    assert wire.sent[0][0] == pytest.approx(DELAY, abs=1e-6)


def test_what_is_added_to_an_answers_time_is_drawn_alone() -> None:
    """Of 20,000 draws the mean errs by 0.7 ms (one standard deviation): the bound fails once in 10^7 runs."""
    drawn = [answer_delay() for _ in range(20_000)]
    assert min(drawn) >= ANSWER_AFTER
    assert max(drawn) <= ANSWER_AFTER + MOST_NOISE
    assert sum(drawn) / len(drawn) == pytest.approx(ANSWER_AFTER + 0.0966, abs=0.0038)


def test_requests_in_one_packet_are_answered_one_after_the_other() -> None:
    wire = play(sending(request("/healthz") * 5))
    assert wire.answer.count(b"HTTP/1.1 200 ") == 5
    assert sorted({round(moment / DELAY) for moment, _ in wire.sent}) == [1, 2, 3, 4, 5]


def test_a_kept_connection_ends_when_nothing_is_asked_any_more() -> None:
    wire = play(sending(request("/healthz"), request("/healthz"), gap=30))
    assert wire.answer.count(b"HTTP/1.1 200 ") == 2
    assert wire.ended == pytest.approx(30 + DELAY + IDLE_SECONDS, abs=1e-3)


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
    assert wire.ended == pytest.approx(HEADER_SECONDS, abs=1e-3)
    assert wire.sent == []


def test_a_client_that_says_nothing_is_cut_off_in_time() -> None:
    wire = play(sending())
    assert wire.ended == pytest.approx(HEADER_SECONDS, abs=1e-3)


def test_a_client_that_dribbles_its_second_request_is_cut_off_in_time() -> None:
    async def script(wire: Wire) -> None:
        await sending(request("/healthz"))(wire)
        await dribble(20)(wire)

    assert play(script).ended == pytest.approx(20 + HEADER_SECONDS, abs=1e-3)
    half = play(sending(request("/healthz") + b"GET /he"))
    assert half.ended == pytest.approx(DELAY + HEADER_SECONDS, abs=1e-3)


def test_without_a_limit_of_time_a_client_that_dribbles_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two mutants: no limit at all, and one that begins anew with each byte."""
    end_in, received = BoundedProtocol._end_in, BoundedProtocol.data_received
    with monkeypatch.context() as patch:
        patch.setattr(BoundedProtocol, "_end_in", lambda *_: None)
        assert play(dribble()).ended is None

    def renewing(self: BoundedProtocol, data: bytes) -> None:
        end_in(self, HEADER_SECONDS)
        received(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(BoundedProtocol, "data_received", renewing)
        assert play(dribble()).ended == pytest.approx(199 + HEADER_SECONDS, abs=1e-3)


def test_a_client_that_never_reads_its_answer_is_cut_off_in_time() -> None:
    wire = play(sending(request("/healthz") * 3), reads=False)
    assert wire.ended is not None
    assert wire.ended <= DELAY + ANSWER_SECONDS
    closing = play(sending(request("/healthz", connection="close")), reads=False)
    assert closing.ended is not None
    assert closing.ended <= 2 * (DELAY + ANSWER_SECONDS)


@pytest.mark.parametrize("body", [{"content-length": str(1 << 40)}, {"transfer-encoding": "chunked"}])
def test_of_a_body_nothing_is_read_but_what_came_with_its_header(body: dict[str, str]) -> None:
    paused: list[bool] = []

    async def script(wire: Wire) -> None:
        await sending(request(**body) + b"5\r\nhello\r\n")(wire)
        paused.append(wire.paused)

    wire = play(script)
    assert paused == [True]
    assert wire.answer.startswith(b"HTTP/1.1 413 ")
    assert wire.ended == pytest.approx(DELAY, abs=1e-6)


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
    configuration = protocol_configuration(None)
    assert configuration.h11_max_incomplete_event_size == HEADER_BYTES
    with contextlib.closing(PassingLoop()) as loop:
        protocol = BoundedProtocol(configuration, ServerState(), {}, loop)
        protocol.conn.receive_data(b"GET / HTTP/1.1\r\n" + b"x" * HEADER_BYTES)
        with pytest.raises(h11.RemoteProtocolError):
            protocol.conn.next_event()
