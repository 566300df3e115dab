"""The rules: what promtool says of them, that each has its place in the runbook, and that the tests would notice."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import yaml
from tests.prometheus.programs import required
from tests.prometheus.rules import RULES, RUNBOOK, UNIT_TESTS, Rule, RulesFile, metric_names, promtool, rules_file
from tests.unit.docs.test_commands import check as check_command

from quietcount_consumers.monitoring.metrics import METRICS
from quietcount_producers.prometheus import BUILD_INFO, SPOOL_AGE

pytestmark = pytest.mark.check

Require = Callable[[bool, str], None]

SEVERITIES = {"critical", "warning", "info"}
PARTS = ("What it means", "What to look at", "What to do", "Never")
LABELS = {metric.name: set(metric.labels) for metric in METRICS} | {BUILD_INFO: {"version"}, SPOOL_AGE: set()}
TARGET = {"job", "instance"}
SECTION = re.compile(r"^## (Quietcount\w+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


@pytest.fixture
def tool(require: Require) -> str:
    """promtool."""
    return required(require).promtool


@pytest.fixture
def rules(root: Path) -> RulesFile:
    return rules_file(root)


# What promtool says


def test_promtool_finds_no_fault_in_the_rules(root: Path, tool: str, rules: RulesFile, tmp_path: Path) -> None:
    quick = tmp_path / "quick.yaml"
    quick.write_text(rules.quick(), encoding="utf-8")
    for file in (root / RULES, quick):
        done = promtool(tool, "check", "rules", "--lint=all", "--lint-fatal", file)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{len(rules.rules)} rules found" in done.stdout


@pytest.mark.promise("alerts")
@pytest.mark.parametrize("name", ["faults", "budget", "health"])
def test_each_alert_fires_for_its_fault_and_none_in_health(root: Path, tool: str, name: str) -> None:
    done = promtool(tool, "test", "rules", root / UNIT_TESTS / f"{name}.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.soak
def test_no_alert_fires_in_a_month_of_health(root: Path, tool: str) -> None:
    done = promtool(tool, "test", "rules", root / UNIT_TESTS / "month.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


# What the rules name exists


def unknown(rules: RulesFile) -> set[str]:
    """What the rules name that no exposition of ours has."""
    return rules.metrics - LABELS.keys()


@pytest.mark.quick
@pytest.mark.promise("alerts")
def test_each_metric_in_the_rules_exists(rules: RulesFile) -> None:
    assert unknown(rules) == set()


def test_a_metric_that_is_renamed_is_found(rules: RulesFile) -> None:
    for name in sorted(rules.metrics):
        assert unknown(RulesFile(re.sub(rf"\b{name}\b", f"{name}_total", rules.text))) == {f"{name}_total"}


def test_the_series_of_the_unit_tests_have_the_names_and_labels_of_the_exposition(root: Path) -> None:
    for file in sorted((root / UNIT_TESTS).glob("*.yaml")):
        loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert loaded["rule_files"] == ["../quietcount.rules.yaml"]
        for series in (each["series"] for test in loaded["tests"] for each in test["input_series"]):
            name, _, given = series.partition("{")
            labels = set(re.findall(r"(\w+)=", given))
            assert labels - TARGET == (set() if name == "up" else LABELS[name]), series


# Each alert is complete


def test_each_alert_says_how_much_it_matters_what_it_is_and_where_to_read_on(rules: RulesFile) -> None:
    for rule in rules.alerts:
        name, annotations = rule["alert"], rule["annotations"]
        assert rule["labels"].keys() == {"severity"}, name
        assert rule["labels"]["severity"] in SEVERITIES, name
        assert annotations.keys() == {"summary", "description", "runbook_url"}, name
        assert annotations["runbook_url"] == f"{RUNBOOK}#{name.lower()}", name
        for text in (annotations["summary"], annotations["description"]):
            assert text.endswith("."), name
            assert "\n" not in text, name


def test_no_annotation_carries_a_value(rules: RulesFile) -> None:
    """What is mailed and kept in chats holds no data: nothing is filled in."""
    for rule in rules.alerts:
        assert "{{" not in str(rule["annotations"]) + str(rule["labels"]), rule["alert"]


def test_each_rule_has_a_comment_that_says_why(rules: RulesFile) -> None:
    lines = rules.text.splitlines()
    for number, line in enumerate(lines):
        if line.lstrip().startswith("- alert:") and "DiskLow" not in line:
            assert lines[number - 1].lstrip().startswith("#"), line


# The runbook


def sections(root: Path) -> dict[str, str]:
    return dict(SECTION.findall((root / RUNBOOK).read_text(encoding="utf-8")))


def test_there_is_no_alert_without_a_section_of_the_runbook_and_no_section_without_an_alert(
    root: Path, rules: RulesFile
) -> None:
    assert list(sections(root)) == sorted(sections(root), key=list(sections(root)).index)
    assert set(sections(root)) == set(rules.names)


def test_each_section_says_what_it_means_what_to_look_at_what_to_do_and_what_never_to_do(root: Path) -> None:
    for name, text in sections(root).items():
        assert [part for part in re.findall(r"^\*\*([\w ]+?)\.?\*\*", text, re.MULTILINE) if part in PARTS] == list(
            PARTS
        ), name
        assert re.search(r"^    \S", text, re.MULTILINE), f"{name}: nothing to look at"


def test_the_table_of_the_runbook_tells_each_alert_with_its_severity(root: Path, rules: RulesFile) -> None:
    text = (root / RUNBOOK).read_text(encoding="utf-8")
    rows = {
        row[1]: (row[2], row[3]) for row in re.finditer(r"^\| \[(\w+)\]\(#(\w+)\) \| ([\w, ]+) \|", text, re.MULTILINE)
    }
    wanted: dict[str, list[str]] = {}
    for rule in rules.alerts:
        wanted.setdefault(rule["alert"], []).append(rule["labels"]["severity"])
    assert rows == {name: (name.lower(), ", ".join(severities)) for name, severities in wanted.items()}
    assert list(rows) == list(sections(root))


def test_the_commands_of_the_runbook_exist(root: Path) -> None:
    text = (root / RUNBOOK).read_text(encoding="utf-8")
    found = re.findall(r"^    (quietcount .+)$|`(quietcount [a-z][^`…]+)`", text, re.MULTILINE)
    commands = {" ".join((block or inline).split()) for block, inline in found}
    assert len(commands) > 8
    for command in sorted(commands - {"quietcount-SOMETHING"}):
        check_command(command)


def test_the_containers_of_the_runbook_exist_and_replay_is_done_by_a_role_that_may_write_case_events(
    root: Path,
) -> None:
    text = (root / RUNBOOK).read_text(encoding="utf-8")
    services = yaml.safe_load((root / "compose/compose.yaml").read_text(encoding="utf-8"))["services"]
    rights = tomllib.loads((root / "compose/kafka/acls.toml").read_text(encoding="utf-8"))["acl"]
    writers = {each["role"] for each in rights if each["name"] == "case-events" and "WRITE" in each["operations"]}
    found = re.findall(r"docker compose run --rm (\w+) ((?:[a-z]\S* )*[a-z-]+)[`\n]", text)
    assert ("operator", "dead-letters replay") in found
    for service, command in found:
        role = services[service]["environment"]["QUIETCOUNT_KAFKA__USERNAME"].removeprefix("quietcount-")
        assert command != "dead-letters replay" or role in writers
        check_command(f"quietcount {command}")


def test_the_metrics_and_pages_that_the_runbook_names_exist(root: Path) -> None:
    text = (root / RUNBOOK).read_text(encoding="utf-8")
    assert metric_names(text) <= LABELS.keys()
    for page in re.findall(r"`([a-z]+/[\w./-]+\.(?:md|yaml|yml))`", text):
        assert (root / page).exists() or (root / "compose" / page).exists(), page


# Mutants: a rule that is wrong turns a unit test red

Change = Callable[[Rule], None]


def rewritten(old: str, new: str) -> Change:
    """A change of an alert's expression."""

    def change(rule: Rule) -> None:
        assert old in rule["expr"], (old, rule["expr"])
        rule["expr"] = rule["expr"].replace(old, new)

    return change


def standing(duration: str | None) -> Change:
    """A change of how long an alert has to stand."""

    def change(rule: Rule) -> None:
        rule.pop("for", None)
        if duration:
            rule["for"] = duration

    return change


def renamed(rule: Rule) -> None:
    rule["expr"] = re.sub(r"\b(up|quietcount[:_][a-z_:]+)\b", r"\1_x", rule["expr"])


KNOWN = "and quietcount_last_tick_timestamp_seconds > 0"
SLOW = {"QuietcountBudgetSpent", "QuietcountBoundRaised"}
"""Alerts that take days; their unit tests are judged every five minutes."""

STARTS = "changes(quietcount_start_timestamp_seconds[2h])"
RAISED = "quietcount:state_losses:known"
UNREADABLE = "quietcount_emitter_spool_age_seconds != quietcount_emitter_spool_age_seconds"
TRUSTED = "and quietcount_clock_trusted == 1"
OPEN = "and ignoring (operation) quietcount_state_open == 1"
MUTANTS: list[tuple[str, int, Change]] = [
    ("QuietcountDown", 0, rewritten("< 0.34", "< 0.05")),
    ("QuietcountDown", 0, rewritten('avg_over_time(up{job=~"quietcount(-.+)?"}[10m])', 'up{job=~"quietcount(-.+)?"}')),
    ("QuietcountDown", 0, rewritten("(-.+)?", "")),
    ("QuietcountDown", 0, rewritten('absent(up{job=~"quietcount(-.+)?"})', "vector(1) > 1")),
    ("QuietcountDown", 0, rewritten('{job=~"quietcount(-.+)?"}', "")),
    ("QuietcountRestarting", 0, rewritten(f"{STARTS} > 3", f"{STARTS} > 2")),
    ("QuietcountRestarting", 0, rewritten(STARTS, "vector(0)")),
    (
        "QuietcountRestarting",
        0,
        rewritten(f"{STARTS} > 3", f"{STARTS} > 3 and quietcount_last_tick_timestamp_seconds > 0"),
    ),
    ("QuietcountRestarting", 0, rewritten("> 6", "> 16")),
    ("QuietcountRestarting", 0, rewritten("> 6", "> 4")),
    ("QuietcountRestarting", 0, rewritten("> 900", "> 0")),
    ("QuietcountStuck", 0, rewritten("> 1800", "> 3600")),
    ("QuietcountStuck", 0, rewritten("> 1800", "> 600")),
    ("QuietcountStuck", 0, rewritten("and quietcount_ticks_behind > 0", "")),
    ("QuietcountBehind", 0, rewritten("quietcount_ticks_behind > 0", "quietcount_ticks_behind > 1")),
    ("QuietcountBehind", 0, rewritten("quietcount_caught_up == 0", "quietcount_caught_up == 2")),
    ("QuietcountBehind", 0, rewritten("and quietcount_state_open == 1", "")),
    ("QuietcountBehind", 0, rewritten(TRUSTED, "")),
    ("QuietcountBehind", 0, rewritten("and quietcount_tick_age_seconds <= 1800", "")),
    ("QuietcountBehind", 0, standing("5m")),
    ("QuietcountBrokerUnreachable", 0, rewritten(KNOWN, "")),
    ("QuietcountBrokerUnreachable", 0, rewritten(TRUSTED, "")),
    ("QuietcountBrokerUnreachable", 0, standing("5m")),
    ("QuietcountNotReady", 0, rewritten(KNOWN, "")),
    ("QuietcountNotReady", 0, rewritten("unless quietcount_broker_reachable == 0", "")),
    ("QuietcountNotReady", 0, rewritten("unless quietcount_ledger_verified == 0", "")),
    (
        "QuietcountNotReady",
        0,
        rewritten("unless quietcount_ledger_verified == 0", "and quietcount_ledger_verified == 1"),
    ),
    ("QuietcountNotReady", 0, rewritten(TRUSTED, "")),
    ("QuietcountClockJumped", 0, rewritten("== 0", "== 1")),
    ("QuietcountClockJumped", 0, standing(None)),
    ("QuietcountLedgerBroken", 0, rewritten(KNOWN, "")),
    ("QuietcountLedgerBroken", 0, rewritten(TRUSTED, "")),
    ("QuietcountLedgerBroken", 0, standing(None)),
    ("QuietcountReleaseOverdue", 0, rewritten("quietcount:releases_overdue:sum", "quietcount_releases_overdue")),
    ("QuietcountReleaseOverdue", 0, rewritten("overdue", "due")),
    ("QuietcountReleaseOverdue", 0, rewritten(TRUSTED, "")),
    ("QuietcountReleaseOverdue", 0, standing(None)),
    ("QuietcountPublicationWaits", 0, rewritten("== 1", "== 0")),
    ("QuietcountPublicationWaits", 0, standing("30m")),
    ("QuietcountPartitionMissing", 0, rewritten("== 1", "== 0")),
    ("QuietcountPartitionMissing", 0, standing(None)),
    ("QuietcountPurgeOverdue", 0, rewritten('{operation="purge"}', "")),
    ("QuietcountPurgeOverdue", 0, rewritten(OPEN, "")),
    ("QuietcountPurgeOverdue", 0, rewritten("and ignoring (operation) quietcount_clock_trusted == 1", "")),
    ("QuietcountPurgeOverdue", 0, standing("5m")),
    ("QuietcountBudgetSpent", 0, rewritten("< 0.01", "< 0.5")),
    ("QuietcountBudgetSpent", 0, rewritten("and max_over_time(quietcount:budget_left:ratio[1d]) >= 0.01", "")),
    ("QuietcountBoundRaised", 0, rewritten(RAISED, "quietcount_ledger_state_losses")),
    ("QuietcountBoundRaised", 0, rewritten(f"> min_over_time({RAISED}[7d])", "> 0")),
    ("QuietcountBoundRaised", 0, rewritten("[7d]", "[1d]")),
    ("QuietcountBoundRaised", 0, rewritten("offset 1d", "offset 2d")),
    ("QuietcountBoundRaised", 0, rewritten("offset 1d", "")),
    ("QuietcountDiskLow", 0, rewritten("< 0.1", "< 0.05")),
    ("QuietcountDiskLow", 0, rewritten("< 0.1", "< 0.2")),
    ("QuietcountDiskLow", 0, rewritten("and quietcount_disk_free_ratio >= 0.02", "")),
    ("QuietcountDiskLow", 1, rewritten("< 0.02", "< 0.01")),
    ("QuietcountRejects", 0, rewritten("> 0", "> 1")),
    ("QuietcountClientFaults", 0, rewritten("> 0", "> 1")),
    ("QuietcountSpoolWaiting", 0, rewritten(">= 86400", "> 86400")),
    ("QuietcountSpoolWaiting", 0, rewritten(UNREADABLE, "vector(0) > 1")),
    ("QuietcountSpoolWaiting", 0, standing("30m")),
]


def looked_at(rules: RulesFile, alert: str) -> set[str]:
    """The series that an alert looks at, through recorded ones too."""
    records = {rule["record"]: rule["expr"] for rule in rules.rules if "record" in rule}
    text = " ".join(rule["expr"] for rule in rules.alerts if rule["alert"] == alert)
    for record, expression in records.items():
        text = text.replace(record, expression)
    return metric_names(text) | set(re.findall(r"\bup\b", text))


@cache
def unit_tests_text(file: Path) -> str:
    return json.dumps(yaml.load(file.read_text(encoding="utf-8"), yaml.CSafeLoader))


def unit_tests(file: Path) -> Rule:
    """The unit tests of a file, to be changed; reading YAML takes longer than judging them."""
    loaded: Rule = json.loads(unit_tests_text(file))
    return loaded


def twin(root: Path, rules: RulesFile, folder: Path, mutant: tuple[str, int, Change], *, awaited: bool) -> None:
    """Write the rule of an alert as `change` leaves it, and the unit tests that look at it, without all others.

    If `awaited`, those alone in which the alert has to come: a rule that says nothing passes the others.
    """
    name, number, change = mutant
    groups = copy.deepcopy(rules.groups)
    mutated = [rule for group in groups for rule in group["rules"] if rule.get("alert") == name]
    change(mutated[number])
    used = " ".join(rule["expr"] for rule in mutated)
    for group in groups:
        group["rules"] = [r for r in group["rules"] if r.get("alert") == name or r.get("record", "none") in used]
    (folder / "tests").mkdir(parents=True)
    (folder / "quietcount.rules.yaml").write_text(json.dumps({"groups": [each for each in groups if each["rules"]]}))
    file = "budget.yaml" if name in SLOW else "faults.yaml"
    loaded, looks = unit_tests(root / UNIT_TESTS / file), looked_at(rules, name)
    for test in loaded["tests"]:
        del test["name"]
        test.pop("alert_rule_test", None)
        test["input_series"] = [each for each in test["input_series"] if each["series"].partition("{")[0] in looks]
        test["promql_expr_test"] = [each for each in test["promql_expr_test"] if each["expr"].startswith("ALERTS")]
        for each in test["promql_expr_test"]:
            each["exp_samples"] = [sample for sample in each["exp_samples"] if f'"{name}"' in sample["labels"]]
    # A test without a series of its own awaits nothing of this alert.
    loaded["tests"] = [test for test in loaded["tests"] if test["input_series"] and not (awaited and quiet(test))]
    (folder / "tests" / file).write_text(json.dumps(loaded))


def quiet(test: Rule) -> bool:
    return not any(each["exp_samples"] for each in test["promql_expr_test"])


def red(
    root: Path, tool: str, folder: Path, twins: dict[str, tuple[str, int, Change]], *, awaited: bool = False
) -> set[str]:
    """The twins of which promtool says that a unit test fails. It is asked once for all: it is slow to start."""
    rules = rules_file(root)
    for label, mutant in twins.items():
        twin(root, rules, folder / label, mutant, awaited=awaited)
    done = promtool(tool, "test", "rules", *sorted(folder.glob("*/tests/*.yaml")))
    verdicts = done.stdout.split("Unit Testing:")[1:]
    assert len(verdicts) == len(twins), done.stdout + done.stderr
    return {Path(said.split()[0]).parts[-3] for said in verdicts if "SUCCESS" not in said}


def test_a_wrong_name_of_a_metric_in_a_rule_turns_a_unit_test_red_and_the_right_one_does_not(
    root: Path, tool: str, rules: RulesFile, tmp_path: Path
) -> None:
    twins: dict[str, tuple[str, int, Change]] = {f"{name}-renamed": (name, 0, renamed) for name in rules.names}
    twins |= {f"{name}-unchanged": (name, 0, lambda _: None) for name in rules.names}
    assert red(root, tool, tmp_path, twins, awaited=True) == {f"{name}-renamed" for name in rules.names}


@pytest.mark.soak
def test_each_wrong_threshold_time_or_guard_of_a_rule_turns_a_unit_test_red(
    root: Path, tool: str, tmp_path: Path
) -> None:
    twins = {f"{mutant[0]}-{number}": mutant for number, mutant in enumerate(MUTANTS)}
    assert twins.keys() - red(root, tool, tmp_path, twins) == set()


def test_a_wrong_threshold_turns_a_unit_test_red(root: Path, tool: str, tmp_path: Path) -> None:
    """One of each alert; all of them are tried in the long run."""
    chosen = {mutant[0]: mutant for mutant in MUTANTS}
    assert red(root, tool, tmp_path, chosen) == chosen.keys() == set(rules_file(root).names)
