"""The doctor looks at all that the service needs, says what is wrong and how to mend it, and changes nothing.

It makes no file except copies of what is published (see `doctor.data`), takes no fence, and says nothing that follows
from events. One of our errors becomes a finding.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from quietcount_aggregates.errors import LedgerBehind, LedgerBroken, StateError
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.publication.publication import published_head
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.doctor import data, files, partners
from quietcount_consumers.doctor import machine as machines
from quietcount_consumers.doctor.machine import Machine
from quietcount_consumers.doctor.verdicts import fine, refused, warning, wrong
from quietcount_consumers.doctor.workers import check_workers
from quietcount_consumers.maintenance.rehearsal import rehearsed
from quietcount_consumers.maintenance.state_facts import StateFacts, state_of
from quietcount_consumers.wiring import witness_of
from quietcount_producers.errors import LogError
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.finding import Finding
from quietcount_schemas.registry import inspect

if TYPE_CHECKING:
    from quietcount_producers.kafka.settings import KafkaSettings

__all__ = ["examine"]

_CONNECT_SECONDS: Final = 1.0
"""A service on this machine answers in milliseconds; what does not answer must not hold the doctor up."""
_LEDGER_FIRST: Final = "Mend what the check of the ledger found first"
_PAGES: Final = b"/metrics, /healthz and /readyz"
_PAGE_BYTES: Final = 200


def examine(config: Path, machine: Machine | None = None) -> list[Finding]:
    """Return the findings for the project with the configuration file `config`, at least one for each check."""
    try:
        configuration = Configuration.load(config)
    except QuietcountError as error:
        return [refused("configuration", error)]
    return _Examination(config, configuration, machine or Machine()).findings()


class _Examination:
    """One look at a project. It reads once what several checks need, and keeps None for what it could not read."""

    def __init__(self, config: Path, configuration: Configuration, machine: Machine) -> None:
        self._config = config
        self._configuration = configuration
        self._machine = machine
        self._owner = files.owner_of(configuration, machine.user())
        self._running = False
        self._chain: Chain | None = None
        self._states: list[StateFacts] = []
        self._topic_id: str | None = None

    @property
    def _is_worker(self) -> bool:
        """Whether a worker is what runs here: it lacks the ledger's signing key, and publishes nothing."""
        if not self._has_workers or data.signs(self._configuration, self._chain):
            return False
        return bool(self._configuration.state_files) or not _is_seen(self._configuration.public_file)

    @functools.cached_property
    def _has_workers(self) -> bool:
        return data.has_workers(self._configuration)

    def findings(self) -> list[Finding]:
        configuration, machine, owner = self._configuration, self._machine, self._owner
        made: list[Finding] = []

        def check(name: str, looks: Callable[[], Iterator[Finding]], content: str) -> None:
            made.extend(self._gathered(name, looks) or [fine(name, content)])

        # Read first what the later checks compare against; report it in order.
        log = self._gathered("log" if configuration.kafka is None else "brokers", self._look_at_log)
        ledger = self._gathered("ledger", self._look_at_ledger)
        state = self._gathered("state", self._look_at_state)
        # Unlike Path.exists, this raises nothing if this user may not look; the check of the folders reports that.
        opened = bool(self._chain and self._chain.entries) or bool(configuration.state_files)
        # A worker has no signing key and no witness: these are the releaser's.
        opened = opened and not self._is_worker

        check("configuration", lambda: files.check_configuration_file(self._config), "it can be used")
        check("user", lambda: machines.check_user(machine, owner), "the data are this user's")
        check("umask", lambda: machines.check_umask(machine), "others may not write to new files")
        check(
            "secrets",
            lambda: files.check_secrets(configuration, owner, opened=opened),
            "only the service can read what is there",
        )
        check("folders", lambda: files.check_folders(configuration, owner), "what is private is closed to others")
        check("disk", lambda: machines.check_disk(machine, configuration), "there is room")
        check("schemas", self._check_schemas, "nothing in them can name a person")
        check("clock", lambda: machines.check_clock(machine, self._chain), "something keeps it")
        made += log
        if configuration.kafka is not None:
            self._check_kafka(configuration.kafka, check)
        made += ledger
        check("newest ledger", self._check_newest, "the ledger holds all that was seen of it before")
        check("witnesses", self._check_witnesses, "")
        made += state
        if configuration.kafka is not None:
            check("workers", self._look_at_workers, "no release waits for one")
        check("populations", self._check_populations, "they are as they were declared")
        check("published file", self._check_published, "it holds what the ledger says")
        check("metrics", self._check_metrics, self._metrics_settings())
        return made

    def _gathered(self, name: str, look: Callable[[], Iterator[Finding]]) -> list[Finding]:
        found: list[Finding] = []
        try:
            found += look()
        except QuietcountError as error:
            found.append(refused(name, error))
        except OSError as error:
            found.append(wrong(name, f"cannot be read ({error.strerror})", "Correct its rights", error.filename))
        return found

    def _look_at_ledger(self) -> Iterator[Finding]:
        if self._configuration.kafka is not None and self._topic_id is None:
            yield warning("ledger", "it could not be read", "Mend what the check of the brokers found first")
            return
        try:
            self._chain = data.ledger_of(self._configuration)
        except LedgerBroken as error:
            yield refused("ledger", error)
            return
        seen = [self._configuration.public_file, witness_of(self._configuration).path]
        if self._chain.entries:
            found = list(data.check_signer(self._configuration, self._chain, worker=self._is_worker))
            yield from found or [fine("ledger", "its chain holds")]
        elif any(path.exists() for path in seen):
            yield wrong(
                "ledger",
                "there is none, and something was published from one",
                "Put the newest one back, or rebuild it from the newest published file with: quietcount ledger restore",
            )
        else:
            yield fine("ledger", "there is none yet; the first run of the service opens it")

    def _look_at_log(self) -> Iterator[Finding]:
        configuration = self._configuration
        if configuration.kafka is not None:
            from quietcount_consumers.doctor.broker import topic_of

            now = self._machine.now()
            for path in (configuration.kafka.certificate_file, configuration.kafka.ca_file):
                yield from files.check_certificate("brokers", path, now)
            self._topic_id = topic_of(configuration.kafka)
            yield fine("brokers", "they let this user in")
            return
        path = configuration.private_dir / "log.sqlite"
        if path.exists():
            self._topic_id = data.embedded_topic(path)
            yield fine("log", "it is there")
        elif configuration.state_files:
            raise LogError(
                f"{path}: is missing, and there is a state that was folded from it",
                "Put the newest log back; if it is permanently lost, run: quietcount ledger new-log",
            )
        else:
            yield fine("log", "there is none yet; the first event or run makes it")

    def _look_at_state(self) -> Iterator[Finding]:
        chain, files_there = self._chain, self._configuration.state_files
        wanted = range(chain.opened.partitions) if chain is not None and chain.entries else sorted(files_there)
        found = [finding for partition in wanted for finding in self._look_at_partition(partition)]
        yield from found
        if self._running:
            yield fine("state", "a service is running, and holds it")
        elif not files_there and not found:
            yield fine("state", "there is none yet; the service makes it")
        elif not found:
            yield fine("state", "it belongs to this log, ledger and secret; no service is running")

    def _look_at_partition(self, partition: int) -> Iterator[Finding]:
        path = self._configuration.state_file(partition)
        try:
            state = state_of(self._configuration, partition)
        except StateError as error:
            if path.exists():
                yield refused("state", error)
            elif self._chain is not None and self._chain.releases and self._has_workers:
                yield fine("state", f"partition {partition} is not on this machine: a worker folds it elsewhere")
            elif self._chain is not None and self._chain.releases:
                yield wrong(
                    "state",
                    "it is missing, and only it knows the limits behind the ledger's releases",
                    "Put it back; if it is permanently lost, run: quietcount ledger record-loss",
                    path,
                )
            return
        if state is None:
            self._running = True
            return
        self._states.append(state)
        yield from data.check_state(self._configuration, state, self._chain, self._topic_id)

    def _check_schemas(self) -> Iterator[Finding]:
        inspected, clashes = inspect(self._configuration.schemas)
        for finding in [each for folder in inspected for each in folder.findings] + clashes:
            yield replace(finding, code="schemas")
        self._configuration.registry()  # with the ids that are pinned

    def _check_newest(self) -> Iterator[Finding]:
        if self._chain is None:
            yield warning("newest ledger", "the ledger could not be read", _LEDGER_FIRST)
            return
        try:
            self._compare_with_what_saw_it(self._chain)
        except LedgerBehind:
            # A running service may have released since the ledger was read, so read it again.
            self._chain = data.ledger_of(self._configuration)
            self._compare_with_what_saw_it(self._chain)

    def _check_witnesses(self) -> Iterator[Finding]:
        if self._chain is None:
            yield warning("witnesses", "the ledger could not be read", _LEDGER_FIRST)
            return
        yield from partners.check_partners(self._configuration, self._chain)

    def _compare_with_what_saw_it(self, chain: Chain) -> None:
        ledger = rehearsed(chain)
        seen = published_head(self._configuration.public_file)
        if seen is not None:
            ledger.check_not_behind(seen, self._configuration.public_file.name)
        for state in self._states:
            ledger.check_not_behind(state.head, state.path.name)
        witness_of(self._configuration).check(ledger)

    def _check_populations(self) -> Iterator[Finding]:
        if self._chain is None:
            self._configuration.populations(self._configuration.registry())
            return
        yield from data.check_populations(self._configuration, self._chain, self._machine.now())

    def _check_published(self) -> Iterator[Finding]:
        if self._chain is None:
            yield warning("published file", "the ledger could not be read", _LEDGER_FIRST)
            return
        if self._is_worker:
            yield fine("published file", "a worker publishes nothing")
            return
        yield from data.check_published(self._configuration, self._chain, running=self._running)

    def _metrics_settings(self) -> str:
        """Return what holds of the settings of the metrics if nothing is wrong with them."""
        settings = self._configuration.metrics
        parts = {"certificate": settings.certificate_file, "password": settings.password_file}
        given = [name for name, file in parts.items() if file is not None]
        return f"{' and '.join(given)} can be read" if given else "they need no certificate and no password"

    def _check_metrics(self) -> Iterator[Finding]:
        settings = self._configuration.metrics
        if settings.address is None:
            yield fine("metrics", "they are switched off")
            return
        settings.tls_context()
        settings.credentials()
        yield from files.check_certificate("metrics", settings.certificate_file, self._machine.now())
        if not settings.port:
            return
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.address, settings.address)  # noqa: S104 (asked)
        listens = _listens(host, settings.port)
        place = f"{settings.address}, port {settings.port}"
        if listens and not self._running and self._has_workers and not self._is_worker:
            return  # a releaser holds no state by which one could see that it runs
        if listens and not self._running and _is_ours(host, settings.port, tls=settings.certificate_file is not None):
            yield warning(
                "metrics",
                "a quietcount service listens there, and none holds these data: it waits, or is halted, or belongs to "
                "another project",
                "Mend what is said above: then it goes on by itself; its log says what it waits for",
                place,
            )
        elif listens and not self._running:
            yield wrong(
                "metrics",
                "another program listens there, and no service is running on these data",
                "End that program, or choose another metrics.listen",
                place,
            )
        elif self._running and not listens:
            yield warning(
                "metrics",
                "a service is running, and does not listen there",
                "Restart the service if the configuration changed after its start",
                place,
            )

    def _look_at_workers(self) -> Iterator[Finding]:
        if not self._has_workers:
            yield fine("workers", "none folds for this ledger")
        elif self._is_worker:
            yield fine("workers", "this is one; the releaser's doctor knows for whom a release waits")
        else:
            yield from check_workers(self._configuration, self._machine.now())

    def _check_kafka(
        self, settings: KafkaSettings, check: Callable[[str, Callable[[], Iterator[Finding]], str], None]
    ) -> None:
        from quietcount_consumers.doctor.broker import check_rights, check_topics

        if self._topic_id is None:
            return  # the check of the brokers says why
        check("rights", lambda: check_rights(settings), "this user may do what the service does, and not more")
        # Another check says why the ledger cannot be read.
        opened = self._chain.opened.partitions if self._chain is not None and self._chain.entries else None
        check("topics", lambda: check_topics(settings, opened), "they are as they have to be")


def _is_seen(path: Path) -> bool:
    """Return whether there is such a file, as far as this user may look."""
    with contextlib.suppress(OSError):
        return path.exists()
    return False


def _listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=_CONNECT_SECONDS):
        return True
    return False


def _is_ours(host: str, port: int, *, tls: bool) -> bool:
    """Return whether the program that listens there names our pages if it is asked for another one."""
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # nothing secret is sent, and nothing believed
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, port, timeout=_CONNECT_SECONDS, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_CONNECT_SECONDS)
    try:
        with contextlib.closing(connection):
            connection.request("GET", "/")
            return _PAGES in connection.getresponse().read(_PAGE_BYTES)
    except (OSError, http.client.HTTPException):
        return False
