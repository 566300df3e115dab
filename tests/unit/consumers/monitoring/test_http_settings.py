"""[metrics]: which addresses are taken, and what guards one that other machines reach."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.kafka.certificates import Authority

from quietcount_consumers.access import Credentials
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ConfigurationError
from quietcount_consumers.monitoring_settings import MonitoringSettings

pytestmark = pytest.mark.quick

GUARDED = 'certificate_file = "c"\nkey_file = "k"\nusername = "prometheus"\npassword_file = "p"\n'


def loaded(folder: Path, section: str, environment: dict[str, str] | None = None) -> MonitoringSettings:
    path = folder / "quietcount.toml"
    path.write_text(f"lifetime_epsilon = 1\n[metrics]\n{section}\n", encoding="utf-8")
    return Configuration.load(path, environment or {}).metrics


def refused(folder: Path, section: str, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        loaded(folder, section, environment)
    return str(caught.value)


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_what_is_not_configured_is_served_on_this_machine_alone(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "")
    assert (settings.address, settings.port) == ("127.0.0.1", 9464)
    assert settings.credentials() is None
    assert settings.tls_context() is None


@pytest.mark.parametrize(
    "listen, address, port",
    [
        ("127.0.0.1:9464", "127.0.0.1", 9464),
        ("127.8.9.10:0", "127.8.9.10", 0),
        ("localhost:65535", "127.0.0.1", 65_535),
        ("[::1]:9464", "::1", 9464),
        ("[0:0:0:0:0:0:0:1]:9464", "::1", 9464),
        (" 127.0.0.1:80 ", "127.0.0.1", 80),
        ("off", None, 0),
    ],
)
def test_an_address_of_this_machine_needs_no_guard(tmp_path: Path, listen: str, address: str | None, port: int) -> None:
    settings = loaded(tmp_path, f'listen = "{listen}"')
    assert (settings.address, settings.port) == (address, port)


NO_ADDRESS = (
    "9464 :9464 127.0.0.1 127.0.0.1: 127.0.0.1:65536 127.0.0.1:-1 ::1:9464 [::1] [127.0.0.1]:1 127.1:1 127.0.0.256:1 "
    "metrics.example.org:9464 LOCALHOST:1 [::1%lo]:1 OFF 127.0.0.1:٣"
)


@pytest.mark.parametrize("listen", ["", *NO_ADDRESS.split()])
def test_what_is_no_address_and_port_is_refused_with_an_example(tmp_path: Path, listen: str) -> None:
    message = refused(tmp_path, f'listen = "{listen}"')
    assert "key 'metrics.listen'" in message
    assert "127.0.0.1:9464" in message


PUBLIC = ["0.0.0.0:9464", "192.0.2.7:9464", "10.0.0.1:9464", "[::]:9464", "[2001:db8::1]:9464", "[::ffff:127.0.0.1]:1"]


@pytest.mark.parametrize("listen", PUBLIC)
def test_an_address_that_others_reach_is_refused_without_tls_and_a_password(tmp_path: Path, listen: str) -> None:
    lines = GUARDED.splitlines()
    for missing in (lines, lines[:2], lines[2:]):
        section = "\n".join(line for line in lines if line not in missing)
        message = refused(tmp_path, f'listen = "{listen}"\n{section}')
        assert "can be reached from other machines and needs TLS and a password" in message
        assert "key 'metrics.listen'" in message
        assert message.count("metrics.") == 1, "one fault, told once"
    assert loaded(tmp_path, f'listen = "{listen}"\n{GUARDED}').username == "prometheus"


def test_an_address_that_others_reach_is_refused_from_the_environment_too(tmp_path: Path) -> None:
    message = refused(tmp_path, "", {"QUIETCOUNT_METRICS__LISTEN": "0.0.0.0:9464"})
    assert "variable QUIETCOUNT_METRICS__LISTEN: 0.0.0.0 can be reached" in message


@pytest.mark.parametrize("missing", ["certificate_file", "key_file", "username", "password_file"])
def test_half_a_guard_is_refused(tmp_path: Path, missing: str) -> None:
    section = "\n".join(line for line in GUARDED.splitlines() if not line.startswith(missing))
    assert f"goes with metrics.{missing}, which is missing" in refused(tmp_path, section)


@pytest.mark.parametrize("username", ["a:b", "a\\u0007"])
def test_a_user_that_http_cannot_name_is_refused(tmp_path: Path, username: str) -> None:
    assert "no ':' in it" in refused(tmp_path, GUARDED.replace("prometheus", username))


def test_files_are_found_beside_the_configuration(tmp_path: Path) -> None:
    settings = loaded(tmp_path, GUARDED)
    found = (settings.certificate_file, settings.key_file, settings.password_file)
    assert found == (tmp_path / "c", tmp_path / "k", tmp_path / "p")


def test_a_password_is_told_from_every_other_and_is_nowhere_to_be_seen() -> None:
    credentials = Credentials.of("prometheus", "5ec2e7 pass:wörd")
    assert credentials.accepts("prometheus:5ec2e7 pass:wörd".encode())
    for other in ("", "prometheus:", "prometheus:5ec2e7", "Prometheus:5ec2e7 pass:wörd", ":5ec2e7 pass:wörd"):
        assert not credentials.accepts(other.encode())
    for shown in (repr(credentials).encode(), credentials.key, credentials.digest):
        assert b"5ec2e7" not in shown
        assert credentials.digest.hex().encode() not in shown


@pytest.mark.parametrize(
    "text, mode, part",
    [
        (None, 0o600, "there is no file"),
        ("secret", 0o640, "can be read by others. Run: chmod 600"),
        ("", 0o600, "is empty"),
    ],
)
def test_a_password_file_that_is_not_in_order_is_refused_by_its_key(
    tmp_path: Path, text: str | None, mode: int, part: str
) -> None:
    settings = loaded(tmp_path, GUARDED)
    if text is not None:
        written(tmp_path / "p", text, mode)
    with pytest.raises(ConfigurationError) as caught:
        settings.credentials()
    assert part in str(caught.value)
    assert f"{tmp_path / 'quietcount.toml'}: key 'metrics.password_file'" in str(caught.value)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def test_a_certificate_that_cannot_be_used_is_refused_by_its_key(tmp_path: Path, authority: Authority) -> None:
    one, other = authority.issue("one", "127.0.0.1"), authority.issue("other", "127.0.0.1")
    nothing = written(tmp_path / "nothing", "nothing\n")
    open_key = written(tmp_path / "open.key", one.key_file.read_text(encoding="utf-8"), 0o644)
    missing = tmp_path / "missing"
    for certificate, key, place, part in (
        (one.certificate_file, other.key_file, "key_file", "is not the key of the certificate"),
        (one.certificate_file, one.locked_key_file, "key_file", "is encrypted"),
        (one.certificate_file, nothing, "key_file", "holds no private key"),
        (one.certificate_file, open_key, "key_file", "can be read by others"),
        (one.certificate_file, missing, "key_file", "there is no file"),
        (nothing, one.key_file, "certificate_file", "holds no certificate"),
        (missing, one.key_file, "certificate_file", "there is no file"),
    ):
        settings = MonitoringSettings(certificate_file=certificate, key_file=key)
        with pytest.raises(ConfigurationError) as caught:
            settings.tls_context()
        assert part in str(caught.value)
        assert f"key 'metrics.{place}'" in str(caught.value)
    assert MonitoringSettings(certificate_file=one.certificate_file, key_file=one.key_file).tls_context() is not None
