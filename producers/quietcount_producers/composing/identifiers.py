"""Which text may be the identifier of a case, and the form of it that is hashed.

The key of an identifier is the same only if each of its characters is. A character that nobody sees makes two people of
one, and a word that stands for "not known" makes one person of many. The service sees keys alone, so nobody could find
either later. What can only be such a slip is refused here. Nothing else about an identifier changes: letters keep their
case, and a Latin "A 17" is another identifier than a Cyrillic "А 17".
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Collection, Mapping
from typing import Final

from quietcount_producers.errors import EventRefused
from quietcount_schemas.events.oddity import Oddity

__all__ = ["JOIN", "OUTER_SPACE", "PLACEHOLDERS", "normal_identifier", "outline"]


JOIN: Final = "|"
"""What stands between the parts of an identifier that several columns of a file give together."""
OUTER_SPACE: Final = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""What is taken away around an identifier. It is what `str.strip` takes; other languages trim other characters."""

_WORDS: Final = (
    # What programs write for nothing.
    "n/a|n.a|na|nan|null|nil|none|undefined|missing|empty|blank|void|tbd|tba|todo|xxx|n/k|n/d|nv|"
    # What people write who do not know, or do not say.
    "unknown|not known|not available|not applicable|not given|not specified|anonymous|anon|no name|no id|no number|"
    "нет|неизвестно|неизвестен|неизвестна|не известно|нет данных|не указано|не указан|не указана|аноним|анонимно|"
    "без имени|без номера|н/д|н/у|б/н|б/и|"
    "немає|невідомо|невідомий|невідома|не відомо|немає даних|не вказано|анонім|анонімно|без імені|"
    "unbekannt|keine|keine angabe|k.a|k. a|anonym|ohne namen|inconnu|inconnue|sans nom|néant|non renseigné|anonyme|"
    "desconocido|desconocida|ninguno|ninguna|sin nombre|sin datos|s/n|no aplica|anónimo|nieznany|nieznana|brak"
)
PLACEHOLDERS: Final = frozenset(_WORDS.split("|"))
"""Words that stand for "no identifier", in lower case and without the signs around them. The list is closed."""

_SIGNS: Final = string.punctuation + " «»“”„‘’–—…·•¿¡"
"""What may stand around a placeholder: (unknown), <null>, n/a."""
_PLAIN: Final = re.compile(
    "|".join(
        f"[0-9{letters}][{signs}{letters}]*(?: [{signs}{letters}]+)*"
        for letters, signs in (("A-Za-zÀ-ÖØ-öø-ſ", "!-~"), ("А-яЁёЄєІіЇїЎўҐґ", "!-@[-`{-~"))
    )
)
"""Single spaces, and characters of one Latin or Cyrillic alphabet in form NFC: nearly every identifier there
is. Of the oddities such text can only be a placeholder or a spreadsheet's."""
_DEBRIS: Final = re.compile(
    r"""[+-]?[0-9](?:[.,][0-9]+)?[eE][+-][0-9]{2,3}   # 7.90123E+10: a long number, rounded for the screen
      | [0-9]+[.,]0                                   # 17.0: a number that was an identifier
      | =.*                                           # ="00017": a formula
      | '[0-9+=@-].*                                  # '00017: the mark that keeps a number text
      | \#[^\W_][\w/]*[!?]                            # #REF!, #NAME?, #ИМЯ?: a formula that failed
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile("_x[0-9A-Fa-f]{4}_")
"""How a workbook writes a control character: a line break becomes _x000D_, also where it is exported as text."""
_LOST: Final = "\ufffd"
"""What programs put where they could not read a character."""
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_SCRIPTS: Final = tuple(
    re.compile(f"[{ranges}]")
    for ranges in (
        "A-Za-zÀ-ÖØ-öø-ʯḀ-ỿⱠ-ⱿꜢ-ꟿ",  # Latin
        "Ѐ-ԯᲀ-ᲊꙀ-ꚟ",  # Cyrillic
        "Ͱ-Ͽἀ-῿",  # Greek
    )
)
_LOOKS: Final = frozenset({"wide", "narrow", "font", "circle", "initial", "medial", "final", "isolated", "square"})
"""Kinds of compatibility characters (Unicode's decomposition tags) that are only another look of a letter or digit.

Others stay: people write №, ª, ² and … on purpose.
"""
_BLANKS: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters by their category, and yet nothing is to be seen of them."""
_SELECTORS: Final = re.compile("[\u034f\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Marks by their category, which only choose between two looks of a character, or do nothing."""
_NEVER: Final[Mapping[str, str]] = dict.fromkeys(
    ("Cc", "Zl", "Zp"),
    "holds a line break, a tab or another control character, which no identifier does. If it comes from a file, look "
    "for a quotation mark that is not closed",
) | {"Cs": "is not valid text"}
"""Why characters of these categories are refused, whatever is allowed."""
_SAME_LOOKS: Final = str.maketrans(
    "авеѕіјкмнорстухһԁԛԝүӏёї" + "αβεζηικμνορτυχ",
    "abesijkmhopctyxhdqwyiëï" + "abezhikmnoptyx",
)
"""Cyrillic and Greek letters, and the Latin ones that they look like as capitals or as they stand; in lower case."""
_OPTION: Final = 'If it is right as it is, allow it: emitter.allow_identifiers = ["{}"]'

_WHY: Final[Mapping[Oddity, str]] = {
    Oddity.INVISIBLE: "holds a character that nobody sees, such as a zero-width space, a soft hyphen or a mark of the "
    "writing's direction, so two spellings that look the same would be two people. Type the identifier again by hand",
    Oddity.SPACES: "holds an odd space (one that does not break, or two in a row), so two spellings that look the same "
    "would be two people. Put one ordinary space there",
    Oddity.COMPATIBILITY: "holds letters or digits in another form, such as full-width ones, so two spellings that "
    "look the same would be two people. Type it in ordinary letters and digits",
    Oddity.MIXED_SCRIPTS: "mixes Latin, Cyrillic or Greek letters within one word, so two spellings that look the same "
    "would be two people. Type the word again in one alphabet",
    Oddity.PLACEHOLDER: "is a word or sign that stands for no identifier, so everybody who has it would be one person. "
    "Give each case an identifier of its own, or leave the event out",
    Oddity.SPREADSHEET: "is what a spreadsheet or an export made of an identifier (a rounded or decimal number, a "
    "formula, an error, a lost character), so several people could be one, or one several. Format the column as text "
    "where the file comes from, and save it again",
}


def normal_identifier(identifier: str, allowed: Collection[Oddity] = ()) -> str:
    """Return the form of `identifier` that is hashed: NFC, without the white space around it.

    Raises EventRefused for text that cannot be an identifier, or hardly is one and whose kind is not `allowed`.
    """
    normal = identifier.strip()
    if _PLAIN.fullmatch(normal) and not _is_placeholder(normal) and not _is_debris(normal):
        return normal
    normal = unicodedata.normalize("NFC", identifier).strip()
    if not normal:
        raise EventRefused("case", "is empty; give the identifier of the case")
    for character in normal:
        if (category := unicodedata.category(character)) in _NEVER:
            raise EventRefused("case", _NEVER[category])
    for oddity, holds in _CHECKS.items():
        if oddity not in allowed and holds(normal):
            raise EventRefused("case", f"{_WHY[oddity]}. {_OPTION.format(oddity)}")
    return normal


def outline(text: str) -> str:
    """Return what identifiers have in common that differ only in capitals, or in letters that look the same.

    It finds such slips, in many identifiers at once if a line break stands between them. No key is made of it.
    """
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", text).casefold().translate(_SAME_LOOKS)


def _is_placeholder(text: str) -> bool:
    word = text.casefold().strip(_SIGNS)
    if JOIN in word and any(part.strip(_SIGNS) in PLACEHOLDERS for part in word.split(JOIN)):
        return True
    return word in PLACEHOLDERS or not (word.isalnum() or any(map(str.isalnum, word)))


def _is_debris(text: str) -> bool:
    if _DEBRIS.fullmatch(text) is not None or _LOST in text:
        return True
    if "_x" in text and _ESCAPE.search(text) is not None:
        return True
    return JOIN in text and any(map(_DEBRIS.fullmatch, text.split(JOIN)))


def _is_invisible(text: str) -> bool:
    return _SELECTORS.search(text) is not None or any(unicodedata.category(each) == "Cf" for each in text)


def _has_odd_spaces(text: str) -> bool:
    return "  " in text or any(each in _BLANKS or (each != " " and unicodedata.category(each) == "Zs") for each in text)


def _has_other_looks(text: str) -> bool:
    return any(
        unicodedata.decomposition(each).partition(" ")[0].strip("<>") in _LOOKS and not each.isspace() for each in text
    )


def _mixes_scripts(text: str) -> bool:
    return any(sum(script.search(word) is not None for script in _SCRIPTS) > 1 for word in _LETTERS.findall(text))


_CHECKS: Final[Mapping[Oddity, Callable[[str], bool]]] = {
    Oddity.PLACEHOLDER: _is_placeholder,
    Oddity.SPREADSHEET: _is_debris,
    Oddity.INVISIBLE: _is_invisible,
    Oddity.SPACES: _has_odd_spaces,
    Oddity.COMPATIBILITY: _has_other_looks,
    Oddity.MIXED_SCRIPTS: _mixes_scripts,
}
