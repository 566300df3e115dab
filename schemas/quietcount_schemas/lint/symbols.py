"""Symbols: which of an enum's symbols cannot be used, why, and what to write instead.

The symbols of an enum are often codes of another tool: `7.1`, `F43.1`, words in another script. Avro takes names only.
A mapping turns such a code into a name, and labels say what people read for it, so nothing of the code is lost.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, Final

__all__ = ["MAX_NAME", "NAME", "clashes", "is_symbol", "suggested_symbol", "symbol_problem"]

MAX_NAME: Final = 63
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_NOT_OF_A_NAME: Final = re.compile(r"[^A-Za-z0-9]+")
_SHOWN: Final = 40
_REST: Final = f"Write letters from A to Z, digits and _, no digit first, {MAX_NAME} characters at most"
_ELSEWHERE: Final = '"quietcount.labels" says what people read for it, in any script'


def is_symbol(name: Any) -> bool:
    """Return whether `name` is a name that Avro takes, and no longer than ours may be."""
    return isinstance(name, str) and NAME.fullmatch(name) is not None and len(name) <= MAX_NAME


def symbol_problem(symbols: Any) -> tuple[str, str] | None:
    """Return what is wrong with the symbols of an enum, and what to do; None if all can be used.

    It names the first that cannot be, and says how many others there are.
    """
    if not isinstance(symbols, list) or not symbols:
        return 'the "symbols" are not a list of names', _REST
    wrong = [symbol for symbol in symbols if not is_symbol(symbol)]
    if not wrong:
        return None
    first, others = wrong[0], len(wrong) - 1
    more = f" ({others} more of the symbols cannot be used)" if others else ""
    if not isinstance(first, str):
        return f"a symbol is not text{more}", f"{_REST}, between quotation marks"
    what = f"the symbol {_shown(first)} {_why(first)}{more}"
    instead = suggested_symbol(first)
    if instead is None:
        return what, f"{_REST}. {_ELSEWHERE}"
    code = f"If it is a code of your tool, write {instead}, and let a mapping turn the code into it (docs/mapping.md)"
    return what, f"{code}. {_ELSEWHERE}"


def clashes(symbols: Sequence[str]) -> Iterator[str]:
    """Yield each symbol that differs from an earlier one in case alone, or not at all."""
    seen: set[str] = set()
    for symbol in symbols:
        if symbol.lower() in seen:
            yield symbol
        seen.add(symbol.lower())


def suggested_symbol(code: str) -> str | None:
    """Return a symbol that stands for `code`, such as CODE_7_1 for 7.1; None if too little of it is left."""
    plain = unicodedata.normalize("NFKD", code)
    plain = "".join(each for each in plain if not unicodedata.combining(each))
    if not plain.isascii():
        return None
    name = _NOT_OF_A_NAME.sub("_", plain).strip("_").upper()
    if name[:1].isdigit():
        name = f"CODE_{name}"
    return name if is_symbol(name) else None


def _why(symbol: str) -> str:
    if not symbol:
        return "is empty"
    if len(symbol) > MAX_NAME:
        return f"has more than {MAX_NAME} characters"
    strange = next((each for each in symbol if not re.fullmatch("[A-Za-z0-9_]", each)), None)
    if strange is not None:
        return "holds a space" if strange == " " else f"holds {_shown(strange)}"
    return "begins with a digit"


def _shown(text: str) -> str:
    """Return `text` as a message may show it: it must not act on a terminal."""
    cut = text[:_SHOWN] + ("..." if len(text) > _SHOWN else "")
    return '"' + "".join(each if each.isprintable() else ascii(each)[1:-1] for each in cut) + '"'
