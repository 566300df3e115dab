"""Which broker a test gets, and what pytest says if there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.kafka.fixtures import EXTERNAL, Clusters, Kafka, external

SHARED = "tests/kafka/test_choice.py::test_a_shared_broker_answers"
OWN = "tests/kafka/test_choice.py::test_a_broker_of_its_own_answers"
CONTRACT = (
    "tests/contract/test_log_contract.py::test_appending_nothing_changes_nothing[kafka]",
    "tests/contract/test_ledger_contract.py::test_a_reader_sees_what_was_appended_since[kafka]",
)
WANTING = (SHARED, OWN, *CONTRACT)


@pytest.mark.check
def test_a_broker_that_is_named_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUIETCOUNT_REQUIRE_ALL", raising=False)
    monkeypatch.delenv(EXTERNAL, raising=False)
    assert external() is None
    monkeypatch.setenv(EXTERNAL, "broker:9092")
    assert external() == "broker:9092"


@pytest.mark.check
def test_if_everything_is_required_it_is_apache_kafka_whatever_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXTERNAL, "broker:9092")
    monkeypatch.setenv("QUIETCOUNT_REQUIRE_ALL", "1")
    assert external() is None


@pytest.mark.check
def test_a_shared_broker_answers(kafka: Kafka) -> None:
    """For the tests below: it needs the shared broker."""
    assert kafka.bootstrap


@pytest.mark.soak
def test_a_broker_of_its_own_answers(kafka_cluster: Clusters) -> None:
    """For the tests below: it needs a broker that it may stop."""
    assert kafka_cluster().bootstrap


def without_java(root: Path, empty: Path, *, everything: str = "") -> tuple[int, str]:
    """Run WANTING as if this machine had Python alone; return the exit code and the output."""
    environment = {key: value for key, value in os.environ.items() if key not in {"JAVA_HOME", EXTERNAL}}
    environment |= {"PATH": str(empty), "XDG_CACHE_HOME": str(empty), "QUIETCOUNT_REQUIRE_ALL": everything}
    options = ["-n", "0", "-q", "-rs", "-p", "no:cacheprovider", "-m", ""]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *WANTING],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout


@pytest.mark.check
def test_without_java_each_test_of_a_broker_is_skipped_and_says_what_to_install(root: Path, tmp_path: Path) -> None:
    code, said = without_java(root, tmp_path)
    assert code == 0, said
    assert f"\n{len(WANTING)} skipped" in said
    reasons = [line for line in said.splitlines() if line.startswith("SKIPPED")]
    assert reasons
    assert all("Java 17 or later and Maven" in reason and "apt install" in reason for reason in reasons)


@pytest.mark.check
def test_without_java_each_test_of_a_broker_fails_if_everything_is_required(root: Path, tmp_path: Path) -> None:
    code, said = without_java(root, tmp_path, everything="1")
    assert code == 1, said
    assert f"\n{len(WANTING)} errors" in said
    assert "Java 17 or later and Maven" in said
