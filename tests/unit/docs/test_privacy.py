"""The worked example of the privacy contract is computed from the catalogue it speaks of."""

from __future__ import annotations

import math
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from quietcount_aggregates.intervals import quantile
from quietcount_aggregates.noise import margin

pytestmark = pytest.mark.quick


def catalogue() -> list[dict[str, Any]]:
    text = resources.files("quietcount_aggregates").joinpath("casework.toml").read_text(encoding="utf-8")
    populations: list[dict[str, Any]] = tomllib.loads(text)["population"]
    return populations


def posterior(prior: float, epsilon: float) -> float:
    odds = prior / (1 - prior) * math.exp(epsilon)
    return odds / (1 + odds)


@pytest.fixture
def readme(root: Path) -> str:
    return " ".join((root / "README.md").read_text(encoding="utf-8").split())


def test_what_one_request_to_desert_can_tell_is_the_sum_of_all_tables_that_count_it(readme: str) -> None:
    counted = [
        table["epsilon"]
        for population in catalogue()
        for table in population["table"]
        if "HelpRequested" in population["events"]
        and all("DESERTION" in each.get("where", {}).get("help_kind", ["DESERTION"]) for each in (population, table))
    ]
    assert counted == [0.7, 0.3]
    total = sum(counted)
    assert (
        f"at most e^1 = {math.exp(total):.2f}, and 50 % becomes at most {100 * posterior(0.5, total):.0f} %" in readme
    )
    assert (
        f"most a factor e^0.7 = {math.exp(0.7):.2f}, from 50 % to at most {100 * posterior(0.5, 0.7):.0f} %" in readme
    )


def test_the_worst_case_is_that_of_the_whole_catalogue(readme: str) -> None:
    total = math.fsum(table["epsilon"] for population in catalogue() for table in population["table"])
    assert total == 2.5
    rare, seldom, even = (posterior(prior, total) for prior in (0.001, 0.01, 0.5))
    assert f"e^2.5 = {math.exp(total):.1f}: a suspicion of 1 in 1000 becomes at most 1 in {1 / rare:.0f}" in readme
    assert f"one of 1 in 100 at most {100 * seldom:.0f} %, even odds at most {100 * even:.0f} %" in readme


@pytest.mark.parametrize("epsilon", [0.25, 0.5, 1.0, 2.5])
def test_the_table_of_margins_is_that_of_the_noise(epsilon: float, readme: str) -> None:
    assert f"| {epsilon:g} | {100 * posterior(0.5, epsilon):.0f} % | ±{margin(1 / epsilon)} |" in readme


def rule(k: int, epsilon: float) -> float:
    """The README's margin of one cell."""
    return 3 * k / epsilon


def test_the_rule_for_margins_is_that_of_the_noise(readme: str) -> None:
    said = (
        "95 % margin of one cell is about ±3 k / epsilon, whether the cell holds 5 cases or 5,000: ±6 at 0.5, and ±12"
    )
    assert f"{said} with k = 2. A sum of n cells has about √n times that" in readme
    assert (margin(1 / 0.5), margin(2 / 0.5)) == (6, 12)
    for k in (1, 2, 5):
        for hundredths in range(5, 101):
            epsilon = hundredths / 100
            assert abs(margin(k / epsilon) - rule(k, epsilon)) <= 1
            assert math.isclose(
                quantile([1], [k / epsilon], [12], 0.95), math.sqrt(12) * rule(k, epsilon), rel_tol=0.15
            )
