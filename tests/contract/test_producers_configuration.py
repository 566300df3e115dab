"""One reading of the configuration: an emitter and the service find the same things under each variable."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import fields
from pathlib import Path

import pytest

from quietcount_aggregates.catalogue import AskedTable
from quietcount_aggregates.errors import PopulationError
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ConfigurationError
from quietcount_producers import EmitterSettings, ProducersError
from quietcount_schemas.configuration import KEYS
from quietcount_schemas.events.periods import Period
from quietcount_schemas.registry import SchemaRegistry

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
[[population]]
name = "a"
events = ["HelpRequested"]
period = "quarter"
[[population.table]]
name = "a"
epsilon = 0.5
"""
TABLES = [{"name": "b", "by": ["outcome"], "epsilon": 0.5}, {"name": "c", "period": "month", "epsilon": 0.25}]
POPULATIONS = [
    {"name": "b", "events": ["OutcomeRecorded"], "period": "day", "since": "2023-04-01", "table": TABLES},
]

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
    "QUIETCOUNT_EMITTER__ALLOW_IDENTIFIERS": '["spaces"]',
    "QUIETCOUNT_WITNESSES": '{"copies": ["other"]}',
    "QUIETCOUNT_PUBLICATION": '{"publisher": "other"}',
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
    "QUIETCOUNT_POPULATION": json.dumps(POPULATIONS),
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
    assert emitter.allow_identifiers == service.emitter.allow_identifiers
    assert emitter.precision == {name: each.period for each in service.population for name in each.events}


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
    # [receive] is neither the service's nor every emitter's: the door alone reads it.
    top = {f"QUIETCOUNT_{key.upper()}" for key in KEYS[""] if key != "receive"}
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
        ("QUIETCOUNT_POPULATION", '{"5ec2e7": 1}', "variable QUIETCOUNT_POPULATION: write a list as JSON"),
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
        (b"emitter = 1\nschemas = 1\npopulation = [1]", "key 'schemas': write a list of folders"),
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


def populations(given: object) -> dict[str, str]:
    return {"QUIETCOUNT_POPULATION": json.dumps(given)}


def test_a_period_of_each_length_is_read_alike(config: Path) -> None:
    environment = populations(
        [{"name": each, "period": each, "events": [each], "table": [{"name": each, "epsilon": 0.5}]} for each in Period]
    )
    assert list(EmitterSettings.load(config, environment).precision.values()) == list(Period)
    assert [each.period for each in Configuration.load(config, environment).population] == list(Period)


def test_populations_of_the_environment_take_the_place_of_those_of_the_file(config: Path) -> None:
    (population,) = Configuration.load(config, populations(POPULATIONS)).population
    assert (population.name, population.since) == ("b", dt.date(2023, 4, 1))
    assert population.table == (
        AskedTable("b", 0.5, by=("outcome",), where={}, period=None),
        AskedTable("c", 0.25, by=(), where={}, period=Period.MONTH),
    )


@pytest.mark.parametrize(
    "given, message",
    [
        ([{"name": "a", "events": ["A"], "period": "fortnight"}], "key 'population.1.period': write one of day"),
        ([{"events": ["A"], "period": "day", "table": [{"perod": 1}]}], "key 'population.1.table.1.perod' is unknown"),
        (
            [{"events": ["A"], "period": "day"}, {"events": ["A"], "period": "day", "table": {"name": "a"}}],
            "key 'population.2.table': write a list of tables: [[population.table]]",
        ),
        ([{"name": "a", "events": ["A"], "period": "day"}] * 2, "two populations are named 'a'"),
        (
            [{"events": ["A"], "period": "day", "table": [{"name": "a", "epsilon": 1}]}] * 2,
            "two tables are named 'a'; give each its own name",
        ),
        ([1], "write a list of tables: [[population]]"),
    ],
)
def test_a_fault_in_a_population_has_its_place_for_both(config: Path, given: object, message: str) -> None:
    said = refusals(config, populations(given))
    assert all(message in each for each in said)


@pytest.mark.parametrize("text", ["", '[[population.table]]\nname = "a"\n'])
def test_what_the_service_alone_needs_of_a_population_an_emitter_does_without(config: Path, text: str) -> None:
    whole = TEXT.partition("[[population]]")[0] + '[[population]]\nevents = ["HelpRequested"]\nperiod = "day"\n'
    config.write_text(whole + text, encoding="utf-8")
    assert EmitterSettings.load(config, {}).precision == {"HelpRequested": Period.DAY}
    with pytest.raises(ConfigurationError, match=r"key 'population\.1\.name' is missing: write text"):
        Configuration.load(config, {})


def test_a_population_without_a_table_is_refused_by_the_service_and_serves_an_emitter(config: Path) -> None:
    config.write_text(TEXT.partition("[[population.table]]")[0], encoding="utf-8")
    assert EmitterSettings.load(config, {}).precision == {"HelpRequested": Period.QUARTER}
    configuration = Configuration.load(config, {})
    with pytest.raises(PopulationError, match=r"key 'table': is missing"):
        configuration.populations(SchemaRegistry.load())


def test_the_catalogue_of_before_populations_is_told_the_new_form_in_one_line_by_both(config: Path) -> None:
    former = TEXT.replace("[[population]]", "[[statistic]]").replace('[[population.table]]\nname = "a"\n', "")
    config.write_text(former, encoding="utf-8")
    (said,) = refusals(config, {})
    assert "\n" not in said
    assert said.startswith(f"{config}: the configuration cannot be used. Mend this: key 'statistic': ")
    assert "Write [[population]] with " in said
    assert "Write [[population.table]] with " in said
