"""From the exports of tools, each through its mapping, to the published figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.catalogues import catalogue, statistic
from tests.e2e.projects import Cell, Project
from tests.unit.producers.mappings.schemas_of_found import DEFINITIONS

from quietcount_producers.commands.emit import emit_command
from quietcount_producers.mapping.catalogue import SHIPPED

pytestmark = pytest.mark.check

MAPPINGS = Path(__file__).parents[2] / "unit" / "producers" / "mappings"
ZONES = {"odk": "Europe/Kyiv", "commcare": "Africa/Nairobi"}
TOOLS = ("kobotoolbox", "odk", "commcare", "primero", "globaleaks")
FOUND = ("aid_workers", "police_shootings", "service_requests", "vegetation_sites", "missing_migrants")

OF_TOOLS = catalogue(statistic("requests", "HelpRequested"), statistic("outcomes", "OutcomeRecorded"))
OF_FOUND = 'schemas = ["events"]\n' + catalogue(
    statistic("attacks", "WorkerAttacked", by="means", since="2021-01-01"),
    statistic("killed", "PersonKilled", by="camera", since="2021-01-01"),
    statistic("filed", "RequestFiled", by="borough", since="2021-01-01"),
    statistic("lost", "MigrantsLost", by="sea", since="2021-01-01"),
    statistic("visits", "SiteVisited", by="slope", since="2021-01-01"),
)
"""At epsilon 20 a cell is released as it is but for one time in 2.4e8."""

TRUE_OF_TOOLS = {
    # kobotoolbox 2 and 3, odk 1 and 2, commcare 1 and 3, primero 2 and 3, globaleaks 2 and 1
    ("requests", "2023-10-01", ""): 8,
    ("requests", "2023-11-01", ""): 12,
    ("outcomes", "2023-12-01", ""): 2,
    ("outcomes", "2024-01-01", ""): 1,
}
TRUE_OF_FOUND = {
    ("attacks", "2021-01-01", "SHOOTING"): 1,
    ("attacks", "2021-02-01", "ASSAULT"): 1,
    ("attacks", "2022-12-01", "EXPLOSIVE"): 1,
    # of two weapons one is counted: a person counts once
    ("killed", "2021-01-01", "true"): 1,
    ("killed", "2021-01-01", "false"): 1,
    ("killed", "2021-02-01", "false"): 3,
    ("filed", "2021-06-01", "QUEENS"): 1,
    ("filed", "2021-06-01", "STATEN_ISLAND"): 1,
    ("filed", "2021-07-01", "UNKNOWN"): 1,
    ("lost", "2021-11-01", "true"): 1,
    ("lost", "2021-11-01", "false"): 1,
    ("lost", "2021-12-01", "false"): 1,
    ("visits", "2021-09-01", "FLAT"): 1,
    ("visits", "2021-10-01", "MID_SLOPE"): 1,
}


def emit(project: Project, sample: str, mapping: Path) -> None:
    arguments = [str(MAPPINGS / "samples" / f"{sample}.csv"), "--mapping", str(mapping)]
    result = CliRunner().invoke(emit_command, [*arguments, "--config", str(project.config)])
    assert result.exit_code == 0, (sample, result.output, result.exception)


def figures(project: Project) -> dict[Cell, int]:
    """Run the service, and return the published figures that are not 0."""
    project.run_here("2024-03-08")
    released = project.released().items()
    return {(table, start, cell.partition("=")[2]): noisy for (table, start, cell), noisy in released if noisy}


def test_the_exports_of_five_tools_are_published_as_they_are_counted_by_hand(tmp_path: Path) -> None:
    project = Project(tmp_path / "desk", OF_TOOLS)
    for name in (*TOOLS, *TOOLS):  # each export again a week later
        mapping = tmp_path / f"{name}.toml"
        mapping.write_text(SHIPPED[name].read_text(encoding="utf-8").replace("FILL IN", ZONES.get(name, "")))
        emit(project, name, mapping)
    assert figures(project) == TRUE_OF_TOOLS


def test_five_exports_found_in_public_are_published_as_they_are_counted_by_hand(tmp_path: Path) -> None:
    project = Project(tmp_path / "desk", OF_FOUND)
    (project.folder / "events").mkdir()
    for definition in DEFINITIONS:
        (project.folder / "events" / f"{definition['name']}.avsc").write_text(json.dumps(definition))
    for name in FOUND:
        emit(project, name, MAPPINGS / f"{name}.toml")
    assert figures(project) == TRUE_OF_FOUND
