"""A new project: a commented configuration, and secrets with the right modes."""

from __future__ import annotations

import os
import re
from importlib import resources
from pathlib import Path

from quietcount_aggregates.marks import ConsumerSecret
from quietcount_producers.pseudonyms import Pepper

from .errors import ServiceError

__all__ = ["configuration_text", "create_project"]

_SINCE = re.compile(r"^# (since = )", re.MULTILINE)


def configuration_text(*, with_history: bool = False) -> str:
    """Return a commented configuration with the starting catalogue of casework.

    `with_history` uncomments the dates since when the published figures go back.
    """
    head = resources.files("quietcount_consumers").joinpath("quietcount.toml").read_text(encoding="utf-8")
    catalogue = resources.files("quietcount_aggregates").joinpath("casework.toml").read_text(encoding="utf-8")
    if with_history:
        catalogue = _SINCE.sub(r"\1", catalogue)
    return f"{head}\n{catalogue}"


def create_project(folder: Path, *, with_history: bool = False) -> list[Path]:
    """Write quietcount.toml and the secrets into `folder` and return their paths; nothing is ever overwritten.

    Raises ServiceError if any of them is there already, or cannot be written.
    """
    configuration = folder / "quietcount.toml"
    secrets = folder / "secrets"
    pepper, service = secrets / "pepper", secrets / "service"
    for path in (configuration, pepper, service):
        if path.exists():
            raise ServiceError(f"{path}: exists already and is not overwritten; choose another folder")
    try:
        secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        secrets.chmod(0o700)
        Pepper.generate(pepper)
        ConsumerSecret.generate(service)
        # Last, and whole or not at all: a folder with a configuration is a finished project.
        draft = configuration.with_name(".quietcount.toml.new")
        draft.write_text(configuration_text(with_history=with_history), encoding="utf-8")
        draft.replace(configuration)
    except OSError as error:
        raise ServiceError(
            f"{folder}: the project cannot be written ({os.strerror(error.errno or 0)}); choose another folder or "
            "mend its rights"
        ) from None
    return [configuration, pepper, service]
