"""What the audit takes for the true value of a figure is what the figure is about.

Without noise each figure is true, and its interval holds it: chance has no part in it. So whatever misses then is asked
about one thing and held against another. Under noise that could go unseen: a few such answers hardly raise the rate of
a kind with many right ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.privacy.audit_mutants import audited, only
from tests.privacy.broken_safeguards import macros_with

from quietcount_aggregates.noise import DiscreteLaplace
from quietcount_consumers.trials.asked_figures import QUESTIONS, answers
from quietcount_consumers.trials.made_up_publications import BEGIN, published

pytestmark = pytest.mark.quick

KINDS = {
    "averages", "averages of few", "cells", "cumulative sums", "differences", "differences between cells", "leads",
    "margins", "margins by quarter", "margins by year", "means", "parts of a distribution", "parts up to a bucket",
    "percent changes", "percent changes between cells", "percentiles", "ranks", "shares", "sums", "sums of cells",
    "totals",
}  # fmt: skip
COMPARED = {f"{figure}{of}" for figure in ("differences", "percent changes") for of in ("", " between cells")}


class Silent(DiscreteLaplace):
    """A mechanism that draws nothing, and says that it drew noise of the usual scale."""

    def draw(self, exact: Sequence[int], *, scale: float, sensitivity: int, epsilon: float) -> list[int]:
        return list(exact)


def missed(folder: Path, seed: int, names: Sequence[str], questions: Mapping[str, int]) -> tuple[set[str], set[str]]:
    """Publish populations without noise, and return the kinds of figures, and those of which an interval missed."""
    populations = only(audited(folder), *names).populations(BEGIN)
    rng = np.random.default_rng(seed)
    with published(folder, populations, Silent(), rng) as publication:
        every = list(answers(publication, populations, rng, questions))
    return {each.kind for each in every}, {each.kind for each in every if each.missed}


@pytest.mark.promise("audited")
def test_without_noise_no_comparison_misses_what_the_audit_takes_for_true(tmp_path: Path) -> None:
    """No false alarm, here and below: nothing is drawn. The seed chooses the counts and the questions."""
    asked, wrong = missed(tmp_path, 1, ["years"], {"compare": 6, "year_on_year": 1})
    assert asked >= COMPARED
    assert not wrong


@pytest.mark.check
@pytest.mark.promise("audited")
def test_without_noise_no_interval_misses_what_the_audit_takes_for_true(tmp_path: Path) -> None:
    asked, wrong = missed(tmp_path, 1, ["visits"], QUESTIONS | {"compare": 12, "share": 6, "percentile": 3})
    assert asked >= KINDS
    assert not wrong


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 12))
def test_without_noise_no_interval_misses_whatever_is_asked(tmp_path: Path, seed: int) -> None:
    asked, wrong = missed(tmp_path, seed, ["visits", "years"], dict.fromkeys(QUESTIONS, 12))
    assert asked >= KINDS
    assert not wrong


@pytest.mark.check
def test_a_comparison_that_takes_the_two_sides_for_each_other_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It misses by twice the difference."""
    macros_with("b - a AS difference", "a - b AS difference")(monkeypatch)
    _, wrong = missed(tmp_path, 1, ["years"], {"compare": 6})
    assert wrong >= {"differences", "differences between cells"}
