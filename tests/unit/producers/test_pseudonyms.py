from __future__ import annotations

import hashlib
import hmac
import pickle
import stat
import unicodedata
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietcount_producers import EventRefused, Pepper, ProducersError

pytestmark = pytest.mark.quick

SECRET = bytes(range(32))
PEPPER = Pepper(SECRET)


@pytest.mark.promise("pseudonyms")
def test_a_case_key_is_the_keyed_hash_of_the_identifier_cut_to_16_bytes() -> None:
    assert PEPPER.case_key("Иван") == hmac.digest(SECRET, "Иван".encode(), hashlib.sha256)[:16]


def test_forms_of_one_identifier_have_one_key() -> None:
    composed = PEPPER.case_key("Йозеф")
    assert PEPPER.case_key(unicodedata.normalize("NFD", "Йозеф")) == composed
    assert PEPPER.case_key("  Йозеф\n") == composed
    assert PEPPER.case_key("йозеф") != composed


@pytest.mark.parametrize("identifier", ["", " ", "\n\t", "\ud800"])
def test_an_identifier_without_text_is_refused(identifier: str) -> None:
    with pytest.raises(EventRefused, match=r"^case: "):
        PEPPER.case_key(identifier)


def test_another_pepper_gives_another_key() -> None:
    assert Pepper(bytes(range(1, 33))).case_key("a") != PEPPER.case_key("a")


@given(st.binary(max_size=80), st.integers(0, 2**32))
def test_a_derived_event_id_is_a_uuid_of_version_4_and_no_case_key(canonical: bytes, occurrence: int) -> None:
    derived = PEPPER.derived_event_id(canonical, occurrence)
    identity = uuid.UUID(bytes=derived)
    assert (identity.version, identity.variant) == (4, uuid.RFC_4122)
    assert derived == PEPPER.derived_event_id(canonical, occurrence)
    assert derived != PEPPER.derived_event_id(canonical, occurrence + 1)
    assert derived[:6] != hmac.digest(SECRET, occurrence.to_bytes(8, "big") + canonical, hashlib.sha256)[:6]


def test_a_generated_pepper_is_private_and_loads(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    made = Pepper.generate(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Pepper.load(path).case_key("a") == made.case_key("a")
    with pytest.raises(ProducersError, match="already"):
        Pepper.generate(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o610])
def test_a_pepper_open_to_others_is_refused_with_the_command_that_mends_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "pepper"
    Pepper.generate(path)
    path.chmod(mode)
    with pytest.raises(ProducersError, match=f"chmod 600 {path}"):
        Pepper.load(path)
    path.chmod(0o400)
    Pepper.load(path)


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"short", b"a" * 64, b"\n" * 64, b"0123456789" * 1000])
def test_a_weak_pepper_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pepper"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ProducersError, match="pepper"):
        Pepper.load(path)


def test_a_missing_pepper_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ProducersError, match="There is no pepper"):
        Pepper.load(tmp_path / "absent")
    with pytest.raises(ProducersError, match="Cannot read the pepper"):
        Pepper.load(tmp_path)


def test_a_pepper_shows_nothing_of_itself() -> None:
    assert "secret" in repr(PEPPER)
    assert SECRET.hex() not in repr(PEPPER)
    assert not hasattr(PEPPER, "__dict__")
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(PEPPER)
