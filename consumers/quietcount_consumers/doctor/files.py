"""The doctor's look at files: who may read and write the configuration, the secrets and the data."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from quietcount_aggregates.errors import StateError
from quietcount_aggregates.marks import ConsumerSecret
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.doctor.verdicts import Verdict, refused, warning, wrong
from quietcount_consumers.wiring import witness_of

__all__ = ["check_certificate", "check_configuration_file", "check_folders", "check_secrets", "owner_of"]

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_WRITERS: Final = stat.S_IWGRP | stat.S_IWOTH
_KEPT: Final = ("ledger.sqlite", "log.sqlite", "state.duckdb")
_SOON: Final = dt.timedelta(days=30)


def owner_of(configuration: Configuration, user: int) -> int:
    """Return the user to whom the data belong; `user` where there are none yet, or where nobody may look."""
    for folder in (configuration.private_dir, configuration.private_dir.parent, configuration.data_dir):
        with contextlib.suppress(OSError):
            status = folder.stat()
            if stat.S_ISDIR(status.st_mode):
                return status.st_uid
    return user


def check_configuration_file(path: Path) -> Iterator[Verdict]:
    """Look at who may write to the configuration: it names the log, the bound and every statistic."""
    mode = path.stat().st_mode
    if mode & stat.S_IWOTH:
        yield wrong("configuration", f"{path}: everybody may write to it", f"chmod o-w {path}")
    elif mode & stat.S_IWGRP:
        yield warning("configuration", f"{path}: its group may write to it", f"chmod g-w {path}")


def check_secrets(configuration: Configuration, owner: int, *, opened: bool) -> Iterator[Verdict]:
    """Look at every secret that the configuration names; `opened` says that a ledger or a state depends on them."""
    service = configuration.service.secret_file
    for path in _secret_files(configuration):
        if path.exists():
            yield from _check_secret(path, owner)
    if service.exists():
        try:
            ConsumerSecret.load(service)
        except StateError as error:
            if not service.stat().st_mode & _OTHERS:  # that is told already
                yield refused("secrets", error)
    elif opened:
        yield wrong(
            "secrets",
            f"{service}: the consumer's secret is missing, under which the marks in the state were made",
            "Restore it from its backup; if it is lost for good, docs/recovery.md says what to do (The "
            "service's secret is lost)",
        )
    folder = service.parent
    if folder.is_dir():
        mode = folder.stat().st_mode
        if mode & _WRITERS:
            yield wrong("secrets", f"{folder}: others may write to it, and so replace a secret", f"chmod 700 {folder}")
        elif mode & _OTHERS:
            yield wrong(
                "secrets",
                f"{folder}: is open to others, who see when the witness grew, and so how long a release took",
                f"chmod 700 {folder}",
            )
    if service.resolve().is_relative_to(configuration.data_dir.resolve()):
        yield warning(
            "secrets",
            f"{service}: lies in the data folder, so that one backup holds both",
            "Move the secret and what lies beside it elsewhere, and name it with service.secret_file",
        )
    pepper = configuration.emitter.pepper_file
    if configuration.kafka is not None and pepper.exists():
        yield warning(
            "secrets",
            f"{pepper}: the pepper lies on the service's machine: who takes both can try names against the log",
            "Keep it with the emitters, with a copy offline, and remove it here",
        )
    witness = witness_of(configuration).path
    if opened and not witness.exists():
        yield warning(
            "secrets",
            f"{witness}: the witness of the ledger is missing, which tells an older copy of the whole data folder",
            "Make sure that the ledger is the newest; the next start of the service makes the witness anew",
        )


def _secret_files(configuration: Configuration) -> Iterator[Path]:
    service, kafka, metrics = configuration.service.secret_file, configuration.kafka, configuration.metrics
    yield service
    yield witness_of(configuration).path
    if configuration.years_dir.is_dir():
        yield from sorted(configuration.years_dir.iterdir())
    yield configuration.emitter.pepper_file
    named = [metrics.key_file, metrics.password_file, configuration.schema_registry.password_file]
    if kafka is not None:
        named += [kafka.key_file, kafka.key_password_file, kafka.password_file]
    yield from (path for path in named if path is not None)


def _check_secret(path: Path, owner: int) -> Iterator[Verdict]:
    status = path.stat()
    if status.st_mode & _OTHERS:
        yield wrong(
            "secrets",
            f"{path}: others may read or write it. What was open may have been read",
            f"chmod 600 {path}; where it can be changed (a password), change it",
        )
    if status.st_uid != owner:
        yield wrong(
            "secrets", f"{path}: belongs to user {status.st_uid}, and the data to {owner}", f"chown {owner} {path}"
        )


def check_folders(configuration: Configuration, owner: int) -> Iterator[Verdict]:
    """Look at who may read and write what the service keeps, and at what a damage left over."""
    data, private, public = configuration.data_dir, configuration.private_dir, configuration.public_file
    folders = [data, private.parent, private, configuration.service.secret_file.parent]
    looked = [each for folder in folders for each in _check_folder(folder)]
    yield from looked or _check_owners(folders)
    if looked or not data.is_dir():
        return
    if data.stat().st_mode & _WRITERS:
        yield wrong("folders", f"{data}: others may write to it, and so replace what is published", f"chmod 755 {data}")
    if data.stat().st_mode & 0o005 != 0o005:
        yield warning("folders", f"{data}: other users cannot read what is published", f"chmod 755 {data}")
    for folder in (private.parent, private):
        if folder.is_dir() and folder.stat().st_mode & _OTHERS:
            yield wrong("folders", f"{folder}: is open to others", f"chmod 700 {folder}")
    for path in sorted(private.iterdir()) if private.is_dir() else ():
        if path.name in _KEPT and not path.is_file():
            yield wrong("folders", f"{path}: is not a file", "Move it away, and put back what belongs there")
        # What waits there to be published is as public as what is.
        elif not path.name.startswith(public.name):
            with contextlib.suppress(FileNotFoundError):  # a service that runs makes and removes some
                yield from _check_private(path, owner)
    if public.is_dir():
        yield wrong("folders", f"{public}: is not a file", "Move it away; the service publishes anew when it starts")
    elif public.exists():
        mode = public.stat().st_mode
        if mode & _WRITERS:
            yield wrong("folders", f"{public}: others may write to it", f"chmod 644 {public}")
        if not mode & stat.S_IROTH:
            yield warning("folders", f"{public}: other users cannot read it", f"chmod 644 {public}")


def _check_folder(path: Path) -> Iterator[Verdict]:
    """Look at whether a folder, if there is one, is a folder that its owner can use."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):  # of the latter the folder around it is told
        return
    except OSError as error:
        yield wrong(
            "folders",
            f"{path}: cannot be looked at ({error.strerror})",
            "Run the doctor as the service's user; if it is that, mend the rights of the folder around it",
        )
        return
    if not stat.S_ISDIR(status.st_mode):
        yield wrong("folders", f"{path}: is not a folder", "Move it away, and put back what belongs there")
    elif status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        yield wrong(
            "folders", f"{path}: its owner may not read and write it, as the service does", f"chmod u+rwx {path}"
        )
    elif os.geteuid() == status.st_uid and not os.access(path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        yield wrong(
            "folders", f"{path}: cannot be written", "Have its disk mounted for writing, or choose another folder"
        )


def _check_owners(folders: Sequence[Path]) -> Iterator[Verdict]:
    """Look at whether the folders belong to one user: the service has to write to each of them."""
    owners = {folder: folder.stat().st_uid for folder in folders if folder.is_dir()}
    if len(set(owners.values())) > 1:
        told = ", ".join(f"{folder} to {user}" for folder, user in owners.items())
        yield wrong(
            "folders",
            f"they belong to different users, and the service writes to all of them: {told}",
            "Give all of them to the service's user, with chown",
        )


def _check_private(path: Path, owner: int) -> Iterator[Verdict]:
    status = path.stat()
    if status.st_mode & _OTHERS:
        yield wrong("folders", f"{path}: is open to others", f"chmod 600 {path}")
    if status.st_uid != owner:
        yield wrong("folders", f"{path}: belongs to user {status.st_uid}, not {owner}", f"chown {owner} {path}")
    if ".damaged" in path.name:
        yield warning(
            "folders",
            f"{path}: a damaged state was set aside, and may hold what was to be forgotten",
            "Delete it as soon as nothing is to be rescued from it",
        )


def check_certificate(check: str, path: Path | None, now: dt.datetime) -> Iterator[Verdict]:
    """Look at when a certificate in PEM form runs out; of several in a file, at each."""
    if path is None:
        return
    from cryptography import x509

    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return  # told by whoever loads it
    for certificate in certificates:
        last = certificate.not_valid_after_utc
        if now > last or now < certificate.not_valid_before_utc:
            yield wrong(
                check, f"{path}: the certificate is not valid now (until {last:%Y-%m-%d})", "Put a valid one there"
            )
        elif last - now < _SOON:
            yield warning(check, f"{path}: the certificate runs out on {last:%Y-%m-%d}", "Put a new one there in time")
