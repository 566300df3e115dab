"""Against a real registry: what it is told, the ids that it gives, and that independent clients of it agree with us."""

from __future__ import annotations

import datetime as dt
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka.schema_registry import SchemaRegistryClient, record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from hypothesis import HealthCheck, given, settings
from tests.registry.apicurio import Apicurio
from tests.strategies import case_events, envelope

from quietcount_aggregates.counting.columns import ColumnDecoder
from quietcount_schemas import CaseEvent, Codec, SchemaRegistry, SchemasError
from quietcount_schemas.commands.schemas import schemas
from quietcount_schemas.events.event_types import SchemaVersion
from quietcount_schemas.framing import CONFLUENT_BYTES
from quietcount_schemas.schema_registry import ids as registry_ids

pytestmark = [pytest.mark.check, pytest.mark.xdist_group("registry")]

CONTEXT = SerializationContext("case-events", MessageField.VALUE)
# Their types say less than they do: of what takes arguments, that it takes none.
CLIENT: Any = SchemaRegistryClient
SERIALISER: Any = AvroSerializer
DESERIALISER: Any = AvroDeserializer
BY_RECORD = {"auto.register.schemas": False, "subject.name.strategy": record_subject_name_strategy}
BUILT_IN = SchemaRegistry.load()


def registered(folder: Path, url: str, *own: Path) -> Result:
    config = folder / "quietcount.toml"
    config.write_text(f'schemas = {json.dumps([str(each) for each in own])}\n[schema_registry]\nurl = "{url}"\n')
    return CliRunner().invoke(schemas, ["register", "--config", str(config)])


@pytest.fixture(scope="module")
def ids(schema_registry: Apicurio, tmp_path_factory: pytest.TempPathFactory) -> Mapping[int, bytes]:
    """The ids that the registry gave to the built-in schemas, as they were pinned."""
    folder = tmp_path_factory.mktemp("ids")
    result = registered(folder, schema_registry.url)
    assert result.exit_code == 0, result.exception
    return registry_ids.load(folder / "registry-ids.json")


@pytest.fixture(scope="module")
def client(schema_registry: Apicurio) -> Iterator[SchemaRegistryClient]:
    """Confluent's client of the registry."""
    with CLIENT({"url": schema_registry.url}) as client:
        yield client


def ask(registry: Apicurio, path: str, body: Mapping[str, object] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    request = urllib.request.Request(registry.url + path, data, headers)  # noqa: S310 (our own address)
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)


def own_versions(folder: Path, *versions: list[dict[str, Any]]) -> tuple[Path, str]:
    """Write an event type of its own namespace, which the registry has not seen; return folder and subject."""
    namespace = f"trial.t{secrets.token_hex(6)}"
    for number, fields in enumerate(versions, 1):
        path = folder / "own" / "Own" / f"{number}.avsc"
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"type": "record", "name": "Own", "namespace": namespace, "doc": "Own."}
        path.write_text(json.dumps({**record, "fields": [*envelope(), *fields]}))
    result = CliRunner().invoke(schemas, ["check", str(folder / "own"), "--record"])
    assert result.exit_code == 0, result.output
    return folder / "own", f"{namespace}.Own"


def colour(*symbols: str) -> dict[str, Any]:
    kind = {"type": "enum", "name": "Colour", "symbols": [*symbols], "default": "OTHER", "doc": "Colours."}
    return {"name": "colour", "type": kind, "default": "OTHER", "doc": "A colour."}


LATER = {"name": "later", "type": ["null", "boolean"], "default": None, "doc": "Whether it was later."}
SOONER = {"name": "sooner", "type": "boolean", "default": False, "doc": "Whether it was sooner."}
# A field more, a symbol more, a field less, the order changed: each thing that our rules allow.
EVOLVED = (
    [colour("RED", "OTHER"), SOONER],
    [colour("RED", "OTHER"), SOONER, LATER],
    [colour("RED", "OTHER", "BLUE"), SOONER, LATER],
    [LATER, colour("RED", "OTHER", "BLUE")],
)


# ---------------------------------------------------------------- registering


def test_every_schema_gets_an_id_whose_schema_the_registry_hands_out(
    schema_registry: Apicurio, ids: Mapping[int, bytes], client: SchemaRegistryClient
) -> None:
    versions = [version for each in BUILT_IN.event_types.values() for version in each.versions]
    assert set(ids.values()) >= {version.fingerprint for version in versions}
    for version in versions:
        subject = version.parsed["name"]
        found = client.get_latest_version(subject)
        assert found.schema_id is not None
        assert ids[found.schema_id] == version.fingerprint
        assert json.loads(found.schema.schema_str or "") == version.definition
        assert client.get_compatibility(subject) == "FULL_TRANSITIVE"


def test_registering_again_changes_nothing(schema_registry: Apicurio, tmp_path: Path) -> None:
    own, subject = own_versions(tmp_path, *EVOLVED[:2])
    first = registered(tmp_path, schema_registry.url, own)
    assert first.exit_code == 0, first.exception
    pinned = (tmp_path / "registry-ids.json").read_text()
    again = registered(tmp_path, schema_registry.url, own)
    assert again.output.endswith(f"0 of them new; their ids are pinned in {tmp_path / 'registry-ids.json'}\n")
    assert (tmp_path / "registry-ids.json").read_text() == pinned
    (tmp_path / "registry-ids.json").unlink()
    assert registered(tmp_path, schema_registry.url, own).exit_code == 0
    assert (tmp_path / "registry-ids.json").read_text() == pinned
    assert len(ask(schema_registry, f"/subjects/{subject}/versions")) == 2


def test_whatever_our_rules_of_evolution_allow_the_registry_takes_as_full_transitive(
    schema_registry: Apicurio, tmp_path: Path
) -> None:
    own, subject = own_versions(tmp_path, *EVOLVED)
    result = registered(tmp_path, schema_registry.url, own)
    assert result.exit_code == 0, result.exception
    assert len(ask(schema_registry, f"/subjects/{subject}/versions")) == len(EVOLVED)


def test_an_incompatible_version_of_somebody_else_is_refused_by_the_registry(
    schema_registry: Apicurio, tmp_path: Path
) -> None:
    """Our compatibility is in force there: a field without a default cannot be added behind our back."""
    own, subject = own_versions(tmp_path, EVOLVED[0])
    assert registered(tmp_path, schema_registry.url, own).exit_code == 0
    definition = json.loads((own / "Own" / "1.avsc").read_text())
    definition["fields"].append({"name": "name", "type": "string"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(schema_registry, f"/subjects/{subject}/versions", {"schema": json.dumps(definition)})
    with caught.value as error:
        assert error.code == 409


def test_a_subject_that_holds_something_incompatible_is_named(schema_registry: Apicurio, tmp_path: Path) -> None:
    own, subject = own_versions(tmp_path, EVOLVED[0])
    name, _, record = subject[::-1].partition(".")
    other = {"type": "record", "name": name[::-1], "namespace": record[::-1], "fields": [{"name": "n", "type": "int"}]}
    ask(schema_registry, f"/subjects/{subject}/versions", {"schema": json.dumps(other)})
    result = registered(tmp_path, schema_registry.url, own)
    assert isinstance(result.exception, SchemasError)
    assert f"{subject} version 1: it finds the schema incompatible" in str(result.exception)
    assert not (tmp_path / "registry-ids.json").exists()


@pytest.mark.parametrize("path", ["", "/apis", "/apis/registry/v3", "/q/health"])
def test_an_address_that_is_a_little_off_is_named(schema_registry: Apicurio, tmp_path: Path, path: str) -> None:
    url = schema_registry.url.removesuffix("/apis/ccompat/v7") + path
    result = registered(tmp_path, url)
    assert isinstance(result.exception, SchemasError)
    assert f"{url}: another program answers there, not a Schema Registry" in str(result.exception)


# ---------------------------------------------------------------- clients of the registry


def names(event: CaseEvent) -> dict[str, Any]:
    envelope = {"case_key": event.case_key, "event_id": event.event_id}
    return {**envelope, "revision": event.revision, "occurred_on": event.occurred_on, **event.attributes}


MANY = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@MANY
@given(event=case_events(BUILT_IN))
def test_what_we_frame_is_decoded_by_confluents_deserialiser(
    event: CaseEvent, ids: Mapping[int, bytes], client: SchemaRegistryClient
) -> None:
    """It asks the registry for the id and knows nothing of ours."""
    ours = Codec(SchemaRegistry(list(BUILT_IN.event_types.values()), ids)).encode(event)
    assert DESERIALISER(client)(ours, CONTEXT) == names(event)


@MANY
@given(event=case_events(BUILT_IN))
def test_what_confluents_serialiser_writes_is_taken_and_is_what_we_write(
    event: CaseEvent, ids: Mapping[int, bytes], client: SchemaRegistryClient
) -> None:
    version: SchemaVersion = BUILT_IN.event_type(event.event).current
    text = json.dumps(version.definition, indent=2, ensure_ascii=False)
    theirs = SERIALISER(client, text, conf=BY_RECORD)(names(event), CONTEXT)
    assert theirs is not None
    registry = SchemaRegistry(list(BUILT_IN.event_types.values()), ids)
    assert Codec(registry).decode(theirs) == event
    assert Codec(registry).encode(event) == theirs
    assert ColumnDecoder(registry).decode([theirs])[1] == []


def test_each_version_is_read_by_its_id_as_the_last(
    schema_registry: Apicurio, client: SchemaRegistryClient, tmp_path: Path
) -> None:
    """An emitter that was not upgraded writes the id of its version."""
    own, _ = own_versions(tmp_path, *EVOLVED)
    assert registered(tmp_path, schema_registry.url, own).exit_code == 0
    ids = registry_ids.load(tmp_path / "registry-ids.json")
    registry = SchemaRegistry.load([own], ids)
    versions = registry.event_type("Own").versions
    values = []
    for version in versions:
        number = registry.confluent_id(version.fingerprint)
        assert number is not None
        text = json.dumps(version.definition, indent=2)
        event_id = secrets.token_bytes(6) + b"\x40" + b"\x00" + b"\x80" + bytes(7)
        fields = {"case_key": bytes(16), "event_id": event_id, "revision": 0, "occurred_on": dt.date(2023, 10, 1)}
        value = SERIALISER(client, text, conf=BY_RECORD)({**fields, "colour": "RED"}, CONTEXT)
        assert value is not None
        assert value[:CONFLUENT_BYTES] == b"\x00" + number.to_bytes(4, "big")
        values.append(value)
    assert {Codec(registry).decode(value).attributes["colour"] for value in values} == {"RED"}
    (part,), rejections = ColumnDecoder(registry).decode(values)
    assert (rejections, part.rows.tolist()) == ([], [0, 1, 2, 3])
