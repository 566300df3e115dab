"""A Schema Registry of a test's own, small and honest unless told otherwise: how a registry can be wrong is its point.

It shows what quietcount says of a registry that lies, refuses or is none. That a real one is spoken to rightly is shown
with Apicurio Registry.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Any]


@dataclass
class StandIn:
    """What the registry holds, and what it was asked. A test changes what it holds, or what it answers."""

    url: str = ""
    schemas: list[str] = field(default_factory=list)
    """By id, from 1 on, the text of the schema."""
    subjects: dict[str, list[int]] = field(default_factory=dict)
    levels: dict[str, str] = field(default_factory=dict)
    forced: dict[tuple[str, str], Answer] = field(default_factory=dict)
    """By method and the beginning of a path, the status and the answer: JSON, or bytes as they are."""
    first_id: int = 1
    asked: list[tuple[str, str]] = field(default_factory=list)
    passwords: list[str | None] = field(default_factory=list)
    location: str | None = None

    def answer(self, method: str, path: str, body: Any) -> Answer:
        for (forced_method, beginning), answer in self.forced.items():
            if method == forced_method and path.startswith(beginning):
                return answer
        match [method, *path.strip("/").split("/")]:
            case ["GET", "subjects"]:
                return 200, sorted(self.subjects)
            case ["PUT", "config", subject]:
                self.levels[subject] = body["compatibility"]
                return 200, body
            case ["GET", "config", subject] if subject in self.levels:
                return 200, {"compatibilityLevel": self.levels[subject]}
            case ["POST", "subjects", subject, "versions"]:
                if body["schema"] not in self.schemas:
                    self.schemas.append(body["schema"])
                number = self.schemas.index(body["schema"]) + self.first_id
                versions = self.subjects.setdefault(subject, [])
                if number not in versions:
                    versions.append(number)
                return 200, {"id": number}
            case ["GET", "schemas", "ids", number, "versions"]:
                held = [subject for subject, versions in self.subjects.items() if int(number) in versions]
                return 200, [{"subject": subject, "version": 1} for subject in held]
            case ["GET", "schemas", "ids", number]:
                index = int(number) - self.first_id
                if 0 <= index < len(self.schemas):
                    return 200, {"schema": self.schemas[index]}
            case _:
                pass
        return 404, {"error_code": 404, "message": "nothing there"}


@contextmanager
def stand_in(context: ssl.SSLContext | None = None) -> Iterator[StandIn]:
    """Serve a registry on a free port of this machine, over TLS with `context`."""
    state = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            state.asked.append((self.command, self.path))
            state.passwords.append(self.headers.get("Authorization"))
            status, answer = state.answer(self.command, self.path, json.loads(body) if body else None)
            raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            if state.location is not None:
                self.send_header("Location", state.location)
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_PUT = do_POST = handle_any  # noqa: N815 (the names are the base class's)

        def log_message(self, *_: Any, **__: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that does not trust us hangs up, as it should

    server = Server(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
