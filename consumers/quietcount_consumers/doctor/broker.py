"""The doctor's look at Kafka: whether the brokers let this user in, what it may do, and how the topics are set."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Final

from quietcount_consumers.doctor.verdicts import Verdict, warning, wrong
from quietcount_consumers.kafka.topic_settings import TOPICS, Severity, findings
from quietcount_consumers.kafka.topics import describe_topics
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, RELEASES

__all__ = ["check_rights", "check_topics", "topic_of"]

_CLIENT: Final = "quietcount-doctor"

# By topic, what the service does there: see compose/security.md.
NEEDED: Final = {
    CASE_EVENTS: frozenset({"READ", "DESCRIBE", "DELETE"}),
    DEAD_LETTERS: frozenset({"READ", "WRITE", "DESCRIBE", "DELETE"}),
    RELEASES: frozenset({"READ", "WRITE", "DESCRIBE", "DESCRIBE_CONFIGS"}),
}
# And what would let whoever takes the service over invent events, or destroy log and ledger.
_DANGEROUS: Final = frozenset({"WRITE", "DELETE", "ALTER", "ALTER_CONFIGS"})


def topic_of(settings: KafkaSettings) -> str:
    """Return the identity of the topic of case events. Raises LogError or LogUnavailable."""
    from quietcount_producers.kafka.connection import reach

    facts = reach(settings, _CLIENT, TOPICS)
    return str(uuid.UUID(facts[CASE_EVENTS].identity))  # as the state has it


def check_rights(settings: KafkaSettings) -> Iterator[Verdict]:
    """Look at what this user may do on each topic, as the brokers tell it. Raises LogError or LogUnavailable."""
    from kafka.admin import ACLOperation

    from quietcount_producers.kafka.connection import client_options, way_in
    from quietcount_producers.kafka.handshake import shake_hands

    broker, _ = way_in(settings, _CLIENT, TOPICS)
    names = {settings.topic(topic): topic for topic in TOPICS}
    told = shake_hands(settings, broker, client_options(settings, _CLIENT), list(names))
    beyond = []
    for each in told.topics:
        topic = names.get(each.name or "")
        if topic is None or each.operations is None:
            continue
        allowed = {ACLOperation(code).name for code in each.operations if code in list(ACLOperation)}
        lacking = sorted(NEEDED[topic] - allowed)
        if lacking:
            yield wrong(
                "rights",
                f"{each.name}: the user of {settings.config} lacks {', '.join(lacking)}",
                "Allow it; compose/security.md has the commands",
            )
        beyond += [f"{right} on {each.name}" for right in sorted((allowed - NEEDED[topic]) & _DANGEROUS)]
    if beyond:
        yield warning(
            "rights",
            f"this user may do what the service never does: {', '.join(beyond)}",
            "Take it away, or whoever takes the service over may, too; compose/security.md has what each role needs",
        )


def check_topics(settings: KafkaSettings) -> Iterator[Verdict]:
    """Look at the topics' settings. Raises LogError or LogUnavailable."""
    for each in findings(describe_topics(settings), settings):
        where = f"{each.topic}: " if each.topic else ""
        made = wrong if each.severity is Severity.WRONG else warning
        yield made("topics", f"{where}{each.setting} is {each.found}, not {each.wanted}. {each.why}", each.remedy)
