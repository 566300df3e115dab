"""The ledger's SQLite file: what it is told from, and what is said when it is damaged."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from quietcount_aggregates.errors import LedgerBroken, LedgerError, LedgerUnwritable
from quietcount_consumers.embedded_ledger import APPLICATION_ID, EmbeddedLedger
from quietcount_producers.embedded.embedded_log import EmbeddedLog

pytestmark = pytest.mark.quick


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with two entries."""
    path = tmp_path / "ledger.sqlite"
    with EmbeddedLedger(path) as ledger:
        ledger.append([b"one", b"two"], epoch=ledger.fence(), expected=0)
    return path


def altered(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def used(path: Path) -> list[bytes]:
    """Open, fence and read, as a releaser does."""
    with EmbeddedLedger(path) as ledger:
        ledger.fence()
        return ledger.read()


def test_what_was_appended_is_there_under_a_kind_of_its_own(path: Path) -> None:
    assert used(path) == [b"one", b"two"]
    with EmbeddedLedger(path, create=False) as ledger:
        assert ledger.read(1) == [b"two"]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert path.stat().st_mode & 0o777 == 0o600


def check_places_go_with_their_entries(kind: type[EmbeddedLedger], path: Path) -> None:
    """The file does not take the second place, as a disk that is full may not."""
    altered(path, "CREATE TRIGGER full BEFORE INSERT ON places WHEN new.place = 'b' BEGIN SELECT raise(ABORT, ''); END")
    with kind(path) as ledger:
        with pytest.raises(LedgerError):
            ledger.append([b"three"], [b"a", "b"], epoch=ledger.fence(), expected=2)  # type: ignore[list-item]
        assert (ledger.read(), ledger.read_places()) == ([b"one", b"two"], [])


def test_places_go_with_their_entries_or_neither_is_appended(path: Path) -> None:
    check_places_go_with_their_entries(EmbeddedLedger, path)


class Apart(EmbeddedLedger):
    """Writes places in a transaction of their own."""

    def append(self, entries: Sequence[bytes], places: Sequence[bytes] = (), *, epoch: int, expected: int) -> None:
        super().append(entries, epoch=epoch, expected=expected)
        super().append([], places, epoch=epoch, expected=expected + len(entries))


def test_places_that_are_written_apart_from_their_entries_are_caught(path: Path) -> None:
    with pytest.raises(AssertionError):
        check_places_go_with_their_entries(Apart, path)


@pytest.mark.parametrize("statement", ["UPDATE places SET place = x'00'", "DELETE FROM places"])
def test_a_place_is_neither_changed_nor_deleted_by_mistake(statement: str, path: Path) -> None:
    with EmbeddedLedger(path) as ledger:
        ledger.append([b"three"], [b"a"], epoch=ledger.fence(), expected=2)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        altered(path, statement)


def test_a_log_in_the_place_of_the_ledger_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with EmbeddedLog(path) as log:
        log.create_topic("case-events")
    before = path.read_bytes()
    for create in (True, False):
        with pytest.raises(LedgerError, match=r"a copy of log\.sqlite was put in its place"):
            EmbeddedLedger(path, create=create)
    assert path.read_bytes() == before


def test_somebody_elses_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    altered(path, "CREATE TABLE theirs (a)")
    before = path.read_bytes()
    with pytest.raises(LedgerBroken, match="is damaged or not a ledger"):
        EmbeddedLedger(path)
    assert path.read_bytes() == before


def test_a_newer_format_asks_for_the_newer_quietcount(path: Path) -> None:
    altered(path, "PRAGMA user_version = 2")
    with pytest.raises(LedgerError, match=r"format 2.*Use the newer quietcount"):
        EmbeddedLedger(path)


@pytest.mark.parametrize("content", [None, b""])
def test_a_reader_brings_no_ledger_into_being(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ledger.sqlite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LedgerError, match="there is no ledger yet"):
        EmbeddedLedger(path, create=False)
    assert path.exists() is (content is not None)
    assert not path.exists() or path.stat().st_size == 0


@pytest.mark.parametrize(
    "statements",
    [
        ["DROP TABLE entries"],
        ["DROP TABLE fence"],
        ["DELETE FROM fence"],
        ["UPDATE fence SET epoch = 'no number'"],
        ["DROP TRIGGER entries_are_not_changed", "UPDATE entries SET entry = 'text' WHERE \"index\" = 1"],
        ["DROP TRIGGER entries_are_not_changed", "UPDATE entries SET entry = CAST(x'ff' AS TEXT) WHERE \"index\" = 1"],
        ["DROP TRIGGER entries_are_not_changed", 'UPDATE entries SET entry = 1000000000000 WHERE "index" = 1'],
        [
            "DROP TABLE entries",
            'CREATE TABLE entries ("index" INTEGER PRIMARY KEY, entry BLOB)',
            "INSERT INTO entries VALUES (0, NULL)",
        ],
    ],
    ids=["no entries", "no fence", "empty fence", "no epoch", "text", "not UTF-8", "number", "null"],
)
def test_a_ledger_whose_rows_are_not_a_ledgers_is_broken(path: Path, statements: list[str]) -> None:
    altered(path, *statements)
    with pytest.raises(LedgerBroken, match=r"is damaged or not a ledger\. Put your newest backup of the ledger back"):
        used(path)


def test_a_damaged_file_is_said_to_be_damaged_wherever_the_damage_lies(path: Path) -> None:
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 61):
        path.write_bytes(whole[:place] + b"\xff" * min(61, len(whole) - place) + whole[place + 61 :])
        with contextlib.suppress(LedgerError):
            used(path)  # a byte that nothing reads does no harm, and the chain finds a changed entry
            refused -= 1
        refused += 1
        for suffix in ("-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
    assert refused > 10


def test_a_right_that_was_lost_is_no_ledger_that_was_replaced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with EmbeddedLedger(path) as ledger:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "stat", denied)
            for act in (ledger.read, lambda: EmbeddedLedger(path, create=False)):
                with pytest.raises(LedgerUnwritable, match=r"cannot be looked at .* Mend the rights"):
                    act()
        assert ledger.read() == [b"one", b"two"]
        path.rename(path.with_name("away"))
        with pytest.raises(LedgerBroken, match="was moved away or replaced"):
            ledger.read()


def test_a_ledger_held_by_another_process_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quietcount_consumers.embedded_ledger.BUSY_TIMEOUT_SECONDS", 0.05)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="another process holds the ledger"):
            used(path)


def test_what_an_error_means_is_told_by_its_code_and_not_by_its_words(tmp_path: Path) -> None:
    """A folder whose name sounds like an error is none."""
    path = tmp_path / "full locked malformed" / "ledger.sqlite"
    with pytest.raises(LedgerError, match="Check that the folder exists"):
        EmbeddedLedger(path)


@pytest.mark.parametrize("content", [b"not a database" * 1000, None], ids=["garbage", "whole"])
def test_a_reader_on_a_disk_that_cannot_be_written_reads_or_says_why_not(
    path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    def unwritable(*_: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr("quietcount_consumers.embedded_ledger._is_still", lambda _: True)
    monkeypatch.setattr(EmbeddedLedger, "_prepare", unwritable)
    if content is None:
        with EmbeddedLedger(path, create=False) as ledger:
            assert ledger.read() == [b"one", b"two"]
        return
    path.write_bytes(content)
    with pytest.raises(LedgerBroken, match="is damaged or not a ledger"):
        EmbeddedLedger(path, create=False)
