"""No cell gets a second value, whatever is put back to whichever day: data, secrets, copies from the midst of a release.

A life of a project is driven at random, by a seed that is in the message of a failure. Whenever it starts, the test
knows which of the parts in place have seen all that was ever published. While any of them has, no cell may ever get a
second value: the service goes on, or refuses until a person has done what it says. If none has, nothing protects: that
is the case that README.md and docs/privacy.md name, and such a life ends with a control that draws again.
"""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.privacy.rollback_world import EVERY_KNOWER, PARTS, Copy, Crash, Life, drawn_twice

from quietcount_aggregates import release as release_module
from quietcount_aggregates.errors import LedgerBehind
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.witness import Witness
from quietcount_aggregates.release import Step
from quietcount_schemas.errors import QuietcountError

pytestmark = pytest.mark.quick

MOST_REFUSALS = 12
"""More in a row than there are parts to put right."""


# ---------------------------------------------------------------- a life at random


def live_on(life: Life) -> None:
    """Let some time pass: events, releases, copies at any moment, crashes, and a part put back under the service."""
    chance = life.chance
    for _ in range(chance.choice((1, 1, 2))):
        life.today += dt.timedelta(days=chance.choice((1, 16, 31)))
        life.emit()
        swap = chance.random() < 0.15

        def observe(step: Step) -> None:
            if chance.random() < 0.12:
                life.copy(f"of {life.today}, {step}")
            if swap and life.copies and chance.random() < 0.2:
                # The witness stays: it was brought up to date at the start, and knows all that is published.
                part = chance.choice([each for each in PARTS if each != "witness"])
                life.put_back({part: chance.choice(life.copies)})
            if chance.random() < 0.04:
                life.tell(f"crash at: {step}")
                raise Crash

        try:
            life.run(observe)
        except Crash:
            started(life)
        except QuietcountError as error:
            life.mend(error)
            started(life)
        life.check()
        if chance.random() < 0.6:
            life.copy(f"of {life.today}")


def combination(life: Life) -> dict[str, Copy | None]:
    """Choose what is put back: some parts, all to one day or each to a day of its own, and now and then one is gone."""
    chance = life.chance
    parts = [part for part in PARTS if chance.random() < 0.5]
    if chance.random() < 0.25:  # as a backup does that has everything but some
        parts = [part for part in PARTS if part not in chance.sample(EVERY_KNOWER, chance.choice((0, 1, 1, 2)))]
    day = chance.choice(life.copies)
    one_day = chance.random() < 0.5
    return {
        part: None if chance.random() < 0.08 else day if one_day else chance.choice(life.copies)
        for part in parts or ["ledger"]
    }


def started(life: Life) -> str:
    """Start the service, and do what it says while it refuses; return how that went."""
    for refusals in range(MOST_REFUSALS):
        if not life.protected:
            return "unprotected"
        try:
            life.run()
        except QuietcountError as error:
            life.check()
            life.mend(error)
        else:
            life.check()
            return "mended" if refusals else "ran"
    raise AssertionError(f"the service refuses for ever\n{life}")


def lived(folder: Path, seed: int, rounds: int) -> Counter[str]:
    """Live until there were so many rounds, in as many lives as it takes; return how often a round ended how."""
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()
    number = 0
    while outcomes.total() < rounds:
        number += 1
        life = Life(folder / f"life-{number}", chance, f"seed {seed}, life {number}")
        life.run()
        life.copy("of the first day")
        for _ in range(min(15, rounds - outcomes.total())):
            live_on(life)
            parts = combination(life)
            life.put_back(parts)
            outcome = started(life)
            outcomes[outcome] += 1
            if outcome == "unprotected":
                unprotected = [part for part in EVERY_KNOWER if part not in parts]
                assert not unprotected, f"{unprotected} was not put back, and knows too little\n{life}"
                break
    return outcomes
