"""The table of the configuration's keys: the pages show it, it can nest, and every fault is found in one reading."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from quietcount_schemas.configuration import checked, reading
from quietcount_schemas.configuration.keys import CONFIGURATION, FORMER, KEYS, Key, Section, each_key, markdown
from quietcount_schemas.configuration.readers import number, text
from quietcount_schemas.errors import SchemasError
from quietcount_schemas.events.periods import Period

pytestmark = pytest.mark.quick

PAGES = ("docs/configuration.md", "README.md")
HEAD = "| key | default | meaning |"


def shown(root: Path) -> str:
    """The table of keys on the page that has it."""
    pages = [root / page for page in PAGES if (root / page).exists()]
    (found,) = (page for each in pages if HEAD in (page := each.read_text(encoding="utf-8")))
    return HEAD + found.partition(HEAD)[2].partition("\n\n")[0] + "\n"


@pytest.mark.promise("configuration")
def test_the_page_of_the_configuration_shows_the_table(root: Path) -> None:
    assert shown(root) == markdown()


def test_the_table_is_written_for_the_page_by_a_command() -> None:
    written = subprocess.run(
        [sys.executable, "-m", "quietcount_schemas.configuration"], capture_output=True, text=True, check=True
    )
    assert written.stdout == markdown()


def test_a_row_that_is_missing_or_changed_is_seen(root: Path) -> None:
    """The mutants: a page without a key, with another default, and with a key that there is not."""
    table = markdown()
    for mutant in (
        table.replace('| `tick` | `"60s"` | how often the service works |\n', ""),
        table.replace('`"7d"`', '`"8d"`'),
        table + "| `colour` | none | there is none |\n",
    ):
        assert mutant != shown(root)


@pytest.mark.parametrize("name, key", list(each_key()), ids=[name for name, _ in each_key()])
def test_each_row_is_whole(name: str, key: Key) -> None:
    assert key.meaning
    assert key.wanted.startswith("write ")
    if key.default is not None:
        key.reader.read(key.default)
        assert not key.required
    siblings = KEYS[".".join(part for part in name.split(".")[:-1])]
    assert not key.needs or key.needs in siblings


def test_an_empty_file_has_every_key() -> None:
    given = checked(Path("quietcount.toml"), {}, {})
    assert given.faults == ()
    assert [fault.key for fault in given.missing] == ["lifetime_epsilon"]
    assert set(given.values) == set(CONFIGURATION.members)


def test_every_fault_is_told_at_once_with_its_place_and_what_to_write(tmp_path: Path) -> None:
    path = tmp_path / "quietcount.toml"
    path.write_text(
        'lof = "embedded"\nschemas = 1\n[kafka]\nusername = "u"\ntls = 1\n[metrics]\nlisten = "0.0.0.0:1"\n'
        '[[population]]\nname = "a"\nevents = ["A"]\nperiod = "month"\nlate = "never"\n'
        '[[population.table]]\nname = "b"\nperiod = "fortnight"\n[[population]]\nname = "a"\ntable = 1\n'
        '[[population]]\nname = "c"\nevents = ["A"]\nperiod = "day"\nepsilon = 1\n'
        '[[population.table]]\nname = "d"\nepsilon = 1\n[[population.table]]\nname = "b"\nepsilon = "1"\n'
    )
    environment = {"QUIETCOUNT_TICK": "soon", "QUIETCOUNT_EMITTER__SPOOL": "a\0b", "QUIETCOUNT_COLOUR": "red"}
    given = reading.read_configuration(path, environment, {"grace": "7w"})
    with pytest.raises(SchemasError) as caught:
        given.refuse_faults(SchemasError, for_the_service=True)
    assert caught.value.what == f"{path}: the configuration cannot be used"
    told = [
        "variable QUIETCOUNT_COLOUR is unknown: known are "
        + ", ".join(f"QUIETCOUNT_{name}".upper() for name in ("config", *KEYS[""])),
        "key 'lof' is unknown: did you mean 'log'?",
        'option --grace: write a duration from "0d" to "366d": a number, then s, m, h or d',
        'variable QUIETCOUNT_TICK: write a duration from "1s" to "1d": a number, then s, m, h or d',
        """key 'schemas': write a list of folders, as ["my-schemas"]""",
        "variable QUIETCOUNT_EMITTER__SPOOL: write a path as text that is not empty",
        "key 'kafka.tls': write true or false",
        "key 'kafka.username': goes with kafka.password_file, which is missing",
        "key 'metrics.listen': 0.0.0.0 can be reached from other machines and needs TLS and a password: "
        "certificate_file, key_file, username and password_file of [metrics]; or listen on 127.0.0.1",
        """key 'population.1.late': write "carry" or "drop\"""",
        "key 'population.1.table.1.period': write one of day, week, month, quarter, year, as text",
        """key 'population.2.events' is missing: write a list of event types, as ["HelpRequested"]""",
        "key 'population.2.period' is missing: write one of day, week, month, quarter, year, as text",
        "key 'population.2.table': write a list of tables: [[population.table]]",
        f"key 'population.3.epsilon' is unknown: known are {', '.join(KEYS['population'])}",
        "key 'population.3.table.2.epsilon': write a number",
        "key 'population': two populations are named 'a'; give each its own name",
        "key 'population.table': two tables are named 'b'; give each its own name",
        "key 'lifetime_epsilon' is missing: write a number above 0, 100 at most",
        "key 'population.1.table.1.epsilon' is missing: write a number",
    ]
    assert caught.value.remedy == "\n  ".join(["Mend this:", *told])


def test_one_fault_is_told_in_one_line() -> None:
    with pytest.raises(SchemasError) as caught:
        checked(Path("quietcount.toml"), {"tick": 1}, {}).refuse_faults(SchemasError)
    assert caught.value.remedy.startswith("Mend this: key 'tick': write a duration")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given, meant",
    [
        ("lof", "log"),
        ("tcik", "tick"),
        ("data-dir", "data_dir"),
        ("lifetime", "lifetime_epsilon"),
        ("QUIETCOUNT_DATADIR", "QUIETCOUNT_DATA_DIR"),
        ("QUIETCOUNT_CONFG", "QUIETCOUNT_CONFIG"),
        ("QUIETCOUNT_kafka__tls", "QUIETCOUNT_KAFKA__TLS"),
        ("QUIETCOUNT_KAFKA_TOPIC_PREFIX", "QUIETCOUNT_KAFKA__TOPIC_PREFIX"),
        ("QUIETCOUNT_KAFAK__TOPIC_PREFIX", "QUIETCOUNT_KAFKA__TOPIC_PREFIX"),
    ],
)
def test_a_likely_slip_is_told_what_was_meant(tmp_path: Path, given: str, meant: str) -> None:
    assert unknown(tmp_path, given).endswith(f"is unknown: did you mean {meant!r}?")


@pytest.mark.parametrize(
    "given, known",
    [
        ("colour", list(KEYS[""])),
        ("QUIETCOUNT_FOO", [f"QUIETCOUNT_{name}".upper() for name in ("config", *KEYS[""])]),
        ("QUIETCOUNT_KAFKA__NOPE", [f"QUIETCOUNT_KAFKA__{name}".upper() for name in KEYS["kafka"]]),
        ("QUIETCOUNT_COLOUR__NOPE", [f"QUIETCOUNT_{name}".upper() for name in ("config", *KEYS[""])]),
    ],
)
def test_what_is_no_slip_is_told_which_names_there_are(tmp_path: Path, given: str, known: list[str]) -> None:
    assert unknown(tmp_path, given).endswith(f"is unknown: known are {', '.join(known)}")


def unknown(folder: Path, name: str) -> str:
    """What is said of a key, or of a variable, that is unknown."""
    path = folder / "quietcount.toml"
    path.write_text("" if name.startswith("QUIETCOUNT_") else f'"{name}" = 1\n')
    (fault,) = reading.read_configuration(path, {name: "1"}).faults
    return fault.message


def test_a_value_that_is_refused_is_not_repeated() -> None:
    """It may be a secret that stands in the wrong place; the texts of Python's own errors would repeat it."""
    secret = "5ec2e7\0"
    apart = ("", "population", "population.table", "receive.path", "witnesses.witness")
    table: dict[str, object] = {each: dict.fromkeys(KEYS[each], secret) for each in KEYS if each not in apart}
    table |= {name: secret for name in KEYS[""] if name not in KEYS}
    tables = [dict.fromkeys(KEYS["population.table"], secret)]
    table["population"] = [dict.fromkeys(KEYS["population"], secret) | {"table": tables}]
    table["receive"] = dict.fromkeys(KEYS["receive"], secret) | {"path": [dict.fromkeys(KEYS["receive.path"], secret)]}
    witness = dict.fromkeys(KEYS["witnesses.witness"], secret)
    table["witnesses"] = dict.fromkeys(KEYS["witnesses"], secret) | {"witness": [witness]}
    given = checked(Path("quietcount.toml"), table, {})
    assert {fault.key.rpartition(".")[2] for fault in given.faults} == {
        name.rpartition(".")[2] for name, _ in each_key()
    }
    assert "5ec2e7" not in "".join(fault.message for fault in given.faults)


@pytest.mark.parametrize("name", FORMER)
def test_a_name_that_is_no_key_any_more_says_what_to_write_and_repeats_nothing(name: str) -> None:
    given = checked(Path("quietcount.toml"), {name: [{"name": "5ec2e7", "epsilon": 1}] * 2}, {})
    assert [(fault.key, fault.message) for fault in given.faults] == [(name, f"key {name!r}: {FORMER[name]}")]


def test_what_is_written_in_place_of_a_statistic_has_every_key_that_it_had() -> None:
    had = ("name", "events", "where", "by", "period", "max_contributions", "horizon", "since", "epsilon", "late")
    _, population, table = FORMER["statistic"].split("[[")
    for section, told in (("population", population), ("population.table", table)):
        assert told.startswith(f"{section}]] with ")
        named = re.findall(r"[a-z_]+", told.removeprefix(f"{section}]] with "))
        assert {each for each in named if each in had} <= set(KEYS[section])
    assert {each for each in had if each in re.findall("[a-z_]+", population + table)} == set(had)


def test_a_key_of_a_section_may_have_a_name_that_was_a_section_once() -> None:
    """What was once a key of the top level says nothing about one elsewhere."""
    for table in ({"population": [{"statistic": 1}]}, {"emitter": {"statistic": 1}}):
        messages = [fault.message for fault in checked(Path("quietcount.toml"), table, {}).faults]
        assert any(".statistic' is unknown: known are " in message for message in messages)


@pytest.mark.parametrize("period", list(Period))
def test_the_words_about_the_period_of_a_table_are_those_of_its_choice(period: Period) -> None:
    """Without one a table has the population's: the reader leaves that open, and who declares decides."""
    table = {"name": "a", "events": ["A"], "period": period.value, "table": [{"name": "a", "epsilon": 1}]}
    (population,) = checked(Path("quietcount.toml"), {"population": [table]}, {}).values["population"]
    assert (population["period"], population["table"][0]["period"]) == (period, None)


NESTED = Section(
    "",
    sections=(
        Section(
            "population",
            (Key("name", text(), "a name", required=True),),
            (
                Section(
                    "table",
                    (
                        Key("epsilon", number("write a number"), "a loss", 1, needs="name"),
                        Key("name", text(), "a name"),
                    ),
                    repeated=True,
                ),
            ),
            repeated=True,
        ),
    ),
)
"""Less than the catalogue has, and with a key that goes with another."""


def test_sections_may_be_nested_and_repeated() -> None:
    check = reading._Check({}, ())
    table = {
        "population": [
            {"name": "a", "table": [{"name": "b", "epsilon": 0.5}, {}]},
            {"table": 1},
            {"table": [{"epsilon": "x", "lof": 1}]},
        ]
    }
    values = check.section(NESTED, table, "")
    assert values["population"][0]["table"][1] == {"epsilon": 1, "name": None}
    assert {key: fault.message for key, fault in check.faults.items()} == {
        "population.2.name": "key 'population.2.name' is missing: write text that is not empty",
        "population.2.table": "key 'population.2.table': write a list of tables: [[population.table]]",
        "population.3.name": "key 'population.3.name' is missing: write text that is not empty",
        "population.3.table.1.lof": "key 'population.3.table.1.lof' is unknown: known are epsilon, name",
        "population.3.table.1.epsilon": "key 'population.3.table.1.epsilon': write a number",
    }


def test_the_page_on_operating_names_the_keys_that_need_a_restart(root: Path) -> None:
    text = " ".join((root / "docs" / "operating.md").read_text(encoding="utf-8").split())
    listed = text.partition("keys need a restart: ")[2].partition(". ")[0]
    needing = [name for name, key in each_key() if key.restart]
    assert listed
    sections = {name.rpartition(".")[0] for name in needing if f"`[{name.rpartition('.')[0]}]`" in listed}
    for name, _ in each_key():
        named = f"`{name}`" in listed or name.rpartition(".")[0] in sections
        assert named is (name in needing), name
