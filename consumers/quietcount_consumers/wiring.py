"""Wiring: makes, loads or opens what the configuration names (folders, secret, signing key, witness, log, ledger)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from quietcount_aggregates.errors import KeyMissing
from quietcount_aggregates.ledger.signed_notes import SigningKey
from quietcount_aggregates.ledger.witness import Witness
from quietcount_aggregates.state.marks import ConsumerSecret
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.embedded_ledger import EmbeddedLedger
from quietcount_consumers.errors import FolderUnwritable, ServiceError
from quietcount_producers.embedded.embedded_log import EmbeddedLog
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS
from quietcount_schemas.private_files import make_private_folder

if TYPE_CHECKING:
    from quietcount_consumers.kafka.ledger import KafkaLedger
    from quietcount_consumers.kafka.log import KafkaLog

__all__ = [
    "check_files",
    "open_ledger",
    "open_log",
    "prepare_folders",
    "secret_of",
    "signing_key_file",
    "signing_key_of",
    "watched_folders",
    "witness_of",
]


def check_files(configuration: Configuration, *, signs: bool = True) -> None:
    """Read each file that a running service needs to open again; raise a QuietcountError for the first fault.

    The log, the ledger and the state are not among them: the running service has these in hand.
    """
    configuration.populations(configuration.registry())
    ConsumerSecret.load(configuration.service.secret_file)
    if signs:  # a worker has no signing key
        SigningKey.load(signing_key_file(configuration))
    if configuration.kafka is not None:
        configuration.kafka.client("quietcount-service")


def prepare_folders(configuration: Configuration) -> None:
    """Make the data folder and its private part; refuse folders that cannot be written.

    From here on the process makes files that only their owner can read. It opens what it publishes to all explicitly.
    """
    os.umask(0o077)
    try:
        if not configuration.data_dir.is_dir():
            configuration.data_dir.mkdir(parents=True)
            configuration.data_dir.chmod(0o755)
        # Two folders deep: everybody can see when the outer one was changed, and that time stands still.
        private = configuration.private_dir
        for folder in (private.parent, private):
            make_private_folder(folder)
    except OSError as error:
        raise FolderUnwritable(
            f"{configuration.data_dir}: the data folder cannot be made or written ({os.strerror(error.errno or 0)})",
            "Choose another data_dir, or mend its rights",
        ) from None
    for folder in (configuration.data_dir, private):
        if not os.access(folder, os.W_OK):
            raise FolderUnwritable(f"{folder}: is read-only", "Mend its rights, or choose another data_dir")


def secret_of(configuration: Configuration) -> ConsumerSecret:
    """Load the service's secret; make it if nothing depends on it yet, so that a configuration is enough to start."""
    path = configuration.service.secret_file
    made = list(configuration.state_files.values())
    if configuration.kafka is None:
        made.append(configuration.private_dir / "ledger.sqlite")
    if path.exists() or any(each.exists() for each in made) or _has_entries(configuration):
        return ConsumerSecret.load(path)
    _make_folder_of(path)
    return ConsumerSecret.generate(path)


def signing_key_file(configuration: Configuration) -> Path:
    """Return where the key lies that signs the heads of the ledger: with the service's secret."""
    secret = configuration.service.secret_file
    return secret.with_name(secret.name + "-signing")


def signing_key_of(configuration: Configuration) -> SigningKey:
    """Load the key that signs the heads of the ledger; make it if there is no ledger yet that names one.

    Raises KeyMissing if a ledger, a published file or the witness says that there was one.
    """
    path = signing_key_file(configuration)
    published = (configuration.public_file, witness_of(configuration).path)
    if path.exists() or any(each.exists() for each in published) or _has_entries(configuration):
        try:
            return SigningKey.load(path)
        except KeyMissing as error:
            raise KeyMissing(
                error.what,
                "Restore it from a backup. If it is lost permanently, run: quietcount ledger new-key",
            ) from None
    _make_folder_of(path)
    return SigningKey.generate(path)


def _make_folder_of(path: Path) -> None:
    """Make the folder of the service's secrets unless it is there. Raises ServiceError."""
    try:
        if not path.parent.is_dir():  # one that is there may hold other things, and is not ours to close
            path.parent.parent.mkdir(parents=True, exist_ok=True)
            make_private_folder(path.parent)
    except OSError as error:
        raise ServiceError(
            f"{path.parent}: the folder of the service's secret cannot be made ({os.strerror(error.errno or 0)})",
            "Name another one with service.secret_file",
        ) from None


def witness_of(configuration: Configuration) -> Witness:
    """Return the witness of the ledger, which lies with the service's secret."""
    secret = configuration.service.secret_file
    return Witness(secret.with_name(secret.name + "-head"))


def watched_folders(configuration: Configuration) -> dict[str, Path]:
    """Return by name the folders whose disks must not fill up."""
    return {"data": configuration.private_dir, "secrets": configuration.service.secret_file.parent}


def open_log(configuration: Configuration) -> EmbeddedLog | KafkaLog:
    """Open the log that the configuration names; an embedded one that is missing is made, with its topics."""
    if configuration.kafka is not None:
        from quietcount_consumers.kafka.log import KafkaLog

        log = KafkaLog(configuration.kafka)
        try:
            for topic in (CASE_EVENTS, DEAD_LETTERS):
                log.topic_id(topic)  # says what to do about a topic that is missing
        except BaseException:
            log.close()
            raise
        return log
    embedded = EmbeddedLog(configuration.private_dir / "log.sqlite")
    for topic in (CASE_EVENTS, DEAD_LETTERS):
        embedded.create_topic(topic)
    return embedded


def open_ledger(configuration: Configuration, *, create: bool = True) -> EmbeddedLedger | KafkaLedger:
    """Open the ledger that the configuration names; `create=False` only ever reads."""
    if configuration.kafka is not None:
        from quietcount_consumers.kafka.ledger import KafkaLedger

        return KafkaLedger(configuration.kafka)  # which makes no topic in any case
    return EmbeddedLedger(configuration.private_dir / "ledger.sqlite", create=create)


def _has_entries(configuration: Configuration) -> bool:
    """Return whether there is a ledger that a first run has opened already."""
    if configuration.kafka is None and not (configuration.private_dir / "ledger.sqlite").exists():
        return False
    with contextlib.closing(open_ledger(configuration, create=False)) as log:
        return bool(log.read())
