"""Private files: who may read them, what a crash or a full disk leaves, and what is refused."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from quietcount_schemas import private_files
from quietcount_schemas.private_files import (
    FileFault,
    FileTrouble,
    make_private_folder,
    read_file,
    read_password,
    read_secret,
    sync_folder,
    write_file,
    write_secret,
)

pytestmark = pytest.mark.quick

Write = Callable[..., None]


class Refusal(Exception):
    def __init__(self, fault: FileFault) -> None:
        super().__init__(fault.what)
        self.fault = fault


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refused(read: Callable[[Path, Callable[[FileFault], Exception]], object], path: Path) -> FileTrouble:
    with pytest.raises(Refusal) as caught:
        read(path, Refusal)
    fault = caught.value.fault
    assert fault.remedy
    assert str(path) in fault.what
    return fault.trouble


@pytest.mark.parametrize("replace", [False, True])
def test_a_secret_is_for_its_owner_only_whatever_the_umask(tmp_path: Path, umask: int, replace: bool) -> None:
    path = tmp_path / "secret"
    write_secret(path, b"one", replace=replace)
    assert mode(path) == 0o600
    assert read_secret(path, Refusal) == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_secret_gets_the_rights_that_the_umask_leaves(tmp_path: Path, umask: int) -> None:
    write_file(tmp_path / "plain", b"one")
    assert mode(tmp_path / "plain") == 0o666 & ~umask


@pytest.mark.parametrize("write", [write_secret, write_file])
def test_a_file_is_never_overwritten_unless_that_is_asked_for(tmp_path: Path, write: Write) -> None:
    path = tmp_path / "file"
    write(path, b"one")
    with pytest.raises(FileExistsError):
        write(path, b"two")
    assert path.read_bytes() == b"one"
    write(path, b"two", replace=True)
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_secret_never_follows_a_link_that_lies_in_its_place(tmp_path: Path) -> None:
    other = tmp_path / "other"
    link = tmp_path / "secret"
    link.symlink_to(other)
    with pytest.raises(FileExistsError):
        write_secret(link, b"one")
    assert not other.exists()
    write_secret(link, b"one", replace=True)
    assert not other.exists()
    assert not link.is_symlink()


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("failing", ["secret", "folder"])
def test_a_full_disk_leaves_a_file_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, replace: bool
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "secret"
    if replace:
        write_secret(path, b"before")
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if failing in Path(f"/proc/self/fd/{descriptor}").readlink().name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_secret(path, b"after", replace=replace)
    left = {each.name: each.read_bytes() for each in folder.iterdir()}
    assert left == ({} if not replace else {"secret": b"before" if failing == "secret" else b"after"})


def test_a_secret_and_its_folder_are_synced_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink().name))
    write_secret(tmp_path / "secret", b"one")
    assert [name.startswith(".secret.") for name in synced] == [True, False]
    assert synced[1] == tmp_path.name
    sync_folder(tmp_path)
    assert synced[2] == tmp_path.name


def test_a_draft_of_a_process_that_was_killed_is_in_nobodys_way(tmp_path: Path) -> None:
    draft = tmp_path / f".secret.{os.getpid()}.new"
    draft.write_bytes(b"half")
    draft.chmod(0o666)
    write_secret(tmp_path / "secret", b"one")
    assert list(tmp_path.iterdir()) == [tmp_path / "secret"]
    assert mode(tmp_path / "secret") == 0o600


@pytest.mark.parametrize("open_to", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601])
def test_a_secret_that_is_open_to_others_is_refused_with_the_command_that_closes_it(
    tmp_path: Path, open_to: int
) -> None:
    path = tmp_path / "secret"
    write_secret(path, b"one")
    path.chmod(open_to)
    assert refused(read_secret, path) is FileTrouble.OPEN
    assert refused(read_password, path) is FileTrouble.OPEN
    with pytest.raises(Refusal) as caught:
        read_secret(path, Refusal)
    assert caught.value.fault.remedy == f"Run: chmod 600 {path}"
    assert read_file(path, Refusal) == b"one"


@pytest.mark.parametrize("read", [read_file, read_secret, read_password])
def test_what_is_missing_or_not_a_plain_file_is_told_apart_and_never_waited_for(
    tmp_path: Path, read: Callable[[Path, Callable[[FileFault], Exception]], object]
) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert refused(read, tmp_path / "pipe") is FileTrouble.NOT_PLAIN
    assert refused(read, tmp_path / "absent") is FileTrouble.MISSING
    assert refused(read, tmp_path) is FileTrouble.UNREADABLE


@pytest.mark.parametrize(
    "content, trouble", [(b"", FileTrouble.EMPTY), (b"\r\n", FileTrouble.EMPTY), (b"\xff\xfe", FileTrouble.NOT_TEXT)]
)
def test_a_password_that_is_none_is_refused(tmp_path: Path, content: bytes, trouble: FileTrouble) -> None:
    write_secret(tmp_path / "password", content)
    assert refused(read_password, tmp_path / "password") is trouble


def test_the_line_end_after_a_password_is_no_part_of_it(tmp_path: Path) -> None:
    write_secret(tmp_path / "password", " pässword \r\n".encode())
    assert read_password(tmp_path / "password", Refusal) == " pässword "


def test_a_private_folder_is_closed_whatever_the_umask_and_whoever_made_it(tmp_path: Path, umask: int) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    old.mkdir()
    old.chmod(0o755)
    for folder in (new, old, new):
        make_private_folder(folder)
        assert mode(folder) == 0o700


def test_a_private_folder_that_is_closed_already_is_not_touched(tmp_path: Path) -> None:
    make_private_folder(tmp_path / "folder")
    before = (tmp_path / "folder").stat()
    make_private_folder(tmp_path / "folder")
    assert (tmp_path / "folder").stat().st_ctime_ns == before.st_ctime_ns


# Twins that lack one safeguard each


def twin(right: str, wrong: str) -> ModuleType:
    """The module with one safeguard changed."""
    source = Path(private_files.__file__).read_text(encoding="utf-8")
    assert source.count(right) == 1, f"the module no longer has exactly one {right!r}: adapt this twin"
    module = ModuleType("twin")
    sys.modules["twin"] = module  # a dataclass looks its module up
    exec(compile(source.replace(right, wrong), "twin", "exec"), module.__dict__)  # noqa: S102
    del sys.modules["twin"]
    return module


def is_private(module: Any, folder: Path) -> bool:
    before = os.umask(0o277)
    try:
        module.write_secret(folder / "secret", b"one")
    finally:
        os.umask(before)
    return mode(folder / "secret") == 0o600


def keeps_what_is_there(module: Any, folder: Path) -> bool:
    module.write_secret(folder / "secret", b"one")
    with contextlib.suppress(FileExistsError):
        module.write_secret(folder / "secret", b"two")
    return (folder / "secret").read_bytes() == b"one"


def is_durable(module: Any, folder: Path) -> bool:
    synced: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink().name))
        module.write_secret(folder / "secret", b"one")
    return [name.startswith(".secret.") for name in synced] == [True, False]


def leaves_no_draft(module: Any, folder: Path) -> bool:
    with contextlib.suppress(FileExistsError):
        for content in (b"one", b"two"):
            module.write_secret(folder / "secret", content)
    return [each.name for each in folder.iterdir()] == ["secret"]


def refuses_an_open_one(module: Any, folder: Path) -> bool:
    (folder / "secret").write_bytes(b"one")
    (folder / "secret").chmod(0o640)
    try:
        module.read_secret(folder / "secret", Refusal)
    except Refusal:
        return True
    return False


def closes_a_folder(module: Any, folder: Path) -> bool:
    (folder / "private").mkdir(mode=0o755)
    module.make_private_folder(folder / "private")
    return mode(folder / "private") == 0o700


SAFEGUARDS: list[tuple[Callable[[Any, Path], bool], str, str]] = [
    (is_private, "os.fchmod(descriptor, mode)", "pass"),
    (keeps_what_is_there, "os.link(draft, path)", "draft.replace(path)"),
    (is_durable, "            os.fsync(descriptor)\n        if replace", "        if replace"),
    (is_durable, "        sync_folder(path.parent)", "        pass"),
    (leaves_no_draft, "    finally:\n        draft.unlink(missing_ok=True)", "    finally:\n        pass"),
    (refuses_an_open_one, "if mode & _OTHERS:", "if False:"),
    (closes_a_folder, "path.chmod(_FOLDER)", "pass"),
]


@pytest.mark.parametrize("holds, right, wrong", SAFEGUARDS)
def test_a_twin_without_one_safeguard_is_found(
    tmp_path: Path, holds: Callable[[Any, Path], bool], right: str, wrong: str
) -> None:
    for name in ("ours", "twin"):
        (tmp_path / name).mkdir()
    assert holds(private_files, tmp_path / "ours")
    assert not holds(twin(right, wrong), tmp_path / "twin")
