"""The way to Kafka is read once: what is wrong with it is told by key, and a secret that others can read is refused."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from tests.kafka.certificates import Authority, Issued
from tests.kafka.cluster import free_ports

from quietcount_producers import EmitterSettings, LogError, ProducersError
from quietcount_producers.errors import LogUnavailable
from quietcount_producers.kafka.connection import reach
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.quick


def loaded(folder: Path, text: str, log: str = "kafka://broker") -> KafkaSettings:
    config = folder / "quietcount.toml"
    config.write_text(f'log = "{log}"\n[kafka]\n{text}\n')
    settings = EmitterSettings.load(config, {}).kafka
    assert settings is not None
    return settings


def secret(folder: Path, text: str = "a password\n") -> Path:
    path = folder / "password"
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def issued(authority: Authority) -> Issued:
    return authority.issue("emitter")


@pytest.mark.parametrize(
    "log, brokers",
    [
        ("kafka://broker", ("broker:9092",)),
        ("kafka://broker:19092", ("broker:19092",)),
        ("kafka://one:9092,two:9093/", ("one:9092", "two:9093")),
        ("kafka://one, two", ("one:9092", "two:9092")),
        ("kafka://10.0.0.1:9092", ("10.0.0.1:9092",)),
        ("kafka://[::1]:9092,[fd00::2]", ("[::1]:9092", "[fd00::2]:9092")),
        ("kafka://broker_1.internal.example", ("broker_1.internal.example:9092",)),
    ],
)
def test_the_brokers_are_read_from_the_log(tmp_path: Path, log: str, brokers: tuple[str, ...]) -> None:
    assert loaded(tmp_path, "", log).brokers == brokers


@pytest.mark.parametrize(
    "log",
    [
        "kafka://",
        "kafka://,",
        "kafka://one,,two",
        "kafka://broker:0",
        "kafka://broker:65536",
        "kafka://broker:port",
        "kafka://::1:9092",
        "kafka://user@broker",
        "kafka://broker/topic",
        "kafka:broker",
        "amqp://broker",
        "KAFKA",
    ],
)
def test_a_log_that_names_no_brokers_is_refused(tmp_path: Path, log: str) -> None:
    with pytest.raises(ProducersError, match=r"key 'log': write \"embedded\", or the brokers of Kafka"):
        loaded(tmp_path, "", log)


@pytest.mark.parametrize(
    "text, message",
    [
        ('topic_prefix = "a b"', "key 'kafka.topic_prefix': write letters"),
        (f'topic_prefix = "{"a" * 201}"', "key 'kafka.topic_prefix': write letters"),
        ('sasl_mechanism = "PLAIN"', "key 'kafka.sasl_mechanism': write \"SCRAM-SHA-512\""),
        ('username = "emitter"', "key 'kafka.username': goes with kafka.password_file, which is missing"),
        ('password_file = "p"', "key 'kafka.password_file': goes with kafka.username, which is missing"),
        ('certificate_file = "c"', "key 'kafka.certificate_file': goes with kafka.key_file"),
        ('key_file = "k"', "key 'kafka.key_file': goes with kafka.certificate_file"),
        ('key_password_file = "p"', "key 'kafka.key_password_file': goes with kafka.key_file"),
        ('tls = false\nca_file = "ca"', "key 'kafka.tls': is false, and kafka.ca_file is for TLS"),
        ('tls = "yes"', "key 'kafka.tls': write true or false"),
        ('password = "p"', "key 'kafka.password' is unknown: did you mean 'password_file'"),
        ('username = ""', "key 'kafka.username': write text"),
    ],
)
def test_what_does_not_go_together_is_refused_by_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProducersError, match=message):
        loaded(tmp_path, text)


def test_paths_are_relative_to_the_configuration_and_files_of_tls_switch_it_on(tmp_path: Path) -> None:
    settings = loaded(tmp_path, 'ca_file = "secrets/ca.pem"\ntopic_prefix = "east."')
    assert settings.ca_file == tmp_path / "secrets/ca.pem"
    assert settings.tls
    assert settings.topic(CASE_EVENTS) == "east.case-events"
    assert not loaded(tmp_path, "").tls


def test_the_environment_names_the_way_to_kafka_too(tmp_path: Path) -> None:
    config = tmp_path / "quietcount.toml"
    config.write_text("")
    environment = {"QUIETCOUNT_LOG": "kafka://broker", "QUIETCOUNT_KAFKA__TLS": "true"}
    settings = EmitterSettings.load(config, environment).kafka
    assert settings is not None
    assert settings.tls


def test_a_file_that_a_variable_names_is_told_by_the_variable(tmp_path: Path) -> None:
    config = tmp_path / "quietcount.toml"
    config.write_text('[kafka]\nusername = "emitter"\npassword_file = "password"')
    environment = {"QUIETCOUNT_LOG": "kafka://broker", "QUIETCOUNT_KAFKA__PASSWORD_FILE": "nowhere"}
    settings = EmitterSettings.load(config, environment).kafka
    assert settings is not None
    with pytest.raises(LogError, match="variable QUIETCOUNT_KAFKA__PASSWORD_FILE: there is no file"):
        settings.client("c")
    assert settings.place("log") == f"{config}: variable QUIETCOUNT_LOG"
    assert settings.place("kafka.username") == f"{config}: key 'kafka.username'"


def test_a_broker_that_a_variable_names_is_told_by_the_variable(tmp_path: Path) -> None:
    config = tmp_path / "quietcount.toml"
    config.write_text("")
    address = f"127.0.0.1:{free_ports(1)[0]}"
    settings = EmitterSettings.load(config, {"QUIETCOUNT_LOG": f"kafka://{address}"}).kafka
    assert settings is not None
    with pytest.raises(LogUnavailable) as caught:
        reach(settings, "test")
    assert str(caught.value).startswith(f"{config}: variable QUIETCOUNT_LOG: broker {address} cannot be used")


def test_a_password_comes_from_its_file_without_the_line_end(tmp_path: Path) -> None:
    secret(tmp_path, "  a=b,c \r\n")
    options = loaded(tmp_path, 'username = "emitter"\npassword_file = "password"').client("c")
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("emitter", "  a=b,c ")
    assert (options["security_protocol"], options["sasl_mechanism"]) == ("SASL_PLAINTEXT", "SCRAM-SHA-512")


def test_a_user_name_cannot_end_itself(tmp_path: Path) -> None:
    """In SCRAM a comma ends the name and an equals sign begins an escape (RFC 5802): one could log in as another."""
    secret(tmp_path)
    options = loaded(tmp_path, 'username = "a,r=b=2C"\npassword_file = "password"').client("c")
    assert options["sasl_plain_username"] == "a=2Cr=3Db=3D2C"


def test_settings_hold_no_secret(tmp_path: Path) -> None:
    secret(tmp_path, "never shown\n")
    settings = loaded(tmp_path, 'username = "emitter"\npassword_file = "password"')
    settings.client("c")
    assert "never shown" not in repr(settings)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_password_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    secret(tmp_path).chmod(mode)
    with pytest.raises(LogError, match=r"'kafka.password_file'.*can be read by others. Run: chmod 600") as caught:
        loaded(tmp_path, 'username = "emitter"\npassword_file = "password"').client("c")
    assert "a password" not in str(caught.value)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is empty. Write the password into it"),
        (b"\n", "is empty. Write the password into it"),
        (b"\xff\xfe", "is not text in UTF-8"),
    ],
)
def test_a_file_that_holds_no_password_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    secret(tmp_path).write_bytes(content)
    with pytest.raises(LogError, match=f"key 'kafka.password_file': .*{message}"):
        loaded(tmp_path, 'username = "emitter"\npassword_file = "password"').client("c")


def test_a_missing_password_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"key 'kafka.password_file': there is no file .*absent"):
        loaded(tmp_path, 'username = "emitter"\npassword_file = "absent"').client("c")
    with pytest.raises(LogError, match=r"key 'kafka.password_file': .* is not a plain file|cannot read"):
        loaded(tmp_path, 'username = "emitter"\npassword_file = "/dev/null"').client("c")


def test_tls_checks_certificates_and_host_names(tmp_path: Path, authority: Authority, issued: Issued) -> None:
    text = (
        f'ca_file = "{authority.file}"\ncertificate_file = "{issued.certificate_file}"\nkey_file = "{issued.key_file}"'
    )
    options = loaded(tmp_path, text).client("c")
    context = options["ssl_context"]
    assert options["security_protocol"] == "SSL"
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert [dict(part[0] for part in each["subject"])["commonName"] for each in context.get_ca_certs()] == [
        "quietcount test authority"
    ]


def test_without_a_file_the_system_s_authorities_are_trusted(tmp_path: Path) -> None:
    context = loaded(tmp_path, "tls = true").client("c")["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_a_locked_key_is_opened_by_the_password_in_its_file(tmp_path: Path, issued: Issued) -> None:
    text = f'certificate_file = "{issued.certificate_file}"\nkey_file = "{issued.locked_key_file}"\n'
    loaded(tmp_path, f'{text}key_password_file = "{issued.key_password_file}"').client("c")
    with pytest.raises(LogError, match=r"'kafka.key_file'.*is encrypted. Name the file of its password"):
        loaded(tmp_path, text).client("c")
    wrong = secret(tmp_path, "wrong")
    with pytest.raises(LogError, match=r"'kafka.key_password_file'.*is not opened by the password"):
        loaded(tmp_path, f'{text}key_password_file = "{wrong}"').client("c")


def test_each_file_of_tls_that_is_not_in_order_is_named(tmp_path: Path, authority: Authority, issued: Issued) -> None:
    nothing = secret(tmp_path, "nothing of that kind")
    other = authority.issue("other")
    certificate, key = issued.certificate_file, issued.key_file
    for text, message in (
        (f'ca_file = "{nothing}"', "'kafka.ca_file'.*holds no certificates in PEM form"),
        (f'certificate_file = "{nothing}"\nkey_file = "{key}"', "'kafka.certificate_file'.*holds no certificate"),
        (f'certificate_file = "{certificate}"\nkey_file = "{nothing}"', "'kafka.key_file'.*holds no private key"),
        (f'certificate_file = "{certificate}"\nkey_file = "{other.key_file}"', "'kafka.key_file'.*is not the key of"),
        ('ca_file = "absent"', "'kafka.ca_file': there is no file"),
    ):
        with pytest.raises(LogError, match=message):
            loaded(tmp_path, text).client("c")
    other.key_file.chmod(0o644)
    with pytest.raises(LogError, match=r"'kafka.key_file'.*can be read by others"):
        loaded(tmp_path, f'certificate_file = "{other.certificate_file}"\nkey_file = "{other.key_file}"').client("c")
