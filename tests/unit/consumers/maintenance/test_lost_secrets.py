"""Recording that a secret is lost: only one that is not there, at the price that is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.catalogues import statistic
from tests.commanded import invoked, losses, refused
from tests.e2e.projects import EXACT, Project, simulated
from tests.unit.consumers.maintenance.lost_states import bound, check_a_sound_state_is_left_alone

from quietcount_aggregates.state.marks import ConsumerSecret
from quietcount_aggregates.state.state import State
from quietcount_consumers.commands.ledger import ledger_command
from quietcount_consumers.commands.service import run_command

pytestmark = pytest.mark.quick


def test_each_loss_of_a_pepper_has_its_price_and_the_command_says_if_one_is_recorded_last(
    released: Project, tmp_path: Path
) -> None:
    """What is open under the pepper that was lost still counts: a person may count once more under each."""
    project = released.copy(tmp_path / "project")
    for before, after in ((100, 200), (200, 300)):
        said = invoked(project, ledger_command, "record-loss", "--lost", "pepper", "--yes").stderr
        assert ("The newest entry of the ledger records such a loss: go on only if" in said) is (before == 200)
        assert f"The stated bound rises from epsilon {before} to {after}, permanently." in said
        assert f"stays under epsilon {after};" in bound(project)
    assert losses(project) == 2


@pytest.mark.usefixtures("light")
def test_a_lost_pepper_leaves_the_state_as_it_is(released: Project, tmp_path: Path) -> None:
    """Its marks are of no use to anybody who comes back, and what is open would be lost: it cannot be emitted again."""

    project = released.copy(tmp_path / "project")

    def held() -> list[list[tuple[object, ...]]]:
        with State(project.private / "state-0.duckdb") as state:
            return [state.rows(f"FROM {table} ORDER BY ALL") for table in ("open_events", "limits", "offsets")]

    before = held()
    assert all(before)
    said = invoked(project, ledger_command, "record-loss", "--lost", "pepper", "--yes").stderr
    assert "mit again" not in said
    assert "never released" not in said
    assert held() == before
    project.run_here("2023-03-08")
    assert losses(project) == 1
    (project.private / "state-0.duckdb").unlink()
    said = invoked(project, ledger_command, "record-loss", "--lost", "pepper", "--yes").stderr
    assert "emit again all that is dated" in said, "the state is lost as well"


@pytest.mark.usefixtures("light")
def test_after_a_recorded_loss_the_secret_that_is_there_is_not_called_another_one(
    released: Project, tmp_path: Path
) -> None:
    """The state begins again and knows no secret: which one is there makes no difference."""
    project = released.copy(tmp_path / "project")
    secret = project.configuration.service.secret_file
    (project.private / "state-0.duckdb").unlink()
    invoked(project, ledger_command, "record-loss", "--yes")
    said = refused(project, ledger_command, "record-loss", "--lost", "secret", "--yes")
    assert f"{secret}: is there, and the state takes it as its secret when it is next opened" in said
    secret.unlink()
    said = invoked(project, ledger_command, "record-loss", "--lost", "secret", "--yes").stderr
    assert said.startswith(f"{secret} is missing.\nThe loss is recorded already.")
    assert losses(project) == 1


@pytest.mark.usefixtures("light")
def test_a_service_whose_secret_is_lost_permanently_goes_on_with_a_new_one(released: Project, tmp_path: Path) -> None:
    project = released.copy(tmp_path / "project")
    secret = project.configuration.service.secret_file
    lost = secret.read_bytes()
    secret.unlink()
    assert "ledger record-loss --lost secret" in refused(project, run_command, "--until-idle", "--as-of", "2023-02-08")
    said = invoked(project, ledger_command, "record-loss", "--lost", "secret", "--yes").stderr
    assert f"A new secret is in {secret}. Make a backup of it." in said
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.read_bytes() != lost
    project.run_here("2023-03-08")
    assert losses(project) == 1


@pytest.mark.usefixtures("light")
def test_a_secret_that_is_there_is_not_recorded_as_lost(released: Project, tmp_path: Path) -> None:
    project = released.copy(tmp_path / "project")
    secret = project.configuration.service.secret_file
    said = refused(project, ledger_command, "record-loss", "--lost", "secret", "--yes")
    assert f"{secret}: is the secret that the state was made with" in said
    said = refused(project, ledger_command, "record-loss", "--lost", "year", "--yes")
    assert "holds the secret of each year" in said
    assert losses(project) == 0
    mine = secret.read_bytes()
    secret.unlink()
    ConsumerSecret.generate(secret)
    assert "--lost secret" in refused(project, run_command, "--until-idle", "--as-of", "2023-02-08")
    check_a_sound_state_is_left_alone(project)  # the right one may only be misplaced
    said = invoked(project, ledger_command, "record-loss", "--lost", "secret", "--yes").stderr
    assert "is another secret than the state was made with" in said
    assert "from epsilon 100 to 200" in said
    assert secret.read_bytes() != mine
    project.run_here("2023-03-08")
    assert losses(project) == 1


@pytest.mark.usefixtures("light")
def test_a_years_secret_that_is_missing_is_recorded_as_lost(tmp_path: Path) -> None:
    yearly = EXACT + statistic("sentences", "SentencePassed", by="sentence", horizon="year")
    project = Project(tmp_path / "project", yearly)
    project.emit(simulated(50))
    project.run_here("2023-02-08")
    (secret,) = project.configuration.years_of(0).glob("2023")
    secret.unlink()
    assert "--lost year" in refused(project, run_command, "--until-idle", "--as-of", "2023-03-08")
    assert "2023 is missing" in invoked(project, ledger_command, "record-loss", "--lost", "year", "--yes").stderr
    project.run_here("2023-03-08")
    assert losses(project) == 1
