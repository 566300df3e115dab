"""Which broker a test gets, and what is said where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.kafka.fixtures import EXTERNAL, Kafka, external
from tests.kafka.stand_in import UNHONOURED, StandIn

pytestmark = pytest.mark.check

LOG = "tests/contract/test_log_contract.py"
LEDGER = "tests/contract/test_ledger_contract.py"
SERVED = f"{LOG}::test_appending_nothing_changes_nothing[kafka]"
ELSEWHERE = "tests/kafka/test_choice.py::test_nothing_of_its_own"
A_CLUSTER = "tests/unit/test_consumers_kafka_log.py::test_no_topic_comes_into_being_by_being_asked_for"


def test_a_broker_that_is_named_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUIETCOUNT_REQUIRE_ALL", raising=False)
    monkeypatch.delenv(EXTERNAL, raising=False)
    assert external() is None
    monkeypatch.setenv(EXTERNAL, "broker:9092")
    assert external() == "broker:9092"


def test_where_all_has_to_be_there_it_is_apache_kafka_whatever_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXTERNAL, "broker:9092")
    monkeypatch.setenv("QUIETCOUNT_REQUIRE_ALL", "1")
    assert external() is None


@pytest.mark.soak
def test_nothing_of_its_own(kafka: Kafka) -> None:
    """For the tests below: it wants a broker, and is not of the contract suite."""
    assert kafka.bootstrap


def without_java(root: Path, empty: Path, *arguments: str, everything: str = "") -> tuple[int, str]:
    """Run tests as on a machine that has nothing but Python; return the exit code and what was said."""
    environment = {key: value for key, value in os.environ.items() if key not in {"JAVA_HOME", EXTERNAL}}
    environment |= {"PATH": str(empty), "XDG_CACHE_HOME": str(empty), "QUIETCOUNT_REQUIRE_ALL": everything}
    options = ["-n", "0", "-q", "-rs", "-p", "no:cacheprovider", "-m", ""]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *arguments],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout


def test_without_java_the_contract_of_the_log_is_kept_on_a_stand_in(root: Path, tmp_path: Path) -> None:
    quick = "kafka and not kill_9 and not two_processes"
    code, said = without_java(root, tmp_path, LOG, "-k", quick)
    assert code == 0, said
    assert "skipped" not in said
    assert " passed" in said


@pytest.mark.soak
def test_without_java_the_contract_suite_is_kept_on_a_stand_in_but_for_what_is_listed(
    root: Path, tmp_path: Path
) -> None:
    code, said = without_java(root, tmp_path, LOG, LEDGER, "-k", "kafka")
    assert code == 0, said
    assert f"{len(UNHONOURED)} skipped" in said


def test_without_java_what_a_stand_in_cannot_honour_says_what_to_install(root: Path, tmp_path: Path) -> None:
    code, said = without_java(root, tmp_path, *UNHONOURED, ELSEWHERE, A_CLUSTER)
    assert code == 0, said
    assert f"\n{len(UNHONOURED) + 2} skipped" in said
    reasons = [line for line in said.splitlines() if line.startswith("SKIPPED")]
    assert all("Java 17 or later and Maven" in reason and "apt install" in reason for reason in reasons)
    assert all(any(why in reason for reason in reasons) for why in UNHONOURED.values())


def test_where_all_has_to_be_there_no_stand_in_is_taken(root: Path, tmp_path: Path) -> None:
    code, said = without_java(root, tmp_path, SERVED, *UNHONOURED, ELSEWHERE, A_CLUSTER, everything="1")
    assert code == 1, said
    assert f"\n{len(UNHONOURED) + 3} errors" in said
    assert "Java 17 or later and Maven" in said


@pytest.mark.parametrize(
    "listed",
    [
        [test for test in UNHONOURED if "killed" not in test and "same_moment" not in test],
        pytest.param(list(UNHONOURED), marks=pytest.mark.soak),  # with those that start processes
    ],
    ids=["quick", "all"],
)
def test_no_test_is_listed_that_the_stand_in_can_honour(root: Path, listed: list[str]) -> None:
    with closing(StandIn()) as stand_in:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", SERVED, *listed],
            cwd=root,
            env=os.environ | {EXTERNAL: stand_in.bootstrap, "QUIETCOUNT_REQUIRE_ALL": ""},
            capture_output=True,
            text=True,
        )
    assert f"\n{len(listed)} failed, 1 passed" in done.stdout, done.stdout  # one to show that the broker is there
