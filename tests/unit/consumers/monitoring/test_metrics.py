"""The metrics: gauges of one table, every label value from the start, documented one by one, and no count anywhere."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import exposition as text_format
from prometheus_client.openmetrics import exposition as open_metrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics_of
from prometheus_client.parser import text_string_to_metric_families as metrics_of
from tests.catalogues import statistic
from tests.conftest import Require
from tests.monitored_world import (
    NOW,
    exposition,
    families,
    new_configuration,
    showing,
    started,
    value,
)
from tests.prometheus.programs import WANTED, programs

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.monitoring import metrics
from quietcount_consumers.monitoring.application import OPEN_METRICS, TEXT
from quietcount_consumers.monitoring.metrics import METRICS, Metric
from quietcount_consumers.monitoring.status import (
    CELLS_SHOWN,
    Board,
    BudgetStatus,
    CellStatus,
    StatisticStatus,
    Status,
    beginning,
)
from quietcount_consumers.project import create_project
from quietcount_schemas.events.periods import Period
from quietcount_schemas.rejection import ClientFault, RejectReason

pytestmark = pytest.mark.quick

NAMES = [metric.name for metric in METRICS]
DIMENSIONS = ("help_kind", "service_category", "circumstance", "region")

# The names that an operator's rules and dashboards are written with: a change of one breaks what others have.
PROMISED = re.findall(
    r"\S+",
    """
quietcount_build_info{version} quietcount_configuration_info{hash} quietcount_start_timestamp_seconds
quietcount_tick_interval_seconds quietcount_last_tick_timestamp_seconds quietcount_tick_age_seconds
quietcount_ticks_behind quietcount_caught_up quietcount_ready quietcount_state_open quietcount_broker_reachable
quietcount_clock_trusted quietcount_last_success_timestamp_seconds{operation} quietcount_publication_waits
quietcount_partition_missing{partition}
quietcount_rejects_seen{reason}
quietcount_client_faults_seen{fault}
quietcount_ledger_verified quietcount_ledger_entries quietcount_ledger_state_losses quietcount_releases_due{statistic}
quietcount_releases_overdue{statistic} quietcount_budget_limit_epsilon quietcount_budget_bound_epsilon
quietcount_budget_left_epsilon quietcount_budget_spent_epsilon{statistic} quietcount_statistic_retired{statistic}
quietcount_statistic_estimate{statistic,cell} quietcount_statistic_lower{statistic,cell}
quietcount_statistic_upper{statistic,cell} quietcount_statistic_period_start_timestamp_seconds{statistic}
quietcount_statistic_period_end_timestamp_seconds{statistic} quietcount_disk_free_ratio{folder}
""",
)


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Configuration:
    return new_configuration(tmp_path_factory.mktemp("project"))


@pytest.fixture
def board(configuration: Configuration) -> Board:
    """The board of a process that was just started."""
    return started(configuration)


def written(metric: Metric) -> str:
    return metric.name + ("{" + ",".join(metric.labels) + "}" if metric.labels else "")


# What there is


def unpromised(table: Iterable[Metric]) -> list[str]:
    """What a table holds that nobody promised, and the other way round."""
    return sorted({written(metric) for metric in table} ^ set(PROMISED))


def test_the_names_and_labels_are_those_that_were_promised() -> None:
    assert unpromised(METRICS) == []
    assert len(METRICS) == len(PROMISED)


def test_the_exposition_holds_every_metric_of_the_table_and_no_other(board: Board) -> None:
    found = families(board)
    assert list(found) == NAMES
    for metric in METRICS:
        family = found[metric.name]
        assert family.type == "gauge"
        assert family.documentation == metric.help
        assert family.samples or metric.name == "quietcount_partition_missing", "without workers there is none"
        for sample in family.samples:
            # A suffix (_total, _created, _bucket) would be another metric by stealth.
            assert sample.name == metric.name
            assert set(sample.labels) == set(metric.labels)
            assert sample.timestamp is None
            assert sample.exemplar is None


def test_neither_the_process_nor_the_interpreter_nor_a_time_of_making_is_shown(board: Board) -> None:
    body = exposition(board) + exposition(board, openly=True)
    for leak in (b"_created", b"process_", b"python_", b"_total", b"_bucket", b"_count{", b"_sum"):
        assert leak not in body


def test_each_help_text_is_made_of_whole_sentences() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"[A-Z0-9].*[a-z0-9)%]\.", metric.help, re.DOTALL), metric
        assert "\n" not in metric.help


def test_both_formats_say_the_same(board: Board) -> None:
    plain, openly = exposition(board), exposition(board, openly=True)
    assert (text_format.CONTENT_TYPE_PLAIN_0_0_4, open_metrics.CONTENT_TYPE_LATEST) == (TEXT, OPEN_METRICS)
    told = [
        [(s.name, sorted(s.labels.items()), str(s.value)) for family in found for s in family.samples]
        for found in (
            metrics_of(plain.decode()),
            open_metrics_of(openly.decode()),  # type: ignore[no-untyped-call]
        )
    ]
    assert told[0] == told[1]


def test_promtool_finds_nothing_to_say(board: Board, require: Require) -> None:
    there = programs()
    require(there is not None, WANTED)
    assert there is not None
    checked = subprocess.run(
        [there.promtool, "check", "metrics"], input=exposition(board), capture_output=True, timeout=60
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


# From the start


def test_every_label_value_is_there_before_the_first_tick(board: Board, configuration: Configuration) -> None:
    found = families(board)

    def values(name: str, label: str) -> list[str]:
        return [sample.labels[label] for sample in found[name].samples]

    assert values("quietcount_rejects_seen", "reason") == [reason.value for reason in RejectReason]
    assert values("quietcount_client_faults_seen", "fault") == [fault.value for fault in ClientFault]
    assert values("quietcount_last_success_timestamp_seconds", "operation") == [
        "fold",
        "release",
        "publication",
        "purge",
    ]
    assert values("quietcount_disk_free_ratio", "folder") == ["data", "secrets"]
    tables = [table for each in configuration.populations(configuration.registry()) for table in each.tables]
    assert len(tables) > len(configuration.population)  # a population of two tables is among them
    for metric in METRICS:
        if metric.labels == ("statistic",):
            assert values(metric.name, "statistic") == sorted(table.name for table in tables)
        if metric.labels == ("statistic", "cell"):
            cells = [(sample.labels["statistic"], sample.labels["cell"]) for sample in found[metric.name].samples]
            assert sorted(cells) == sorted((s.name, cell) for s in tables for cell in s.domain)


def test_what_is_not_known_yet_is_no_number_and_what_never_was_is_zero(board: Board) -> None:
    for name, family in families(board).items():
        values = {sample.value for sample in family.samples}
        if name in UNKNOWN_AT_THE_START:
            assert all(map(math.isnan, values)), name
        else:
            assert not any(map(math.isnan, values)), name
    for operation in ("fold", "release", "publication", "purge"):
        assert value(board, "quietcount_last_success_timestamp_seconds", operation=operation) == 0
    assert value(board, "quietcount_last_tick_timestamp_seconds") == 0
    # No alert may ring for a budget, a clock or a disk that was not looked at yet.
    assert value(board, "quietcount_clock_trusted") == 1


UNKNOWN_AT_THE_START = {
    "quietcount_broker_reachable",
    "quietcount_ledger_verified",
    "quietcount_budget_bound_epsilon",
    "quietcount_budget_left_epsilon",
    "quietcount_budget_spent_epsilon",
    "quietcount_statistic_estimate",
    "quietcount_statistic_lower",
    "quietcount_statistic_upper",
    "quietcount_statistic_period_start_timestamp_seconds",
    "quietcount_statistic_period_end_timestamp_seconds",
    "quietcount_disk_free_ratio",
}


def test_a_statistic_of_too_many_cells_is_shown_without_them(tmp_path: Path) -> None:
    create_project(tmp_path)
    config = tmp_path / "quietcount.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(
        text + statistic("wide", "HelpRequested", by=DIMENSIONS, epsilon=0.01),
        encoding="utf-8",
    )
    wide = Configuration.load(config, {})
    [table] = [table for each in wide.populations(wide.registry()) for table in each.tables if table.name == "wide"]
    assert table.cells > CELLS_SHOWN
    found = families(Board(lambda: NOW, wide.tick, beginning(wide)))
    assert "wide" not in [s.labels["statistic"] for s in found["quietcount_statistic_estimate"].samples]
    assert "wide" in [s.labels["statistic"] for s in found["quietcount_releases_due"].samples]
    assert str(CELLS_SHOWN) in found["quietcount_statistic_estimate"].documentation


def test_the_hash_is_of_the_configuration_and_not_of_its_place(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        create_project(folder)
    digest = Configuration.load(one / "quietcount.toml", {}).digest
    assert re.fullmatch("[0-9a-f]{16}", digest)
    assert Configuration.load(other / "quietcount.toml", {}).digest == digest
    assert Configuration.load(one / "quietcount.toml", {"QUIETCOUNT_TICK": "30s"}).digest != digest
    assert Configuration.load(one / "quietcount.toml", {"QUIETCOUNT_TICK": "1m"}).digest == digest
    assert Configuration.load(one / "quietcount.toml", {"QUIETCOUNT_LOG": "kafka://one:9092"}).digest != digest


def test_nothing_is_called_due_by_a_clock_that_is_not_trusted() -> None:
    requests = StatisticStatus("requests", Period.MONTH, first_open=dt.date(2026, 1, 1))
    for trusted, due in ((True, 2.0), (False, math.nan)):
        board = showing(statistics=(requests,), clock_trusted=trusted)
        for name in ("quietcount_releases_due", "quietcount_releases_overdue"):
            assert value(board, name, statistic="requests") == pytest.approx(due, nan_ok=True)


# Documented


def documented(root: Path) -> dict[str, str]:
    """The table "Metrics" of docs/monitoring.md: what is said of each metric, by its name and labels."""
    text = (root / "docs" / "monitoring.md").read_text(encoding="utf-8")
    section = text.split("\n## Metrics\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(quietcount_[^`]*)` \| (.*) \|$", section, re.MULTILINE))


def test_every_metric_is_documented_and_every_documented_metric_exists(root: Path) -> None:
    found = documented(root)
    assert list(found) == [written(metric) for metric in METRICS]
    assert found == {written(metric): metric.help for metric in METRICS}


# Mutants


MUTANTS = (
    Metric("quietcount_events_folded", "How many events were folded.", lambda _: [((), 12.0)]),
    Metric("quietcount_log_lag", "How far the end of the log is away.", lambda _: [((), 12.0)]),
    Metric("quietcount_rejects_seen", "How many were rejected.", lambda _: [(("empty", "12"), 12.0)], ("reason", "n")),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_metric_that_nobody_promised_is_caught(
    mutant: Metric, monkeypatch: pytest.MonkeyPatch, root: Path, board: Board
) -> None:
    monkeypatch.setattr(metrics, "METRICS", (*METRICS, mutant))
    assert mutant.name in families(board)
    assert unpromised(metrics.METRICS) == [written(mutant)]
    assert written(mutant) not in documented(root)


def test_a_status_has_room_for_no_count_of_events() -> None:
    """Each whole number that a status can hold is named here, with where it comes from: a new one has to be argued."""
    numbers = {
        f"{kind.__name__}.{field.name}"
        for kind in (Status, StatisticStatus, BudgetStatus, CellStatus)
        for field in dataclasses.fields(kind)
        if re.search(r"\b(int|float)\b", str(field.type))
    }
    assert numbers == {
        "Status.ledger_entries",  # declarations and releases
        "Status.state_losses",  # the ledger's
        "Status.missing",  # numbers of partitions
        "Status.disk_free",  # in eight steps
        "CellStatus.estimate",  # noised
        "CellStatus.lower",
        "CellStatus.upper",
    }
