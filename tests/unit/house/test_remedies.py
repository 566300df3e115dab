"""Every error that our code makes says what to do about it: an error without a remedy leaves a person alone."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from tests.unit.house.test_rules import PARTS, files_of

pytestmark = pytest.mark.quick

FACTORIES = {"refuse"}
"""Functions that take what is wrong and the remedy as the errors do."""


def modules(root: Path) -> dict[str, ast.Module]:
    return {
        str(path): ast.parse((root / path).read_text(encoding="utf-8"))
        for path in files_of(root)
        if path.suffix == ".py" and path.parts[0] in PARTS
    }


def errors_of(trees: Iterable[ast.Module]) -> set[str]:
    """The names of the classes that derive from QuietcountError and take what is wrong and the remedy, as it does."""
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found = {"QuietcountError"}
    while more := {
        each.name
        for each in classes
        if each.name not in found
        and {ast.unparse(base) for base in each.bases} & found
        and not any(isinstance(part, ast.FunctionDef) and part.name == "__init__" for part in each.body)
    }:
        found |= more
    return found


def without_remedy(trees: dict[str, ast.Module]) -> Iterator[str]:
    """The places at which an error is made of what is wrong alone."""
    names = errors_of(trees.values())
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            alone = len(node.args) == 1 and not node.keywords and not isinstance(node.args[0], ast.Starred)
            if alone and node.func.id in names | FACTORIES:
                yield f"{path}:{node.lineno} {node.func.id}"


def test_every_error_says_what_to_do(root: Path) -> None:
    trees = modules(root)
    assert {"StateError", "LogUnavailable", "LedgerUnavailable", "ServiceError", "QueryError"} <= errors_of(
        trees.values()
    )
    assert list(without_remedy(trees)) == []


def test_an_error_without_a_remedy_is_found() -> None:
    source = (
        'class Lost(QuietcountError):\n    """A trial."""\n'
        "class Own(QuietcountError):\n    def __init__(self, reason): ...\n"
        'Lost("it is gone")\nLost("it is gone", "Find it")\nOwn("it is gone")\nLost(*both)\n'
    )
    assert list(without_remedy({"trial.py": ast.parse(source)})) == ["trial.py:5 Lost"]
