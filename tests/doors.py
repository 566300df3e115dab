"""Doors: projects whose `quietcount receive` takes deliveries, in this process or in one of its own."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tests import forking

from quietcount_producers import EmbeddedLog, Pepper
from quietcount_producers.receiving.application import Application, Door
from quietcount_producers.receiving.places import Places
from quietcount_producers.receiving.reception import Reception
from quietcount_producers.receiving.settings import ReceiverSettings
from quietcount_producers.settings import EmitterSettings
from quietcount_schemas.codec import Codec
from quietcount_schemas.log import CASE_EVENTS
from quietcount_schemas.registry import SchemaRegistry

__all__ = [
    "MAPPING",
    "TOKEN",
    "Answer",
    "Served",
    "ask",
    "basic",
    "configured",
    "delivery",
    "event_ids",
    "inside",
    "reception_of",
    "refused",
]

TOKEN = "5ec2e7" * 6

MAPPING = """
source = "intake form"
case = "person"
record = "_uuid"
ignore = "all others"

[[event]]
event = "HelpRequested"
occurred_on = "day"
[event.fields.help_kind]
column = "kind"
values = { "deserted" = "DESERTION", "advice" = "LEGAL_AID" }
"""

_T = TypeVar("_T")


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def configured(folder: Path, *, paths: Iterable[str] = ("/kobo",), more: str = "", mapping: str = MAPPING) -> Path:
    """Make a project with a pepper, a mapping and a token for all `paths`; return its configuration file."""
    tables = "".join(
        f'[[receive.path]]\npath = "{path}"\nmapping = "kobo.toml"\ntoken_file = "secrets/token"\n' for path in paths
    )
    config = folder / "quietcount.toml"
    config.write_text(f'[emitter]\nspool = "spool"\n[receive]\nlisten = "127.0.0.1:0"\n{more}\n{tables}')
    (folder / "kobo.toml").write_text(mapping)
    (folder / "secrets").mkdir(exist_ok=True)
    if not (folder / "secrets" / "pepper").exists():
        Pepper.generate(folder / "secrets" / "pepper")
    token = folder / "secrets" / "token"
    token.touch(0o600)
    token.write_text(f"{TOKEN}\n")
    return config


def delivery(number: int, **others: object) -> dict[str, object]:
    """A submission as KoboToolbox sends it; `number` tells it from others."""
    record = {"_uuid": f"uuid:{number}", "person": f"person {number}", "day": "2023-10-03", "kind": "advice"}
    return {**record, "_id": number, "__version__": "v1", **others}


def basic(token: str, user: str = "kobo") -> str:
    return "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()


def reception_of(config: Path) -> Reception:
    return Reception(ReceiverSettings.load(config, {}), EmitterSettings.load(config, {}))


def inside(config: Path, scene: Callable[[Application], Awaitable[_T]]) -> _T:
    """Open the door of `config` in this process without a socket, and return what `scene` does with it."""

    async def run() -> _T:
        with reception_of(config) as reception:
            doors = {path: Door(tokens, reception.taker(path)) for path, tokens in reception.tokens.items()}
            return await scene(Application(doors, Places(asyncio.get_running_loop().call_later)))

    return asyncio.run(run())


async def ask(
    application: Application,
    body: bytes = b"",
    *,
    path: str = "/kobo",
    method: str = "POST",
    headers: Iterable[tuple[str, str]] = (("authorization", f"Bearer {TOKEN}"),),
    pieces: int = 1,
) -> Answer:
    """Ask `application` as uvicorn would; the body comes in `pieces`."""
    sent: list[dict[str, Any]] = []
    size = -(-len(body) // pieces) or 1
    parts = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages[-1]["more_body"] = False
    waiting = iter([*messages, {"type": "http.disconnect"}])

    async def receive() -> dict[str, Any]:
        return next(waiting)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "raw_path": path.encode(),
        "query_string": b"",
        "client": ("127.0.0.1", 1),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }
    await application(scope, receive, send)
    start, end = sent
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], found, end["body"])


def event_ids(folder: Path) -> list[bytes]:
    """The ids of all events in the embedded log, in its order."""
    codec = Codec(SchemaRegistry.load())
    with EmbeddedLog(folder / "data" / "private" / "store" / "log.sqlite", create=False) as log:
        records = log.poll(CASE_EVENTS, log.beginning_offsets(CASE_EVENTS), log.end_offsets(CASE_EVENTS), 10**7)
    return [codec.decode(record.value).event_id for record in records]


def refused(folder: Path, name: str = "kobo") -> list[dict[str, Any]]:
    """The lines that lie in the private file of a path."""
    file = folder / "spool" / "refused" / f"{name}.jsonl"
    return [json.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []


class Served:
    """`quietcount receive` in a process of its own; a context manager that ends it."""

    def __init__(self, config: Path, *, tls: ssl.SSLContext | None = None) -> None:
        self.said = config.with_name(f"said-{time.monotonic_ns()}")
        with self.said.open("wb") as stderr:
            source = "from quietcount_schemas.cli import main; main()"
            self.process: subprocess.Popen[bytes] = forking.Popen(
                [sys.executable, "-c", source, "receive", "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        self._tls = tls
        until = time.monotonic() + 60
        while not (found := re.match(r"Listening on https?://127\.0\.0\.1:(\d+)", self.said.read_text())):
            assert self.process.poll() is None, self.said.read_text()
            assert time.monotonic() < until, "it does not listen"
            time.sleep(0.01)
        self.port = int(found[1])

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()

    def connection(self) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self._tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def post(self, body: bytes, path: str = "/kobo", token: str = TOKEN) -> Answer:
        """Deliver once, over a connection of its own. Raises OSError or HTTPException if no answer comes."""
        connection = self.connection()
        try:
            connection.request("POST", path, body, {"Authorization": basic(token), "Content-Type": "application/json"})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def end(self) -> tuple[int, str]:
        """Ask it to end; return its exit code and what it said."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60), self.said.read_text()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)
