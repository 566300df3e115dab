"""compose/: what its files promise, each with a broken twin that is found. No container engine is needed."""

from __future__ import annotations

import base64
import copy
import datetime as dt
import re
import shlex
import ssl
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.client import HTTPSConnection
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from tests.deployment import properties_of, script
from tests.prometheus.programs import WANTED, programs

from quietcount_aggregates.noise import margin
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.http_protocol import ANSWER_AFTER, ANSWER_NOISE, IDLE_SECONDS
from quietcount_consumers.http_server import MonitoringServer
from quietcount_consumers.project import configuration_text
from quietcount_consumers.status import Board
from quietcount_producers.errors import ProducersError
from quietcount_producers.kafka_settings import KafkaSettings
from quietcount_producers.pseudonyms import Pepper
from quietcount_producers.settings import EmitterSettings
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, RELEASES
from quietcount_schemas.periods import Period

Document = dict[str, Any]
ONCE = {"credentials", "access", "topics", "schemas", "emitter", "operator"}
PINNED = re.compile(r"[a-z0-9./-]+:v?[0-9]+\.[0-9]+\.[0-9]+[a-z0-9.-]*")


@pytest.fixture(scope="module")
def compose(root: Path) -> Document:
    loaded: Document = yaml.safe_load((root / "compose" / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


def broken(document: Document, folder: Path) -> list[str]:
    """What is not as it should be, one line each."""
    services: dict[str, Document] = document["services"]
    found = []
    for name, service in services.items():
        found += [f"{name}: {fault}" for fault in _faults(name, service, document, folder)]
    found += [f"{name}: waits for itself" for name in services if name in _waits_for(name, services)]
    found += [f"{name}: a password in clear" for name, service in services.items() if _tells(service)]
    return found


def _faults(name: str, service: Document, document: Document, folder: Path) -> Iterator[str]:
    if not PINNED.fullmatch(service["image"]):
        yield f"image {service['image']} is not pinned"
    if not re.fullmatch(r"[1-9][0-9]*:[0-9]+", str(service.get("user"))):
        yield "runs as root, or as whom its image likes"
    if service.get("read_only") is not True:
        yield "can write into its image"
    if service.get("cap_drop") != ["ALL"] or "cap_add" in service or service.get("privileged"):
        yield "has capabilities"
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield "can gain privileges"
    limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
    if not {"cpus", "memory", "pids"} <= limits.keys():
        yield "has no limits"
    if any(not str(port).startswith("127.0.0.1:") for port in service.get("ports", [])):
        yield "listens beyond the loopback"
    if service.get("network_mode") not in (None, "none", "service:kafka"):
        yield "is in a network of others"
    if service.get("restart") != ("no" if name in ONCE else "unless-stopped"):
        yield "is not restarted as it should be"
    if not service.get("healthcheck", {}).get("test") and name not in ONCE:
        yield "nobody knows whether it is healthy"
    yield from _fills(service)
    for volume in service.get("volumes", []):
        source, target, *mode = volume.split(":")
        if name == "prometheus" and source.endswith("-secrets") and service.get("group_add") != [_owner(document)]:
            yield f"{target} cannot be read"
        if source.startswith("."):
            if not (folder / source).is_file():
                yield f"{source} is not there"
            if mode != ["ro"]:
                yield f"{target} can be written"
        elif source not in document["volumes"]:
            yield f"volume {source} is not declared"
    for other, wait in service.get("depends_on", {}).items():
        wanted = "service_completed_successfully" if other in ONCE else "service_healthy"
        if wait["condition"] != wanted:
            yield f"does not wait until {other} is ready"


def _owner(document: Document) -> str:
    """The group of who makes the secrets."""
    return str(document["services"]["credentials"]["user"]).split(":")[1]


def _fills(service: Document) -> Iterator[str]:
    """What grows for days in a folder that lies in memory."""
    if service["image"].startswith("apache/kafka:"):
        # What its kafka-server-start.sh sets where nobody does: ten files of 100 MB.
        extra = service.get("environment", {}).get("EXTRA_ARGS", "-name kafkaServer -loggc")
        if "-loggc" in extra:
            yield "writes down how it collects garbage, until its memory is full"
    asked = " ".join(service.get("healthcheck", {}).get("test", []))
    if any(not target.startswith(("&", "/dev/")) for target in re.findall(r"(?:>>?|<>)\s*(\S+)", asked)):
        yield "its health check needs room for a file"


def _waits_for(name: str, services: dict[str, Document]) -> set[str]:
    reached: set[str] = set()
    waiting = list(services[name].get("depends_on", {}))
    while waiting:
        other = waiting.pop()
        if other not in reached:
            reached.add(other)
            waiting += services[other].get("depends_on", {})
    return reached


def _tells(service: Document) -> bool:
    return any(
        re.search("password|secret", key, re.IGNORECASE)
        and not key.endswith("_FILE")
        and value not in ("true", "false")
        for key, value in service.get("environment", {}).items()
    )


def test_every_container_is_pinned_confined_limited_and_waits_for_what_it_needs(root: Path, compose: Document) -> None:
    assert broken(compose, root / "compose") == []


def _set(name: str, key: str, value: object) -> Callable[[Document], None]:
    return lambda document: document["services"][name].__setitem__(key, value)


TWINS: dict[str, Callable[[Document], None]] = {
    "latest": _set("kafka", "image", "apache/kafka:latest"),
    "no tag": _set("grafana", "image", "grafana/grafana"),
    "a tag that moves": _set("prometheus", "image", "prom/prometheus:v3"),
    "root": _set("quietcount", "user", "0:0"),
    "the image's user": lambda document: document["services"]["registry"].pop("user"),
    "writable": _set("registry", "read_only", False),
    "capabilities": _set("kafka", "cap_drop", []),
    "one capability": _set("kafka", "cap_add", ["CHOWN"]),
    "privileges": _set("quietcount", "security_opt", []),
    "no limits": _set("quietcount", "deploy", {}),
    "an open port": _set("kafka", "ports", ["29092:29092"]),
    "every address": _set("grafana", "ports", ["0.0.0.0:3000:3000"]),
    "the host's network": _set("prometheus", "network_mode", "host"),
    "a set-up that never ends": _set("topics", "restart", "always"),
    "a service that stays down": _set("quietcount", "restart", "no"),
    "no health check": _set("kafka", "healthcheck", {}),
    "a health check that writes": _set("kafka", "healthcheck", {"test": ["CMD-SHELL", "ask >/tmp/health 2>&1"]}),
    "the script's own garbage log": lambda document: document["services"]["kafka"]["environment"].pop("EXTRA_ARGS"),
    "a garbage log": lambda document: document["services"]["kafka"]["environment"].update(EXTRA_ARGS="-loggc"),
    "a file that is not there": _set("kafka", "volumes", ["./kafka/other.properties:/x:ro"]),
    "a file that can be written": _set("kafka", "volumes", ["./kafka/server.properties:/x"]),
    "a volume nobody declared": _set("kafka", "volumes", ["other:/x"]),
    "not waiting for health": _set("access", "depends_on", {"kafka": {"condition": "service_started"}}),
    "a circle": _set("kafka", "depends_on", {"schemas": {"condition": "service_completed_successfully"}}),
    "a service of which nobody knows": _set("quietcount", "healthcheck", {}),
    "no right to read the password": lambda document: document["services"]["prometheus"].pop("group_add"),
    "a password": _set("topics", "environment", {"QUIETCOUNT_KAFKA__PASSWORD": "x"}),
}


@pytest.mark.parametrize("twin", TWINS)
def test_a_weaker_container_is_found(root: Path, compose: Document, twin: str) -> None:
    weaker = copy.deepcopy(compose)
    TWINS[twin](weaker)
    assert broken(weaker, root / "compose") != []


def test_the_service_starts_after_everything_that_it_needs(compose: Document) -> None:
    services = compose["services"]
    assert _waits_for("quietcount", services) == {"credentials", "kafka", "access", "topics", "registry", "schemas"}


def test_only_emitters_have_the_pepper_and_each_role_its_own_password_alone(compose: Document) -> None:
    def secrets(name: str) -> set[str]:
        volumes = compose["services"][name].get("volumes", [])
        return {volume.partition("-secrets:")[0] for volume in volumes if "-secrets:" in volume}

    having = {name: secrets(name) for name in compose["services"] if name not in ("credentials", "access")}
    roles = {"topics": "administrator", "quietcount": "service", "emitter": "emitter", "operator": "operator"}
    holders = roles | {"prometheus": "monitoring"}
    assert having == {name: {holders[name]} if name in holders else set() for name in having}
    for name, role in roles.items():
        environment = compose["services"][name]["environment"]
        assert environment["QUIETCOUNT_KAFKA__USERNAME"] == f"quietcount-{role}"
        assert f"/{role}/" in environment["QUIETCOUNT_KAFKA__PASSWORD_FILE"]


def test_kafka_and_the_registry_are_reached_from_inside_and_from_the_loopback_alone(compose: Document) -> None:
    networks = compose["networks"]
    assert networks["events"]["internal"] is True
    assert networks["metrics"]["internal"] is True
    for name in ("registry", "quietcount", "topics", "schemas", "emitter", "operator"):
        assert all(networks[network].get("internal") for network in compose["services"][name]["networks"])


def version_in(pom: Path, artifact: str) -> str:
    """The version of `artifact` that a pom.xml asks for."""
    found = re.search(rf"<artifactId>{artifact}</artifactId>\s*<version>([^<]+)<", pom.read_text(encoding="utf-8"))
    assert found is not None
    return found[1]


def test_the_servers_of_compose_are_the_versions_that_the_tests_run(root: Path, compose: Document) -> None:
    services = compose["services"]
    kafka = version_in(root / "tests" / "kafka" / "pom.xml", "kafka_2.13")
    registry = version_in(root / "tests" / "registry" / "pom.xml", "apicurio-registry-app")
    assert services["kafka"]["image"] == f"apache/kafka:{kafka}"
    assert services["registry"]["image"] == f"apicurio/apicurio-registry:{registry}"


def test_the_image_is_the_version_of_the_project(root: Path, compose: Document) -> None:
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    images = {service["image"] for service in compose["services"].values() if "build" in service}
    assert images == {f"quietcount:{version}"}


# ------------------------------------------------------------------ the broker's settings


def weak_settings(text: str) -> list[str]:
    """What in a server.properties would let somebody in, or lose a record."""
    settings = properties_of(text)
    protocols = dict(pair.split(":") for pair in settings["listener.security.protocol.map"].split(","))
    found = []
    for listener in settings["listeners"].split(","):
        name, _, address = listener.partition("://")
        if protocols[name] == "PLAINTEXT" and not address.startswith("127.0.0.1:"):
            found.append(f"{name} is open")
    wanted = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": "User:ANONYMOUS",
        "auto.create.topics.enable": "false",
        "delete.topic.enable": "false",
        "log.flush.interval.messages": "1",
        "unclean.leader.election.enable": "false",
        "log.retention.ms": "-1",
    }
    return found + [key for key, value in wanted.items() if settings.get(key) != value]


SETTINGS_TWINS = {
    "CLIENTS:SASL_PLAINTEXT": "CLIENTS:PLAINTEXT",
    "ADMIN://127.0.0.1:9094,CONTROLLER": "ADMIN://0.0.0.0:9094,CONTROLLER",
    "super.users=User:ANONYMOUS": "super.users=User:ANONYMOUS;User:quietcount-service",
    "allow.everyone.if.no.acl.found=false": "allow.everyone.if.no.acl.found=true",
    "delete.topic.enable=false": "delete.topic.enable=true",
    "log.flush.interval.messages=1": "log.flush.interval.messages=1000",
    "log.retention.ms=-1": "log.retention.hours=168",
}


def test_the_broker_lets_nobody_in_without_a_name_and_keeps_what_it_acknowledged(root: Path) -> None:
    assert weak_settings((root / "compose" / "kafka" / "server.properties").read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("strong", SETTINGS_TWINS)
def test_a_weaker_broker_is_found(root: Path, strong: str) -> None:
    text = (root / "compose" / "kafka" / "server.properties").read_text(encoding="utf-8")
    assert strong in text
    assert weak_settings(text.replace(strong, SETTINGS_TWINS[strong])) != []


# ------------------------------------------------------------------ access


def commands_of(page: str) -> set[tuple[str, str, str, str]]:
    """The ACLs that the commands of the page set: user, resource, name, operation."""
    found = set()
    for line in page.replace("\\\n", " ").splitlines():
        if not line.startswith("kafka-acls.sh "):
            continue
        words = shlex.split(line.replace('"$ADMIN"', "ADMIN"))[1:]
        words.remove("--add")
        options = [(words[at], words[at + 1]) for at in range(0, len(words), 2)]
        given = dict(options)
        (resource,) = given.keys() & {"--topic", "--group", "--transactional-id", "--cluster"}
        user = given["--allow-principal"].removeprefix("User:")
        for option, value in options:
            if option == "--operation":
                found.add((user, resource[2:].replace("-", "_"), given[resource], value.lower()))
    return found


def acls_of(text: str) -> set[tuple[str, str, str, str]]:
    return {
        (f"quietcount-{entry['role']}", entry["resource"], entry["name"], operation.replace("_", "").lower())
        for entry in tomllib.loads(text)["acl"]
        for operation in entry["operations"]
    }


def test_the_commands_of_the_page_set_what_the_table_says(root: Path) -> None:
    page = (root / "compose" / "security.md").read_text(encoding="utf-8")
    table = (root / "compose" / "kafka" / "acls.toml").read_text(encoding="utf-8")
    assert commands_of(page) == acls_of(table)
    assert len(acls_of(table)) > 30
    assert not {what for *_, what in acls_of(table)} & {"alter", "alterconfigs", "all"}
    assert commands_of(page.replace("--operation Write ", "--operation Read ", 1)) != acls_of(table)


def test_the_table_names_the_topics_and_ids_that_quietcount_uses(root: Path) -> None:
    entries = tomllib.loads((root / "compose" / "kafka" / "acls.toml").read_text(encoding="utf-8"))["acl"]
    named: dict[str, set[str]] = {}
    for entry in entries:
        named.setdefault(entry["resource"], set()).add(entry["name"])
    assert named["topic"] == {CASE_EVENTS, DEAD_LETTERS, RELEASES}
    assert named["transactional_id"] == {"quietcount.releases"}
    assert named["group"] == {"quietcount"}


def test_the_prefix_goes_before_every_name_but_the_clusters(root: Path) -> None:
    access = script(root / "compose" / "kafka" / "access.py")
    acls = access.acls_of((root / "compose" / "kafka" / "acls.toml").read_text(encoding="utf-8"), "trial.")
    names = {acl.resource_pattern.resource_name for acl in acls}
    assert {name for name in names if not name.startswith("trial.")} == {"kafka-cluster"}


def test_the_keys_that_the_page_gives_to_clients_are_those_that_are_read(root: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (root / "compose" / "security.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        config = tmp_path / "quietcount.toml"
        head = "" if "log = " in block else 'log = "kafka://kafka.example.org:29092"\n'
        config.write_text(f"lifetime_epsilon = 1\n{head}{block}")
        kafka = Configuration.load(config, environment={}).kafka
        assert isinstance(kafka, KafkaSettings)
        assert kafka.tls


# ------------------------------------------------------------------ configuration and secrets


PAID_FOR = {"requests_by_category": 0.15, "outcomes": 0.15, "daily_volume": 0.2}
"""What the day's volume costs is taken from two statistics; the bound is that of every project."""


def test_the_configuration_is_read_and_has_the_starting_catalogue_and_a_volume_paid_for_out_of_it(root: Path) -> None:
    path = root / "compose" / "quietcount.toml"
    loaded = Configuration.load(path, environment={})
    assert loaded.log == "kafka://kafka:9092"
    ours, starting = tomllib.loads(path.read_text(encoding="utf-8")), tomllib.loads(configuration_text())
    *shared, volume = ours["statistic"]
    assert shared == [
        entry | {"epsilon": PAID_FOR.get(entry["name"], entry["epsilon"])} for entry in starting["statistic"]
    ]
    assert volume == {"name": "daily_volume", "events": ["HelpRequested"], "period": "day", "epsilon": 0.2}
    spent = sum(Decimal(str(entry["epsilon"])) for entry in ours["statistic"])
    assert spent == Decimal(str(ours["lifetime_epsilon"])) == Decimal("2.5")
    assert {key: ours[key] for key in ("lifetime_epsilon", "grace", "tick")} == {
        key: starting[key] for key in ("lifetime_epsilon", "grace", "tick")
    }


def test_the_margins_that_the_configuration_tells_are_those_of_the_noise(root: Path) -> None:
    text = (root / "compose" / "quietcount.toml").read_text(encoding="utf-8")
    assert f"margin of +-{margin(1 / PAID_FOR['daily_volume'])} " in text
    assert text.count(f"margin +-{margin(1 / PAID_FOR['outcomes'])} for one quarter") == 2


def precision_of(text: str, folder: Path) -> dict[str, Period]:
    """To what period emitters with this configuration coarsen dates, by event type."""
    path = folder / "quietcount.toml"
    path.write_text(text, encoding="utf-8")
    return dict(EmitterSettings.load(path, environment={}).precision)


def test_no_date_is_sent_more_exactly_for_the_sake_of_a_dashboard(root: Path, tmp_path: Path) -> None:
    text = (root / "compose" / "quietcount.toml").read_text(encoding="utf-8")
    starting = precision_of(configuration_text(), tmp_path)
    assert precision_of(text, tmp_path) == starting
    every = text.replace(
        'name = "daily_volume"\nevents = ["HelpRequested"]',
        'name = "daily_volume"\nevents = ["HelpRequested", "CourtCaseFiled"]',
    )
    assert precision_of(every, tmp_path) != starting


def test_every_path_of_the_configuration_lies_in_a_volume_of_who_needs_it(root: Path, compose: Document) -> None:
    loaded = Configuration.load(root / "compose" / "quietcount.toml", environment={})

    def mounted(name: str) -> set[str]:
        return {volume.split(":")[1] for volume in compose["services"][name]["volumes"]}

    assert str(loaded.data_dir) in mounted("quietcount")
    assert str(loaded.service.secret_file.parent) in mounted("quietcount")
    assert str(loaded.emitter.pepper_file.parent) in mounted("emitter")
    assert str(loaded.emitter.pepper_file.parent) not in mounted("quietcount")


@pytest.fixture
def credentials(root: Path, tmp_path: Path) -> ModuleType:
    """The program that makes the secrets, with the folder of each role in `tmp_path`."""
    program = script(root / "compose" / "credentials.py")
    for role in (*program.ROLES, program.MONITORING):
        (tmp_path / role).mkdir()
    return program


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


METRICS = {
    "service/metrics.pem",
    "service/metrics-password",
    "monitoring/metrics-ca.pem",
    "monitoring/metrics-password",
}


def test_secrets_are_made_once_private_and_are_kept(credentials: ModuleType, tmp_path: Path) -> None:
    made = credentials.make_credentials(tmp_path)
    assert len(made) == 9
    texts = contents(tmp_path)
    modes = {str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in made}
    assert modes == {name: 0o640 if name.startswith("monitoring/") else 0o600 for name in texts}
    assert len(set(texts.values())) == 8  # one password is Prometheus' and the service's
    assert texts["service/metrics-password"] == texts["monitoring/metrics-password"]
    assert min(len(text) for text in texts.values()) > 40
    Pepper.load(tmp_path / "emitter" / "pepper")
    with pytest.raises(ProducersError):
        Pepper.load(tmp_path / "service" / "pepper")
    assert credentials.make_credentials(tmp_path) == []
    assert contents(tmp_path) == texts


def test_a_start_that_was_cut_off_leaves_no_half_secret(credentials: ModuleType, tmp_path: Path) -> None:
    for write in (credentials.write, credentials.replace):
        secret = tmp_path / write.__name__ / "secret"
        secret.parent.mkdir()
        secret.with_name(".secret.new").write_text("half of an earlier one")
        write(secret, b"whole")
        assert contents(secret.parent) == {"secret": b"whole"}
    with pytest.raises(FileExistsError):
        credentials.write(tmp_path / "write" / "secret", b"another")


def test_prometheus_has_the_certificate_and_the_password_and_not_the_key(
    credentials: ModuleType, tmp_path: Path
) -> None:
    credentials.make_credentials(tmp_path)
    assert not any(b"PRIVATE KEY" in text for text in contents(tmp_path / "monitoring").values())
    assert b"PRIVATE KEY" in (tmp_path / "service" / "metrics.pem").read_bytes()


def test_what_monitoring_needs_is_renewed_and_nothing_else(credentials: ModuleType, tmp_path: Path) -> None:
    credentials.make_credentials(tmp_path)
    before = contents(tmp_path)
    assert credentials.main(["--renew-monitoring"], tmp_path) == 0
    after = contents(tmp_path)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == METRICS
    assert after["service/metrics-password"] == after["monitoring/metrics-password"]
    assert after["service/metrics.pem"].endswith(after["monitoring/metrics-ca.pem"])


def test_a_renewal_that_was_cut_off_is_finished_by_the_next_start(credentials: ModuleType, tmp_path: Path) -> None:
    credentials.make_credentials(tmp_path)
    old = contents(tmp_path)
    credentials.make_credentials(tmp_path, renew_monitoring=True)
    new = contents(tmp_path)
    for name in METRICS:
        if name.startswith("monitoring/"):
            (tmp_path / name).write_bytes(old[name])
    credentials.make_credentials(tmp_path)
    assert contents(tmp_path) == new


def test_a_damaged_certificate_and_a_wrong_argument_are_one_sentence(
    credentials: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "service" / "metrics.pem").write_text("half", encoding="ascii")
    assert credentials.main([], tmp_path) == 1
    assert "metrics.pem: holds no certificate" in capsys.readouterr().err
    assert credentials.main(["--renew-monitoring"], tmp_path) == 0
    assert credentials.main(["--renew"], tmp_path) == 2


# ------------------------------------------------------------------ monitoring


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
    found = programs()
    require(found is not None, WANTED)
    assert found is not None
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
    assert f"answers {1000 * ANSWER_AFTER:.0f} ms after a request was complete" in page
    assert f"of {1000 * ANSWER_NOISE:.0f} ms in the mean" in page
    # Within the time that a connection is kept, or each scrape would have a handshake of its own.
    assert prometheus_settings["global"]["scrape_interval"] == "60s"
    assert IDLE_SECONDS > 60


def test_the_commands_of_the_page_name_containers_that_are_there_and_options_that_they_take(
    root: Path, compose: Document, credentials: ModuleType, tmp_path: Path
) -> None:
    page = (root / "compose" / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^ {4}docker compose (.*)$", page, re.MULTILINE)
    named = [[word for word in line.split() if word in compose["services"]] for line in lines]
    assert all(named[at] for at, line in enumerate(lines) if line.split()[0] in ("run", "kill", "restart"))
    (renewing,) = [line for line in lines if "credentials" in line]
    assert credentials.main(renewing.partition("credentials")[2].split(), tmp_path) == 0


# ------------------------------------------------------------------ the image


def weak_image(text: str) -> list[str]:
    """What in a Dockerfile would run as root, change by itself or carry the tools of its building."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.lstrip().startswith("#")]
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    last = lines[max(at for at, line in enumerate(lines) if line.startswith("FROM ")) :]
    users = [line.split()[1] for line in last if line.startswith("USER ")]
    found = [f"{base} is not pinned" for base in bases if not PINNED.fullmatch(base)]
    if not users or not re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", users[-1]):
        found.append("runs as root")
    if any("pip" in line or "apt-get" in line for line in last):
        found.append("the image that runs is built upon")
    if len(bases) < 2 or not any(line.startswith("HEALTHCHECK") for line in last):
        found.append("one stage, or no health check")
    if 'ENTRYPOINT ["quietcount"]' not in last:
        found.append("does not run quietcount")
    return found


def test_the_image_is_small_pinned_and_not_roots(root: Path) -> None:
    text = (root / "compose" / "Dockerfile").read_text(encoding="utf-8")
    assert weak_image(text) == []
    assert weak_image(text.replace("USER 10001:10001", "USER root")) != []
    assert weak_image(text.replace(":3.13.16-slim-trixie", ":latest")) != []
    assert weak_image(text.replace("WORKDIR /var", "RUN apt-get install gcc\nWORKDIR /var")) != []


def test_the_image_takes_in_only_what_it_is_built_from(root: Path) -> None:
    lines = (root / "compose" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    taken = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = re.findall(
        r"^COPY (?!--)(\S+) ", (root / "compose" / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert taken == set(copied)
    assert {"**/secrets", "**/data"} <= set(rules)


def test_every_volume_has_a_folder_with_its_owner_in_the_image(root: Path, compose: Document) -> None:
    text = (root / "compose" / "Dockerfile").read_text(encoding="utf-8")
    for service in compose["services"].values():
        if "build" not in service:
            continue
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            if not source.startswith("."):
                assert re.search(rf"{re.escape(target)}(\s|\\|$)", text, re.MULTILINE), target
