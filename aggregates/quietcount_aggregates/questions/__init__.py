"""The macros of the public file: what analysts ask, answered with an interval.

DuckDB resolves a macro that a macro calls where the outer one is called. In a file that is attached and not in use, the
inner one is then not found. So each published macro stands alone. What they share is written once, as fragments that
are put in their places when the file is built:

* `-- fragment NAME(p, q)` begins a fragment, which ends at the next one or at a statement. `$p` is its parameter.
* `@NAME(x, y)` is the text of the fragment, with x in the place of `$p` and y in the place of `$q`.
* `$macro` is the name of the published macro in which the text ends up, and `$arguments` are its parameters, as text.

A macro that reads from one fragment in several places has it once, in its WITH. Each program that opens the file reads
all macros, and each release writes them; written out in every place, they are twice as long.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator
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

Read = Callable[[str], str]
"""Takes a subquery that is read from, and returns what to read from in its place."""

_PIECE = re.compile(r"^(?=-- fragment |CREATE MACRO |COMMENT ON )", re.MULTILINE)
_FRAGMENT = re.compile(r"-- fragment (\w+)\(([^)]*)\)")
_PARAMETER = re.compile(r"\$(\w+)")
_CALL = re.compile(r"@(\w+)\(")
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)
_READ_FROM = re.compile(r"\b(FROM|JOIN) $")
_PART = re.compile(r"\bpart_of_query_\d+\b")


@functools.cache
def macros() -> str:
    """Return the statements that create the macros, and their comments, with every fragment in its place."""
    return "\n".join(_statements({}))


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
                fragments[head[1]] = parameters, _COMMENT.sub("", piece[head.end() :]).strip()
            elif piece.startswith("CREATE MACRO "):
                name, _, rest = piece.removeprefix("CREATE MACRO ").partition("(")
                parameters = [each.partition(":=")[0].strip() for each in rest.partition(") AS TABLE")[0].split(",")]
                given = ", ".join(f"{each}::VARCHAR" for each in parameters)
                head, _, query = _COMMENT.sub("", piece).partition(" AS TABLE\n")
                text = f"{head} AS TABLE\n{_shared(query, fragments)}"
                yield text.replace("$macro", name).replace("$arguments", given)
            elif piece.startswith("COMMENT ON "):
                yield piece


def _expanded(text: str, fragments: Fragments, read: Read | None = None) -> str:
    """Return `text` with each call of a fragment replaced. `read` is asked about those that are read from."""
    place = 0
    while call := _CALL.search(text, place):
        place = call.start()
        parameters, body = fragments[call[1]]
        arguments, end = _arguments(text, call.end())
        # All at once: an argument may hold the name of a parameter.
        given = {f"${name}": argument for name, argument in zip(parameters, arguments, strict=True)}
        body = _substituted(body, given)
        if read is not None and body.startswith("(") and _READ_FROM.search(text, 0, place):
            body = read(body)
        text = text[:place] + body + text[end:]
    return text


def _shared(query: str, fragments: Fragments) -> str:
    """Return `query` with each call of a fragment replaced; what is read from more than once stands in its WITH."""
    names: dict[str, str] = {}
    texts: dict[str, str] = {}

    def read(body: str) -> str:
        if body not in names:
            text = _expanded(body, fragments, read)
            names[body] = names.setdefault(text, f"part_of_query_{len(texts)}")
            texts.setdefault(names[body], text)
        return names[body]

    texts[""] = _expanded(query, fragments, read)
    uses = Counter(name for text in texts.values() for name in _PART.findall(text))
    whole: dict[str, str] = {}
    # What a text reads from stands before it.
    for name, text in texts.items():
        whole[name] = _PART.sub(lambda found: whole[found[0]] if uses[found[0]] == 1 else found[0], text)
    parts = ",\n".join(f"{name} AS {text}" for name, text in whole.items() if uses[name] > 1)
    return (f"WITH {parts}\n" if parts else "") + whole[""]


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
