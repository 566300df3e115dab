"""Apicurio Registry as a process of a test: a real registry, spoken to by its Confluent-compatible API.

Its artifacts come by Maven, once per machine, as the broker's do; what it holds is in memory and goes with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.kafka import artifacts
from tests.kafka.cluster import free_ports

POM = Path(__file__).with_name("pom.xml")
_STARTING_SECONDS = 120  # it takes 4 s on a machine that does nothing else
_JVM = ("-Xms64m", "-Xmx300m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")


class Apicurio:
    """One registry, with the address of its Confluent-compatible API."""

    def __init__(self, folder: Path) -> None:
        java = artifacts.java()
        assert java is not None, artifacts.WANTED
        (jar,) = artifacts.jars(POM).glob("apicurio-registry-app-*-runner.jar")
        folder.mkdir(parents=True, exist_ok=True)
        self._command = [java, *_JVM, "-jar", str(jar)]
        self._log = folder / "registry.log"
        self._port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}/apis/ccompat/v7"

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        # Where the kernel can do it, it ends with the tests even if those are killed.
        bound = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*bound, *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._log.parent,
                env={**os.environ, "QUARKUS_HTTP_HOST": "127.0.0.1", "QUARKUS_HTTP_PORT": str(self._port)},
                start_new_session=True,
            )
        deadline = time.monotonic() + _STARTING_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/subjects", timeout=5):  # noqa: S310 (our own address)
                    return
            except OSError:
                ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                tail = self._log.read_text(encoding="utf-8", errors="replace")[-4000:]
                self.kill()
                pytest.fail(f"the registry {'ended' if ended else 'did not answer in time'}; it said:\n{tail}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End it at once; what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def schema_registry(
    require: Callable[[bool, str], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Apicurio]:
    """One Apicurio Registry for the whole run of a worker; what a test registers, the next one finds."""
    require(artifacts.obtainable(POM), artifacts.WANTED)
    registry = Apicurio(tmp_path_factory.mktemp("registry"))
    try:
        registry.start()
        yield registry
    finally:
        registry.kill()
