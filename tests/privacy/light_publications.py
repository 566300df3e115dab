"""A light public file in the place of the real one, for trials that publish a thousand times."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import duckdb

from quietcount_aggregates import release
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Released
from quietcount_aggregates.publication import publication
from quietcount_consumers.maintenance import recovery
from quietcount_consumers.witnessing import publication as witnessed

__all__ = ["light_publications"]


@contextlib.contextmanager
def light_publications() -> Iterator[None]:
    """Publish what the ledger holds without margins, views and macros: they take most of a release's time."""

    def publish(chain: Chain, path: Path, signed_head: str = "", *_: object) -> None:
        draft = path.with_name(f"{path.name}.next")
        head = chain.head
        bodies = [entry.body for entry in chain.entries]
        with duckdb.connect(str(draft)) as connection:
            connection.execute("CREATE TABLE about (key VARCHAR, value VARCHAR)")
            rows = [
                ("ledger_length", str(head.length)),
                ("ledger_head", head.digest.hex()),
                ("signed_head", signed_head),
            ]
            connection.executemany("INSERT INTO about VALUES (?, ?)", rows)
            connection.execute('CREATE TABLE ledger ("index" BIGINT, entry BLOB)')
            connection.executemany(
                "INSERT INTO ledger VALUES (?, ?)", [(each.index, each.data) for each in chain.entries]
            )
            connection.execute("CREATE TABLE statistics (statistic VARCHAR, period_start DATE, noisy BIGINT)")
            for body in bodies:
                if isinstance(body, Released):
                    row = [body.statistic, body.period_start, body.values[0]]
                    connection.execute("INSERT INTO statistics VALUES (?, ?, ?)", row)
        draft.replace(path)

    with contextlib.ExitStack() as stack:
        for module in (publication, release, recovery, witnessed):
            stack.enter_context(mock.patch.object(module, "publish", publish))
        yield
