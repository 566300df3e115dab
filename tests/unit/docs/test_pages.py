"""The pages hang together: links lead somewhere, and the tables of modules list the modules there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.promises import PROMISES
from tests.unit.docs.test_commands import pages
from tests.unit.house.test_rules import PARTS, files_of, texts_of

pytestmark = pytest.mark.quick

CODE = re.compile(r"```.*?```|^    .*?$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(
    r"(?<![\w/.-])(?:docs|compose|schemas|producers|aggregates|consumers|tests)/(?:[\w.-]+/)*[\w-]+\.md\b"
)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as code forges make them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", LINK.sub("]", heading).lower()).replace(" ", "-")
        number = 0
        while (anchor := f"{plain}-{number}" if number else plain) in found:
            number += 1
        found.add(anchor)
    return found


def broken_links(root: Path) -> list[str]:
    """Each link between pages that leads to no file or to no heading, as `page: target`."""
    broken: list[str] = []
    for page in pages(root):
        for target in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = page.parent / path if path else page
            if not file.exists() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
                broken.append(f"{page.relative_to(root)}: {target}")
    return broken


def test_every_link_of_the_pages_leads_to_a_file_and_to_a_heading_of_it(root: Path) -> None:
    assert broken_links(root) == []


@pytest.mark.parametrize("target", ["none.md", "docs/a.md#none", "#none", "docs/none.md#there"])
def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, target: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# There, is one\n\n# There, is one\n")
    page = tmp_path / "README.md"
    page.write_text("# Here\n[x](docs/a.md#there-is-one-1) [y](#here) [z](https://x.example/y#z) `[w](none)`\n")
    assert broken_links(tmp_path) == []
    page.write_text(f"[x]({target})\n")
    assert broken_links(tmp_path) == [f"README.md: {target}"]


def test_every_page_that_a_message_or_a_comment_names_is_there(root: Path) -> None:
    texts = {
        file: text
        for file, text in texts_of(root).items()
        if not (file.is_relative_to("tests/unit") and file.match("test_*.py"))
    }
    names = {(file, name) for file, text in texts.items() for name in NAMED.findall(text)}
    assert len({name for _, name in names}) > 6
    assert [f"{file}: {name}" for file, name in sorted(names) if not (root / name).is_file()] == []


def test_every_page_under_docs_is_led_to_from_the_readme_or_from_another_page(root: Path) -> None:
    led: set[Path] = set()
    for page in pages(root):
        targets = (target.partition("#")[0] for target in LINK.findall(page.read_text(encoding="utf-8")))
        led |= {(page.parent / target).resolve() for target in targets if target}
    assert [page.name for page in (root / "docs").glob("*.md") if page.resolve() not in led] == []


@pytest.mark.promise("commands")
def test_the_page_of_the_privacy_claims_says_each_promise_as_the_tests_have_it_and_names_code_that_is_there(
    root: Path,
) -> None:
    text = (root / "docs" / "privacy.md").read_text(encoding="utf-8")
    table = text.partition("| promise | its name in the tests | the code |\n")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (.+) \| `([a-z-]+)` \| (.+) \|$", table, re.MULTILINE)
    assert len(rows) > 15
    for promise, name, code in rows:
        assert PROMISES[name] == promise
        package = ""
        for place in re.findall(r"`([a-z_.]+)`", code):
            package = place.partition(".")[0] or package
            within = place.removeprefix(package).lstrip(".").replace(".", "/")
            path = root / package.removeprefix("quietcount_") / package / within
            assert place.endswith(".sql") or path.is_dir() or path.with_suffix(".py").is_file(), place
    sql = root / "aggregates" / "quietcount_aggregates"
    assert all((sql / name).is_file() for name in re.findall(r"`([a-z_]+\.sql)`", table))


def installed(text: str) -> list[str]:
    """What the commands of a page give to pip, but for files of requirements."""
    commands = re.findall(r"\bpip install ([^`\n]+)", text)
    return [word.strip("'\"") for command in commands for word in command.split("  #")[0].split()]


def test_no_page_installs_quietcount_by_its_name(root: Path) -> None:
    """Nothing is published under our names: an install by name would run a stranger's code beside the secrets."""
    words = {word for page in pages(root) for word in installed(page.read_text(encoding="utf-8"))}
    assert "./schemas" in words
    assert [word for word in words if word.startswith("quietcount")] == []
    assert installed("run `pip install quietcount-producers`, or\n    pip install './a[b]'  # c\n") == [
        "quietcount-producers",
        "./a[b]",
    ]


def wings(root: Path, part: str) -> dict[str, set[str]]:
    """The modules of a part by its wings; those of the package itself are under its name."""
    found: dict[str, set[str]] = {}
    for file in files_of(root):
        if file.suffix == ".py" and file.parts[:2] == (part, f"quietcount_{part}") and file.stem != "__init__":
            found.setdefault("/".join(file.parts[2:-1]) or "the package itself", set()).add(file.stem)
    return found


def listed_wings(text: str) -> dict[str, set[str]]:
    rows = re.findall(r"^\| `?([^|`]+)`? \| (.+) \|$", text.partition("| folder | its modules |\n")[2], re.MULTILINE)
    return {folder: set(re.findall(r"`([a-z_]+)`", said)) for folder, said in rows if folder != "---"}


@pytest.mark.parametrize("part", [part for part in PARTS if part != "aggregates"])
def test_the_page_of_a_part_lists_its_wings_and_their_modules(root: Path, part: str) -> None:
    assert listed_wings((root / part / "README.md").read_text(encoding="utf-8")) == wings(root, part)


def test_the_page_of_the_core_lists_its_modules(root: Path) -> None:
    text = (root / "aggregates" / "README.md").read_text(encoding="utf-8")
    table = text.partition("| module | what it does |\n")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    listed = {name for cell in cells for name in re.findall(r"`([a-z_.]+)`", cell)}
    modules = {name for name in wings(root, "aggregates")["the package itself"] if name != "errors"}
    others = {
        path.name
        for path in (root / "aggregates" / "quietcount_aggregates").iterdir()
        if path.suffix in (".sql", ".toml")
    }
    assert listed == modules | others
