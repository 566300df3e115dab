"""The ledger: a chain that takes nothing that was altered, and rules that hold for every entry."""

from __future__ import annotations

import contextlib
import datetime as dt
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from tests.aggregates_world import MemoryLedger
from tests.unit.aggregates.ledger.ledgers import END, NOW, ONE, SINCE, TrialLedger, of, opened, read, release

from quietcount_aggregates.bound import bound_sentence
from quietcount_aggregates.errors import LedgerBehind, LedgerBroken, LedgerError, LedgerFenced, LedgerNewer
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import GENESIS, Declared, Entry, Head, Opened, Retired, Settled, StateLost

pytestmark = pytest.mark.quick


@pytest.fixture
def log() -> MemoryLedger:
    """A ledger with two declarations, three releases, a retirement and a loss."""
    log = MemoryLedger()
    ledger = opened(log)
    one, two = of("one"), of("two", by=["colour"])
    ledger.declare([one, two], ONE, NOW, end=END)
    ledger.append([release(one), release(two)], NOW)
    ledger.append([release(one, 2)], NOW)
    ledger.append([Retired("two")], NOW)
    ledger.append([StateLost(1)], NOW)
    return log


def test_a_chain_reads_back_what_was_appended(log: MemoryLedger) -> None:
    chain = read(log.entries)
    assert chain.head.length == len(log.entries) == 10
    assert set(chain.declarations) == {"one", "two"}
    assert chain.retired == {"two"}
    assert chain.losses == 1
    assert chain.first_open == {"one": dt.date(2024, 3, 1), "two": dt.date(2024, 2, 1)}
    assert set(chain.releases) == {("one", SINCE), ("two", SINCE), ("one", dt.date(2024, 2, 1))}
    assert chain.budget.bound == 2
    assert chain.budget.left == 0
    assert [entry.kind for entry in chain.entries][-2:] == ["retired", "state_lost"]
    assert chain.entries[0].previous == GENESIS


def test_the_bound_says_how_often_it_was_raised(log: MemoryLedger) -> None:
    assert bound_sentence(read(log.entries)).endswith(
        "the record of past contributions, or the emitters' pepper, was lost once."
    )
    ledger = TrialLedger(log)
    ledger.fence()
    ledger.append([StateLost(2)], NOW)
    assert bound_sentence(ledger.chain).endswith(
        "the record of past contributions, or the emitters' pepper, was lost 2 times."
    )


def test_a_chain_says_which_releases_a_state_does_not_know(log: MemoryLedger) -> None:
    chain = read(log.entries)
    february = dt.date(2024, 2, 1)
    assert chain.unknown_to(chain.first_open) == []
    assert chain.unknown_to({"one": february, "two": february}) == [release(of("one"), 2)]
    assert len(chain.unknown_to({"one": dt.date(2024, 3, 1)})) == 1, "a population that the state never heard of"
    assert len(chain.unknown_to({})) == 3


@pytest.mark.promise("ledger-chain")
def test_every_single_flipped_bit_breaks_the_chain_or_the_head(log: MemoryLedger) -> None:
    """A chain vouches for its end by its head alone: a forged last entry is seen by whoever kept the head."""
    head = read(log.entries).head
    accepted = 0
    for index, data in enumerate(log.entries):
        for bit in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            forged = [*log.entries[:index], bytes(flipped), *log.entries[index + 1 :]]
            try:
                other = read(forged).head
            except LedgerBroken:
                continue
            accepted += 1
            assert index == len(log.entries) - 1
            assert other != head
    assert accepted < 100 + 256, "its time, and the commitment, of which the chain does not know the place"


@pytest.mark.parametrize(
    "tamper",
    [
        lambda entries: entries[1:],
        lambda entries: entries[:3] + entries[4:],
        lambda entries: [*entries[:3], entries[4], entries[3], *entries[5:]],
        lambda entries: [*entries[:3], entries[3], entries[3], *entries[4:]],
        lambda entries: entries + entries[-1:],
        lambda entries: [entries[0], *entries],
        lambda entries: [*entries[:2], b"", *entries[2:]],
        lambda entries: [*entries[:2], entries[2] + b"\0", *entries[3:]],
        lambda entries: [*entries[:2], entries[2][:-1], *entries[3:]],
    ],
    ids=["head cut", "dropped", "swapped", "repeated", "last again", "opened twice", "empty", "longer", "shorter"],
)
def test_entries_that_were_dropped_swapped_or_repeated_are_refused(
    tamper: Callable[[list[bytes]], list[bytes]], log: MemoryLedger
) -> None:
    with pytest.raises(LedgerBroken) as refused:
        read(tamper(log.entries))
    assert "quietcount ledger restore" in str(refused.value) or "may stand there" in str(refused.value)


def test_arbitrary_bytes_are_refused_and_raise_nothing_else(log: MemoryLedger) -> None:
    rng = random.Random(7)
    for _ in range(3000):
        data = bytearray(rng.choice(log.entries))
        for _ in range(rng.choice((1, 2, 8))):
            data[rng.randrange(len(data))] = rng.choice((0, 1, 2, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        cut = bytes(data[: rng.randrange(len(data) + 1)]) if rng.random() < 0.3 else bytes(data)
        if cut not in log.entries:
            with contextlib.suppress(LedgerBroken):
                Entry.read(cut, 0)


def of_a_later_schema(entries: list[bytes], content: bytes = b"\x0a what nobody knows yet") -> bytes:
    """The next entry, in a schema that begins as ours and goes on with a body that this version has never heard of."""
    head = read(entries).head
    recorded_at = Entry.make(head.length, head.digest, NOW, Retired("x")).data[10:][: 1 + 32 + 6]
    return b"\xc3\x01" + bytes(range(8)) + recorded_at + content


def test_an_entry_of_a_newer_version_is_told_as_such_and_not_as_damage(log: MemoryLedger) -> None:
    newer = of_a_later_schema(log.entries)
    chain = read(log.entries)
    with pytest.raises(LedgerNewer, match=r"entry 10 was written by a newer version .* Use the newer version"):
        chain.extend(newer)
    assert chain.head.length == 10, "nothing was changed"
    # Where it does not belong it is no entry of anybody's, and what a known schema says is written in that schema.
    misplaced = [*log.entries[:-1], newer]
    renamed = [*log.entries[:-1], newer[:10] + log.entries[-1][10:]]
    for entries in (misplaced, renamed):
        with pytest.raises(LedgerBroken, match="altered or damaged"):
            read(entries)


@pytest.mark.parametrize("body", [Retired("one"), StateLost(2), Settled(bytes(32))])
def test_a_settlement_is_followed_by_its_releases_and_nothing_else(body: Any, log: MemoryLedger) -> None:
    settled = forged(log, Settled(bytes(32)))
    head = read(settled).head
    with pytest.raises(LedgerBroken, match="is followed by its releases"):
        read([*settled, Entry.make(head.length, head.digest, NOW, body).data])
    read([*settled, Entry.make(head.length, head.digest, NOW, release(of("one"), 3)).data])


def forged(log: MemoryLedger, body: Any) -> list[bytes]:
    """Append an entry that is well made and that the rules do not allow."""
    head = read(log.entries).head
    return [*log.entries, Entry.make(head.length, head.digest, NOW, body).data]


@pytest.mark.parametrize(
    "body, says",
    [
        (Opened(bytes(32), Decimal(9), 1), "opened once"),
        (Declared(of("one")), "declared already"),
        (Declared(of("three", epsilon=0.001)), "lifetime epsilon"),
        (release(of("one")), "released already"),
        (release(of("one"), 4), "period by period"),
        (release(of("one", epsilon=0.4), 3), "not declared so"),
        (release(of("unheard"), 3), "not declared so"),
        (release(of("two", by=["colour"]), 2), "retired"),
        (release(of("one"), 3, values=(1, 2)), "does not cover"),
        (release(of("one"), 3, period_end=dt.date(2024, 3, 30)), "does not cover"),
        (Retired("two"), "to retire"),
        (Retired("unheard"), "to retire"),
        (StateLost(1), "one by one"),
        (StateLost(3), "one by one"),
        (release(of("one"), 3), "follows its settlement"),
    ],
)
def test_an_entry_that_the_rules_forbid_breaks_the_chain_even_when_it_is_well_made(
    body: Any, says: str, log: MemoryLedger
) -> None:
    with pytest.raises(LedgerBroken, match=says):
        read(forged(log, body))


@pytest.mark.parametrize(
    "body, says",
    [
        (Opened(bytes(32), Decimal(0), 1), "positive number"),
        (Opened(bytes(32), Decimal(1), 0), "at least one partition"),
        (Retired("one"), "opened once"),
    ],
)
def test_an_opening_that_the_rules_forbid_opens_nothing(body: Any, says: str) -> None:
    with pytest.raises(LedgerBroken, match=says):
        read([Entry.make(0, GENESIS, NOW, body).data])


@pytest.mark.promise("closed-for-ever")
def test_a_release_out_of_order_or_twice_is_never_appended(log: MemoryLedger) -> None:
    ledger = opened(log)
    for body in (release(of("one"), 5), release(of("one"), 2)):
        with pytest.raises(LedgerBroken):
            ledger.append([body], NOW)
        with pytest.raises(LedgerBroken):
            ledger.append([release(of("one"), 3), body], NOW)
    assert len(log.entries) == 10


def test_a_fenced_releaser_appends_nothing_and_a_reader_cannot_append(log: MemoryLedger) -> None:
    first, second = opened(log), opened(log)
    with pytest.raises(LedgerFenced):
        first.append([release(of("one"), 3)], NOW)
    assert len(log.entries) == 10
    second.append([release(of("one"), 3)], NOW)
    reader = TrialLedger(log)
    reader.refresh()
    with pytest.raises(LedgerError, match="reading only"):
        reader.append([release(of("one"), 4)], NOW)


def test_a_ledger_that_is_replaced_or_shortened_while_it_is_open_is_refused(log: MemoryLedger) -> None:
    ledger = opened(log)
    whole = list(log.entries)
    log.entries[:] = whole[:3]
    with pytest.raises(LedgerBehind):
        ledger.refresh()
    other = MemoryLedger()
    opened(other).declare([of(f"s{number}", 0.1) for number in range(9)], ONE, NOW, end=END)
    log.entries[:] = other.entries
    with pytest.raises(LedgerBroken, match="replaced"):
        ledger.refresh()


def test_an_older_entry_that_is_altered_while_the_ledger_is_open_is_found_by_an_audit(log: MemoryLedger) -> None:
    ledger = opened(log)
    whole = list(log.entries)
    for index in range(len(whole) - 1):
        log.entries[index] = whole[index][:-1] + bytes([whole[index][-1] ^ 1])
        ledger.refresh()  # which is not for that
        with pytest.raises(LedgerBroken, match=f"entry {index} is another one .* Put the newest ledger back"):
            ledger.audit()
        log.entries[index] = whole[index]
        ledger.audit()
    log.entries[:] = whole[:-1]
    with pytest.raises(LedgerBehind, match="lost entries"):
        ledger.audit()
    opened(other := MemoryLedger()).declare([of("one"), of("two", by=["colour"])], ONE, NOW, end=END)
    log.entries[:] = [*other.entries, *whole[len(other.entries) :]]
    with pytest.raises(LedgerBroken, match="replaced"):
        ledger.audit()


def test_an_audit_verifies_what_is_new_too(log: MemoryLedger) -> None:
    first = TrialLedger(log)
    first.refresh()
    opened(log).append([release(of("one"), 3)], NOW)
    first.audit()
    assert first.chain.head.length == 12
    log.entries.append(b"no entry")
    with pytest.raises(LedgerBroken):
        first.audit()


def test_a_ledger_behind_what_was_built_from_it_is_told_apart_from_one_that_went_on(log: MemoryLedger) -> None:
    ledger = opened(log)
    heads = [Head(entry.index + 1, entry.digest) for entry in ledger.chain.entries]
    for head in heads:
        ledger.check_not_behind(head, "statistics.duckdb")
    ledger.check_not_behind(Head(0, b""), "statistics.duckdb")
    for head in (Head(11, heads[-1].digest), Head(10, heads[-2].digest)):
        with pytest.raises(LedgerBehind, match=r"statistics\.duckdb"):
            ledger.check_not_behind(head, "statistics.duckdb")


def test_an_append_that_does_not_come_back_as_written_is_not_trusted(log: MemoryLedger) -> None:
    ledger = opened(log)

    def swallow(entries: Any, places: Any = (), *, epoch: int, expected: int) -> None:
        """Lose what was acknowledged."""

    log.append = swallow  # type: ignore[method-assign]
    with pytest.raises(LedgerError, match="did not come back"):
        ledger.append([release(of("one"), 3)], NOW)


def test_an_empty_ledger_says_how_it_is_opened() -> None:
    with pytest.raises(LedgerError, match="quietcount run"):
        _ = Chain().opened
