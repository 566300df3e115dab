"""Prometheus is fetched without being installed: unpacked whole into the cache, or not there at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.prometheus import programs as here

pytestmark = pytest.mark.check

# A package manager that gives packages of a file each; what it is asked for is written down.
TOOLS = {
    "apt-cache": 'printf "prometheus\\n  Depends: adduser\\n  Depends: libjs-rickshaw\\n  Depends: libc6\\n"',
    "apt-get": 'echo "$@" > "$ASKED"; touch prometheus.deb libjs.deb',
    "dpkg-deb": 'mkdir -p "$3/usr/bin" "$3/usr/share/doc"; for name in prometheus promtool; do\n'
    '  printf "#!/bin/sh\\n" > "$3/usr/bin/$name"; chmod 755 "$3/usr/bin/$name"; done',
}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with these tools, an empty cache and no Prometheus; the file with what apt-get was asked for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "mkdir", "touch", "chmod"):
        (folder / name).symlink_to(str(shutil.which(name)))
    for name, script in TOOLS.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    monkeypatch.setattr(here, "programs", here.programs.__wrapped__)  # what it found before holds elsewhere
    return tmp_path / "asked"


def test_it_is_fetched_with_what_its_pages_need_and_installed_nowhere(asked: Path) -> None:
    assert here.programs() is None
    here.fetch()
    assert asked.read_text(encoding="utf-8").split() == ["download", "-qq", "prometheus", "libjs-rickshaw", "libjs-d3"]
    found = here.programs()
    assert found is not None
    assert os.access(found.prometheus, os.X_OK)
    assert os.access(found.promtool, os.X_OK)
    assert [path.name for path in here.cache_folder().parent.iterdir()] == ["prometheus"]


@pytest.mark.parametrize("broken", ["apt-cache", "apt-get", "dpkg-deb"])
def test_a_fetch_that_fails_says_why_and_leaves_nothing(asked: Path, broken: str) -> None:
    tool = asked.with_name("bin") / broken
    tool.write_text("#!/bin/sh\necho 'E: no such package' >&2\nexit 100\n", encoding="utf-8")
    with pytest.raises(here.Unfetched, match="no such package"):
        here.fetch()
    assert list(here.cache_folder().parent.iterdir()) == []
    tool.unlink()
    with pytest.raises(here.Unfetched, match=f"this machine has no {broken}"):
        here.fetch()
