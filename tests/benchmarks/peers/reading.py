"""Programs of others that read the case events from Kafka, run with the packages of requirements.txt alone.

`python reading.py WHAT SERVERS TOPIC PARTITIONS COUNT FOLDER SCHEMA` prints seconds of the clock and of the processor
from the first record until all that was counted is stored, as JSON. WHAT is one of

* `confluent`: confluent-kafka's consumer, which does nothing with them;
* `quix`: quixstreams, which decodes and counts them by a symbol, in its durable state with its changelog topic. To
  bring the events of a symbol together it writes each to one more topic;
* `quix-by-case`: the same without that topic. It counts by the record's own key, so there is no statistic yet;
* `bytewax`: bytewax, which decodes and counts them by a symbol, with its recovery store.
"""

from __future__ import annotations

import importlib
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_HEADER = 10  # bytes of an Avro single object before the datum
_BATCH = 20_000


class Watch:
    """Takes the time from the first record on."""

    def __init__(self) -> None:
        self._began: tuple[float, float] | None = None

    def seen(self) -> None:
        if self._began is None:
            self._began = time.perf_counter(), time.process_time()

    def stop(self) -> dict[str, float]:
        assert self._began is not None
        clock, processor = self._began
        return {"clock": time.perf_counter() - clock, "processor": time.process_time() - processor}


def decoder(schema: Path) -> Callable[[bytes], Any]:
    fastavro: Any = importlib.import_module("fastavro")

    parsed = fastavro.parse_schema(json.loads(schema.read_text(encoding="utf-8")))
    return lambda value: fastavro.schemaless_reader(io.BytesIO(value[_HEADER:]), parsed, None)


def confluent(servers: str, topic: str, partitions: int, count: int) -> dict[str, float]:
    kafka: Any = importlib.import_module("confluent_kafka")
    watch = Watch()
    watch.seen()
    consumer = kafka.Consumer({"bootstrap.servers": servers, "group.id": "x", "enable.auto.commit": False})
    consumer.assign([kafka.TopicPartition(topic, each, 0) for each in range(partitions)])
    while count > 0:
        count -= len(consumer.consume(_BATCH, 1.0))
    consumer.close()
    return watch.stop()


def quix(
    servers: str, topic: str, count: int, folder: Path, decode: Callable[[bytes], Any], *, by_symbol: bool
) -> dict[str, float]:
    quixstreams: Any = importlib.import_module("quixstreams")
    watch, left = Watch(), count
    application = quixstreams.Application(
        broker_address=servers,
        consumer_group=f"{topic}.{by_symbol}",
        auto_offset_reset="earliest",
        state_dir=folder,
        loglevel="ERROR",
    )

    def decoded(value: bytes) -> dict[str, str]:
        watch.seen()
        return {"help_kind": decode(value)["help_kind"]}

    def counted(_: dict[str, str], state: Any) -> None:
        nonlocal left
        state.set("count", state.get("count", 0) + 1)
        left -= 1
        if not left:
            application.stop()

    events = application.topic(topic, key_deserializer="bytes", value_deserializer="bytes")
    frame = application.dataframe(events).apply(decoded)
    (frame.group_by("help_kind") if by_symbol else frame).apply(counted, stateful=True)
    application.run()
    return watch.stop()


def bytewax(servers: str, topic: str, count: int, folder: Path, decode: Callable[[bytes], Any]) -> dict[str, float]:
    operators: Any = importlib.import_module("bytewax.operators")
    inputs: Any = importlib.import_module("bytewax.connectors.kafka.operators")
    recovery: Any = importlib.import_module("bytewax.recovery")
    dataflow: Any = importlib.import_module("bytewax.dataflow")
    outputs: Any = importlib.import_module("bytewax.connectors.stdio")
    run: Any = importlib.import_module("bytewax.run")
    watch = Watch()
    flow = dataflow.Dataflow("count")
    read = inputs.input("in", flow, brokers=[servers], topics=[topic], tail=False)

    def symbol(message: Any) -> tuple[str, int]:
        return decode(message.value)["help_kind"], 1

    def counted(state: int | None, one: int) -> tuple[int, int]:
        watch.seen()
        return (state or 0) + one, one

    keyed = operators.map("decode", read.oks, symbol)
    done = operators.stateful_map("count", keyed, counted)
    operators.output("out", operators.filter("none", done, lambda _: False), outputs.StdOutSink())
    recovery.init_db_dir(folder, 1)
    run.cli_main(flow, recovery_config=recovery.RecoveryConfig(str(folder)))
    return watch.stop()


def main(what: str, servers: str, topic: str, partitions: str, count: str, folder: str, schema: str) -> None:
    decode = decoder(Path(schema))
    works: dict[str, Callable[[], dict[str, float]]] = {
        "confluent": lambda: confluent(servers, topic, int(partitions), int(count)),
        "quix": lambda: quix(servers, topic, int(count), Path(folder), decode, by_symbol=True),
        "quix-by-case": lambda: quix(servers, topic, int(count), Path(folder), decode, by_symbol=False),
        "bytewax": lambda: bytewax(servers, topic, int(count), Path(folder), decode),
    }
    print(json.dumps(works[what]()))


if __name__ == "__main__":
    main(*sys.argv[1:])
