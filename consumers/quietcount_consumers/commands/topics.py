"""The commands about the topics on Kafka: topics create, topics check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ConfigurationError, ServiceError
from quietcount_consumers.kafka.topic_findings import topic_findings
from quietcount_consumers.kafka.topic_settings import PARTITIONS, TOPICS
from quietcount_consumers.kafka.topics import create_topics, describe_topics
from quietcount_consumers.maintenance.recovery import opened_partitions
from quietcount_consumers.terminal.findings import show_findings
from quietcount_consumers.terminal.options import chosen_format, format_option
from quietcount_consumers.terminal.presentation import Format
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.cli import config_option
from quietcount_schemas.finding import Finding, Severity

__all__ = ["topics_command"]


@click.group("topics")
def topics_command() -> None:
    """Make and check the topics on Kafka.

    \b
    Example: quietcount topics check
    """


@topics_command.command("create", short_help="Make the topics that are missing, with the settings they need.")
@click.option(
    "--partitions",
    type=click.IntRange(min=1, max=1000),
    help=f"Of case events; it never changes afterwards.  [default: the ledger's, or {PARTITIONS[TOPICS[0]]}]",
)
@click.option(
    "--replication-factor",
    type=click.IntRange(min=1, max=100),
    help="Copies of each partition.  [default: the number of brokers, 3 at most]",
)
@config_option
def topics_create_command(partitions: int | None, replication_factor: int | None, config: Path) -> None:
    """Make the topics that are missing, with the settings they need, and check all of them.

    A topic that is already there stays as it is. Choose the number of partitions once: all events of a case are in one
    partition, and if somebody adds partitions later, the service folds nothing any more.

    \b
    Example: quietcount topics create
    """
    configuration, settings = _kafka(config)
    opened = opened_partitions(configuration) or partitions
    if partitions not in (None, opened):
        raise ServiceError(
            f"the ledger was opened with {opened} partitions of case events, and their number never changes",
            "Leave out --partitions",
        )
    made = create_topics(settings, partitions=opened, replication_factor=replication_factor)
    for name in made:
        click.echo(name)
    for topic in TOPICS:
        if settings.topic(topic) not in made:
            click.echo(f"{settings.topic(topic)}: is already there, and stays as it is.", err=True)
    found = topic_findings(describe_topics(settings), settings, partitions=opened_partitions(configuration))
    for each in found:
        click.echo(f"{each.severity}: {each.where}: {each.what}. {each.remedy}", err=True)
    _judge(found)


@topics_command.command("check", short_help="Check the topics: each setting that is wrong, and why it matters.")
@config_option
@format_option
def topics_check_command(config: Path, form: str | None) -> None:
    """Check the topics: each setting that is wrong, why it matters, and what to do.

    Exits 1 if anything is wrong, and 0 if there are only warnings.

    \b
    Example: quietcount topics check --format json
    """
    configuration, settings = _kafka(config)
    found = topic_findings(describe_topics(settings), settings, partitions=opened_partitions(configuration))
    how = chosen_format(form)
    if found or how is not Format.TABLE:
        show_findings(found, how, code="setting")
    _judge(found)
    click.echo("The topics are as they have to be.", err=True)


def _judge(found: Sequence[Finding]) -> None:
    """Raise ServiceError if anything is wrong; a warning is not."""
    wrong = sorted({each.code for each in found if each.severity is Severity.WRONG})
    if wrong:
        raise ServiceError(
            f"the topics are not as they have to be ({', '.join(wrong)})",
            "Do what is said above, then run: quietcount topics check",
        )


def _kafka(config: Path) -> tuple[Configuration, KafkaSettings]:
    configuration = Configuration.load(config)
    if configuration.kafka is None:
        raise ConfigurationError(
            f"{config}: key 'log' names the embedded log, which makes its topics by itself",
            'Use this command only with a log such as "kafka://host:9092"',
        )
    return configuration, configuration.kafka
