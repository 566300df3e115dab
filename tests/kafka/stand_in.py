"""A stand-in for Kafka where there is nothing but Python: librdkafka's mock cluster behind a door that mends its lacks.

librdkafka comes with confluent-kafka, a dependency of the tests, and brings a broker in memory for its own tests. It
keeps records, offsets and topic ids, and speaks the protocol; what it lacks is the making, deleting
and settings of topics and the deletion of records, for which it has calls in C at most. So each connection goes through
here: these requests are turned into calls, all others are handed on byte for byte.

It exercises the clients, no more. All is lost with its process; it keeps some 5 MiB a partition, hands out aborted
transactions as committed, ends each with a marker that fails its checksum, fences nobody, knows no rights, and obeys
none of the settings that it tells. What passes here says nothing of Apache Kafka: `unhonoured` names what is left out.

`python -m tests.kafka.stand_in` prints its `host:port` and ends with its standard input.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from kafka.protocol.admin import (
    CreateTopicsRequest,
    CreateTopicsResponse,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DescribeConfigsRequest,
    DescribeConfigsResponse,
)
from kafka.protocol.metadata import ApiVersionsRequest, ApiVersionsResponse

HOST: Final = "127.0.0.1"
_PRODUCER: Final = 0  # RD_KAFKA_PRODUCER
_BROKER: Final = 1
_END_SECONDS: Final = 30

FOLDER: Final = "tests/contract/"
"""What the stand-in is for: the contract suite. All other tests that want a broker want Apache Kafka."""
_LEDGER: Final = "tests/contract/test_ledger_contract.py::"
_MARKERS: Final = "the markers that it writes at the end of a transaction fail their checksum"
_FENCES: Final = "it fences no releaser, and the markers that it writes at the end of a transaction fail their checksum"
UNHONOURED: Final = {
    _LEDGER + "test_what_was_appended_is_read_back_whole_and_from_any_index_on[kafka]": _MARKERS,
    _LEDGER + "test_a_reader_sees_what_was_appended_since[kafka]": _MARKERS,
    _LEDGER + "test_entries_of_a_wide_domain_are_kept_whole[kafka]": _MARKERS,
    _LEDGER + "test_an_append_under_an_older_fence_is_refused_whoever_holds_the_newer_one[kafka]": _FENCES,
    _LEDGER + "test_the_newer_holder_need_not_be_there_any_more[kafka]": _FENCES,
    _LEDGER + "test_an_append_that_did_not_expect_what_is_there_is_refused[kafka-0]": _MARKERS,
    _LEDGER + "test_an_append_that_did_not_expect_what_is_there_is_refused[kafka-1]": _MARKERS,
    _LEDGER + "test_an_append_that_did_not_expect_what_is_there_is_refused[kafka-3]": _MARKERS,
    _LEDGER + "test_an_append_that_did_not_expect_what_is_there_is_refused[kafka-4]": _MARKERS,
    _LEDGER + "test_a_killed_releaser_leaves_the_whole_of_an_append_or_nothing[kafka]": _FENCES,
    _LEDGER + "test_of_two_that_append_at_the_same_moment_one_is_refused[kafka]": _FENCES,
}
"""Tests of that folder that it fails, with the reason. `test_choice.py` sees to it that none is listed that passes."""

_DEFAULTS: Final = {"max.message.bytes": "1048588", "cleanup.policy": "delete", "retention.ms": "604800000"}
_TOPIC_SETTING: Final = 1  # ConfigSource.DYNAMIC_TOPIC_CONFIG
_C: Final = {
    "rd_kafka_conf_new": (ctypes.c_void_p,),
    "rd_kafka_conf_set": (ctypes.c_int, ctypes.c_void_p, *[ctypes.c_char_p] * 3, ctypes.c_size_t),
    "rd_kafka_new": (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t),
    "rd_kafka_mock_cluster_new": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int),
    "rd_kafka_mock_cluster_bootstraps": (ctypes.c_char_p, ctypes.c_void_p),
    "rd_kafka_mock_broker_set_host_port": (
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_int32,
        ctypes.c_char_p,
        ctypes.c_int,
    ),
    "rd_kafka_mock_set_controller_id": (ctypes.c_int, ctypes.c_void_p, ctypes.c_int32),
    "rd_kafka_mock_topic_create": (ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int),
    "rd_kafka_mock_topic_delete": (ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p),
    "rd_kafka_mock_partition_delete_records": (
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_int32,
        ctypes.c_int64,
    ),
}
"""Result and arguments of what is called, as in rdkafka.h and rdkafka_mock.h of librdkafka 2."""


def unhonoured(test: str) -> str | None:
    """Return why the stand-in cannot serve the test of this node id, or None if it can."""
    if not test.startswith(FOLDER):
        return "its stand-in serves the contract suite alone, and no test of durability, failover or fencing"
    reason = UNHONOURED.get(test)
    return reason and f"of its stand-in: {reason}"


class Mock:
    """librdkafka's mock cluster of one broker; a call returns the protocol's error code, 0 for none."""

    def __init__(self) -> None:
        from confluent_kafka import cimpl

        library = ctypes.CDLL(cimpl.__file__)  # a name is looked for in what the extension was linked with, too
        for name, (result, *arguments) in _C.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        self._library: Any = library
        options = library.rd_kafka_conf_new()
        library.rd_kafka_conf_set(options, b"log_level", b"2", None, 0)
        said = ctypes.create_string_buffer(512)
        client = library.rd_kafka_new(_PRODUCER, options, said, len(said))
        if not client:
            raise RuntimeError(said.value.decode())
        self._cluster = library.rd_kafka_mock_cluster_new(client, 1)
        library.rd_kafka_mock_set_controller_id(self._cluster, _BROKER)  # none, else, and topics are made by it
        host, port = library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode().rsplit(":", 1)
        self.address = (host, int(port))

    def advertise(self, port: int) -> None:
        """Name another port as the broker's."""
        self._library.rd_kafka_mock_broker_set_host_port(self._cluster, _BROKER, HOST.encode(), port)

    def create(self, topic: str, partitions: int) -> int:
        """Make a topic."""
        return int(self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1))

    def delete(self, topic: str) -> int:
        """Delete a topic with all that it holds."""
        return int(self._library.rd_kafka_mock_topic_delete(self._cluster, topic.encode()))

    def delete_records(self, topic: str, partition: int, before: int) -> int:
        """Let a partition begin at the offset `before`."""
        return int(
            self._library.rd_kafka_mock_partition_delete_records(self._cluster, topic.encode(), partition, before)
        )


class Door:
    """Where clients connect: it answers what the mock cannot, and hands on the rest, request by request, in order."""

    def __init__(self, mock: Mock) -> None:
        self._mock = mock
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        # What is answered here, up to a version that names topics by name and wants little else told.
        self._answers: dict[int, tuple[type[Any], int, Callable[[Any, int], Any]]] = {
            CreateTopicsRequest.API_KEY: (CreateTopicsRequest, 4, self._create),
            DeleteTopicsRequest.API_KEY: (DeleteTopicsRequest, 3, self._delete),
            DeleteRecordsRequest.API_KEY: (DeleteRecordsRequest, 1, self._delete_records),
            DescribeConfigsRequest.API_KEY: (DescribeConfigsRequest, 3, self._describe),
            ApiVersionsRequest.API_KEY: (ApiVersionsRequest, ApiVersionsRequest.max_version, self._versions),
        }
        self._settings: dict[str, dict[str, str | None]] = {}
        mock.advertise(self.port)
        self._known = self._asked_versions()

    def serve(self) -> None:
        """Take connections for ever."""
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._converse, args=(client,), daemon=True).start()

    def _converse(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._mock.address) as broker, suppress(OSError, EOFError):
            while True:
                request = _frame(client)
                key, version = struct.unpack_from(">hh", request)
                if key in self._answers:
                    kind, _, answer = self._answers[key]
                    asked = kind.decode(request, version=version, header=True)
                    given = answer(asked, version)
                    given.with_header(correlation_id=asked.header.correlation_id)
                    client.sendall(given.encode(header=True, framed=True))
                else:
                    _send(broker, request)
                    _send(client, _frame(broker))

    def _asked_versions(self) -> dict[int, tuple[int, int]]:
        request = ApiVersionsRequest(version=0)
        request.with_header()
        with socket.create_connection(self._mock.address) as broker:
            broker.sendall(request.encode(header=True, framed=True))
            answer = ApiVersionsResponse.decode(_frame(broker), version=0, header=True)
        return {each.api_key: (each.min_version, each.max_version) for each in answer.api_keys}

    def _versions(self, _: Any, version: int) -> Any:
        versions = self._known | {key: (0, highest) for key, (_, highest, _) in self._answers.items()}
        known = [ApiVersionsResponse.ApiVersion(key, *span, version=version) for key, span in sorted(versions.items())]
        return ApiVersionsResponse(error_code=0, api_keys=known, version=version)

    def _create(self, request: Any, version: int) -> Any:
        made = []
        for each in request.topics:
            code = self._mock.create(each.name, each.num_partitions)
            if not code:
                self._settings[each.name] = _DEFAULTS | {given.name: given.value for given in each.configs}
            made.append(CreateTopicsResponse.CreatableTopicResult(name=each.name, error_code=code, version=version))
        return CreateTopicsResponse(topics=made, version=version)

    def _describe(self, request: Any, version: int) -> Any:
        results = []
        for each in request.resources:
            told = [
                DescribeConfigsResponse.DescribeConfigsResult.DescribeConfigsResourceResult(
                    name=name,
                    value=value,
                    read_only=False,
                    is_sensitive=False,
                    synonyms=[],
                    config_source=_TOPIC_SETTING,
                    version=version,
                )
                for name, value in self._settings.get(each.resource_name, {}).items()
            ]
            results.append(
                DescribeConfigsResponse.DescribeConfigsResult(
                    error_code=0,
                    resource_type=each.resource_type,
                    resource_name=each.resource_name,
                    configs=told,
                    version=version,
                )
            )
        return DescribeConfigsResponse(results=results, version=version)

    def _delete(self, request: Any, version: int) -> Any:
        deleted = []
        for name in request.topic_names:
            code = self._mock.delete(name)
            deleted.append(DeleteTopicsResponse.DeletableTopicResult(name=name, error_code=code, version=version))
        return DeleteTopicsResponse(responses=deleted, version=version)

    def _delete_records(self, request: Any, version: int) -> Any:
        topics = []
        for topic in request.topics:
            cut = []
            for each in topic.partitions:
                code = self._mock.delete_records(topic.name, each.partition_index, each.offset)
                cut.append(
                    DeleteRecordsResponse.DeleteRecordsTopicResult.DeleteRecordsPartitionResult(
                        partition_index=each.partition_index,
                        low_watermark=each.offset,
                        error_code=code,
                        version=version,
                    )
                )
            topics.append(
                DeleteRecordsResponse.DeleteRecordsTopicResult(name=topic.name, partitions=cut, version=version)
            )
        return DeleteRecordsResponse(topics=topics, version=version)


class StandIn:
    """The stand-in as a process of its own, which ends with the one that started it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kafka.stand_in"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.bootstrap = self._process.stdout.readline().strip()
        assert self.bootstrap, "the stand-in did not start"

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=_END_SECONDS)


def _frame(connection: socket.socket) -> bytes:
    """Return the next message, without the four bytes of its length. Raises EOFError at the end."""
    (size,) = struct.unpack(">i", _exactly(connection, 4))
    return _exactly(connection, size)


def _send(connection: socket.socket, message: bytes) -> None:
    connection.sendall(struct.pack(">i", len(message)) + message)


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        more = connection.recv(size - len(found))
        if not more:
            raise EOFError
        found += more
    return bytes(found)


def main() -> None:
    """Serve until standard input ends."""
    door = Door(Mock())
    threading.Thread(target=door.serve, daemon=True).start()
    sys.stdout.write(f"{HOST}:{door.port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
