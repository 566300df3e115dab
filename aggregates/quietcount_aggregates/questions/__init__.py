"""The macros of the public file: what analysts ask, answered with an interval.

DuckDB resolves a macro that a macro calls where the outer one is called. In a file that is attached and not in use, the
inner one is then not found. So each published macro stands alone. What they share is written once, as fragments that
are put in their places when the file is built. A WITH would halve the macros and the time that DuckDB needs to read and
write them, but DuckDB 1.4 does not find one that 2.0 wrote.

* `-- fragment NAME(p, q)` begins a fragment, which ends at the next one or at a statement. `$p` is its parameter.
* `@NAME(x, y)` is the text of the fragment, with x in the place of `$p` and y in the place of `$q`.
* `$macro` is the name of the published macro in which the text ends up, and `$arguments` are its parameters, as text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from importlib import resources

__all__ = ["FILES", "expanded", "macros"]

FILES = (
    "reading.sql",
    "guards.sql",
    "noise.sql",
    "answers.sql",
    "ratios.sql",
    "total.sql",
    "compare.sql",
    "series.sql",
    "share.sql",
    "ranking.sql",
    "buckets.sql",
    "percentile.sql",
    "mean.sql",
    "columns.sql",
)
"""The files, in the order in which they are read: a fragment stands before its first use."""

Fragments = dict[str, tuple[list[str], str]]
"""The parameters and the text of each fragment."""

_PIECE = re.compile(r"^(?=-- fragment |CREATE MACRO |COMMENT ON )", re.MULTILINE)
_FRAGMENT = re.compile(r"-- fragment (\w+)\(([^)]*)\)")
_PARAMETER = re.compile(r"\$(\w+)")
_CALL = re.compile(r"@(\w+)\(")
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)


@functools.cache
def macros(*names: str) -> str:
    """Return the statements that create the macros, and their comments, with every fragment in its place.

    If macros are named, return the statements that create these, without comments: DuckDB takes long to parse all.
    """
    beginnings = tuple(f"CREATE MACRO {name}(" for name in names)
    return "\n".join(each for each in _statements({}) if not names or each.startswith(beginnings))


def expanded(sql: str) -> str:
    """Return `sql` with the fragments that it calls in their places."""
    fragments: Fragments = {}
    for _ in _statements(fragments):
        pass
    return _expanded(sql, fragments)


def _statements(fragments: Fragments) -> Iterator[str]:
    """Yield the statements of all files, and add the fragments that the files define."""
    package = resources.files("quietcount_aggregates")
    quantile = package.joinpath("intervals.sql").read_text(encoding="utf-8")
    quantile = quantile.partition("CREATE MACRO noise_quantile(weights, scales, counts, confidence) AS ")[2]
    fragments["noise_quantile"] = [], _COMMENT.sub("", quantile.partition(";\n")[0])
    for file in FILES:
        for piece in _PIECE.split(package.joinpath("questions", file).read_text(encoding="utf-8")):
            if head := _FRAGMENT.match(piece):
                parameters = head[2].split(", ") if head[2] else []
                fragments[head[1]] = parameters, _expanded(_COMMENT.sub("", piece[head.end() :]).strip(), fragments)
            elif piece.startswith("CREATE MACRO "):
                name, _, rest = piece.removeprefix("CREATE MACRO ").partition("(")
                parameters = [each.partition(":=")[0].strip() for each in rest.partition(") AS TABLE")[0].split(",")]
                given = ", ".join(f"{each}::VARCHAR" for each in parameters)
                text = _expanded(_COMMENT.sub("", piece), fragments)
                yield text.replace("$macro", name).replace("$arguments", given)
            elif piece.startswith("COMMENT ON "):
                yield piece


def _expanded(text: str, fragments: Fragments) -> str:
    """Return `text` with each call of a fragment replaced. The fragments are expanded already."""
    while call := _CALL.search(text):
        parameters, body = fragments[call[1]]
        arguments, end = _arguments(text, call.end())
        # All at once: an argument may hold the name of a parameter.
        given = {f"${name}": argument for name, argument in zip(parameters, arguments, strict=True)}
        text = text[: call.start()] + _substituted(body, given) + text[end:]
    return text


def _substituted(body: str, given: dict[str, str]) -> str:
    return _PARAMETER.sub(lambda found: given.get(found[0], found[0]), body)


def _arguments(text: str, start: int) -> tuple[list[str], int]:
    """Return the arguments of the call whose bracket opens before `start`, and the place after its closing bracket."""
    arguments: list[str] = []
    depth, quoted, begun = 0, False, start
    for place in range(start, len(text)):
        letter = text[place]
        if letter == "'":
            quoted = not quoted
        elif not quoted and depth == 0 and letter in ",)":
            arguments.append(text[begun:place].strip())
            begun = place + 1
            if letter == ")":
                return ([] if arguments == [""] else arguments), begun
        elif not quoted:
            depth += (letter in "([{") - (letter in ")]}")
    raise ValueError(f"no bracket closes after: {text[start : start + 60]}")
