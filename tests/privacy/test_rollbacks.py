"""No cell gets a second value, whatever is put back to whichever day: data, secrets, copies from amid a release.

A life of a project is driven at random, by a seed that is in the message of a failure. Whenever it starts, the test
knows which of the parts in place have seen all that was ever published. While any of them has, no cell may ever get a
second value: the service goes on, or refuses until a person has done what it says. If none has, nothing protects: that
is the case that README.md and THREATS.md name, and such a life ends with a control that draws again.

Three lives in five name a published copy elsewhere, a witness with an address, or both. Nothing puts these back, so the
whole machine may go back to any day, and no value is drawn again.
"""

from __future__ import annotations

import datetime as dt
import itertools
import random
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import pytest
from tests.privacy.elsewhere import ELSEWHERE
from tests.privacy.light_publications import light_publications
from tests.privacy.rollback_world import ON_THE_MACHINE, PARTS, Copy, Crash, Life, drawn_twice

from quietcount_aggregates.errors import LedgerBehind
from quietcount_aggregates.ledger.entries import Head
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.release import Step
from quietcount_consumers.witnessing.vigil import Vigil
from quietcount_schemas.errors import QuietcountError

pytestmark = pytest.mark.quick

MOST_REFUSALS = 12
"""More in a row than there are parts to put right."""

ROUNDS = ("ran", "mended", "unprotected")
"""How a round ends: at once, once a person has done what the service says, or with nothing that protects."""

NAMED: tuple[tuple[str, ...], ...] = ((), (), ("copy",), ("partner",), ELSEWHERE)
"""Whom lives name elsewhere, one as likely as the other."""


# ---------------------------------------------------------------- a life at random


def live_on(life: Life) -> None:
    """Let some time pass: events, releases, copies at any moment, crashes, and a part put back under the service."""
    chance = life.chance
    for _ in range(chance.choice((1, 1, 2))):
        life.today += dt.timedelta(days=chance.choice((1, 16, 31)))
        life.emit()

        if "partner" in life.elsewhere.named and chance.random() < 0.1:
            life.tell("the witness does not answer")
            life.elsewhere.leave()

        def observe(step: Step, swap: bool = chance.random() < 0.15) -> None:
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
        parts = [part for part in PARTS if part not in chance.sample(ON_THE_MACHINE, chance.choice((0, 1, 1, 2)))]
    day = chance.choice(life.copies)
    if life.elsewhere.named and chance.random() < 0.4:
        return dict.fromkeys(PARTS, day)
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


def lived(folder: Path, seed: int, rounds: int, *, whole: int = 0) -> Counter[str]:
    """Live until there were so many rounds, in as many lives as it takes; return how often a round ended how.

    One life in `whole` publishes the file that the service publishes, and the others a light one.
    """
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()
    for number in itertools.count(1):
        if (done := sum(outcomes[each] for each in ROUNDS)) >= rounds:
            return outcomes
        light = nullcontext() if whole and number % whole == 0 else light_publications()
        name = f"seed {seed}, life {number}"
        with tempfile.TemporaryDirectory(dir=folder) as place, light, closing(Life(Path(place), chance, name)) as life:
            outcomes += lived_through(life, min(15, rounds - done))
        print(f"{name}: {dict(outcomes)}", flush=True)  # what held so far, if the rest is cut off
    raise AssertionError


def lived_through(life: Life, rounds: int) -> Counter[str]:
    """Live one life of at most so many rounds: it ends when nothing is left that knows what was published."""
    outcomes: Counter[str] = Counter()
    named = life.chance.choice(NAMED)
    life.tell(f"named elsewhere: {', '.join(named) or 'none'}")
    life.elsewhere.name(named)
    life.run()
    life.copy("of the first day")
    for _ in range(rounds):
        live_on(life)
        parts = combination(life)
        life.put_back(parts)
        outcome = started(life)
        outcomes[outcome] += 1
        if named and set(PARTS) <= parts.keys():
            outcomes[f"whole machine {outcome}"] += 1
        if outcome == "unprotected":
            spared = [part for part in life.every_knower if part not in parts]
            assert not spared, f"{spared} was not put back, and knows too little\n{life}"
            outcomes["drawn twice"] += draws_again(life)
            break
    return outcomes


def draws_again(life: Life) -> bool:
    """The control: go on where nothing protects; return whether a cell got a second value."""
    for _ in range(MOST_REFUSALS):
        try:
            life.run()
        except QuietcountError as error:
            life.mend(error)
        else:
            life.today += dt.timedelta(days=16)
    return bool(drawn_twice(life))


@pytest.mark.promise("drawn-once", "older-refused", "losses")
@pytest.mark.parametrize(
    "rounds",
    [pytest.param(6), pytest.param(9, marks=pytest.mark.check), pytest.param(1000, marks=pytest.mark.soak)],
)
def test_no_cell_gets_a_second_value_whatever_is_put_back(rounds: int, tmp_path: Path) -> None:
    """No false alarm: every draw has a number of its own, and what is not protected is known from the files."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    outcomes = lived(tmp_path, seed, rounds, whole=10)
    print(dict(outcomes))
    if rounds >= 1000:
        least = (*ROUNDS, "drawn twice", "whole machine mended")
        assert min(outcomes[each] for each in least) > 5, outcomes


# ---------------------------------------------------------------- one part alone knows better

ALONE = ("public", "state", "witness", "places", *ELSEWHERE)


@contextmanager
def january_and_february(folder: Path, named: Collection[str] = ()) -> Iterator[tuple[Life, Copy]]:
    """Yield a project that released two months, with those named elsewhere, and a copy of it from before the second."""
    with light_publications(), closing(Life(folder, random.Random(1))) as life:
        life.elsewhere.name(named)
        life.run()
        older = life.copy("of the first day")
        for day in (dt.date(2023, 2, 3), dt.date(2023, 3, 3)):
            older = life.copy(f"of before {day}")
            life.emit()
            life.today = day
            life.run()
        assert len(life.published) == 4
        yield life, older


def put_all_back_but(life: Life, older: Copy, alone: str) -> None:
    """Put everything back to an older day but one part, or what is elsewhere: that is asked in no other case."""
    life.elsewhere.name([alone] if alone in ELSEWHERE else [])
    if alone == "places":
        life.put_entries_back(older)
    life.put_back({part: older for part in PARTS if part != alone and (alone, part) != ("places", "ledger")})


def check_alone(life: Life, older: Copy, alone: str) -> None:
    """The check that the mutants have to fail: the part that was not put back has the service refuse."""
    put_all_back_but(life, older, alone)
    drawn = life.mechanism.draws
    with pytest.raises(LedgerBehind):
        life.run()
    assert life.mechanism.draws == drawn
    assert not drawn_twice(life)
    for part in PARTS:
        life.put_newest_back(part)


@pytest.mark.promise("drawn-once", "older-refused", "witnessed")
def test_each_part_that_was_not_put_back_keeps_the_service_from_drawing_again(tmp_path: Path) -> None:
    with january_and_february(tmp_path, ELSEWHERE) as (life, older):
        for alone in ALONE:
            check_alone(life, older, alone)
        life.run()
        life.check()


@pytest.mark.parametrize("named", [(), ELSEWHERE])
def test_if_everything_is_put_back_cells_are_drawn_again_as_the_pages_say(
    named: tuple[str, ...], tmp_path: Path
) -> None:
    """The control: the one rollback that nothing on the machine reveals. Those elsewhere know, and are not asked."""
    with january_and_february(tmp_path, named) as (life, older):
        life.put_back(dict.fromkeys(PARTS, older))
        assert life.protected is bool(named)
        life.elsewhere.name(())
        assert not life.protected
        life.run()
        assert set(drawn_twice(life)) == {("requests", "2023-02-01"), ("yearly", "2023-02-01")}
    page = (Path(__file__).parents[2] / "THREATS.md").read_text(encoding="utf-8")
    assert "**A rollback of everything**" in page


def unasked(alone: str, patch: pytest.MonkeyPatch) -> None:
    """Make a twin that does not ask one of the parts that know."""
    if alone == "places":
        patch.setattr(Ledger, "check_places", lambda _: None)
        return
    if alone in ELSEWHERE:
        patch.setattr(Vigil, "compare", lambda *_: 1)
        return
    names = {"public": "statistics.duckdb", "state": "state-0.duckdb", "witness": "service-head"}
    check = Ledger.check_not_behind

    def checked(self: Ledger, head: Head, where: str) -> None:
        if where != names[alone]:
            check(self, head, where)

    patch.setattr(Ledger, "check_not_behind", checked)


@pytest.mark.check
@pytest.mark.parametrize("alone", ALONE)
def test_a_twin_that_does_not_ask_one_of_the_parts_that_know_is_found(
    alone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with january_and_february(tmp_path, ELSEWHERE) as (life, older):
        unasked(alone, monkeypatch)
        with pytest.raises((AssertionError, pytest.fail.Exception, QuietcountError)):
            check_alone(life, older, alone)
        # A state that is newer than its ledger has nothing due that is released, so it draws nothing again. What is
        # drawn again and a partner does not sign is not published, nor is what an old place does not fit.
        assert bool(drawn_twice(life)) is (alone not in ("state", "partner", "places"))
