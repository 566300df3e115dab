"""The doctor finds each fault by the check that is for it, tells what to do, and changes nothing."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
import socket
import sqlite3
from collections import Counter
from collections.abc import Iterator

import duckdb
import pytest
from tests.e2e.doctor.doctor_projects import (
    KAFKA_ONLY,
    STORE,
    WARNING,
    WRONG,
    Fault,
    Healthy,
    change,
    found,
    garbage,
    gone,
    healthy,
    project,
    snapshot,
    tells,
    unverified,
    with_,
)
from tests.e2e.projects import Project
from tests.e2e.service.test_upgrades import of_a_newer_version
from tests.kafka.certificates import Authority

from quietcount_aggregates.ledger.signed_notes import COSIGNATURE, SigningKey, VerifierKey
from quietcount_aggregates.state import state_file
from quietcount_aggregates.state.marks import ConsumerSecret
from quietcount_consumers.doctor import examination as doctor
from quietcount_consumers.doctor import files as doctor_files
from quietcount_consumers.doctor import machine as doctor_machine
from quietcount_consumers.doctor.examination import examine
from quietcount_consumers.doctor.machine import Machine
from quietcount_consumers.doctor.verdicts import CHECKS
from quietcount_consumers.maintenance.losses import Lost, record_state_loss
from quietcount_schemas.finding import Severity

pytestmark = pytest.mark.check

__all__ = ["healthy", "project", "unverified"]  # the fixtures


def mode(number: int, *path: str) -> Fault:
    return lambda project: project.folder.joinpath(*path).chmod(number)


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
        with duckdb.connect(str(project.private / "state-0.duckdb")) as connection:
            connection.execute("UPDATE meta SET value = ? WHERE key = ?", [value, key])

    return do


def other_secret(project: Project) -> None:
    path = project.folder / "secrets" / "service"
    path.unlink()
    ConsumerSecret.generate(path)


def other_signing_key(project: Project) -> None:
    SigningKey.generate(project.folder / "secrets" / "service-signing", replace=True)


def forgotten_releases(project: Project) -> None:
    with duckdb.connect(str(project.private / "state-0.duckdb")) as connection:
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
    record_state_loss(project.configuration, dt.datetime(2030, 1, 1, tzinfo=dt.UTC), Lost.PEPPER)


def sealed(name: str) -> Fault:
    """A secret within the data folder."""

    def do(project: Project) -> None:
        for path in (project.folder / "secrets").glob("service*"):
            path.rename(project.data / path.name)
        change(project, "\n[[population]]", f'\nservice = {{ secret_file = "data/{name}" }}\n[[population]]')

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


WITNESS = VerifierKey("partner.example/w1", COSIGNATURE, bytes(32)).text
WITNESSED = f'witnesses = {{ require = 1, witness = [{{ key = "{WITNESS}" }}] }}'
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
    "newest ledger": (doctor._Examination, "_check_newest"),
    "state": (doctor._Examination, "_look_at_state"),
    "populations": (doctor._Examination, "_check_populations"),
    "published file": (doctor._Examination, "_check_published"),
    "metrics": (doctor._Examination, "_check_metrics"),
    "witnesses": (doctor._Examination, "_check_witnesses"),
}
FAULTS: list[tuple[str, Severity, str, Fault]] = [
    ("configuration", WRONG, "everybody may write to it", mode(0o666, "quietcount.toml")),
    ("configuration", WARNING, "its group may write", mode(0o664, "quietcount.toml")),
    ("configuration", WRONG, "the configuration cannot be used", with_("colour = 1")),
    ("user", WARNING, "the data belong to user", machine(who=54321)),
    ("umask", WARNING, "0002", machine(mask=0o002)),
    ("secrets", WRONG, "service: others may read", mode(0o640, "secrets", "service")),
    ("secrets", WRONG, "pepper: others may read", mode(0o604, "secrets", "pepper")),
    ("secrets", WRONG, "service-head: others may read", mode(0o644, "secrets", "service-head")),
    ("secrets", WRONG, "2023: others may read", mode(0o644, "secrets", "service-years", "0", "2023")),
    ("secrets", WRONG, "may write to it, and so replace", mode(0o777, "secrets")),
    ("secrets", WRONG, "is open to others, who can see when", mode(0o755, "secrets")),
    ("secrets", WRONG, "secret is missing", gone("secrets", "service")),
    ("secrets", WRONG, "not a line of hexadecimal", garbage("secrets", "service")),
    ("secrets", WRONG, "service-signing: others may read", mode(0o640, "secrets", "service-signing")),
    ("secrets", WRONG, "signing key is missing", gone("secrets", "service-signing")),
    ("secrets", WRONG, "is not an Ed25519 signing key", garbage("secrets", "service-signing")),
    ("ledger", WRONG, "is not the key that the ledger names", other_signing_key),
    ("secrets", WARNING, "witness of the ledger is missing", gone("secrets", "service-head")),
    ("secrets", WARNING, "it is in the data folder", sealed("service")),
    ("folders", WRONG, "replace what is published", mode(0o777, "data")),
    ("folders", WRONG, "store: its owner may not read and write it", mode(0o500, *STORE)),
    ("folders", WRONG, "data: its owner may not read and write it", mode(0o555, "data")),
    ("folders", WRONG, "data: it is not a folder", turned_into_a_file("data")),
    ("folders", WRONG, "secrets: it is not a folder", turned_into_a_file("secrets")),
    ("folders", WRONG, "state-0.duckdb: it is not a file", turned_into_a_folder(*STORE, "state-0.duckdb")),
    ("folders", WRONG, "statistics.duckdb: it is not a file", turned_into_a_folder("data", "statistics.duckdb")),
    ("folders", WARNING, "cannot read what is published", mode(0o700, "data")),
    ("folders", WRONG, "private: it is open", mode(0o755, "data", "private")),
    ("folders", WRONG, "store: it is open", mode(0o710, *STORE)),
    ("folders", WRONG, "state-0.duckdb: it is open", mode(0o644, *STORE, "state-0.duckdb")),
    ("folders", WRONG, "statistics.duckdb: others may write", mode(0o666, "data", "statistics.duckdb")),
    ("folders", WARNING, "statistics.duckdb: other users cannot", mode(0o600, "data", "statistics.duckdb")),
    ("folders", WARNING, "may hold what was to be forgotten", garbage(*STORE, "state-0.duckdb.damaged")),
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
    ("newest ledger", WRONG, "does not hold what statistics.duckdb was built from", old_ledger),
    ("newest ledger", WRONG, "is not a witness", garbage("secrets", "service-head")),
    ("state", WRONG, "only it knows the limits behind", gone(*STORE, "state-0.duckdb")),
    ("state", WRONG, "is damaged", garbage(*STORE, "state-0.duckdb")),
    (
        "state",
        WRONG,
        "is missing, damaged, or belongs to another moment",
        gone(*STORE, "state-0.limits.requests.lifetime.1"),
    ),
    ("state", WRONG, "in format 99", meta("format", "99")),
    ("state", WRONG, "is another secret", other_secret),
    ("state", WRONG, "another one than this state was made with", meta("topic_id", "0" * 32)),
    ("state", WRONG, "the ledger is another one", meta("ledger_id", "0" * 32)),
    ("state", WRONG, "the ledger has releases that it does not know", forgotten_releases),
    ("state", WRONG, "the secret of 2023 is missing", gone("secrets", "service-years", "0", "2023")),
    ("populations", WRONG, "'epsilon of table ", lambda project: change(project, "epsilon = 20.0", "epsilon = 10.0")),
    (
        "populations",
        WRONG,
        "missing in the configuration",
        lambda p: change(p, '[[population]]\nname = "sentences"', '[[population]]\nname = "renamed"'),
    ),
    ("populations", WRONG, "opened with 100", lambda p: change(p, "lifetime_epsilon = 100", "lifetime_epsilon = 99")),
    ("published file", WARNING, "is missing", gone("data", "statistics.duckdb")),
    ("published file", WRONG, "is damaged", garbage("data", "statistics.duckdb")),
    ("published file", WARNING, "is older than the ledger", unfinished_release),
    ("witnesses", WARNING, "0 of the 1 required witnesses have signed", with_(WITNESSED)),
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


def test_nothing_is_found_in_a_project_that_is_in_order(project: Project) -> None:
    verdicts = examine(project.config, Healthy())
    assert found(verdicts) == []
    assert {each.code for each in verdicts} == set(CHECKS) - KAFKA_ONLY


@pytest.mark.parametrize("check, result, says, fault", [*trials()])
def test_each_fault_is_told_by_its_check_with_what_to_do(
    check: str, result: Severity, says: str, fault: Fault, project: Project, unverified: None
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


def test_a_state_that_the_next_start_takes_to_its_format_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_file, "FORMAT", state_file.FORMAT + 1)
    verdicts = examine(project.config, Healthy())
    assert tells(verdicts, "state", WARNING, f"of format {state_file.FORMAT - 1}; the next start"), verdicts


def test_a_published_file_that_was_altered_is_found(project: Project) -> None:
    with duckdb.connect(str(project.public)) as connection:
        connection.execute("UPDATE statistics SET estimate = estimate + 1")
    assert tells(examine(project.config, Healthy()), "published file", WRONG, "does not hold what the ledger says")
