"""compose/grafana: what the dashboards promise, each with a broken twin that is found. No Grafana is needed."""

from __future__ import annotations

import copy
import json
import math
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.prometheus.programs import required

from quietcount_consumers.monitoring.metrics import METRICS
from quietcount_producers.prometheus import BUILD_INFO, SPOOL_AGE

pytestmark = pytest.mark.quick

Document = dict[str, Any]

OF_PROMETHEUS = {"up": {"job"}, "ALERTS": {"alertname", "alertstate", "severity", "job"}}
"""What Prometheus itself has of every target and of every alert, with its labels."""
EMITTERS: dict[str, set[str]] = {BUILD_INFO: {"version"}, SPOOL_AGE: set()}
CATALOGUE = {metric.name: set(metric.labels) for metric in METRICS} | EMITTERS
NOT_SHOWN = {"quietcount_publication_waits", "quietcount_partition_missing"}
"""Metrics of the catalogue that are deliberately on no panel: few name witnesses, and an alert says it to them."""
KINDS = {"row", "text", "stat", "table", "timeseries", "state-timeline", "bargauge"}
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
COLUMNS = 24  # of Grafana's grid
BOARDS = ("operator", "budget")

_STRINGS = re.compile(r"\"(?:[^\"\\]|\\.)*\"")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_NAME = re.compile(r"(?<![\w:.])([a-zA-Z_:][\w:]*)\b(?!\s*\()")
_WORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right"}


def folder_of(root: Path) -> Path:
    return root / "compose" / "grafana"


def board_of(root: Path, name: str) -> Document:
    loaded: Document = json.loads((folder_of(root) / "dashboards" / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def canonical(board: Document) -> str:
    """How Grafana writes what it saves: keys sorted, two spaces."""
    return json.dumps(board, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def metrics_in(expression: str) -> set[str]:
    """The names of the metrics that a PromQL expression reads."""
    bare = _GROUPING.sub(" ", re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", _STRINGS.sub('""', expression)))
    return {name for name in _NAME.findall(bare) if name.lower() not in _WORDS}


def labels_in(expression: str) -> set[str]:
    """The labels that an expression matches or groups by."""
    bare = _STRINGS.sub('""', expression)
    grouped = {name.strip() for group in _GROUPING.findall(bare) for name in group.split(",") if name.strip()}
    return grouped | set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", bare))


def recorded(root: Path) -> dict[str, str]:
    """The recording rules: name and expression."""
    text = (root / "compose" / "prometheus" / "quietcount.rules.yaml").read_text(encoding="utf-8")
    return {
        rule["record"]: rule["expr"]
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
        if "record" in rule
    }


def expressions(board: Document) -> Iterator[str]:
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))


def variables_of(board: Document) -> dict[str, str]:
    """By name, the expression in the query of each variable: label_values(EXPRESSION, label)."""
    queries = {variable["name"]: variable["query"]["query"] for variable in board["templating"]["list"]}
    return {name: query.removeprefix("label_values(").rpartition(",")[0] for name, query in queries.items()}


def filled(expression: str) -> str:
    """An expression with a value for each variable, as Prometheus gets it."""
    return re.sub(r"\$\w+", "x", expression)


# ------------------------------------------------------------------ what is wrong with a dashboard


def faults(board: Document, image: str, interval: float) -> list[str]:
    """What is not as it should be, one line each. `interval` is that of scraping, in seconds."""
    found = [f"no {key}" for key in ("uid", "title", "description", "tags") if not board.get(key)]
    if not re.fullmatch(r"quietcount-[a-z]{1,29}", board.get("uid", "")):
        found.append("its uid is no name of ours")
    if (board["id"], board["schemaVersion"], board["timezone"]) != (None, 42, "utc"):
        found.append("is somebody's own, of another schema, or in the time of who looks")
    if board["editable"] or board["preload"]:
        found.append("can be edited where that is not kept, or loads what nobody sees")
    waits = (board["refresh"], *board["timepicker"]["refresh_intervals"])
    found += [f"is refreshed each {each}, and nothing new is there" for each in waits if _seconds(each) < interval]
    numbers = Counter(panel["id"] for panel in board["panels"])
    found += [f"panel {number}: twice" for number, times in numbers.items() if times > 1]
    found += [f"{a} and {b}: overlap" for a, b in _overlapping(board["panels"])]
    names = set(variables_of(board))
    for panel in board["panels"]:
        if panel["type"] != "row":
            found += [f"{panel.get('title')}: {fault}" for fault in _faults(panel, image, names)]
    return found


def _seconds(text: str) -> float:
    return int(text[:-1]) * SECONDS[text[-1]]


def _overlapping(panels: list[Document]) -> Iterator[tuple[str, str]]:
    taken: dict[tuple[int, int], str] = {}
    met = set()
    for panel in panels:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                other = taken.setdefault((x, y), panel["title"])
                if x >= COLUMNS:
                    met.add((panel["title"], "the edge"))
                elif other != panel["title"]:
                    met.add((other, panel["title"]))
    yield from met


def _faults(panel: Document, image: str, variables: set[str]) -> Iterator[str]:
    if panel["type"] not in KINDS:
        yield f"a panel of type {panel['type']}"
    if not panel.get("title") or not panel.get("description"):
        yield "says not what it is"
    if panel["pluginVersion"] != image:
        yield "is written for another Grafana"
    if panel["type"] == "text":
        if panel.get("targets") or "<" in panel["options"]["content"]:
            yield "is more than text"
        return
    defaults = panel["fieldConfig"]["defaults"]
    if not defaults.get("unit") or not defaults["thresholds"]["steps"]:
        yield "has no unit or no thresholds"
    if defaults["thresholds"]["steps"][0]["value"] is not None:
        yield "has values below its lowest threshold"
    if len({target["refId"] for target in panel["targets"]}) != len(panel["targets"]) or not panel["targets"]:
        yield "has no queries, or two of a name"
    for target in panel["targets"]:
        yield from _query_faults(panel, target, variables)
    yield from _column_faults(panel)


def _query_faults(panel: Document, target: Document, variables: set[str]) -> Iterator[str]:
    expression, over_time = target["expr"], panel["type"] in ("timeseries", "state-timeline")
    if target["datasource"] != panel["datasource"] or target["datasource"]["type"] != "prometheus":
        yield "asks elsewhere"
    if (target["range"], target["instant"]) != (over_time, not over_time):
        yield "asks for a time and shows a moment, or the other way round"
    if unknown := set(re.findall(r"\$(\w+)", expression)) - variables:
        yield f"no variable {min(unknown)}"
    if unknown := metrics_in(expression) - CATALOGUE.keys() - OF_PROMETHEUS.keys():
        yield f"no metric {min(unknown)}"
    known = {"instance"}.union(*((CATALOGUE | OF_PROMETHEUS).get(name, set()) for name in metrics_in(expression)))
    named = labels_in(expression) | set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
    if unknown := named - known:
        yield f"no label {min(unknown)}"
    of_service = metrics_in(expression) - {"ALERTS"} - EMITTERS.keys()
    if of_service and expression.count('instance="$instance"') < len(
        re.findall(r"\b(?:quietcount_\w+|up)\b", expression)
    ):
        yield "mixes services"


def _column_faults(panel: Document) -> Iterator[str]:
    """A table's columns: each that is renamed is there, and each override names a column or a line."""
    if panel["type"] == "table":
        ids = [each["id"] for each in panel["transformations"]]
        if ids != ["merge", "organize"]:
            yield "does not put its columns together"
            return
        columns = {f"Value #{target['refId']}" for target in panel["targets"]} | {"Time", "Value"}
        for target in panel["targets"]:
            columns |= labels_in(target["expr"]) if target["format"] == "table" else set()
        organised = panel["transformations"][1]["options"]
        for key in ("excludeByName", "indexByName", "renameByName"):
            if missing := organised[key].keys() - columns:
                yield f"no column {min(missing)}"
        names = set(organised["renameByName"].values())
        if missing := {each["displayName"] for each in panel["options"]["sortBy"]} - names:
            yield f"sorts by {min(missing)}"
    else:
        names = {target["legendFormat"] for target in panel["targets"]}
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["id"] != "byName" or override["matcher"]["options"] not in names:
            yield f"an override of {override['matcher']['options']}"


@pytest.fixture(scope="module")
def image(root: Path) -> str:
    """The version of Grafana in compose.yaml."""
    services = yaml.safe_load((root / "compose" / "compose.yaml").read_text(encoding="utf-8"))["services"]
    return str(services["grafana"]["image"].partition(":")[2])


@pytest.fixture(scope="module")
def interval(root: Path) -> float:
    text = (root / "compose" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    wait: str = yaml.safe_load(text)["global"]["scrape_interval"]
    return _seconds(wait)


@pytest.mark.parametrize("name", BOARDS)
def test_each_panel_says_what_it_is_reads_metrics_that_exist_and_has_its_own_place(
    root: Path, name: str, image: str, interval: float
) -> None:
    assert faults(board_of(root, name), image, interval) == []


def _panel(board: Document, kind: str) -> Document:
    found: Document = next(panel for panel in board["panels"] if panel["type"] == kind)
    return found


def _query(board: Document, old: str, new: str) -> None:
    target = next(target for panel in board["panels"] for target in panel.get("targets", []) if old in target["expr"])
    target["expr"] = target["expr"].replace(old, new)


TWINS: dict[str, Callable[[Document], object]] = {
    "no description": lambda board: _panel(board, "stat").pop("description"),
    "no unit": lambda board: _panel(board, "stat")["fieldConfig"]["defaults"].pop("unit"),
    "two at one place": lambda board: _panel(board, "timeseries")["gridPos"].update(y=1),
    "beyond the edge": lambda board: _panel(board, "table")["gridPos"].update(x=23),
    "one number twice": lambda board: board["panels"][2].update(id=board["panels"][1]["id"]),
    "a metric that is not there": lambda board: _query(board, "quietcount_ledger_verified", "quietcount_ledger_valid"),
    "a raw counter": lambda board: _query(board, "quietcount_ready", "quietcount_events_total"),
    "a metric of the library": lambda board: _query(board, "quietcount_ready", "process_resident_memory_bytes"),
    "a label that is not there": lambda board: _query(board, "by (statistic)", "by (event_type)"),
    "a legend that is not there": lambda board: _panel(board, "bargauge")["targets"][0].update(legendFormat="{{disk}}"),
    "a variable that is not there": lambda board: _query(board, "$instance", "$service"),
    "two services in one panel": lambda board: _query(board, '{instance="$instance"}', ""),
    "a column that is not there": lambda board: _panel(board, "table")["transformations"][1]["options"].update(
        renameByName={"Value #Z": "Due"}
    ),
    "an override of nothing": lambda board: _panel(board, "table")["fieldConfig"]["overrides"][0]["matcher"].update(
        options="Nothing"
    ),
    "a moment drawn over time": lambda board: _panel(board, "timeseries")["targets"][0].update(
        range=False, instant=True
    ),
    "refreshed between scrapes": lambda board: board.update(refresh="5s"),
    "can be chosen to be": lambda board: board["timepicker"]["refresh_intervals"].append("10s"),
    "another Grafana": lambda board: _panel(board, "table").update(pluginVersion="9.0.0"),
    "an unknown plugin": lambda board: _panel(board, "table").update(type="somebody-cool-panel"),
    "a script": lambda board: _panel(board, "text")["options"].update(content="<script></script>"),
    "the time of who looks": lambda board: board.update(timezone="browser"),
    "can be edited": lambda board: board.update(editable=True),
}


@pytest.mark.parametrize("twin", TWINS)
def test_a_dashboard_that_is_wrong_is_found(root: Path, twin: str, image: str, interval: float) -> None:
    board = board_of(root, "operator")
    TWINS[twin](board)
    assert faults(board, image, interval) != []


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_written_as_grafana_saves_it(root: Path, name: str) -> None:
    text = (folder_of(root) / "dashboards" / f"{name}.json").read_text(encoding="utf-8")
    board = json.loads(text)
    assert text == canonical(board)
    assert text != canonical(board | {"version": 2})


def test_every_metric_is_on_a_panel_or_deliberately_on_none(root: Path) -> None:
    shown = {name for board in BOARDS for each in expressions(board_of(root, board)) for name in metrics_in(each)}
    assert CATALOGUE.keys() - shown == NOT_SHOWN
    assert shown <= CATALOGUE.keys() | OF_PROMETHEUS.keys()


def test_every_rule_reads_metrics_that_exist(root: Path) -> None:
    text = (root / "compose" / "prometheus" / "quietcount.rules.yaml").read_text(encoding="utf-8")
    rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    known = CATALOGUE.keys() | recorded(root).keys() | {"up"}
    assert len(rules) > 10
    assert {name for rule in rules for name in metrics_in(rule["expr"])} <= known
    assert not metrics_in("sum(rate(quietcount_events_total[5m]))") <= known


def test_names_and_labels_are_found_in_an_expression() -> None:
    expression = 'time() - max by (operation) (a_b{x="and c", y=~"$z"} > 0) / on (q) group_left (r) d:e{s!="t"}[5m:1m]'
    assert metrics_in(expression) == {"a_b", "d:e"}
    assert labels_in(expression) == {"operation", "x", "y", "q", "r", "s"}
    assert metrics_in("1 / (1 + exp(- up))") == {"up"}


# ------------------------------------------------------------------ the queries, judged by Prometheus' own parser


def wrong_queries(promtool: str, queries: list[str], folder: Path) -> str:
    """What promtool says of `queries`; empty when each of them parses."""
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    path = folder / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run([promtool, "check", "rules", str(path)], capture_output=True, text=True, timeout=60)
    if done.returncode == 0:
        assert f"{len(queries)} rules found" in done.stdout
        return ""
    return done.stdout + done.stderr


def test_each_query_parses(root: Path, tmp_path: Path, require: Callable[[bool, str], None]) -> None:
    found = required(require)
    boards = [board_of(root, name) for name in BOARDS]
    queries = [filled(each) for board in boards for each in (*expressions(board), *variables_of(board).values())]
    assert len(queries) > 50
    assert wrong_queries(found.promtool, queries, tmp_path) == ""
    for broken in ('max by (a) (up{b="c"}', "up{instance=$instance}", "sum(up[5m])", "quietcount ready"):
        assert wrong_queries(found.promtool, [*queries, broken], tmp_path) != ""


# ------------------------------------------------------------------ what stands there, and how it gets there


def posterior(epsilon: float) -> int:
    """What an even chance becomes at most, in percent."""
    return round(100 / (1 + math.exp(-epsilon)))


def test_the_page_of_the_budget_has_the_one_sentence_and_tells_what_epsilon_means(root: Path) -> None:
    (said,) = [each["options"]["content"] for each in board_of(root, "budget")["panels"] if each["type"] == "text"]
    readme = " ".join((root / "README.md").read_text(encoding="utf-8").replace("\n>", "\n").split())
    sentence = re.search(r"\*\*(However long .*?)\*\*", said)
    assert sentence is not None
    assert sentence[1] in readme
    at_most = {0.25: "raises 50 % to at most", 0.5: "to at most", 1: "to at most", 2.5: "to at most"}
    for epsilon, words in at_most.items():
        assert f"{epsilon:g} {words} {posterior(epsilon)} %" in said


def test_the_dashboards_are_provisioned_read_only_from_where_they_are_mounted(root: Path) -> None:
    compose = yaml.safe_load((root / "compose" / "compose.yaml").read_text(encoding="utf-8"))
    mounted = dict(volume.removesuffix(":ro").split(":") for volume in compose["services"]["grafana"]["volumes"])
    targets = {target: source for source, target in mounted.items()}
    (provider,) = yaml.safe_load((folder_of(root) / "quietcount.yaml").read_text(encoding="utf-8"))["providers"]
    assert (provider["allowUiUpdates"], provider["disableDeletion"], provider["type"]) == (False, True, "file")
    assert provider["folder"] == "Quietcount"
    place = provider["options"]["path"]
    assert {source for target, source in targets.items() if target.startswith(f"{place}/")} == {
        f"./grafana/dashboards/{path.name}" for path in (folder_of(root) / "dashboards").iterdir()
    }
    assert {path.stem for path in (folder_of(root) / "dashboards").iterdir()} == set(BOARDS)
    assert targets["/etc/grafana/provisioning/dashboards/quietcount.yaml"] == "./grafana/quietcount.yaml"
    home = compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert targets[home] == "./grafana/dashboards/operator.json"


def test_the_dashboards_ask_the_one_source_there_is_and_link_to_each_other(root: Path) -> None:
    (source,) = yaml.safe_load((folder_of(root) / "prometheus.yaml").read_text(encoding="utf-8"))["datasources"]
    boards = {name: board_of(root, name) for name in BOARDS}
    for board in boards.values():
        asked = [panel["datasource"] for panel in board["panels"] if panel["type"] not in ("row", "text")]
        asked += [variable["datasource"] for variable in board["templating"]["list"]]
        assert all(each == {"type": source["type"], "uid": source["uid"]} for each in asked)
    uids = {board["uid"] for board in boards.values()}
    assert len(uids) == len(BOARDS)
    assert {link["url"].removeprefix("/d/") for board in boards.values() for link in board["links"]} == uids


def test_a_copy_with_another_source_is_found(root: Path, image: str, interval: float) -> None:
    board = copy.deepcopy(board_of(root, "budget"))
    _panel(board, "table")["targets"][0]["datasource"] = {"type": "prometheus", "uid": "another"}
    assert faults(board, image, interval) != []
