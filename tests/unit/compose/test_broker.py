"""compose/: the broker's settings and who may do what on it, with broken twins that are found."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from tests.deployment import properties_of, script

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.doctor.broker import NEEDED
from quietcount_consumers.workers.duty import Role
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, PARTIAL_SUMS, RELEASES, SETTLEMENTS

pytestmark = pytest.mark.quick


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
    assert named["topic"] == {CASE_EVENTS, DEAD_LETTERS, RELEASES, SETTLEMENTS, PARTIAL_SUMS}
    assert named["transactional_id"] == {"quietcount.releases"}
    assert named["group"] == {"quietcount"}


def test_the_doctor_looks_for_what_the_table_gives(root: Path) -> None:
    entries = tomllib.loads((root / "compose" / "kafka" / "acls.toml").read_text(encoding="utf-8"))["acl"]
    for name, role in (("service", Role.BOTH), ("worker", Role.FOLD), ("releaser", Role.RELEASE)):
        mine = [entry for entry in entries if (entry["role"], entry["resource"]) == (name, "topic")]
        assert {entry["name"]: set(entry["operations"]) for entry in mine} == NEEDED[role]


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
