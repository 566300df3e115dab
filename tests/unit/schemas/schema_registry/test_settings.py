"""The section `schema_registry` of the configuration, and an emitter that lacks pinned ids."""

from __future__ import annotations

import datetime as dt
import uuid
from pathlib import Path

import pytest
from tests.unit.schemas.schema_registry.registrations import VERSIONS, Place, field, place, registry

from quietcount_schemas import CaseEvent, Codec, SchemasError, read_configuration
from quietcount_schemas.schema_registry import ids as registry_ids
from quietcount_schemas.schema_registry.client import RegistryClient
from quietcount_schemas.schema_registry.ids import PinnedIds
from quietcount_schemas.schema_registry.settings import RegistrySettings

pytestmark = pytest.mark.quick

__all__ = ["place", "registry"]  # fixtures, which tests ask for by name


def settings(folder: Path, text: str) -> tuple[RegistrySettings, str]:
    path = folder / "quietcount.toml"
    path.write_text("[schema_registry]\n" + text)
    given = read_configuration(path, {})
    try:
        given.refuse_faults(SchemasError)
    except SchemasError as error:
        return RegistrySettings(), error.remedy
    return RegistrySettings.of(given), ""


@pytest.mark.parametrize(
    "text, wanted",
    [
        ('url = "registry:8081"', "key 'schema_registry.url': write an address"),
        ('url = "ftp://registry"', "key 'schema_registry.url': write an address"),
        ('url = "http://"', "key 'schema_registry.url': write an address"),
        ('url = "http://a:b"', "key 'schema_registry.url': write an address"),
        ('url = "http://[x]"', "key 'schema_registry.url': write an address"),
        ('url = "http://a/?key=1"', "key 'schema_registry.url': write an address"),
        ('url = "http://a b"', "key 'schema_registry.url': write an address"),
        (
            'url = "http://me:pass@a"',
            "'schema_registry.url': an address holds no name and no password; for the registry they are",
        ),
        ("url = 1", "key 'schema_registry.url': write an address"),
        ('username = "a"', "key 'schema_registry.username': goes with schema_registry.password_file, which is missing"),
        ('password_file = "a"', "key 'schema_registry.password_file': goes with schema_registry.username"),
        ('url = "http://far"\nusername = "a"\npassword_file = "b"', "a password is sent over https:// only"),
        ('url = "http://10.0.0.1"\nusername = "a"\npassword_file = "b"', "a password is sent over https:// only"),
        ('url = "https://a"\nusername = "a:b"\npassword_file = "b"', "has no ':' in it"),
        ('url = "http://a"\nca_file = "b"', "key 'schema_registry.ca_file': is for an address that begins with https"),
    ],
)
def test_what_is_wrong_with_the_section_is_said_by_key(tmp_path: Path, text: str, wanted: str) -> None:
    said = settings(tmp_path, text)[1]
    assert wanted in said
    assert "pass@" not in said


@pytest.mark.parametrize("host", ["http://localhost", "http://127.0.0.2:8081", "http://[::1]:8081", "https://far"])
def test_a_password_may_go_to_this_machine_or_over_tls(tmp_path: Path, host: str) -> None:
    found, said = settings(tmp_path, f'url = "{host}/"\nusername = "a"\npassword_file = "b"')
    assert said == ""
    assert (found.url, found.password_file, found.ids_file) == (host, tmp_path / "b", tmp_path / "registry-ids.json")


def test_without_an_address_there_is_no_registry(tmp_path: Path) -> None:
    found, said = settings(tmp_path, 'ids_file = "elsewhere.json"')
    assert said == ""
    assert found.ids() == {}
    found.check_writable(found.registry())
    with pytest.raises(SchemasError, match="there is no Schema Registry to register with"):
        RegistryClient(found)


def test_register_says_what_is_wrong_with_the_configuration(place: Place) -> None:
    place.configure("", "nowhere")
    assert "key 'schema_registry.url': write an address" in place.refused()


def test_an_emitter_is_not_started_without_the_ids_that_it_writes(place: Place) -> None:
    place.own([field("a")])
    found, _ = settings(place.folder, f'url = "{place.registry.url}"')
    with pytest.raises(SchemasError, match=r"there is no such file\. `quietcount schemas register` writes it"):
        found.registry()
    registry_ids.save(place.ids, PinnedIds({1: VERSIONS[0].fingerprint}))
    registry = found.registry([place.folder / "own"])
    with pytest.raises(SchemasError, match=r"is pinned for CaseWithdrawn version 1, .*, Own version 1, .* Run `quiet"):
        found.check_writable(registry)
    with pytest.raises(SchemasError, match="CaseWithdrawn version 1: no id of the Schema Registry is pinned"):
        Codec(registry).encode(withdrawn())


def withdrawn() -> CaseEvent:
    return CaseEvent("CaseWithdrawn", bytes(16), uuid.UUID(int=1, version=4).bytes, 0, dt.date(2023, 10, 1), {})
