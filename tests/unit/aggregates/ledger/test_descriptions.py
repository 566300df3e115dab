"""Descriptions: what the publisher says of the figures, as the ledger keeps it."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from typing import Any

import pytest
from tests.aggregates_world import MemoryLedger
from tests.numbers_world import VISITS, visits
from tests.unit.aggregates.ledger.ledgers import END, NOW, ONE, of, opened, read, release

from quietcount_aggregates.description import Description, Label, labels_of
from quietcount_aggregates.errors import LedgerBroken, LedgerError
from quietcount_aggregates.ledger.entries import Described, Entry, Settled
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.tables import AskedTable
from quietcount_schemas.events.numbers import Summed
from quietcount_schemas.events.periods import Period
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

WEEK = dt.timedelta(days=7)
SAID = Description(
    grace=WEEK,
    publisher='Helpline "Übergang"',
    licence="CC-BY-4.0",
    contact="https://helpline.example",
    labels=(
        Label("one", "colour", "de", "RED", "rot"),
        Label("one", "colour", "en", "", "Colour"),
        Label("one", "colour", "en", "RED", "red"),
    ),
)


@pytest.fixture
def ledger() -> Ledger:
    ledger = opened(MemoryLedger())
    ledger.declare([of("one")], ONE, NOW, end=END)
    return ledger


def kinds(ledger: Ledger) -> list[str]:
    return [entry.kind for entry in ledger.chain.entries]


def altered(ledger: Ledger, **changes: object) -> bytes:
    """Return the next entry, with another text in the description's place."""
    text = json.dumps({**json.loads(SAID.canonical), **changes}, sort_keys=True, separators=(",", ":"))
    return forged(ledger, text)


def forged(ledger: Ledger, text: str) -> bytes:
    class Forged(Description):
        @property
        def canonical(self) -> str:
            return text

    chain = ledger.chain
    return Entry.make(len(chain.entries), chain.head.digest, NOW, Described(Forged(WEEK))).data


def test_a_description_reads_back_as_it_was_written() -> None:
    assert Description.from_canonical(SAID.canonical) == SAID
    assert Description.from_canonical(Description(WEEK).canonical) == Description(WEEK)
    assert "Übergang" in SAID.canonical, "a letter takes as few bytes as it can"


def test_what_is_said_is_appended_once_and_the_newest_holds(ledger: Ledger) -> None:
    assert ledger.chain.described is None
    for said in (SAID, SAID, replace(SAID, grace=2 * WEEK), replace(SAID, grace=2 * WEEK), SAID):
        ledger.describe(said, NOW)
        assert ledger.chain.described == said
    assert kinds(ledger) == ["opened", "declared", "described", "described", "described"]
    assert read([entry.data for entry in ledger.chain.entries]).described == SAID


def test_a_description_stands_between_settlements_and_never_within_one(ledger: Ledger) -> None:
    population = ledger.chain.declarations["one"]
    ledger.append([release(population)], NOW)
    ledger.describe(SAID, NOW)
    ledger.append([release(population, 2)], NOW)
    assert kinds(ledger)[2:] == ["settled", "released", "described", "settled", "released"]
    with pytest.raises(LedgerBroken, match="a settlement is followed by its releases"):
        ledger.append([Settled(), Described(Description(WEEK)), release(population, 3)], NOW)


def test_a_description_is_neither_first_nor_said_twice_in_a_row(ledger: Ledger) -> None:
    empty = Ledger(MemoryLedger())
    empty.fence()
    with pytest.raises(LedgerBroken, match="opened once, by its first entry"):
        empty.append([Described(SAID)], NOW)
    with pytest.raises(LedgerBroken, match="describes nothing anew"):
        ledger.append([Described(SAID), Described(SAID)], NOW)


def test_populations_are_declared_after_a_description(ledger: Ledger) -> None:
    ledger.describe(SAID, NOW)
    ledger.declare([of("one"), of("two")], ONE, NOW, end=END)
    assert kinds(ledger) == ["opened", "declared", "described", "declared"]


def test_labels_that_no_entry_has_room_for_are_refused_before_anything_is_appended(ledger: Ledger) -> None:
    labels = tuple(Label("one", "colour", "en", f"S{number:05}", "x" * 100) for number in range(5000))
    with pytest.raises(LedgerError, match="500,000 bytes"):
        ledger.describe(replace(SAID, labels=labels), NOW)
    assert kinds(ledger) == ["opened", "declared"]


@pytest.mark.parametrize(
    "changes",
    [
        {"publisher": 5},
        {"citation": None},
        {"grace": "604800"},
        {"grace": 604800.5},
        {"grace": -1},
        {"grace": 10**30},
        {"labels": []},
        {"labels": {"one": 5}},
        {"labels": {"one": {"colour": {"en": {"RED": 5}}}}},
        {"more": ""},
    ],
)
@pytest.mark.promise("ledger-chain")
def test_a_description_of_another_form_breaks_the_chain(changes: dict[str, Any], ledger: Ledger) -> None:
    with pytest.raises(LedgerBroken):
        ledger.chain.extend(altered(ledger, **changes))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", SAID.canonical + " ", json.dumps(json.loads(SAID.canonical))])
def test_text_that_is_no_canonical_description_breaks_the_chain(text: str, ledger: Ledger) -> None:
    with pytest.raises(LedgerBroken):
        ledger.chain.extend(forged(ledger, text))


@pytest.mark.promise("ledger-chain")
def test_every_flipped_bit_of_a_description_breaks_the_chain_or_changes_its_head(ledger: Ledger) -> None:
    ledger.describe(SAID, NOW)
    *before, data = [entry.data for entry in ledger.chain.entries]
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            assert read([*before, bytes(flipped)]).head != ledger.chain.head
        except LedgerBroken:
            continue


def test_labels_are_those_of_the_declared_symbols_of_the_fields_that_are_used() -> None:
    schemas = SchemaRegistry.load()
    asked = of(
        "asked",
        events=["HelpRequested"],
        registry=schemas,
        by=["help_kind"],
        where={"region": ["ABROAD"]},
        period=Period.MONTH,
    )
    labels = labels_of([asked], schemas)
    assert list(labels) == sorted(labels), "as the canonical text has them"
    assert Description.from_canonical(Description(WEEK, labels=labels).canonical).labels == labels
    assert {label.dimension for label in labels} == {"help_kind", "region"}
    assert {label.language for label in labels} == {"en", "ru", "uk"}
    assert Label("asked", "help_kind", "en", "LEGAL_AID", "Legal aid") in labels
    assert Label("asked", "help_kind", "ru", "", "Вид помощи") in labels
    by_symbol = {label.symbol for label in labels if label.dimension == "help_kind"}
    assert by_symbol == {"", *asked.tables[0].by[0].symbols}
    fewer = replace(asked.tables[0].by[0], symbols=("DESERTION", "OTHER"))
    older = replace(asked, tables=(replace(asked.tables[0], by=(fewer,)),))
    by_symbol = {label.symbol for label in labels_of([older], schemas) if label.dimension == "help_kind"}
    assert by_symbol == {"", "DESERTION", "OTHER"}, "the domain is that of the declaration"


def test_a_population_whose_schema_is_gone_or_has_no_labels_has_none() -> None:
    assert labels_of([of("one", by=["colour"])], SchemaRegistry.load()) == ()


def test_the_title_of_a_number_in_buckets_is_recorded_and_that_of_one_that_is_summed() -> None:
    title = (Label("visits", "days", "en", "", "Days of waiting"),)
    assert labels_of([visits()], VISITS) == title
    summing = AskedTable("waiting", 1.0, sum=Summed("days", (0, 60), "all_visits"))
    assert labels_of([visits(AskedTable("all_visits", 1.0), summing)], VISITS) == title
