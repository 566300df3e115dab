"""The reception: the parts behind the door, opened together from the configuration and closed in order.

What an operator hears of it is said at the start and after each midnight (UTC). A line at another moment would show
when something came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

from quietcount_producers.errors import ProducersError
from quietcount_producers.mapping import Mapping as EventMapping
from quietcount_producers.receiving.intake import Intake
from quietcount_producers.receiving.refusals import Refusals
from quietcount_producers.receiving.settings import PathSettings, ReceiverSettings
from quietcount_producers.receiving.tokens import Tokens
from quietcount_producers.settings import EmitterSettings, open_log
from quietcount_producers.spool.event_spool import EventSpool
from quietcount_producers.spool.relay import Relay
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["Reception"]

RELAY_WAIT: Final = 5.0
"""Seconds that closing waits for the relay. What it has not sent then stays in the spool."""

_REFUSED: Final = "refused"
"""The folder of refused records, in the spool's. Files come and go there, which shows in no folder that others see."""


class Reception:
    """Takes deliveries by path, stores them in the spool, and sends them on; a context manager.

    Making one reads the mappings, the tokens and the pepper. Entering it opens the spool and begins to send. Both raise
    QuietcountError.
    """

    def __init__(self, settings: ReceiverSettings, emitter: EmitterSettings) -> None:
        if emitter.spool is None:
            raise ProducersError(f"{emitter.config}: there is no spool", "Name a folder for it: key 'emitter.spool'")
        self._emitter = emitter
        self._folder = emitter.spool
        registry = emitter.registry()
        self._composer = emitter.composer(registry)
        self._mappings = {each.path: _mapping(each, registry) for each in settings.paths}
        self.tokens: dict[str, Tokens] = {each.path: each.tokens(settings.config) for each in settings.paths}
        """Who may deliver, by path."""
        self._refusals = {each.path: Refusals(self._folder / _REFUSED / _file_of(each.path)) for each in settings.paths}
        self._intakes: dict[str, Intake] = {}
        self._thread: ThreadPoolExecutor
        self._resources = ExitStack()

    def __enter__(self) -> Reception:
        with ExitStack() as resources:
            spool = resources.enter_context(EventSpool(self._folder))
            for path, mapping in self._mappings.items():
                self._refusals[path].prepare()
                self._intakes[path] = Intake(mapping, self._composer, spool, self._refusals[path])
            relay = Relay(self._folder, lambda: open_log(self._emitter))
            relay.start()
            resources.callback(relay.stop, RELAY_WAIT)
            # One thread: two would wait for each other at the spool, and what they compose takes no time beside it.
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="quietcount-receive")
            resources.callback(self._thread.shutdown)
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def taker(self, path: str) -> Callable[[bytes], Awaitable[None]]:
        """Return what takes a body that came to `path`, and returns when it is on the disk. It raises LogError."""
        intake = self._intakes[path]

        async def take(body: bytes) -> None:
            await asyncio.get_running_loop().run_in_executor(self._thread, intake.take, body)

        return take

    def standing(self) -> Iterator[str]:
        """Yield what an operator has to know, a sentence each: which paths refused something, and whether events wait.

        Days alone, because anything finer would show when something came.
        """
        for path, refusals in self._refusals.items():
            day = refusals.since()
            if day is not None:
                yield (
                    f"Since {day} (UTC), {path} has refused something. Move {refusals.file} away, mend it, and run: "
                    f"quietcount emit FILE --mapping {self._mappings[path].name}"
                )
        if not EventSpool.exists(self._folder):
            return
        with EventSpool(self._folder, create=False) as spool:
            since = spool.state().waiting_since
        if since is not None:
            yield f"The log does not take events. They wait in the spool, which has not been empty since {since} (UTC)."


def _mapping(settings: PathSettings, registry: SchemaRegistry) -> EventMapping:
    mapping = EventMapping.load(settings.mapping, registry)
    if not mapping.names_records:
        raise ProducersError(
            f"{settings.mapping}: key 'record' is missing, and {settings.path} needs it: a tool that does not hear the "
            "answer delivers again, and the second delivery would count, too",
            "Write which key of the tool's JSON names the record",
        )
    return mapping


def _file_of(path: str) -> str:
    return f"{path.removeprefix('/').replace('/', '+')}.jsonl"
