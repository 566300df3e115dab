"""The private log of places: each belongs to one ledger entry, which holds a commitment that nobody can guess from."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from tests.aggregates_world import SIGNING_KEY, MemoryLedger
from tests.unit.aggregates.ledger.ledgers import END, NOW, ONE, of, opened, release

from quietcount_aggregates.errors import LedgerBehind, LedgerBroken, LedgerError
from quietcount_aggregates.ledger.entries import Declared, Settled, commitment_of
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.places import LONGEST, LogPoint, Place

pytestmark = pytest.mark.quick

POINT = LogPoint("a log", {1: 1234, 0: 0, 10: 2**62})


@pytest.fixture
def log() -> MemoryLedger:
    """A ledger with a later declaration and three settlements, and the place of each."""
    log = MemoryLedger()
    ledger = opened(log)
    ledger.declare([of("one")], ONE, NOW, end=LogPoint("memory", {0: 3}))
    ledger.append([Settled(), release(of("one"))], NOW, LogPoint("memory", {0: 5}))
    ledger.append([Settled(), release(of("one"), 2)], NOW, LogPoint("memory", {0: 8}))
    ledger.append([Settled(), release(of("one"), 3)], NOW, LogPoint("memory", {0: 13}))
    return log


def fenced(log: MemoryLedger) -> Ledger:
    ledger = Ledger(log, SIGNING_KEY.public)
    ledger.fence()
    return ledger


def test_a_place_is_read_back_as_it_was_written() -> None:
    place = Place.make(7, POINT)
    assert Place.read(place.data, 0) == place
    assert len(place.key) == 32
    assert Place.make(7, POINT).key != place.key


def test_a_commitment_is_of_one_entry_one_log_and_one_offset_of_each_partition() -> None:
    key = bytes(range(32))
    others = [
        Place(7, POINT, key),
        Place(8, POINT, key),
        Place(7, LogPoint("another", POINT.offsets), key),
        Place(7, LogPoint("a log", {**POINT.offsets, 1: 1235}), key),
        Place(7, LogPoint("a log", {0: 0, 1: 1234}), key),
        Place(7, POINT, bytes(32)),
    ]
    assert len({place.commitment for place in others}) == len(others)
    assert Place(7, LogPoint("a log", dict(sorted(POINT.offsets.items()))), key) == others[0]


@pytest.mark.parametrize(
    "change",
    [
        {"entry": True},
        {"entry": -1},
        {"entry": "7"},
        {"entry": 2**63},
        {"log": 7},
        {"offsets": {"0": 1}},
        {"offsets": [[0, 1, 2]]},
        {"offsets": [[0, 1.0]]},
        {"offsets": [[0, False]]},
        {"offsets": [[0, -1]]},
        {"offsets": [[1, 1], [0, 1]]},
        {"offsets": [[0, 1], [0, 1]]},
        {"offsets": None},
        {"key": "00" * 31},
        {"key": "AB" * 32},
        {"key": 7},
        {"more": 1},
    ],
)
def test_a_place_that_is_not_written_as_quietcount_writes_it_is_refused(change: dict[str, Any]) -> None:
    record = json.loads(Place.make(7, POINT).data) | change
    with pytest.raises(LedgerBroken, match=r"place 3 .* was altered or damaged.*docs/recovery\.md"):
        Place.read(json.dumps(record, sort_keys=True, separators=(",", ":")).encode(), 3)


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"7", b"[]", b"{}", b"[" * 100_000, b" " * (LONGEST + 1), Place.make(7, POINT).data + b"\n"]
)
def test_bytes_that_are_no_place_are_refused_and_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(LedgerBroken, match="place 0"):
        Place.read(data, 0)


def test_every_entry_that_has_a_place_has_it_from_the_same_append(log: MemoryLedger) -> None:
    ledger = fenced(log)
    placed = [entry.index for entry in ledger.chain.entries if commitment_of(entry.body) is not None]
    assert [Place.read(data, number).entry for number, data in enumerate(log.places)] == placed == [1, 2, 4, 6]
    assert ledger.declared_at("one") == LogPoint("memory", {0: 3})
    assert ledger.settled_at == LogPoint("memory", {0: 13})


def test_what_the_ledger_is_opened_with_has_no_place() -> None:
    log = MemoryLedger()
    ledger = fenced(log)
    assert ledger.settled_at is None
    ledger.declare([of("one")], ONE, NOW, end=END)
    assert ledger.declared_at("one") is None
    assert ledger.declared_at("unheard") is None
    assert log.places == []
    forged = ledger.chain.entries[:1]
    assert forged[0].body is not None
    with pytest.raises(LedgerBroken, match="has to have a place if, and only if, it is declared later"):
        ledger.append([Declared(of("two"), whole_log=True, place=bytes(32))], NOW)


@pytest.mark.parametrize("body", [Settled(), Declared(of("two", 0.1))])
def test_no_entry_is_appended_without_its_place(body: Any, log: MemoryLedger) -> None:
    with pytest.raises(LedgerError, match="without it"):
        fenced(log).append([body], NOW)
    assert len(log.entries) == 8


def test_places_that_do_not_come_back_are_not_trusted(log: MemoryLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant of the log, which keeps the entries alone."""
    real = log.append
    ledger = fenced(log)
    monkeypatch.setattr(log, "append", lambda entries, _, **more: real(entries, **more))
    with pytest.raises(LedgerError, match="did not come back"):
        ledger.append([Settled(), release(of("one"), 4)], NOW, END)


@pytest.mark.promise("ledger-chain")
@pytest.mark.parametrize("number", range(4))
def test_a_place_that_is_not_what_its_entry_commits_to_is_refused(number: int, log: MemoryLedger) -> None:
    place = Place.read(log.places[number], number)
    for altered in (
        Place(place.entry, LogPoint("memory", {0: 4}), place.key),
        Place(place.entry, place.point, bytes(32)),
        Place(0, place.point, place.key),
        Place.make(place.entry, place.point),
    ):
        log.places[number] = altered.data
        with pytest.raises(LedgerBroken, match=f"place {number} .* commits to"):
            fenced(log)


@pytest.mark.promise("older-refused")
def test_a_ledger_that_is_older_than_its_places_is_refused(log: MemoryLedger) -> None:
    fenced(log).check_places()
    del log.entries[-2:]
    with pytest.raises(LedgerBehind, match="older copy"):
        fenced(log).check_places()


@pytest.mark.parametrize("gone", [[1], [2], [3], [1, 2, 3], [0, 2]])
def test_a_place_that_is_gone_is_missed(gone: list[int], log: MemoryLedger) -> None:
    log.places[:] = [place for number, place in enumerate(log.places) if number not in gone]
    with pytest.raises(LedgerBroken, match="is missing"):
        fenced(log).check_places()


@pytest.mark.parametrize("first", range(5))
def test_places_before_which_a_ledger_was_restored_are_not_missed(first: int, log: MemoryLedger) -> None:
    del log.places[:first]
    fenced(log).check_places()


def test_a_restored_ledger_has_no_places_and_knows_of_none(log: MemoryLedger) -> None:
    log.places.clear()
    ledger = fenced(log)
    assert (ledger.settled_at, ledger.declared_at("one")) == (None, None)
    ledger.append([Settled(), release(of("one"), 4)], NOW, LogPoint("memory", {0: 21}))
    again = fenced(log)
    assert again.declared_at("one") is None
    assert again.settled_at == LogPoint("memory", {0: 21})


def guessed(place: Place) -> bool:
    """Try every offset up to 10,000, as who reads the ledger could: all but the key is known, or easily tried."""
    wanted = place.commitment
    return any(
        wanted in (hashlib.sha256(text).digest(), Place(place.entry, point, bytes(32)).commitment)
        for point in (LogPoint(place.point.topic_id, {0: offset}) for offset in range(10_001))
        for text in [_keyless(place.entry, point)]
    )


def _keyless(entry: int, point: LogPoint) -> bytes:
    offsets = [[partition, offset] for partition, offset in sorted(point.offsets.items())]
    record = {"entry": entry, "log": point.topic_id, "offsets": offsets}
    return b"quietcount place\x00" + json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.promise("no-exact-count")
def test_no_offset_is_guessed_from_a_commitment() -> None:
    assert not guessed(Place.make(7, LogPoint("memory", {0: 4321})))


@pytest.mark.parametrize("mutant", ["no key", "a key that everybody has"])
def test_a_commitment_that_can_be_guessed_is_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place.make(7, LogPoint("memory", {0: 4321}))
    if mutant == "no key":
        plain = property(lambda self: hashlib.sha256(_keyless(self.entry, self.point)).digest())
        monkeypatch.setattr(Place, "commitment", plain)
    else:
        place = Place(place.entry, place.point, bytes(32))
    assert guessed(place)
