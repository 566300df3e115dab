"""The doctor: each fault is found by the check that is for it, and told with what to do; nothing is changed or told."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient
from kafka.admin import ACLOperation, ConfigResource, ResourceType
from tests.deployment import blocks_of
from tests.e2e.kafka_projects import kafka_configuration, kafka_project, settings_of
from tests.e2e.projects import EXACT, Project, ended, simulated
from tests.e2e.test_upgrades import CONFIGURATION, of_a_newer_version
from tests.kafka.certificates import Authority
from tests.kafka.fixtures import Kafka
from tests.kafka.secured import SecuredCluster

from quietcount_aggregates.marks import ConsumerSecret
from quietcount_consumers import doctor, doctor_data, doctor_files, doctor_machine
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.doctor import examine
from quietcount_consumers.doctor_broker import NEEDED
from quietcount_consumers.doctor_command import doctor_command
from quietcount_consumers.doctor_machine import Machine, check_user
from quietcount_consumers.doctor_verdicts import CHECKS, Result, Verdict, refused
from quietcount_consumers.http_server import MonitoringServer
from quietcount_consumers.maintenance import record_state_loss
from quietcount_consumers.status import Board, beginning
from quietcount_consumers.topics import create_topics
from quietcount_schemas.cli import cli
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.log import CASE_EVENTS, RELEASES

WARNING, WRONG = Result.WARNING, Result.WRONG
KAFKA_ONLY = {"brokers", "rights", "topics"}
# Where tests are run by root, that is found as well, and is no fault of the project.
ROOT = "the service runs as root"


@dataclass
class Healthy(Machine):
    """A machine in which nothing is wrong; each fault changes one thing."""

    time: dt.datetime = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
    kept: bool | None = True
    room: float = 0.5
    mask: int | None = 0o077
    who: int = field(default_factory=os.geteuid)

    def now(self) -> dt.datetime:
        return self.time

    def synchronised(self) -> bool | None:
        return self.kept

    def free(self, configuration: Configuration) -> dict[str, float]:
        return {"data": self.room, "secrets": 1.0}

    def umask(self) -> int | None:
        return self.mask

    def user(self) -> int:
        return self.who


Fault = Callable[[Project], Machine | None]


def change(project: Project, old: str, new: str) -> None:
    text = project.config.read_text(encoding="utf-8")
    assert old in text
    project.config.write_text(text.replace(old, new, 1), encoding="utf-8")


def with_(text: str) -> Fault:
    """Write keys before the first statistic."""
    return lambda project: change(project, "\n[[statistic]]", f"\n{text}\n[[statistic]]")


def mode(number: int, *path: str) -> Fault:
    return lambda project: project.folder.joinpath(*path).chmod(number)


def gone(*path: str) -> Fault:
    def remove(project: Project) -> None:
        place = project.folder.joinpath(*path)
        for each in place.parent.glob(place.name + "*") if place.suffix else [place]:
            each.unlink()

    return remove


def garbage(*path: str) -> Fault:
    return lambda project: ignored(project.folder.joinpath(*path).write_bytes(b"nothing of ours" * 1000))


def turned_into_a_file(*path: str) -> Fault:
    def do(project: Project) -> None:
        place = project.folder.joinpath(*path)
        place.rename(project.folder / "away")
        place.write_bytes(b"")

    return do


def turned_into_a_folder(*path: str) -> Fault:
    def do(project: Project) -> None:
        project.folder.joinpath(*path).unlink()
        project.folder.joinpath(*path).mkdir()

    return do


def ignored(_: object) -> None:
    return None


def machine(**changed: object) -> Fault:
    return lambda _: Healthy(**changed)  # type: ignore[arg-type]


def sql(name: str, *statements: str) -> Fault:
    def do(project: Project) -> None:
        with contextlib.closing(sqlite3.connect(project.private / name, isolation_level=None)) as connection:
            for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                connection.execute(f"DROP TRIGGER {trigger}")  # which keep a ledger from being altered so easily
            for statement in statements:
                connection.execute(statement)

    return do


def meta(key: str, value: str) -> Fault:
    def do(project: Project) -> None:
        with duckdb.connect(str(project.private / "state.duckdb")) as connection:
            connection.execute("UPDATE meta SET value = ? WHERE key = ?", [value, key])

    return do


def other_secret(project: Project) -> None:
    path = project.folder / "secrets" / "service"
    path.unlink()
    ConsumerSecret.generate(path)


def forgotten_releases(project: Project) -> None:
    with duckdb.connect(str(project.private / "state.duckdb")) as connection:
        connection.execute("UPDATE first_open SET day = DATE '2023-01-01'")


def old_ledger(project: Project) -> None:
    """Cut off the newest entry, as an older copy lacks it."""
    sql("ledger.sqlite", 'DELETE FROM entries WHERE "index" = (SELECT max("index") FROM entries)')(project)


def unfinished_release(project: Project) -> None:
    """Put back what was published before the newest entry."""
    newest = project.public.read_bytes()
    shutil.copy(project.folder / "before.duckdb", project.public)
    assert project.public.read_bytes() != newest


def ahead(project: Project) -> None:
    record_state_loss(project.configuration, dt.datetime(2030, 1, 1, tzinfo=dt.UTC))


def sealed(name: str) -> Fault:
    """A secret within the data folder."""

    def do(project: Project) -> None:
        for path in (project.folder / "secrets").glob("service*"):
            path.rename(project.data / path.name)
        change(project, "\n[[statistic]]", f'\nservice = {{ secret_file = "data/{name}" }}\n[[statistic]]')

    return do


def unsafe_schema(project: Project) -> None:
    folder = project.folder / "own" / "Visit"
    folder.mkdir(parents=True)
    (folder / "1.avsc").write_text('{"type": "record", "name": "Visit", "fields": [{"name": "who", "type": "string"}]}')
    with_('schemas = ["own"]')(project)


def taken_port(project: Project) -> Machine:
    listening = socket.create_server(("127.0.0.1", 0))
    with_(f'metrics = {{ listen = "127.0.0.1:{listening.getsockname()[1]}" }}')(project)
    os.environ.pop("QUIETCOUNT_METRICS__LISTEN", None)
    machine = Healthy()
    machine.listening = listening  # type: ignore[attr-defined]  # for as long as the machine is looked at
    return machine


def expired_certificate(project: Project) -> None:
    issued = Authority(project.folder / "authority").issue("service", "127.0.0.1", expired=True)
    with_(f'metrics = {{ certificate_file = "{issued.certificate_file}", key_file = "{issued.key_file}" }}')(project)


SAID_BY = {
    "configuration": (doctor_files, "check_configuration_file"),
    "user": (doctor_machine, "check_user"),
    "umask": (doctor_machine, "check_umask"),
    "secrets": (doctor_files, "check_secrets"),
    "folders": (doctor_files, "check_folders"),
    "disk": (doctor_machine, "check_disk"),
    "schemas": (doctor._Examination, "_check_schemas"),
    "clock": (doctor_machine, "check_clock"),
    "log": (doctor._Examination, "_look_at_log"),
    "ledger": (doctor._Examination, "_look_at_ledger"),
    "witnesses": (doctor._Examination, "_check_witnesses"),
    "state": (doctor._Examination, "_look_at_state"),
    "statistics": (doctor._Examination, "_check_statistics"),
    "published file": (doctor._Examination, "_check_published"),
    "metrics": (doctor._Examination, "_check_metrics"),
}
STORE = ("data", "private", "store")
FAULTS: list[tuple[str, Result, str, Fault]] = [
    ("configuration", WRONG, "everybody may write to it", mode(0o666, "quietcount.toml")),
    ("configuration", WARNING, "its group may write", mode(0o664, "quietcount.toml")),
    ("configuration", WRONG, "'colour' is unknown", with_("colour = 1")),
    ("user", WARNING, "the data belong to user", machine(who=54321)),
    ("umask", WARNING, "0002", machine(mask=0o002)),
    ("secrets", WRONG, "service: others may read", mode(0o640, "secrets", "service")),
    ("secrets", WRONG, "pepper: others may read", mode(0o604, "secrets", "pepper")),
    ("secrets", WRONG, "service-head: others may read", mode(0o644, "secrets", "service-head")),
    ("secrets", WRONG, "2023: others may read", mode(0o644, "secrets", "service-years", "2023")),
    ("secrets", WRONG, "may write to it, and so replace", mode(0o777, "secrets")),
    ("secrets", WRONG, "is open to others, who see when", mode(0o755, "secrets")),
    ("secrets", WRONG, "secret is missing", gone("secrets", "service")),
    ("secrets", WRONG, "not a line of hexadecimal", garbage("secrets", "service")),
    ("secrets", WARNING, "witness of the ledger is missing", gone("secrets", "service-head")),
    ("secrets", WARNING, "lies in the data folder", sealed("service")),
    ("folders", WRONG, "replace what is published", mode(0o777, "data")),
    ("folders", WRONG, "store: its owner may not read and write it", mode(0o500, *STORE)),
    ("folders", WRONG, "data: its owner may not read and write it", mode(0o555, "data")),
    ("folders", WRONG, "data: is not a folder", turned_into_a_file("data")),
    ("folders", WRONG, "secrets: is not a folder", turned_into_a_file("secrets")),
    ("folders", WRONG, "state.duckdb: is not a file", turned_into_a_folder(*STORE, "state.duckdb")),
    ("folders", WRONG, "statistics.duckdb: is not a file", turned_into_a_folder("data", "statistics.duckdb")),
    ("folders", WARNING, "cannot read what is published", mode(0o700, "data")),
    ("folders", WRONG, "private: is open", mode(0o755, "data", "private")),
    ("folders", WRONG, "store: is open", mode(0o710, *STORE)),
    ("folders", WRONG, "state.duckdb: is open", mode(0o644, *STORE, "state.duckdb")),
    ("folders", WRONG, "statistics.duckdb: others may write", mode(0o666, "data", "statistics.duckdb")),
    ("folders", WARNING, "statistics.duckdb: other users cannot", mode(0o600, "data", "statistics.duckdb")),
    ("folders", WARNING, "may hold what was to be forgotten", garbage(*STORE, "state.duckdb.damaged")),
    ("disk", WRONG, "less than 2% is free for the data", machine(room=0.01)),
    ("disk", WARNING, "less than 10% is free for the data", machine(room=0.05)),
    ("schemas", WRONG, "who", unsafe_schema),
    ("clock", WRONG, "before this version was made", machine(time=dt.datetime(2025, 12, 31, tzinfo=dt.UTC))),
    ("clock", WRONG, "before the newest entry", ahead),
    ("clock", WARNING, "nothing keeps it", machine(kept=False)),
    ("log", WRONG, "is missing", gone(*STORE, "log.sqlite")),
    ("log", WRONG, "not a log of quietcount", garbage(*STORE, "log.sqlite")),
    ("log", WRONG, "has format 2", sql("log.sqlite", "PRAGMA user_version = 2")),
    ("ledger", WRONG, "there is none, and something was published", gone(*STORE, "ledger.sqlite")),
    ("ledger", WRONG, "ledger.sqlite: is damaged or not a ledger", garbage(*STORE, "ledger.sqlite")),
    ("ledger", WRONG, "cannot be decoded", sql("ledger.sqlite", "UPDATE entries SET entry = x'00'")),
    ("ledger", WRONG, "written in format 2", sql("ledger.sqlite", "PRAGMA user_version = 2")),
    ("ledger", WRONG, "written by a newer version", of_a_newer_version),
    ("witnesses", WRONG, "does not hold what statistics.duckdb was built from", old_ledger),
    ("witnesses", WRONG, "is not a witness", garbage("secrets", "service-head")),
    ("state", WRONG, "the ledger has releases that only it knows", gone(*STORE, "state.duckdb")),
    ("state", WRONG, "is damaged", garbage(*STORE, "state.duckdb")),
    ("state", WRONG, "in format 99", meta("format", "99")),
    ("state", WARNING, "of format 1; the next start", meta("format", "1")),
    ("state", WRONG, "is another secret", other_secret),
    ("state", WRONG, "another one than this state was made with", meta("topic_id", "0" * 32)),
    ("state", WRONG, "the ledger is another one", meta("ledger_id", "0" * 32)),
    ("state", WRONG, "the ledger has releases that it does not know", forgotten_releases),
    ("state", WRONG, "the secret of 2023 is missing", gone("secrets", "service-years", "2023")),
    ("statistics", WRONG, "'epsilon'", lambda project: change(project, "epsilon = 20.0", "epsilon = 10.0")),
    ("statistics", WRONG, "missing in the configuration", lambda p: change(p, '"sentences"', '"renamed"')),
    ("statistics", WRONG, "opened with 100", lambda p: change(p, "lifetime_epsilon = 100", "lifetime_epsilon = 99")),
    ("published file", WARNING, "is missing", gone("data", "statistics.duckdb")),
    ("published file", WRONG, "is damaged", garbage("data", "statistics.duckdb")),
    ("published file", WARNING, "is older than the ledger", unfinished_release),
    ("metrics", WRONG, "there is no file", with_('metrics = { username = "a", password_file = "secrets/none" }')),
    ("metrics", WRONG, "another program listens", taken_port),
    ("metrics", WRONG, "is not valid now", expired_certificate),
]


REPRESENTATIVE = 2
"""How many faults of each check the normal run injects; the others are for the long one."""


def trials() -> Iterator[object]:
    of_check = Counter[str]()
    for check, result, says, fault in FAULTS:
        of_check[check] += 1
        marks = [pytest.mark.soak] if of_check[check] > REPRESENTATIVE else []
        yield pytest.param(check, result, says, fault, id=f"{check}: {says}", marks=marks)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has released twice, with what was published before the second time."""
    project = Project(tmp_path_factory.mktemp("doctor") / "project", CONFIGURATION)
    project.config.chmod(0o600)
    project.emit(simulated(100))
    project.run_here("2023-02-08")
    shutil.copy(project.public, project.folder / "before.duckdb")
    project.run_here("2023-03-08")
    return project


@pytest.fixture
def project(healthy: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("QUIETCOUNT_METRICS__LISTEN", "127.0.0.1:0")
    return healthy.copy(tmp_path / "project")


@pytest.fixture
def unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the comparison with what would be published, which takes a second."""
    monkeypatch.setattr(doctor_data, "verify_ledger", lambda *_: ["unverified"])


def found(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """What is not in order, but for who runs the tests."""
    return [each for each in verdicts if each.result is not Result.OK and each.finding != ROOT]


def tells(verdicts: Sequence[Verdict], check: str, result: Result, says: str) -> bool:
    return any(
        each.check == check and each.result is result and says in each.finding and each.remedy
        for each in found(verdicts)
    )


def snapshot(folder: Path) -> dict[str, object]:
    """Everything that is there: names, modes, times of change, bytes."""
    return {
        str(path.relative_to(folder)): (
            (status := path.stat()).st_mode,
            status.st_mtime_ns,
            status.st_ctime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [folder, *folder.rglob("*")]
    }


# Faults


def test_nothing_is_found_in_a_project_that_is_in_order(project: Project) -> None:
    verdicts = examine(project.config, Healthy())
    assert found(verdicts) == []
    assert {each.check for each in verdicts} == set(CHECKS) - KAFKA_ONLY


@pytest.mark.parametrize("check, result, says, fault", [*trials()])
def test_each_fault_is_told_by_its_check_with_what_to_do(
    check: str, result: Result, says: str, fault: Fault, project: Project, unverified: None
) -> None:
    machine = fault(project) or Healthy()
    before = snapshot(project.folder)
    verdicts = examine(project.config, machine)
    assert tells(verdicts, check, result, says), verdicts
    assert snapshot(project.folder) == before, "the doctor changed something"


@pytest.mark.parametrize("check", SAID_BY)
def test_a_twin_whose_check_is_content_with_everything_is_found(
    check: str, project: Project, unverified: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, result, says, fault = next(each for each in FAULTS if each[0] == check)
    machine = fault(project) or Healthy()
    monkeypatch.setattr(*SAID_BY[check], lambda *_, **__: iter(()))
    assert not tells(examine(project.config, machine), check, result, says)


def test_there_is_a_fault_of_each_check() -> None:
    assert {check for check, *_ in FAULTS} == set(CHECKS) - KAFKA_ONLY == set(SAID_BY)


def test_a_published_file_that_was_altered_is_found(project: Project) -> None:
    with duckdb.connect(str(project.public)) as connection:
        connection.execute("UPDATE statistics SET estimate = estimate + 1")
    assert tells(examine(project.config, Healthy()), "published file", WRONG, "does not hold what the ledger says")


def test_root_is_told_to_use_another_user() -> None:
    assert [each.finding for each in check_user(Healthy(who=0), 0)] == [ROOT]
    assert list(check_user(Healthy(who=1000), 1000)) == []


def test_remedies_name_the_way_back_and_no_way_that_costs_the_data(project: Project, unverified: None) -> None:
    garbage(*STORE, "ledger.sqlite")(project)
    gone("secrets", "service")(project)
    told = {each.check: each.remedy for each in found(examine(project.config, Healthy()))}
    assert "quietcount ledger restore brings it back" in told["ledger"]
    assert "The service's secret is lost" in told["secrets"]
    assert "init" not in told["secrets"]


def test_folders_of_different_users_are_found(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Path.stat

    def belonging(path: Path, **options: bool) -> os.stat_result:
        status = told(path, **options)
        if path != project.private:
            return status
        return os.stat_result((*status[:4], status.st_uid + 1, *status[5:]))

    monkeypatch.setattr(Path, "stat", belonging)
    (verdict,) = doctor_files.check_folders(project.configuration, os.geteuid())
    assert "belong to different users" in verdict.finding
    assert f"store to {os.geteuid() + 1}" in verdict.finding


@contextlib.contextmanager
def nobody(project: Project, closed: Path) -> Iterator[None]:
    """Be a user from whom a folder is closed, which root never is."""
    user = os.geteuid()
    if user:
        closed.chmod(0)
    else:
        for path in [*project.folder.rglob("*"), project.folder]:
            os.chown(path, 65534, 65534, follow_symlinks=False)
        os.chown(closed, 0, 0)
        os.seteuid(65534)
    try:
        yield
    finally:
        if not user:
            os.seteuid(0)
        closed.chmod(0o700)


@pytest.mark.parametrize("closed", [("data", "private"), STORE])
def test_where_the_private_folder_cannot_be_read_everything_else_is_told(
    healthy: Project, closed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, unverified: None
) -> None:
    monkeypatch.setenv("QUIETCOUNT_METRICS__LISTEN", "127.0.0.1:0")
    examine(healthy.config, Healthy())  # what is imported late is there before
    with tempfile.TemporaryDirectory() as place:  # and not tmp_path, which is closed to others
        Path(place).chmod(0o755)
        project = healthy.copy(Path(place) / "project")
        with nobody(project, project.folder.joinpath(*closed)):
            verdicts = examine(project.config, Healthy())
    assert {each.check for each in verdicts} >= {"configuration", "secrets", "folders", "disk", "clock", "state"}
    assert "folders" in {each.check for each in verdicts if each.result is WRONG}
    assert not [each for each in found(verdicts) if each.check == "ledger" and "there is none" in each.finding]


@pytest.mark.parametrize("tls", [False, True])
def test_a_service_that_waits_is_not_taken_for_another_program(
    project: Project, unverified: None, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.delenv("QUIETCOUNT_METRICS__LISTEN")
    keys = [f'listen = "127.0.0.1:{port}"']
    if tls:
        issued = Authority(project.folder / "authority").issue("service", "127.0.0.1")
        keys += [f'certificate_file = "{issued.certificate_file}"', f'key_file = "{issued.key_file}"']
    with_(f"metrics = {{ {', '.join(keys)} }}")(project)
    configuration = project.configuration
    board = Board(lambda: dt.datetime(2026, 6, 1, tzinfo=dt.UTC), configuration.tick, beginning(configuration))
    with MonitoringServer(configuration.metrics, board):
        verdicts = examine(project.config, Healthy())
    assert tells(verdicts, "metrics", WARNING, "it waits or is halted")
    assert not tells(verdicts, "metrics", WRONG, "another program")


def test_files_of_another_user_are_found(project: Project) -> None:
    other = os.geteuid() + 1
    told = [*doctor_files.check_secrets(project.configuration, other, opened=True)]
    told += doctor_files.check_folders(project.configuration, other)
    assert {each.check for each in told if "belongs to user" in each.finding} == {"secrets", "folders"}


def test_a_project_before_its_first_run_is_in_order_and_stays_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIETCOUNT_METRICS__LISTEN", "off")
    project = Project(tmp_path / "project", EXACT)
    before = snapshot(project.folder)
    verdicts = examine(project.config, Healthy())
    assert found(verdicts) == []
    assert any("the next start declares" in each.finding for each in verdicts)
    assert snapshot(project.folder) == before


def test_the_machine_is_asked_and_not_set() -> None:
    """On any machine: what the system says is of the right kind, and the umask is what it was."""
    mask = os.umask(0o077)
    os.umask(mask)
    real = Machine()
    assert real.umask() in (mask, None)
    assert real.synchronised() in (True, False, None)
    assert abs(real.now() - dt.datetime.now(dt.UTC)) < dt.timedelta(hours=1)
    mask_after = os.umask(mask)
    assert mask_after == mask


# What is told


def test_nothing_that_is_told_follows_from_events(healthy: Project, tmp_path: Path, unverified: None) -> None:
    """The same of a project with no events and of one with many, but for the folder's name."""
    empty = Project(tmp_path / "empty", CONFIGURATION)
    empty.config.chmod(0o600)
    for day in ("2023-02-08", "2023-03-08"):
        empty.run_here(day)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUIETCOUNT_METRICS__LISTEN", "127.0.0.1:0")
        told = [
            [str(each).replace(str(project.folder), "") for each in examine(project.config, Healthy())]
            for project in (healthy, empty)
        ]
    assert told[0] == told[1]
    for path in (empty.private / "log.sqlite", healthy.private / "log.sqlite"):
        assert path.exists()


def test_our_errors_are_told_as_what_is_wrong_and_what_to_do() -> None:
    told = refused("state", QuietcountError("/a/b.c: is damaged, or no state. Put it back; else run: quietcount x."))
    assert told == Verdict("state", WRONG, "/a/b.c: is damaged, or no state", "Put it back; else run: quietcount x")
    assert refused("state", QuietcountError("it is broken.")).finding == "it is broken"


# The command


def test_the_command_prints_what_it_found_and_ends_with_1_if_anything_is_wrong(
    project: Project, unverified: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "Machine", Healthy)
    arguments = ["--config", str(project.config), "--format"]
    fine = CliRunner().invoke(doctor_command, [*arguments, "json"])
    assert fine.exit_code == 0, fine.output
    rows = json.loads(fine.stdout)
    assert {tuple(row) for row in rows} == {("check", "result", "finding", "remedy")}
    assert {row["check"] for row in rows} == set(CHECKS) - KAFKA_ONLY
    assert "Nothing is wrong." in fine.stderr
    change(project, "epsilon = 20.0", "epsilon = 10.0")
    faulty = CliRunner().invoke(doctor_command, [*arguments, "csv"])
    assert isinstance(faulty.exception, QuietcountError)
    assert "(statistics)" in str(faulty.exception)
    assert "statistics,wrong," in faulty.stdout
    table = CliRunner().invoke(doctor_command, [*arguments, "table"])
    assert re.search(r"^statistics +wrong ", table.stdout, re.MULTILINE)
    assert "→" in table.stdout


def test_a_warning_alone_is_nothing_wrong(project: Project, unverified: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "Machine", lambda: Healthy(mask=0))
    told = CliRunner().invoke(doctor_command, ["--config", str(project.config)])
    assert told.exit_code == 0
    assert "umask,warning," in told.stdout


def test_a_configuration_that_cannot_be_used_is_all_that_is_told(tmp_path: Path) -> None:
    (verdict,) = examine(tmp_path / "none.toml", Healthy())
    assert (verdict.check, verdict.result) == ("configuration", WRONG)
    assert verdict.remedy


def test_each_check_is_on_the_page_in_the_words_that_the_doctor_has_for_it(root: Path) -> None:
    page = (root / "consumers" / "operations.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", page.split("## The doctor")[1], re.MULTILINE))
    assert rows == CHECKS
    lines = [line for block in blocks_of(page, "sh") for line in block.splitlines() if line.startswith("quietcount ")]
    assert any(line.startswith("quietcount doctor") for line in lines)
    assert "doctor" in cli.list_commands(cli.make_context("quietcount", [], resilient_parsing=True))


# Beside a service


def test_a_service_that_runs_is_told_of_and_not_disturbed(project: Project, unverified: None) -> None:
    process = project.start("run", "--as-of", "2023-03-08")
    try:
        lock = project.private / "state.duckdb.lock"
        deadline = time.monotonic() + 60
        # Looked at from outside: whoever tried the lock would hold it in the moment in which the service wants it.
        while f":{lock.stat().st_ino} " not in Path("/proc/locks").read_text(encoding="ascii"):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for _ in range(3):
            verdicts = examine(project.config, Healthy())
            assert found(verdicts) == []
            assert any(each.finding == "a service runs, and holds it" for each in verdicts)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert "Error" not in ended(process).done().err
    finally:
        process.kill()
        process.communicate()
    assert found(examine(project.config, Healthy())) == []


# On Kafka


def kafka_verdicts(project: Project) -> list[Verdict]:
    return found(examine(project.config, Healthy(time=dt.datetime.now(dt.UTC))))


@pytest.fixture
def on_kafka(monkeypatch: pytest.MonkeyPatch, unverified: None) -> None:
    monkeypatch.setenv("QUIETCOUNT_METRICS__LISTEN", "off")


def test_on_kafka_the_brokers_and_the_topics_are_looked_at(kafka: Kafka, tmp_path: Path, on_kafka: None) -> None:
    project = kafka_project(tmp_path / "project", kafka.bootstrap, kafka.prefix(), topics=False)
    assert tells(kafka_verdicts(project), "brokers", WRONG, "topic")
    settings = settings_of(project)
    create_topics(settings)
    (project.folder / "secrets" / "pepper").unlink()
    assert not [each for each in kafka_verdicts(project) if each.result is WRONG]
    project.run_here("2023-02-08")
    verdicts = examine(project.config, Healthy())
    assert {each.check for each in verdicts} == set(CHECKS) - {"log"}
    assert not [each for each in verdicts if each.result is WRONG]
    # Nobody is kept from anything on these brokers.
    assert tells(verdicts, "rights", WARNING, "WRITE on ")
    with KafkaAdminClient(bootstrap_servers=list(settings.brokers)) as admin:
        admin.alter_configs([ConfigResource("TOPIC", settings.topic(RELEASES), {"retention.ms": "1000"})])
        deadline = time.monotonic() + 30
        while not tells(kafka_verdicts(project), "topics", WRONG, "retention.ms is 1000"):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        admin.delete_topics([settings.topic(CASE_EVENTS)])
    create_topics(settings)
    assert tells(kafka_verdicts(project), "state", WRONG, "the log is another one")


def test_the_service_on_kafka_is_not_fenced_by_the_doctor(kafka: Kafka, tmp_path: Path, on_kafka: None) -> None:
    from quietcount_consumers.service import Service

    project = kafka_project(tmp_path / "project", kafka.bootstrap, kafka.prefix())
    moment = dt.datetime(2023, 2, 8, tzinfo=dt.UTC)
    with Service(project.configuration, dt.datetime(2023, 1, 8, tzinfo=dt.UTC)) as service:
        verdicts = examine(project.config, Healthy())
        assert any(each.finding == "a service runs, and holds it" for each in verdicts)
        assert service.tick(moment).released, "it was fenced"


def test_brokers_that_do_not_answer_are_told_once(tmp_path: Path, on_kafka: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    project = Project(tmp_path / "project", kafka_configuration(f"127.0.0.1:{port}", "nobody."))
    verdicts = kafka_verdicts(project)
    assert tells(verdicts, "brokers", WRONG, str(port))
    assert [each.check for each in verdicts if each.result is WRONG] == ["brokers"]


def test_a_pepper_on_the_services_machine_is_told_on_kafka(tmp_path: Path, on_kafka: None) -> None:
    project = Project(tmp_path / "project", kafka_configuration("127.0.0.1:1", "nobody."))
    assert tells(kafka_verdicts(project), "secrets", WARNING, "the pepper lies on the service's machine")


def test_rights_that_lack_and_rights_beyond_are_told(
    kafka_secure: SecuredCluster, tmp_path: Path, on_kafka: None
) -> None:
    keys = kafka_secure.settings("SCRAM_TLS", "service")
    section = "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
    configuration = EXACT.replace("\n[[statistic]]", f"\n[kafka]\n{section}\n\n[[statistic]]", 1)
    project = Project(tmp_path / "project", f'log = "kafka://{kafka_secure.addresses("SCRAM_TLS")}"\n{configuration}')
    prefix = keys["topic_prefix"]
    administrator = Project(
        tmp_path / "administrator", kafka_configuration(kafka_secure.addresses("PLAINTEXT"), prefix)
    )
    create_topics(settings_of(administrator))
    for topic, operations in NEEDED.items():
        given = operations - ({"DELETE"} if topic == CASE_EVENTS else set())
        kafka_secure.allow("service", ResourceType.TOPIC, prefix + topic, *(ACLOperation[name] for name in given))
    deadline = time.monotonic() + 30
    while not tells(kafka_verdicts(project), "rights", WRONG, f"{prefix}{CASE_EVENTS}: the user of "):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    verdicts = kafka_verdicts(project)
    assert tells(verdicts, "rights", WRONG, "lacks DELETE")
    assert not tells(verdicts, "rights", WARNING, "never does")
    assert tells(verdicts, "brokers", WARNING, "runs out on")  # the trial's certificates live for two days
    kafka_secure.allow("service", ResourceType.TOPIC, prefix + CASE_EVENTS, ACLOperation.DELETE, ACLOperation.WRITE)
    while not tells(kafka_verdicts(project), "rights", WARNING, f"WRITE on {prefix}{CASE_EVENTS}"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert [each.check for each in kafka_verdicts(project) if each.result is WRONG] == []
