"""Clients that are not ours: what they write with the schema files and the README alone is counted, and ours they read.

Confluent's client is librdkafka beneath Python; kcat is librdkafka with no Avro at all; Apache's `avro` decodes.
"""

from __future__ import annotations

import io
import re
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import avro.io
import avro.schema
import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from tests.e2e.kafka.kafka_projects import PARTITIONS, kafka_project, settings_of
from tests.e2e.projects import EXACT, Project
from tests.kafka.fixtures import Kafka
from tests.registry.apicurio import Apicurio

from quietcount_producers.partitioner import partition_for
from quietcount_schemas import SchemaRegistry
from quietcount_schemas.log import CASE_EVENTS
from quietcount_schemas.registry import CASEWORK
from quietcount_schemas.schema_registry import ids as registry_ids

pytestmark = [pytest.mark.check, pytest.mark.xdist_group("registry")]

SECONDS = 30  # for a broker that answers at once when it is well
SINGLE_OBJECT = 10
CONFLUENT = 5
OURS = {"event": "HelpRequested", "occurred_on": "2023-10-17", "help_kind": "DESERTION"}


@pytest.fixture
def project(tmp_path: Path, kafka: Kafka) -> Project:
    return kafka_project(tmp_path / "project", kafka.bootstrap, kafka.prefix())


@pytest.fixture
def registered(tmp_path: Path, kafka: Kafka, schema_registry: Apicurio) -> Project:
    """A project with a Schema Registry, whose ids are pinned."""
    configuration = f'{EXACT}\n[schema_registry]\nurl = "{schema_registry.url}"\n'
    project = kafka_project(tmp_path / "registered", kafka.bootstrap, kafka.prefix(), configuration)
    project.quietcount("schemas", "register").done()
    return project


@pytest.fixture
def foreign(root: Path) -> str:
    """The README's section about clients that are not ours."""
    return (root / "schemas" / "README.md").read_text(encoding="utf-8").split("## Clients that are not ours\n")[1]


class Reader:
    """The README's code, run in a project's folder as a reader would run it after putting the names of the place in."""

    def __init__(self, project: Project, foreign: str, registry: str = "") -> None:
        (command,) = re.findall(r"^    quietcount (schemas show .*) > HelpRequested\.avsc$", foreign, re.MULTILINE)
        schema = project.quietcount(*shlex.split(command)).done().out
        (project.folder / "HelpRequested.avsc").write_text(schema, encoding="utf-8")
        settings = settings_of(project)
        self.topic = settings.topic(CASE_EVENTS)
        self._names = {"broker:9092": settings.servers, "case-events": self.topic, "https://registry:8081": registry}
        self._blocks = re.findall(r"```python\n(.*?)```", foreign, re.DOTALL)
        (self.kcat,) = re.findall(r"^    (kcat .* -C .*)$", foreign, re.MULTILINE)
        self.kcat = self.put(self.kcat)

    def put(self, text: str, **others: str) -> str:
        for name, here in (self._names | others).items():
            text = text.replace(name, here)
        return text

    def run(self, number: int, names: dict[str, Any], **others: str) -> dict[str, Any]:
        """Run the block `number` with `names`, and return the names that there are after it."""
        assert len(self._blocks) == 2
        exec(compile(self.put(self._blocks[number], **others), "README.md", "exec"), names)  # noqa: S102
        return names


def read(project: Project) -> list[Message]:
    """Return every record of the case events, as librdkafka reads them."""
    settings = settings_of(project)
    topic = settings.topic(CASE_EVENTS)
    consumer = Consumer({"bootstrap.servers": settings.servers, "group.id": "foreign", "enable.auto.commit": False})
    try:
        wanted = 0
        for partition in range(PARTITIONS):
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=SECONDS)
            wanted += high - low
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
        found = consumer.consume(wanted, timeout=SECONDS)
    finally:
        consumer.close()
    assert len(found) == wanted
    assert [message.error() for message in found] == [None] * wanted
    return found


def decoded(datum: bytes) -> dict[str, Any]:
    """Return a HelpRequested as Apache's `avro` decodes it with the committed schema; all of the bytes are it."""
    schema = avro.schema.parse((CASEWORK / "HelpRequested" / "1.avsc").read_text(encoding="utf-8"))
    stream = io.BytesIO(datum)
    value: Any = avro.io.DatumReader(schema, schema).read(avro.io.BinaryDecoder(stream))
    assert stream.read() == b""
    return dict(value)


def released(project: Project) -> dict[tuple[str, str, str], int]:
    project.run()
    return {cell: value for cell, value in project.released().items() if value}


def requests(month: str, kind: str) -> tuple[str, str, str]:
    return "requests", f"2023-{month}-01", f"help_kind={kind}"


def kcat_there(require: Callable[[bool, str], None]) -> None:
    require(shutil.which("kcat") is not None, "kcat (on Debian and Ubuntu: apt install kcat)")


# ---------------------------------------------------------------- theirs, read by us


def test_what_the_readmes_client_writes_is_counted_as_ours_is(
    project: Project, foreign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same person, by our emitter and by theirs, is one case: the second event is beyond what a case may add."""
    monkeypatch.chdir(project.folder)
    reader = Reader(project, foreign)
    reader.run(0, {})
    reader.run(0, {}, **{"case 4711": "case 1147", "DESERTION": "SURRENDER"})
    project.emit([OURS | {"case": "case 4711"}, OURS | {"case": "case 42", "help_kind": "LEGAL_AID"}])
    messages = read(project)
    keys = [message.key() for message in messages]
    one, other = (message for message in messages if keys.count(message.key()) == 2)
    assert one.value() != other.value()  # each has an id of its own
    assert one.partition() == other.partition()
    assert one.timestamp() == other.timestamp()
    assert (one.headers(), other.headers()) == (None, None)
    assert released(project) == {
        requests("10", "DESERTION"): 1,
        requests("10", "SURRENDER"): 1,
        requests("10", "LEGAL_AID"): 1,
    }


def test_what_confluents_serialiser_writes_is_counted(
    registered: Project, foreign: str, schema_registry: Apicurio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(registered.folder)
    reader = Reader(registered, foreign, schema_registry.url)
    names = reader.run(0, {})
    key = secrets.token_bytes(16)
    names["event"] |= {"case_key": key, "help_kind": "RELOCATION"}
    reader.run(1, names)
    assert names["value"][:1] == b"\x00"
    names["producer"].produce(reader.topic, key=key, value=names["value"], timestamp=names["timestamp"])
    assert names["producer"].flush(SECONDS) == 0
    assert released(registered) == {requests("10", "DESERTION"): 1, requests("10", "RELOCATION"): 1}


def test_what_kcat_writes_is_counted(
    project: Project, foreign: str, require: Callable[[bool, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    kcat_there(require)
    monkeypatch.chdir(project.folder)
    reader = Reader(project, foreign)
    names = reader.run(0, {})
    key = b"\xfe" * 16  # on a command line there is no NUL
    names["event"] |= {"case_key": key, "help_kind": "OTHER"}
    value = io.BytesIO()
    value.write(names["header"])
    names["fastavro"].schemaless_writer(value, names["schema"], names["event"])
    (project.folder / "event").write_bytes(value.getvalue())
    settings = settings_of(project)
    command = ["kcat", "-b", settings.servers, "-P", "-t", reader.topic, "-X", "partitioner=murmur2_random", "-k"]
    subprocess.run([*command, key, "event"], cwd=project.folder, check=True, timeout=SECONDS)
    assert released(project) == {requests("10", "DESERTION"): 1, requests("10", "OTHER"): 1}


# ---------------------------------------------------------------- where their records land


def landed(project: Project, **options: str) -> list[tuple[bytes, int]]:
    """Write a record for each of 300 random keys with librdkafka; return each key with its partition."""
    settings = settings_of(project)
    found: list[tuple[bytes, int]] = []

    def told(error: object, message: Message) -> None:
        assert error is None
        found.append((message.key() or b"", message.partition() or 0))

    producer = Producer({"bootstrap.servers": settings.servers, "acks": "all", **options})
    for _ in range(300):
        producer.produce(settings.topic(CASE_EVENTS), key=secrets.token_bytes(16), value=b"x", on_delivery=told)
    assert producer.flush(SECONDS) == 0
    assert len(found) == 300
    return found


def test_librdkafkas_records_land_where_ours_do_once_it_is_told(project: Project, foreign: str) -> None:
    ((key, value),) = re.findall(r'"(partitioner)": "(\w+)"', foreign)
    assert all(partition == partition_for(key, PARTITIONS) for key, partition in landed(project, **{key: value}))


def test_librdkafkas_own_partitioner_puts_them_elsewhere(project: Project) -> None:
    """Why the README tells it: without, a record lands where ours does once in three (never all 300: 3e-144)."""
    assert any(partition != partition_for(key, PARTITIONS) for key, partition in landed(project))


# ---------------------------------------------------------------- ours, read by them


@pytest.fixture(params=["single object", "Confluent"])
def framed(request: pytest.FixtureRequest) -> tuple[Project, int]:
    """A project with an event of ours in each framing, and the size of its header."""
    plain = request.param == "single object"
    project: Project = request.getfixturevalue("project" if plain else "registered")
    project.emit([OURS | {"case": "case 4711"}])
    return project, SINGLE_OBJECT if plain else CONFLUENT


def expected(project: Project, header: bytes) -> None:
    """The header says which of the committed schemas wrote it, by fingerprint or by the pinned id."""
    fingerprint = SchemaRegistry.load().event_type("HelpRequested").current.fingerprint
    if len(header) == SINGLE_OBJECT:
        assert header == b"\xc3\x01" + fingerprint
    else:
        pinned = registry_ids.load(project.folder / "registry-ids.json")
        assert pinned[int.from_bytes(header[1:], "big")] == fingerprint


def test_an_event_of_ours_is_decoded_by_apaches_avro(framed: tuple[Project, int]) -> None:
    project, size = framed
    (message,) = read(project)
    value = message.value() or b""
    expected(project, value[:size])
    event = decoded(value[size:])
    assert event["case_key"] == message.key()
    assert (event["help_kind"], event["occurred_on"].isoformat(), event["revision"]) == ("DESERTION", "2023-10-01", 0)


def test_an_event_of_ours_is_read_with_kcat(
    framed: tuple[Project, int], foreign: str, require: Callable[[bool, str], None]
) -> None:
    kcat_there(require)
    project, size = framed
    command = shlex.split(Reader(project, foreign).kcat)
    said = subprocess.run(command, capture_output=True, check=True, timeout=SECONDS).stdout
    length = int.from_bytes(said[:4], "big")
    assert len(said) == 4 + length
    expected(project, said[4 : 4 + size])
    assert decoded(said[4 + size :])["help_kind"] == "DESERTION"
