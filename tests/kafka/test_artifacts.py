"""What Maven fetches for the tests comes once, whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.kafka import artifacts

pytestmark = pytest.mark.check

# A Maven that counts its calls, is slow enough to be met by a second one, and fails as often as it is told.
MAVEN = """#!/bin/sh
echo called >> "$0.calls"
sleep 0.3
for argument; do case "$argument" in -DoutputDirectory=*) folder="${argument#*=}";; esac; done
mkdir -p "$folder"
[ ! -e "$folder/half.jar" ] || echo 'not emptied' >> "$0.calls"
: > "$folder/half.jar"
if [ "$(wc -l < "$0.calls")" -le "$FAILURES" ]; then echo 'no such artifact'; exit 1; fi
: > "$folder/whole.jar"
"""


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "mvn"
    program.parent.mkdir()
    program.write_text(MAVEN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FAILURES", "0")
    return program


@pytest.fixture
def pom(tmp_path: Path) -> Path:
    file = tmp_path / "program" / "pom.xml"
    file.parent.mkdir()
    file.write_text("<project/>")
    return file


def calls(maven: Path) -> list[str]:
    file = maven.with_name("mvn.calls")
    return file.read_text().splitlines() if file.exists() else []


def test_what_was_fetched_is_not_fetched_again_until_the_pom_changes(maven: Path, pom: Path) -> None:
    first = artifacts.jars(pom)
    assert sorted(jar.name for jar in first.iterdir()) == ["half.jar", "whole.jar"]
    assert artifacts.jars(pom) == first
    assert calls(maven) == ["called"]
    pom.write_text("<project><!-- another version --></project>")
    assert artifacts.jars(pom) != first
    assert calls(maven) == ["called"] * 2


def test_two_that_ask_at_once_fetch_once(maven: Path, pom: Path, root: Path) -> None:
    command = [sys.executable, "-m", "tests.kafka.artifacts", str(pom)]
    both = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = {each.communicate(timeout=60)[0].strip() for each in both}
    assert [each.returncode for each in both] == [0, 0]
    assert folders == {str(artifacts.jars(pom))}
    assert calls(maven) == ["called"]


def test_a_failed_download_leaves_nothing_and_is_done_again(
    maven: Path, pom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILURES", "2")
    with pytest.raises(artifacts.Unfetched, match="no such artifact"):
        artifacts.jars(pom)
    assert not artifacts.jars_folder(pom).exists()
    assert (artifacts.jars(pom) / "whole.jar").exists()
    assert calls(maven) == ["called"] * 3


def test_a_download_that_was_cut_off_is_no_class_path(maven: Path, pom: Path) -> None:
    partial = artifacts.jars_folder(pom).with_suffix(".partial")
    partial.mkdir(parents=True)
    (partial / "half.jar").touch()
    assert (artifacts.jars(pom) / "whole.jar").exists()
    assert calls(maven) == ["called"]


@pytest.mark.parametrize(
    "said, usable", [("1.8.0_402", False), ("11.0.2", False), ("17", True), ("17.0.15", True), ("25.0.1", True)]
)
def test_java_has_to_be_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, said: str, usable: bool
) -> None:
    program = tmp_path / "java"
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{said}\" 2025-01-01' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    request.addfinalizer(artifacts.java.cache_clear)
    artifacts.java.cache_clear()
    assert artifacts.java() == (str(program) if usable else None)
