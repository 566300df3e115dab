"""The doctor: what it tells and does not tell, and the command that prints it."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.deployment import blocks_of
from tests.e2e.doctor.doctor_projects import (
    KAFKA_ONLY,
    STORE,
    WRONG,
    Healthy,
    change,
    found,
    garbage,
    gone,
    healthy,
    project,
    snapshot,
    unverified,
)
from tests.e2e.projects import EXACT, Project
from tests.e2e.service.test_upgrades import CONFIGURATION

from quietcount_consumers.commands.doctor import doctor_command
from quietcount_consumers.doctor import examination as doctor
from quietcount_consumers.doctor.examination import examine
from quietcount_consumers.doctor.machine import Machine
from quietcount_consumers.doctor.verdicts import CHECKS, refused
from quietcount_schemas.cli import cli
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.finding import Finding

pytestmark = pytest.mark.check

__all__ = ["healthy", "project", "unverified"]  # the fixtures


# What is told


def test_nothing_that_is_told_follows_from_events(healthy: Project, tmp_path: Path, unverified: None) -> None:
    """The same of a project with no events and of one with many, but for the folder's name."""
    empty = Project(tmp_path / "empty", CONFIGURATION)
    empty.config.chmod(0o600)
    for day in ("2023-02-08", "2023-03-08"):
        empty.run_here(day)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUIETCOUNT_METRICS__LISTEN", "127.0.0.1:0")
        told = [
            [str(each).replace(str(project.folder), "") for each in examine(project.config, Healthy())]
            for project in (healthy, empty)
        ]
    assert told[0] == told[1]
    for path in (empty.private / "log.sqlite", healthy.private / "log.sqlite"):
        assert path.exists()


@pytest.mark.quick
@pytest.mark.promise("doctor")
def test_our_errors_are_told_as_what_is_wrong_and_what_to_do() -> None:
    told = refused("state", QuietcountError("/a/b.c: is damaged; or no state", "Put it back. Else run: quietcount x"))
    assert told == Finding("", "/a/b.c: is damaged; or no state", "Put it back. Else run: quietcount x", "state", WRONG)
    bare = refused("state", QuietcountError("it is broken. Or not; who knows"))
    assert bare.what == "it is broken. Or not; who knows"
    assert bare.remedy


def test_remedies_name_the_way_back_and_no_way_that_costs_the_data(project: Project, unverified: None) -> None:
    garbage(*STORE, "ledger.sqlite")(project)
    gone("secrets", "service")(project)
    told = {each.code: each.remedy for each in found(examine(project.config, Healthy()))}
    assert "quietcount ledger restore" in told["ledger"]
    assert "The service's secret is lost" in told["secrets"]
    assert "init" not in told["secrets"]


@pytest.mark.quick
@pytest.mark.promise("doctor")
def test_a_project_before_its_first_run_is_in_order_and_stays_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIETCOUNT_METRICS__LISTEN", "off")
    project = Project(tmp_path / "project", EXACT)
    before = snapshot(project.folder)
    verdicts = examine(project.config, Healthy())
    assert found(verdicts) == []
    assert any("the next start declares" in each.what for each in verdicts)
    assert snapshot(project.folder) == before


def test_the_machine_is_asked_and_not_set() -> None:
    """On any machine: what the system says is of the right kind, and the umask is what it was."""
    mask = os.umask(0o077)
    os.umask(mask)
    real = Machine()
    assert real.umask() in (mask, None)
    assert real.synchronised() in (True, False, None)
    assert abs(real.now() - dt.datetime.now(dt.UTC)) < dt.timedelta(hours=1)
    mask_after = os.umask(mask)
    assert mask_after == mask


# The command


def test_the_command_prints_what_it_found_and_ends_with_1_if_anything_is_wrong(
    project: Project, unverified: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "Machine", Healthy)
    arguments = ["--config", str(project.config), "--format"]
    fine = CliRunner().invoke(doctor_command, [*arguments, "json"])
    assert fine.exit_code == 0, fine.output
    rows = json.loads(fine.stdout)
    assert {tuple(row) for row in rows} == {("code", "severity", "where", "what", "remedy")}
    assert {row["code"] for row in rows} == set(CHECKS) - KAFKA_ONLY
    warned = any(row["severity"] == "warning" for row in rows)
    assert ("Nothing is wrong; look at the warnings above." if warned else "Nothing is wrong.") in fine.stderr
    change(project, "epsilon = 20.0", "epsilon = 10.0")
    faulty = CliRunner().invoke(doctor_command, [*arguments, "csv"])
    assert isinstance(faulty.exception, QuietcountError)
    assert "(populations)" in str(faulty.exception)
    assert "populations,wrong,," in faulty.stdout
    table = CliRunner().invoke(doctor_command, [*arguments, "table"])
    assert re.search(r"^populations +wrong ", table.stdout, re.MULTILINE)
    assert "→" in table.stdout


def test_a_warning_alone_is_nothing_wrong(project: Project, unverified: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "Machine", lambda: Healthy(mask=0))
    told = CliRunner().invoke(doctor_command, ["--config", str(project.config)])
    assert told.exit_code == 0
    assert "umask,warning,," in told.stdout


def test_a_configuration_that_cannot_be_used_is_all_that_is_told(tmp_path: Path) -> None:
    (verdict,) = examine(tmp_path / "none.toml", Healthy())
    assert (verdict.code, verdict.severity) == ("configuration", WRONG)
    assert verdict.remedy


def test_each_check_is_on_the_page_in_the_words_that_the_doctor_has_for_it(root: Path) -> None:
    page = (root / "docs" / "recovery.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", page.split("## The doctor")[1], re.MULTILINE))
    assert rows == CHECKS
    lines = [line for block in blocks_of(page, "sh") for line in block.splitlines() if line.startswith("quietcount ")]
    assert any(line.startswith("quietcount doctor") for line in lines)
    assert "doctor" in cli.list_commands(cli.make_context("quietcount", [], resilient_parsing=True))
