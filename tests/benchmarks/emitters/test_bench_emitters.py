"""What composing an event costs beside sending it, from a service and from a file. Prints ratios; judges no time.

The yardstick is the client itself: `KafkaProducer.send` of bytes that are ready, in the same run, to the same broker.
Clock and processor are both told, because other work on the machine disturbs the clock.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer
from tests.kafka.fixtures import Kafka

from quietcount_consumers.kafka.topics import create_topics
from quietcount_producers import CaseEventPublisher, Pepper
from quietcount_producers.commands.emit import emit_command
from quietcount_producers.composing.composition import Composer, Facts
from quietcount_producers.files.emission import CheckedRecords, check
from quietcount_producers.files.event_files import FileFormat
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_producers.kafka.writer import KafkaWriter
from quietcount_producers.simulation import encoded
from quietcount_schemas.log import CASE_EVENTS
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.bench

EVENTS = 40_000
TURNS = 3
SMALL, LARGE = 100_000, 1_000_000
PEPPER = Pepper(bytes(range(32)))
CHOICES = [
    {"help_kind": kind, "service_category": category}
    for kind in ("DESERTION", "SURRENDER", "LEGAL_AID")
    for category in ("MOBILISED", "CONTRACT", "CONSCRIPT")
]


def composer() -> Composer:
    return Composer(SchemaRegistry.load(), PEPPER)


def facts(number: int) -> tuple[str, str, dict[str, Any]]:
    return f"case {number}", f"2023-10-{number % 28 + 1:02}", dict(CHOICES[number % len(CHOICES)])


def lines(count: int) -> bytes:
    return b"".join(
        encoded({"event": "HelpRequested", "case": case, "occurred_on": day, **given})
        for case, day, given in map(facts, range(count))
    )


def send(settings: KafkaSettings) -> Callable[[], None]:
    """Send bytes that are ready with kafka-python as it is."""
    topic, maker = settings.topic(CASE_EVENTS), composer()
    records = [maker.compose(Facts("HelpRequested", *facts(number))) for number in range(EVENTS)]
    producer = KafkaProducer(bootstrap_servers=list(settings.brokers), acks="all")
    producer.partitions_for(topic)

    def work() -> None:
        for record in records:
            producer.send(topic, key=record.key, value=record.value, timestamp_ms=record.timestamp)
        producer.flush()

    return work


def emit(settings: KafkaSettings) -> Callable[[], None]:
    """Emit from a service."""
    publisher = CaseEventPublisher(KafkaWriter(settings), pepper=PEPPER)
    given = [facts(number) for number in range(EVENTS)]
    publisher.emit("HelpRequested", "the first", "2023-10-03")
    publisher.flush()

    def work() -> None:
        for case, day, attributes in given:
            publisher.emit("HelpRequested", case, day, **attributes)
        publisher.flush()

    return work


def compose(_: KafkaSettings) -> Callable[[], None]:
    """Compose, and send nothing."""
    maker, given = composer(), [facts(number) for number in range(EVENTS)]

    def work() -> None:
        for case, day, attributes in given:
            maker.compose(Facts("HelpRequested", case, day, attributes, None, 0))

    return work


def read(text: bytes, file_format: FileFormat) -> Callable[[], None]:
    """Check and compose the lines of a file, and keep the records, as `emit FILE` does before it sends."""
    maker = composer()

    def work() -> None:
        records = CheckedRecords(Path(tempfile.gettempdir()))
        assert check(io.BytesIO(text), "the file", file_format, maker, records=records).good == EVENTS
        records.close()

    return work


def as_csv(text: bytes) -> bytes:
    names = ["event", "case", "occurred_on", "help_kind", "service_category"]
    rows = [",".join(json.loads(line)[name] for name in names) for line in text.splitlines()]
    return "\n".join([",".join(names), *rows, ""]).encode()


def measured(what: str, servers: str, prefix: str) -> dict[str, float]:
    """Return the seconds that a work takes by the clock and by the processor, the client's own threads included."""
    settings = KafkaSettings(brokers=(servers,), topic_prefix=prefix)
    if what in ("jsonl", "csv"):
        text = lines(EVENTS)
        work = read(text, FileFormat.JSONL) if what == "jsonl" else read(as_csv(text), FileFormat.CSV)
    else:
        work = {"send": send, "emit": emit, "compose": compose}[what](settings)
    started, used = time.perf_counter(), time.process_time()
    work()
    return {"clock": time.perf_counter() - started, "processor": time.process_time() - used}


def child(*arguments: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        timeout=900,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def test_emitting_beside_sending_what_is_ready(kafka: Kafka) -> None:
    settings = KafkaSettings(brokers=(kafka.bootstrap,), topic_prefix=kafka.prefix())
    create_topics(settings, partitions=4)
    # In turns, so that what else the machine does meets each of them; the least time of each is told.
    runs: dict[str, list[dict[str, float]]] = {what: [] for what in ("send", "emit", "compose", "jsonl", "csv")}
    for _ in range(TURNS):
        for what, found in runs.items():
            found.append(child(what, settings.servers, settings.topic_prefix))
    least = {what: {key: min(run[key] for run in found) for key in found[0]} for what, found in runs.items()}
    names = {
        "send": "kafka-python sends what is ready",
        "emit": "a publisher emits to Kafka (mark: 0.70)",
        "compose": "compose, and send nothing",
        "jsonl": "check and compose lines of JSONL (mark: 1.25)",
        "csv": "check and compose lines of CSV (mark: 1.25)",
    }
    print()
    for what, name in names.items():
        clock, processor = least[what]["clock"], least[what]["processor"]
        ratios = least["send"]["clock"] / clock, least["send"]["processor"] / processor
        print(
            f"{name:<48}{EVENTS / clock:>9,.0f} a second{ratios[0]:>7.2f} of its rate by the clock"
            f"{ratios[1]:>7.2f} by the processor"
        )


def test_the_memory_of_emitting_a_file(tmp_path: Path) -> None:
    peaks = {}
    for count in (SMALL, LARGE):
        folder = tmp_path / str(count)
        folder.mkdir()
        Pepper.generate(folder / "pepper")
        (folder / "quietcount.toml").write_text('[emitter]\npepper_file = "pepper"\n', encoding="utf-8")
        (folder / "cases.jsonl").write_bytes(lines(count))
        peaks[count] = child("file", str(folder))["peak"] / 1024
        print(f"\npeak memory of `quietcount emit` of {count:>9,} lines{peaks[count]:>9,.0f} MiB", end="")
    print()


def emitted(folder: Path) -> dict[str, float]:
    """Emit in this process, and return its peak. `getrusage` would tell that of the process that started it."""
    os.chdir(folder)
    with contextlib.redirect_stderr(io.StringIO()):
        emit_command.main(["cases.jsonl"], standalone_mode=False)
    (peak,) = re.findall(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    return {"peak": float(peak)}


if __name__ == "__main__":
    arguments = sys.argv[1:]
    print(json.dumps(emitted(Path(arguments[1])) if arguments[0] == "file" else measured(*arguments)))
    sys.stdout.flush()
    os._exit(0)  # without waiting for clients that are left open
