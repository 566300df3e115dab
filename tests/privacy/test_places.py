"""Places in the log: the service obeys them after a crash and after a loss, and nobody else ever sees an offset."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.aggregates_world import TRIALS, MemoryLedger, MemoryLog, World, case_key, event_id, utc, world_in
from tests.populations import population_of

from quietcount_aggregates import losses, settling
from quietcount_aggregates.errors import LedgerBehind, LedgerBroken, StateBehind
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Settled
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.places import record_of
from quietcount_aggregates.ledger.settlements import Settlement
from quietcount_aggregates.populations import Population
from quietcount_aggregates.release import Step
from quietcount_aggregates.settling import Settler
from quietcount_consumers.maintenance.inspection import ledger_rows, ledger_runs
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.quick

SINCE = dt.date(2024, 1, 1)
FEBRUARY, MARCH, APRIL = (dt.date(2024, month, 8) for month in (2, 3, 4))
FIRST_OFFSET = 987_654_321_987
"""Where the log begins in the tests that look for offsets. Its shortest way to be written has 6 bytes. That it or one
of the 50 offsets after it is among the 10,000 random bytes of a ledger by chance happens in one of 1e8 runs."""


class Crash(BaseException):
    """The process ends here."""


def population(name: str, since: dt.date = SINCE) -> Population:
    return population_of(name, events=["Asked"], registry=TRIALS, period=Period.MONTH, since=since, epsilon=0.5)


def asked(case: int, day: dt.date) -> CaseEvent:
    return CaseEvent("Asked", case_key(case), event_id(case), 0, day, {"colour": "RED", "urgent": None})


def emitted(world: World, cases: range, day: dt.date) -> None:
    world.emit([asked(case, day) for case in cases])
    world.fold(day)


def counted(world: World, name: str) -> dict[str, int]:
    return {str(start): values[0] for (table, start), values in world.released.items() if table == name}


def crashed(world: World, step: Step) -> None:
    """Release what is due in February, and crash at `step`."""

    def observe(reached: Step) -> None:
        if reached is step:
            raise Crash

    world.observe = observe
    world.restart(utc(FEBRUARY))
    with pytest.raises(Crash):
        world.release(utc(FEBRUARY))
    world.observe = None


# ---------------------------------------------------------------- recovery


@pytest.mark.promise("drawn-once", "deterministic-fold")
@pytest.mark.parametrize("step", [Step.SETTLEMENT_WRITTEN, Step.COUNTED, Step.APPENDED, Step.PUBLISHED])
def test_what_was_folded_behind_a_settlement_waits_for_the_next_one(step: Step, tmp_path: Path) -> None:
    """As of a worker that folds on while the releaser draws."""
    with world_in(tmp_path, [population("monthly")], now=utc(SINCE), published=False) as world:
        folded_on(world, step)
        world.restart(utc(FEBRUARY))
        world.fold(FEBRUARY)
        world.release(utc(FEBRUARY))
        world.release(utc(MARCH))
        drawn = step in (Step.APPENDED, Step.PUBLISHED)
        assert counted(world, "monthly") == (
            {"2024-01-01": 20, "2024-02-01": 5} if drawn else {"2024-01-01": 25, "2024-02-01": 0}
        )


def folded_on(world: World, step: Step) -> None:
    """Crash at a step, and fold what comes then before the settlement is finished."""
    emitted(world, range(1, 21), dt.date(2024, 1, 10))
    crashed(world, step)
    emitted(world, range(101, 106), dt.date(2024, 1, 20))


@pytest.mark.promise("older-refused")
@pytest.mark.parametrize("step", [Step.APPENDED, Step.PUBLISHED])
def test_a_state_that_has_not_folded_what_the_newest_settlement_counts_is_refused(step: Step, tmp_path: Path) -> None:
    with world_in(tmp_path, [population("monthly")], now=utc(SINCE), published=False) as world:
        older(world, step)
        for _ in range(2):  # the first refusal changes nothing
            with pytest.raises(StateBehind, match=r"does not know: .* record-loss"):
                world.restart(utc(FEBRUARY))


def older(world: World, step: Step) -> None:
    """Crash at a step, and put a state in the place that had folded half of it."""
    emitted(world, range(1, 11), dt.date(2024, 1, 10))
    aside = world.folder / "aside"
    world.close()
    shutil.copy(world.state_path, aside)
    world.restart(utc(SINCE))
    emitted(world, range(11, 21), dt.date(2024, 1, 10))
    crashed(world, step)
    world.close()
    shutil.copy(aside, world.state_path)


@pytest.mark.promise("drawn-once")
@pytest.mark.parametrize("step", [Step.APPENDED, Step.PUBLISHED, Step.STATE_WRITTEN])
def test_a_state_at_the_place_of_the_newest_settlement_goes_on(step: Step, tmp_path: Path) -> None:
    with world_in(tmp_path, [population("monthly")], now=utc(SINCE), log=MemoryLog(3), published=False) as world:
        emitted(world, range(1, 21), dt.date(2024, 1, 10))
        crashed(world, step)
        world.emit([asked(case, dt.date(2024, 1, 20)) for case in range(101, 106)])  # not folded, as it has to be
        world.restart(utc(FEBRUARY))
        world.fold(FEBRUARY)
        world.release(utc(MARCH))
        assert counted(world, "monthly") == {"2024-01-01": 20, "2024-02-01": 5}


def test_a_recovery_that_ignores_the_place_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "is_out_of_place", lambda *_: False)
    with world_in(tmp_path, [population("monthly")], now=utc(SINCE), published=False) as world:
        older(world, Step.APPENDED)
        world.restart(utc(FEBRUARY))
        assert world.there.used_up[0].marks == 10, "of twenty cases that counted, ten may count once more"


def test_a_settlement_that_counts_all_that_was_folded_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Settler.close

    def mutant(self: Settler, settlement: Settlement | None) -> None:
        real(self, None)

    monkeypatch.setattr(Settler, "close", mutant)
    with world_in(tmp_path, [population("monthly")], now=utc(SINCE), published=False) as world:
        folded_on(world, Step.APPENDED)
        world.restart(utc(FEBRUARY))
        world.release(utc(MARCH))
        # Twenty-five cases came, and the twin lost five of them: it forgot what the release had not counted.
        assert sum(counted(world, "monthly").values()) == 20


def test_a_settlement_in_another_log_than_the_states_cannot_be_finished(tmp_path: Path) -> None:
    """`quietcount ledger new-log` finishes it before it follows."""
    with world_in(tmp_path, [population("monthly")], now=utc(SINCE), published=False) as world:
        emitted(world, range(1, 21), dt.date(2024, 1, 10))
        crashed(world, Step.APPENDED)
        world.log = MemoryLog()
        world.there.follow(world.log.topic_id(CASE_EVENTS))
        with pytest.raises(StateBehind):
            world.restart(utc(FEBRUARY))


# ---------------------------------------------------------------- later populations, and losses


def lost_after_a_later_declaration(world: World, lose: Callable[[World], None]) -> dict[str, int]:
    """A population comes in January after twenty cases; January is released, five more ask, and the state is lost."""
    emitted(world, range(1, 21), dt.date(2024, 1, 10))
    world.populations.append(population("later", dt.date(2024, 2, 1)))
    world.restart(utc(dt.date(2024, 1, 20)))
    world.release(utc(FEBRUARY))
    emitted(world, range(101, 106), dt.date(2024, 2, 1))
    lose(world)
    world.restart(utc(FEBRUARY))
    world.fold(FEBRUARY)
    emitted(world, range(201, 204), dt.date(2024, 2, 20))
    world.release(utc(MARCH))
    return counted(world, "later")


def lose(world: World) -> None:
    world.lose_state(utc(FEBRUARY))


@pytest.mark.promise("losses", "deterministic-fold")
def test_after_a_loss_a_later_population_begins_where_it_was_declared(tmp_path: Path) -> None:
    with world_in(tmp_path, [population("monthly")], now=utc(SINCE), log=MemoryLog(2), published=False) as world:
        assert lost_after_a_later_declaration(world, lose) == {"2024-02-01": 8}


def test_a_loss_that_forgets_the_places_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old rule: a later population begins again at the log's end."""
    monkeypatch.setattr(Ledger, "declared_at", lambda *_: None)
    monkeypatch.setattr(losses, "_declared_before_settlement", lambda _: set[str]())
    with world_in(tmp_path, [population("monthly")], now=utc(SINCE), published=False) as world:
        assert lost_after_a_later_declaration(world, lose) == {"2024-02-01": 3}


def test_after_a_restored_ledger_and_a_loss_a_later_population_begins_at_the_logs_end(tmp_path: Path) -> None:
    def restored(world: World) -> None:
        world.ledger_log = with_entries_of(world)
        world.restart(utc(FEBRUARY))
        lose(world)

    with world_in(tmp_path, [population("monthly")], now=utc(SINCE), published=False) as world:
        assert lost_after_a_later_declaration(world, restored) == {"2024-02-01": 3}


def test_a_restored_ledger_goes_on_with_what_the_state_knows(tmp_path: Path) -> None:
    def restored(world: World) -> None:
        world.ledger_log = with_entries_of(world)

    with world_in(tmp_path, [population("monthly")], now=utc(SINCE), published=False) as world:
        assert lost_after_a_later_declaration(world, restored) == {"2024-02-01": 8}
        places = world.ledger_log.read_places()
        assert [record_of(line, 0).keys() >= {"settle"} for line in places] == [True, False], "a settlement, its place"


def with_entries_of(world: World) -> MemoryLedger:
    """Return a ledger that was restored from a published file: it has every entry and no place."""
    ledger = MemoryLedger()
    ledger.entries = world.ledger_log.read()
    return ledger


def test_a_loss_in_another_log_than_the_declarations_begins_at_its_end(tmp_path: Path) -> None:
    def elsewhere(world: World) -> None:
        world.close()
        world.log = MemoryLog()
        emitted_elsewhere = [asked(case, dt.date(2024, 2, 2)) for case in range(150, 154)]
        world.emit(emitted_elsewhere)
        lose(world)

    with world_in(tmp_path, [population("monthly")], now=utc(SINCE), published=False) as world:
        assert lost_after_a_later_declaration(world, elsewhere) == {"2024-02-01": 3}


def test_a_loss_is_recorded_once_and_what_it_settled_before_counts_nowhere_any_more(tmp_path: Path) -> None:
    """Killed between the ledger and the state, and asked again."""
    with world_in(tmp_path, [population("monthly")], now=utc(SINCE), published=False) as world:
        emitted(world, range(1, 21), dt.date(2024, 1, 10))
        world.release(utc(FEBRUARY))
        lose(world)
        world.emit([asked(case, dt.date(2024, 1, 20)) for case in range(101, 106)])
        world.emit([asked(case, dt.date(2024, 2, 1)) for case in range(201, 204)])
        lose(world)  # the same again
        assert world.ledger.chain.losses == 1
        world.restart(utc(FEBRUARY))
        world.fold(FEBRUARY)
        world.release(utc(MARCH))
        assert counted(world, "monthly") == {"2024-01-01": 20, "2024-02-01": 3}


def test_a_log_that_lost_its_end_is_counted_from_there_on(tmp_path: Path) -> None:
    def shortened(world: World) -> None:
        world.close()
        world.log.records, world.log.ends = [[]], [3]
        lose(world)

    with world_in(tmp_path, [population("monthly")], now=utc(SINCE), published=False) as world:
        assert lost_after_a_later_declaration(world, shortened) == {"2024-02-01": 3}


@pytest.mark.promise("older-refused")
def test_an_older_ledger_is_refused_by_its_places_alone(tmp_path: Path) -> None:
    """As when somebody puts everything back but the private log, which on Kafka is a topic of its own."""
    ledger = MemoryLedger()
    with world_in(tmp_path / "world", [population("monthly")], now=utc(SINCE), ledger_log=ledger) as world:
        entries = list(ledger.entries)
        world.release(utc(FEBRUARY))
        ledger.entries[:] = entries
        for path in (world.public, world.state_path, world.public.with_name("witness")):
            world.close()
            path.unlink()
        with pytest.raises(LedgerBehind, match="the private log beside it"):
            world.restart(utc(FEBRUARY))


def test_damaged_places_stop_the_start(tmp_path: Path) -> None:
    ledger = MemoryLedger()
    with world_in(tmp_path, [population("monthly")], now=utc(SINCE), ledger_log=ledger, published=False) as world:
        world.release(utc(FEBRUARY))
        ledger.places[-1] = ledger.places[-1].replace(b'"key"', b'"kez"')
        with pytest.raises(LedgerBroken, match=r"docs/recovery\.md"):
            world.restart(utc(FEBRUARY))


# ---------------------------------------------------------------- who sees an offset


def ways_to_write(number: int) -> list[bytes]:
    """Return the ways in which a number could lie in a file: as text, as a word of 8 bytes, as Avro has it."""
    rest, varint = number << 1, bytearray()
    while rest > 0x7F:
        varint.append(rest & 0x7F | 0x80)
        rest >>= 7
    words = [number.to_bytes(8, "little"), number.to_bytes(8, "big")]
    return [str(number).encode(), f"{number:,}".encode(), f"{number:x}".encode(), *words, bytes([*varint, rest])]


def seen(data: bytes, most: int) -> list[int]:
    """Return which of the offsets that the test's log has lie in the bytes."""
    offsets = range(FIRST_OFFSET, FIRST_OFFSET + most + 1)
    return [offset for offset in offsets if any(way in data for way in ways_to_write(offset))]


def shown(chain: Chain) -> bytes:
    """Return what `quietcount ledger show` shows in its formats."""
    return (
        repr([ledger_rows(chain), ledger_runs(chain)]).encode() + json.dumps(ledger_rows(chain), default=str).encode()
    )


@pytest.mark.promise("no-exact-count", "public-file")
def test_no_offset_is_in_any_published_byte_or_in_what_the_ledger_shows(tmp_path: Path) -> None:
    log, ledger = MemoryLog(), MemoryLedger()
    log.ends = [FIRST_OFFSET]
    with world_in(tmp_path, [population("monthly")], now=utc(SINCE), log=log, ledger_log=ledger) as world:
        assert lost_after_a_later_declaration(world, lose)
        kinds = [entry.kind for entry in world.ledger.chain.entries]
        assert {"settled", "state_lost", "declared"} <= set(kinds)
        ends = [record_of(data, number)["offsets"][0][1] for number, data in enumerate(ledger.places)]
        most = log.end_offsets(CASE_EVENTS)[0] - FIRST_OFFSET
        assert seen(b"".join(ledger.places), most) == sorted(set(ends)), "the private log has them"
        assert seen(json.dumps(world.there.offsets).encode(), most) == [FIRST_OFFSET + most]
        for data in (world.public.read_bytes(), b"".join(ledger.entries), shown(world.ledger.chain)):
            assert seen(data, most) == []
        rows = [row for row in ledger_rows(world.ledger.chain)[1] if row[2] == "settled"]
        assert len(rows) == sum(isinstance(entry.body, Settled) for entry in world.ledger.chain.entries)
        assert {row[6] for row in rows} == {"a commitment to where in the log that was"}
        assert "settled" not in {row[2] for row in ledger_runs(world.ledger.chain)[1]}


@pytest.mark.parametrize("way", range(6))
def test_an_offset_that_is_written_in_any_of_its_ways_is_found(way: int) -> None:
    assert seen(b"before" + ways_to_write(FIRST_OFFSET + 7)[way] + b"behind", 9) == [FIRST_OFFSET + 7]
