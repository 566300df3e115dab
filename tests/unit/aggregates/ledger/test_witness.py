"""The witness remembers the newest ledger across crashes, and its folder tells nothing of when it did."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quietcount_aggregates.errors import LedgerBehind, LedgerError, LedgerUnwritable
from quietcount_aggregates.ledger.entries import Head
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.witness import Witness

pytestmark = pytest.mark.quick

HEADS = [Head(length, bytes([length]) * 32) for length in range(1, 6)]


class NoLedger:
    """Holds nothing: whatever a witness has seen is not there."""

    def check_not_behind(self, head: Head, where: str) -> None:
        raise LedgerBehind(f"{where} {head.length}")


def remembered(witness: Witness) -> str:
    """What the witness has seen last, as it says to a ledger that lacks it."""
    ledger: Ledger = NoLedger()  # type: ignore[assignment]
    with pytest.raises(LedgerBehind) as refusal:
        witness.check(ledger)
    return str(refusal.value)


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness(tmp_path / "service-head")


def test_the_newest_head_is_what_counts(witness: Witness) -> None:
    for head in HEADS:
        witness.see(head)
        assert remembered(Witness(witness.path)) == f"service-head {head.length}"
    assert witness.path.stat().st_mode & 0o777 == 0o600


def test_a_head_that_was_seen_already_is_not_written_again(witness: Witness) -> None:
    witness.see(HEADS[0])
    before = witness.path.read_bytes()
    witness.see(HEADS[0])
    assert witness.path.read_bytes() == before


def test_the_folder_stands_still_when_a_head_is_seen(witness: Witness) -> None:
    witness.see(HEADS[0])
    os.utime(witness.path.parent, (1, 1))
    for head in HEADS[1:]:
        witness.see(head)
    assert witness.path.parent.stat().st_mtime == 1


@pytest.mark.parametrize("written", range(1, 60))
def test_a_crash_amid_a_line_leaves_what_was_seen_before_and_the_next_line_is_whole(
    witness: Witness, written: int
) -> None:
    witness.see(HEADS[0])
    kept = witness.path.read_bytes()
    witness.see(HEADS[1])
    line = witness.path.read_bytes()[len(kept) :]
    witness.path.write_bytes(kept + line[:written])
    assert remembered(witness) == "service-head 1"
    witness.see(HEADS[2])
    assert remembered(witness) == "service-head 3"


def test_the_file_of_an_earlier_version_is_read_on(witness: Witness) -> None:
    witness.path.write_text(f"7 {'ab' * 32}\n", encoding="ascii")
    assert remembered(witness) == "service-head 7"


@pytest.mark.parametrize("content", [b"", b"nonsense", b"nonsense\n", b"1 zz\n", b"\xff 00\n", b"1 00\n2\n"])
def test_what_is_no_witness_is_refused_and_never_written_over(witness: Witness, content: bytes) -> None:
    witness.path.write_bytes(content)
    with pytest.raises(LedgerError, match="is not a witness"):
        witness.check(NoLedger())  # type: ignore[arg-type]
    with pytest.raises(LedgerError, match="is not a witness"):
        witness.see(HEADS[0])
    assert witness.path.read_bytes() == content


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnwritable, match="cannot be written"):
        Witness(tmp_path / "gone" / "service-head").see(HEADS[0])
