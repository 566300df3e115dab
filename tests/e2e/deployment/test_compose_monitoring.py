"""compose/'s monitoring as a whole: its service, a real Prometheus with its settings, the queries of its dashboards.

Only what a trial on one machine has to change is changed: the log, ports, folders, and seconds in place of minutes.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.deployment import script
from tests.e2e.projects import Project, ended
from tests.kafka.cluster import free_ports
from tests.prometheus.programs import required

pytestmark = pytest.mark.check

BOARDS = ("operator", "budget")
SECONDS = 60.0  # after which what should have come has not
EMPTY = {"Emitters"}  # none is scraped here
PERHAPS = {"Alerts"}  # at the start some wait, and a disk of this machine may be full


@dataclass(frozen=True)
class Prometheus:
    """A server on the loopback."""

    port: int

    def ask(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def values(self, query: str) -> list[float]:
        return [float(each["value"][1]) for each in self.ask("api/v1/query", query=query)["result"]]

    def wait_for(self, query: str, value: float) -> None:
        deadline = time.monotonic() + SECONDS
        while self.values(query) != [value]:
            assert time.monotonic() < deadline, (query, self.values(query), self.ask("api/v1/targets"))
            time.sleep(0.2)


@contextmanager
def prometheus(program: str, settings: str, folder: Path, port: int) -> Iterator[Prometheus]:
    """Run Prometheus with `settings` until the end of the block."""
    config = folder / "prometheus.yml"
    config.write_text(settings, encoding="utf-8")
    options = (f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}")
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen([program, f"--config.file={config}", *options], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + SECONDS
            while True:
                assert process.poll() is None, (folder / "prometheus.log").read_text()
                assert time.monotonic() < deadline, "Prometheus does not get ready"
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=10):
                        break
                except urllib.error.URLError:
                    time.sleep(0.05)
            yield Prometheus(port)
        finally:
            process.terminate()
            process.wait(timeout=SECONDS)


def project_of(root: Path, folder: Path) -> Project:
    """The service of compose/, without Kafka and the registry, at a tick of a second and with days to release."""
    text = (root / "compose" / "quietcount.toml").read_text(encoding="utf-8")
    text = text.replace('log = "kafka://kafka:9092"', 'log = "embedded"').replace('tick = "60s"', 'tick = "1s"')
    text = re.sub(r"\[schema_registry\].*?(?=\[emitter\])", "", text, flags=re.DOTALL)
    since = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=10)
    text = text.replace('period = "day"\n# since = 2022-09-01\n', f'period = "day"\nsince = {since}\n')
    assert f"since = {since}" in text
    (folder / "quietcount.toml").write_text(text.replace("/var/lib/quietcount", str(folder)), encoding="utf-8")
    return Project(folder, create=False)


def settings_of(root: Path, folder: Path, service: int, itself: int) -> str:
    """compose/'s prometheus.yml for these ports, at an interval of a second."""
    text = (root / "compose" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    changed = {
        "/etc/prometheus/secrets": str(folder / "secrets" / "monitoring"),
        "/etc/prometheus/quietcount.rules.yaml": str(root / "compose" / "prometheus" / "quietcount.rules.yaml"),
        "quietcount:9464": f"127.0.0.1:{service}",
        "127.0.0.1:9090": f"127.0.0.1:{itself}",
        "scrape_interval: 60s": "scrape_interval: 1s",
        "scrape_timeout: 10s": "scrape_timeout: 1s",
        "evaluation_interval: 60s": "evaluation_interval: 1s",
    }
    for old, new in changed.items():
        assert old in text
        text = text.replace(old, new)
    return text


def credentials_of(root: Path, folder: Path) -> ModuleType:
    program = script(root / "compose" / "credentials.py")
    for role in (*program.ROLES, program.MONITORING):
        (folder / "secrets" / role).mkdir(parents=True, mode=0o700)
    assert program.main([], folder / "secrets") == 0
    return program


def drawn(root: Path, server: Prometheus, instance: str) -> tuple[set[str], set[str]]:
    """The titles of the panels of which each query brings something, and of which one brings nothing."""
    full: set[str] = set()
    empty: set[str] = set()
    for name in BOARDS:
        board = json.loads((root / "compose" / "grafana" / "dashboards" / f"{name}.json").read_text(encoding="utf-8"))
        chosen = {"instance": instance, "statistic": "daily_volume"}
        for variable in board["templating"]["list"]:
            expression, _, label = variable["query"]["query"].removeprefix("label_values(")[:-1].rpartition(", ")
            offered = server.ask(f"api/v1/label/{label}/values", **{"match[]": filled(expression, chosen)})
            assert chosen[variable["name"]] in offered
        for panel in board["panels"]:
            queries = [filled(target["expr"], chosen) for target in panel.get("targets", [])]
            results = [server.ask("api/v1/query", query=query)["result"] for query in queries]
            (full if all(results) else empty).add(filled(panel["title"], chosen))
    return full, empty


def filled(text: str, chosen: dict[str, str]) -> str:
    return re.sub(r"\$(\w+)", lambda match: chosen[match[1]], text)


def test_composes_prometheus_scrapes_composes_service_and_every_panel_of_the_dashboards_has_something_to_draw(
    root: Path, tmp_path: Path, require: Callable[[bool, str], None]
) -> None:
    found = required(require)
    credentials = credentials_of(root, tmp_path)
    project = project_of(root, tmp_path)
    port, itself = free_ports(2)
    service = project.start("run", environment={"QUIETCOUNT_METRICS__LISTEN": f"127.0.0.1:{port}"})
    try:
        with prometheus(found.prometheus, settings_of(root, tmp_path, port, itself), tmp_path, itself) as server:
            server.wait_for("quietcount_ready", 1)
            server.wait_for('count(quietcount_last_success_timestamp_seconds{operation="release"} > 0)', 1)
            full, empty = drawn(root, server, f"127.0.0.1:{port}")
            assert empty - PERHAPS == EMPTY
            assert {"Answers", "Releases", "daily_volume: released values", "What each statistic spent"} <= full
            of_its_own = server.ask("api/v1/label/__name__/values", **{"match[]": '{job="quietcount"}'})
            # An alert may be pending meanwhile, on a machine that is busy: its series are the rules', not the scrape's.
            of_its_own = {name for name in of_its_own if not name.startswith(("quietcount", "ALERTS"))}
            assert len(of_its_own) == 5
            security = (root / "compose" / "security.md").read_text(encoding="utf-8")
            assert all(f"`{name}`" in security for name in of_its_own)
            # Renewed as README.md says: nobody is let in with the old, and nothing has to be started anew.
            server.wait_for('up{job="quietcount"}', 1)
            assert credentials.main(["--renew-monitoring"], tmp_path / "secrets") == 0
            server.wait_for('up{job="quietcount"}', 0)
            service.send_signal(signal.SIGHUP)
            server.wait_for('up{job="quietcount"}', 1)
    finally:
        service.terminate()
        ended(service)


def test_what_the_trial_changes_is_there_to_be_changed(root: Path, tmp_path: Path) -> None:
    configuration = project_of(root, tmp_path).configuration
    assert configuration.log == "embedded"
    assert configuration.tick == dt.timedelta(seconds=1)
    assert any(section.since for section in configuration.population)
