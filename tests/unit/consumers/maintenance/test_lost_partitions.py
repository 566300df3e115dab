"""Recording that the states of some partitions are lost: the others keep theirs, and the worst one has its price."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.commanded import invoked, losses, refused
from tests.e2e.projects import Project
from tests.unit.consumers.maintenance.lost_states import asked, bound

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import StateLost
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.losses import record_loss
from quietcount_aggregates.state.state import State
from quietcount_consumers.commands.ledger import ledger_command
from quietcount_consumers.commands.service import run_command
from quietcount_consumers.maintenance import losses as recording
from quietcount_consumers.maintenance.recovery import reading_ledger
from quietcount_producers.embedded.embedded_log import EmbeddedLog
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.quick

CASES = 60
"""Of three partitions each has some: that one has none happens in one of 10^10 runs."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose embedded log has three partitions, which the product never makes, and that released a month."""
    create = EmbeddedLog.create_topic

    def parted(self: EmbeddedLog, name: str, partitions: int = 1, *, first: int = 0) -> str:
        return create(self, name, 3 if name == CASE_EVENTS else partitions, first=first)

    monkeypatch.setattr(EmbeddedLog, "create_topic", parted)
    project = Project(tmp_path / "project")
    project.emit([*asked(range(CASES), "2023-01"), *asked(range(CASES, 2 * CASES), "2023-02")])
    project.run_here("2023-02-08")
    assert sorted(project.configuration.state_files) == [0, 1, 2]
    return project


def lose(project: Project, *partitions: int) -> str:
    """Lose the states of these partitions, record that, and return what was said."""
    for partition in partitions:
        project.configuration.state_file(partition).unlink()
    return str(invoked(project, ledger_command, "record-loss", "--yes").stderr)


def content(project: Project, partition: int) -> list[list[tuple[Any, ...]]]:
    with State(project.configuration.state_file(partition), partition) as state:
        return [state.rows(f"FROM {table} ORDER BY ALL") for table in ("open_events", "limits", "offsets")]


def recorded(project: Project) -> list[StateLost]:
    with reading_ledger(project.configuration) as ledger:
        return [entry.body for entry in ledger.chain.entries if isinstance(entry.body, StateLost)]


def test_one_lost_state_of_three_is_recorded_and_the_others_keep_theirs(project: Project) -> None:
    before = [content(project, partition) for partition in (0, 2)]
    assert all(map(all, before))
    released = project.released()
    project.configuration.state_file(1).unlink()
    assert "ledger record-loss" in refused(project, run_command, "--until-idle", "--as-of", "2023-03-08")
    said = lose_nothing_more(project)
    assert "state-1.duckdb is missing." in said
    assert "state-0" not in said
    assert "Every case of partition 1, and of no other, gets its limits again" in said
    assert "The stated bound rises from epsilon 100 to 200, permanently." in said
    assert recorded(project) == [StateLost(1, 1)]
    assert [content(project, partition) for partition in (0, 2)] == before
    assert not content(project, 1)[0]
    project.run_here("2023-03-08")
    assert released.items() < project.released().items()
    assert losses(project) == 1


def lose_nothing_more(project: Project) -> str:
    """Record what is lost already; a start that was refused may have left an empty state behind."""
    project.configuration.state_file(1).unlink(missing_ok=True)
    return str(invoked(project, ledger_command, "record-loss", "--yes").stderr)


def check_the_bound_follows_the_worst_partition(project: Project) -> None:
    """Lose one partition, another, and the first one again, with a release between."""
    lose(project, 0)
    assert "stays under epsilon 200;" in bound(project)
    project.run_here("2023-03-08")
    said = lose(project, 1)
    assert "The stated bound stays at epsilon 200" in said
    assert "recorded already" not in said
    assert "stays under epsilon 200;" in bound(project)
    project.run_here("2023-04-08")
    assert "The stated bound rises from epsilon 200 to 300, permanently." in lose(project, 0)
    assert "stays under epsilon 300;" in bound(project)
    assert recorded(project) == [StateLost(1, 0), StateLost(2, 1), StateLost(3, 0)]


def test_losses_of_two_partitions_raise_the_bound_once(project: Project) -> None:
    check_the_bound_follows_the_worst_partition(project)


def test_a_twin_that_adds_up_the_losses_of_all_partitions_is_found(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Chain, "worst", property(lambda chain: chain.losses))
    with pytest.raises(AssertionError):
        check_the_bound_follows_the_worst_partition(project)


def test_a_twin_that_records_nothing_of_a_loss_that_costs_nothing_is_found(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sparing(ledger: Any, now: Any, partition: int | None, *, kept: bool) -> int:
        return record_loss(ledger, now, partition, kept=kept) if not ledger.chain.losses else ledger.chain.losses

    monkeypatch.setattr(recording, "record_loss", sparing)
    with pytest.raises(AssertionError):
        check_the_bound_follows_the_worst_partition(project)


def test_two_states_lost_at_once_are_two_entries_and_one_rise(project: Project) -> None:
    said = lose(project, 0, 2)
    assert "Every case of partition 0 and 2, and of no other, gets its limits again" in said
    assert "The stated bound rises from epsilon 100 to 200, permanently." in said
    assert recorded(project) == [StateLost(1, 0), StateLost(2, 2)]
    assert "stays under epsilon 200;" in bound(project)


def test_all_states_lost_at_once_are_one_entry(project: Project) -> None:
    said = lose(project, 0, 1, 2)
    assert "Every case gets its limits again" in said
    assert recorded(project) == [StateLost(1)]
    project.run_here("2023-03-08")
    assert losses(project) == 1


def after_a_new_pepper(project: Project) -> str:
    """Lose partition 0, then the pepper, then partition 1: one person may have been in each."""
    lose(project, 0)
    invoked(project, ledger_command, "record-loss", "--lost", "pepper", "--yes")
    lose(project, 1)
    return bound(project)


@pytest.mark.promise("losses")
def test_under_a_new_pepper_a_person_may_be_in_another_partition(project: Project) -> None:
    """Counted four times: at first, after the first loss, under the new key, and after the second loss."""
    assert "stays under epsilon 400;" in after_a_new_pepper(project)


def test_a_twin_that_forgets_what_was_lost_under_the_older_pepper_is_found(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Chain, "worst", property(lambda self: 1 + max(self.lost.values(), default=0)))
    assert "stays under epsilon 400;" not in after_a_new_pepper(project)


def test_one_partition_may_be_named_and_no_other_is_looked_at(project: Project) -> None:
    project.configuration.state_file(2).unlink()
    said = refused(project, ledger_command, "record-loss", "--partition", "1", "--yes")
    assert "sound" in said
    assert "--partition 3: the log has 3" in refused(
        project, ledger_command, "record-loss", "--partition", "3", "--yes"
    )
    invoked(project, ledger_command, "record-loss", "--partition", "2", "--yes")
    assert recorded(project) == [StateLost(1, 2)]


def test_where_workers_fold_a_state_that_is_not_here_is_not_lost(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "has_workers", True)
    for partition in (1, 2):
        project.configuration.state_file(partition).unlink()
    assert "name it: --partition" in refused(project, ledger_command, "record-loss", "--yes")
    assert "folds partition 1" in refused(project, run_command, "--until-idle", "--as-of", "2023-03-08")
    assert recorded(project) == []
    invoked(project, ledger_command, "record-loss", "--partition", "2", "--yes")
    assert recorded(project) == [StateLost(1, 2)]
    assert sorted(project.configuration.state_files) == [0, 2], "that of partition 1 is a worker's"
