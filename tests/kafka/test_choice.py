"""Which broker a test gets, and what is said where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.kafka.fixtures import EXTERNAL, external

ONE = "tests/contract/test_log_contract.py::test_appending_nothing_changes_nothing[kafka]"


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


@pytest.mark.parametrize("everything, code, verdict", [("", 0, "1 skipped"), ("1", 1, "1 error")])
def test_without_java_a_test_says_what_to_install(
    root: Path, tmp_path: Path, everything: str, code: int, verdict: str
) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in {"JAVA_HOME", EXTERNAL}}
    environment |= {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "QUIETCOUNT_REQUIRE_ALL": everything}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", ONE],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout
    assert verdict in done.stdout
    assert "Java 17 or later and Maven" in done.stdout
    assert "apt install" in done.stdout
