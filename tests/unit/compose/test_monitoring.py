"""compose/: the service's health, and Prometheus that asks it, with broken twins that are found."""

from __future__ import annotations

import base64
import copy
import datetime as dt
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from tests.prometheus.programs import required
from tests.unit.compose.compose_documents import Document, compose, credentials

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.monitoring.places import IDLE_SECONDS
from quietcount_consumers.monitoring.server import MonitoringServer
from quietcount_consumers.monitoring.status import Board

pytestmark = pytest.mark.quick

__all__ = ["compose", "credentials"]  # the fixtures


@contextmanager
def served(root: Path, credentials: ModuleType, folder: Path) -> Iterator[int]:
    """Serve metrics as compose/quietcount.toml says, with the secrets of `folder` and a port of the system's."""
    credentials.make_credentials(folder)
    text = (root / "compose" / "quietcount.toml").read_text(encoding="utf-8")
    config = folder / "quietcount.toml"
    config.write_text(text.replace("/var/lib/quietcount/secrets", str(folder)), encoding="utf-8")
    metrics = Configuration.load(config, environment={"QUIETCOUNT_METRICS__LISTEN": "127.0.0.1:0"}).metrics
    minute = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    with MonitoringServer(metrics, Board(lambda: minute, dt.timedelta(minutes=1))) as server:
        assert server.address is not None
        yield server.address[1]


def healthy(compose: Document, folder: Path, port: int) -> bool:
    """Whether the health check of the service's container passes, for the secrets and the port of a trial."""
    command, program, option, code = compose["services"]["quietcount"]["healthcheck"]["test"]
    assert (command, program, option) == ("CMD", "python", "-c")
    code = code.replace("/var/lib/quietcount/secrets", str(folder)).replace("9464", str(port))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0


def test_the_services_health_is_that_it_answers_and_that_it_is_the_service(
    root: Path, compose: Document, credentials: ModuleType, tmp_path: Path
) -> None:
    with served(root, credentials, tmp_path) as port:
        assert healthy(compose, tmp_path, port)
        credentials.make_credentials(tmp_path, renew_monitoring=True)  # not read yet: another one's, for all it knows
        assert not healthy(compose, tmp_path, port)
    assert not healthy(compose, tmp_path, port)


def test_prometheus_is_answered_with_its_share_of_the_secrets_and_nobody_is_without(
    root: Path, credentials: ModuleType, tmp_path: Path
) -> None:
    with served(root, credentials, tmp_path) as port:
        context = ssl.create_default_context(cafile=tmp_path / "monitoring" / "metrics-ca.pem")
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # as newer Pythons do

        def status(user: str, password: str) -> int:
            connection = HTTPSConnection("localhost", port, context=context, timeout=30)
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            connection.request("GET", "/metrics", headers={"Authorization": f"Basic {token}"})
            answered = connection.getresponse().status
            connection.close()
            return answered

        password = (tmp_path / "monitoring" / "metrics-password").read_text().strip()
        assert status("prometheus", password) == 200
        assert status("prometheus", "another") == 401
        with pytest.raises(ssl.SSLCertVerificationError):
            HTTPSConnection("localhost", port, context=ssl.create_default_context(), timeout=30).request("GET", "/")


VOLUME = "monitoring-secrets"


def prometheus_faults(prometheus: Document, compose: Document, service: Document) -> list[str]:
    """What in prometheus.yml does not fit the containers or the service's configuration."""
    volumes = [volume.split(":") for volume in compose["services"]["prometheus"]["volumes"]]
    mounted = {Path(target): source for source, target, *_ in volumes}
    (job,) = [each for each in prometheus["scrape_configs"] if each["job_name"] == "quietcount"]
    found = []
    host, _, port = job["static_configs"][0]["targets"][0].partition(":")
    if host not in compose["services"] or port != service["metrics"]["listen"].rpartition(":")[2]:
        found.append("asks where the service is not")
    if not set(compose["services"][host]["networks"]) & set(compose["services"]["prometheus"]["networks"]):
        found.append("is in no network with the service")
    if job.get("scheme") != "https" or job["tls_config"].get("insecure_skip_verify"):
        found.append("does not know whom it asks")
    if job["basic_auth"]["username"] != service["metrics"]["username"]:
        found.append("is another user")
    if "password" in job["basic_auth"]:
        found.append("has its password in clear")
    files = (job["basic_auth"].get("password_file", ""), job["tls_config"].get("ca_file", ""))
    found += [f"{file} is not in its volume" for file in files if mounted.get(Path(file).parent) != VOLUME]
    found += [f"{rules} is not mounted" for rules in prometheus["rule_files"] if Path(rules) not in mounted]
    return found


PROMETHEUS_TWINS: dict[str, Callable[[Document], object]] = {
    "another port": lambda job: job["static_configs"][0].update(targets=["quietcount:9090"]),
    "no TLS": lambda job: job.update(scheme="http"),
    "anybody's certificate": lambda job: job["tls_config"].update(insecure_skip_verify=True),
    "another user": lambda job: job["basic_auth"].update(username="admin"),
    "a password in clear": lambda job: job["basic_auth"].update(password="x"),
    "another folder": lambda job: job["tls_config"].update(ca_file="/etc/ca.pem"),
}


@pytest.fixture(scope="module")
def prometheus_settings(root: Path) -> Document:
    loaded: Document = yaml.safe_load((root / "compose" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    return loaded


def test_prometheus_asks_the_service_where_it_is_and_as_it_wants_to_be_asked(
    root: Path, compose: Document, prometheus_settings: Document
) -> None:
    service = tomllib.loads((root / "compose" / "quietcount.toml").read_text(encoding="utf-8"))
    assert prometheus_faults(prometheus_settings, compose, service) == []
    for change in PROMETHEUS_TWINS.values():
        weaker = copy.deepcopy(prometheus_settings)
        change(next(job for job in weaker["scrape_configs"] if job["job_name"] == "quietcount"))
        assert prometheus_faults(weaker, compose, service) != []
    unruly = prometheus_settings | {"rule_files": ["/etc/prometheus/other.yaml"]}
    assert prometheus_faults(unruly, compose, service) != []


def test_promtool_finds_nothing_wrong_with_prometheus_yml(
    root: Path, credentials: ModuleType, tmp_path: Path, require: Callable[[bool, str], None]
) -> None:
    found = required(require)
    credentials.make_credentials(tmp_path)
    text = (root / "compose" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    text = text.replace("/etc/prometheus/secrets", str(tmp_path / "monitoring"))
    text = text.replace("/etc/prometheus/quietcount", str(root / "compose" / "prometheus" / "quietcount"))

    def checked(settings: str) -> int:
        (tmp_path / "prometheus.yml").write_text(settings, encoding="utf-8")
        command = [found.promtool, "check", "config", str(tmp_path / "prometheus.yml")]
        return subprocess.run(command, capture_output=True, timeout=60).returncode

    assert checked(text) == 0
    assert checked(text.replace("scheme: https", "schema: https")) != 0


def test_what_the_page_says_of_the_durations_of_scrapes_is_how_the_service_answers(
    root: Path, prometheus_settings: Document
) -> None:
    page = " ".join((root / "compose" / "security.md").read_text(encoding="utf-8").split())
    assert "A process of its own answers, which has no part in the fold" in page
    # Within the time that a connection is kept, or each scrape would have a handshake of its own.
    assert prometheus_settings["global"]["scrape_interval"] == "60s"
    assert IDLE_SECONDS > 60
