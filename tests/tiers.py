"""The tier of each test, by a marker: how soon, and with which target of make, it runs.

A module names the tier of its tests (`pytestmark = pytest.mark.quick`). A class, a test or one of its parameters may
name another, and the nearest name counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from _pytest.mark.structures import Mark

TIERS = {
    "quick": "the tests that anyone runs, at least one of each promise (make test)",
    "check": "the rest of what a change can break (make check, which runs the quick ones too)",
    "soak": "a trial that takes minutes (make soak)",
    "bench": "a measurement that prints ratios (make bench)",
}

COLLECTED = pytest.StashKey[list["Collected"]]()
"""Every test that a run collected, before those of other tiers were left out."""


class Collected:
    """What the rules about tiers and promises need to know of a test."""

    __slots__ = ("name", "promises", "tiers")

    def __init__(self, name: str, tiers: Sequence[str], promises: Sequence[str]) -> None:
        self.name = name
        self.tiers = tuple(tiers)
        """What the nearest level that names a tier names: exactly one in a sound test."""
        self.promises = tuple(promises)


def named(item: pytest.Item) -> list[str]:
    """Return the tiers that the nearest level names: a parameter, the test, its class, its module. Empty for none."""
    callspec = getattr(item, "callspec", None)
    of_parameter: list[Mark] = list(callspec.marks) if callspec else []
    of_test = [mark for mark in item.own_markers if mark not in of_parameter]
    levels: list[Iterable[Mark]] = [of_parameter, of_test]
    levels += [node.own_markers for node in reversed(item.listchain()[:-1])]
    for level in levels:
        if found := [mark.name for mark in level if mark.name in TIERS]:
            return found
    return []


def settle(items: Sequence[pytest.Item]) -> list[Collected]:
    """Leave each test with the markers of its nearest tier alone, so that `-m` selects by it; return them all."""
    tiers = {item: named(item) for item in items}
    for item in items:
        for node in item.listchain():
            node.own_markers[:] = [mark for mark in node.own_markers if mark.name not in TIERS]
    for item, names in tiers.items():
        for name in names:
            item.add_marker(name)
    return [
        Collected(
            item.nodeid,
            names,
            [str(promise) for mark in item.iter_markers("promise") for promise in mark.args],
        )
        for item, names in tiers.items()
    ]


def refusals(collected: Iterable[Collected], promises: Iterable[str]) -> list[str]:
    """Return what is wrong with tests as a whole: tiers that are missing or double, promises nobody knows or shows."""
    tests, known = list(collected), set(promises)
    shown = {promise for test in tests if test.tiers == ("quick",) for promise in test.promises}
    return [
        *(f"{test.name} names {' and '.join(test.tiers) or 'no tier'}" for test in tests if len(test.tiers) != 1),
        *(
            f"{test.name} names {promise}, which is no promise"
            for test in tests
            for promise in test.promises
            if promise not in known
        ),
        *(f"{promise} has no test in the tier quick" for promise in sorted(known - shown)),
    ]
