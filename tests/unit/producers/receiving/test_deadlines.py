"""When a client is cut off, on a clock that passes only where somebody waits; and how many may come."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from tests.doors import TOKEN
from tests.strategies import mutate
from tests.unit.consumers.monitoring.test_http_times import PassingLoop, Wire
from uvicorn.server import ServerState

from quietcount_producers.receiving.application import HEADER_BYTES, Application, Door
from quietcount_producers.receiving.places import (
    BODY_SECONDS,
    CONNECTIONS,
    HEADER_SECONDS,
    IDLE_SECONDS,
    STORE_SECONDS,
    Places,
)
from quietcount_producers.receiving.server import configuration
from quietcount_producers.receiving.tokens import Tokens

pytestmark = pytest.mark.quick

TAKEN: list[bytes] = []


def request(length: int, *, token: str = TOKEN, path: str = "/kobo") -> bytes:
    lines = (f"POST {path} HTTP/1.1", "host: x", f"authorization: Bearer {token}", f"content-length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


class Scene:
    """A door on a loop whose time passes at once; `storing` says for how many seconds each body is stored."""

    def __init__(self, loop: PassingLoop, storing: float = 0.0) -> None:
        self.loop = loop
        places = Places(loop.call_later)

        async def take(body: bytes) -> None:
            await asyncio.sleep(storing)
            TAKEN.append(body)

        application = Application({"/kobo": Door(Tokens.of(TOKEN), take)}, places)
        self._settings = configuration(application, places)
        self._settings.load()

    def connected(self) -> Wire:
        wire = Wire(self.loop)
        made: Any = self._settings.http_protocol_class
        wire.protocol = made(self._settings, ServerState(), {}, self.loop)
        assert wire.protocol is not None
        wire.protocol.connection_made(wire)
        return wire

    async def send(self, wire: Wire, *data: bytes, gap: float = 0.0) -> None:
        for each in data:
            if wire.ended is None and wire.protocol is not None:
                wire.protocol.data_received(each)
            await asyncio.sleep(gap)


def played(script: Callable[[Scene], Any], storing: float = 0.0) -> Any:
    TAKEN.clear()

    async def run(loop: PassingLoop) -> Any:
        found = await script(Scene(loop, storing))
        await asyncio.sleep(7200)
        return found

    with asyncio.Runner(loop_factory=PassingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, PassingLoop)
        return runner.run(run(loop))


def wired(*data: bytes, gap: float = 0.0, storing: float = 0.0) -> Wire:
    async def script(scene: Scene) -> Wire:
        wire = scene.connected()
        await scene.send(wire, *data, gap=gap)
        return wire

    wire = played(script, storing)
    assert isinstance(wire, Wire)
    return wire


def statuses(wire: Wire) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d+)", wire.answer)]


def test_a_client_that_dribbles_its_header_is_cut_off_in_time() -> None:
    for wire in (wired(), wired(*(b"x" for _ in range(99)), gap=1), wired(*(b"a: b\r\n" for _ in range(99)), gap=1)):
        assert wire.ended == pytest.approx(HEADER_SECONDS)
        assert wire.sent == []


def test_a_client_that_dribbles_its_body_is_cut_off_in_time_and_nothing_of_it_is_taken() -> None:
    wire = wired(request(1000), *(b"x" for _ in range(200)), gap=1)
    assert wire.ended == pytest.approx(BODY_SECONDS)
    assert (wire.sent, TAKEN) == ([], [])


def test_a_body_that_the_disk_is_slow_with_is_waited_for() -> None:
    wire = wired(request(2) + b"{}", storing=STORE_SECONDS - 1)
    assert (statuses(wire), TAKEN) == ([200], [b"{}"])
    assert wired(request(2) + b"{}", storing=STORE_SECONDS + 1).ended == pytest.approx(STORE_SECONDS)


def test_a_kept_connection_ends_when_nothing_is_delivered_any_more() -> None:
    wire = wired(request(2) + b"{}", request(2) + b"{}", gap=30)
    assert statuses(wire) == [200, 200]
    assert wire.ended == pytest.approx(30 + IDLE_SECONDS)
    dribbled = wired(request(2) + b"{}", *(b"x" for _ in range(200)), gap=1)
    assert dribbled.ended == pytest.approx(IDLE_SECONDS, abs=2)


def test_without_deadlines_a_client_that_dribbles_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: uvicorn alone."""
    monkeypatch.setattr(Places, "take", lambda *_: None)
    assert wired(*(b"x" for _ in range(200)), gap=1).ended is None
    stayed = wired(request(1000), *(b"x" for _ in range(200)), gap=1).ended
    assert stayed is None or stayed > 7200  # when the trial ends


def test_who_is_not_let_in_is_not_read() -> None:
    wire = wired(request(1 << 40, token="x" * 40) + b"x" * 1000)
    assert statuses(wire) == [401]
    assert wire.ended == 0.0


def test_of_too_many_connections_the_one_that_waits_longest_without_a_request_gives_way() -> None:
    async def script(scene: Scene) -> list[int]:
        wires = [scene.connected()]
        await scene.send(wires[0], request(1000))  # the first one: with the token, and a body on its way
        wires += [scene.connected() for _ in range(CONNECTIONS + 1)]
        await asyncio.sleep(0)
        return [number for number, wire in enumerate(wires) if wire.ended is not None]

    assert played(script) == [1, 2]


def test_a_flood_leaves_no_more_connections_than_there_are_places() -> None:
    async def script(scene: Scene) -> int:
        wires = [scene.connected() for _ in range(10 * CONNECTIONS)]
        for wire in wires:
            await scene.send(wire, request(1000))
        return sum(wire.ended is None for wire in wires)

    assert played(script) == CONNECTIONS


def test_garbage_is_answered_by_the_server_and_not_by_us() -> None:
    for data in (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"POST  /kobo HTTP/1.1\r\n\r\n", b"x" * (HEADER_BYTES + 100)):
        wire = wired(data)
        assert statuses(wire) == [400]
        assert b"date" not in wire.answer.lower()
        assert b"uvicorn" not in wire.answer.lower()
    wire = wired(request(0).replace(b"content-length: 0", b"transfer-encoding: chunked") + b"no number\r\n")
    assert TAKEN == []
    assert len(statuses(wire)) <= 1


@pytest.mark.check
def test_whatever_comes_over_the_wire_one_of_the_constant_answers_is_given() -> None:
    seed = random.randrange(10**9)
    print("seed", seed)
    rng = random.Random(seed)
    body = b'{"person": "5ec2e7"}'
    valid = [
        request(len(body)) + body,
        request(len(body), token="x" * 40) + body,
        request(0).replace(b"content-length: 0", b"transfer-encoding: chunked") + b"14\r\n" + body + b"\r\n0\r\n\r\n",
        request(len(body)).replace(b"\r\n\r\n", b"\r\nexpect: 100-continue\r\n\r\n") + body,
    ]

    async def script(scene: Scene) -> set[bytes]:
        found: set[bytes] = set()
        for _ in range(3000):
            wire = scene.connected()
            data = mutate(rng.choice(valid), valid, rng)
            half = rng.randrange(len(data) + 1)
            await scene.send(wire, *filter(None, (data[:half], data[half:])))  # asyncio hands over no empty piece
            await asyncio.sleep(0)
            wire.abort()
            found |= set(re.split(rb"(?<=.)(?=HTTP/1\.1 )", wire.answer, flags=re.DOTALL))
        return found

    answers = played(script)
    assert not [each for each in answers if b"5ec2e7" in each], f"seed {seed}"
    assert {each[9:12] for each in answers} <= {b"", b"100", b"200", b"400", b"401", b"413", b"431"}
    assert {b"200", b"400", b"401"} <= {each[9:12] for each in answers}
    for status in (b"200", b"401", b"413"):
        assert len({re.sub(rb"(?i)connection: close\r\n", b"", each) for each in answers if each[9:12] == status}) <= 1
