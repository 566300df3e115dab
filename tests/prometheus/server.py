"""A Prometheus of a test's own: on loopback, in a folder that goes, scraping and judging every second."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from tests.prometheus.programs import Programs

__all__ = ["Prometheus", "prometheus"]

STARTING = 60.0  # seconds after which a server that is not ready is a failure
ASKING = 10.0

Labels = dict[str, str]


class Prometheus:
    """A server that runs."""

    def __init__(self, address: str, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.address = address
        self._process = process
        self._folder = folder

    def query(self, expression: str) -> list[tuple[Labels, float]]:
        """The answer to an instant query: labels and values."""
        found = self._ask("query?" + urllib.parse.urlencode({"query": expression}))
        return [(each["metric"], float(each["value"][1])) for each in found["result"]]

    def rules(self) -> list[dict[str, Any]]:
        """The rules, with their health and the alerts that stand."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("targets")["activeTargets"]
        return found

    def firing(self) -> set[tuple[str, str, str]]:
        """Job, name and severity of each alert that fires now."""
        return alerts(self.query('ALERTS{alertstate="firing"}'))

    def fired(self, seconds: int) -> set[tuple[str, str, str]]:
        """Job, name and severity of each alert that fired at any time of the last so many seconds."""
        return alerts(self.query(f'max_over_time(ALERTS{{alertstate="firing"}}[{seconds}s])'))

    def said(self) -> str:
        return (self._folder / "said").read_text(encoding="utf-8")

    def _ask(self, what: str) -> Any:
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{what}", timeout=ASKING) as answer:
            return json.load(answer)["data"]

    def is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(self.said())
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=ASKING) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def alerts(found: Iterable[tuple[Labels, float]]) -> set[tuple[str, str, str]]:
    return {(labels.get("job", ""), labels["alertname"], labels["severity"]) for labels, _ in found}


@contextlib.contextmanager
def prometheus(programs: Programs, folder: Path, rules: Path, targets: Mapping[str, str]) -> Iterator[Prometheus]:
    """Run a server with a job of one target, `host:port`, for each of `targets`; its data go with the folder."""
    folder.mkdir()
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [address]}]} for job, address in targets.items()
        ],
    }
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = [
        programs.prometheus,
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        *([f"--web.local-assets={programs.pages}"] if programs.pages else []),
    ]
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        server = Prometheus(address, process, folder)
        deadline = time.monotonic() + STARTING
        while not server.is_ready():
            assert time.monotonic() < deadline, server.said()
            time.sleep(0.1)
        yield server
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
