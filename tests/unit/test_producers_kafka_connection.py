"""What is no broker, or a false one, is told as that; an error of the library never shows what it carries."""

from __future__ import annotations

import base64
import contextlib
import logging
import socket
import struct
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from kafka import errors as kafka_errors
from kafka.protocol.metadata import MetadataResponse
from tests.kafka.cluster import free_ports

from quietcount_producers.errors import LogError, LogUnavailable
from quietcount_producers.kafka_connection import TopicFacts, _check_advertised, client_options, explained, reach
from quietcount_producers.kafka_settings import KafkaSettings
from quietcount_producers.kafka_writer import MOST_BYTES, _rounds, _size
from quietcount_producers.partitioner import partition_for
from quietcount_schemas.log import CASE_EVENTS, NewRecord

API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE, METADATA = 18, 17, 36, 3

Answer = Callable[[int, bytes], bytes | None]
"""From the kind of request and its bytes to the answer's, without head; None to hang up."""


@contextlib.contextmanager
def broker(answer: Answer) -> Iterator[str]:
    """What listens at the address that this yields, and answers one client."""

    def serve() -> None:
        with contextlib.suppress(OSError), server, server.accept()[0] as client:
            client.settimeout(10)
            while head := client.recv(4, socket.MSG_WAITALL):
                request = client.recv(struct.unpack(">i", head)[0], socket.MSG_WAITALL)
                kind, _, number = struct.unpack(">hhi", request[:8])
                body = answer(kind, request)
                if body is None:
                    return
                client.sendall(struct.pack(">ii", 4 + len(body), number) + body)

    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(10)
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{server.getsockname()[1]}"
    finally:
        thread.join()


def versions(**most: int) -> bytes:
    kinds = {"handshake": SASL_HANDSHAKE, "authenticate": SASL_AUTHENTICATE, "metadata": METADATA}
    offered = [(API_VERSIONS, 0, 0), *((kinds[name], 0, version) for name, version in most.items())]
    return struct.pack(">hi", 0, len(offered)) + b"".join(struct.pack(">hhh", *each) for each in offered)


def settings_of(address: str, **keys: object) -> KafkaSettings:
    return KafkaSettings(brokers=(address,), **keys)  # type: ignore[arg-type]


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9\r\n", b"\0\0\0\x08nonsense"])
def test_what_is_no_broker_is_told(said: bytes) -> None:
    def serve() -> None:
        with server, server.accept()[0] as client:
            client.recv(1000)
            client.sendall(said)

    server = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve)
    thread.start()
    address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(LogError, match=f"key 'log': what listens at {address} is not Kafka"):
        reach(settings_of(address), "test")
    thread.join()


def test_a_broker_that_is_too_old_is_told() -> None:
    with (
        broker(lambda kind, _: versions(metadata=9) if kind == API_VERSIONS else None) as address,
        pytest.raises(LogError, match="is a controller of Kafka, or too old"),
    ):
        reach(settings_of(address), "test")


def topics(told: Mapping[str, uuid.UUID], port: int) -> Answer:
    """What a broker at `port` answers that has these topics and does not tell what is allowed at them."""
    node = MetadataResponse.MetadataResponseBroker(node_id=1, host="127.0.0.1", port=port, version=12)
    known = [
        MetadataResponse.MetadataResponseTopic(error_code=0, name=name, topic_id=identity, partitions=[], version=12)
        for name, identity in told.items()
    ]
    answer = MetadataResponse(throttle_time_ms=0, brokers=[node], controller_id=1, topics=known, version=12)
    body = b"\0" + bytes(answer.encode())  # no tags in the head
    return lambda kind, _: versions(metadata=12) if kind == API_VERSIONS else body


def test_a_broker_whose_topics_have_no_identity_is_told_as_too_old() -> None:
    with (
        broker(topics({"case-events": uuid.UUID(int=0)}, 9)) as address,
        pytest.raises(LogError, match=r"key 'log': broker .* too old a broker") as caught,
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
        pytest.raises(LogUnavailable, match="it ends the connection; if it speaks"),
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
    with pytest.raises(LogUnavailable, match=rf"names as the brokers' addresses 127\.0\.0\.1:{port}, .*advertised"):
        _check_advertised(settings_of("broker:9092"), "broker:9092", [("127.0.0.1", port)])


@pytest.mark.parametrize(
    "error, kind, told",
    [
        (kafka_errors.TopicAuthorizationFailedError("x"), LogError, "a client without a name may not"),
        (kafka_errors.ClusterAuthorizationFailedError("x"), LogError, r"may not \(ClusterAuthorizationFailedError\)"),
        (kafka_errors.UnknownTopicOrPartitionError("x"), LogError, "quietcount topics create"),
        (kafka_errors.MessageSizeTooLargeError("x"), LogError, r"max\.message\.bytes"),
        (kafka_errors.InvalidTimestampError("x"), LogError, r"message\.timestamp\.type"),
        (kafka_errors.NotEnoughReplicasError("x"), LogUnavailable, r"min\.insync\.replicas"),
        (kafka_errors.KafkaConnectionError("x"), LogUnavailable, "the connection was lost"),
        (kafka_errors.KafkaTimeoutError("x"), LogUnavailable, r"no answer in time \(KafkaTimeoutError\)"),
        (kafka_errors.KafkaStorageError("x"), LogUnavailable, "KafkaStorageError"),
        (kafka_errors.UnknownBrokerIdError("x"), LogUnavailable, "UnknownBrokerIdError"),
        (kafka_errors.BrokerNotAvailableError("x"), LogUnavailable, "BrokerNotAvailableError"),
        (kafka_errors.OutOfOrderSequenceNumberError("x"), LogError, "OutOfOrderSequenceNumberError"),
        (ConnectionResetError("x"), LogUnavailable, "ConnectionResetError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_of_the_library_is_told_by_what_to_do_and_never_by_its_text(
    error: Exception, kind: type[LogError], told: str
) -> None:
    error.args = ("telltale",)
    found = explained(error, settings_of("broker:9092", topic_prefix="p."), "append to", CASE_EVENTS)
    assert type(found) is kind
    assert "telltale" not in str(found)
    with pytest.raises(kind, match=told):
        raise found
    assert "p.case-events" in str(found)


def test_the_library_s_loggers_tell_no_record_unless_somebody_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    loggers = [logging.getLogger(name) for name in ("kafka", "kafka.protocol.parser")]
    for logger in loggers:
        monkeypatch.setattr(logger, "level", logging.NOTSET)
    client_options(settings_of("broker:9092"), "test")
    assert [logger.level for logger in loggers] == [logging.WARNING, logging.CRITICAL]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    client_options(settings_of("broker:9092"), "test")
    assert [logger.level for logger in loggers] == [logging.DEBUG, logging.DEBUG]
    for logger in loggers:
        logger.setLevel(logging.NOTSET)  # drops what it remembers of levels; monkeypatch puts back the number


def test_what_is_sent_together_fits_and_keeps_its_order() -> None:
    records = [NewRecord(b"%d" % (n % 5), bytes(n * 997 % 60_000), 0) for n in range(200)]
    rounds = _rounds(records, 3)
    assert sorted(number for each in rounds for number, _ in each) == list(range(200))
    for each in rounds:
        for partition in range(3):
            assert sum(_size(records[number]) for number, at in each if at == partition) <= MOST_BYTES
    for partition in range(3):
        order = [number for each in rounds for number, at in each if at == partition]
        assert order == [n for n in range(200) if partition_for(records[n].key, 3) == partition]
