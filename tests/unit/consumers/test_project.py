"""What `quietcount init` writes."""

from __future__ import annotations

import datetime as dt
import errno
import os
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from quietcount_aggregates.ledger.signed_heads import signer_of
from quietcount_aggregates.ledger.signed_notes import SigningKey
from quietcount_aggregates.noise import margin
from quietcount_aggregates.state.marks import ConsumerSecret
from quietcount_consumers.commands.init import init_command
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.project import configuration_text, create_project
from quietcount_consumers.wiring import signing_key_file
from quietcount_producers.composing.pseudonyms import Pepper
from quietcount_producers.settings import EmitterSettings
from quietcount_schemas.events.periods import Period

pytestmark = pytest.mark.quick


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_project_has_private_secrets_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o000)
    try:
        paths = create_project(tmp_path / "project")
    finally:
        os.umask(old)
    folder = tmp_path / "project"
    secrets = [folder / "secrets" / name for name in ("pepper", "service", "service-signing")]
    assert paths == [folder / "quietcount.toml", *secrets]
    assert mode(folder / "secrets") == 0o700
    assert {mode(path) for path in secrets} == {0o600}
    assert len({path.read_text() for path in secrets}) == 3
    assert sorted(path.name for path in folder.iterdir()) == ["quietcount.toml", "secrets"]


def test_what_it_writes_can_be_used_by_the_service_and_by_emitters(tmp_path: Path) -> None:
    create_project(tmp_path)
    configuration = Configuration.load(tmp_path / "quietcount.toml")
    populations = configuration.populations(configuration.registry())
    assert 0 < sum(population.epsilon for population in populations) <= Decimal("2.5")
    assert configuration.lifetime_epsilon == Decimal("2.5")
    ConsumerSecret.load(configuration.service.secret_file)
    SigningKey.load(signing_key_file(configuration))
    Pepper.load(configuration.emitter.pepper_file)
    settings = EmitterSettings.load(tmp_path / "quietcount.toml", {})
    assert settings.pepper_file == configuration.emitter.pepper_file
    assert settings.data_dir == configuration.data_dir


@pytest.mark.parametrize(
    "since, months, quarters",
    [("2023-04-01", "2023-04-01", "2023-04-01"), ("2023-04-02", "2023-05-01", "2023-07-01")],
)
def test_each_population_begins_with_its_first_whole_period_since_a_day(
    since: str, months: str, quarters: str, tmp_path: Path
) -> None:
    create_project(tmp_path, since=dt.date.fromisoformat(since))
    sections = Configuration.load(tmp_path / "quietcount.toml", {}).population
    assert {str(section.since) for section in sections if section.period is Period.MONTH} == {months}
    assert {str(section.since) for section in sections if section.period is Period.QUARTER} == {quarters}


def test_the_catalogue_with_history_says_since_when_and_the_plain_one_does_not(tmp_path: Path) -> None:
    for with_history in (True, False):
        folder = tmp_path / str(with_history)
        create_project(folder, with_history=with_history)
        sections = Configuration.load(folder / "quietcount.toml").population
        assert {section.since is not None for section in sections} == {with_history}
    assert configuration_text().replace("# since", "since") == configuration_text(with_history=True)


def test_the_population_that_is_commented_out_can_be_declared_if_its_epsilon_is_left(tmp_path: Path) -> None:
    """It stands amid the file, where what is below it must not become a part of it."""
    create_project(tmp_path)
    config = tmp_path / "quietcount.toml"
    text = config.read_text(encoding="utf-8")
    commented = text[text.index("# [[population]]\n") :].partition("\n\n")[0]
    config.write_text(text.replace(commented, commented.replace("# ", "")), encoding="utf-8")
    configuration = Configuration.load(config, {})
    more, *rest = configuration.populations(configuration.registry())
    config.write_text(text, encoding="utf-8")
    without = Configuration.load(config, {})
    assert rest == without.populations(without.registry())
    assert configuration.schema_registry == without.schema_registry
    assert (more.period, more.epsilon) == (Period.DAY, Decimal("0.2"))
    assert [(table.by, table.period) for table in more.tables] == [((), Period.DAY)]
    # Its margin, in the words above it.
    assert f"(margin +-{margin(1 / 0.2)})" in text.partition(commented)[0]


@pytest.mark.parametrize("there", ["quietcount.toml", "secrets/pepper", "secrets/service", "secrets/service-signing"])
def test_nothing_is_ever_overwritten(tmp_path: Path, there: str) -> None:
    path = tmp_path / there
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(ServiceError, match="is not overwritten"):
        create_project(tmp_path)
    assert path.read_text() == "mine"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


@pytest.mark.parametrize("failing", ["pepper", "service", "service-signing", "quietcount.toml"])
def test_a_project_that_cannot_be_written_whole_can_be_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """A full disk amid `init` leaves no secret behind that would stop the next one."""
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name.startswith(f".{failing}."):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        result = CliRunner().invoke(init_command, [str(tmp_path / "new" / "project")])
        assert isinstance(result.exception, ServiceError)
        assert "Free space" in str(result.exception)
        assert ".new" not in str(result.exception)  # a name that only ever stood there for a moment
    assert list(tmp_path.iterdir()) == []
    create_project(tmp_path / "new" / "project")
    Configuration.load(tmp_path / "new" / "project" / "quietcount.toml", environment={})


def test_a_folder_that_was_there_before_stays_when_a_project_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "project").mkdir()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ServiceError, match="Free space"):
        create_project(tmp_path / "project")
    assert list(tmp_path.rglob("*")) == [tmp_path / "project"]


def test_init_names_what_it_wrote_and_what_comes_next(tmp_path: Path) -> None:
    result = CliRunner().invoke(init_command, [str(tmp_path / "helpline")])
    assert result.exit_code == 0
    folder = tmp_path / "helpline"
    wrote = [folder / "secrets" / name for name in ("pepper", "service", "service-signing")]
    assert result.stdout.split("\n") == [*map(str, [folder / "quietcount.toml", *wrote]), ""]
    assert "Give this key to partners and readers" in result.stderr
    assert signer_of(SigningKey.load(wrote[-1]).public).text in result.stderr.splitlines()
    assert "quietcount run" in result.stderr


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("")
    with pytest.raises(ServiceError, match=r"cannot be written.*Choose another folder"):
        create_project(tmp_path)
