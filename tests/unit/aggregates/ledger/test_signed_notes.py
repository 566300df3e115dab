"""Signed notes: what others sign is read and checked as the specification has it, and nothing but that."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.aggregates_world import signing_key

from quietcount_aggregates.errors import KeyMissing, LedgerError, NoteError, SigningKeyError
from quietcount_aggregates.ledger.signed_notes import (
    COSIGNATURE,
    ED25519,
    SignedNote,
    SigningKey,
    VerifierKey,
    cosign,
    sign,
)

pytestmark = [pytest.mark.quick, pytest.mark.promise("signed-heads")]

# The example of c2sp.org/signed-note.
VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)

KEY = signing_key(1)
OWNER = VerifierKey("quietcount.example/1", ED25519, KEY.public)
PARTNER_KEY = signing_key(2)
PARTNER = VerifierKey("partner.example", COSIGNATURE, PARTNER_KEY.public)

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n"), max_size=60).map("{}\n".format)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="+"), min_size=1, max_size=20)


def test_the_example_of_the_specification_holds_and_is_written_as_it_was_read() -> None:
    key, note = VerifierKey.parse(VKEY), SignedNote.parse(NOTE)
    assert (key.text, note.data) == (VKEY, NOTE)
    assert note.verified(key) is not None


def test_the_cosigned_checkpoint_of_the_specification_is_read_and_written_as_it_is() -> None:
    """The page of c2sp.org/tlog-cosignature shows no keys for it."""
    data = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "— example.com/behind-the-sofa "
        "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
        "— witness.example.com/w1 "
        "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
    )
    note = SignedNote.parse(data)
    assert note.data == data
    assert int.from_bytes(note.signatures[1].content[:8], "big") == 1679315147


@given(text=TEXTS, name=NAMES, timestamp=st.integers(0, 2**63 - 1))
@settings(max_examples=60)
def test_what_is_signed_is_read_back_and_holds(text: str, name: str, timestamp: int) -> None:
    note = sign(text, KEY, name)
    note = note.with_signatures(cosign(note, PARTNER_KEY, "partner.example", timestamp))
    again = SignedNote.parse(note.data.encode())
    assert again == note
    assert again.verified(VerifierKey.parse(VerifierKey(name, ED25519, KEY.public).text)) is not None
    held = again.verified(VerifierKey.parse(PARTNER.text))
    assert held is not None
    assert held.timestamp == timestamp


@given(data=st.data())
@settings(max_examples=150)
def test_no_altered_byte_is_taken(data: st.DataObject) -> None:
    note = sign("first\n\nlast\n", KEY, OWNER.name)
    raw = bytearray(note.with_signatures(cosign(note, PARTNER_KEY, PARTNER.name, 1_700_000_000)).data.encode())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    try:
        altered = SignedNote.parse(bytes(raw))
        held = [altered.verified(OWNER), altered.verified(PARTNER)]
    except NoteError:
        return
    # A name or an id was altered: a signature of an unknown key is no signature. The text is the one that was signed.
    assert None in held
    assert altered.text == note.text


def test_a_key_that_did_not_sign_vouches_for_nothing() -> None:
    note = sign("text\n", KEY, OWNER.name)
    assert note.verified(VerifierKey(OWNER.name, ED25519, PARTNER_KEY.public)) is None
    assert note.verified(VerifierKey("another.example", ED25519, KEY.public)) is None
    assert note.verified(VerifierKey(OWNER.name, COSIGNATURE, KEY.public)) is None


def test_one_false_signature_of_a_known_key_condemns_the_note() -> None:
    note, other = sign("text\n", KEY, OWNER.name), sign("another text\n", KEY, OWNER.name)
    with pytest.raises(NoteError, match="does not hold"):
        note.with_signatures(*other.signatures).verified(OWNER)


def test_of_several_cosignatures_the_latest_counts() -> None:
    note = sign("text\n", KEY, OWNER.name)
    signed = [cosign(note, PARTNER_KEY, PARTNER.name, moment) for moment in (5, 9, 7, 9)]
    held = note.with_signatures(*signed).verified(PARTNER)
    assert held is not None
    assert held.timestamp == 9
    assert len(note.with_signatures(*signed).signatures) == 4


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"text\n\n",
        NOTE.encode()[:-1],
        NOTE.encode() + b"\n",
        NOTE.encode().replace(b"\n", b"\r\n"),
        NOTE.encode().replace(b"message", b"mess\tage"),
        NOTE.encode().replace(b"message", b"mess\xffage"),
        NOTE.replace("—", "-").encode(),
        NOTE.replace("foo ", "foo  ").encode(),
        NOTE.replace("foo ", "fo\u00a0o ").encode(),
        NOTE.replace("foo ", "f+o ").encode(),
        NOTE.replace("aQM=", "aQN=").encode(),  # the same bytes, not as base64 writes them
        NOTE.replace("aQM=", "aQM").encode(),
        ("text\n\n" + "— a AAAAAAE=\n" * 65).encode(),
        b"a" * (1 << 20),
        "— a AAAAAAE=\n",
        "text\n\n— a AAAAAA==\n",
        "te\ud800xt\n\n— a AAAAAAE=\n",
    ],
)
def test_what_is_not_written_as_a_note_is_refused(data: bytes | str) -> None:
    with pytest.raises(NoteError):
        SignedNote.parse(data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        VKEY + "\n",
        VKEY.replace("530d903a", "530d903b"),
        VKEY.replace("530d903a", "530D903A"),
        VKEY.replace("example", "exemple"),
        VKEY[:-1],
        f"{VKEY[:-1]}l",
        "a+00000000+",
        "+00000000+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        f"a+00000000+{base64.b64encode(bytes([2]) + bytes(32)).decode()}",
    ],
)
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        VerifierKey.parse(text)


def test_a_key_is_its_owners_alone_and_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "service-signing"
    with pytest.raises(KeyMissing, match="is missing"):
        SigningKey.load(path)
    key = SigningKey.generate(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert SigningKey.load(path).public == key.public
    assert repr(key) == "SigningKey(**********)"
    with pytest.raises(SigningKeyError, match="not overwritten"):
        SigningKey.generate(path)
    assert SigningKey.load(path).public == key.public
    assert SigningKey.generate(path, replace=True).public != key.public
    path.chmod(0o640)
    with pytest.raises(LedgerError, match="can be read by others"):
        SigningKey.load(path)


@pytest.mark.parametrize("content", [b"", b"00" * 32, b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "service-signing"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SigningKeyError, match="is not an Ed25519 signing key"):
        SigningKey.load(path)
