"""Those outside of the machine who may know how far the ledger went: a published copy, and a partner's witness.

Whatever is put back on the machine, they are not. The configuration names both, one or none of them, and is not put
back either: whoever writes it decides who is asked.
"""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

import duckdb
from tests.e2e.projects import Project
from tests.witness_world import partner_in, served
from tests.witnessed_projects import away, section

from quietcount_aggregates.ledger.signed_heads import read_head, signer_of
from quietcount_consumers.maintenance.cosigning import request_of
from quietcount_consumers.wiring import signing_key_of

__all__ = ["ELSEWHERE", "Elsewhere"]

ELSEWHERE = ("copy", "partner")


class Elsewhere:
    """A copy of the newest published file or of its signed head, and a witness with an address that has to sign."""

    def __init__(self, project: Project, folder: Path, chance: random.Random) -> None:
        self.named: tuple[str, ...] = ()
        self._project = project
        self._written = project.config.read_text(encoding="utf-8")
        self._copy = folder / chance.choice(("statistics.duckdb", "statistics.head"))
        self._copied = b""
        """The digest of the head that the copy states."""
        self._partner = partner_in(folder / "partner")
        self._key = signer_of(signing_key_of(project.configuration).public)
        self._partner.trust(self._key)
        self._url = ""
        self._away = False
        self._served = contextlib.ExitStack()

    def close(self) -> None:
        self._served.close()

    def name(self, names: Collection[str]) -> None:
        """Have the configuration name these from now on; a copy is named after the first publication."""
        self.named = tuple(names)
        if "partner" in names and not self._url:
            self._url = self._served.enter_context(served(self._partner))
        self._write()

    def published(self, file: Path, digest: bytes) -> None:
        """Copy a new published file, as a web server or a partner does."""
        if self._copy.suffix == ".duckdb":
            shutil.copyfile(file, self._copy)
        else:
            with duckdb.connect(str(file), read_only=True) as connection:
                row = connection.execute("SELECT value FROM about WHERE key = 'signed_head'").fetchone()
            assert row is not None
            self._copy.write_text(row[0], encoding="utf-8")
        first, self._copied = not self._copied, digest
        if first:
            self._write()

    def heads(self) -> Iterator[tuple[str, bytes]]:
        """Yield the digest of the head that each of those named knows."""
        if "copy" in self.named and self._copied:
            yield "copy", self._copied
        if "partner" in self.named and (note := self._partner.checkpoint(self._key.name)) is not None:
            yield "partner", read_head(note)[1].digest

    def restorable(self, file: Path) -> bool:
        """Save what the witness gives back to `file`, if it has anything; return whether it has."""
        request = self._partner.newest(self._key.name) if "partner" in self.named else None
        if request is not None:
            file.write_bytes(request.data)
        return request is not None

    # The partner's keeper

    def leave(self) -> None:
        """Let nobody answer at the witness's address."""
        self._away = True
        self._write()

    def called(self) -> str:
        """Do what the keeper does who is asked why nothing answers; return what it was.

        Raises WitnessRefused if the ledger is not one that continues what was signed.
        """
        if self._away:
            self._away = False
            self._write()
            return "the witness answers again"
        request = request_of(self._project.configuration, 0)
        self._partner.cosign(request, self._partner.unconfirmed(request))
        return "the witness takes the new key"

    def _write(self) -> None:
        witnesses = []
        if "partner" in self.named:
            witnesses.append((self._partner.verifier_key, away() if self._away else self._url))
        copies = [self._copy] if "copy" in self.named and self._copied else []
        text = section(require=len(witnesses), copies=copies, witnesses=witnesses) if self.named else ""
        self._project.config.write_text(f"{self._written}\n{text}", encoding="utf-8")
