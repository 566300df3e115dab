"""Projects that name witnesses and published copies, and what becomes of them in this process."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.catalogues import catalogue, statistic
from tests.e2e.projects import Cell, Project
from tests.witness_world import partner_in, served

from quietcount_aggregates.ledger.signed_heads import signer_of
from quietcount_aggregates.ledger.signed_notes import VerifierKey
from quietcount_consumers.opening import open_service
from quietcount_consumers.wiring import prepare_folders, signing_key_of
from quietcount_consumers.witnessing.partner import Partner

__all__ = ["DECLARED", "FEBRUARY", "JANUARY", "Witnessed", "at", "away", "section"]

DECLARED = "2023-02-01"
JANUARY = "2023-02-08"
"""From then on January is due."""
FEBRUARY = "2023-03-08"
"""From then on February is due."""


def at(day: str) -> dt.datetime:
    return dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC)


def away() -> str:
    """Return an address at which nobody listens."""
    return "http://127.0.0.1:1"


def section(*, require: int, copies: Sequence[object], witnesses: Sequence[tuple[VerifierKey, str | None]]) -> str:
    """Return the section of a configuration that names copies, and witnesses by their keys and addresses."""
    lines = ["[witnesses]", f"require = {require}", f"copies = {json.dumps([str(each) for each in copies])}"]
    for key, url in witnesses:
        lines += ["[[witnesses.witness]]", f'key = "{key.text}"']
        lines += [] if url is None else [f'url = "{url}"']
    return "\n".join([*lines, ""])


class Witnessed:
    """A project, and the partners that it may name. Its noise is so wide that no two draws of a month are alike."""

    def __init__(self, folder: Path, partners: int = 0) -> None:
        self.project = Project(
            folder / "p", catalogue(statistic("requests", "HelpRequested", by="help_kind", epsilon=0.01))
        )
        self._written = self.project.config.read_text()
        prepare_folders(self.project.configuration)
        key = signer_of(signing_key_of(self.project.configuration).public)
        self.partners = [partner_in(folder / f"w{n}", f"partner.example/w{n}") for n in range(1, partners + 1)]
        for partner in self.partners:
            partner.trust(key)
        self.said: list[str] = []

    def name(
        self, *, require: int = 0, copies: Sequence[object] = (), urls: Sequence[str | None] | None = None
    ) -> Witnessed:
        """Write into the configuration who watches; `urls` are those of the partners, in their order."""
        witnesses = [(each.verifier_key, url) for each, url in zip(self.partners, urls or [], strict=False)]
        self.project.config.write_text(
            f"{self._written}\n{section(require=require, copies=copies, witnesses=witnesses)}"
        )
        return self

    def work(self, day: str) -> list[str]:
        """Do what `run --until-idle` does at a day; return the names of the events that were said."""
        said: list[str] = []
        with open_service(self.project.configuration, at(day), say=lambda event: said.append(event.name)) as service:
            service.tick(at(day))
            service.show()
        return said

    def snapshot(self, folder: Path) -> None:
        """Copy the project as it is: data, ledger and secrets."""
        shutil.copytree(self.project.folder, folder)

    def put_back(self, folder: Path) -> None:
        """Put everything back as it was, but for the configuration."""
        text = self.project.config.read_text()
        shutil.rmtree(self.project.folder)
        shutil.copytree(folder, self.project.folder)
        self.project.config.write_text(text)

    def published(self) -> dict[Cell, int]:
        return self.project.released() if self.project.public.exists() else {}

    @contextlib.contextmanager
    def serving(self, *numbers: int) -> Iterator[list[str | None]]:
        """Serve some of the partners (counted from 0); the value is an address of each partner, also of those away."""
        urls: list[str | None] = [away()] * len(self.partners)
        with contextlib.ExitStack() as stack:
            for number in numbers:
                urls[number] = stack.enter_context(served(self.partners[number]))
            yield urls

    def reopened(self, number: int, folder: Path) -> Partner:
        """Return a partner as another process sees it."""
        return Partner(folder / f"w{number + 1}")
