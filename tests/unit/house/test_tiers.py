"""Each test names one tier, and each promise has a test in the tier that anyone runs."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.promises import PROMISES
from tests.tiers import COLLECTED, TIERS, Collected, refusals

pytestmark = pytest.mark.quick

# Prints what a run of every test would collect, as lines of a name, tiers and promises.
_COLLECT = """
import json, pytest
from tests.tiers import COLLECTED

class Shown:
    def pytest_collection_finish(self, session):
        for each in session.config.stash[COLLECTED]:
            print("\\n#", json.dumps([each.name, each.tiers, each.promises]))

raise SystemExit(pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider"], [Shown()]))
"""


@pytest.fixture(scope="session")
def collected(request: pytest.FixtureRequest, root: Path) -> list[Collected]:
    """Every test there is: as this run collected them if it was not asked for some alone, else collected for this."""
    if request.config.args == request.config.getini("testpaths"):
        return request.config.stash[COLLECTED]
    done = subprocess.run([sys.executable, "-c", _COLLECT], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return [Collected(*json.loads(line[2:])) for line in done.stdout.splitlines() if line.startswith("# ")]


def test_each_test_names_one_tier_and_each_promise_has_a_quick_test(collected: list[Collected]) -> None:
    assert len(collected) > 1000
    assert refusals(collected, PROMISES) == []


def test_each_promise_is_one_sentence() -> None:
    assert [name for name in PROMISES if not re.fullmatch(r"[a-z-]+", name)] == []
    assert [text for text in PROMISES.values() if not re.fullmatch(r"\S.{20,}[^.\s]", text)] == []
    assert len(set(PROMISES.values())) == len(PROMISES)


def test_pytest_and_make_know_each_tier(root: Path, pytestconfig: pytest.Config) -> None:
    said = dict(line.split(": ", 1) for line in pytestconfig.getini("markers"))
    assert TIERS.items() <= said.items()
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    recipes = dict(re.findall(r"^(\w+):[^\n]*\n((?:\t[^\n]*\n)+)", makefile, re.MULTILINE))
    for tier, text in TIERS.items():
        [target] = re.findall(r"\(make (\w+)", text)
        # A `-m` names one tier, or several in quotes with "or" between them.
        selections = [one or several for several, one in re.findall(r' -m (?:"([\w ]+)"|(\w+)) ', recipes[target])]
        assert any(tier in selection.split(" or ") for selection in selections), tier


SOUND = [Collected("a", ["quick"], ["one"]), Collected("b", ["soak"], ["one"])]


@pytest.mark.parametrize(
    "faulty, said",
    [
        (Collected("c", [], []), "c names no tier"),
        (Collected("c", ["quick", "soak"], []), "c names quick and soak"),
        (Collected("c", ["check"], ["other"]), "c names other, which is no promise"),
    ],
)
def test_a_test_that_breaks_a_rule_is_named(faulty: Collected, said: str) -> None:
    assert refusals(SOUND, ["one"]) == []
    assert refusals([*SOUND, faulty], ["one"]) == [said]


def test_a_promise_that_only_slow_tests_show_is_named() -> None:
    assert refusals(SOUND[1:], ["one"]) == ["one has no test in the tier quick"]


class TestNearest:
    """The nearest name of a tier counts; these three run in the tier that they name."""

    pytestmark = pytest.mark.check

    @pytest.mark.quick
    def test_a_test_goes_before_its_class(self, request: pytest.FixtureRequest) -> None:
        assert self.of(request) == ["quick"]

    def test_a_class_goes_before_its_module(self, request: pytest.FixtureRequest) -> None:
        assert self.of(request) == ["check"]

    @pytest.mark.soak
    @pytest.mark.parametrize("number", [pytest.param(1, marks=pytest.mark.quick)])
    def test_a_parameter_goes_before_its_test(self, request: pytest.FixtureRequest, number: int) -> None:
        assert self.of(request) == ["quick"]

    @staticmethod
    def of(request: pytest.FixtureRequest) -> list[str]:
        return [mark.name for mark in request.node.iter_markers() if mark.name in TIERS]


@pytest.mark.parametrize("host", ["192.0.2.1", "example.org"])
def test_a_unit_test_that_asks_the_network_is_refused(host: str) -> None:
    with pytest.raises(AssertionError, match=r"a unit test (connects to|looks up)"):
        socket.create_connection((host, 80), timeout=1)
    with socket.socket() as other, pytest.raises(AssertionError, match="a unit test connects to"):
        other.connect((host, 80))
