"""constraints.txt: one exact version for everything that an installation, a build or a check pulls in."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.quick

PROJECTS = (
    "pyproject.toml",
    *(f"{part}/pyproject.toml" for part in ("schemas", "producers", "aggregates", "consumers")),
)
# Needed by an editable build alone, and asked for by the back end only then.
EDITABLE_BUILDS = "editables"


def pins_of(text: str) -> dict[str, str]:
    """The version that each line fixes; ValueError for a line that fixes none, or a name that is fixed twice."""
    pins: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, separator, pinned = line.strip().partition("==")
        key = canonicalize_name(name)
        if not separator or not pinned[:1].isdigit() or "*" in pinned or key in pins:
            raise ValueError(f"constraints.txt line {number}: not one name==version, once")
        pins[key] = pinned
    return pins


def declared(root: Path) -> list[Requirement]:
    """Everything that the five distributions ask for, to run, to build and to be worked on."""
    found: list[str] = []
    for name in PROJECTS:
        document = tomllib.loads((root / name).read_text(encoding="utf-8"))
        found += document["build-system"]["requires"]
        found += document["project"]["dependencies"]
        for group in document["project"].get("optional-dependencies", {}).values():
            found += group
    requirements = [Requirement(text) for text in found]
    return [requirement for requirement in requirements if not requirement.name.startswith("quietcount")]


def installed_closure(requirements: list[Requirement]) -> set[str]:
    """The canonical names of the installed distributions that `requirements` lead to, step by step."""
    reached: set[tuple[str, frozenset[str]]] = set()
    waiting = [(requirement.name, frozenset(requirement.extras)) for requirement in requirements]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in reached:
            continue
        reached.add((name, extras))
        try:
            following = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            continue
        for requirement in following:
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
                waiting.append((requirement.name, frozenset(requirement.extras)))
    return {canonicalize_name(name) for name, _ in reached}


def test_every_requirement_has_a_pin_that_satisfies_it(root: Path) -> None:
    pins = pins_of((root / "constraints.txt").read_text(encoding="utf-8"))
    unmet = {
        str(requirement)
        for requirement in declared(root)
        if not requirement.specifier.contains(pins.get(canonicalize_name(requirement.name), "0"))
    }
    assert unmet == set()


def test_everything_that_the_requirements_lead_to_is_pinned(root: Path) -> None:
    pins = pins_of((root / "constraints.txt").read_text(encoding="utf-8"))
    reached = installed_closure(declared(root)) | {EDITABLE_BUILDS}
    assert len(reached) > len(declared(root))
    assert reached - pins.keys() == set()


def test_no_pin_outlives_its_use(root: Path) -> None:
    pins = pins_of((root / "constraints.txt").read_text(encoding="utf-8"))
    assert pins.keys() - installed_closure(declared(root)) - {EDITABLE_BUILDS} == set()


def test_this_environment_has_the_pinned_versions(root: Path) -> None:
    pins = pins_of((root / "constraints.txt").read_text(encoding="utf-8"))
    installed = {}
    for name in pins:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    assert installed == {name: pins[name] for name in installed}


@pytest.mark.parametrize("line", ["click>=8", "click", "click==8.*", "click==8.1\nClick==8.2", "click @ file:///x"])
def test_a_line_that_fixes_no_version_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"constraints\.txt line"):
        pins_of(line)
