"""compose/: the service's configuration, what it spends, and where its files lie."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from tests.unit.compose.compose_documents import Document, compose

from quietcount_aggregates.noise import margin
from quietcount_aggregates.populations import Population, Table, exact_epsilon
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.project import configuration_text
from quietcount_producers.settings import EmitterSettings
from quietcount_schemas.events.periods import Period
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

__all__ = ["compose"]  # the fixture


VOLUME = "daily_volume"
"""The table that dashboards plot. What it costs is taken from other tables; the bound is that of every project."""


def populations_of(path: Path) -> dict[str, Population]:
    loaded = Configuration.load(path, environment={})
    return {each.name: each for each in loaded.populations(SchemaRegistry.load())}


@pytest.fixture
def ours(root: Path) -> Path:
    return root / "compose" / "quietcount.toml"


@pytest.fixture
def starting(tmp_path: Path) -> Path:
    """What `quietcount init` writes."""
    path = tmp_path / "starting.toml"
    path.write_text(configuration_text(), encoding="utf-8")
    return path


def test_the_configuration_is_read_and_has_the_starting_catalogue_and_a_volume_paid_for_out_of_it(
    ours: Path, starting: Path
) -> None:
    loaded = Configuration.load(ours, environment={})
    assert loaded.log == "kafka://kafka:9092"
    populations, plain = populations_of(ours), populations_of(starting)
    assert list(populations) == list(plain)
    paid: dict[str, Decimal] = {}
    for name, population in populations.items():
        tables: dict[str, Table] = {table.name: table for table in population.tables}
        volume = tables.pop(VOLUME, None)
        if volume is not None:
            assert (volume.by, volume.where, volume.period) == ((), (), Period.DAY)
            paid[VOLUME] = -exact_epsilon(volume.epsilon)
        for table in plain[name].tables:
            # The same table, but for what it may spend.
            assert replace(tables.pop(table.name), epsilon=table.epsilon) == table
        assert tables == {}
        # The same population, but that one with the volume settles by its day.
        settled = plain[name].period if volume is None else Period.DAY
        assert population == replace(plain[name], period=settled, tables=population.tables)
        for before, after in zip(plain[name].tables, [t for t in population.tables if t is not volume], strict=True):
            less = exact_epsilon(before.epsilon) - exact_epsilon(after.epsilon)
            paid |= {after.name: less} if less else {}
    assert paid == {VOLUME: Decimal("-0.2"), **{name: less for name, less in paid.items() if less > 0}}
    assert sum(paid.values()) == 0
    for catalogue in (populations, plain):
        assert sum(each.epsilon for each in catalogue.values()) == loaded.lifetime_epsilon == Decimal("2.5")
    first = Configuration.load(starting, environment={})
    assert (loaded.lifetime_epsilon, loaded.grace, loaded.tick) == (first.lifetime_epsilon, first.grace, first.tick)


def wrong_margins(path: Path) -> list[str]:
    """Each table of which no margin is said since the table before it, or another than its noise has."""
    text = path.read_text(encoding="utf-8")
    found: list[str] = []
    for population in populations_of(path).values():
        for table in population.tables:
            before = text.partition(f'[[population.table]]\nname = "{table.name}"\n')[0]
            said = re.findall(r"margin (?:of )?\+-([0-9]+)", before.rpartition("[[population.table]]")[2])
            if said[:1] != [str(margin(population.max_contributions / table.epsilon))]:
                found.append(table.name)
    return found


def test_the_margins_that_the_configurations_tell_are_those_of_the_noise(ours: Path, starting: Path) -> None:
    for path in (ours, starting):
        assert wrong_margins(path) == []
    mutant = starting.with_name("mutant.toml")
    text = ours.read_text(encoding="utf-8")
    for wrong in (text.replace("margin of +-15 ", "margin of +-14 "), text.replace("margin of +-15 ", "")):
        mutant.write_text(wrong, encoding="utf-8")
        assert wrong_margins(mutant) == [VOLUME]


def precision_of(text: str, folder: Path) -> dict[str, Period]:
    """To what period emitters with this configuration coarsen dates, by event type."""
    path = folder / "quietcount.toml"
    path.write_text(text, encoding="utf-8")
    return dict(EmitterSettings.load(path, environment={}).precision)


def test_for_the_sake_of_a_dashboard_one_event_is_sent_by_the_day_and_no_other(ours: Path, tmp_path: Path) -> None:
    text = ours.read_text(encoding="utf-8")
    plain = precision_of(configuration_text(), tmp_path)
    assert precision_of(text, tmp_path) == plain | {"HelpRequested": Period.DAY}
    every = text.replace('events = ["HelpRequested"]', 'events = ["HelpRequested", "CourtCaseFiled"]')
    assert precision_of(every, tmp_path) != plain | {"HelpRequested": Period.DAY}


def test_without_the_volume_and_by_the_month_as_the_file_says_no_date_is_sent_more_exactly(
    ours: Path, tmp_path: Path
) -> None:
    text = ours.read_text(encoding="utf-8")
    assert 'Without that table, write period = "month"' in " ".join(text.replace("\n# ", " ").split())
    volume = re.compile(rf'\[\[population\.table\]\]\nname = "{VOLUME}"\nepsilon = [0-9.]+\n')
    assert len(volume.findall(text)) == 1
    without = volume.sub("", text).replace('\nperiod = "day"\n', '\nperiod = "month"\n')
    assert precision_of(without, tmp_path) == precision_of(configuration_text(), tmp_path)
    populations_of(tmp_path / "quietcount.toml")


def test_every_path_of_the_configuration_lies_in_a_volume_of_who_needs_it(root: Path, compose: Document) -> None:
    loaded = Configuration.load(root / "compose" / "quietcount.toml", environment={})

    def mounted(name: str) -> set[str]:
        return {volume.split(":")[1] for volume in compose["services"][name]["volumes"]}

    assert str(loaded.data_dir) in mounted("quietcount")
    assert str(loaded.service.secret_file.parent) in mounted("quietcount")
    assert str(loaded.emitter.pepper_file.parent) in mounted("emitter")
    assert str(loaded.emitter.pepper_file.parent) not in mounted("quietcount")
