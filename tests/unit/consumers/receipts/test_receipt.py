"""The receipt says what the ledger says, in the form that the registry takes, and what it does not know it asks for."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from operator import attrgetter
from pathlib import Path
from typing import Any

import click
import duckdb
import pytest
import yaml
from click.testing import CliRunner
from tests.aggregates_world import SIGNING_KEY, MemoryLedger, utc, world_in
from tests.exported_world import PUBLISHER
from tests.numbers_world import visits
from tests.report_world import ATTACK
from tests.unit.aggregates.ledger.ledgers import END, NOW, QUARTERS, of, opened, settlement
from tests.unit.consumers.receipts.registry_structure import GROUPS, faults, style_faults

from quietcount_aggregates.bound import bound_sentence
from quietcount_aggregates.description import Description
from quietcount_aggregates.ledger.chain import Budget, Chain
from quietcount_aggregates.ledger.entries import Retired, StateLost
from quietcount_aggregates.ledger.signed_heads import sign_head
from quietcount_aggregates.noise import DiscreteLaplace
from quietcount_aggregates.populations import Horizon
from quietcount_aggregates.publication.publication import publish
from quietcount_consumers.commands.ledger import ledger_command
from quietcount_consumers.receipts.forms import page_of, yaml_of
from quietcount_consumers.receipts.receipt import SECTORS, Receipt, Said, open_questions, receipt_of
from quietcount_consumers.witnessing.published_copy import NotVerified

pytestmark = [pytest.mark.quick, pytest.mark.promise("receipt")]

SAID = Said("Trial", "To show it", "Nowhere", "Government", "It was tried", ("A paper",), ("A. Person",))


def chain_of(*more: Any, epsilon: str = "6", publisher: str = "Desk") -> Chain:
    """A ledger of three populations: one with two tables, one by the year, one with averages; a month is released."""
    ledger = opened(MemoryLedger(), epsilon)
    monthly = of("monthly", 0.1, coarser=QUARTERS, by=["colour"])
    yearly = of("yearly", 0.7, horizon=Horizon.YEAR, max_contributions=2)
    ledger.declare([monthly, yearly, visits()], ledger.chain.opened.lifetime_epsilon, NOW, end=END)
    ledger.describe(Description(dt.timedelta(days=7), publisher), NOW)
    ledger.append(settlement(monthly, 1), utc(dt.date(2024, 2, 8)))
    for body in more:
        ledger.append([body], utc(dt.date(2024, 3, 1)))
    return ledger.chain


def texts(receipt: Receipt) -> dict[str, Any]:
    """The fields of all groups, by name."""
    return {name: value for group in receipt["deployment"].values() for name, value in group.items()}


def test_a_receipt_has_every_field_that_the_registry_asks_for_and_no_other() -> None:
    for said in (SAID, Said()):
        record = yaml.safe_load(text := yaml_of(receipt_of(chain_of(StateLost(1)), said)))
        assert list(faults(record)) == []
        assert list(style_faults(text)) == []
        assert record["status"] == "Draft"
    assert GROUPS["basic"]["data_product_sector"] == SECTORS
    offered = next(each for each in ledger_command.commands["receipt"].params if each.name == "sector").type
    assert isinstance(offered, click.Choice)
    assert tuple(offered.choices) == SECTORS


@pytest.mark.parametrize(
    "group, key, value",
    [
        ("basic", "surprise", "x"),
        ("basic", "publication_date", 2024),
        ("dp_variant", "variant_name", "Pure"),
        ("accounting", "composition", None),
        ("privacy_loss", "privacy_parameters", {"epsilon": "1"}),
        ("administrative", "registry_authors", []),
    ],
)
def test_a_record_that_the_registry_refuses_is_found(group: str, key: str, value: Any) -> None:
    record = yaml.safe_load(yaml_of(receipt_of(chain_of(), SAID)))
    record["deployment"][group][key] = value
    assert len(list(faults(record))) == 1


def check_bound(losses: int) -> None:
    """A receipt states the bound of its ledger, which each loss raises by the lifetime epsilon."""
    chain = chain_of(*(StateLost(number + 1) for number in range(losses)))
    found = texts(receipt_of(chain, SAID))
    assert Decimal(str(found["privacy_parameters"]["epsilon"])) == chain.budget.bound == 6 * (1 + losses)
    assert bound_sentence(chain) in found["privacy_parameters_details"]
    assert ("was lost" in found["composition"]) is (losses > 0)
    assert ("as much again" in found["privacy_unit_details"]) is (losses > 0)


@pytest.mark.parametrize("losses", [0, 1, 2])
def test_the_epsilon_of_a_receipt_is_the_bound_of_the_ledger(losses: int) -> None:
    check_bound(losses)


@pytest.mark.parametrize("mutant", ["declared", "lifetime_epsilon", "yearly"])
def test_a_receipt_that_states_another_number_is_found(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Budget, "bound", property(attrgetter(mutant)))
    with pytest.raises(AssertionError):
        check_bound(1)


def test_the_parts_of_a_receipt_add_up_to_what_the_ledger_declared() -> None:
    found = texts(receipt_of(chain_of(), SAID))
    parts = re.findall(r"^- `(\w+)`: ([\d.]+) .* as (.+)\.$", found["privacy_parameters_details"], re.MULTILINE)
    assert [name for name, *_ in parts] == ["monthly", "yearly", "visits"]
    for _, whole, terms in parts:
        assert sum(map(Decimal, re.findall(r"([\d.]+) \(`", terms))) == Decimal(whole)
    assert "0.35 + 0.7 + 2 = 3.05 of a lifetime epsilon of 6" in found["composition"]
    assert "0.7 is for populations with a yearly horizon" in found["composition"]


def test_each_table_has_its_sensitivity_its_horizon_and_its_scale() -> None:
    found = texts(receipt_of(chain_of(), SAID))
    moved = dict(re.findall(r"^- `(\w+)`: One case .* together(.*)$", found["privacy_unit_details"], re.MULTILINE))
    assert moved["waiting"] == " by at most 30, over its lifetime."
    assert moved["yearly"] == ", for each calendar year."
    assert "`yearly`: One case adds at most 2 to" in found["privacy_unit_details"]
    assert "`waiting`: scale 30." in found["mechanisms"]
    assert "`monthly`: scale 10." in found["mechanisms"]  # as the ledger records it with the release
    assert (
        "`waiting` sums up `days`, moved to between 0 and 60, less 30."
        in found["preprocessing_and_hyperparameter_tuning"]
    )
    assert found["privacy_unit"] == "One person, who came in one calendar year"
    assert found["publication_date"] == "2024-02-08"


def test_what_ended_was_lost_or_is_withheld_is_said() -> None:
    found = texts(receipt_of(chain_of(StateLost(1), Retired("monthly"), StateLost(2, kept=True)), SAID))
    assert "monthly` is retired" in found["notes"]
    assert "It is retired, and its epsilon stays spent" in found["privacy_parameters_details"]
    assert "record of past contributions was lost (ledger entry 7, 2024-03-01)" in found["notes"]
    assert "emitters' secret was lost (ledger entry 9" in found["notes"]
    assert "`quarterly` is withheld permanently for the period from 2024-01-01" in found["notes"]


def test_what_only_a_person_knows_is_asked_for_and_never_made_up() -> None:
    assert open_questions(receipt_of(chain_of(), SAID)) == []
    asked = open_questions(receipt_of(chain_of(publisher=""), Said()))
    assert [re.findall(r"\((--[a-z-]+|`publisher`.*)\)", each)[0] for each in asked] == [
        "`publisher` below [publication] in quietcount.toml",
        "--intended-use",
        "--region",
        "--justification",
        "--author",
    ]


def test_a_ledger_that_has_declared_and_released_nothing_has_a_receipt() -> None:
    receipt = receipt_of(opened(MemoryLedger()).chain, Said())
    assert list(faults(yaml.safe_load(yaml_of(receipt)))) == []
    assert "Nothing is released yet." in texts(receipt)["release_type_details"]


def test_words_that_attack_a_page_or_a_terminal_stay_words() -> None:
    receipt = receipt_of(chain_of(publisher=f"\\\\x {ATTACK}"), Said(justification=ATTACK, sources=(ATTACK,)))
    page, text = page_of(receipt), yaml_of(receipt)
    assert list(style_faults(text)) == []
    assert not re.search(r"<(?:script|img|/style><script)", page)
    assert not re.search("[\x00-\x08\x0b-\x1f\u2028\u202e]", page + text)
    assert re.findall(r"<[a-z]\w*[^>]* (?:src|href)=", page) == []


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A month of real noise, signed, of a publisher whose name means something elsewhere."""
    population = of("asked", 0.5, by=["colour"])
    folder = tmp_path_factory.mktemp("published")
    with world_in(folder, [population], mechanism=DiscreteLaplace(), published=False) as world:
        world.ledger.describe(Description(dt.timedelta(days=7), PUBLISHER), utc(dt.date(2024, 1, 2)))
        world.release(utc(dt.date(2024, 2, 8)))
        chain = world.ledger.chain
        publish(chain, world.public, sign_head(chain, SIGNING_KEY).data)
        return world.public


def test_a_published_file_alone_gives_its_receipt(published: Path, tmp_path: Path) -> None:
    """No configuration is there, and what the publisher wrote is one line."""
    written = tmp_path / "receipt.yaml"
    asked = ["receipt", str(published), "--sector", "Healthcare", "--author", "A", "-o", str(written)]
    told = CliRunner().invoke(ledger_command, asked)
    assert told.exit_code == 0, told.output
    assert told.stdout == ""
    record = yaml.safe_load(written.read_text(encoding="utf-8"))
    assert list(faults(record)) == []
    assert record["deployment"]["basic"]["data_curators"] == [" ".join(PUBLISHER.split())]
    assert record["deployment"]["privacy_loss"]["privacy_parameters"] == {
        "epsilon": 100.0
    }  # that of the world's ledger
    assert "(--intended-use)" in told.stderr


def test_a_receipt_for_people_marks_what_a_person_still_has_to_state() -> None:
    assert "A person still has to state:" in page_of(receipt_of(chain_of(), Said()))
    assert "A person still has to state:" not in page_of(receipt_of(chain_of(), SAID))


def test_a_file_that_says_another_number_than_its_ledger_has_no_receipt(published: Path, tmp_path: Path) -> None:
    altered = tmp_path / "statistics.duckdb"
    altered.write_bytes(published.read_bytes())
    with duckdb.connect(str(altered)) as connection:
        connection.execute("UPDATE statistics SET noisy = noisy + 7")
    refused = CliRunner().invoke(ledger_command, ["receipt", str(altered)])
    assert isinstance(refused.exception, NotVerified)
    assert refused.stdout == ""


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    refused = CliRunner().invoke(ledger_command, ["receipt", str(tmp_path / "none.duckdb")])
    assert "there is no such file" in str(refused.exception)


def test_a_file_that_is_no_publication_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.duckdb"
    other.write_bytes(b"no database")
    refused = CliRunner().invoke(ledger_command, ["receipt", str(other)])
    assert isinstance(refused.exception, NotVerified)
