"""The doctor's look at files: who may read and write the configuration, the secrets and the data."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from quietcount_aggregates.errors import SigningKeyError, StateError
from quietcount_aggregates.ledger.signed_notes import SigningKey
from quietcount_aggregates.state.marks import ConsumerSecret
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.doctor.verdicts import refused, warning, wrong
from quietcount_consumers.wiring import signing_key_file, witness_of
from quietcount_schemas.finding import Finding

__all__ = ["check_certificate", "check_configuration_file", "check_folders", "check_secrets", "owner_of"]

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_WRITERS: Final = stat.S_IWGRP | stat.S_IWOTH
_KEPT: Final = ("ledger.sqlite", "log.sqlite")
_SOON: Final = dt.timedelta(days=30)


def owner_of(configuration: Configuration, user: int) -> int:
    """Return the user who owns the data; `user` if there are none yet, or if nobody may look."""
    for folder in (configuration.private_dir, configuration.private_dir.parent, configuration.data_dir):
        with contextlib.suppress(OSError):
            status = folder.stat()
            if stat.S_ISDIR(status.st_mode):
                return status.st_uid
    return user


def check_configuration_file(path: Path) -> Iterator[Finding]:
    """Look at who may write to the configuration, because it names the log, the bound and every population."""
    mode = path.stat().st_mode
    if mode & stat.S_IWOTH:
        yield wrong("configuration", "everybody may write to it", f"Run: chmod o-w {path}", path)
    elif mode & stat.S_IWGRP:
        yield warning("configuration", "its group may write to it", f"Run: chmod g-w {path}", path)


def check_secrets(configuration: Configuration, owner: int, *, opened: bool) -> Iterator[Finding]:
    """Look at every secret that the configuration names; `opened` says that a ledger or a state depends on them."""
    service = configuration.service.secret_file
    for path in _secret_files(configuration):
        if path.exists():
            yield from _check_secret(path, owner)
    if service.exists():
        try:
            ConsumerSecret.load(service)
        except StateError as error:
            if not service.stat().st_mode & _OTHERS:  # that has a finding already
                yield refused("secrets", error)
    elif opened:
        yield wrong(
            "secrets",
            "the service's secret is missing, and the marks in the state were made with it",
            "Restore it from its backup; if it is permanently lost, docs/recovery.md says what to do (The "
            "service's secret is lost)",
            service,
        )
    yield from _check_signing_key(signing_key_file(configuration), opened=opened)
    folder = service.parent
    if folder.is_dir():
        mode = folder.stat().st_mode
        if mode & _WRITERS:
            yield wrong(
                "secrets", "others may write to it, and so replace a secret", f"Run: chmod 700 {folder}", folder
            )
        elif mode & _OTHERS:
            yield wrong(
                "secrets",
                "it is open to others, who can see when the witness grew, and so how long a release took",
                f"Run: chmod 700 {folder}",
                folder,
            )
    if service.resolve().is_relative_to(configuration.data_dir.resolve()):
        yield warning(
            "secrets",
            "it is in the data folder, so one backup holds both",
            "Move the secret and the files beside it elsewhere, and name it with service.secret_file",
            service,
        )
    pepper = configuration.emitter.pepper_file
    if configuration.kafka is not None and pepper.exists():
        yield warning(
            "secrets",
            "the pepper is on the service's machine: somebody who takes both can try names against the log",
            "Keep it with the emitters, with a copy offline, and remove it here",
            pepper,
        )
    witness = witness_of(configuration).path
    if opened and not witness.exists():
        yield warning(
            "secrets",
            "the witness of the ledger is missing; only it can recognise an older copy of the whole data folder",
            "Make sure that the ledger is the newest; the next start of the service makes a new witness",
            witness,
        )


def _check_signing_key(path: Path, *, opened: bool) -> Iterator[Finding]:
    """Look at the key that signs the heads of the ledger; the next start makes it if there is no ledger yet."""
    if not path.exists():
        if opened:
            yield wrong(
                "secrets",
                "the signing key is missing, and the ledger names it",
                "Restore it from a backup. If it is lost permanently, run: quietcount ledger new-key",
                path,
            )
        return
    try:
        SigningKey.load(path)
    except SigningKeyError as error:
        if not path.stat().st_mode & _OTHERS:  # that has a finding already
            yield refused("secrets", error)


def _secret_files(configuration: Configuration) -> Iterator[Path]:
    service, kafka, metrics = configuration.service.secret_file, configuration.kafka, configuration.metrics
    yield service
    yield (signing := signing_key_file(configuration))
    yield signing.with_name(f"{signing.name}-next")  # which a crash may leave
    yield witness_of(configuration).path
    if configuration.years_dir.is_dir():
        yield from sorted(configuration.years_dir.glob("*/*"))
    yield configuration.emitter.pepper_file
    named = [metrics.key_file, metrics.password_file, configuration.schema_registry.password_file]
    if kafka is not None:
        named += [kafka.key_file, kafka.key_password_file, kafka.password_file]
    yield from (path for path in named if path is not None)


def _check_secret(path: Path, owner: int) -> Iterator[Finding]:
    status = path.stat()
    if status.st_mode & _OTHERS:
        yield wrong(
            "secrets",
            "others may read or write it, and may have done so",
            f"Run: chmod 600 {path}; if it can be changed (a password), change it",
            path,
        )
    if status.st_uid != owner:
        yield wrong(
            "secrets",
            f"it belongs to user {status.st_uid}, and the data to {owner}",
            f"Run: chown {owner} {path}",
            path,
        )


def check_folders(configuration: Configuration, owner: int) -> Iterator[Finding]:
    """Look at who may read and write what the service keeps, and for a damaged state that is left over."""
    data, private, public = configuration.data_dir, configuration.private_dir, configuration.public_file
    folders = [data, private.parent, private, configuration.service.secret_file.parent]
    looked = [each for folder in folders for each in _check_folder(folder)]
    yield from looked or _check_owners(folders)
    if looked or not data.is_dir():
        return
    if data.stat().st_mode & _WRITERS:
        yield wrong(
            "folders", "others may write to it, and so replace what is published", f"Run: chmod 755 {data}", data
        )
    if data.stat().st_mode & 0o005 != 0o005:
        yield warning("folders", "other users cannot read what is published", f"Run: chmod 755 {data}", data)
    for folder in (private.parent, private):
        if folder.is_dir() and folder.stat().st_mode & _OTHERS:
            yield wrong("folders", "it is open to others", f"Run: chmod 700 {folder}", folder)
    for path in sorted(private.iterdir()) if private.is_dir() else ():
        if path.name in _KEPT and not path.is_file():
            yield wrong("folders", "it is not a file", "Move it away, and put back what belongs there", path)
        # A file that waits there to be published is as public as the published one.
        elif not path.name.startswith(public.name):
            with contextlib.suppress(FileNotFoundError):  # a service that runs makes and removes some
                yield from _check_private(path, owner)
    if public.is_dir():
        yield wrong("folders", "it is not a file", "Move it away; the service publishes again when it starts", public)
    elif public.exists():
        mode = public.stat().st_mode
        if mode & _WRITERS:
            yield wrong("folders", "others may write to it", f"Run: chmod 644 {public}", public)
        if not mode & stat.S_IROTH:
            yield warning("folders", "other users cannot read it", f"Run: chmod 644 {public}", public)


def _check_folder(path: Path) -> Iterator[Finding]:
    """Look at whether `path`, if it exists, is a folder that its owner can use."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):  # after the latter, the folder around it has a finding
        return
    except OSError as error:
        yield wrong(
            "folders",
            f"it cannot be looked at ({error.strerror})",
            "Run the doctor as the service's user; if it is that user, correct the rights of the folder around it",
            path,
        )
        return
    if not stat.S_ISDIR(status.st_mode):
        yield wrong("folders", "it is not a folder", "Move it away, and put back what belongs there", path)
    elif status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        yield wrong(
            "folders", "its owner may not read and write it, as the service does", f"Run: chmod u+rwx {path}", path
        )
    elif os.geteuid() == status.st_uid and not os.access(path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        yield wrong("folders", "it cannot be written", "Mount its disk for writing, or choose another folder", path)


def _check_owners(folders: Sequence[Path]) -> Iterator[Finding]:
    """Look at whether the folders belong to one user, because the service has to write to each of them."""
    owners = {folder: folder.stat().st_uid for folder in folders if folder.is_dir()}
    if len(set(owners.values())) > 1:
        listed = ", ".join(f"{folder} to {user}" for folder, user in owners.items())
        yield wrong(
            "folders",
            f"they belong to different users, and the service writes to all of them: {listed}",
            "Give all of them to the service's user with chown",
        )


def _check_private(path: Path, owner: int) -> Iterator[Finding]:
    status = path.stat()
    if status.st_mode & _OTHERS:
        yield wrong("folders", "it is open to others", f"Run: chmod 600 {path}", path)
    if status.st_uid != owner:
        yield wrong("folders", f"it belongs to user {status.st_uid}, not {owner}", f"Run: chown {owner} {path}", path)
    if ".damaged" in path.name:
        yield warning(
            "folders",
            "this damaged state was set aside, and may hold what was to be forgotten",
            "Delete it as soon as you have rescued what you need from it",
            path,
        )


def check_certificate(check: str, path: Path | None, now: dt.datetime) -> Iterator[Finding]:
    """Look at when each certificate in a PEM file runs out."""
    if path is None:
        return
    from cryptography import x509

    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return  # the check that loads it reports that
    for certificate in certificates:
        last = certificate.not_valid_after_utc
        if now > last or now < certificate.not_valid_before_utc:
            yield wrong(
                check, f"the certificate is not valid now (until {last:%Y-%m-%d})", "Put a valid one there", path
            )
        elif last - now < _SOON:
            yield warning(check, f"the certificate runs out on {last:%Y-%m-%d}", "Put a new one there in time", path)
