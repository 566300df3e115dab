"""What somebody can check who has a published file and nothing else, and each way in which it could deceive them."""

from __future__ import annotations

import dataclasses
import filecmp
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner
from tests.unit.consumers.maintenance.forgeries import (
    Sound,
    chained,
    checked,
    forked,
    rekeyed,
    reopened,
    sound_in,
    stolen_name,
    values_changed,
    with_bound,
    with_header,
    written,
)

from quietcount_aggregates.ledger import chain as ledger_chain
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Released
from quietcount_aggregates.publication import publication
from quietcount_consumers.commands.ledger import ledger_command
from quietcount_consumers.maintenance import published_objects, verification
from quietcount_consumers.maintenance.verification import Verified, check_known, known_head, verify_file
from quietcount_consumers.witnessing import published_copy
from quietcount_consumers.witnessing.published_copy import NotVerified

pytestmark = [pytest.mark.quick, pytest.mark.promise("ledger-chain")]

HEADERS, BLOCK = 3 * 4096, 256 * 1024

CHECK = pytest.mark.check  # the same paths as a quick one takes, for another object


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    return sound_in(tmp_path_factory.mktemp("sound"))


@pytest.fixture(autouse=True)
def published_once(sound: Sound, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "publish", sound.publish)


def in_free_block(content: bytearray) -> bytearray:
    """Write into the first block, which the template used and the file does not; nothing reads it."""
    return with_secret(content, 0, 1000)


def in_gap(content: bytearray) -> bytearray:
    """Write behind what a block of a column holds."""
    return with_secret(content, (len(content) - HEADERS) // BLOCK // 2, BLOCK - 100)


def with_secret(content: bytearray, number: int, begin: int) -> bytearray:
    """Write a sentence into a block and settle its checksum, so that DuckDB finds nothing wrong."""
    secret = b"Ivan Petrov came on 2023-04-19"
    at = HEADERS + number * BLOCK
    content[at + begin : at + begin + len(secret)] = secret
    return checked(content, at, at + BLOCK)


def scaled(sound: Sound) -> list[bytes]:
    bodies = sound.bodies
    body = bodies[-1]
    assert isinstance(body, Released)
    return written(sound, [*bodies[:-1], dataclasses.replace(body, noise_scale=body.noise_scale / 2)])


def entered(sound: Sound, entries: list[bytes]) -> Path:
    """Return a file whose rows of the ledger are these."""
    blobs = "".join(
        f'UPDATE ledger SET entry = unhex({entry.hex()!r}) WHERE "index" = {place};'
        for place, entry in enumerate(entries)
    )
    return sound.altered(blobs)


def exact(sound: Sound) -> Chain:
    body = sound.bodies[-1]
    assert isinstance(body, Released)
    return chained(sound, [*sound.bodies[:-1], dataclasses.replace(body, mechanism="test.exact")])


def computing(sound: Sound) -> Path:
    """Return a file whose reader computes, for each row: here little, and as long as its maker wants."""
    return sound.altered(
        "ALTER TABLE about RENAME TO others",
        "CREATE TABLE about (key VARCHAR, v VARCHAR, value VARCHAR GENERATED ALWAYS AS (v || ''))",
        "INSERT INTO about (key, v) FROM others",
        "DROP TABLE others",
    )


def noted_twice(sound: Sound) -> str:
    return sound.note + sound.note.splitlines(keepends=True)[-1].replace("quietcount.ledger/", "Ivan-Petrov-came/")


FORGED: dict[str, tuple[Callable[[Sound], Path], str]] = {
    "value": (
        lambda s: s.altered("UPDATE statistics SET noisy = noisy + 7 WHERE period_start = '2024-02-01'"),
        "table statistics does not hold what the ledger says",
    ),
    "last rows dropped": (lambda s: s.altered('DELETE FROM ledger WHERE "index" > 5'), "states 16 entries"),
    "a value in the ledger": (
        lambda s: entered(s, written(s, values_changed(s, 4))[:5]),
        "ledger entry 5 does not follow from the one before",
    ),
    "rows in another order": (
        lambda s: s.altered(
            "CREATE TEMP TABLE x AS FROM statistics ORDER BY noisy, period_start DESC",
            "TRUNCATE statistics",
            "INSERT INTO statistics FROM x",
        ),
        "table statistics does not hold",
    ),
    "chain rebuilt under the old signature": (
        lambda s: s.published(chained(s, values_changed(s)), note=s.note),
        "is not the head of these 16",
    ),
    "chain rebuilt and signed by somebody else": (
        lambda s: s.published(changed := chained(s, values_changed(s)), note=stolen_name(changed)),
        "the head is not signed with the key that the ledger names",
    ),
    "a noise scale": (lambda s: entered(s, scaled(s)), "the noise scale of statistic"),
    "bytes in a free block": (lambda s: s.edited(in_free_block), "holds bytes that belong to nothing"),
    "bytes at the end": (lambda s: s.edited(lambda b: b + b"SECRET" * 1000), "bytes that belong to nothing"),
    "a ledger that is a view": (
        lambda s: s.altered("ALTER TABLE ledger RENAME TO l", "CREATE VIEW ledger AS FROM l"),
        "not a file that quietcount published",
    ),
    "a column that is computed": (computing, "not a file that quietcount published"),
    "a version with words in it": (
        lambda s: s.published(s.chain, version="Ivan Petrov came"),
        "table about does not hold what the ledger says",
    ),
    "an entry without end": (
        lambda s: s.altered("UPDATE ledger SET entry = encode(repeat('x', 3000000)) WHERE \"index\" = 1"),
        "ledger entry 1 is longer than any",
    ),
}
"""Each forgery, and what is said of it."""

ALSO_FORGED: dict[str, tuple[Callable[[Sound], Path], str]] = {
    "cut to a length that nobody signed": (
        lambda s: s.published(chained(s, s.bodies[:-3]), note=s.note),
        "states 16 entries",
    ),
    "a second signature with words in it": (
        lambda s: s.published(s.chain, note=noted_twice(s)),
        "another signature stands beside",
    ),
    "no noise": (lambda s: s.published(exact(s)), "its noise is of a kind that quietcount does not have"),
    "empty schema": (
        lambda s: s.altered('CREATE SCHEMA "Ivan Petrov came 2023-04-19"'),
        "schema Ivan Petrov came 2023-04-19 does not hold",
    ),
    "a value and its digest": (
        lambda s: s.altered("UPDATE statistics SET noisy = noisy + 7, release_id = 'ab' WHERE shown = 0"),
        "table statistics",
    ),
    "bound": (lambda s: s.altered("UPDATE about SET value = '0.1' WHERE key = 'bound'"), "table about"),
    "margins": (lambda s: s.altered("UPDATE margins SET upper = lower"), "table margins"),
    "weights of the noise": (lambda s: s.altered("UPDATE noise_scales SET scale = 0.1"), "table noise_scales"),
    "comment": (
        lambda s: s.altered("COMMENT ON COLUMN statistics.noisy IS 'exact count'"),
        "column statistics.noisy",
    ),
    "macro": (
        lambda s: s.altered("CREATE OR REPLACE MACRO total(a, b, c, cells := '{}') AS TABLE SELECT 1 AS estimate"),
        "macro total",
    ),
    "macro in another schema": (lambda s: s.altered("CREATE SCHEMA e", "CREATE MACRO e.margin(x) AS 1"), "schema e"),
    "macro with the name of one of DuckDB's": (
        lambda s: s.altered("CREATE MACRO duckdb_tables() AS TABLE FROM statistics"),
        "macro duckdb_tables",
    ),
    "view": (lambda s: s.altered("CREATE OR REPLACE VIEW plain AS SELECT 12345 AS estimate"), "view plain"),
    "type": (lambda s: s.altered("CREATE TYPE t AS ENUM ('Ivan Petrov came')"), "type t"),
    "sequence": (lambda s: s.altered("CREATE SEQUENCE q START 19870419"), "sequence q"),
    "index": (lambda s: s.altered("CREATE INDEX i ON statistics (noisy)"), "index i"),
    "constraint": (lambda s: s.altered("ALTER TABLE statistics ALTER noisy DROP NOT NULL"), "table statistics"),
    "default": (lambda s: s.altered("ALTER TABLE budget ALTER retired SET DEFAULT true"), "table budget"),
    "another table": (lambda s: s.altered("CREATE TABLE more AS SELECT 'Ivan' AS name"), "table more"),
    "order of columns": (
        lambda s: s.altered(
            "CREATE TABLE x AS SELECT value, key FROM about", "DROP TABLE about", "ALTER TABLE x RENAME TO about"
        ),
        "does not hold what the ledger says",
    ),
    "row more": (lambda s: s.altered("INSERT INTO about VALUES ('came', 'Ivan Petrov')"), "table about"),
    "no signature": (lambda s: s.altered("DELETE FROM about WHERE key = 'signed_head'"), "carries no signed head"),
    "bytes in a gap": (lambda s: s.edited(in_gap), "bytes that belong to nothing"),
    "cut short": (lambda s: s.edited(lambda b: b[:-1000]), "was cut short"),
    "damaged": (lambda s: s.edited(lambda b: b[: -BLOCK + 9] + bytes(9) + b[-BLOCK + 18 :]), "is damaged"),
    "empty": (lambda s: s.edited(lambda _: b""), "not a file that quietcount published"),
    "something else": (lambda s: s.edited(lambda _: b"name,count\n" * 5000), "not a file that quietcount published"),
}


def check_refused(sound: Sound, forgery: tuple[Callable[[Sound], Path], str]) -> None:
    forge, says = forgery
    with pytest.raises(NotVerified) as refused:
        verify_file(forge(sound))
    assert says in refused.value.what
    assert refused.value.remedy


def test_a_file_that_nobody_touched_is_verified_from_itself_alone(
    sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "publish", publication.publish)
    said = " ".join(verify_file(sound.file).checks)
    assert f"its head is {sound.chain.head.digest.hex()}" in said
    assert f"signed with the ledger's own key, {sound.chain.signer.text}" in said
    assert f"{sound.file} holds exactly what the ledger says, to the last byte." in said
    assert "stays under epsilon 100" in said


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_file_is_refused_with_what_is_wrong(sound: Sound, case: str) -> None:
    check_refused(sound, FORGED[case])


@CHECK
@pytest.mark.parametrize("case", ALSO_FORGED)
def test_whatever_else_is_forged_is_refused_with_what_is_wrong(sound: Sound, case: str) -> None:
    check_refused(sound, ALSO_FORGED[case])


MUTANTS: dict[str, tuple[object, str, Any]] = {
    "value": (verification, "difference", lambda *_: None),
    "rows in another order": (published_objects, "_same_rows", lambda *_: True),
    "chain rebuilt under the old signature": (verification, "check_signed", lambda *_: None),
    "no noise": (verification, "_check_mechanisms", lambda *_: None),
    "empty schema": (published_objects, "_catalogs", lambda _: iter(())),
    "bytes in a free block": (filecmp, "cmp", lambda *_, **__: True),
    "an entry without end": (published_copy, "_LONGEST_ENTRY", 1 << 30),
    "a noise scale": (ledger_chain, "_fits", lambda *_: True),
}
"""By forgery: the check that is left out, so that it is not found, or not said for what it is."""


@CHECK
@pytest.mark.parametrize("case", MUTANTS)
def test_a_twin_that_leaves_a_check_out_is_found(sound: Sound, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, attribute, instead = MUTANTS[case]
    monkeypatch.setattr(where, attribute, instead)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_refused(sound, (FORGED | ALSO_FORGED)[case])


def known(sound: Sound, chain: Chain, **what: Any) -> str:
    """Return what comes of comparing a chain, whose file was verified, with what somebody knew before."""
    (said,) = check_known(sound.file, chain, **{"key": None, "head": None, "older": None, **what})
    return said


def check_key_and_head(sound: Sound) -> None:
    """Hold that a key and a head that somebody knew are those of the ledger, or it is refused."""
    chain, older, other = sound.chain, chained(sound, sound.bodies[:-3]), reopened(sound)
    note = sound.folder / "head.note"
    note.write_text(sound.note, encoding="utf-8")
    for head in (chain.head.digest.hex(), older.head.digest.hex()[:16], str(note)):
        assert "The ledger holds that head" in known(sound, chain, head=known_head(head))
    assert "is the one that you named" in known(sound, chain, key=chain.signer)
    for forged in (other, rekeyed(sound)):
        with pytest.raises(NotVerified, match="signed with another key"):
            known(sound, forged, key=chain.signer)
    for head in (chain.head.digest.hex(), str(note)):
        with pytest.raises(NotVerified, match="does not hold the head"):
            known(sound, older, head=known_head(head))
    with pytest.raises(NotVerified, match="the head of another ledger"):
        known(sound, other, head=known_head(str(note)))
    note.write_text(stolen_name(chain), encoding="utf-8")
    with pytest.raises(NotVerified, match="is not signed with a key of the ledger"):
        known(sound, chain, head=known_head(str(note)))


def test_a_key_and_a_head_that_somebody_knew_before_are_compared(sound: Sound) -> None:
    check_key_and_head(sound)


@pytest.mark.parametrize("left_out", ["_check_told_key", "_check_head"])
def test_a_twin_that_compares_nothing_is_found(sound: Sound, left_out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "The ledger holds that head. It is the one that you named."
    monkeypatch.setattr(verification, left_out, lambda *_: said)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_key_and_head(sound)


def check_copies(sound: Sound, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold that of two copies one continues the other, or the first contradiction is named."""
    copy = Path("copy.duckdb")

    def compared(chain: Chain) -> str:
        monkeypatch.setattr(verification, "verify_file", lambda _: Verified(chain))
        return known(sound, sound.chain, older=copy)

    assert compared(sound.chain) == f"{copy} holds the same ledger."
    assert compared(chained(sound, sound.bodies[:-3])).startswith(f"{copy} is the older one: {sound.file} continues it")
    assert compared(rekeyed(sound)).startswith(f"{sound.file} is the older one: {copy} continues it")
    for chain, says in (
        (
            chained(sound, values_changed(sound)),
            "two values for one cell: population plain, table plain, period from 2024-06-01 to 2024-06-30",
        ),
        (forked(sound), "the same up to ledger entry 3, and differ.*the retirement of population plain"),
        (with_bound(sound, "99"), "the same up to ledger entry 0, and differ"),
        (reopened(sound), "are of two ledgers"),
    ):
        with pytest.raises(NotVerified, match=says) as refused:
            compared(chain)
        assert "Keep both files" in refused.value.remedy


def test_of_two_copies_one_continues_the_other_or_the_first_contradiction_is_named(
    sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_copies(sound, monkeypatch)


def test_a_twin_that_sees_no_contradiction_is_found(sound: Sound, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "contradiction", lambda *_: None)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_copies(sound, monkeypatch)


@CHECK
def test_another_copy_is_verified_before_it_is_compared(sound: Sound) -> None:
    with pytest.raises(NotVerified, match="carries no signed head"):
        verify_file(sound.file, older=ALSO_FORGED["no signature"][0](sound))
    older = sound.published(chained(sound, sound.bodies[:-3]))
    assert f"{older} is the older one" in verify_file(sound.file, older=older).checks[-1]


@CHECK
def test_of_a_file_by_another_version_of_duckdb_it_is_said_what_could_not_be_compared(sound: Sound) -> None:
    path = sound.edited(lambda content: with_header(content, b"v1.4.9"))
    said = verify_file(path).checks[2]
    assert f"{path} holds exactly what the ledger says, object by object and row by row" in said
    assert said.endswith("To compare these too, verify it with DuckDB v1.4.9.")


def test_of_a_file_by_another_version_of_quietcount_it_is_said_which_one_has_to_judge_it(sound: Sound) -> None:
    path = sound.published(sound.chain, version="0.0.7")
    assert verify_file(path).checks[2].endswith("to the last byte. Quietcount 0.0.7 made it.")
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE OR REPLACE MACRO bound_of_version() AS 7")
    with pytest.raises(NotVerified, match=r"macro .* The file says that 0\.0\.7 made it.* verify it with that version"):
        verify_file(path)


def test_what_another_program_left_beside_the_file_is_named(sound: Sound) -> None:
    path = sound.edited(bytes)
    beside = path.with_name(f"{path.name}.wal")
    beside.write_bytes(b"")
    try:
        with pytest.raises(NotVerified, match="another program wrote to the published file"):
            verify_file(path)
    finally:
        beside.unlink()


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without a project."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUIETCOUNT_CONFIG", raising=False)


@pytest.mark.promise("clear-errors")
@pytest.mark.usefixtures("nowhere")
def test_the_command_needs_the_file_alone_and_answers_programs_too(sound: Sound) -> None:
    def asked(*arguments: str) -> tuple[int, dict[str, Any]]:
        result = CliRunner().invoke(ledger_command, ["verify", *arguments, "--json"])
        return result.exit_code, json.loads(result.stdout)

    code, answer = asked(str(sound.file))
    assert (code, answer["holds"], answer["length"]) == (0, True, 16)
    assert (answer["key"], answer["head"]) == (sound.chain.signer.text, sound.chain.head.digest.hex())
    assert answer["newest_entry"] == "2024-07-01T00:00:00Z"
    code, answer = asked(str(sound.altered("DELETE FROM statistics")))
    assert (code, answer["holds"]) == (1, False)
    assert "table statistics" in answer["what"]
    for wrong in (
        ["nothing.duckdb"],
        [str(sound.file), "--key", "quietcount"],
        [str(sound.file), "--head", "no-such-file"],
        [str(sound.file), "--head", str(sound.file)],
        [str(sound.file), "--against", "nothing.duckdb"],
    ):
        assert CliRunner().invoke(ledger_command, ["verify", *wrong]).exit_code == 2
