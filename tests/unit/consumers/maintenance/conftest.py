"""The projects on which maintenance is tried."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.commanded import emitted, released_month
from tests.e2e.projects import Project
from tests.privacy.light_publications import light_publications


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with events, and no state and no ledger yet."""
    return emitted(tmp_path / "project", 100)


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that released a month. A test that alters its files takes a copy, or puts them back."""
    return released_month(tmp_path_factory.mktemp("released") / "project")


@pytest.fixture
def light() -> Iterator[None]:
    """For what is no concern of the public file: publishing it takes most of a release's time."""
    with light_publications():
        yield
