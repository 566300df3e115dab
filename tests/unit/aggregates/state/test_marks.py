"""Marks are the standard's CMAC, whatever the batch, and secrets are files that only their owner reads."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.cmac import CMAC

from quietcount_aggregates.errors import StateError, StateUnwritable
from quietcount_aggregates.state import marks
from quietcount_aggregates.state.marks import ConsumerSecret, YearSecrets

pytestmark = pytest.mark.quick

# RFC 4493, section 4, with the 256-bit key of NIST SP 800-38B, appendix D.3: one whole block, and two of Mlen = 256
# are not among its examples, so the second half is checked against an independent implementation below.
NIST_KEY = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
NIST_BLOCK = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
NIST_MAC = bytes.fromhex("28a7023f452e8f82bd4bf28d8c37c35c")


def matrix(*rows: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), 16)


def as_bytes(words: np.ndarray[tuple[int, ...], np.dtype[np.uint64]]) -> list[bytes]:
    return [row.astype(">u8").tobytes() for row in words]


def test_the_mac_of_one_block_is_the_one_of_the_standards_example() -> None:
    assert as_bytes(marks._BulkMac(NIST_KEY).of(matrix(NIST_BLOCK))) == [NIST_MAC]


def test_every_mac_of_a_batch_is_what_an_independent_implementation_gives() -> None:
    key = os.urandom(32)
    left, right = [os.urandom(16) for _ in range(500)], [os.urandom(16) for _ in range(500)]

    def expected(message: bytes) -> bytes:
        mac = CMAC(algorithms.AES(key))
        mac.update(message)
        return mac.finalize()

    bulk = marks._BulkMac(key)
    assert as_bytes(bulk.of(matrix(*left))) == [expected(a) for a in left], key.hex()
    assert as_bytes(bulk.of(matrix(*left), matrix(*right))) == [
        expected(a + b) for a, b in zip(left, right, strict=True)
    ], key.hex()


def test_an_event_id_that_two_cases_share_has_two_marks() -> None:
    secret = ConsumerSecret(os.urandom(32))
    cases, event = matrix(os.urandom(16), os.urandom(16)), os.urandom(16)
    first, second = as_bytes(secret.event_marks(cases, matrix(event, event)))
    assert first != second


def test_another_secret_makes_other_marks_and_another_check() -> None:
    one, other = ConsumerSecret(b"a" * 32), ConsumerSecret(b"b" * 32)
    case = matrix(os.urandom(16))
    assert as_bytes(one.case_marks(case)) != as_bytes(other.case_marks(case))
    assert one.check != other.check
    assert "a" * 8 not in repr(one)


def test_a_secret_file_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "service"
    made = ConsumerSecret.generate(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert ConsumerSecret.load(path).check == made.check
    with pytest.raises(StateError, match="not overwritten"):
        ConsumerSecret.generate(path)


@pytest.mark.promise("secrets-private")
def test_a_secret_that_others_can_read_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "service"
    ConsumerSecret.generate(path)
    path.chmod(0o640)
    with pytest.raises(StateError, match=f"chmod 600 {path}"):
        ConsumerSecret.load(path)


@pytest.mark.parametrize("content, reason", [(b"xyz\n", "hexadecimal"), (b"abcd\n", "fewer than 32")])
def test_a_damaged_secret_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "service"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(StateError, match=reason):
        ConsumerSecret.load(path)


def test_a_missing_secret_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StateError) as missing:
        ConsumerSecret.load(tmp_path / "none")
    assert missing.value.remedy.endswith("quietcount ledger record-loss --lost secret")
    assert "init" not in missing.value.remedy, "a new project is no remedy for one that has a ledger"


def test_marks_of_a_year_come_back_until_its_secret_is_destroyed(tmp_path: Path) -> None:
    years = YearSecrets(tmp_path / "years")
    cases = np.array([[1, 2], [3, 4]], dtype=np.uint64)
    years.create(2023)
    years.create(2024)
    first = years.marks(2023, cases)
    assert (years.marks(2023, cases) == first).all()
    assert (years.marks(2024, cases) != first).any()
    assert years.years() == [2023, 2024]
    years.destroy(2023)
    assert years.years() == [2024]
    with pytest.raises(StateError, match="missing"):
        years.marks(2023, cases)
    years.create(2023)
    assert (years.marks(2023, cases) != first).any(), "the secret that was destroyed came back"


def test_a_folder_of_years_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "secrets" / "years"
    years = YearSecrets(folder)
    years.prepare()
    assert folder.stat().st_mode & 0o777 == 0o700
    before = tmp_path.joinpath("secrets").stat()
    years.prepare()
    years.create(2023)
    after = tmp_path.joinpath("secrets").stat()
    assert (after.st_mtime_ns, after.st_nlink) == (before.st_mtime_ns, before.st_nlink)


def test_a_folder_of_years_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    assert YearSecrets(tmp_path / "none").years() == []
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(StateUnwritable, match=f"{tmp_path}: must be a folder that can be read"):
        YearSecrets(tmp_path).years()
