"""The bound: what all published numbers together can tell about one person, in words."""

from __future__ import annotations

from decimal import Decimal

from quietcount_aggregates.ledger.chain import Chain

__all__ = ["bound_sentence", "plain"]


def bound_sentence(chain: Chain) -> str:
    """Return what the numbers can tell anyone about one person, in one sentence."""
    budget = chain.budget
    times = 1 + budget.losses
    sentence = (
        "However many numbers are published, what they tell about whether one person came stays under epsilon "
        f"{plain(budget.bound)}"
    )
    if budget.yearly:
        sentence += (
            f" for a person who came in one calendar year, and rises by {plain(budget.yearly * times)} for each "
            "further year in which the person came"
        )
    sentence += f"; the declared populations spend {plain(budget.declared)} of {plain(budget.lifetime_epsilon)}"
    if budget.losses:
        how_often = "once" if budget.losses == 1 else f"{budget.losses} times"
        sentence += (
            f". The bound was raised: the record of past contributions, or the emitters' pepper, was lost {how_often}"
        )
    return sentence + "."


def plain(number: Decimal) -> str:
    """Return an epsilon as a person writes it: no exponent, and no zeros at its end."""
    return f"{number.normalize():f}"
