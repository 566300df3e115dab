"""The configuration: precedence, defaults, refusals, and that nothing secret is in it."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import pytest

from quietcount_consumers.configuration import Configuration, beginning_now
from quietcount_consumers.errors import ConfigurationError
from quietcount_schemas.configuration.keys import each_key
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

STATISTIC = """
[[statistic]]
name = "requests"
events = ["HelpRequested"]
period = "quarter"
epsilon = 0.5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "quietcount.toml"
    path.write_text("lifetime_epsilon = 2.5\n" + STATISTIC, encoding="utf-8")
    return path


def prepend(file: Path, text: str) -> None:
    file.write_text(f"{text}\n{file.read_text(encoding='utf-8')}", encoding="utf-8")


def test_what_the_file_leaves_out_has_the_documented_default(file: Path) -> None:
    configuration = Configuration.load(file)
    folder = file.parent
    assert configuration.log == "embedded"
    assert configuration.data_dir == folder / "data"
    assert configuration.lifetime_epsilon == Decimal("2.5")
    assert configuration.grace == dt.timedelta(days=7)
    assert configuration.tick == dt.timedelta(seconds=60)
    assert configuration.schemas == ()
    assert configuration.emitter.pepper_file == folder / "secrets" / "pepper"
    assert configuration.service.secret_file == folder / "secrets" / "service"
    assert configuration.years_dir == folder / "secrets" / "service-years"
    assert configuration.private_dir == folder / "data" / "private" / "store"
    assert configuration.public_file == folder / "data" / "statistics.duckdb"
    (statistic,) = configuration.statistics(SchemaRegistry.load())
    assert (statistic.max_contributions, statistic.horizon, statistic.late) == (1, "lifetime", "carry")
    assert statistic.since is None


def test_a_flag_goes_before_the_environment_and_the_environment_before_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepend(file, 'grace = "1d"\ntick = "1m"\ndata_dir = "from-file"\n')
    monkeypatch.setenv("QUIETCOUNT_GRACE", "2d")
    monkeypatch.setenv("QUIETCOUNT_TICK", "2m")
    monkeypatch.setenv("QUIETCOUNT_SERVICE__SECRET_FILE", "from-environment")
    configuration = Configuration.load(file, grace="3d")
    assert configuration.grace == dt.timedelta(days=3)
    assert configuration.tick == dt.timedelta(minutes=2)
    assert configuration.data_dir == file.parent / "from-file"
    assert configuration.service.secret_file == file.parent / "from-environment"
    assert configuration.emitter.pepper_file == file.parent / "secrets" / "pepper"


def test_two_files_loaded_in_turn_do_not_mix(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "quietcount.toml"
    other.parent.mkdir()
    other.write_text("lifetime_epsilon = 1\n", encoding="utf-8")
    first = Configuration.load(file)
    assert Configuration.load(other).statistic == ()
    assert Configuration.load(file) == first


@pytest.mark.parametrize(
    "text, seconds", [("60s", 60), ("15m", 900), ("12h", 43_200), ("7d", 604_800), (" 90 s ", 90), ("0d", 0)]
)
def test_a_duration_is_a_number_and_a_unit(file: Path, text: str, seconds: int) -> None:
    prepend(file, f'grace = "{text}"')
    assert Configuration.load(file).grace == dt.timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ['"7"', '"d"', '"7w"', '"-1d"', '"1.5h"', "7", '"7d 3h"', '"367d"', "true", '"٣d"', '"9999999999999d"']
)
def test_anything_else_is_no_duration(file: Path, text: str) -> None:
    prepend(file, f"grace = {text}")
    with pytest.raises(ConfigurationError, match="key 'grace'"):
        Configuration.load(file)


PYTHONS = ("timedelta", "<class", "valid", "Invalid", "isoformat", "literal", "should")


@pytest.mark.parametrize(
    "text, sentence",
    [
        (
            'grace = "99999999999d"',
            """key 'grace': write a duration from "0d" to "366d": a number, then s, m, h or d""",
        ),
        ('grace = "400d"', """key 'grace': write a duration from "0d" to "366d": a number, then s, m, h or d"""),
        ('tick = "0s"', """key 'tick': write a duration from "1s" to "1d": a number, then s, m, h or d"""),
        ("data_dir = 3", "key 'data_dir': write a path as text that is not empty"),
        ('data_dir = ""', "key 'data_dir': write a path as text that is not empty"),
        ('data_dir = "a\\u0000b"', "key 'data_dir': write a path as text that is not empty"),
        ('schemas = [""]', """key 'schemas': write a list of folders, as ["my-schemas"]"""),
        ("log = ''", """key 'log': write "embedded", or the brokers of Kafka, as "kafka://host:9092,host2:9092\""""),
        ("service = { secret_file = 1 }", "key 'service.secret_file': write a path as text that is not empty"),
        (
            "statistic = [{ name = 1, events = 2, period = 3, epsilon = 'x', where = 5, by = 6 }]",
            "key 'statistic.1.by'",
        ),
        (
            "statistic = [{ since = 'x', late = 'y', horizon = 'z', max_contributions = 'k' }]",
            "key 'statistic.1.since'",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_plain_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "quietcount.toml"
    path.write_text(f"lifetime_epsilon = 1\n{text}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        Configuration.load(path)
    message = str(caught.value).removeprefix(f"{path}: ")
    assert sentence in message
    assert not [word for word in PYTHONS if word in message]


@pytest.mark.parametrize(
    "text, part",
    [
        ('tick = "0s"', "key 'tick'"),
        ('tick = "2d"', "key 'tick'"),
        ('log = "kafka://host:port"', "key 'log'"),
        ('log = "kafka://"', "key 'log'"),
        ('log = "file://log"', "key 'log'"),
        ('kafka = { topic_prefix = "a b" }', "key 'kafka.topic_prefix'"),
        ('kafka = { username = "u" }', "kafka.password_file, which is missing"),
        ('kafka = { password = "secret" }', "key 'kafka.password'"),
        ("schemas = 3", "key 'schemas'"),
        ('emitter = "x"', "key 'emitter'"),
        ("grase = '7d'", "did you mean 'grace'"),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(file: Path, text: str, part: str) -> None:
    prepend(file, text)
    with pytest.raises(ConfigurationError) as caught:
        Configuration.load(file)
    assert part in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("value", ["0", "-1", "101", "nan", "inf", "'much'", "true"])
def test_a_lifetime_epsilon_is_a_positive_number(tmp_path: Path, value: str) -> None:
    path = tmp_path / "quietcount.toml"
    path.write_text(f"lifetime_epsilon = {value}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="lifetime_epsilon"):
        Configuration.load(path)


def test_every_wrong_key_is_named_at_once(file: Path) -> None:
    file.write_text('colour = 1\ntick = "x"\n[[statistic]]\nname = "a"\nevent = ["b"]\n', encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        Configuration.load(file)
    for key in ("lifetime_epsilon", "colour", "tick", "statistic.1.event", "statistic.1.events", "statistic.1.period"):
        assert f"'{key}'" in str(caught.value)


def test_two_statistics_of_one_name_are_refused(file: Path) -> None:
    file.write_text(file.read_text(encoding="utf-8") + STATISTIC, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="two statistics are named 'requests'"):
        Configuration.load(file)


def test_no_secret_is_in_the_configuration_or_in_what_it_shows(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the names of the secrets' files and never opens them; what was wrongly put there is not repeated."""
    (file.parent / "secrets").mkdir()
    for name in ("pepper", "service"):
        (file.parent / "secrets" / name).write_text("5ec2e7" * 12)
    configuration = Configuration.load(file)
    assert "5ec2e7" not in repr(configuration) + str(configuration.written)
    monkeypatch.setenv("QUIETCOUNT_TICK", "5ec2e75ec2e7")
    prepend(file, "pepper = '5ec2e75ec2e7'")
    with pytest.raises(ConfigurationError) as caught:
        Configuration.load(file)
    assert "'pepper' is unknown" in str(caught.value)
    assert "5ec2e7" not in str(caught.value)


def test_a_statistic_without_since_begins_with_the_period_of_its_declaration(file: Path) -> None:
    (statistic,) = Configuration.load(file).statistics(SchemaRegistry.load())
    assert beginning_now(statistic, dt.date(2023, 8, 17)).since == dt.date(2023, 7, 1)
    fixed = beginning_now(statistic, dt.date(2023, 8, 17))
    assert beginning_now(fixed, dt.date(2030, 1, 1)) == fixed


KEYS = [name for name, _ in each_key()]


@pytest.mark.promise("configuration")
@pytest.mark.parametrize("key", KEYS)
def test_each_key_is_in_the_commented_file(root: Path, key: str) -> None:
    commented = "".join(
        (root / path).read_text(encoding="utf-8")
        for path in (
            "consumers/quietcount_consumers/quietcount.toml",
            "aggregates/quietcount_aggregates/casework.toml",
        )
    )
    name = key.rpartition(".")[2]
    assert any(f"\n{before}{name} " in commented for before in ("", "# ", "#   "))


def test_a_running_service_takes_every_key_but_those_that_the_table_marks(file: Path) -> None:
    prepend(file, 'log = "kafka://one"\ngrace = "1d"\nmetrics = { listen = "off" }\nkafka = { tls = true }\n')
    old = Configuration.load(file, {})
    assert old.restart_needed(old) == []
    for variable, value, needed in (
        ("LOG", "kafka://two", ["log"]),
        ("DATA_DIR", "other", ["data_dir"]),
        ("GRACE", "2d", []),
        ("SERVICE__SECRET_FILE", "other", ["service.secret_file"]),
        ("SERVICE__LOG_FORMAT", "json", []),
        ("KAFKA__TOPIC_PREFIX", "other.", ["kafka.topic_prefix"]),
        ("KAFKA__TLS", "false", []),
        ("METRICS__LISTEN", "127.0.0.1:1", ["metrics.listen"]),
    ):
        new = Configuration.load(file, {f"QUIETCOUNT_{variable}": value})
        assert new.restart_needed(old) == old.restart_needed(new) == needed
