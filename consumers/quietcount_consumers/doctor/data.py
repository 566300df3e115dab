"""The doctor's look at what the service keeps: ledger, state, embedded log, published file. It changes none of them.

Opening one of them as the service does would change it. SQLite makes files beside a database in WAL mode and tidies it
up, and a reader's lock on the state turns away a service that starts. So the doctor reads a copy of the ledger, which
is published anyway. Nobody may copy the log, so it reads there only what it can read without a lock. It reads the state
only while no service holds it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from quietcount_aggregates.errors import LedgerError, LedgerNewer, SigningKeyError, StateError
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.places import LogPoint
from quietcount_aggregates.ledger.signed_heads import check_key
from quietcount_aggregates.ledger.signed_notes import SigningKey
from quietcount_aggregates.publication.publication import published_head
from quietcount_aggregates.state import state_file
from quietcount_aggregates.state.limits import Limits
from quietcount_aggregates.state.marks import ConsumerSecret, YearSecrets
from quietcount_consumers.configuration import Configuration, beginning_after
from quietcount_consumers.doctor.verdicts import fine, refused, warning, wrong
from quietcount_consumers.embedded_ledger import EmbeddedLedger
from quietcount_consumers.maintenance.project_verification import held_open, verify_ledger
from quietcount_consumers.maintenance.rehearsal import rehearsed
from quietcount_consumers.maintenance.state_facts import StateFacts, is_read
from quietcount_consumers.maintenance.verification import agreement
from quietcount_consumers.wiring import open_ledger, signing_key_file
from quietcount_producers.embedded import sqlite_file
from quietcount_producers.errors import LogError
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.finding import Finding
from quietcount_schemas.log import CASE_EVENTS, LedgerLog

__all__ = [
    "check_populations",
    "check_published",
    "check_signer",
    "check_state",
    "embedded_topic",
    "has_workers",
    "ledger_of",
    "signs",
]

_LOOKS: Final = 5
"""While a service appends, a copy may mix two moments, so look again; entries are rare."""
_PAUSE_SECONDS: Final = 0.2
_SQLITE_MAGIC: Final = b"SQLite format 3\x00"
_HEADER_BYTES: Final = 100
"""Of an SQLite file; the version of its content is at 60, its kind at 68."""


# The ledger


def ledger_of(configuration: Configuration) -> Chain:
    """Read and verify the ledger, and its places; an empty chain if there is none yet. Raises a QuietcountError."""
    path = configuration.private_dir / "ledger.sqlite"
    if configuration.kafka is not None:
        with contextlib.closing(open_ledger(configuration, create=False)) as log:
            return _verified(log)
    if not path.exists() or not path.stat().st_size:
        return Chain()
    for look in range(_LOOKS):
        try:
            return _copied(path)
        except LedgerNewer:
            raise
        except LedgerError:
            if look == _LOOKS - 1:
                raise
            time.sleep(_PAUSE_SECONDS)
    return Chain()


def has_workers(configuration: Configuration) -> bool:
    """Return whether workers fold for this ledger; false if that cannot be read."""
    if configuration.kafka is None:
        return False
    with contextlib.suppress(QuietcountError), contextlib.closing(open_ledger(configuration, create=False)) as log:
        ledger = Ledger(log)
        ledger.refresh()
        ledger.read_places()
        return ledger.has_workers
    return False


def _verified(log: LedgerLog) -> Chain:
    ledger = Ledger(log)
    ledger.refresh()
    ledger.read_places()  # those of entries that came meanwhile are left out
    return ledger.chain


def _copied(path: Path) -> Chain:
    with tempfile.TemporaryDirectory(prefix="quietcount-doctor-") as folder:
        copy = Path(folder) / path.name
        # The write-ahead log first: what is moved from it into the file meanwhile is then there twice, not gone.
        for suffix in ("-wal", ""):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
        with EmbeddedLedger(copy, create=False, named=path) as log:
            return _verified(log)


def check_signer(configuration: Configuration, chain: Chain, *, worker: bool) -> Iterator[Finding]:
    """Look at whether the signing key is the one that the ledger names; any other fault is the check of secrets'."""
    path = signing_key_file(configuration)
    if worker and path.exists():
        yield warning("ledger", "a worker needs no signing key, and this one is not the ledger's", "Remove it", path)
    if worker:
        return
    try:
        key = SigningKey.load(path)
    except SigningKeyError:
        return
    try:
        check_key(chain, key)
    except SigningKeyError as error:
        yield refused("ledger", error)


def signs(configuration: Configuration, chain: Chain | None) -> bool:
    """Return whether the signing key is here that the ledger names."""
    with contextlib.suppress(QuietcountError):
        key = SigningKey.load(signing_key_file(configuration))
        if chain is not None and chain.entries:
            check_key(chain, key)
        return True
    return False


def check_populations(configuration: Configuration, chain: Chain, now: dt.datetime) -> Iterator[Finding]:
    """Look at whether the next start takes the configured populations; raises a QuietcountError if it does not."""
    ledger = rehearsed(chain)
    declared = chain.declarations
    registry = configuration.registry()
    wanted = [
        population if population.name in declared else beginning_after(population, now.date())
        for population in configuration.populations(registry)
    ]
    # The service learns the number of partitions from the log, and nothing here follows from it.
    new = ledger.declare(wanted, configuration.lifetime_epsilon, now, end=LogPoint("", {0: 0}))
    ledger.describe(configuration.description(registry, ledger.chain.declarations.values()), now)
    if new:
        names = ", ".join(population.name for population in new)
        yield fine("populations", f"the next start declares these, and so spends their budget permanently: {names}")
    for name in sorted(ledger.chain.incomplete - chain.incomplete):
        begins = ledger.chain.declarations[name].first_day
        yield warning(
            "populations",
            f"{name} begins on {begins}, and the ledger is open already: it will count what is emitted after its "
            "declaration, and nothing of it is released before its past is in the log",
            f"Run quietcount declare, emit its history, then run: quietcount declare --complete {name}. If you want no "
            "past of it, leave `since` out before the next start: after that it is fixed",
        )
    for name in sorted(chain.incomplete):
        yield warning(
            "populations",
            f"{name} waits for its past: nothing of it is released",
            f"Emit its history, then run: quietcount declare --complete {name}",
        )


def check_published(configuration: Configuration, chain: Chain, *, running: bool) -> Iterator[Finding]:
    """Compare the published file with the ledger; raises a QuietcountError if they differ."""
    way = "Wait for the next tick of the service, or restart it" if running else "Start the service"
    public = configuration.public_file
    head = published_head(public)
    if not chain.entries:
        yield fine("published file", "nothing is published before the first run")
    elif head is None:
        remedy = f"{way}: it publishes the file with the same values"
        yield warning("published file", "it is missing", remedy, public)
    elif head.length < chain.head.length and chain.entries[head.length - 1].digest == head.digest:
        yield warning(
            "published file",
            "it is older than the ledger: a release was cut short, is being published now, or waits for witnesses",
            f"{way}: it publishes what the ledger holds",
            public,
        )
    else:
        verify_ledger(chain, public)
        held = [warning("published file", what, remedy) for what, remedy in held_open(public)]
        yield from held or [fine("published file", agreement(public))]


# The state


def check_state(
    configuration: Configuration, state: StateFacts, chain: Chain | None, topic_id: str | None
) -> Iterator[Finding]:
    """Compare the state with what it belongs to; `chain` and `topic_id` are None where they cannot be read."""
    path = state.path
    found = state.meta.get("format", "unknown")
    if not is_read(found):
        newer = found.isdecimal() and int(found) > state_file.FORMAT
        yield wrong(
            "state",
            f"{path}: written in format {found}; this version reads format {state_file.FORMAT}",
            "Use the newer quietcount" if newer else "Put back a copy that is up to date",
        )
        return
    if found != str(state_file.FORMAT):
        yield warning(
            "state",
            f"{path}: is of format {found}; the next start takes it to format {state_file.FORMAT}, and there is no way "
            "back",
            "Make a backup first",
        )
    yield from _check_secrets_of(configuration, state)
    if topic_id is not None and state.meta.get("topic_id", "") not in ("", topic_id):
        yield wrong(
            "state",
            f"{path}: the log is another one than this state was made with",
            "Put the right log back. If it is lost permanently, run: quietcount ledger new-log",
        )
    if chain is None or not chain.entries:
        return
    if state.meta.get("ledger_id", "") not in ("", chain.opened.ledger_id.hex()):
        yield wrong(
            "state", f"{path}: the ledger is another one than this state was made with", "Put the right ledger back"
        )
    if chain.is_ahead_of(state.first_open):
        yield wrong(
            "state",
            f"{path}: the ledger has releases that it does not know: the state was lost, or is an older copy",
            "Put the right state back. If it is lost permanently, run: quietcount ledger record-loss",
        )
        return
    try:
        Limits(path).check_whole(state.used_up)
    except StateError as error:
        yield refused("state", error)


def _check_secrets_of(configuration: Configuration, state: StateFacts) -> Iterator[Finding]:
    """Compare the secrets with those that made the state's marks; another check reports what cannot be read."""
    secret = configuration.service.secret_file
    with contextlib.suppress(StateError):
        if state.meta.get("secret_check", "") not in ("", ConsumerSecret.load(secret).check):
            yield wrong(
                "state", f"{secret}: is another secret than this state was made with", "Put the right secret back"
            )
    years = YearSecrets(configuration.years_of(state.partition))
    for key, check in state.meta.items():
        if not key.startswith("year ") or not check:
            continue
        year = int(key.removeprefix("year "))
        try:
            there = years.check(year)
        except StateError as error:
            yield refused("state", error)
            continue
        if there != check:
            yield wrong(
                "state",
                f"{years.path(year)}: the secret of {year} is {'another one' if there else 'missing'}; the limits that "
                "cases have used up in that year are kept under it",
                "Restore it. If it is lost permanently, run: quietcount ledger record-loss --lost year",
            )


# The embedded log


def embedded_topic(path: Path) -> str | None:
    """Return the identity of the embedded log's case events; None if it cannot be read, as while somebody writes.

    Raises LogError for a file that is not a log of quietcount, or has a newer format.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError as error:
        raise sqlite_file.explained(error, path, "read") from None
    version, kind = (int.from_bytes(header[at : at + 4], "big") for at in (60, 68))
    if not header.startswith(_SQLITE_MAGIC) or kind != sqlite_file.APPLICATION_ID:
        raise LogError(f"{path}: is not a log of quietcount", "Check data_dir, or move that file away")
    if version > sqlite_file.VERSION:
        raise LogError(
            f"{path}: has format {version}, and this version reads format {sqlite_file.VERSION}",
            "Use the newer quietcount",
        )
    wal = path.with_name(path.name + "-wal")
    if wal.exists() and wal.stat().st_size:
        return None
    try:
        uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            row = connection.execute("SELECT id FROM topics WHERE name = ?", (CASE_EVENTS,)).fetchone()
    except sqlite_file.FAILURES as error:
        raise sqlite_file.explained(error, path, "read") from None
    return None if row is None else str(row[0])
