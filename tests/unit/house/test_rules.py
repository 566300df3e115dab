"""Rules of the house that hold for the whole tree: what no file may name, and what every part has to have."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.quick

PARTS = ("schemas", "producers", "aggregates", "consumers")
PROJECTS = ("pyproject.toml", *(f"{part}/pyproject.toml" for part in PARTS))
LONGEST_MODULE = 400
IGNORED_FOLDERS = {".git", ".venv", "build", "dist", "quietcount-demo", "data", "secrets"}

# Written in pieces, so that this file does not break the rules it states.
HOSTS = tuple(
    ".".join(pieces)
    for pieces in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("anaconda", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("nodejs", "org"),
        ("maven", "org"),
        ("maven", "apache", "org"),
        ("crates", "io"),
        ("rubygems", "org"),
        ("proxy", "golang", "org"),
        ("docker", "io"),
        ("ghcr", "io"),
        ("quay", "io"),
    )
)
LOCK_FILES = ("*.lock", "*.lockb", "pylock*.toml", "package-lock.json", "npm-shrinkwrap.json", "*-lock.y*ml")
UNFINISHED = re.compile("|".join((rf"\b(TO{'DO'}|FIX{'ME'}|X{'XX'})\b", f"NotImplemented{'Error'}")))
MACHINE_PATHS = re.compile(r"(?<![\w.~}-])/(" + "|".join(("ho" + "me", "ro" + "ot", "wo" + "rk", "Us" + "ers")) + r")/")
NAMELESS = {"util", "utils", "helper", "helpers", "common", "misc"}


def files_of(root: Path) -> list[Path]:
    """Every file of the project, relative to the root: git's list, or without git everything but what make makes."""
    if (root / ".git").exists() and shutil.which("git"):
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            capture_output=True,
            text=True,
        )
        if listed.returncode == 0:
            return sorted(Path(name) for name in listed.stdout.split("\0") if name and (root / name).is_file())
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [
            f for f in folders if f not in IGNORED_FOLDERS and not f.endswith(("cache", "cache__", ".egg-info"))
        ]
        found += [Path(folder, name).relative_to(root) for name in names]
    return sorted(found)


def texts_of(root: Path) -> dict[Path, str]:
    return {file: (root / file).read_text(encoding="utf-8", errors="replace") for file in files_of(root)}


def lines_with(pattern: re.Pattern[str], texts: dict[Path, str]) -> list[str]:
    return [
        f"{file}:{number}"
        for file, text in texts.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


def hosts_pattern() -> re.Pattern[str]:
    return re.compile("|".join(re.escape(host) for host in HOSTS), re.IGNORECASE)


def project_of(root: Path, name: str) -> dict[str, Any]:
    return tomllib.loads((root / name).read_text(encoding="utf-8"))


def broken_rules(root: Path) -> list[str]:
    """Each break of the rules about text and names in the tree, as `rule: file:line`."""
    texts = texts_of(root)
    python = {file: text for file, text in texts.items() if file.suffix == ".py"}
    modules = {file: text for file, text in python.items() if file.parts[0] in PARTS}
    found = [f"a registry's host: {place}" for place in lines_with(hosts_pattern(), texts)]
    found += [f"a machine's path: {place}" for place in lines_with(MACHINE_PATHS, texts)]
    found += [f"unfinished work: {place}" for place in lines_with(UNFINISHED, python)]
    found += [f"a lock file: {file}" for file in texts if any(fnmatch(file.name, lock) for lock in LOCK_FILES)]
    found += [f"no noun for a name: {file}" for file in modules if file.stem in NAMELESS]
    found += [
        f"longer than {LONGEST_MODULE} lines: {file}"
        for file, text in modules.items()
        if len(text.splitlines()) > LONGEST_MODULE
    ]
    return found


def test_the_tree_keeps_the_rules_about_text_and_names(root: Path) -> None:
    assert broken_rules(root) == []


@pytest.mark.parametrize(
    "name, text",
    [
        ("README.md", f"see https://{HOSTS[0]}/project/x"),
        ("compose/x.yml", f"image: {HOSTS[-1].upper()}/x"),
        ("schemas/a.py", "path = '/" + "ho" + "me/me/x'"),
        ("docs.md", "in /" + "wo" + "rk/main"),
        ("schemas/a.py", "# TO" + "DO: later"),
        ("tests/a.py", "raise NotImplemented" + "Error"),
        ("uv.lock", ""),
        ("package-lock.json", ""),
        ("schemas/quietcount_schemas/utils.py", ""),
        ("consumers/quietcount_consumers/run.py", "x = 1\n" * (LONGEST_MODULE + 1)),
    ],
)
def test_each_break_of_a_rule_is_found(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    assert len(broken_rules(tmp_path)) == 1


def test_a_path_below_a_folder_of_the_project_is_no_path_of_a_machine(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("data/wo" + "rk/x and $HOME/ro" + "ot/x\n")
    assert broken_rules(tmp_path) == []


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_a_typed_distribution_with_a_readme(root: Path, part: str) -> None:
    package = root / part / f"quietcount_{part}"
    assert (package / "__init__.py").is_file()
    assert (package / "py.typed").is_file()
    assert (root / part / "README.md").is_file()
    assert project_of(root, f"{part}/pyproject.toml")["project"]["name"] == f"quietcount-{part}"


def test_the_five_distributions_share_one_version_and_one_oldest_python(root: Path) -> None:
    projects = [project_of(root, name)["project"] for name in PROJECTS]
    assert len({project["version"] for project in projects}) == 1
    assert {project["requires-python"] for project in projects} == {">=3.11"}
    assert {project["license"] for project in projects} == {"Apache-2.0"}
    assert f"## {projects[0]['version']}" in (root / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_parts_ask_for_each_other_as_the_design_says(root: Path) -> None:
    asked = {
        name: {
            requirement.partition("quietcount-")[2].partition("==")[0]
            for requirement in project_of(root, name)["project"]["dependencies"]
            if requirement.startswith("quietcount-")
        }
        for name in PROJECTS
    }
    assert asked == {
        "pyproject.toml": {
            "schemas",
            "aggregates",
            "producers[xlsx]",
            "consumers[report]",
        },  # a server alone draws nothing
        "schemas/pyproject.toml": set(),
        "producers/pyproject.toml": {"schemas"},
        "aggregates/pyproject.toml": {"schemas"},
        "consumers/pyproject.toml": {"schemas", "producers", "aggregates"},
    }
