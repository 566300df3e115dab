"""[receive]: where the door may listen, and which files it takes."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from tests.doors import MAPPING, configured, reception_of
from tests.kafka.certificates import Authority

from quietcount_producers.errors import ProducersError
from quietcount_producers.receiving.settings import ReceiverSettings

pytestmark = pytest.mark.quick


def refused(config: Path, *, opened: bool = False) -> str:
    load = reception_of if opened else lambda path: ReceiverSettings.load(path, {})
    with pytest.raises(ProducersError) as caught:
        load(config)
    assert caught.value.what
    assert caught.value.remedy
    return str(caught.value)


def test_it_listens_on_this_machine_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    config = configured(tmp_path)
    config.write_text(config.read_text().replace('listen = "127.0.0.1:0"\n', ""))
    settings = ReceiverSettings.load(config, {})
    assert (settings.address, settings.port) == ("127.0.0.1", 8787)
    assert settings.tls_context() is None
    assert [each.path for each in settings.paths] == ["/kobo"]


@pytest.mark.parametrize("listen", ["0.0.0.0:8787", "192.0.2.7:8787", "[::]:8787"])
def test_an_address_that_others_reach_needs_tls(tmp_path: Path, listen: str) -> None:
    config = configured(tmp_path)
    config.write_text(config.read_text().replace("127.0.0.1:0", listen))
    message = refused(config)
    assert "key 'receive.listen'" in message
    assert "certificate_file" in message
    tls = f'listen = "{listen}"\ncertificate_file = "c"\nkey_file = "k"'
    config.write_text(config.read_text().replace(f'listen = "{listen}"', tls))
    assert ReceiverSettings.load(config, {}).port == 8787


def test_there_is_no_door_that_is_off(tmp_path: Path) -> None:
    config = configured(tmp_path)
    config.write_text(config.read_text().replace("127.0.0.1:0", "off"))
    assert '"127.0.0.1:8787"' in refused(config)


@pytest.mark.parametrize("path", ["", "kobo", "/", "/a b", "/a//b", "/kobo/", "/ä", "/a?b", "/a/b/c/d", "/a\n"])
def test_a_path_that_a_client_could_write_in_two_ways_is_refused(tmp_path: Path, path: str) -> None:
    config = configured(tmp_path)
    written = path.replace("\n", "\\n")
    config.write_text(config.read_text().replace('path = "/kobo"', f'path = "{written}"'))
    assert "receive.path.1.path" in refused(config)


def test_two_tools_have_two_paths(tmp_path: Path) -> None:
    assert "/kobo" in refused(configured(tmp_path, paths=("/kobo", "/x", "/kobo")))


def test_without_a_spool_or_a_path_there_is_nothing_to_serve(tmp_path: Path) -> None:
    assert "[[receive.path]]" in refused(configured(tmp_path, paths=()))
    config = configured(tmp_path)
    config.write_text(config.read_text().replace('spool = "spool"', ""))
    assert "emitter.spool" in refused(config)


def test_a_mapping_without_the_name_of_the_record_is_refused(tmp_path: Path) -> None:
    config = configured(tmp_path, mapping=MAPPING.replace('record = "_uuid"', ""))
    message = refused(config, opened=True)
    assert "'record'" in message
    assert "delivers again" in message


@pytest.mark.parametrize(
    "content, mode, said",
    [
        ("", 0o600, "empty"),
        ("\n \n", 0o600, "empty"),
        ("5ec2e7", 0o600, "fewer than 32"),
        ("x" * 40 + "\n5ec2e7", 0o600, "fewer than 32"),
        ("5ec2e7 " * 9, 0o600, "no header"),
        ("5ec2e7é" * 9, 0o600, "no header"),
        ("5ec2e7" * 9, 0o640, "chmod 600"),
    ],
)
def test_a_token_that_is_weak_or_open_to_others_is_refused_and_never_shown(
    tmp_path: Path, content: str, mode: int, said: str
) -> None:
    config = configured(tmp_path)
    file = tmp_path / "secrets" / "token"
    file.write_text(content, encoding="utf-8")
    file.chmod(mode)
    message = refused(config, opened=True)
    assert said in message
    assert "receive.path.token_file" in message
    assert "5ec2e7" not in message


def test_certificate_and_key_are_read_and_what_is_wrong_with_them_is_said(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    own, other = authority.issue("door", "127.0.0.1"), authority.issue("other", "127.0.0.1")
    config = configured(tmp_path, more=f'certificate_file = "{own.certificate_file}"\nkey_file = "{own.key_file}"')
    context = ReceiverSettings.load(config, {}).tls_context()
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    config.write_text(config.read_text().replace(str(own.key_file), str(other.key_file)))
    with pytest.raises(ProducersError, match=r"key 'receive\.key_file'"):
        ReceiverSettings.load(config, {}).tls_context()
