"""The configuration: precedence, defaults, refusals, and that nothing secret is in it."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from pathlib import Path

import pytest
from tests.strategies import envelope, registry_of

from quietcount_aggregates.errors import PopulationError
from quietcount_consumers.configuration import Configuration, beginning_after
from quietcount_consumers.errors import ConfigurationError
from quietcount_schemas.configuration.keys import each_key
from quietcount_schemas.events.periods import Period
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

POPULATION = """
[[population]]
name = "requests"
events = ["HelpRequested"]
period = "quarter"
[[population.table]]
name = "requests"
epsilon = 0.5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "quietcount.toml"
    path.write_text("lifetime_epsilon = 2.5\n" + POPULATION, encoding="utf-8")
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
    (population,) = configuration.populations(SchemaRegistry.load())
    assert (population.max_contributions, population.horizon, population.late) == (1, "lifetime", "carry")
    assert (population.title, population.description, population.where) == ("", "", ())
    assert population.since is None
    (table,) = population.tables
    assert (table.by, table.where, table.period) == ((), (), Period.QUARTER)


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
    assert Configuration.load(other).population == ()
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
        ("population = [{ name = 1, title = 2, events = 3, period = 4, where = 5 }]", "key 'population.1.where'"),
        (
            "population = [{ since = 'x', late = 'y', horizon = 'z', max_contributions = 'k' }]",
            "key 'population.1.since'",
        ),
        (
            "population = [{ table = [{ name = 1, by = 2, where = 3, period = 4, epsilon = 'x' }] }]",
            "key 'population.1.table.1.by'",
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
    file.write_text(
        'colour = 1\ntick = "x"\n[[population]]\nname = "a"\nevent = ["b"]\n'
        '[[population.table]]\nname = "a"\n[[population.table]]\nbye = ["c"]\n',
        encoding="utf-8",
    )
    with pytest.raises(ConfigurationError) as caught:
        Configuration.load(file)
    assert set(re.findall(r"^  key '([a-z0-9_.]+)'", str(caught.value), re.MULTILINE)) == {
        "lifetime_epsilon",
        "colour",
        "tick",
        "population.1.event",
        "population.1.events",
        "population.1.period",
        "population.1.table.1.epsilon",
        "population.1.table.2.bye",
        "population.1.table.2.name",
        "population.1.table.2.epsilon",
    }


OTHER = POPULATION.replace('"requests"', '"others"')


@pytest.mark.parametrize(
    "second, said",
    [
        (POPULATION, ["two populations are named 'requests'", "two tables are named 'requests'"]),
        # Each table has a view of its name in statistics.duckdb, whatever population it is of.
        (OTHER.replace('table]]\nname = "others"', 'table]]\nname = "requests"'), ["two tables are named 'requests'"]),
        (OTHER + '[[population.table]]\nname = "others"\nepsilon = 0.5\n', ["two tables are named 'others'"]),
        (OTHER, []),
        (OTHER.replace('population]]\nname = "others"', 'population]]\nname = "a"'), []),
    ],
    ids=["populations", "tables of two", "tables of one", "none", "a table alone has its name"],
)
def test_a_name_is_given_once(file: Path, second: str, said: list[str]) -> None:
    file.write_text(file.read_text(encoding="utf-8") + second, encoding="utf-8")
    if not said:
        assert len(Configuration.load(file).population) == 2
        return
    with pytest.raises(ConfigurationError) as caught:
        Configuration.load(file)
    assert re.findall(r"two \w+ are named '\w+'", str(caught.value)) == said
    assert "give each its own name" in str(caught.value)


FORMER = """
lifetime_epsilon = 2.5
[[statistic]]
name = "requests"
events = ["HelpRequested"]
period = "quarter"
epsilon = 0.5
[[statistic]]
name = "others"
"""


def test_a_file_of_before_populations_is_told_the_new_form_in_one_line(file: Path) -> None:
    file.write_text(FORMER, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        Configuration.load(file)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{file}: ")
    for part in ("key 'statistic': ", "Write [[population]] with name, events, ", "Write [[population.table]] with "):
        assert part in str(caught.value)


def test_a_population_without_a_table_is_refused(file: Path) -> None:
    file.write_text(file.read_text(encoding="utf-8").partition("[[population.table]]")[0], encoding="utf-8")
    configuration = Configuration.load(file)
    with pytest.raises(PopulationError, match=r"population 'requests', key 'table': is missing") as caught:
        configuration.populations(SchemaRegistry.load())
    assert "[[population.table]]" in caught.value.remedy


def test_what_a_population_and_its_tables_say_is_taken(file: Path) -> None:
    more = (
        'title = "Requests: просьбы"\ndescription = "Whoever asked for help."\n'
        'where = { service_category = ["MOBILISED"] }\nmax_contributions = 3\nhorizon = "year"\nsince = 2023-04-17\n'
        'late = "drop"\n[[population.table]]\nname = "by_kind"\nby = ["help_kind"]\nperiod = "year"\n'
        'where = { region = ["VOLGA"] }\nepsilon = 0.25\n'
    )
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("[[population.table]]", f"{more}[[population.table]]"), encoding="utf-8")
    (population,) = Configuration.load(file).populations(SchemaRegistry.load())
    assert (population.title, population.description) == ("Requests: просьбы", "Whoever asked for help.")
    assert (population.max_contributions, population.horizon, population.late) == (3, "year", "drop")
    assert population.since == dt.date(2023, 4, 1)
    assert [(each.field.name, each.accepted) for each in population.where] == [("service_category", ("MOBILISED",))]
    kind, whole = population.tables
    assert [dimension.name for dimension in kind.by] == ["help_kind"]
    assert [(each.field.name, each.accepted) for each in kind.where] == [("region", ("VOLGA",))]
    assert (kind.period, whole.period) == (Period.YEAR, Period.QUARTER)
    assert population.epsilon == Decimal("0.75")


@pytest.mark.parametrize(
    "key, value, wanted",
    [
        ("title", "x" * 201, "write one line of text, 200 characters at most"),
        ("title", "two\\nlines", "write one line of text, 200 characters at most"),
        ("title", "a\\u0000b", "write one line of text, 200 characters at most"),
        ("description", "x" * 2001, "write one line of text, 2,000 characters at most"),
        ("description", "two\\r\\nlines", "write one line of text, 2,000 characters at most"),
        ("title", "x" * 200, ""),
        ("title", "", ""),
        ("description", "x" * 2000, ""),
    ],
    ids=lambda value: value[:12],
)
def test_a_title_and_a_description_are_one_line_each(file: Path, key: str, value: str, wanted: str) -> None:
    text = file.read_text(encoding="utf-8").replace("[[population]]", f'[[population]]\n{key} = "{value}"')
    file.write_text(text, encoding="utf-8")
    if not wanted:
        (population,) = Configuration.load(file).population
        assert getattr(population, key) == value
        return
    with pytest.raises(ConfigurationError) as caught:
        Configuration.load(file)
    assert f"key 'population.1.{key}': {wanted}" in str(caught.value)


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


def test_a_population_without_since_begins_with_the_first_whole_period_after_its_declaration(file: Path) -> None:
    (population,) = Configuration.load(file).populations(SchemaRegistry.load())
    assert beginning_after(population, dt.date(2023, 8, 17)).since == dt.date(2023, 10, 1)
    assert beginning_after(population, dt.date(2023, 10, 1)).since == dt.date(2024, 1, 1)
    fixed = beginning_after(population, dt.date(2023, 8, 17))
    assert beginning_after(fixed, dt.date(2030, 1, 1)) == fixed


def test_the_example_on_the_page_of_the_configuration_is_a_population_of_two_tables(root: Path, file: Path) -> None:
    page = (root / "docs" / "configuration.md").read_text(encoding="utf-8")
    example, numbers = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    file.write_text(f"lifetime_epsilon = 1\n{example}", encoding="utf-8")
    (population,) = Configuration.load(file, {}).populations(SchemaRegistry.load())
    assert [table.period for table in population.tables] == [Period.MONTH, Period.QUARTER]
    assert population.epsilon == 1
    waited = '[[population]]\nname = "waits"\nevents = ["Waited"]\nperiod = "month"\n'
    file.write_text(f"lifetime_epsilon = 1\n{waited}{numbers}", encoding="utf-8")
    kind = {"type": "enum", "name": "Kind", "symbols": ["A", "B"], "default": "A", "doc": "."}
    days = {"type": "int", "minimum": 0, "maximum": 365}
    fields = [
        {"name": "help_kind", "type": kind, "default": "A", "doc": "."},
        {"name": "days_waited", "type": days, "default": 0, "doc": "."},
    ]
    definition = {"type": "record", "name": "Waited", "namespace": "example.trial", "doc": ".", "fields": envelope()}
    registry = registry_of({**definition, "quietcount.role": "event", "fields": [*envelope(), *fields]})
    (population,) = Configuration.load(file, {}).populations(registry)
    assert population.tables[0].by[0].symbols == ("0..6", "7..29", "30..89", "90+")
    assert [table.period for table in population.sums] == [Period.QUARTER]


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
