"""The doctor's look at Kafka: whether the brokers let this user in, what it may do, and how the topics are set."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from quietcount_consumers.doctor.verdicts import warning, wrong
from quietcount_consumers.kafka.topic_findings import topic_findings
from quietcount_consumers.kafka.topic_settings import TOPICS
from quietcount_consumers.kafka.topics import describe_topics
from quietcount_consumers.workers.duty import Role
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.finding import Finding
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, PARTIAL_SUMS, RELEASES, SETTLEMENTS

__all__ = ["check_rights", "check_topics", "topic_of"]

_CLIENT: Final = "quietcount-doctor"

NEEDED: Final = {
    Role.BOTH: {
        CASE_EVENTS: frozenset({"READ", "DESCRIBE", "DELETE"}),
        DEAD_LETTERS: frozenset({"READ", "WRITE", "DESCRIBE", "DELETE"}),
        RELEASES: frozenset({"READ", "WRITE", "DESCRIBE", "DESCRIBE_CONFIGS"}),
        SETTLEMENTS: frozenset({"READ", "WRITE", "DESCRIBE", "DESCRIBE_CONFIGS"}),
        PARTIAL_SUMS: frozenset({"READ", "WRITE", "DESCRIBE", "DELETE"}),
    },
    Role.FOLD: {
        CASE_EVENTS: frozenset({"READ", "DESCRIBE", "DELETE"}),
        DEAD_LETTERS: frozenset({"WRITE", "DESCRIBE", "DELETE"}),
        RELEASES: frozenset({"READ", "DESCRIBE", "DESCRIBE_CONFIGS"}),
        SETTLEMENTS: frozenset({"READ", "DESCRIBE", "DESCRIBE_CONFIGS"}),
        PARTIAL_SUMS: frozenset({"WRITE", "DESCRIBE"}),
    },
    Role.RELEASE: {
        CASE_EVENTS: frozenset({"DESCRIBE"}),
        DEAD_LETTERS: frozenset({"DESCRIBE"}),
        RELEASES: frozenset({"READ", "WRITE", "DESCRIBE", "DESCRIBE_CONFIGS"}),
        SETTLEMENTS: frozenset({"READ", "WRITE", "DESCRIBE", "DESCRIBE_CONFIGS"}),
        PARTIAL_SUMS: frozenset({"READ", "DESCRIBE", "DELETE"}),
    },
}
"""By role and topic, what a process does there: see compose/security.md."""
_DANGEROUS: Final = frozenset({"WRITE", "DELETE", "ALTER", "ALTER_CONFIGS"})
"""With these, somebody who takes the service over can invent events, or destroy log and ledger."""


def topic_of(settings: KafkaSettings) -> str:
    """Return the identity of the topic of case events. Raises LogError or LogUnavailable."""
    from quietcount_producers.kafka.connection import reach

    facts = reach(settings, _CLIENT, TOPICS)
    return str(uuid.UUID(facts[CASE_EVENTS].identity))  # as the state has it


def check_rights(settings: KafkaSettings) -> Iterator[Finding]:
    """Look at what this user may do on each topic, as the brokers say, and what the service does there, or a worker.

    Which of them it is, is told by the rights themselves: those of the role from which they differ least are meant.
    Raises LogError or LogUnavailable.
    """
    from kafka.admin import ACLOperation

    from quietcount_producers.kafka.connection import client_options, way_in
    from quietcount_producers.kafka.handshake import shake_hands

    broker, _ = way_in(settings, _CLIENT, TOPICS)
    names = {settings.topic(topic): topic for topic in TOPICS}
    greeted = shake_hands(settings, broker, client_options(settings, _CLIENT), list(names))
    allowances = {
        names[each.name]: {ACLOperation(code).name for code in each.operations if code in list(ACLOperation)}
        for each in greeted.topics
        if each.name in names and each.operations is not None
    }
    needed = min(NEEDED.values(), key=lambda role: sum(len(role[each] ^ allowances[each]) for each in allowances))
    beyond = []
    for topic, allowed in allowances.items():
        lacking = sorted(needed[topic] - allowed)
        if lacking:
            yield wrong(
                "rights",
                f"the user of {settings.config} lacks {', '.join(lacking)}",
                "Allow it; compose/security.md has the commands",
                settings.topic(topic),
            )
        beyond += [f"{right} on {settings.topic(topic)}" for right in sorted((allowed - needed[topic]) & _DANGEROUS)]
    if beyond:
        yield warning(
            "rights",
            f"this user may do what the service never does: {', '.join(beyond)}",
            "Take these rights away: somebody who takes the service over would have them; compose/security.md lists "
            "what each role needs",
        )


def check_topics(settings: KafkaSettings, partitions: int | None) -> Iterator[Finding]:
    """Look at the topics' settings; `partitions` as for topic_findings. Raises LogError or LogUnavailable."""
    for each in topic_findings(describe_topics(settings), settings, partitions=partitions):
        yield replace(each, code="topics")
