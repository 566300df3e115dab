"""compose/: the service's configuration, what it spends, and where its files lie."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path

import pytest
from tests.unit.compose.compose_documents import Document, compose

from quietcount_aggregates.noise import margin
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.project import configuration_text
from quietcount_producers.settings import EmitterSettings
from quietcount_schemas.periods import Period

pytestmark = pytest.mark.quick

__all__ = ["compose"]  # the fixture


PAID_FOR = {"requests_by_category": 0.15, "outcomes": 0.15, "daily_volume": 0.2}
"""What the day's volume costs is taken from two statistics; the bound is that of every project."""


def test_the_configuration_is_read_and_has_the_starting_catalogue_and_a_volume_paid_for_out_of_it(root: Path) -> None:
    path = root / "compose" / "quietcount.toml"
    loaded = Configuration.load(path, environment={})
    assert loaded.log == "kafka://kafka:9092"
    ours, starting = tomllib.loads(path.read_text(encoding="utf-8")), tomllib.loads(configuration_text())
    *shared, volume = ours["statistic"]
    assert shared == [
        entry | {"epsilon": PAID_FOR.get(entry["name"], entry["epsilon"])} for entry in starting["statistic"]
    ]
    assert volume == {"name": "daily_volume", "events": ["HelpRequested"], "period": "day", "epsilon": 0.2}
    spent = sum(Decimal(str(entry["epsilon"])) for entry in ours["statistic"])
    assert spent == Decimal(str(ours["lifetime_epsilon"])) == Decimal("2.5")
    assert {key: ours[key] for key in ("lifetime_epsilon", "grace", "tick")} == {
        key: starting[key] for key in ("lifetime_epsilon", "grace", "tick")
    }


def test_the_margins_that_the_configuration_tells_are_those_of_the_noise(root: Path) -> None:
    text = (root / "compose" / "quietcount.toml").read_text(encoding="utf-8")
    assert f"margin of +-{margin(1 / PAID_FOR['daily_volume'])} " in text
    assert text.count(f"margin +-{margin(1 / PAID_FOR['outcomes'])} for one quarter") == 2


def precision_of(text: str, folder: Path) -> dict[str, Period]:
    """To what period emitters with this configuration coarsen dates, by event type."""
    path = folder / "quietcount.toml"
    path.write_text(text, encoding="utf-8")
    return dict(EmitterSettings.load(path, environment={}).precision)


def test_no_date_is_sent_more_exactly_for_the_sake_of_a_dashboard(root: Path, tmp_path: Path) -> None:
    text = (root / "compose" / "quietcount.toml").read_text(encoding="utf-8")
    starting = precision_of(configuration_text(), tmp_path)
    assert precision_of(text, tmp_path) == starting
    every = text.replace(
        'name = "daily_volume"\nevents = ["HelpRequested"]',
        'name = "daily_volume"\nevents = ["HelpRequested", "CourtCaseFiled"]',
    )
    assert precision_of(every, tmp_path) != starting


def test_every_path_of_the_configuration_lies_in_a_volume_of_who_needs_it(root: Path, compose: Document) -> None:
    loaded = Configuration.load(root / "compose" / "quietcount.toml", environment={})

    def mounted(name: str) -> set[str]:
        return {volume.split(":")[1] for volume in compose["services"][name]["volumes"]}

    assert str(loaded.data_dir) in mounted("quietcount")
    assert str(loaded.service.secret_file.parent) in mounted("quietcount")
    assert str(loaded.emitter.pepper_file.parent) in mounted("emitter")
    assert str(loaded.emitter.pepper_file.parent) not in mounted("quietcount")
