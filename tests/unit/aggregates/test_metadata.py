"""What stands beside the figures: descriptions, labels, notes on periods, and how new the file is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.aggregates_world import MemoryLedger
from tests.unit.aggregates.ledger.ledgers import END, NOW, of, opened, settlement

from quietcount_aggregates.catalogue import AskedTable
from quietcount_aggregates.description import Description, labels_of
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Released, Retired, StateLost
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.populations import Horizon, Population
from quietcount_aggregates.publication import metadata
from quietcount_aggregates.publication.publication import publish
from quietcount_schemas.events.periods import Period
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

SCHEMAS = SchemaRegistry.load()
QUARTERLY = (AskedTable("quarterly", 0.25, period=Period.QUARTER, where={"colour": ["RED"]}),)
ASKED = of("asked", title="Calls", description="First calls.", coarser=QUARTERLY)
HELPED = of("helped", events=["HelpRequested"], registry=SCHEMAS, by=["help_kind"], horizon=Horizon.YEAR)
GONE = of("gone", 0.25, since=dt.date(2024, 3, 1))
LATER = of("later", 0.25, since=dt.date(2023, 1, 1))
MORE = of("more", 0.1, max_contributions=3, period=Period.DAY)
POPULATIONS = [ASKED, HELPED, GONE, MORE]
SAID = Description(
    grace=dt.timedelta(days=7),
    publisher="Helpline",
    licence="CC-BY-4.0",
    contact="mail@helpline.example",
    labels=labels_of(POPULATIONS, SCHEMAS),
)


def told(said: Description | None, *, values: int = 0) -> Ledger:
    """Return a ledger of five months, with a lost state after the third; `values` changes what was released."""
    ledger = opened(MemoryLedger(), "2")
    ledger.declare(POPULATIONS, ledger.chain.opened.lifetime_epsilon, NOW, end=END)
    if said is not None:
        ledger.describe(said, NOW)

    def release(population: Population, month: int) -> None:
        at = dt.datetime(2024, month + 1, 8, 6, 30, tzinfo=dt.UTC)
        bodies = [
            replace(body, values=tuple(value + values * (place + month) for place, value in enumerate(body.values)))
            for body in settlement(population, month)
            if (body.statistic, body.period_start) not in ledger.chain.withheld
        ]
        ledger.append(bodies, at)

    for month in (1, 2, 3, 4):
        release(ASKED, month)
    release(HELPED, 1)
    ledger.append([Retired("gone")], NOW)
    ledger.append([StateLost(1)], NOW)
    for month in (5, 6):
        release(ASKED, month)
    ledger.append([StateLost(2, kept=True)], NOW)
    for month in (7, 8, 9, 10):
        release(ASKED, month)
    ledger.declare([*POPULATIONS[:2], MORE, LATER], ledger.chain.opened.lifetime_epsilon, NOW, end=END)
    return ledger


@pytest.fixture(scope="module")
def chain() -> Chain:
    return told(SAID).chain


@pytest.fixture(scope="module")
def public(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "statistics.duckdb"
    publish(chain, path)
    return path


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(query).fetchall()


def column(path: Path, name: str) -> dict[str, Any]:
    return dict(rows(path, f"SELECT statistic, {name} FROM descriptions"))


@pytest.mark.promise("public-file")
def test_each_statistic_is_described_in_one_row_and_nothing_of_it_is_blank(public: Path) -> None:
    tables = [name for (name,) in rows(public, "SELECT statistic FROM descriptions")]
    assert tables == ["asked", "gone", "helped", "later", "more", "quarterly"]
    with duckdb.connect(str(public), read_only=True) as connection:
        for table in ("descriptions", "notes", "about"):
            for row in connection.execute(f"FROM {table}").fetchall():
                assert all(value is not None and str(value).strip() for value in row)


def test_a_title_says_what_a_statistic_counts_and_what_by(public: Path) -> None:
    titles = column(public, "title")
    assert titles["asked"] == "Calls, by month"
    assert titles["quarterly"] == "Calls, by quarter"
    assert titles["helped"] == "HelpRequested, by help_kind and month"
    assert column(public, "description")["asked"] == "First calls."
    assert column(public, "description")["helped"] == "none"


def test_conditions_and_dimensions_are_those_of_the_declaration(public: Path) -> None:
    assert column(public, "conditions") == dict.fromkeys(column(public, "unit"), "none") | {
        "quarterly": "colour is RED"
    }
    assert column(public, "dimensions") == dict.fromkeys(column(public, "unit"), "none") | {"helped": "help_kind"}
    assert column(public, "events")["helped"] == "HelpRequested"
    assert column(public, "first_period")["gone"] == dt.date(2024, 3, 1)


def test_the_unit_is_cases_only_if_a_case_counts_once_ever(public: Path) -> None:
    assert column(public, "unit") == {
        "asked": "cases",
        "quarterly": "cases",
        "gone": "cases",
        "later": "cases",
        "helped": "events",
        "more": "events",
    }


def test_what_one_case_can_add_follows_the_limit_the_horizon_and_the_losses_since_the_declaration(
    public: Path,
) -> None:
    found = column(public, "contribution")
    twice = (
        "; after each of the 2 losses of the record of past contributions, or of the emitters' pepper, as much again."
    )
    every = "to the true counts of all cells and periods together"
    assert found["asked"] == found["quarterly"] == f"One case adds at most 1 {every}, over its lifetime{twice}"
    assert found["helped"] == f"One case adds at most 1 {every}, for each calendar year{twice}"
    assert found["more"] == f"One case adds at most 3 {every}, over its lifetime{twice}"
    assert found["later"] == f"One case adds at most 1 {every}, over its lifetime."
    assert column(public, "counting")["asked"] == ASKED.counting


def test_the_next_release_is_the_day_on_which_the_clock_makes_the_next_period_due(public: Path) -> None:
    assert column(public, "next_release") == {
        "asked": "2024-12-08",
        "quarterly": "2025-01-08",
        "helped": "2024-03-08",
        "gone": "none: it is retired",
        "later": "not before its past is complete",
        "more": "2024-01-09",
    }
    assert column(public, "data_until") == {
        "asked": "2024-10-31",
        "quarterly": "2024-09-30",
        "helped": "2024-01-31",
        "gone": "none",
        "later": "none",
        "more": "none",
    }


def test_the_day_of_the_next_release_is_that_of_the_moment_at_which_a_tick_finds_it_due(tmp_path: Path) -> None:
    for hours, day in ((0, "2024-12-01"), (23, "2024-12-01"), (24, "2024-12-02"), (36, "2024-12-02")):
        publish(told(replace(SAID, grace=dt.timedelta(hours=hours))).chain, tmp_path / "statistics.duckdb")
        assert column(tmp_path / "statistics.duckdb", "next_release")["asked"] == day


def test_the_file_says_who_publishes_it_how_new_it_is_and_how_to_cite_it(chain: Chain, public: Path) -> None:
    about = dict(rows(public, "FROM about"))
    said = {key: about[key] for key in ("publisher", "licence", "contact", "edition", "edition_date")}
    assert said == {
        "publisher": "Helpline",
        "licence": "CC-BY-4.0",
        "contact": "mail@helpline.example",
        "edition": str(len(chain.entries)),
        "edition_date": "2023-12-01",
    }
    assert (about["data_until"], about["next_release"]) == ("2024-10-31", "2024-01-09")
    edition = f"Edition {about['edition']} of 2023-12-01 (ledger {chain.head.digest.hex()[:16]})."
    assert about["citation"] == f"Helpline: Statistics; data until 2024-10-31. {edition}"
    cited = column(public, "citation")
    assert cited["asked"] == f"Helpline: Calls, by month; data until 2024-10-31. {edition}"
    assert cited["more"] == f"Helpline: Asked, by day; no data yet. {edition}"


def test_a_citation_of_the_publisher_stands_as_it_is(tmp_path: Path) -> None:
    publish(told(replace(SAID, citation="Helpline 2024")).chain, tmp_path / "statistics.duckdb")
    assert set(column(tmp_path / "statistics.duckdb", "citation").values()) == {"Helpline 2024"}
    assert ("citation", "Helpline 2024") in rows(tmp_path / "statistics.duckdb", "FROM about")


@pytest.mark.parametrize("said", [None, Description(dt.timedelta(days=7))], ids=["no description", "an empty one"])
def test_what_is_not_stated_is_called_so(said: Description | None, tmp_path: Path) -> None:
    public = tmp_path / "statistics.duckdb"
    publish(told(said).chain, public)
    assert set(column(public, "publisher").values()) == set(column(public, "licence").values()) == {"not stated"}
    about = dict(rows(public, "FROM about"))
    assert about["publisher"] == about["licence"] == about["contact"] == "not stated"
    assert about["citation"].startswith("Statistics; data until")
    assert column(public, "next_release")["asked"] == ("not stated" if said is None else "2024-12-08")
    assert rows(public, "FROM labels") == []


def test_an_empty_ledger_has_an_empty_description_and_no_note(tmp_path: Path) -> None:
    public = tmp_path / "statistics.duckdb"
    publish(opened(MemoryLedger()).chain, public)
    assert rows(public, "FROM descriptions") == rows(public, "FROM notes") == []
    about = dict(rows(public, "FROM about"))
    assert (about["data_until"], about["next_release"]) == ("none", "none")
    assert "no data yet" in about["citation"]


@pytest.mark.promise("public-file")
def test_labels_join_the_figures_symbol_by_symbol(public: Path) -> None:
    joined = rows(
        public,
        "SELECT symbol, label FROM helped JOIN labels ON symbol = help_kind "
        "WHERE population = 'helped' AND dimension = 'help_kind' AND language = 'en' ORDER BY ALL",
    )
    assert [symbol for symbol, _ in joined] == sorted(HELPED.tables[0].by[0].symbols)
    assert ("LEGAL_AID", "Legal aid") in joined
    titles = rows(public, "SELECT language, label FROM labels WHERE symbol = '' ORDER BY ALL")
    assert titles == [("en", "Kind of help"), ("ru", "Вид помощи"), ("uk", "Вид допомоги")]


NOTES = {
    ("asked", "2024-01-01", "first period"),
    ("asked", "2024-05-01", "break"),
    ("asked", "2024-07-01", "break"),
    ("asked", "2024-10-01", "provisional"),
    ("helped", "2024-01-01", "first period"),
    ("quarterly", "2024-01-01", "first period"),
    ("quarterly", "2024-04-01", "withheld"),
    ("quarterly", "2024-07-01", "break"),
}


@pytest.mark.promise("public-file")
def test_a_period_has_the_notes_that_follow_from_the_ledger(public: Path) -> None:
    found = rows(public, "SELECT statistic, period_start::VARCHAR, kind FROM notes WHERE kind <> 'revised'")
    # The first release of the coarser table after both losses: one note for each of them.
    assert len(found) == len(NOTES) + 1
    assert set(found) == NOTES
    by_kind = dict(rows(public, "SELECT kind, note FROM notes ORDER BY note DESC"))
    assert by_kind["first period"] == "The first period: there is none before it."
    [(lost, pepper)] = rows(public, 'SELECT min("index"), max("index") FROM ledger WHERE kind = \'state_lost\'')
    breaks = rows(public, "SELECT note FROM notes WHERE statistic = 'asked' AND kind = 'break' ORDER BY period_start")
    again = "From here on a case that counted earlier may count again"
    assert breaks == [
        (f"{again}: the record of past contributions was lost (ledger entry {lost}).",),
        (f"{again}: the emitters' pepper was lost (ledger entry {pepper}).",),
    ]
    [(reason,)] = rows(public, "SELECT reason FROM withheld")
    assert by_kind["withheld"] == f"Never released: {reason}."
    order = rows(public, "SELECT statistic, period_start, kind, note FROM notes")
    assert order == sorted(order)


def test_a_revised_period_is_one_whose_estimates_changed_and_a_provisional_one_will(tmp_path: Path) -> None:
    public = tmp_path / "statistics.duckdb"
    population = of("asked", by=["colour"], coarser=(AskedTable("quarterly", 0.25, period=Period.QUARTER),))
    ledger = opened(MemoryLedger(), "2")
    ledger.declare([population], ledger.chain.opened.lifetime_epsilon, NOW, end=END)
    for month in (1, 2, 3, 4):
        ledger.append(settlement(population, month), NOW)
    publish(ledger.chain, public)
    for kind, condition in (("revised", "estimate <> first_estimate"), ("provisional", "status = 'provisional'")):
        wanted = rows(public, f"SELECT DISTINCT statistic, period_start FROM statistics WHERE {condition} ORDER BY ALL")
        found = rows(public, f"SELECT statistic, period_start FROM notes WHERE kind = '{kind}' ORDER BY ALL")
        assert found == wanted
        assert found


def test_a_statistic_without_a_release_before_the_loss_has_no_break() -> None:
    ledger = opened(MemoryLedger(), "2")
    ledger.declare([ASKED], ledger.chain.opened.lifetime_epsilon, NOW, end=END)
    ledger.append([StateLost(1)], NOW)
    ledger.append(settlement(ASKED, 1), NOW)
    assert {kind for _, _, _, kind, _ in metadata.note_rows(ledger.chain)} == {"first period"}


# ---------------------------------------------------------------- nothing of it depends on what was counted


def beside(chain: Chain) -> list[tuple[object, ...]]:
    """Return all that stands beside the figures but for the digest, which vouches for every value."""
    digest = chain.head.digest.hex()[:16]
    found: Iterator[tuple[object, ...]] = (
        row
        for some in (metadata.description_rows, metadata.about_rows, metadata.label_rows, metadata.note_rows)
        for row in some(chain)
    )
    return [tuple(str(value).replace(digest, "") for value in row) for row in found]


@pytest.mark.promise("public-file")
def test_what_stands_beside_the_figures_is_the_same_whatever_was_released() -> None:
    assert beside(told(SAID).chain) == beside(told(SAID, values=1000).chain)


def test_a_note_that_depended_on_a_value_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaking(chain: Chain) -> str:
        return str(sum(sum(entry.body.values) for entry in chain.entries if isinstance(entry.body, Released)))

    monkeypatch.setattr(metadata, "_citation", lambda chain, *_: leaking(chain))
    assert beside(told(SAID).chain) != beside(told(SAID, values=1000).chain)
