"""What the service writes to the ledger of the figures, from its configuration and the schemas, when it opens."""

from __future__ import annotations

import contextlib
import datetime as dt
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.catalogues import statistic
from tests.e2e.projects import Project

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_consumers.errors import ConfigurationError
from quietcount_consumers.opening import open_service
from quietcount_consumers.wiring import open_ledger

pytestmark = pytest.mark.quick

NOW = dt.datetime(2023, 1, 2, tzinfo=dt.UTC)
SAID = '[publication]\npublisher = "Helpline"\nlicence = "CC-BY-4.0"\ncontact = "https://helpline.example"\n'
MORE = statistic("more", "OutcomeRecorded", by="outcome", since="2023-02-01", epsilon=1.0)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def opened(project: Project, text: str = "", moment: dt.datetime = NOW) -> Chain:
    """Write the configuration, open the service once and close it, and return the ledger."""
    if text:
        project.config.write_text(text, encoding="utf-8")
    with open_service(project.configuration, moment):
        pass
    with contextlib.closing(open_ledger(project.configuration, create=False)) as log:
        ledger = Ledger(log)
        ledger.refresh()
    return ledger.chain


def kinds(chain: Chain) -> list[str]:
    return [entry.kind for entry in chain.entries]


def rows(project: Project, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(project.public), read_only=True) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.promise("public-file")
def test_the_first_start_describes_what_it_declares_and_the_next_one_says_nothing_again(project: Project) -> None:
    first = opened(project)
    assert kinds(first) == ["opened", "declared", "declared", "described"]
    assert opened(project, moment=NOW + dt.timedelta(days=1)).head == first.head
    assert first.described is not None
    assert first.described.grace == project.configuration.grace
    labels = "SELECT DISTINCT population, dimension, language FROM labels ORDER BY ALL"
    assert rows(project, labels) == [
        (*of, language)
        for of in (("court_cases", "charge"), ("requests", "help_kind"))
        for language in ("en", "ru", "uk")
    ]
    assert dict(rows(project, "FROM about"))["publisher"] == "not stated"


@pytest.mark.promise("public-file")
def test_what_a_person_changes_in_the_configuration_is_published_at_the_next_start(project: Project) -> None:
    text = project.config.read_text(encoding="utf-8")
    before = opened(project)
    later = NOW + dt.timedelta(days=1)
    after = opened(project, text + SAID, later)
    assert kinds(after) == [*kinds(before), "described"]
    assert after.entries[-1].recorded_at == later
    about = dict(rows(project, "FROM about"))
    assert (about["publisher"], about["licence"], about["contact"]) == (
        "Helpline",
        "CC-BY-4.0",
        "https://helpline.example",
    )
    assert rows(project, "SELECT DISTINCT publisher FROM descriptions") == [("Helpline",)]
    assert kinds(opened(project, text, later)) == [*kinds(before), "described", "described"]
    assert dict(rows(project, "FROM about"))["publisher"] == "not stated"


def test_a_population_that_is_declared_later_brings_its_labels(project: Project) -> None:
    chain = opened(project)
    later = opened(project, project.config.read_text(encoding="utf-8") + MORE)
    assert kinds(later) == [*kinds(chain), "declared", "described"]
    assert ("outcome",) in rows(project, "SELECT DISTINCT dimension FROM labels WHERE population = 'more'")


@pytest.mark.parametrize("key", ["publisher", "licence", "contact", "citation"])
@pytest.mark.parametrize("value", ["two\\nlines", "a bell \\u0007", "two\\u2028lines", "x" * 501], ids=range(4))
def test_what_is_no_short_line_of_text_is_refused(key: str, value: str, project: Project) -> None:
    text = project.config.read_text(encoding="utf-8") + f'[publication]\n{key} = "{value}"\n'
    project.config.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=rf"publication\.{key}.*one line of text"):
        _ = project.configuration
