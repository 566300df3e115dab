"""Which identifiers are refused, and that none that is taken has another key than before."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietcount_producers import EventRefused, Pepper
from quietcount_producers.composing import identifiers
from quietcount_producers.composing.composition import Composer, Facts
from quietcount_producers.composing.identifiers import OUTER_SPACE, PLACEHOLDERS, normal_identifier
from quietcount_producers.files.emission import check
from quietcount_producers.files.event_files import FileFormat
from quietcount_producers.settings import EmitterSettings
from quietcount_schemas.events.oddity import Oddity
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

SECRET = bytes(range(32))
PEPPER = Pepper(SECRET)

ODD: dict[Oddity, list[str]] = {
    Oddity.PLACEHOLDER: [
        *(
            "---",
            "n/a",
            "N/A",
            "NULL",
            "-",
            "?",
            "#N/A",
            "(unknown)",
            "Неизвестно",
            "«нет данных»",
            "n.a.",
            "????",
            "—",
        ),
        *("None", "нД".replace("Д", "/Д"), "None.", "[null]", "🙂"),
    ],
    Oddity.SPREADSHEET: [
        *(
            "A17_x000D_",
            "2023|17.0",
            "7.90123E+10",
            "7,90123E+10",
            "1e+21",
            '="00017"',
            "=A1",
            "'00017",
            "'+380",
            "#REF!",
            "#NAME?",
            "#ИМЯ?",
        ),
        *("17.0", "17,0", "Ив\ufffdнов"),
    ],
    Oddity.INVISIBLE: [
        *("A 17\u200b", "\ufeffA 17", "A\u00ad 17", "\u200eA 17", "A\u200d17", "A\u206017", "A 17\ufe0f", "A\u034f17"),
        "علی\u200cرضا",
    ],
    Oddity.SPACES: ["A\u00a017", "A  17", "A\u202f17", "A\u300017", "A\u200717", "A\u316417", "Ж  1"],
    Oddity.COMPATIBILITY: ["Ａ 17", "A １７", "𝐀 17", "① 17", "ｱ 17", "ﺍﻟ"],
    Oddity.MIXED_SCRIPTS: ["АB", "Ивaнов", "KаБ 12", "Ρeter", "дело N1 Ив\u0430нoв"],
}
"""Identifiers by what is odd about them; each is odd in this alone."""

PLAIN = [
    *("A 17", "a 17", "А 17", "00017", "17", "0", "1E5", "12e-7", "file 17", "2023/17-b", "#17", "-5", "17.", "17.5"),
    *("O'Neil", "'t Hooft", "'Abd al-Rahman", "Null Nora", "Nonenko", "n/a 17", "unknown 3", "№ 17", "Дело №17/2023"),
    *("Иванов Пётр Ильич", "Їжак Ґалаґан", "José García", "Łukasz Żółć", "Ελένη", "محمد علي", "王小明", "김철수"),
    *("राम शर्मा", "Mª José", "x² + y", "Ж-12 B", "A-Б", "550e8400-e29b-41d4-a716-446655440000", "a@b.example", "????7"),
    *(
        "Straße",
        "Đặng",
        "C++",
        '"quoted"',
        "(17)",
        "don’t",
        "l·l",
        "a_b",
        "Ωμέγα",
        "Nguye\u0302\u0303n",
        "é",
        "e\u0301",
    ),
]
"""Identifiers that are taken, as they were before anything was refused."""


def former(identifier: str) -> bytes:
    """The key of an identifier as it has always been."""
    normal = unicodedata.normalize("NFC", identifier).strip()
    return hmac.digest(SECRET, normal.encode(), hashlib.sha256)[:16]


@pytest.mark.parametrize("kind, identifier", [(kind, each) for kind, odd in ODD.items() for each in odd])
def test_what_is_hardly_an_identifier_is_refused_with_a_remedy_and_can_be_allowed(
    kind: Oddity, identifier: str
) -> None:
    with pytest.raises(EventRefused) as refused:
        PEPPER.case_key(identifier)
    assert refused.value.field == "case"
    assert f'emitter.allow_identifiers = ["{kind}"]' in refused.value.reason
    assert identifier not in refused.value.reason or not any(map(str.isalnum, identifier))
    others = set(Oddity) - {kind}
    with pytest.raises(EventRefused):
        PEPPER.case_key(identifier, others)
    assert PEPPER.case_key(identifier, [kind]) == former(identifier)


@pytest.mark.parametrize("identifier", [*PLAIN, *(f"\u00a0{each}\r\n" for each in PLAIN)])
def test_no_other_identifier_changes_its_key(identifier: str) -> None:
    assert PEPPER.case_key(identifier) == former(identifier)


@pytest.mark.parametrize(
    "identifier", ["a\nb", "a\tb", "a\0", "\0a", "a\x7fb", "a\x9fb", "a\u2028b", "a\x1cb", "a\ud800"]
)
def test_nothing_allows_a_control_character(identifier: str) -> None:
    with pytest.raises(EventRefused, match=r"control character|valid text"):
        PEPPER.case_key(identifier, list(Oddity))


@given(st.text(st.characters(), max_size=12))
def test_what_is_taken_has_the_key_that_it_had(identifier: str) -> None:
    with contextlib.suppress(EventRefused):
        assert PEPPER.case_key(identifier) == former(identifier)


@given(st.text("aЯß .,1-E+0=#'!", max_size=8))
def test_the_short_way_of_plain_text_decides_as_the_long_one_does(identifier: str) -> None:
    def decided() -> str:
        try:
            return normal_identifier(identifier)
        except EventRefused as refused:
            return refused.reason

    short = decided()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identifiers, "_PLAIN", re.compile(r"(?!)"))
        assert decided() == short


def test_the_white_space_that_the_pages_list_is_what_is_taken_away() -> None:
    assert "".join(chr(code) for code in range(0x110000) if not chr(code).strip()) == OUTER_SPACE
    page = (Path(__file__).parents[3] / "schemas" / "README.md").read_text(encoding="utf-8")
    told = page[page.index("**White space around") : page.index("Other languages trim")].replace("\n", " ")
    codes: set[int] = set()
    for each in told.partition(":")[2].replace(" and ", ", ").split(","):
        ends = [int(code, 16) for code in each.replace("U+", "").replace(".", "").split(" to ")]
        codes.update(range(ends[0], ends[-1] + 1))
    assert codes == set(map(ord, OUTER_SPACE))


def test_a_placeholder_is_one_in_any_case_and_with_signs_around_it() -> None:
    for word in PLACEHOLDERS:
        assert word == word.casefold()
        for spelling in (word.upper(), f"({word})", f"<{word.title()}>", f"- {word} -"):
            with pytest.raises(EventRefused, match="stands for no identifier"):
                PEPPER.case_key(spelling)


def test_a_file_of_many_people_under_one_placeholder_is_refused_in_one_line() -> None:
    text = "event,case,occurred_on\n" + "HelpRequested,unknown,2023-10-03\n" * 400
    composer = Composer(SchemaRegistry.load(), PEPPER)
    found = check(io.BytesIO(text.encode()), "cases.csv", FileFormat.CSV, composer)
    (said,) = found.shown()
    assert said.startswith("cases.csv lines 2-401: case: is a word or sign that stands for no identifier")
    assert found.good == 0


def test_the_configuration_lets_in_what_is_right_in_a_project(tmp_path: Path) -> None:
    Pepper.generate(tmp_path / "pepper")
    path = tmp_path / "quietcount.toml"
    path.write_text('[emitter]\npepper_file = "pepper"\nallow_identifiers = ["placeholder"]\n', encoding="utf-8")
    composer = EmitterSettings.load(path, {}).composer(SchemaRegistry.load())
    composer.compose(Facts("HelpRequested", "Null", "2023-10-03", {}))
    with pytest.raises(EventRefused):
        composer.compose(Facts("HelpRequested", "17.0", "2023-10-03", {}))
    with pytest.raises(EventRefused):
        Composer(SchemaRegistry.load(), PEPPER).compose(Facts("HelpRequested", "Null", "2023-10-03", {}))
