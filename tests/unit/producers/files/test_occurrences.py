"""What is remembered of a file's lines: as much as a dict would tell, in a tenth of the memory."""

from __future__ import annotations

import random
import sys
from collections import Counter

import pytest

from quietcount_producers.files import occurrences
from quietcount_producers.files.occurrences import Identities, LookAlikes, Occurrences

pytestmark = pytest.mark.quick


def check_counting() -> None:
    seed = random.randrange(10**9)
    print("seed", seed)
    chance = random.Random(seed)
    counted: Counter[bytes] = Counter()
    seen = Occurrences()
    for _ in range(20_000):
        facts = b"facts %d" % chance.randrange(10_000)
        assert seen.next(facts) == counted[facts], "a line was counted wrongly"
        counted[facts] += 1


def test_equal_lines_are_counted_as_a_counter_does() -> None:
    check_counting()


def test_hashes_that_are_found_across_two_entries_are_told_apart() -> None:
    """Entries lie side by side, so that the end of one and the beginning of the next look like a third."""
    packed = bytearray(b"\x01\x02\x02\x03")
    assert occurrences._place(packed, b"\x02\x02", 2) == -1
    assert occurrences._place(packed, b"\x02\x03", 2) == 2


def test_a_memory_that_finds_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occurrences, "_place", lambda *_: -1)
    with pytest.raises(AssertionError, match="counted wrongly"):
        check_counting()


def test_an_identity_is_told_where_it_had_other_content() -> None:
    known = Identities()
    known.begin("a.csv")
    assert known.other(b"one", b"x", 7) is None
    assert known.other(b"one", b"x", 8) is None
    assert known.other(b"one", b"y", 9) == "line 7"
    known.begin("b.csv")
    assert known.other(b"one", b"y", 1) == "line 7 of a.csv"
    assert known.other(b"two", b"y", 2) is None


@pytest.mark.check
def test_a_line_costs_some_bytes() -> None:
    lines = 200_000
    seen = Occurrences()
    for number in range(lines):
        seen.next(b"facts %d" % number)
    assert sum(map(sys.getsizeof, seen._once._suffixes.values())) < 16 * lines


def test_identifiers_that_look_alike_are_found_among_many_and_in_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(occurrences, "_MOST_NAMED", 2000)
    looked = LookAlikes()
    for number in range(6000):
        looked.add(f"case {number}", number)
    looked.add("CASE 17", 6000)
    looked.add("CASE 17", 6001)
    looked.add("Case 17 ", 6002)
    looked.add("CASE 5999", 6003)
    assert looked.pairs() == [(17, 6000), (17, 6002)]
    assert len(looked._first) < 2000 + occurrences._BATCH
