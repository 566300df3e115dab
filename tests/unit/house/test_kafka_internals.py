"""The names of kafka-python that any version may change stand in one module, and exactly one version is asked for."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

PARTS = ("schemas", "producers", "aggregates", "consumers")
INTERNALS = Path("producers/quietcount_producers/kafka/internals.py")
PUBLIC = {"kafka", "kafka.admin", "kafka.errors", "kafka.structs"}
WINGS = ("quietcount_producers.kafka", "quietcount_consumers.kafka")
BY_NAME = {"getattr", "setattr", "hasattr", "delattr"}


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def own_names(tree: ast.Module) -> set[str]:
    """Return the private names that a module gives to attributes itself: methods, fields, and what it sets on self."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(body=body):
                for each in body:
                    targets = each.targets if isinstance(each, ast.Assign) else [getattr(each, "target", None)]
                    found |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                found.add(name)
            case _:
                pass
    return {name for name in found if private(name)}


def meets_kafka(tree: ast.Module) -> bool:
    """Return whether a module imports the library, or a wing of ours that hands out its objects."""
    return any(
        name.split(".")[0] == "kafka" or name.startswith(WINGS)
        for node in ast.walk(tree)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [each.name for each in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    )


def breaks(source: str) -> Iterator[str]:
    """Yield each use of a name that is not the library's public face, with its line."""
    tree = ast.parse(source)
    if not meets_kafka(tree):
        return
    own = own_names(tree)
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] == "kafka":
                names = [module] if module not in PUBLIC else [each.name for each in node.names if private(each.name)]
                if module == "kafka":  # `from kafka import cluster` names a module as well
                    names += [each.name for each in node.names if each.name.islower() and each.name != "errors"]
                yield from (f"{node.lineno}: from {name}" for name in names)
            case ast.Import(names=names):
                hidden = [each.name for each in names if each.name.split(".")[0] == "kafka"]
                yield from (f"{node.lineno}: import {name}" for name in hidden if name not in PUBLIC)
            case ast.Attribute(attr=name) if private(name) and name not in own:
                yield f"{node.lineno}: .{name}"
            case ast.Attribute(value=ast.Name(id="kafka"), attr=name) if f"kafka.{name}" not in PUBLIC:
                if name.islower() and name != "__version__":
                    yield f"{node.lineno}: kafka.{name}"
            case ast.Call(func=ast.Name(id=called), args=[_, ast.Constant(value=str(name)), *_]) if called in BY_NAME:
                if any(map(private, name.split("."))):
                    yield f"{node.lineno}: {called} {name}"
            case _:
                pass


def breaks_in(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root)}:{each}"
        for part in PARTS
        for path in sorted((root / part).rglob("*.py"))
        if path.relative_to(root) != INTERNALS
        for each in breaks(path.read_text(encoding="utf-8"))
    ]


def test_no_other_module_uses_what_a_version_of_the_library_may_change(root: Path) -> None:
    assert breaks_in(root) == []


def test_the_search_finds_what_the_one_module_uses(root: Path) -> None:
    found = "\n".join(breaks((root / INTERNALS).read_text(encoding="utf-8")))
    for name in ("_sender", "_unregister_cleanup", "_manager", "_async_alter_group_offsets", "_fetcher", "_buffer"):
        assert f".{name}" in found
    assert "from kafka.net.compat" in found


@pytest.mark.parametrize(
    "line",
    [
        "producer._sender.force_close()",
        "self._consumer._fetcher = None",
        "setattr(producer, '_closed', True)",
        "getattr(client, '_manager')",
        "from kafka.net.compat import KafkaNetClient",
        "from kafka.record._crc32c import crc",
        "from kafka import cluster",
        "import kafka.protocol.metadata",
        "kafka.net.compat.KafkaNetClient()",
        "super()._unpack_records(None)",
    ],
)
def test_each_way_round_the_one_module_is_found(line: str) -> None:
    module = (
        "import kafka\n\n\nclass Mine:\n    def __init__(self):\n        self._consumer = None\n\n    def act(self):\n"
    )
    assert list(breaks(f"{module}        return self._consumer\n")) == []
    assert len(list(breaks(f"{module}        {line}\n"))) == 1


def test_exactly_one_version_is_asked_for_and_it_is_the_one_that_is_tested(root: Path) -> None:
    asked = tomllib.loads((root / "producers" / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "dependencies"
    ]
    (pin,) = [each for each in asked if each.startswith("kafka-python")]
    assert pin.startswith("kafka-python[crc32c]==")
    tested = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert pin.replace("[crc32c]", "") in tested
