"""compose/: what its containers promise, each with a broken twin that is found. No container engine is needed."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from tests.unit.compose.compose_documents import PINNED, Document, compose, credentials

pytestmark = pytest.mark.quick

__all__ = ["compose", "credentials"]  # the fixtures

ONCE = {"credentials", "access", "topics", "schemas", "emitter", "operator", "worker-secret"}


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
    roles = {
        "topics": "administrator",
        "quietcount": "service",
        "worker-1": "worker",
        "worker-2": "worker",
        "emitter": "emitter",
        "operator": "operator",
    }
    holders = roles | {"prometheus": "monitoring"}
    wanted = {name: {holders[name]} if name in holders else set() for name in having}
    assert having == {**wanted, "worker-secret": {"service", "worker"}}
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


def test_the_commands_of_the_page_name_containers_that_are_there_and_options_that_they_take(
    root: Path, compose: Document, credentials: ModuleType, tmp_path: Path
) -> None:
    page = (root / "compose" / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^ {4}docker compose (.*)$", page, re.MULTILINE)
    named = [[word for word in line.split() if word in compose["services"]] for line in lines]
    assert all(named[at] for at, line in enumerate(lines) if line.split()[0] in ("run", "kill", "restart"))
    (renewing,) = [line for line in lines if "credentials" in line]
    assert credentials.main(renewing.partition("credentials")[2].split(), tmp_path) == 0
