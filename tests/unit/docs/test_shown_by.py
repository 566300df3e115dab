"""Each test that a page names is there: a claim whose test was renamed or removed is a claim that nothing shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.unit.docs.test_commands import pages

pytestmark = pytest.mark.quick

NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
PROVING = ("THREATS.md", "docs/sp800-226.md")
"""The pages that show what they claim by tests."""


def missing(root: Path, text: str) -> list[str]:
    """The tests that a text names and that are not there."""
    return [
        f"{file}::{name}"
        for file, name in NAMED.findall(text)
        if not (root / file).is_file()
        or not re.search(rf"^def {name}\(", (root / file).read_text(encoding="utf-8"), re.MULTILINE)
    ]


@pytest.mark.promise("commands")
def test_every_test_that_a_page_names_is_there(root: Path) -> None:
    assert {
        page.name: found for page in pages(root) if (found := missing(root, page.read_text(encoding="utf-8")))
    } == {}


@pytest.mark.parametrize("page", PROVING)
def test_a_page_that_shows_its_claims_by_tests_names_many_and_each_in_full(root: Path, page: str) -> None:
    text = (root / page).read_text(encoding="utf-8")
    assert len(set(NAMED.findall(text))) > 30
    assert len(re.findall(r"^\* `tests/", text, re.MULTILINE)) == len(NAMED.findall(text))


def test_a_name_that_is_gone_is_found(root: Path) -> None:
    here = "tests/unit/docs/test_shown_by.py"
    assert missing(root, f"`{here}::test_a_name_that_is_gone_is_found`") == []
    assert len(missing(root, f"`{here}::test_nothing` and `tests/none.py::test_nothing`")) == 2
