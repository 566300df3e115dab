"""A new project: a commented configuration, and secrets with the right modes."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import os
import re
from importlib import resources
from pathlib import Path

from quietcount_aggregates.ledger.signed_notes import SigningKey
from quietcount_aggregates.state.marks import ConsumerSecret
from quietcount_consumers.errors import ServiceError
from quietcount_producers.composing.pseudonyms import Pepper
from quietcount_schemas.configuration import DEFAULT_LOG
from quietcount_schemas.events.periods import Period
from quietcount_schemas.private_files import make_private_folder, write_file

__all__ = ["configuration_text", "create_project"]

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TOPIC_PREFIX = re.compile(r"^# topic_prefix = .*$", re.MULTILINE)
_SINCE = re.compile(r"^# (since = )", re.MULTILINE)
_PERIOD_AND_SINCE = re.compile(r"""^(period = "(\w+)")\n# since = .*$""", re.MULTILINE)


def configuration_text(
    *, since: dt.date | None = None, with_history: bool = False, log: str = DEFAULT_LOG, topic_prefix: str = ""
) -> str:
    """Return a commented configuration with the starting catalogue of casework.

    With `since` each population begins with its first whole period from that day on. `with_history` uncomments the
    dates to which the published figures go back. `log` and `topic_prefix` are written
    unquoted: they hold nothing that TOML would read in another way.
    """
    head = resources.files("quietcount_consumers").joinpath("quietcount.toml").read_text(encoding="utf-8")
    catalogue = resources.files("quietcount_aggregates").joinpath("casework.toml").read_text(encoding="utf-8")
    if since is not None:
        catalogue = _PERIOD_AND_SINCE.sub(lambda found: _beginning(found, since), catalogue)
    elif with_history:
        catalogue = _SINCE.sub(r"\1", catalogue)
    head = head.replace(f'log = "{DEFAULT_LOG}"\n', f'log = "{log}"\n')
    if topic_prefix:
        head = _TOPIC_PREFIX.sub(f'topic_prefix = "{topic_prefix}"', head)
    return f"{head}\n{catalogue}"


def _beginning(found: re.Match[str], since: dt.date) -> str:
    period = Period(found[2])
    start = period.start(since)
    return f"{found[1]}\nsince = {start if start == since else period.next(since)}"


def create_project(
    folder: Path,
    *,
    since: dt.date | None = None,
    with_history: bool = False,
    log: str = DEFAULT_LOG,
    topic_prefix: str = "",
) -> list[Path]:
    """Write quietcount.toml and the secrets into `folder` and return their paths; nothing is ever overwritten.

    Raises ServiceError if any of them is there already, or cannot be written.
    """
    configuration = folder / "quietcount.toml"
    secrets = folder / "secrets"
    pepper, service, signing = secrets / "pepper", secrets / "service", secrets / "service-signing"
    for path in (configuration, pepper, service, signing):
        if path.exists():
            raise ServiceError(f"{path}: exists already and is not overwritten", "Choose another folder")
    made: list[Path] = []
    new_folders = [each for each in (secrets, *secrets.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        make_private_folder(secrets)
        text = configuration_text(since=since, with_history=with_history, log=log, topic_prefix=topic_prefix)
        # The configuration last: a folder that has one is a finished project.
        for path, write in (
            (pepper, Pepper.generate),
            (service, ConsumerSecret.generate),
            (signing, SigningKey.generate),
            (configuration, lambda path: write_file(path, text.encode())),
        ):
            write(path)
            made.append(path)
    except BaseException as error:
        # Half a project would stop the next attempt, which overwrites nothing.
        for path in made:
            path.unlink(missing_ok=True)
        for path in new_folders:  # the innermost first
            with contextlib.suppress(OSError):
                path.rmdir()
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(cause, OSError):
            raise _explained(folder, cause) from None
        raise
    return [configuration, pepper, service, signing]


def _explained(folder: Path, error: OSError) -> ServiceError:
    if error.errno in _NO_SPACE:
        return ServiceError(f"{folder}: the disk is full", "Free space and run again. Nothing was left behind")
    return ServiceError(
        f"{folder}: the project cannot be written ({os.strerror(error.errno or 0)})",
        "Choose another folder or correct its rights",
    )
