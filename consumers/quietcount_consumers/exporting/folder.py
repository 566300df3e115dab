"""The folder of an export: written as a whole beside the old one, and put in its place in one step.

A reader meets the earlier export or this one, also if the process is killed at any moment.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import glob
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from quietcount_consumers.errors import ConsumersError
from quietcount_consumers.exporting.data_package import DATA_PACKAGE, GENERATOR
from quietcount_schemas.private_files import sync_folder

__all__ = ["ExportError", "replacing"]

_FILES: Final = ("README.md", DATA_PACKAGE, "metadata.json", "statistics.sqlite")
"""Beside the tables, which the Data Package of an export lists."""

_AT_CURRENT_FOLDER: Final = -100
"""AT_FDCWD of Linux: paths are those of the process."""
_EXCHANGE: Final = 2
"""RENAME_EXCHANGE of Linux: both names stay, each with what the other had."""


class ExportError(ConsumersError):
    """An export that cannot be written; what was there is as it was."""


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Lend a new folder to write into; in the end it stands at `folder`, in the place of an earlier export.

    Raises ExportError if something else is there, or if it cannot be written.
    """
    place = Path(os.path.realpath(folder))  # of a link, what it leads to is replaced
    try:
        _check(place, folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        _clear(place)
        draft = place.with_name(f"{_beginning(place)}{secrets.token_hex(4)}")
        draft.mkdir()
    except OSError as error:
        raise _explained(folder, error) from None
    try:
        with _held(draft):
            yield draft
            _sync(draft)
            _swap(draft, place)
            sync_folder(place.parent)
    except OSError as error:
        raise _explained(folder, error) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # the draft, or what stood in its place before


def _check(place: Path, named: Path) -> None:
    """Refuse a folder that holds anything but an earlier export."""
    if not place.exists():
        return
    found = sorted(each.relative_to(place) for each in place.rglob("*") if not each.is_dir() or each.is_symlink())
    if not found and not any(place.iterdir()):
        return
    written = _written(place)
    if written is None:
        raise ExportError(f"{named}: is not empty, and not an earlier export", "Name a new folder, or an empty one")
    foreign = [each for each in found if each not in written]
    if foreign:
        raise ExportError(
            f"{named}: holds {foreign[0]}, which no export wrote and which would be lost",
            "Move it away, or name another folder",
        )


def _written(place: Path) -> set[Path] | None:
    """Return the files of the export that stands there, by its own list; None if there is no export."""
    try:
        package = json.loads((place / DATA_PACKAGE).read_bytes())
        if package["generator"] != GENERATOR:
            return None
        tables = [Path(each["path"]) for each in package["resources"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    parquet = [Path("parquet") / f"{each.stem}.parquet" for each in tables]
    return {*map(Path, _FILES), *tables, *parquet}


def _beginning(place: Path) -> str:
    return f".{place.name}.export-"


def _clear(place: Path) -> None:
    """Remove what exports left here that were killed; one that is at work holds its draft."""
    for leftover in place.parent.glob(f"{glob.escape(_beginning(place))}*"):
        with contextlib.suppress(OSError), _held(leftover):
            shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def _held(draft: Path) -> Iterator[None]:
    """Hold a draft against other exports. Raises OSError if another one holds it."""
    descriptor = os.open(draft, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _sync(draft: Path) -> None:
    for path in [*draft.rglob("*"), draft]:
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _swap(draft: Path, place: Path) -> None:
    """Put the draft in its place; what stood there stands where the draft was."""
    if not place.exists() or not any(place.iterdir()):
        draft.rename(place)
        return
    if _exchanged(draft, place):
        return
    # A system without an exchange: for a moment there is no folder, and never a half one.
    aside = draft.with_name(f"{draft.name}-before")
    place.rename(aside)
    try:
        draft.rename(place)
    except OSError:
        aside.rename(place)
        raise
    aside.rename(draft)


def _exchanged(draft: Path, place: Path) -> bool:
    """Let the two folders change places in one step; False if the system or its file system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    if rename(_AT_CURRENT_FOLDER, os.fsencode(draft), _AT_CURRENT_FOLDER, os.fsencode(place), _EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(place))


def _explained(folder: Path, error: OSError) -> ExportError:
    reason = os.strerror(error.errno or 0)
    if error.errno in (errno.EBUSY, errno.EXDEV):
        return ExportError(
            f"{folder}: cannot be replaced ({reason})", "If it is a mount point, name a folder within it"
        )
    return ExportError(
        f"{folder}: cannot be written ({reason})",
        "Make room, or correct the rights of the folder around it, then run again. What was there is unchanged",
    )
