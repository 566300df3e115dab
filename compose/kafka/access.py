"""Set who may do what on the broker: a SCRAM user for each role of acls.toml, and exactly the ACLs that it says.

Runs in the broker's own network, where its ADMIN listener is. Doing it again changes nothing; an ACL of one of these
users that acls.toml no longer has is taken away, and one of anybody else is left alone.
"""

from __future__ import annotations

import logging
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    KafkaAdminClient,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    UserScramCredentialUpsertion,
)
from kafka.errors import KafkaError

BROKER = "127.0.0.1:9094"
SECRETS = Path("/var/lib/quietcount/secrets")
TABLE = Path(__file__).with_name("acls.toml")
PASSWORD_FILE = "kafka-password"  # noqa: S105 (a name)
MECHANISM = "SCRAM-SHA-512"
ITERATIONS = 8192
TIMEOUT_MS = 30_000  # for the first connection and each answer: a broker that is healthy takes less than one second


class AccessError(Exception):
    """What is not set, in one sentence."""


def user(role: str) -> str:
    """Return the name with which a role logs in."""
    return f"quietcount-{role}"


def acls_of(text: str, prefix: str = "") -> list[ACL]:
    """Return the ACLs that the text of acls.toml says, one for each operation, with `prefix` before what has names."""
    found = []
    for entry in tomllib.loads(text)["acl"]:
        resource = ResourceType[entry["resource"].upper()]
        name = entry["name"] if resource is ResourceType.CLUSTER else prefix + entry["name"]
        pattern = ResourcePattern(resource, name, ACLResourcePatternType.LITERAL)
        principal = f"User:{user(entry['role'])}"
        found += [
            ACL(principal, "*", ACLOperation[operation], ACLPermissionType.ALLOW, pattern)
            for operation in entry["operations"]
        ]
    return found


def roles_of(text: str) -> list[str]:
    """Return the roles of acls.toml, each once."""
    return sorted({entry["role"] for entry in tomllib.loads(text)["acl"]})


def set_users(admin: KafkaAdminClient, passwords: Mapping[str, str]) -> None:
    """Give each role (a key of `passwords`) its SCRAM password. AccessError when the broker refuses one."""
    wanted = [
        UserScramCredentialUpsertion(user(role), MECHANISM, password, iterations=ITERATIONS)
        for role, password in passwords.items()
    ]
    for name, refused in admin.alter_user_scram_credentials(wanted).items():
        if refused is not None:
            raise AccessError(f"the broker did not take the password of {name}: {refused}")


def set_acls(admin: KafkaAdminClient, wanted: list[ACL]) -> None:
    """Leave the users that `wanted` names with exactly these ACLs. AccessError when the broker refuses one."""
    anything = ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY)
    there: list[ACL] = []
    for principal in sorted({acl.principal for acl in wanted}):
        found, _ = admin.describe_acls(ACLFilter(principal, None, ACLOperation.ANY, ACLPermissionType.ANY, anything))
        there += found
    missing = [acl for acl in wanted if acl not in there]
    if missing and (failed := admin.create_acls(missing)["failed"]):
        raise AccessError(f"the broker refused {len(failed)} of {len(missing)} ACLs: {failed[0].__name__}")
    surplus = [acl for acl in there if acl not in wanted]
    if surplus:
        admin.delete_acls(surplus)


def main(broker: str = BROKER, secrets: Path = SECRETS) -> int:
    """Set users and ACLs; 1 and one sentence when it cannot be done."""
    logging.getLogger("kafka").addHandler(logging.NullHandler())
    text = TABLE.read_text(encoding="utf-8")
    try:
        passwords = {
            role: (secrets / role / PASSWORD_FILE).read_text(encoding="ascii").strip() for role in roles_of(text)
        }
    except OSError as error:
        sys.stderr.write(f"{error.filename}: cannot be read: {os.strerror(error.errno or 0)}\n")
        return 1
    try:
        options = {"bootstrap_servers": broker, "client_id": "quietcount-access", "request_timeout_ms": TIMEOUT_MS}
        with KafkaAdminClient(**options) as admin:
            set_users(admin, passwords)
            set_acls(admin, acls_of(text, os.environ.get("QUIETCOUNT_KAFKA__TOPIC_PREFIX", "")))
    except (AccessError, KafkaError) as error:
        sys.stderr.write(f"Access to Kafka at {broker} was not set: {error or type(error).__name__}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
