from __future__ import annotations

import stat
from pathlib import Path

import pytest

from quietcount_producers import EmbeddedLog, EmitterSettings, LogError, ProducersError, open_log
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS

pytestmark = pytest.mark.quick


def written(tmp_path: Path, text: str) -> Path:
    config = tmp_path / "quietcount.toml"
    config.write_text(text)
    return config


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = written(tmp_path, 'data_dir = "d"\nschemas = ["s"]\n[emitter]\npepper_file = "p"\n[service]\n')
    settings = EmitterSettings.load(config, {})
    assert settings.data_dir == tmp_path / "d"
    assert settings.schemas == (tmp_path / "s",)
    assert settings.pepper_file == tmp_path / "p"
    assert settings.log_file == tmp_path / "d" / "private" / "store" / "log.sqlite"


def test_an_empty_file_has_the_defaults(tmp_path: Path) -> None:
    settings = EmitterSettings.load(written(tmp_path, ""), {})
    assert (settings.log, settings.data_dir, settings.pepper_file) == (
        "embedded",
        tmp_path / "data",
        tmp_path / "secrets/pepper",
    )
    assert dict(settings.precision) == {}


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    config = written(tmp_path, 'log = "embedded"\ndata_dir = "d"\n[emitter]\npepper_file = "p"\n')
    settings = EmitterSettings.load(
        config,
        {
            "QUIETCOUNT_LOG": "kafka://broker:9092",
            "QUIETCOUNT_DATA_DIR": "e",
            "QUIETCOUNT_EMITTER__PEPPER_FILE": "/q",
        },
    )
    assert (settings.log, settings.data_dir, settings.pepper_file) == (
        "kafka://broker:9092",
        tmp_path / "e",
        Path("/q"),
    )


@pytest.mark.parametrize(
    "periods, expected",
    [
        (["month"], Period.MONTH),
        (["year", "month", "quarter"], Period.MONTH),
        (["day", "week"], Period.DAY),
        (["week"], Period.WEEK),
        (["week", "month"], Period.DAY),  # a week lies in two months
        (["week", "year"], Period.DAY),
    ],
)
def test_a_date_is_as_exact_as_the_populations_need_and_no_more(
    tmp_path: Path, periods: list[str], expected: Period
) -> None:
    text = "".join(f'[[population]]\nevents = ["A", "B{n}"]\nperiod = "{p}"\n' for n, p in enumerate(periods))
    precision = EmitterSettings.load(written(tmp_path, text), {}).precision
    assert precision["A"] is expected
    assert precision["B0"] is Period(periods[0])


@pytest.mark.parametrize(
    "text, message",
    [
        ('data_dri = "d"', r"key 'data_dri' is unknown: did you mean 'data_dir'"),
        ('[emitter]\npeper_file = "p"', r"key 'emitter.peper_file' is unknown: did you mean 'pepper_file'"),
        ("zzz = 1", r"key 'zzz' is unknown: known are log, data_dir"),
        ("emitter = 1", r"key 'emitter': write a table"),
        ("population = 1", r"key 'population': write a list of tables: \[\[population\]\]"),
        ("data_dir = 1", r"key 'data_dir': write a path as text"),
        ('schemas = "s"', r"key 'schemas': write a list"),
        ('[[population]]\nevents = ["A"]\nperiod = "fortnight"', r"key 'population.1.period': write one of day, week"),
        ('[[population]]\nevents = "A"\nperiod = "day"', r"key 'population.1.events': write a list"),
        ('[[population]]\nevents = ["A"]\nperiod = "day"\ntable = [1]', r"key 'population.1.table': write a list of"),
        ("log = ", r"is not TOML"),
    ],
)
def test_a_configuration_that_is_not_in_order_is_refused_by_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProducersError, match=message) as caught:
        EmitterSettings.load(written(tmp_path, text), {})
    assert "quietcount.toml" in str(caught.value)


def test_a_missing_configuration_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ProducersError, match="quietcount init"):
        EmitterSettings.load(tmp_path / "absent.toml", {})


def test_the_log_opens_in_a_private_folder_with_its_topics(tmp_path: Path) -> None:
    settings = EmitterSettings.load(written(tmp_path, ""), {})
    with open_log(settings) as log:
        assert isinstance(log, EmbeddedLog)
        assert log.partitions(CASE_EVENTS) == log.partitions(DEAD_LETTERS) == [0]
    for folder in (settings.log_file.parent, settings.log_file.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_folders_that_others_could_read_are_closed_to_them(tmp_path: Path) -> None:
    settings = EmitterSettings.load(written(tmp_path, ""), {})
    settings.log_file.parent.mkdir(parents=True)
    for folder in (settings.log_file.parent, settings.log_file.parent.parent):
        folder.chmod(0o755)
    open_log(settings).close()
    for folder in (settings.log_file.parent, settings.log_file.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_population_of_an_event_that_no_schema_has_is_refused(tmp_path: Path) -> None:
    """Unnoticed, the true event's dates would be coarsened to the month where the population needs days."""
    text = '[[population]]\nevents = ["HelpRequestd"]\nperiod = "day"\n'
    settings = EmitterSettings.load(written(tmp_path, text), {})
    with pytest.raises(ProducersError, match=r'HelpRequestd.*no schema has it.*; did you mean "HelpRequested"'):
        settings.registry()


@pytest.mark.parametrize(
    "text, key",
    [
        ('[service]\nsecret_fiel = "s"', "service.secret_fiel"),
        ('[[population]]\nevents = ["A"]\nperiod = "day"\nhorizn = "year"', "population.1.horizn"),
        (
            '[[population]]\nevents = ["A"]\nperiod = "day"\n[[population.table]]\n[[population.table]]\nepsilom = 1',
            "population.1.table.2.epsilom",
        ),
    ],
)
def test_a_misspelt_key_of_a_section_that_only_the_service_reads_is_refused_here_too(
    tmp_path: Path, text: str, key: str
) -> None:
    with pytest.raises(ProducersError, match=f"key '{key}' is unknown: did you mean"):
        EmitterSettings.load(written(tmp_path, text), {})


def test_a_population_needs_neither_a_name_nor_a_table_for_an_emitter(tmp_path: Path) -> None:
    """What counts is the population's period: a table is released by it, or by a coarser one."""
    text = '[[population]]\nevents = ["A"]\nperiod = "week"\n'
    assert dict(EmitterSettings.load(written(tmp_path, text), {}).precision) == {"A": Period.WEEK}
    text += '[[population.table]]\nperiod = "day"\n'
    assert dict(EmitterSettings.load(written(tmp_path, text), {}).precision) == {"A": Period.WEEK}


def test_a_file_of_before_populations_is_told_the_new_form_in_one_line(tmp_path: Path) -> None:
    """Unnoticed, the dates that leave would be coarsened to the month, which no day and no week is counted from."""
    config = written(tmp_path, '[[statistic]]\nevents = ["A"]\nperiod = "day"\n')
    with pytest.raises(ProducersError) as caught:
        EmitterSettings.load(config, {})
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{config}: ")
    for part in ("key 'statistic': ", "Write [[population]] with name, events, ", "Write [[population.table]] with "):
        assert part in str(caught.value)


def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(LogError, match="Check data_dir"):
        open_log(EmitterSettings.load(written(tmp_path, ""), {}))
