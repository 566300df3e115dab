"""A server of metrics in a thread of the process that folds: what was before, and the faulty twin of what is.

python served_within.py ARGUMENTS... is `quietcount ARGUMENTS...` with it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from unittest import mock

from uvicorn import Server

from quietcount_consumers.commands import service as commands
from quietcount_consumers.monitoring.application import Application
from quietcount_consumers.monitoring.metrics import pages
from quietcount_consumers.monitoring.places import Places
from quietcount_consumers.monitoring.server_process import configuration
from quietcount_consumers.monitoring.status import Board
from quietcount_consumers.monitoring_settings import MonitoringSettings
from quietcount_schemas.cli import main as quietcount
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.serving.listening import listening

__all__ = ["ServerWithin"]


class ServerWithin:
    """As MonitoringServer, but for a process of its own, and for the reload."""

    def __init__(
        self,
        settings: MonitoringSettings,
        board: Board,
        *,
        left: Callable[[], float] | None = None,
        say: Callable[..., None] | None = None,
    ) -> None:
        assert settings.address is not None
        self._listener = listening(settings.address, settings.port, QuietcountError)
        self._board = board
        self.address: tuple[str, int] | None = self._listener.getsockname()[:2]

    def __enter__(self) -> ServerWithin:
        newest = pages(self._board.view(), None)
        application = Application(lambda: newest)

        def turned() -> None:
            nonlocal newest
            newest = pages(self._board.view(), None)

        async def serve() -> None:
            places = Places(asyncio.get_running_loop().time)
            await Server(configuration(application, places)).serve(sockets=[self._listener])

        self._board.watch(turned)
        threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """It ends with the process."""

    def reload(self) -> None:
        """There is no certificate."""


if __name__ == "__main__":
    mock.patch.object(commands, "MonitoringServer", ServerWithin).start()
    quietcount(sys.argv[1:])
