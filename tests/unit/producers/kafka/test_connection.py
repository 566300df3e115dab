"""An address at which there is no broker, or a false one: the error names it and says what to do."""

from __future__ import annotations

import base64
import random
import socket
import struct
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.kafka.cluster import free_ports
from tests.unit.producers.kafka.stand_in_brokers import (
    API_VERSIONS,
    METADATA,
    SASL_HANDSHAKE,
    broker,
    saying,
    settings_of,
    topics,
    versions,
    well,
)

from quietcount_producers.errors import LogError, LogUnavailable
from quietcount_producers.kafka import connection as kafka_connection
from quietcount_producers.kafka.connection import TopicFacts, _check_advertised, reach
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9\r\n", b"\0\0\0\x08nonsense"])
def test_what_is_no_broker_is_told(said: bytes) -> None:
    with (
        saying(said) as address,
        pytest.raises(LogError, match=f"key 'log': what listens at {address} is not Kafka") as caught,
    ):
        reach(settings_of(address), "test")
    assert not isinstance(caught.value, LogUnavailable)


@pytest.mark.parametrize("said", [b"\0", b"\0\0\x20\0", b"\0\0\x20\0\0\0\0\1"], ids=["head", "no body", "body"])
def test_a_broker_that_is_cut_off_amid_its_answer_is_waited_for(said: bytes) -> None:
    with saying(said) as address, pytest.raises(LogUnavailable, match="it ends the connection"):
        reach(settings_of(address), "test")


@pytest.mark.parametrize("reset", [False, True], ids=["hangs up", "resets"])
def test_a_balancer_with_no_broker_behind_it_is_waited_for_with_tls_too(reset: bool) -> None:
    with (
        saying(b"", reset=reset) as address,
        pytest.raises(LogUnavailable, match=r"it ends the connection before TLS .*speaks no TLS there.*kafka\.tls"),
    ):
        reach(settings_of(address, tls=True), "test")


def test_what_speaks_no_tls_is_told() -> None:
    with (
        saying(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address,
        pytest.raises(LogError, match=r"key 'kafka\.tls': broker .* does not speak TLS there") as caught,
    ):
        reach(settings_of(address, tls=True), "test")
    assert not isinstance(caught.value, LogUnavailable)


def test_a_broker_that_is_too_old_is_told() -> None:
    with (
        broker(lambda kind, _: versions(metadata=9) if kind == API_VERSIONS else None) as address,
        pytest.raises(LogError, match="controller of Kafka, or of a broker that is too old"),
    ):
        reach(settings_of(address), "test")


def test_a_broker_that_is_none_does_not_keep_from_the_next() -> None:
    with saying(b"HTTP/1.1 502 Bad Gateway\r\n\r\n") as bad, well() as good:
        assert CASE_EVENTS in reach(KafkaSettings(brokers=(bad, good)), "test", [CASE_EVENTS])


def test_what_has_to_be_mended_comes_first_and_a_broker_that_is_down_is_waited_for() -> None:
    (port,) = free_ports(1)
    with saying(b"HTTP/1.1 502 Bad Gateway\r\n\r\n") as bad, pytest.raises(LogUnavailable) as caught:
        reach(KafkaSettings(brokers=(f"127.0.0.1:{port}", bad)), "test")
    told = str(caught.value)
    assert told.index(f"{bad} is not Kafka") < told.index(f"127.0.0.1:{port} cannot be used")


def test_brokers_that_are_all_none_are_not_waited_for() -> None:
    said = b"HTTP/1.1 502 Bad Gateway\r\n\r\n"
    with saying(said) as one, saying(said) as two, pytest.raises(LogError) as caught:
        reach(KafkaSettings(brokers=(one, two)), "test")
    assert type(caught.value) is LogError
    assert f"{one} is not Kafka" in str(caught.value)
    assert f"{two} is not Kafka" in str(caught.value)


def test_a_topic_that_a_working_broker_lacks_is_told_at_once() -> None:
    """Another broker would say the same; and one that is down would make it something to wait for."""
    (port,) = free_ports(1)
    for told in ({}, {"somebody-s": uuid.UUID(int=1)}):
        with well(told) as good, pytest.raises(LogError, match="There is no topic case-events at") as caught:
            reach(KafkaSettings(brokers=(good, f"127.0.0.1:{port}")), "test", [CASE_EVENTS])
        assert not isinstance(caught.value, LogUnavailable)


def test_a_password_that_is_refused_is_tried_once(tmp_path: Path) -> None:
    """The next broker knows no other, and tries are counted where somebody counts them."""
    password = tmp_path / "password"
    password.write_text("secret")
    password.chmod(0o600)

    def answer(kind: int, _: bytes) -> bytes:
        if kind == API_VERSIONS:
            return versions(handshake=1, authenticate=0, metadata=12)
        if kind == SASL_HANDSHAKE:
            return struct.pack(">hih", 0, 1, 13) + b"SCRAM-SHA-512"
        return struct.pack(">hhi", 58, -1, 0)

    (port,) = free_ports(1)
    with broker(answer) as address, pytest.raises(LogError, match=r"key 'kafka\.password_file'") as caught:
        reach(KafkaSettings(brokers=(address, f"127.0.0.1:{port}"), username="emitter", password_file=password), "test")
    assert not isinstance(caught.value, LogUnavailable)


@pytest.mark.parametrize(
    "node, told",
    [
        ((None, 9), {}),
        (("a" * 300, 9), {}),
        (("\x1b[2J", 9), {}),
        (("localhost", 70_000), {}),
        (("localhost", 9), None),
    ],
    ids=["no host", "endless", "escape", "no port", "no topics"],
)
def test_an_answer_that_holds_nothing_where_something_belongs_is_not_kafka_s(
    node: tuple[str | None, int], told: Mapping[str, uuid.UUID] | None
) -> None:
    with (
        broker(topics(told, node[1], node[0])) as address,
        pytest.raises(LogError, match=f"what listens at {address} is not Kafka"),
    ):
        reach(settings_of(address), "test", [CASE_EVENTS])


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "password"])
def test_no_bytes_of_a_stranger_give_anything_but_an_error_of_ours(
    secured: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_connection, "ANSWER_SECONDS", 0.0)  # ask no address that it tells of
    password = tmp_path / "password"
    password.write_text("secret")
    password.chmod(0o600)
    keys = {"username": "emitter", "password_file": password} if secured else {}
    for seed in range(600):
        drawn = random.Random(seed)

        def answer(kind: int, _: bytes, drawn: random.Random = drawn) -> bytes:
            if kind == API_VERSIONS and drawn.random() < 0.8:
                return versions(handshake=1, authenticate=0, metadata=12)
            if kind == SASL_HANDSHAKE and drawn.random() < 0.8:
                return struct.pack(">hih", 0, 1, 13) + b"SCRAM-SHA-512"
            said = bytes(
                drawn.choice((0, 0, 0, 1, 2, 3, 255, drawn.randrange(256))) for _ in range(drawn.randrange(80))
            )
            return b"\0" + said if kind == METADATA else said

        with broker(answer) as address:
            try:
                reach(settings_of(address, **keys), "test", [CASE_EVENTS])
            except LogError:
                continue
            except Exception as error:
                pytest.fail(f"seed {seed}: {error!r}")


def test_a_broker_whose_topics_have_no_identity_is_told_as_too_old() -> None:
    with (
        broker(topics({"case-events": uuid.UUID(int=0)}, 9)) as address,
        pytest.raises(LogError, match=r"key 'log': broker .* the broker is too old") as caught,
    ):
        reach(settings_of(address), "test", [CASE_EVENTS])
    assert not isinstance(caught.value, LogUnavailable)


@pytest.mark.parametrize(
    "asked, found", [([], {}), ([CASE_EVENTS], {CASE_EVENTS: TopicFacts(uuid.UUID(int=5).hex, 0)})]
)
def test_topics_that_a_broker_tells_of_unasked_are_nobody_s(asked: list[str], found: dict[str, TopicFacts]) -> None:
    told = {"somebody-s": uuid.UUID(int=0), "p.case-events": uuid.UUID(int=5)}
    with socket.create_server(("127.0.0.1", 0)) as there, broker(topics(told, there.getsockname()[1])) as address:
        assert reach(settings_of(address, topic_prefix="p."), "test", asked, write=True) == found


def test_a_false_broker_that_does_not_know_the_password_is_told(tmp_path: Path) -> None:
    """It could take events otherwise: whoever can stand between must not be taken for the brokers (RFC 5802)."""
    password = tmp_path / "password"
    password.write_text("secret")
    password.chmod(0o600)

    def answer(kind: int, request: bytes) -> bytes:
        if kind == API_VERSIONS:
            return versions(handshake=1, authenticate=0, metadata=12)
        if kind == SASL_HANDSHAKE:
            return struct.pack(">hih", 0, 1, 13) + b"SCRAM-SHA-512"
        if b"n,,n=" in request:
            nonce = request.rpartition(b"r=")[2]
            said = b"r=" + nonce + b"more,s=" + base64.b64encode(b"salt") + b",i=4096"
        else:
            said = b"v=" + base64.b64encode(bytes(64))
        return struct.pack(">hhi", 0, -1, len(said)) + said

    with (
        broker(answer) as address,
        pytest.raises(
            LogError, match=r"do not prove that they know the password of kafka.username 'emitter'"
        ) as caught,
    ):
        reach(settings_of(address, username="emitter", password_file=password), "test")
    assert not isinstance(caught.value, LogUnavailable)


def test_a_broker_that_hangs_up_is_told() -> None:
    with (
        broker(lambda *_: None) as address,
        pytest.raises(LogUnavailable, match=r"it ends the connection.* If it speaks"),
    ):
        reach(settings_of(address), "test")


def test_a_name_that_leads_nowhere_is_told() -> None:
    with pytest.raises(
        LogUnavailable, match=r"the name nowhere\.invalid of broker nowhere\.invalid:9092 cannot be res"
    ):
        reach(settings_of("nowhere.invalid:9092"), "test")


def test_every_broker_that_does_not_answer_is_named() -> None:
    one, two = (f"127.0.0.1:{port}" for port in free_ports(2))
    with pytest.raises(LogUnavailable, match=f"broker {one} cannot be used.*broker {two} cannot be used"):
        reach(KafkaSettings(brokers=(one, two)), "test")


def test_an_address_that_is_given_out_and_leads_nowhere_is_told() -> None:
    (port,) = free_ports(1)
    with pytest.raises(LogUnavailable, match=rf"reached from here: 127\.0\.0\.1:{port} .*advertised"):
        _check_advertised(settings_of("broker:9092"), "broker:9092", [("127.0.0.1", port)])
