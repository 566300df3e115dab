"""A new project: a commented configuration, and secrets with the right modes."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from quietcount_aggregates.marks import ConsumerSecret
from quietcount_consumers.errors import ServiceError
from quietcount_producers.pseudonyms import Pepper
from quietcount_schemas.configuration import DEFAULT_LOG

__all__ = ["configuration_text", "create_project"]

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TOPIC_PREFIX = re.compile(r"^# topic_prefix = .*$", re.MULTILINE)
_SINCE = re.compile(r"^# (since = )", re.MULTILINE)


def configuration_text(*, with_history: bool = False, log: str = DEFAULT_LOG, topic_prefix: str = "") -> str:
    """Return a commented configuration with the starting catalogue of casework.

    `with_history` uncomments the dates since when the published figures go back. `log` and `topic_prefix` are written
    as they are: they hold nothing that TOML would read otherwise.
    """
    head = resources.files("quietcount_consumers").joinpath("quietcount.toml").read_text(encoding="utf-8")
    catalogue = resources.files("quietcount_aggregates").joinpath("casework.toml").read_text(encoding="utf-8")
    if with_history:
        catalogue = _SINCE.sub(r"\1", catalogue)
    head = head.replace(f'log = "{DEFAULT_LOG}"\n', f'log = "{log}"\n')
    if topic_prefix:
        head = _TOPIC_PREFIX.sub(f'topic_prefix = "{topic_prefix}"', head)
    return f"{head}\n{catalogue}"


def create_project(
    folder: Path, *, with_history: bool = False, log: str = DEFAULT_LOG, topic_prefix: str = ""
) -> list[Path]:
    """Write quietcount.toml and the secrets into `folder` and return their paths; nothing is ever overwritten.

    Raises ServiceError if any of them is there already, or cannot be written.
    """
    configuration = folder / "quietcount.toml"
    secrets = folder / "secrets"
    pepper, service = secrets / "pepper", secrets / "service"
    for path in (configuration, pepper, service):
        if path.exists():
            raise ServiceError(f"{path}: exists already and is not overwritten; choose another folder")
    made: list[Path] = []
    new_folders = [each for each in (secrets, *secrets.parents) if not each.exists()]
    try:
        secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        secrets.chmod(0o700)
        _put(pepper, made, Pepper.generate)
        _put(service, made, ConsumerSecret.generate)
        text = configuration_text(with_history=with_history, log=log, topic_prefix=topic_prefix)
        # Last: a folder with a configuration is a finished project.
        _put(configuration, made, lambda draft: draft.write_text(text, encoding="utf-8"))
    except BaseException as error:
        # Half a project would stop the next attempt, which overwrites nothing.
        for path in made:
            path.unlink(missing_ok=True)
        for path in new_folders:  # the innermost first
            with contextlib.suppress(OSError):
                path.rmdir()
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(cause, OSError):
            raise ServiceError(_explained(folder, cause)) from None
        raise
    return [configuration, pepper, service]


def _explained(folder: Path, error: OSError) -> str:
    if error.errno in _NO_SPACE:
        return f"{folder}: the disk is full; make room and run again. Nothing was left behind"
    return (
        f"{folder}: the project cannot be written ({os.strerror(error.errno or 0)}); choose another folder or mend its "
        "rights"
    )


def _put(path: Path, made: list[Path], write: Callable[[Path], object]) -> None:
    """Write a file, whole or not at all and never over another, and add its path to `made`."""
    draft = path.with_name(f".{path.name}.new-{os.getpid()}")
    try:
        write(draft)
        os.link(draft, path)  # unlike a rename, never replaces
        made.append(path)
    finally:
        draft.unlink(missing_ok=True)
