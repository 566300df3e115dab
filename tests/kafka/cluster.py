"""One or three brokers of Apache Kafka on free ports of the loopback, as a test needs them."""

from __future__ import annotations

import base64
import random
import secrets
import shutil
import socket
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.kafka import artifacts
from tests.kafka.broker import Broker

POM = Path(__file__).resolve().parent / "pom.xml"
STARTING_SECONDS = 90  # it takes 3 on an idle machine; two workers on two busy processors have been slower by far

# What any broker of a test is set to. A value that a trial depends on says so.
COMMON = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    # A transaction that its killed owner left open ends soon after its own timeout, not up to 10 s later.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "unclean.leader.election.enable": "false",
    # A killed broker is noticed, and may come back, within seconds: a trial of many kills takes minutes and not hours.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # Small: the defaults are for machines that do nothing else.
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "log.index.size.max.bytes": "1048576",
    # Purged records leave the disk soon enough for a test to look.
    "log.retention.check.interval.ms": "1000",
    "log.initial.task.delay.ms": "1000",
    "log.segment.delete.delay.ms": "500",
}
ALONE = {
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "log.flush.interval.messages": "1",  # the one copy is on the disk before it is acknowledged
}
REPLICATED = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "controller.quorum.fetch.timeout.ms": "1000",
    "controller.quorum.election.timeout.ms": "500",
    "replica.lag.time.max.ms": "3000",
}


class Cluster:
    """`size` brokers, each a controller too, that were started together. Their data is thrown away at `close`."""

    def __init__(
        self,
        folder: Path,
        size: int = 1,
        *,
        listeners: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        users: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare brokers that listen in plain text, and at `listeners`, security protocols by name."""
        java = artifacts.java()
        assert java is not None, artifacts.WANTED
        jars = artifacts.jars(POM)
        self.folder = folder
        protocols = {"PLAINTEXT": "PLAINTEXT", **(listeners or {}), "CONTROLLER": "PLAINTEXT"}
        ports = free_ports(size * len(protocols))
        self.brokers: list[Broker] = []
        quorum = []
        placed = []
        for number in range(1, size + 1):
            mine = {name: ports.pop() for name in protocols}
            placed.append(mine)
            quorum.append(f"{number}@127.0.0.1:{mine['CONTROLLER']}")
        for number, mine in enumerate(placed, start=1):
            home = folder / f"broker-{number}"
            settings = {
                **COMMON,
                **(ALONE if size == 1 else REPLICATED),
                "node.id": str(number),
                "controller.quorum.voters": ",".join(quorum),
                "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in mine.items()),
                "listener.security.protocol.map": ",".join(f"{name}:{kind}" for name, kind in protocols.items()),
                "log.dirs": str(home / "data"),
                **(properties or {}),
            }
            self.brokers.append(Broker(number, home, mine, settings, java, jars))
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        for broker in self.brokers:
            broker.format(cluster_id, users or {})

    @property
    def bootstrap(self) -> str:
        """`host:port,...` of the plain-text listeners: what follows `kafka://` in the configuration."""
        return self.addresses()

    @property
    def broker(self) -> Broker:
        """The only broker, or the first."""
        return self.brokers[0]

    def addresses(self, listener: str = "PLAINTEXT") -> str:
        """`host:port,...` of one kind of listener."""
        return ",".join(broker.address(listener) for broker in self.brokers)

    def prefix(self) -> str:
        """A topic prefix that nobody else has."""
        return new_prefix()

    def start(self) -> None:
        """Start each broker that does not run, on the same ports and data, and wait until all answer."""
        for broker in self.brokers:
            if not broker.running:
                broker.launch()
        self.ready()

    def ready(self, seconds: float = STARTING_SECONDS) -> None:
        """Wait until each broker that runs answers and knows the others that run; TimeoutError with its log's end."""
        deadline = time.monotonic() + seconds
        answering = [broker for broker in self.brokers if broker.answering]
        for broker in answering:
            broker.wait_until_it_knows({each.number for each in answering}, deadline)

    def restart(self, broker: Broker | None = None) -> None:
        """Start a broker that was stopped or killed, the first by default, and wait until it answers."""
        (broker or self.broker).launch()
        self.ready()

    def stop(self) -> None:
        """End every broker in order; `start` brings them back."""
        for broker in self.brokers:
            broker.resume()
        if len(self.brokers) > 1:
            self.kill()  # the last ones of a quorum wait long for a majority that has gone
            return
        for broker in self.brokers:
            broker.stop()

    def kill(self) -> None:
        """SIGKILL to every broker; `start` brings them back."""
        for broker in self.brokers:
            broker.kill()

    def close(self) -> None:
        """End every process and remove the data. The logs stay."""
        if len(self.brokers) == 1 and self.broker.recording:
            self.broker.stop()
        self.kill()
        for broker in self.brokers:
            shutil.rmtree(broker.folder / "data", ignore_errors=True)

    def logs(self) -> Iterable[tuple[str, str]]:
        """The end of each broker's log, with a title."""
        for broker in self.brokers:
            yield f"log of Kafka broker {broker.number}", broker.tail()


def new_prefix() -> str:
    """A topic prefix that nobody else has."""
    return f"t{secrets.token_hex(6)}."


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens at.

    They lie below the range from which the kernel gives ports to outgoing connections: otherwise a client that tries
    the port of a broker that is down could be given that very port, and meet itself.
    """
    chosen: list[int] = []
    for _ in range(10_000):
        port = random.SystemRandom().randrange(12_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in chosen:
            chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise RuntimeError("this machine has no free ports between 12000 and 32000")
