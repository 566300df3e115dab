"""The doctor: looks at all that the service needs, says what is wrong and how to mend it, and changes nothing.

It brings no file into being but copies of what is published (see doctor_data), takes no fence, and tells nothing that
follows from events. What it finds out about is told by its own verdicts; an error of ours is one as well.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from quietcount_aggregates.errors import LedgerBehind, LedgerBroken, StateError
from quietcount_aggregates.ledger import Chain
from quietcount_aggregates.publication import published_head
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.doctor import data, files
from quietcount_consumers.doctor import machine as machines
from quietcount_consumers.doctor.machine import Machine
from quietcount_consumers.doctor.verdicts import Verdict, fine, refused, warning, wrong
from quietcount_consumers.maintenance.rehearsal import rehearsed
from quietcount_consumers.maintenance.state_facts import StateFacts, state_of
from quietcount_consumers.wiring import witness_of
from quietcount_producers.errors import LogError
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.registry import inspect

if TYPE_CHECKING:
    from quietcount_producers.kafka.settings import KafkaSettings

__all__ = ["examine"]

_CONNECT_SECONDS: Final = 1.0
_PAGES: Final = b"/metrics, /healthz and /readyz"
_PAGE_BYTES: Final = 200


def examine(config: Path, machine: Machine | None = None) -> list[Verdict]:
    """Return what is found of the project whose configuration is `config`: one verdict or more for each check."""
    try:
        configuration = Configuration.load(config)
    except QuietcountError as error:
        return [refused("configuration", error)]
    return _Examination(config, configuration, machine or Machine()).verdicts()


class _Examination:
    """One look at a project. What several checks need is read once, and is None where it could not be read."""

    def __init__(self, config: Path, configuration: Configuration, machine: Machine) -> None:
        self._config = config
        self._configuration = configuration
        self._machine = machine
        self._owner = files.owner_of(configuration, machine.user())
        self._running = False
        self._chain: Chain | None = None
        self._state: StateFacts | None = None
        self._topic_id: str | None = None

    def verdicts(self) -> list[Verdict]:
        configuration, machine, owner = self._configuration, self._machine, self._owner
        made: list[Verdict] = []

        def check(name: str, looks: Callable[[], Iterator[Verdict]], content: str) -> None:
            found: list[Verdict] = []
            try:
                found += looks()
            except QuietcountError as error:
                found.append(refused(name, error))
            except OSError as error:
                found.append(wrong(name, f"{error.filename}: cannot be read ({error.strerror})", "Mend its rights"))
            made.extend(found or [fine(name, content)])

        # What others are compared with is read first, and told in its place.
        log = self._gathered("log" if configuration.kafka is None else "brokers", self._look_at_log)
        ledger = self._gathered("ledger", self._look_at_ledger)
        state = self._gathered("state", self._look_at_state)
        # Unlike Path.exists, this raises nothing where nobody may look; the check of the folders tells of that.
        opened = bool(self._chain and self._chain.entries) or os.path.lexists(
            configuration.private_dir / "state.duckdb"
        )

        check("configuration", lambda: files.check_configuration_file(self._config), f"{self._config}: can be used")
        check("user", lambda: machines.check_user(machine, owner), "the data are this user's")
        check("umask", lambda: machines.check_umask(machine), "new files are not for others to write to")
        check(
            "secrets",
            lambda: files.check_secrets(configuration, owner, opened=opened),
            "what is there is for the service's eyes alone",
        )
        check("folders", lambda: files.check_folders(configuration, owner), "what is private is closed to others")
        check("disk", lambda: machines.check_disk(machine, configuration), "there is room")
        check("schemas", self._check_schemas, "nothing in them can name a person")
        check("clock", lambda: machines.check_clock(machine, self._chain), "it is kept")
        made += log
        if configuration.kafka is not None:
            self._check_kafka(configuration.kafka, check)
        made += ledger
        check("witnesses", self._check_witnesses, "the ledger holds all that was seen of it")
        made += state
        check("statistics", self._check_statistics, "they are as they were declared")
        check("published file", self._check_published, "it holds what the ledger says")
        check("metrics", self._check_metrics, "certificate and password can be read")
        return made

    def _gathered(self, name: str, look: Callable[[], Iterator[Verdict]]) -> list[Verdict]:
        try:
            return list(look())
        except QuietcountError as error:
            return [refused(name, error)]
        except OSError as error:
            return [wrong(name, f"{error.filename}: cannot be read ({error.strerror})", "Mend its rights")]

    def _look_at_ledger(self) -> Iterator[Verdict]:
        if self._configuration.kafka is not None and self._topic_id is None:
            yield warning("ledger", "it could not be read", "Mend what is said of the brokers first")
            return
        try:
            self._chain = data.ledger_of(self._configuration)
        except LedgerBroken as error:
            verdict = refused("ledger", error)
            way = "quietcount ledger restore brings it back from the newest file that was published"
            yield replace(verdict, remedy=f"{verdict.remedy}; {way}, once this one is moved away")
            return
        seen = [self._configuration.public_file, witness_of(self._configuration).path]
        if self._chain.entries:
            yield fine("ledger", "its chain holds")
        elif any(path.exists() for path in seen):
            yield wrong(
                "ledger",
                "there is none, and something was published from one",
                "Put the newest one back, or bring it back from the newest file that was published, with: quietcount "
                "ledger restore",
            )
        else:
            yield fine("ledger", "there is none yet; the first run of the service opens it")

    def _look_at_log(self) -> Iterator[Verdict]:
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
        elif (configuration.private_dir / "state.duckdb").exists():
            raise LogError(
                f"{path}: is missing, and there is a state that folded it. Put the newest log back, or, if it is lost "
                "for good, run: quietcount ledger new-log"
            )
        else:
            yield fine("log", "there is none yet; the first event or run makes it")

    def _look_at_state(self) -> Iterator[Verdict]:
        path = self._configuration.private_dir / "state.duckdb"
        try:
            self._state = state_of(self._configuration)
        except StateError:
            if path.exists():
                raise
            if self._chain is not None and self._chain.releases:
                yield wrong(
                    "state",
                    f"{path}: is missing, and the ledger has releases that only it knows the limits of",
                    "Put it back; if it is lost for good, run: quietcount ledger record-loss",
                )
            else:
                yield fine("state", "there is none yet; the service makes it")
            return
        if self._state is None:
            self._running = True
            yield fine("state", "a service runs, and holds it")
            return
        found = list(data.check_state(self._configuration, self._state, self._chain, self._topic_id))
        yield from found or [fine("state", "it belongs to this log, ledger and secret; no service runs")]

    def _check_schemas(self) -> Iterator[Verdict]:
        inspected, clashes = inspect(self._configuration.schemas)
        for finding in [each for folder in inspected for each in folder.findings] + clashes:
            yield wrong("schemas", str(finding), "Mend the schema; quietcount schemas check looks again")
        self._configuration.registry()  # with the ids that are pinned

    def _check_witnesses(self) -> Iterator[Verdict]:
        if self._chain is None:
            yield warning("witnesses", "the ledger could not be read", "Mend what is said of the ledger first")
            return
        try:
            self._compare_with_witnesses(self._chain)
        except LedgerBehind:
            # A service that runs may have released since the ledger was read: what it has now is what counts.
            self._chain = data.ledger_of(self._configuration)
            self._compare_with_witnesses(self._chain)

    def _compare_with_witnesses(self, chain: Chain) -> None:
        ledger = rehearsed(chain)
        seen = published_head(self._configuration.public_file)
        if seen is not None:
            ledger.check_not_behind(seen, self._configuration.public_file.name)
        if self._state is not None:
            ledger.check_not_behind(self._state.head, "state.duckdb")
        witness_of(self._configuration).check(ledger)

    def _check_statistics(self) -> Iterator[Verdict]:
        if self._chain is None:
            self._configuration.statistics(self._configuration.registry())
            return
        yield from data.check_statistics(self._configuration, self._chain, self._machine.now())

    def _check_published(self) -> Iterator[Verdict]:
        if self._chain is None:
            yield warning("published file", "the ledger could not be read", "Mend what is said of the ledger first")
            return
        yield from data.check_published(self._configuration, self._chain)

    def _check_metrics(self) -> Iterator[Verdict]:
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
        if listens and not self._running and _is_ours(host, settings.port, tls=settings.certificate_file is not None):
            yield warning(
                "metrics",
                f"{place}: a quietcount service listens there, and none holds these data: it waits or is halted, or "
                "belongs to another project",
                "Mend what is told above; it goes on by itself, and its log says what it waits for",
            )
        elif listens and not self._running:
            yield wrong(
                "metrics",
                f"{place}: another program listens there, and no service runs on these data",
                "End it, or choose another metrics.listen",
            )
        elif self._running and not listens:
            yield warning(
                "metrics",
                f"{place}: a service runs, and does not listen there",
                "Restart the service if the configuration was changed since it was started",
            )

    def _check_kafka(
        self, settings: KafkaSettings, check: Callable[[str, Callable[[], Iterator[Verdict]], str], None]
    ) -> None:
        from quietcount_consumers.doctor.broker import check_rights, check_topics

        if self._topic_id is None:
            return  # why is told
        check("rights", lambda: check_rights(settings), "this user may do what the service does, and not more")
        check("topics", lambda: check_topics(settings), "they are as they have to be")


def _listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=_CONNECT_SECONDS):
        return True
    return False


def _is_ours(host: str, port: int, *, tls: bool) -> bool:
    """Return whether what listens there names our pages to whoever asks for another one."""
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # nothing is told to it, and nothing believed
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
