"""Stubs: mypy and pyright take what the README does with them, and refuse each mistake at its line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from quietcount_schemas.commands.schemas import schemas

pytestmark = pytest.mark.check

MISTAKES = (
    '"HotlineCalled", "case 4711", "2023-10-03", channel="LETTER"',
    '"HotlineCalled", "case 4711", "2023-10-03", chanel="CHAT"',
    '"HotlineCall", "case 4711", "2023-10-03"',
    '"HotlineCalled", 4711, "2023-10-03"',
    '"HotlineCalled", "case 4711", "2023-10-03", repeated="yes"',
    '"HotlineCalled", "case 4711", "2023-10-03", age=3.5',
    '"CaseWithdrawn", "case 4711", "2023-10-03", channel="CHAT"',
)
GOOD = (
    '"HotlineCalled", "case 4711", "2023-10-03", age=None, revision=1',
    '"CaseWithdrawn", case="case 4711", occurred_on="2023-10-03"',
)


@pytest.fixture
def program(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the stubs, the README's program, and one that has each mistake on a line of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUIETCOUNT_CONFIG", raising=False)
    fields = ("--enum", "channel=PHONE,CHAT,OTHER", "--flag", "repeated", "--number", "age=0:120")
    Path("quietcount.toml").write_text('schemas = ["my-schemas"]\n')
    for arguments in (("new", "HotlineCalled", "-o", "my-schemas", *fields), ("stubs", "-o", "events.py")):
        result = CliRunner().invoke(schemas, list(arguments))
        assert result.exit_code == 0, result.output
    readme = (root / "schemas" / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```python\n(from events import.*?)```", readme, re.DOTALL)
    also = "".join(f"    publisher.emit({call})\n" for call in GOOD)
    later = '    await publisher.emit_async("HotlineCalled", case, "2023-10-03", channel="CHAT", timeout=1.0)\n'
    Path("good.py").write_text(
        f"{shown}\n\ndef more(publisher: Publisher) -> None:\n{also}\n\n"
        f"async def later(publisher: Publisher, case: str) -> None:\n{later}"
    )
    calls = "".join(f"    publisher.emit({call})\n" for call in MISTAKES)
    Path("wrong.py").write_text(f"from events import Publisher\ndef wrong(publisher: Publisher) -> None:\n{calls}")
    return tmp_path


WRONG = [("wrong.py", number) for number in range(3, 3 + len(MISTAKES))]


def test_mypy_finds_each_mistake_and_no_other(program: Path, root: Path) -> None:
    parts = os.pathsep.join(str(root / part) for part in ("producers", "schemas"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--ignore-missing-imports"),
            *("--config-file=", "--cache-dir", str(program / "cache"), "good.py", "wrong.py", "events.py"),
        ],
        capture_output=True,
        text=True,
        cwd=program,
        env={**os.environ, "MYPYPATH": parts},
        timeout=300,
    )
    found = re.findall(r"^([a-z]+\.py):(\d+): error:", done.stdout, re.MULTILINE)
    assert sorted({(file, int(line)) for file, line in found}) == WRONG, done.stdout + done.stderr


def test_pyright_finds_each_mistake_and_no_other(program: Path, root: Path) -> None:
    paths = [str(root / part) for part in ("producers", "schemas")]
    configuration = {"typeCheckingMode": "strict", "extraPaths": paths, "include": ["*.py"]}
    (program / "pyrightconfig.json").write_text(json.dumps(configuration))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable],
        capture_output=True,
        text=True,
        cwd=program,
        timeout=300,
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    errors = [each for each in found if each["severity"] == "error"]
    lines = {(Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in errors}
    assert sorted(lines) == WRONG, errors
