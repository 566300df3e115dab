"""Moments on the command line: none that no calendar can count with, and none that closes years by a slip."""

from __future__ import annotations

import datetime as dt
import json

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tests.e2e.projects import Project

from quietcount_consumers.commands.service import release_command, run_command
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.terminal.moments import Moment, check_not_far_ahead

pytestmark = pytest.mark.quick

NOW = dt.datetime(2023, 5, 1, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "text, moment",
    [
        ("2023-12-08", "2023-12-08T00:00:00+00:00"),
        ("2023-12-08T06:00:00", "2023-12-08T06:00:00+00:00"),
        ("2023-12-08T06:00:00+03:00", "2023-12-08T03:00:00+00:00"),
        ("1970-01-02", "1970-01-02T00:00:00+00:00"),
        ("2099-12-31T23:59:59", "2099-12-31T23:59:59+00:00"),
    ],
)
def test_a_moment_is_utc_unless_it_says_otherwise(text: str, moment: str) -> None:
    assert Moment().convert(text, None, None).isoformat() == moment


@pytest.mark.parametrize(
    "text",
    [
        "1970-01-01", "1970-01-02T00:00:00+00:01", "2100-01-01", "2099-12-31T23:59:59-00:01", "0001-01-01",
        "9999-12-31", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "tomorrow", "", "2023-02-29",
        "\udcff", "2023-12-08T25",
    ],
)  # fmt: skip
def test_a_moment_outside_of_the_calendar_of_events_is_wrong_usage(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write a date or a moment"):
        Moment().convert(text, None, None)


@pytest.mark.check
@given(st.one_of(st.text(max_size=40), st.datetimes(timezones=st.none() | st.timezones()).map(dt.datetime.isoformat)))
def test_any_text_is_a_moment_of_the_calendar_or_wrong_usage(text: str) -> None:
    try:
        moment = Moment().convert(text, None, None)
    except click.BadParameter:
        return
    assert dt.date(1970, 1, 2) <= moment.date() <= dt.date(2099, 12, 31)
    assert moment.utcoffset() == dt.timedelta(0)


def test_a_moment_far_ahead_of_the_clock_is_refused_and_one_ahead_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    for ahead in (dt.timedelta(0), dt.timedelta(days=-9000)):
        check_not_far_ahead(NOW + ahead, NOW)
    assert capsys.readouterr() == ("", "")
    for ahead in (dt.timedelta(seconds=1), dt.timedelta(days=366)):
        check_not_far_ahead(NOW + ahead, NOW)
        out, err = capsys.readouterr()
        assert out == ""
        assert "Warning: --as-of lies ahead of the clock" in err
    with pytest.raises(ServiceError, match="permanently close periods"):
        check_not_far_ahead(NOW + dt.timedelta(days=366, seconds=1), NOW)


@pytest.fixture
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("ahead") / "project")


def test_a_slip_in_the_year_closes_nothing_and_a_dry_run_may_look_there(project: Project) -> None:
    ahead = ["--as-of", "2098-01-08", "--config", str(project.config)]
    for command, more in ((run_command, ["--until-idle"]), (release_command, [])):
        result = CliRunner().invoke(command, [*ahead, *more])
        assert isinstance(result.exception, ServiceError), result.output
        assert not project.data.exists()
    result = CliRunner().invoke(release_command, [*ahead, "--dry-run", "--format", "json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)[-1]["period_start"] == "2097-12-01"
    assert result.stderr == ""


def test_a_moment_soon_is_warned_of_on_stderr(project: Project) -> None:
    soon = (dt.datetime.now(dt.UTC) + dt.timedelta(days=3)).date().isoformat()
    result = CliRunner().invoke(release_command, ["--as-of", soon, "--config", str(project.config), "--format", "json"])
    assert result.exit_code == 0, result.output
    assert "Warning: --as-of" in result.stderr
    assert isinstance(json.loads(result.stdout), list)


def test_a_dry_run_with_nothing_due_says_so(project: Project) -> None:
    result = CliRunner().invoke(
        release_command, ["--as-of", "2023-01-08", "--dry-run", "--config", str(project.config), "--format", "csv"]
    )
    assert result.stderr == "Nothing is due.\n"
    assert result.stdout == "population,statistic,period_start,period_end\n"
