"""The template: the public file before anything is published, with its tables, its macros, and what they mean.

DuckDB takes a quarter of a second to parse the macros, and a command that publishes should not. So the template is kept
beside Python's own compiled files, as what it is: compiled from the SQL here, by one version of DuckDB.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import tempfile
from importlib import resources
from pathlib import Path
from typing import Final

import duckdb

from quietcount_aggregates.publication.published_bytes import REPEATABLE, detach
from quietcount_aggregates.questions import expanded, macros

__all__ = ["STORAGE_VERSION", "sql_of", "template"]

STORAGE_VERSION: Final = "v1.2.0"
"""The storage version that DuckDB 1.2 and every later one reads."""

_KEPT: Final = Path(__file__).with_name("__pycache__")


@functools.cache
def template() -> bytes:
    """Return the bytes of the public file before anything is published. Raises duckdb.Error if it cannot be built."""
    statements = sql_of("projection.sql") + sql_of("metadata.sql") + macros() + expanded(sql_of("dictionary.sql"))
    made_of = f"{duckdb.__version__}\n{STORAGE_VERSION}\n{REPEATABLE}\n{statements}"
    kept = _KEPT / f"statistics.{_digest(made_of.encode())[:16]}.duckdb"
    with contextlib.suppress(OSError):
        whole = kept.read_bytes()
        content, digest = whole[:-64], whole[-64:]
        if digest.decode(errors="replace") == _digest(content):  # else its disk lost a part of it
            return content
    content = _built(statements)
    with contextlib.suppress(OSError):  # an installation may be for reading only
        _keep(kept, content + _digest(content).encode())
    return content


def _built(statements: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="quietcount-template-") as folder:
        path = Path(folder) / "statistics.duckdb"
        with duckdb.connect(":memory:") as connection:
            connection.execute(REPEATABLE)
            connection.execute(f"ATTACH '{path}' AS public (STORAGE_VERSION '{STORAGE_VERSION}')")
            connection.execute("USE public")
            connection.execute(statements)
            tables = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
            detach(connection, path, [name for (name,) in tables])
        return path.read_bytes()


def sql_of(name: str) -> str:
    """Return the text of one of the SQL files beside this module."""
    return resources.files("quietcount_aggregates").joinpath("publication", name).read_text(encoding="utf-8")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _keep(path: Path, content: bytes) -> None:
    """Write a file whole: another process may write it, too, and this one may be killed."""
    path.parent.mkdir(exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
    except OSError:
        Path(draft).unlink(missing_ok=True)
        raise
