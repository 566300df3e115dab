"""The disks: what is told of the room on them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.monitored_world import new_configuration

from quietcount_consumers.monitoring import disks
from quietcount_consumers.wiring import watched_folders

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    "share, told",
    [
        (0.0, 0.0),
        (0.0099, 0.0),
        (0.01, 0.01),
        (0.049, 0.02),
        (0.099, 0.05),
        (0.5, 0.5),
        (0.999, 0.5),
        (1.0, 1.0),
        (-0.1, 0.0),
    ],
)
def test_what_is_free_of_a_disk_is_rounded_down_to_a_coarse_step(share: float, told: float) -> None:
    assert disks.rounded_down(share) == told
    assert told in disks.STEPS


def test_the_disks_of_both_folders_are_looked_at_and_a_missing_folder_is_no_fault(tmp_path: Path) -> None:
    configuration = new_configuration(tmp_path)
    assert [name for name, _ in disks.free(watched_folders(configuration))] == ["secrets"]
    configuration.private_dir.mkdir(parents=True)
    assert [name for name, _ in disks.free(watched_folders(configuration))] == ["data", "secrets"]
