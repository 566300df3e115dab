"""The doctor and the users of a machine: whose the files are, and what it tells of what it may not read."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.doctor.doctor_projects import ROOT, STORE, WRONG, Healthy, found, healthy, project, unverified
from tests.e2e.projects import Project

from quietcount_consumers.doctor import files as doctor_files
from quietcount_consumers.doctor.examination import examine
from quietcount_consumers.doctor.machine import check_user

pytestmark = pytest.mark.check

__all__ = ["healthy", "project", "unverified"]  # the fixtures


def test_root_is_told_to_use_another_user() -> None:
    assert [each.what for each in check_user(Healthy(who=0), 0)] == [ROOT]
    assert list(check_user(Healthy(who=1000), 1000)) == []


def test_folders_of_different_users_are_found(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Path.stat

    def belonging(path: Path, **options: bool) -> os.stat_result:
        status = told(path, **options)
        if path != project.private:
            return status
        return os.stat_result((*status[:4], status.st_uid + 1, *status[5:]))

    monkeypatch.setattr(Path, "stat", belonging)
    (verdict,) = doctor_files.check_folders(project.configuration, os.geteuid())
    assert "belong to different users" in verdict.what
    assert f"store to {os.geteuid() + 1}" in verdict.what


def test_files_of_another_user_are_found(project: Project) -> None:
    other = os.geteuid() + 1
    told = [*doctor_files.check_secrets(project.configuration, other, opened=True)]
    told += doctor_files.check_folders(project.configuration, other)
    assert {each.code for each in told if "belongs to user" in each.what} == {"secrets", "folders"}


@contextlib.contextmanager
def nobody(project: Project, closed: Path) -> Iterator[None]:
    """Be a user from whom a folder is closed, which root never is."""
    user = os.geteuid()
    if user:
        closed.chmod(0)
    else:
        for path in [*project.folder.rglob("*"), project.folder]:
            os.chown(path, 65534, 65534, follow_symlinks=False)
        os.chown(closed, 0, 0)
        os.seteuid(65534)
    try:
        yield
    finally:
        if not user:
            os.seteuid(0)
        closed.chmod(0o700)


@pytest.mark.parametrize("closed", [("data", "private"), STORE])
def test_where_the_private_folder_cannot_be_read_everything_else_is_told(
    healthy: Project, closed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, unverified: None
) -> None:
    monkeypatch.setenv("QUIETCOUNT_METRICS__LISTEN", "127.0.0.1:0")
    examine(healthy.config, Healthy())  # what is imported late is there before
    with tempfile.TemporaryDirectory() as place:  # and not tmp_path, which is closed to others
        Path(place).chmod(0o755)
        project = healthy.copy(Path(place) / "project")
        with nobody(project, project.folder.joinpath(*closed)):
            verdicts = examine(project.config, Healthy())
    assert {each.code for each in verdicts} >= {"configuration", "secrets", "folders", "disk", "clock", "state"}
    assert "folders" in {each.code for each in verdicts if each.severity is WRONG}
    assert not [each for each in found(verdicts) if each.code == "ledger" and "there is none" in each.what]
