"""A disk that is full, limited or read-only: one sentence, nothing half done, and a way on."""

from __future__ import annotations

import re
import resource
from collections.abc import Callable

import pytest
from tests.conftest import Require
from tests.e2e.mounts import read_only, resized, small_disk
from tests.e2e.projects import Finished, Project, simulated, true_cells
from tests.e2e.services_here import LINES, RUN, TRUE, contents, here, nonzero, project

from quietcount_producers.simulation import encoded

pytestmark = pytest.mark.check

__all__ = ["here", "project"]  # fixtures, which tests ask for by name


FULL = re.compile(r"disk|space|room")


@pytest.mark.parametrize("kibibytes", [150, 1000])
def test_a_full_disk_is_said_and_mended_by_making_room(project: Project, require: Require, kibibytes: int) -> None:
    assert fill(project, require, kibibytes)


def fill(project: Project, require: Require, kibibytes: int) -> int:
    """Do the whole job on a disk of this size, making room after each refusal; return how many there were.

    Whatever there is no room for, emitting, folding, drawing, publishing or forgetting: the job can be done again.
    """
    lines = simulated(1500)
    with small_disk(project.data, kibibytes, require):
        (project.folder / "cases.jsonl").write_bytes(b"".join(map(encoded, lines)))
        refusals = 0
        for command in (("emit", "cases.jsonl"), RUN):
            finished = project.quietcount(*command)
            if finished.code:
                message = finished.refusal()
                assert FULL.search(message), message
                assert "damaged" not in message, message
                refusals += 1
                resized(project.data, 100_000)
                kept = project.ledger_values() if (project.private / "ledger.sqlite").exists() else {}
                project.quietcount(*command).done()
                if command == RUN:
                    assert kept.items() <= project.ledger_values().items()
        assert nonzero(project) == true_cells(lines)
        assert project.ledger_values() == project.released()
        return refusals


@pytest.mark.soak
@pytest.mark.parametrize("kibibytes", range(20, 4000, 90))
def test_a_disk_that_fills_up_at_any_point(project: Project, require: Require, kibibytes: int) -> None:
    fill(project, require, kibibytes)


@pytest.mark.parametrize("limit", [600_000])
def test_a_limit_on_the_size_of_files_is_said_and_mended(project: Project, limit: int) -> None:
    project.emit(LINES)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    message = project.quietcount(*RUN, preexec_fn=limited).refusal()
    assert "damaged" not in message
    project.run()
    assert nonzero(project) == TRUE


def test_a_read_only_folder_is_said_and_nothing_is_half_done(
    project: Project, require: Require, here: Callable[..., Finished]
) -> None:
    project.emit(LINES)
    project.run_here("2023-03-08")
    before = contents(project.data)
    with read_only(project.data, require):
        for command in (("emit", "cases.jsonl"), RUN, ("release", "--as-of", "2024-01-08")):
            message = here(project, *command).refusal()
            assert re.search("read-only|cannot be written|written", message), message
        # Who only reads is not held up.
        assert here(project, "query", "SELECT count(*) AS n FROM statistics").done().out.startswith("n\n")
        assert "holds exactly" in here(project, "ledger", "verify").done().out
        assert here(project, "ledger", "show").code == 0
        assert here(project, "release", "--dry-run", "--as-of", "2024-01-08").code == 0
    assert contents(project.data) == before
    project.run_here()
    assert nonzero(project) == TRUE


def test_a_file_in_place_of_the_data_folder_is_said(project: Project, here: Callable[..., Finished]) -> None:
    project.data.write_text("in the way")
    for command in (("emit", "cases.jsonl"), RUN):
        (project.folder / "cases.jsonl").write_bytes(b"")
        assert "data" in here(project, *command).refusal()
    assert project.data.read_text() == "in the way"
