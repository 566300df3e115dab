"""Stand-ins for a broker, which answer a client of Kafka, or hang up, as a test says."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping

from kafka.protocol.metadata import MetadataResponse

from quietcount_producers.kafka.settings import KafkaSettings

API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE, METADATA = 18, 17, 36, 3

Answer = Callable[[int, bytes], bytes | None]
"""From the kind of request and its bytes to the answer's, without head; None to hang up."""


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Yield the address at which one client is taken and given to `serve`."""

    def take() -> None:
        with contextlib.suppress(OSError), server, server.accept()[0] as client:
            serve(client)

    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(10)
    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield f"127.0.0.1:{server.getsockname()[1]}"
    finally:
        thread.join()


@contextlib.contextmanager
def broker(answer: Answer) -> Iterator[str]:
    """What listens at the address that this yields, and answers one client."""

    def serve(client: socket.socket) -> None:
        client.settimeout(10)
        while head := client.recv(4, socket.MSG_WAITALL):
            request = client.recv(struct.unpack(">i", head)[0], socket.MSG_WAITALL)
            kind, _, number = struct.unpack(">hhi", request[:8])
            body = answer(kind, request)
            if body is None:
                return
            client.sendall(struct.pack(">ii", 4 + len(body), number) + body)

    with listening(serve) as address:
        yield address


def versions(**most: int) -> bytes:
    kinds = {"handshake": SASL_HANDSHAKE, "authenticate": SASL_AUTHENTICATE, "metadata": METADATA}
    offered = [(API_VERSIONS, 0, 0), *((kinds[name], 0, version) for name, version in most.items())]
    return struct.pack(">hi", 0, len(offered)) + b"".join(struct.pack(">hhh", *each) for each in offered)


def settings_of(address: str, **keys: object) -> KafkaSettings:
    return KafkaSettings(brokers=(address,), **keys)  # type: ignore[arg-type]


@contextlib.contextmanager
def saying(said: bytes, *, reset: bool = False) -> Iterator[str]:
    """What listens at the address that this yields, says `said` to whatever one client says, and hangs up."""

    def serve(client: socket.socket) -> None:
        client.recv(1 if reset else 1000)
        client.sendall(said)
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with listening(serve) as address:
        yield address


def topics(told: Mapping[str, uuid.UUID] | None, port: int, host: str | None = "127.0.0.1") -> Answer:
    """What a broker at `port` answers that has these topics and does not tell what is allowed at them."""
    node = MetadataResponse.MetadataResponseBroker(node_id=1, host=host, port=port, version=12)
    known = told and [
        MetadataResponse.MetadataResponseTopic(error_code=0, name=name, topic_id=identity, partitions=[], version=12)
        for name, identity in told.items()
    ]
    answer = MetadataResponse(throttle_time_ms=0, brokers=[node], controller_id=1, topics=known, version=12)
    body = b"\0" + bytes(answer.encode())  # no tags in the head
    return lambda kind, _: versions(metadata=12) if kind == API_VERSIONS else body


WELL = {"case-events": uuid.UUID(int=5)}


@contextlib.contextmanager
def well(told: Mapping[str, uuid.UUID] = WELL) -> Iterator[str]:
    """A broker with nothing wrong, at the address that this yields."""
    with socket.create_server(("127.0.0.1", 0)) as there, broker(topics(told, there.getsockname()[1])) as address:
        yield address
