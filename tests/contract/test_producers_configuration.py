"""One reading of the configuration: an emitter and the service find the same things under each variable."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ConfigurationError
from quietcount_producers import EmitterSettings, ProducersError
from quietcount_schemas.configuration import KEYS
from quietcount_schemas.periods import Period

pytestmark = pytest.mark.quick

TEXT = """
log = "kafka://broker:9094"
lifetime_epsilon = 2
data_dir = "from-file"
schemas = ["schemas-of-file"]
[emitter]
pepper_file = "pepper-of-file"
[kafka]
certificate_file = "certificate-of-file"
key_file = "key-of-file"
username = "name-of-file"
password_file = "password-of-file"
[schema_registry]
url = "https://registry-of-file:8081"
username = "name-of-file"
password_file = "password-of-file"
[metrics]
certificate_file = "certificate-of-file"
key_file = "key-of-file"
username = "name-of-file"
password_file = "password-of-file"
[[statistic]]
name = "a"
events = ["HelpRequested"]
period = "quarter"
epsilon = 0.5
"""
STATISTICS = [{"name": "b", "events": ["OutcomeRecorded"], "period": "day", "epsilon": 0.5, "since": "2023-04-01"}]

VARIABLES = {
    "QUIETCOUNT_LOG": "embedded",
    "QUIETCOUNT_DATA_DIR": "from-environment",
    "QUIETCOUNT_LIFETIME_EPSILON": "3.5",
    "QUIETCOUNT_GRACE": "3d",
    "QUIETCOUNT_TICK": "3s",
    "QUIETCOUNT_SCHEMAS": '["one", "/two"]',
    "QUIETCOUNT_EMITTER": '{"pepper_file": "other"}',
    "QUIETCOUNT_EMITTER__PEPPER_FILE": "other",
    "QUIETCOUNT_EMITTER__SPOOL": "other",
    "QUIETCOUNT_KAFKA": '{"topic_prefix": "other."}',
    "QUIETCOUNT_KAFKA__TOPIC_PREFIX": "other.",
    "QUIETCOUNT_KAFKA__TLS": "True",
    "QUIETCOUNT_KAFKA__CA_FILE": "other",
    "QUIETCOUNT_KAFKA__CERTIFICATE_FILE": "other",
    "QUIETCOUNT_KAFKA__KEY_FILE": "other",
    "QUIETCOUNT_KAFKA__KEY_PASSWORD_FILE": "other",
    "QUIETCOUNT_KAFKA__USERNAME": "other",
    "QUIETCOUNT_KAFKA__PASSWORD_FILE": "other",
    "QUIETCOUNT_KAFKA__SASL_MECHANISM": "SCRAM-SHA-256",
    "QUIETCOUNT_SCHEMA_REGISTRY": '{"ids_file": "other"}',
    "QUIETCOUNT_SCHEMA_REGISTRY__URL": "https://other",
    "QUIETCOUNT_SCHEMA_REGISTRY__USERNAME": "other",
    "QUIETCOUNT_SCHEMA_REGISTRY__PASSWORD_FILE": "other",
    "QUIETCOUNT_SCHEMA_REGISTRY__CA_FILE": "other",
    "QUIETCOUNT_SCHEMA_REGISTRY__IDS_FILE": "other",
    "QUIETCOUNT_METRICS": '{"listen": "127.0.0.1:1"}',
    "QUIETCOUNT_METRICS__LISTEN": "off",
    "QUIETCOUNT_METRICS__CERTIFICATE_FILE": "other",
    "QUIETCOUNT_METRICS__KEY_FILE": "other",
    "QUIETCOUNT_METRICS__USERNAME": "other",
    "QUIETCOUNT_METRICS__PASSWORD_FILE": "other",
    "QUIETCOUNT_SERVICE": '{"secret_file": "other"}',
    "QUIETCOUNT_SERVICE__SECRET_FILE": "other",
    "QUIETCOUNT_SERVICE__LOG_FORMAT": "json",
    "QUIETCOUNT_STATISTIC": json.dumps(STATISTICS),
}
SECTIONS = ("emitter", "service", "kafka", "schema_registry", "metrics")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "quietcount.toml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def refusals(config: Path, environment: dict[str, str]) -> set[str]:
    """What the emitter and the service say; one of them taking what the other refuses fails here."""
    with pytest.raises(ProducersError) as emitter:
        EmitterSettings.load(config, environment)
    with pytest.raises(ConfigurationError) as service:
        Configuration.load(config, environment)
    return {str(emitter.value), str(service.value)}


@pytest.mark.parametrize("variable", [None, *VARIABLES])
def test_an_emitter_and_the_service_read_the_same(config: Path, variable: str | None) -> None:
    environment = {variable: VARIABLES[variable]} if variable else {}
    emitter = EmitterSettings.load(config, environment)
    service = Configuration.load(config, environment)
    assert emitter.log_file == service.private_dir / "log.sqlite"
    assert emitter.schemas == service.schemas
    assert emitter.pepper_file == service.emitter.pepper_file
    assert emitter.log == service.log
    assert emitter.kafka == service.kafka
    assert emitter.schema_registry == service.schema_registry
    assert emitter.spool == service.emitter.spool
    assert emitter.precision == {name: each.period for each in service.statistic for name in each.events}


@pytest.mark.parametrize("variable", VARIABLES)
def test_each_variable_has_an_effect(config: Path, variable: str) -> None:
    """Without this the test above would pass for variables that both sides leave unread."""
    before, after = Configuration.load(config, {}), Configuration.load(config, {variable: VARIABLES[variable]})
    # TLS is on already, because of the certificate.
    changed = [
        each.name
        for each in fields(Configuration)
        if each.compare and getattr(before, each.name) != getattr(after, each.name)
    ]
    assert bool(changed) is (variable != "QUIETCOUNT_KAFKA__TLS")


def test_every_key_has_a_variable_here() -> None:
    top = {f"QUIETCOUNT_{key.upper()}" for key in KEYS[""]}
    sections = {f"QUIETCOUNT_{each}__{key}".upper() for each in SECTIONS for key in KEYS[each]}
    assert set(VARIABLES) == top | sections


@pytest.mark.parametrize(
    "text, key",
    [('tick = "0s"', "tick"), ("[metrics]\nlisten = 1", "metrics.listen"), ("[service]\nlog_format = 1", "log_format")],
)
def test_an_emitter_refuses_what_only_the_service_reads(config: Path, text: str, key: str) -> None:
    """One table checks the file for both, so a fault is found on whichever machine it is looked at first."""
    config.write_text(f"lifetime_epsilon = 1\n{text}\n", encoding="utf-8")
    (said,) = refusals(config, {})
    assert key in said


def test_an_empty_environment_switches_it_off(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIETCOUNT_DATA_DIR", "elsewhere")
    for environment, name in (({}, "from-file"), (None, "elsewhere")):
        assert EmitterSettings.load(config, environment).data_dir == config.parent / name
        assert Configuration.load(config, environment).data_dir == config.parent / name


def test_an_empty_variable_counts_as_unset(config: Path) -> None:
    environment = dict.fromkeys([*VARIABLES, "QUIETCOUNT_NONSENSE"], "")
    assert EmitterSettings.load(config, environment) == EmitterSettings.load(config, {})
    assert Configuration.load(config, environment) == Configuration.load(config, {})


@pytest.mark.parametrize(
    "variable, value, message",
    [
        ("QUIETCOUNT_DATADIR", "x", "variable QUIETCOUNT_DATADIR is unknown: did you mean 'QUIETCOUNT_DATA_DIR'?"),
        ("QUIETCOUNT_Data_Dir", "x", "variable QUIETCOUNT_Data_Dir is unknown: did you mean 'QUIETCOUNT_DATA_DIR'?"),
        (
            "QUIETCOUNT_EMITTER_PEPPER_FILE",
            "x",
            "is unknown: did you mean 'QUIETCOUNT_EMITTER__PEPPER_FILE'?",
        ),
        ("QUIETCOUNT_SCHEMAS", "5ec2e7", """variable QUIETCOUNT_SCHEMAS: write a list as JSON, as ["my-schemas"]"""),
        ("QUIETCOUNT_SCHEMAS", "[5]", "variable QUIETCOUNT_SCHEMAS: write a list of folders"),
        ("QUIETCOUNT_STATISTIC", '{"5ec2e7": 1}', "variable QUIETCOUNT_STATISTIC: write a list as JSON"),
        ("QUIETCOUNT_EMITTER", "[" * 100_000, "variable QUIETCOUNT_EMITTER: write a table as JSON"),
        ("QUIETCOUNT_EMITTER", '{"peper_file": "5ec2e7"}', "key 'emitter.peper_file' is unknown"),
        ("QUIETCOUNT_DATA_DIR", " ", "variable QUIETCOUNT_DATA_DIR: write a path"),
        ("QUIETCOUNT_EMITTER__PEPPER_FILE", "a\0b", "variable QUIETCOUNT_EMITTER__PEPPER_FILE: write a path"),
        ("QUIETCOUNT_SCHEMA_REGISTRY__URL", "5ec2e7", "variable QUIETCOUNT_SCHEMA_REGISTRY__URL: write an address"),
        ("QUIETCOUNT_SCHEMA_REGISTRY__URL", "http://5ec2e7", "a password is sent over https:// only"),
    ],
)
def test_a_variable_that_is_not_in_order_is_refused_alike(
    config: Path, variable: str, value: str, message: str
) -> None:
    (said,) = refusals(config, {variable: value})
    assert message in said
    assert "5ec2e7" not in said


@pytest.mark.parametrize("name", ["CONFIG", "REQUIRE_ALL", "SEED", "TEST_ANYTHING"])
def test_variables_that_are_no_keys_are_left_alone(config: Path, name: str) -> None:
    environment = {f"QUIETCOUNT_{name}": "1", "quietcount_log": "x", "OTHER": "y"}
    assert EmitterSettings.load(config, environment) == EmitterSettings.load(config, {})


@pytest.mark.parametrize(
    "content, message",
    [
        (b"log = ", "is not TOML"),
        (b"log = '\xff'", "is not UTF-8"),
        (b"log = " + b"9" * 5000, "is not TOML that can be read"),
        (b"emitter = 1\nschemas = 1\nstatistic = [1]", "key 'schemas': write a list of folders"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_alike(config: Path, content: bytes, message: str) -> None:
    config.write_bytes(content)
    assert all(message in said for said in refusals(config, {}))


def test_a_file_that_is_missing_says_how_to_get_one_on_either_machine(tmp_path: Path) -> None:
    (said,) = refusals(tmp_path / "absent.toml", {})
    assert "On an emitter copy it from the service's machine" in said


def test_a_byte_order_mark_does_no_harm(config: Path) -> None:
    before = EmitterSettings.load(config, {})
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes())
    assert EmitterSettings.load(config, {}) == before


def test_a_period_of_each_length_is_read_alike(config: Path) -> None:
    statistics = [
        {**STATISTICS[0], "name": each.value, "period": each.value, "events": [each.value]} for each in Period
    ]
    environment = {"QUIETCOUNT_STATISTIC": json.dumps(statistics)}
    assert list(EmitterSettings.load(config, environment).precision.values()) == list(Period)
    assert [each.period for each in Configuration.load(config, environment).statistic] == list(Period)
