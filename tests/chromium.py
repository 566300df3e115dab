"""A real Chromium without a window, driven over a pipe by its own protocol (CDP): no library and no port.

A page that it opens can ask nobody for anything unnoticed: `requests` has the address of whatever it asked for.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.prometheus.programs import WANTED_BROWSER, browser

__all__ = ["WANTED_BROWSER", "Chromium", "Tab", "browser", "chromium"]

# It asks nobody but the page it is to look at.
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--font-render-hinting=none",
)

Answer = dict[str, Any]
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Chromium:
    """A browser that runs."""

    def __init__(self, process: subprocess.Popen[bytes], commands: int, answers: int) -> None:
        self.process = process
        self._commands = commands
        self._answers = os.fdopen(answers, "rb", buffering=0)
        self._rest = b""
        self._number = 0
        self.events: list[Answer] = []

    def call(self, method: str, parameters: Mapping[str, Any] = NOTHING, session: str = "") -> Answer:
        """Ask for one thing and return its answer; events that come meanwhile are kept."""
        self._number += 1
        asked: Answer = {"id": self._number, "method": method, "params": dict(parameters)}
        if session:
            asked["sessionId"] = session
        os.write(self._commands, json.dumps(asked).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])
            self.events.append(answer)

    def until(self, method: str, session: str) -> None:
        """Wait for an event."""
        while not any(each.get("method") == method and each.get("sessionId") == session for each in self.events):
            self.events.append(self._next())

    def _next(self) -> Answer:
        while b"\0" not in self._rest:
            more = self._answers.read(1 << 20)
            assert more, "Chromium ended"
            self._rest += more
        text, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(text))

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        os.close(self._commands)
        self._answers.close()


class Tab:
    """One page, as somebody sees it on a screen of a certain width."""

    def __init__(
        self,
        browser: Chromium,
        address: str,
        *,
        width: int,
        height: int = 900,
        dark: bool = False,
        scripts: bool = True,
        medium: str = "screen",
    ) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._target = target
        self._session = browser.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime", "DOM", "CSS", "Accessibility"):
            self.call(f"{domain}.enable")
        phone = width < 600
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", {"media": medium, "features": [scheme]})
        self.call("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        self.call("Page.navigate", {"url": address})
        browser.until("Page.loadEventFired", self._session)

    def call(self, method: str, parameters: Mapping[str, Any] = NOTHING) -> Answer:
        return self._browser.call(method, parameters, self._session)

    def value(self, expression: str) -> Any:
        """Return what an expression comes to; it is the browser's own, and no script of the page."""
        answer = self.call("Runtime.evaluate", {"expression": expression, "returnByValue": True})
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    @property
    def requests(self) -> list[str]:
        """Every address that the page asked for."""
        return [each["params"]["request"]["url"] for each in self._events("Network.requestWillBeSent")]

    @property
    def complaints(self) -> list[str]:
        """What stands in the console."""
        logged = [each["params"]["entry"]["text"] for each in self._events("Log.entryAdded")]
        return [*logged, *(json.dumps(each["params"]) for each in self._events("Runtime.exceptionThrown"))]

    def picture(self, path: Path, *, top: int = 0, height: int | None = None) -> None:
        """Take a picture of the page, or of a part of it."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": top, "width": size["width"], "height": height or size["height"] - top, "scale": 1}
        shot = self.call("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": clip})
        path.write_bytes(base64.b64decode(shot["data"]))

    def read_aloud(self) -> Iterator[str]:
        """Yield what a screen reader meets: each role with its name, set in by its depth."""
        nodes = {each["nodeId"]: each for each in self.call("Accessibility.getFullAXTree")["nodes"]}
        root = next(each for each in nodes.values() if "parentId" not in each)
        yield from _aloud(nodes, root, 0)

    def close(self) -> None:
        self._browser.call("Target.closeTarget", {"targetId": self._target})

    def _events(self, method: str) -> list[Answer]:
        return [
            each
            for each in self._browser.events
            if each.get("method") == method and each.get("sessionId") == self._session
        ]


SILENT = ("none", "generic", "InlineTextBox", "LineBreak", "StaticText")


def _aloud(nodes: dict[str, Answer], node: Answer, depth: int, above: str = "") -> Iterator[str]:
    role, name = node.get("role", {}).get("value", ""), node.get("name", {}).get("value", "")
    said = not node.get("ignored") and (role not in SILENT or (role == "StaticText" and name.strip()))
    if said and role == "StaticText":
        if name.strip() not in above:  # a heading, a link and others are named for the text in them
            yield f"{'  ' * depth}“{name.strip()}”"
        return
    if said:
        extra = [
            f"{each['name']} {each['value'].get('value')}"
            for each in node.get("properties", ())
            if each["name"] in ("level", "expanded", "focusable") and each["value"].get("value") is not False
        ]
        yield "  " * depth + role + (f" “{name}”" if name else "") + (f" ({', '.join(extra)})" if extra else "")
    for child in node.get("childIds", ()):
        if child in nodes:
            yield from _aloud(nodes, nodes[child], depth + bool(said), name if said else above)


@contextmanager
def chromium(program: str, profile: Path) -> Iterator[Chromium]:
    """Run a browser with a profile of its own."""
    to_browser, commands = os.pipe()
    answers, from_browser = os.pipe()

    def wired() -> None:  # the browser reads commands at 3 and answers at 4
        # First out of the way: one of the two may be 3 or 4 itself.
        low, high = (fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (to_browser, from_browser))
        os.dup2(low, 3)
        os.dup2(high, 4)

    process = subprocess.Popen(
        [program, *QUIET, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"],
        preexec_fn=wired,  # noqa: PLW1509 nothing else runs in this process meanwhile
        close_fds=False,  # Python opens files so that no child gets them
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    running = Chromium(process, commands, answers)
    try:
        yield running
    finally:
        running.close()
