"""What an operator sees on Prometheus' own pages: the service's target is up, and each of our rules is in order.

The pictures come to lie in the folder that QUIETCOUNT_TEST_PICTURES names, if it names one.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.projects import Project
from tests.prometheus.programs import WANTED_BROWSER, Programs, browser, required
from tests.prometheus.rules import RULES, metric_names, promtool, rules_file
from tests.prometheus.server import Prometheus, prometheus

from quietcount_consumers.monitoring.metrics import METRICS

Require = Callable[[bool, str], None]

SECONDS = 60.0  # after which what has to be there is a failure
PAGES = ("targets", "rules", "alerts")
# It asks nobody but the page it is to look at.
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1000",
)


# One service and one Prometheus for both.
pytestmark = [pytest.mark.check, pytest.mark.xdist_group("prometheus-pages")]


@pytest.fixture(scope="module")
def found(require: Require) -> Programs:
    return required(require)


@pytest.fixture
def chromium(require: Require) -> str:
    there = browser()
    require(there is not None, WANTED_BROWSER)
    assert there is not None
    return there


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address at which a real `quietcount run` serves."""
    process = Project(tmp_path_factory.mktemp("pages") / "project").start("run", stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            event = json.loads(line)
            if event["event"] == "serving":
                yield event["address"]
                break
        else:
            raise AssertionError("the service does not serve")
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def server(root: Path, tmp_path_factory: pytest.TempPathFactory, found: Programs, service: str) -> Iterator[Prometheus]:
    """A Prometheus with our rules as they are, once it has scraped a tick of the service and judged it."""
    with prometheus(
        found, tmp_path_factory.mktemp("pages") / "prometheus", root / RULES, {"quietcount": service}
    ) as running:
        until = time.monotonic() + SECONDS
        while not (judged(running) and recorded(running) == rules_file(root).records):
            assert time.monotonic() < until, running.said()
            time.sleep(0.2)
        yield running


def judged(server: Prometheus) -> bool:
    return all(rule["health"] == "ok" for rule in server.rules())


def recorded(server: Prometheus) -> list[str]:
    """The recording rules of which there is something."""
    return [rule["name"] for rule in server.rules() if rule["type"] == "recording" and server.query(rule["name"])]


def test_the_targets_and_the_rules_are_green_on_the_pages_of_prometheus(
    root: Path, tmp_path: Path, server: Prometheus, service: str, chromium: str
) -> None:
    rules = rules_file(root)
    texts = {page: looked_at(chromium, address(server, page), tmp_path / f"{page}.png") for page in PAGES}
    assert "quietcount (1/1 up)" in texts["targets"]
    assert re.search(rf"{re.escape(service)}/metrics up ", texts["targets"], re.IGNORECASE)
    assert not re.search(r"\bdown\b", texts["targets"], re.IGNORECASE)
    for name in (*rules.names, *rules.records):
        assert name in texts["rules"], name
    assert len(re.findall(r"\bok\b", texts["rules"])) == len(rules.rules)
    quiet = rf"Inactive \({len(rules.alerts)}\) +Pending \(0\) +Firing \(0\)"
    until = time.monotonic() + SECONDS
    # On a slow machine a tick may be late for a moment, and an alert wait for whether it stays so.
    while not re.search(quiet, texts["alerts"]):
        assert time.monotonic() < until, texts["alerts"]
        texts["alerts"] = looked_at(chromium, address(server, "alerts"), tmp_path / "alerts.png")
    if folder := os.environ.get("QUIETCOUNT_TEST_PICTURES"):
        for page in PAGES:
            shutil.copy(tmp_path / f"{page}.png", Path(folder) / f"prometheus-{page}.png")


def test_what_the_real_service_shows_has_no_fault_and_all_that_the_rules_ask_for(
    root: Path, server: Prometheus, service: str, found: Programs
) -> None:
    with urllib.request.urlopen(f"http://{service}/metrics", timeout=SECONDS) as answer:
        shown = answer.read()
    done = promtool(found.promtool, "check", "metrics", given=shown)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    # The emitters' are not the service's.
    wanted = {name for name in rules_file(root).metrics if "emitter" not in name}
    assert (
        wanted
        <= {metric.name for metric in METRICS}
        == metric_names("\n".join(line.split()[2] for line in shown.decode().splitlines() if line.startswith("# TYPE")))
    )
    for name in sorted(wanted - {"quietcount_partition_missing"}):  # of a releaser with workers alone
        assert server.query(name), name


def address(server: Prometheus, page: str) -> str:
    """Where a page is: Debian has the classic ones alone, a newer Prometheus its own alone."""
    for path in (f"classic/{page}", page):
        try:
            with urllib.request.urlopen(f"http://{server.address}/{path}", timeout=SECONDS):
                return f"http://{server.address}/{path}"
        except urllib.error.HTTPError as error:
            error.close()
    raise AssertionError(f"Prometheus has no page of its {page}")


def looked_at(chromium: str, address: str, picture: Path) -> str:
    """Take a picture of a page as a browser shows it; return the words on it."""
    profile = picture.with_suffix(".profile")
    command = [chromium, *QUIET, f"--user-data-dir={profile}", f"--screenshot={picture}", "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert picture.exists(), done.stderr
    words = re.sub(r"<script.*?</script>|<[^>]+>", " ", done.stdout, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", words))
