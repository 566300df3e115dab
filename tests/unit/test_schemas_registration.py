"""`quietcount schemas register`, the file of pinned ids, and what is said of a registry that is wrong or is none."""

from __future__ import annotations

import base64
import datetime as dt
import json
import socket
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.kafka.certificates import Authority
from tests.registry.stand_in import Answer, StandIn, stand_in
from tests.strategies import envelope

from quietcount_schemas import CaseEvent, Codec, SchemaRegistry, SchemasError, read_configuration
from quietcount_schemas.commands.schemas import schemas
from quietcount_schemas.errors import Unavailable
from quietcount_schemas.schema_registry import client as registry_client
from quietcount_schemas.schema_registry import ids as registry_ids
from quietcount_schemas.schema_registry.client import RegistryClient, RegistryRefused, RegistryUnavailable
from quietcount_schemas.schema_registry.ids import PinnedIds
from quietcount_schemas.schema_registry.registration import Registration
from quietcount_schemas.schema_registry.settings import RegistrySettings

pytestmark = pytest.mark.quick

PASSWORD = "correct horse battery"
HELP = "quietcount.casework.HelpRequested"
VERSIONS = [each for kind in SchemaRegistry.load().event_types.values() for each in kind.versions]


class Place:
    """A folder with a configuration, from which `schemas register` is run against a registry."""

    def __init__(self, folder: Path, registry: StandIn) -> None:
        self.folder = folder
        self.registry = registry
        self.ids = folder / "registry-ids.json"
        self.configure()

    def configure(self, text: str = "", url: str | None = None, top: str = "") -> None:
        section = f'[schema_registry]\nurl = "{url or self.registry.url}"\n{text}'
        (self.folder / "quietcount.toml").write_text(f"{top}\n{section}")

    def own(self, *versions: list[Any]) -> None:
        """Put an event type into the folder `own`, with these fields after the envelope in each version."""
        for number, fields in enumerate(versions, 1):
            path = self.folder / "own" / "Own" / f"{number}.avsc"
            path.parent.mkdir(parents=True, exist_ok=True)
            record = {"type": "record", "name": "Own", "namespace": "example.own", "doc": "Own."}
            path.write_text(json.dumps({**record, "fields": [*envelope(), *fields]}))
        CliRunner().invoke(schemas, ["check", str(self.folder / "own"), "--record"])
        self.configure(top='schemas = ["own"]')

    def password(self, content: str = PASSWORD) -> Path:
        """Write the password's file, for its owner alone, and return its path."""
        path = self.folder / "password"
        path.write_text(content)
        path.chmod(0o600)
        return path

    def register(self) -> Result:
        return CliRunner().invoke(schemas, ["register", "--config", str(self.folder / "quietcount.toml")])

    def refused(self) -> str:
        """Register, be refused, and return what was said: nothing is written, and no password told."""
        before = self.ids.read_bytes() if self.ids.exists() else None
        result = self.register()
        assert isinstance(result.exception, SchemasError), result.exception
        assert result.output == ""
        assert (self.ids.read_bytes() if self.ids.exists() else None) == before
        said = str(result.exception)
        for secret in (PASSWORD, base64.b64encode(f"emitter:{PASSWORD}".encode()).decode()):
            assert secret not in said
        assert "\n" not in said
        return said


@pytest.fixture
def registry() -> Iterator[StandIn]:
    with stand_in() as registry:
        yield registry


@pytest.fixture
def place(tmp_path: Path, registry: StandIn, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path, registry)


def field(name: str) -> dict[str, Any]:
    return {"name": name, "type": "boolean", "default": False, "doc": "Whether."}


# ---------------------------------------------------------------- registering


def test_every_version_is_registered_in_order_under_its_records_name(place: Place, registry: StandIn) -> None:
    place.own([field("a")], [field("a"), field("b")])
    result = place.register()
    assert result.exit_code == 0, result.exception
    assert result.output.splitlines()[0] == "quietcount.casework.CaptivityRecorded version 1: id 1, new"
    assert result.output.splitlines()[-1].startswith("8 versions registered, 8 of them new")
    assert registry.subjects["example.own.Own"] == [6, 7]
    assert registry.levels == dict.fromkeys(registry.subjects, "FULL_TRANSITIVE")
    loaded = SchemaRegistry.load([place.folder / "own"])
    assert registry_ids.load(place.ids) == {
        number: version.fingerprint
        for number, version in enumerate((v for e in loaded.event_types.values() for v in e.versions), 1)
    }
    told = json.loads(place.ids.read_text())["subjects"]
    assert told["example.own.Own"] == {"1": 6, "2": 7}


def test_compatibility_is_set_before_a_subjects_first_version(place: Place, registry: StandIn) -> None:
    place.register()
    asked = [each for each in registry.asked if HELP in each[1]]
    assert [method for method, _ in asked][:3] == ["PUT", "GET", "POST"]


def test_what_is_registered_is_the_text_of_the_file(place: Place, registry: StandIn, root: Path) -> None:
    """So a client that looks the schema up with its file finds it."""
    place.register()
    committed = root / "schemas" / "quietcount_schemas" / "casework" / "HelpRequested" / "1.avsc"
    assert committed.read_text(encoding="utf-8").strip() in registry.schemas


def test_registering_again_changes_nothing_and_sends_no_schema(place: Place, registry: StandIn) -> None:
    place.register()
    before = place.ids.stat()
    registry.asked.clear()
    result = place.register()
    assert "0 of them new" in result.output
    assert not [path for method, path in registry.asked if method == "POST"]
    assert (place.ids.stat().st_ino, place.ids.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_doc_that_was_reworded_keeps_its_id(place: Place, registry: StandIn) -> None:
    place.own([field("a")])
    place.register()
    path = place.folder / "own" / "Own" / "1.avsc"
    path.write_text(path.read_text().replace("Whether.", "Whether it was."))
    result = place.register()
    assert result.exit_code == 0, result.exception
    assert "example.own.Own version 1: id 6\n" in result.output


def test_a_subject_that_was_deleted_is_registered_again(place: Place, registry: StandIn) -> None:
    place.register()
    del registry.subjects[HELP]
    assert place.register().exit_code == 0
    assert registry.subjects[HELP] == [4]


def test_a_registry_that_was_emptied_gives_the_same_ids_again(place: Place, registry: StandIn) -> None:
    place.register()
    before = place.ids.read_text()
    registry.schemas.clear()
    registry.subjects.clear()
    assert place.register().exit_code == 0
    assert place.ids.read_text() == before


def test_ids_of_others_stay_pinned(place: Place) -> None:
    place.ids.write_text('{"ids": {"900": "00000000000000ff"}, "subjects": {"gone.Gone": {"1": 900}}}')
    assert place.register().exit_code == 0
    assert registry_ids.load(place.ids)[900] == bytes(7) + b"\xff"
    assert json.loads(place.ids.read_text())["subjects"]["gone.Gone"] == {"1": 900}


# ---------------------------------------------------------------- a registry that lies


def swapped(registry: StandIn) -> None:
    registry.schemas[3], registry.schemas[4] = registry.schemas[4], registry.schemas[3]


LIES: dict[str, tuple[Callable[[StandIn], Any], str]] = {
    "another schema under a pinned id": (swapped, "under the id 4 it hands out another schema"),
    "the same schemas under other ids": (
        lambda registry: setattr(registry, "first_id", 100),
        "it gives the id 100, and {ids} has pinned 1",
    ),
    "no schema under a pinned id": (
        lambda registry: registry.forced.update({("GET", "/schemas/ids/4"): (404, {})}),
        f"{HELP} version 1: it gave the id 4, and holds nothing under it",
    ),
    "a schema that is none": (
        lambda registry: registry.forced.update({("GET", "/schemas/ids/4"): (200, {"schema": "[[[["})}),
        "under the id 4 it hands out another schema",
    ),
    "a schema of another kind": (
        lambda registry: registry.forced.update(
            {("GET", "/schemas/ids/4"): (200, {"schema": registry.schemas[3], "schemaType": "JSON"})}
        ),
        "under the id 4 it hands out another schema",
    ),
    "a compatibility that is not kept": (
        lambda registry: registry.forced.update(
            {("PUT", f"/config/{HELP}"): (200, {}), ("GET", f"/config/{HELP}"): (200, {"compatibilityLevel": "NONE"})}
        ),
        f"{HELP}: it does not keep the compatibility FULL_TRANSITIVE",
    ),
}


@pytest.mark.promise("registry")
@pytest.mark.parametrize("lie", LIES)
def test_a_registry_that_contradicts_what_is_pinned_is_refused(place: Place, registry: StandIn, lie: str) -> None:
    place.register()
    make, wanted = LIES[lie]
    make(registry)
    said = place.refused()
    assert wanted.format(ids=place.ids) in said
    assert registry.url in said


FIRST_LIES: dict[str, tuple[str, str, Answer, str]] = {
    "one id for two schemas": ("POST", f"/subjects/{HELP}", (200, {"id": 1}), "it gives the id 1, which"),
    "an id that is text": ("POST", f"/subjects/{HELP}", (200, {"id": "4"}), "not a Schema Registry"),
    "an id that is true": ("POST", f"/subjects/{HELP}", (200, {"id": True}), "not a Schema Registry"),
    "an id of 0": ("POST", f"/subjects/{HELP}", (200, {"id": 0}), "not a Schema Registry"),
    "an id past the last": ("POST", f"/subjects/{HELP}", (200, {"id": 2**31}), "not a Schema Registry"),
    "no id": ("POST", f"/subjects/{HELP}", (200, []), "not a Schema Registry"),
    "an id without a schema": ("POST", f"/subjects/{HELP}", (200, {"id": 77}), "holds nothing under it"),
    "an empty schema": ("GET", "/schemas/ids/4", (200, {}), "hands out another schema"),
    "no object": ("GET", "/schemas/ids/4", (200, [1]), "hands out another schema"),
    "references": ("GET", "/schemas/ids/4", (200, {"schema": "{}", "references": [{}]}), "hands out another schema"),
    "deep nesting": ("GET", "/schemas/ids/4", (200, {"schema": "[" * 100_000}), "hands out another schema"),
}


@pytest.mark.parametrize("lie", FIRST_LIES)
def test_a_registry_that_answers_what_none_does_is_refused(place: Place, registry: StandIn, lie: str) -> None:
    method, path, answer, wanted = FIRST_LIES[lie]
    registry.forced[method, path] = answer
    said = place.refused()
    assert wanted in said
    assert HELP in said
    assert not place.ids.exists()


def test_a_registration_that_believes_the_registry_is_found(
    place: Place, registry: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant: without looking at what is handed out, a swapped schema is pinned."""
    monkeypatch.setattr(Registration, "_holds", lambda *_: True)
    place.register()
    swapped(registry)
    assert place.register().exit_code == 0


# ---------------------------------------------------------------- a registry that refuses, or is none

REFUSALS: dict[str, tuple[str, str, Answer, str, type[Exception]]] = {
    "no name": ("GET", "/subjects", (401, b"who?"), "asks for a name and a password. Give them", RegistryRefused),
    "forbidden": ("PUT", "/config", (403, b""), "may not register schemas or set compatibility", RegistryRefused),
    "incompatible": ("POST", f"/subjects/{HELP}", (409, {}), f"{HELP} version 1: it finds the schema", RegistryRefused),
    "invalid": ("POST", f"/subjects/{HELP}", (422, {}), f"{HELP} version 1: it refuses the schema", RegistryRefused),
    "an error of its own": ("GET", "/subjects", (503, b"oops"), "its own error 503", RegistryUnavailable),
    "too many requests": ("GET", "/subjects", (429, b""), "its own error 429", RegistryUnavailable),
    "a web site": (
        "GET",
        "/subjects",
        (200, b"<html>"),
        "not a Schema Registry. Check the key",
        RegistryRefused,
    ),
    "another service": ("GET", "/subjects", (200, {"a": 1}), "not a Schema Registry", RegistryRefused),
    "nothing there": ("GET", "/subjects", (404, b""), "not a Schema Registry", RegistryRefused),
    "read only": ("PUT", "/config", (405, b""), "not a Schema Registry", RegistryRefused),
    "no such path": ("PUT", "/config", (404, b""), "not a Schema Registry", RegistryRefused),
    "a teapot": ("GET", "/subjects", (418, b""), "answers with the status 418", RegistryRefused),
    "no end": ("GET", "/subjects", (200, b" " * (2 << 20)), "not a Schema Registry", RegistryRefused),
    "nested without end": ("GET", "/subjects", (200, b"[" * 200_000), "not a Schema Registry", RegistryRefused),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_each_refusal_is_one_message_that_names_the_setting(place: Place, registry: StandIn, case: str) -> None:
    method, path, answer, wanted, kind = REFUSALS[case]
    registry.forced[method, path] = answer
    result = place.register()
    assert type(result.exception) is kind
    said = place.refused()
    assert wanted in said
    assert said.startswith(f"{place.folder / 'quietcount.toml'}: Schema Registry {registry.url}: ")
    assert kind is RegistryRefused or isinstance(result.exception, Unavailable)


def test_a_password_is_sent_and_told_to_nobody(place: Place, registry: StandIn) -> None:
    place.password(PASSWORD + "\n")
    place.configure('username = "emitter"\npassword_file = "password"')
    assert place.register().exit_code == 0
    expected = "Basic " + base64.b64encode(f"emitter:{PASSWORD}".encode()).decode()
    assert set(registry.passwords) == {expected}
    registry.forced["GET", "/subjects"] = (401, expected.encode())
    assert "it refuses the name or the password. Check the keys 'schema_registry.username'" in place.refused()


def test_a_password_does_not_follow_a_redirect(place: Place, registry: StandIn) -> None:
    place.password()
    place.configure('username = "emitter"\npassword_file = "password"')
    with stand_in() as elsewhere:
        registry.location = elsewhere.url + "/subjects"
        for status in (301, 302, 303, 307, 308):
            registry.forced["GET", "/subjects"] = (status, b"")
            assert "it sends us to another address" in place.refused()
        assert elsewhere.asked == []


def test_a_proxy_of_the_environment_gets_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with stand_in() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert place.register().exit_code == 0
        assert proxy.asked == []


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff"], ids=["missing", "empty", "a line's end", "not text"])
def test_a_password_file_that_holds_none_is_named(place: Place, content: bytes | None) -> None:
    if content is not None:
        place.password().write_bytes(content)
    place.configure('username = "emitter"\npassword_file = "password"')
    said = place.refused()
    assert str(place.folder / "password") in said
    assert "key 'schema_registry.password_file': " in said


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_password_that_others_can_read_is_refused_and_not_sent(place: Place, registry: StandIn, mode: int) -> None:
    password = place.password()
    password.chmod(mode)
    place.configure('username = "emitter"\npassword_file = "password"')
    said = place.refused()
    assert f"key 'schema_registry.password_file': {password} is a secret and can be read by others" in said
    assert said.endswith(f"Run: chmod 600 {password}")
    assert PASSWORD not in said
    assert registry.asked == []


def test_a_password_file_that_a_variable_names_is_told_by_the_variable(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.configure('username = "emitter"\npassword_file = "password"')
    monkeypatch.setenv("QUIETCOUNT_SCHEMA_REGISTRY__PASSWORD_FILE", "nowhere")
    assert f"variable QUIETCOUNT_SCHEMA_REGISTRY__PASSWORD_FILE: there is no file {place.folder}" in place.refused()


def test_an_address_where_nobody_listens_is_named(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    place.configure(url=f"http://127.0.0.1:{port}")
    said = place.refused()
    assert f"http://127.0.0.1:{port}: it cannot be reached (connection refused)" in said
    assert said.endswith("'schema_registry.url'")


def test_a_host_that_does_not_exist_is_named(place: Place) -> None:
    place.configure(url="http://registry.invalid:8081")
    assert "http://registry.invalid:8081: it cannot be reached" in place.refused()


def talk(place: Place, said: bytes, monkeypatch: pytest.MonkeyPatch, *, drip: bool = False) -> str:
    """Register with a server that says `said` to whatever it hears, at once or a byte at a time for ever."""
    monkeypatch.setattr(registry_client, "_SECONDS", 0.3)
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(said)
                while drip and not done.wait(0.05):
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        place.configure(url=f"http://127.0.0.1:{server.getsockname()[1]}")
        result = place.register()
        done.set()
        thread.join()
    assert isinstance(result.exception, SchemasError)
    return str(result.exception)


def test_a_server_that_speaks_no_http_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "it does not speak HTTP" in talk(place, b"\x15\x03\x01\x00\x02\x02\x46\r\n", monkeypatch)


def test_a_server_that_hangs_up_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "it cannot be reached" in talk(place, b"", monkeypatch)


def test_an_answer_that_never_ends_is_not_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte in time, and the answer as a whole not: a timeout of the socket alone would wait for ever."""
    assert "did not answer in time" in talk(place, b"HTTP/1.1 200 OK\r\n\r\n", monkeypatch, drip=True)


# ---------------------------------------------------------------- TLS


def served(folder: Path, *hosts: str) -> tuple[Authority, ssl.SSLContext]:
    authority = Authority(folder / "authority")
    issued = authority.issue("registry", *hosts)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate_file, issued.key_file)
    return authority, context


def test_a_registry_over_tls_is_trusted_by_the_authority_that_is_named(place: Place) -> None:
    place.password()
    authority, context = served(place.folder, "127.0.0.1")
    with stand_in(context) as registry:
        entries = f'username = "emitter"\npassword_file = "password"\nca_file = "{authority.file}"'
        place.configure(entries, registry.url)
        assert place.register().exit_code == 0
        assert len(registry.asked) > 10


@pytest.mark.parametrize("host, ca_file", [("127.0.0.1", False), ("127.0.0.1", True), ("other.example", None)])
def test_a_certificate_that_nobody_vouches_for_gets_no_password(place: Place, host: str, ca_file: bool | None) -> None:
    """The system's authorities, another authority, or the right one for another host."""
    place.password()
    authority, context = served(place.folder, host)
    other = Authority(place.folder / "other", "another authority")
    with stand_in(context) as registry:
        entries = 'username = "emitter"\npassword_file = "password"\n'
        if ca_file is not False:
            entries += f'ca_file = "{(other if ca_file else authority).file}"'
        place.configure(entries, registry.url)
        said = place.refused()
        assert "does not vouch for its certificate" in said
        assert said.endswith("'schema_registry.ca_file'")
        assert registry.passwords == []


def test_a_registry_that_speaks_no_tls_is_named(place: Place, registry: StandIn) -> None:
    place.configure(url=registry.url.replace("http://", "https://"))
    assert "it does not speak TLS, which https:// asks for. Check the key 'schema_registry.url'" in place.refused()


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_an_authority_that_cannot_be_read_is_named(place: Place, content: bytes | None) -> None:
    if content is not None:
        (place.folder / "ca.pem").write_bytes(content)
    place.configure('ca_file = "ca.pem"', "https://127.0.0.1:1")
    assert f"{place.folder / 'ca.pem'} cannot be read as certificates in PEM" in place.refused()


# ---------------------------------------------------------------- the section of the configuration


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
        ('url = "http://me:pass@a"', "'schema_registry.url': write the name as schema_registry.username"),
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


# ---------------------------------------------------------------- the file of pinned ids

GOOD = '{"ids": {"1": "d342b9d1508dd981"}, "subjects": {"a.B": {"1": 1}}}'


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "ids.json"
    pinned = PinnedIds({2**31 - 1: bytes(8), 3: bytes(range(8))}, {"a.B": {1: 3, 2: 2**31 - 1}})
    registry_ids.save(path, pinned)
    assert registry_ids.read(path) == pinned
    assert [each.name for each in tmp_path.iterdir()] == ["ids.json"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ids.json"
    path.write_text(GOOD)

    def full(_: int) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SchemasError, match=r"cannot be written \(no space left on device\)"):
        registry_ids.save(path, PinnedIds({1: bytes(8)}))
    assert path.read_text() == GOOD
    assert [each.name for each in tmp_path.iterdir()] == ["ids.json"]


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("", "line 1 is not JSON"),
        ("[]", "must have the keys 'ids' and 'subjects'"),
        ('{"ids": {"1": "d342b9d1508dd981"}}', "must have the keys"),
        (GOOD.replace('"subjects"', '"more": 1, "subjects"'), "must have the keys"),
        (GOOD.replace('"1": "d342b9d1508dd981"', ""), "'ids' must hold"),
        (GOOD.replace('{"1": "d342b9d1508dd981"}', "[]"), "'ids' must hold"),
        (GOOD.replace('{"1": "d3', '{"1": "ff42b9d1508dd981", "1": "d3'), "a key is there twice"),
        (GOOD.replace('"1": "d3', '"01": "d3'), "an id must be a whole number"),
        (GOOD.replace('"1": "d3', '"0": "d3'), "an id must be a whole number"),
        (GOOD.replace('"1": "d3', '"-1": "d3'), "an id must be a whole number"),
        (GOOD.replace('"1": "d3', '"2147483648": "d3'), "an id must be a whole number from 1 to 2147483647"),
        (GOOD.replace('"1": "d3', '"١": "d3'), "an id must be a whole number"),
        (GOOD.replace("d342", "D342"), "the fingerprint of id 1 must be 16 digits"),
        (GOOD.replace("d342", "d34"), "the fingerprint of id 1 must be 16 digits"),
        (GOOD.replace('"d342b9d1508dd981"', "1"), "the fingerprint of id 1 must be 16 digits"),
        (GOOD.replace('{"1": 1}', "1"), "'subjects' must hold"),
        (GOOD.replace('{"1": 1}', '{"1": 2}'), "'subjects' must hold, by subject and version, an id that is among"),
        (GOOD.replace('{"1": 1}', '{"1": true}'), "'subjects' must hold"),
        (GOOD.replace('{"1": 1}', '{"x": 1}'), "a version must be a whole number"),
        (GOOD.replace("1}}", "NaN}}"), "not JSON that can be read"),
        ("[" * 200_000, "not JSON that can be read"),
        (" " * (1 << 20) + GOOD, "larger than 1 MiB"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_a_file_that_is_not_in_order_is_refused_by_name(tmp_path: Path, text: str, wanted: str) -> None:
    path = tmp_path / "ids.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SchemasError) as caught:
        registry_ids.load(path)
    assert str(caught.value).startswith(f"{path}: not a file of pinned ids: ")
    assert wanted in str(caught.value)


def test_a_file_that_is_missing_or_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SchemasError, match="there is no such file"):
        registry_ids.load(tmp_path / "absent.json")
    with pytest.raises(SchemasError, match=f"{tmp_path}: cannot be read \\(is a directory\\)"):
        registry_ids.load(tmp_path)
