"""The demo on a real broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient
from tests.e2e.projects import Project
from tests.e2e.service.test_demo import APART, PUBLISHED
from tests.kafka.fixtures import Kafka
from tests.serving_world import until

from quietcount_consumers.commands.demo import demo_command
from quietcount_consumers.commands.init import init_command
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.demo.demonstration import _prepare
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.kafka.topic_settings import TOPICS
from quietcount_producers.errors import LogUnavailable
from quietcount_schemas.errors import QuietcountError

pytestmark = pytest.mark.check


@pytest.fixture
def admin(kafka: Kafka) -> Iterator[KafkaAdminClient]:
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    yield admin
    admin.close()


def prefix_of(folder: Path) -> str:
    settings = Configuration.load(folder / "quietcount.toml", environment={}).kafka
    assert settings is not None
    return settings.topic_prefix


def test_the_demo_on_kafka_gives_the_published_figures_on_topics_of_its_own(
    tmp_path: Path, kafka: Kafka, admin: KafkaAdminClient
) -> None:
    """False alarms: below 2e-9 of runs; see test_the_answers_are_near_the_published_figures."""
    place = Project(tmp_path, create=False)
    environment = {"QUIETCOUNT_KAFKA__TOPIC_PREFIX": "real.", "QUIETCOUNT_LOG": "embedded"}
    finished = place.quietcount("demo", "--json", "--log", f"kafka://{kafka.bootstrap}", environment=environment)
    figures = json.loads(finished.done().out)["figures"]
    assert [figure["published"] for figure in figures] == PUBLISHED
    missed = [
        figure["statistic"]
        for figure in figures
        if figure["statistic"] in APART
        and not figure["estimate"] - 4 * (figure["estimate"] - figure["lower"] + 1)
        <= figure["published"]
        <= figure["estimate"] + 4 * (figure["upper"] - figure["estimate"] + 1)
    ]
    assert len(missed) <= 1
    folder = tmp_path / "quietcount-demo"
    prefix = prefix_of(folder)
    assert prefix.startswith("quietcount-demo-")
    topics = {topic for topic in admin.list_topics() if topic.startswith(prefix)}
    assert topics == {f"{prefix}{name}" for name in TOPICS}
    assert not list(folder.rglob("*.sqlite"))
    # The next demo in that folder begins with deleting them.
    _prepare(folder)
    assert not [topic for topic in admin.list_topics() if topic.startswith(prefix)]


def test_the_next_demo_leaves_the_topics_of_a_project_alone(
    tmp_path: Path, kafka: Kafka, admin: KafkaAdminClient
) -> None:
    """Somebody may have gone on with the demo's folder, under a prefix of his own."""
    prefix = kafka.prefix()
    admin.create_topics({f"{prefix}case-events": {"num_partitions": 1, "replication_factor": 1}})
    until(lambda: f"{prefix}case-events" in admin.list_topics())  # the broker hears of it a moment later
    (tmp_path / ".quietcount-demo").write_text("")
    (tmp_path / "quietcount.toml").write_text(
        f'log = "kafka://{kafka.bootstrap}"\nlifetime_epsilon = 1\nkafka = {{ topic_prefix = "{prefix}" }}\n'
    )
    _prepare(tmp_path)
    assert not (tmp_path / "quietcount.toml").exists()
    assert f"{prefix}case-events" in admin.list_topics()


def earlier_demo(folder: Path, prefix: str = "quietcount-demo-01234567.") -> str:
    """Leave in `folder` what a demo left on brokers that are gone; return its configuration."""
    text = f'log = "kafka://127.0.0.1:1"\nlifetime_epsilon = 1\nkafka = {{ topic_prefix = "{prefix}" }}\n'
    folder.mkdir(exist_ok=True)
    (folder / ".quietcount-demo").write_text("")
    (folder / "quietcount.toml").write_text(text)
    return text


def test_the_next_demo_keeps_the_folder_while_the_brokers_of_the_last_are_away_and_names_their_topics(
    tmp_path: Path,
) -> None:
    """Nothing else tells what they are called."""
    text = earlier_demo(tmp_path)
    with pytest.raises(ServiceError, match=r"quietcount-demo-01234567\.\*, cannot be deleted.*127\.0\.0\.1:1.*--dir"):
        _prepare(tmp_path)
    assert (tmp_path / "quietcount.toml").read_text() == text
    (tmp_path / "quietcount.toml").write_text(text + "unknown = 1\n")  # a configuration that is none any more
    with pytest.raises(ServiceError, match=r"quietcount-demo-01234567\.\*, cannot be deleted.*unknown"):
        _prepare(tmp_path)
    earlier_demo(tmp_path, "project.")
    _prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".quietcount-demo"]


def test_a_demo_removes_nothing_for_brokers_that_do_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = earlier_demo(tmp_path / "quietcount-demo", "project.")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(demo_command, ["--log", "kafka://127.0.0.1:1"])
    assert isinstance(result.exception, LogUnavailable)
    assert str(result.exception).startswith("quietcount demo: option --log: broker 127.0.0.1:1 cannot be used")
    assert (tmp_path / "quietcount-demo" / "quietcount.toml").read_text() == text
    result = CliRunner().invoke(demo_command, ["--log", "kafka://127.0.0.1:1", "--dir", "new"])
    assert isinstance(result.exception, LogUnavailable)
    assert [path.name for path in tmp_path.iterdir()] == ["quietcount-demo"]


@pytest.mark.parametrize("log", ["kafka://:1", "kafka://a:99999"])
def test_a_demo_on_brokers_that_cannot_be_is_told_by_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(demo_command, ["--log", log])
    assert isinstance(result.exception, ServiceError)
    assert isinstance(result.exception, QuietcountError)
    assert result.exception.what.startswith("quietcount demo: ")
    assert "option --log: write" in result.exception.remedy
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("log", ["kafka://", 'kafka://a"b', "kafka://a\nb", "file", "kafka://a b"])
def test_a_log_that_cannot_be_is_wrong_usage_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (demo_command, init_command):
        result = CliRunner().invoke(command, ["--log", log])
        assert result.exit_code == 2
        assert "kafka://host:9092,host2:9092" in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_project_that_is_begun_on_kafka_says_so_in_its_configuration(tmp_path: Path) -> None:
    arguments = [str(tmp_path / "helpline"), "--log", "kafka://one:9092,two:9093"]
    result = CliRunner().invoke(init_command, arguments)
    assert result.exit_code == 0
    assert "quietcount topics create" in result.stderr
    settings = Configuration.load(tmp_path / "helpline" / "quietcount.toml", environment={}).kafka
    assert settings is not None
    assert settings.brokers == ("one:9092", "two:9093")
    assert settings.topic_prefix == ""
