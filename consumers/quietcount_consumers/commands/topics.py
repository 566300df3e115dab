"""The commands about the topics on Kafka: topics create, topics check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from quietcount_consumers.commands.options import chosen_format, format_option
from quietcount_consumers.commands.presentation import Format, show_rows
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ConfigurationError, ServiceError
from quietcount_consumers.kafka.topic_settings import PARTITIONS, TOPICS, Finding, Severity, findings
from quietcount_consumers.kafka.topics import create_topics, describe_topics
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.cli import config_option

__all__ = ["topics_command"]

_COLUMNS = ("severity", "topic", "setting", "found", "wanted", "why", "remedy")


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
    help=f"Of case events; it never changes afterwards.  [default: {PARTITIONS[TOPICS[0]]}]",
)
@click.option(
    "--replication-factor",
    type=click.IntRange(min=1, max=100),
    help="Copies of each partition.  [default: the number of brokers, 3 at most]",
)
@config_option
def topics_create_command(partitions: int | None, replication_factor: int | None, config: Path) -> None:
    """Make the topics that are missing, with the settings they need, and check all of them.

    A topic that is there already is left as it is. Choose the partitions once: a case's events lie in one partition,
    and with more partitions they would go on in another.

    \b
    Example: quietcount topics create
    """
    settings = _kafka(config)
    made = create_topics(settings, partitions=partitions, replication_factor=replication_factor)
    for name in made:
        click.echo(name)
    for topic in TOPICS:
        if settings.topic(topic) not in made:
            click.echo(f"{settings.topic(topic)}: is there already, and stays as it is.", err=True)
    found = findings(describe_topics(settings), settings)
    for each in found:
        click.echo(
            f"{each.severity}: {each.topic + ': ' if each.topic else ''}{each.setting} is {each.found}, not "
            f"{each.wanted}. {each.why} To do: {each.remedy}",
            err=True,
        )
    _judge(found, "they are told above, and by: quietcount topics check")


@topics_command.command("check", short_help="Check the topics: each setting that is wrong, and why it matters.")
@config_option
@format_option
def topics_check_command(config: Path, form: str | None) -> None:
    """Check the topics: each setting that is wrong, why it matters, and what to do.

    Ends with 1 if anything is wrong; a warning alone is none.

    \b
    Example: quietcount topics check --format json
    """
    settings = _kafka(config)
    found = findings(describe_topics(settings), settings)
    rows = [tuple(getattr(each, column) for column in _COLUMNS) for each in found]
    how = chosen_format(form)
    if rows or how is not Format.TABLE:
        show_rows(_COLUMNS, [tuple(map(str, row)) for row in rows], how)
    _judge(found, "they are told above")
    click.echo("The topics are as they have to be.", err=True)


def _judge(found: Sequence[Finding], where: str) -> None:
    """Raise ServiceError if anything is wrong; warnings are none."""
    wrong = sorted({each.setting for each in found if each.severity is Severity.WRONG})
    if wrong:
        raise ServiceError(f"the topics are not as they have to be ({', '.join(wrong)}); {where}")


def _kafka(config: Path) -> KafkaSettings:
    configuration = Configuration.load(config)
    if configuration.kafka is None:
        raise ConfigurationError(
            f"{config}: key 'log' names the embedded log, whose topics make themselves; this command is for "
            '"kafka://host:9092"'
        )
    return configuration.kafka
