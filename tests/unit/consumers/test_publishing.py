"""When a running service lets be seen what it published: at a point of the tick's grid, and at its end."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb
import pytest
from tests.e2e.projects import Project
from tests.running_world import MINUTE, NOON, Trial, World

from quietcount_aggregates.errors import LedgerUnavailable, PublicationUnwritable
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.publication import publication
from quietcount_aggregates.publication.projection import project as project_chain
from quietcount_aggregates.publication.publication import HeldPublication, publish, published_head
from quietcount_consumers.opening import open_service
from quietcount_consumers.running.ticks import StopSignal, run_until_idle
from quietcount_consumers.running.timekeeping import fixed_clock
from quietcount_consumers.wiring import open_ledger

pytestmark = pytest.mark.quick

LATER = dt.datetime(2023, 3, 8, tzinfo=dt.UTC)


class Publishing(Trial):
    """A service that notes when it is to show what it published; some attempts fail."""

    def __init__(
        self, clock: Callable[[], dt.datetime], failures: int = 0, failing: Mapping[int, Exception] | None = None
    ) -> None:
        super().__init__(failing)
        self.shown: list[tuple[dt.datetime, int, bool]] = []
        self._clock, self._failures = clock, failures

    def show(self) -> bool:
        if self._failures:
            self._failures -= 1
            raise PublicationUnwritable("the folder cannot be written")
        self.shown.append((self._clock(), len(self.seen), self.closed))
        return False


def test_what_is_published_is_shown_at_the_next_point_of_the_grid_and_at_the_end() -> None:
    world = World(waits=3)
    trial = Publishing(world.clocks.wall)
    world._scripts[:] = [trial]
    world.run()
    assert trial.shown == [(NOON + MINUTE, 1, False), (NOON + 2 * MINUTE, 2, False), (NOON + 3 * MINUTE, 3, True)]


def test_what_was_published_before_the_service_had_to_be_closed_is_shown_all_the_same() -> None:
    world = World(waits=3)
    away = LedgerUnavailable("no answer")
    trial = Publishing(world.clocks.wall, failing={2: away})
    world._scripts[:] = [trial, away]
    world.run()
    assert world.events == ["started", "waiting", "stopped"]
    assert trial.shown[:2] == [(NOON + MINUTE, 1, False), (NOON + 2 * MINUTE, 2, True)]


def test_a_file_that_cannot_be_put_in_its_place_is_waited_for_and_published_anew() -> None:
    world = World(waits=4)
    trial = Publishing(world.clocks.wall, failures=1)
    world._scripts[:] = [trial]
    world.run()
    assert world.events == ["started", "waiting", "going on", "stopped"]
    assert len(world.opened) == 2
    assert trial.shown[0][0] == NOON + 2 * MINUTE


def chain_of(project: Project) -> Chain:
    with contextlib.closing(open_ledger(project.configuration, create=False)) as log:
        ledger = Ledger(log)
        ledger.refresh()
    return ledger.chain


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """When each was touched, but for the private folder, which is given its mode when a service is opened."""
    paths = [path for path in (folder, *folder.iterdir()) if path.name != "private"]
    return {path.name: (path.stat().st_ctime_ns, path.stat().st_size) for path in paths}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@pytest.fixture(scope="module")
def released_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("released") / "project")
    project.run_here("2023-02-08")
    return project


@pytest.fixture
def released(released_once: Project, tmp_path: Path) -> Project:
    """A project that released a month: a copy of its own for each test."""
    return released_once.copy(tmp_path / "project")


def test_nothing_in_the_public_folder_is_touched_before_it_is_to_be_seen(released: Project) -> None:
    before = files(released.data)
    with open_service(released.configuration, LATER, held=True) as service:
        with StopSignal() as stop:
            run_until_idle(service, fixed_clock(LATER), stop)
        assert released.ledger_values() != released.released()
        assert files(released.data) == before
    service.show()
    assert files(released.data) != before
    assert released.ledger_values() == released.released()
    after = files(released.data)
    service.show()
    assert files(released.data) == after, "it is shown once"


def test_a_service_that_died_before_it_showed_what_it_released_shows_it_after_its_next_start(project: Project) -> None:
    with open_service(project.configuration, LATER, held=True) as service, StopSignal() as stop:
        run_until_idle(service, fixed_clock(LATER), stop)
    values = project.ledger_values()
    assert values
    assert not project.public.exists()
    with open_service(project.configuration, LATER, held=True) as service:
        service.show()
    assert project.released() == project.ledger_values() == values


def test_a_held_file_is_the_one_that_is_published_at_once(released: Project, tmp_path: Path) -> None:
    chain = chain_of(released)
    held = HeldPublication()
    held.show()  # nothing was published
    held(chain, tmp_path / "held.duckdb")
    assert not (tmp_path / "held.duckdb").exists()
    held.show()
    publish(chain, tmp_path / "published.duckdb")
    facts = [(tmp_path / name).stat() for name in ("held.duckdb", "published.duckdb")]
    assert len({(each.st_mode, each.st_mtime) for each in facts}) == 1
    # Not byte by byte: DuckDB's threads lay the blocks of a file in no fixed order.
    assert all_in(tmp_path / "held.duckdb") == all_in(tmp_path / "published.duckdb")


def all_in(path: Path) -> Mapping[str, object]:
    """Return the definition of each view and macro, and the rows of each table in their order."""
    with duckdb.connect(path, read_only=True) as file:
        tables = [name for (name,) in file.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()]
        views = file.execute("SELECT view_name, sql FROM duckdb_views() WHERE NOT internal ORDER BY 1").fetchall()
        macros = file.execute(
            "SELECT function_name, parameters, macro_definition FROM duckdb_functions() WHERE NOT internal ORDER BY ALL"
        ).fetchall()
        assert tables
        assert views
        assert macros
        return {"views": views, "macros": macros} | {name: file.execute(f'FROM "{name}"').fetchall() for name in tables}


def birth(path: Path, require: Callable[[bool, str], None]) -> str:
    """Return when the file system says that the file was made: whoever can list the folder may ask."""
    told = subprocess.run(["stat", "--format=%w", str(path)], capture_output=True, text=True, check=True).stdout.strip()
    require(told not in ("", "-"), "a file system that tells when a file was made")
    return told


class Built(HeldPublication):
    """A faulty twin that builds at once, elsewhere, and renames what it built: the file system says when that was."""

    def __call__(self, chain: Chain, path: Path, signed_head: str = "") -> None:
        publish(chain, path.with_name("built"), signed_head)
        self._path = path

    def show(self) -> str:
        self._path.with_name("built").replace(self._path)
        return ""


def held_and_shown(held: HeldPublication, chain: Chain, marker: Path) -> Path:
    """Hold, let time pass, make `marker`, show; return what is shown."""
    path = marker.with_name("statistics.duckdb")
    held(chain, path)
    time.sleep(0.05)  # longer than the clock's grain by which files are stamped
    marker.touch()
    held.show()
    return path


def test_what_is_shown_was_made_when_it_was_shown_and_not_before(
    released: Project, tmp_path: Path, require: Callable[[bool, str], None]
) -> None:
    marker = tmp_path / "marker"
    shown = held_and_shown(HeldPublication(), chain_of(released), marker)
    assert birth(shown, require) >= birth(marker, require)


def test_a_twin_that_renames_what_it_built_is_found_out(
    released: Project, tmp_path: Path, require: Callable[[bool, str], None]
) -> None:
    marker = tmp_path / "marker"
    shown = held_and_shown(Built(), chain_of(released), marker)
    assert birth(shown, require) < birth(marker, require)


def test_what_fails_amid_building_is_not_shown_and_leaves_nothing_and_is_still_held(
    released: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full, over and over, and then it is not."""
    chain, path = chain_of(released), tmp_path / "public" / "statistics.duckdb"
    path.parent.mkdir()
    path.write_bytes(b"what was published before")
    held = HeldPublication()
    held(chain, path)

    def torn(connection: duckdb.DuckDBPyConnection, chain: Chain, draft: Path, signed_head: str, version: str) -> None:
        project_chain(connection, chain, draft, signed_head, version)
        os.truncate(draft, 4096)
        raise duckdb.IOException("Could not write file")

    with monkeypatch.context() as patch:
        patch.setattr(publication, "project", torn)
        for _ in range(2):
            with pytest.raises(PublicationUnwritable):
                held.show()
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == b"what was published before"
    held.show()
    assert published_head(path) == chain.head


def test_what_a_kill_left_behind_is_cleared_away(released: Project, tmp_path: Path) -> None:
    path = tmp_path / "public" / "statistics.duckdb"
    path.parent.mkdir()
    for name in (".next-01234567", ".next-01234567.wal", ".next.wal"):
        path.with_name(f"{path.name}{name}").write_bytes(b"torn")
    held = HeldPublication()
    held(chain_of(released), path)
    held.show()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("step", ["unlink", "replace"])
def test_a_disk_that_fails_is_told_and_not_raised_bare(
    released: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """So that the service waits: a bare OSError would end it."""
    (tmp_path / "statistics.duckdb.next-01234567").touch()
    held = HeldPublication()
    held(chain_of(released), tmp_path / "statistics.duckdb")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(Path, step, refuse)
        with pytest.raises(PublicationUnwritable, match="cannot be written"):
            held.show()


def test_what_could_not_be_shown_is_still_held(
    released: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, path = chain_of(released), tmp_path / "public" / "statistics.duckdb"
    path.parent.mkdir()
    held = HeldPublication()
    held(chain, path)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("quietcount_aggregates.publication.publication.os.fsync", full)
        with pytest.raises(PublicationUnwritable, match="No space left"):
            held.show()
    assert list(path.parent.iterdir()) == []
    held.show()
    assert published_head(path) == chain.head


def test_a_folder_that_cannot_be_written_is_told_when_it_is_to_be_shown(released: Project, tmp_path: Path) -> None:
    chain = chain_of(released)
    held = HeldPublication()
    held(chain, tmp_path / "gone" / "statistics.duckdb")
    with pytest.raises(PublicationUnwritable, match="cannot be written"):
        held.show()
