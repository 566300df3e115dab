"""A broker behind TLS, client certificates, SCRAM passwords and access rules, with the files that open it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

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
)
from tests.kafka.certificates import Authority
from tests.kafka.cluster import Cluster, new_prefix

# Name of the listener -> its security protocol. PLAINTEXT is there too: for the brokers, and to set things up.
LISTENERS = {
    "TLS": "SSL",
    "MTLS": "SSL",  # asks for a client certificate, whose common name is who it is
    "MISNAMED": "SSL",  # shows a trusted certificate of another host
    "SCRAM": "SASL_PLAINTEXT",
    "SCRAM_TLS": "SASL_SSL",
}
USERS = {"service": "service-password", "emitter": "emitter-password", "nobody": "nobody-password"}
APPLIED_SECONDS = 30
"""How long a broker may take until it goes by a new access rule."""
_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


class SecuredCluster(Cluster):
    """One broker with every kind of listener.

    Whoever comes without a name (PLAINTEXT, TLS) may do everything; whoever has one (MTLS, SCRAM) may do what was
    allowed, and at first nothing. The names are those of `USERS`, with passwords and client certificates alike.
    """

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "certificates")
        self.stranger = Authority(folder / "strangers", "an authority that nobody trusts")
        server = self.authority.issue("broker", "127.0.0.1", "localhost")
        misnamed = self.authority.issue("elsewhere", "kafka.example.org")
        self.clients = {name: self.authority.issue(name) for name in USERS}
        self.password_files = {name: folder / f"{name}.password" for name in USERS}
        for name, path in self.password_files.items():
            path.write_text(USERS[name] + "\n", encoding="utf-8")
            path.chmod(0o600)
        properties = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(server.bundle),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority.file),
            "ssl.principal.mapping.rules": "RULE:^CN=([^,]+)$/$1/,DEFAULT",
            "listener.name.mtls.ssl.client.auth": "required",
            "listener.name.misnamed.ssl.keystore.type": "PEM",
            "listener.name.misnamed.ssl.keystore.location": str(misnamed.bundle),
            "sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }
        for listener in ("scram", "scram_tls"):
            for mechanism in ("scram-sha-256", "scram-sha-512"):
                properties[f"listener.name.{listener}.{mechanism}.sasl.jaas.config"] = _MODULE
        super().__init__(folder, listeners=LISTENERS, properties=properties, users=USERS)

    def allow(
        self, user: str, kind: ResourceType, name: str, *operations: ACLOperation, prefixed: bool = False
    ) -> None:
        """Let `user` do `operations` with the topic, group, transactional id or cluster `name`, or what begins so."""
        pattern = ACLResourcePatternType.PREFIXED if prefixed else ACLResourcePatternType.LITERAL
        rules = [
            ACL(f"User:{user}", "*", operation, ACLPermissionType.ALLOW, ResourcePattern(kind, name, pattern))
            for operation in operations
        ]
        with KafkaAdminClient(bootstrap_servers=self.bootstrap) as admin:
            done = admin.create_acls(rules)
            if done["failed"]:
                raise RuntimeError(f"the broker refused access rules: {done['failed']}")
            # The controller has them now. What the broker goes by, and tells, follows a moment later.
            until = time.monotonic() + APPLIED_SECONDS
            while not all(_told(admin, rule) for rule in rules):
                if time.monotonic() > until:
                    raise RuntimeError(f"the broker does not apply access rules of {name}")
                time.sleep(0.02)

    def settings(self, listener: str, user: str | None = None, **changed: Any) -> dict[str, Any]:
        """The right keys of the `[kafka]` section for a listener, with a fresh topic prefix.

        `changed` puts other values in their place, and None leaves a key out.
        """
        keys: dict[str, Any] = {"topic_prefix": new_prefix()}
        if LISTENERS.get(listener, "").endswith("SSL"):
            keys |= {"tls": True, "ca_file": str(self.authority.file)}
        if user is not None and listener == "MTLS":
            issued = self.clients[user]
            keys |= {"certificate_file": str(issued.certificate_file), "key_file": str(issued.key_file)}
        elif user is not None:
            keys |= {"username": user, "password_file": str(self.password_files[user])}
        return {key: value for key, value in (keys | changed).items() if value is not None}


def _told(admin: KafkaAdminClient, rule: ACL) -> bool:
    """Return whether the broker names an access rule among those that it goes by."""
    pattern = rule.resource_pattern
    wanted = ResourcePatternFilter(pattern.resource_type, pattern.resource_name, pattern.pattern_type)
    found, _ = admin.describe_acls(ACLFilter(rule.principal, rule.host, rule.operation, rule.permission_type, wanted))
    return bool(found)
