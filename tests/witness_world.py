"""A world of witnesses: a ledger in memory that grows, its owner's signature, and a door in this process."""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from tests.aggregates_world import MemoryLedger, signing_key
from tests.unit.aggregates.ledger.ledgers import END, NOW, ONE, of

from quietcount_aggregates.description import Description
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Described
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.signed_heads import sign_head
from quietcount_aggregates.ledger.signed_notes import SignedNote, SigningKey
from quietcount_consumers.witnessing.door import Application
from quietcount_consumers.witnessing.partner import Partner
from quietcount_consumers.witnessing.requests import Request
from quietcount_producers.receiving.places import Places
from quietcount_producers.receiving.server import configuration

__all__ = ["Owner", "partner_in", "served"]


class Owner:
    """A project's ledger, in memory, with one population; `grow` appends entries, of the given wording."""

    def __init__(self, number: int = 1, grown: int = 0, key: SigningKey | None = None) -> None:
        self.key = key or signing_key(number)
        self.ledger = Ledger(MemoryLedger(), self.key.public)
        self.ledger.fence()
        self.ledger.declare([of("asked")], ONE, NOW, end=END)
        self.grow(grown)

    @property
    def chain(self) -> Chain:
        return self.ledger.chain

    @property
    def note(self) -> SignedNote:
        return sign_head(self.chain, self.key)

    def grow(self, times: int = 1, word: str = "") -> Owner:
        """Append an entry so often; another `word` makes another history."""
        for _ in range(times):
            said = f"{word}{len(self.chain.entries)}"
            description = Description(dt.timedelta(0), publisher=said)
            self.ledger.append([Described(description)], NOW)
        return self

    def request(self, old: int = 0) -> Request:
        """Return the request for all entries from `old` on."""
        return Request(old, tuple(entry.data for entry in self.chain.entries[old:]), self.note)


def partner_in(folder: Path, name: str = "partner.example/w1", *owners: Owner) -> Partner:
    """Make a witness that knows the keys of `owners`."""
    partner = Partner.create(folder, name)
    for owner in owners:
        partner.trust(owner.chain.signer)
    return partner


@contextlib.contextmanager
def served(partner: Partner) -> Iterator[str]:
    """Serve a witness in a thread of this process; the value is its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        servers: list[uvicorn.Server] = []
        started = threading.Event()

        def run() -> None:
            import asyncio

            async def serve() -> None:
                places = Places(asyncio.get_running_loop().call_later)
                servers.append(uvicorn.Server(configuration(Application(partner, places), places)))
                started.set()
                await servers[0].serve(sockets=[listener])

            asyncio.run(serve())

        thread = threading.Thread(target=run)
        thread.start()
        started.wait()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            servers[0].should_exit = True
            thread.join()
