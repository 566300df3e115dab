"""What a deployment needs, by plain arithmetic from costs that `test_bench_model` measures; see docs/scaling.md.

`python -m tests.benchmarks.model` prints the tables of that page.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COUNTRY", "EXAMPLES", "MEASURED", "Costs", "Deployment", "Machine", "Needs", "largest", "needs", "page"]

_DAY = 86_400.0
MARK_BYTES = 16
"""Of a settled contribution in the files of limits: by their format, and no measurement."""
USABLE = 0.8
"""How much of a machine's memory DuckDB takes before it gives up: its default, and no measurement."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What one of each costs; the catalogue is that of the benchmarks, four populations of one table each."""

    fold: float
    """Seconds of the processor to poll an event from Kafka and fold it."""
    settle: float
    """Seconds of the processor for an open event when periods are released."""
    again: float
    """The same more, in a process of several states: it counts each a second time, to have one in memory at a time."""
    fixed: float
    """Seconds of the processor for a settlement of a state without any event."""
    memory: float
    """Bytes of peak memory for an open event of one partition while that lasts: a process settles one at a time."""
    process: float
    """Bytes of peak memory without any event."""
    state: float
    """Bytes of the state's file for an open event."""
    empty: float
    """Bytes of the file of a state without any event."""
    broker: float
    """Bytes on the disk of a broker for an event that was sent by itself."""
    batched: float
    """The same for an event that was sent among thousands."""
    cell: float
    """Seconds to release a cell: the draw, the ledger and the state."""
    limit: float
    """Seconds of the processor to look through one mark of the limits and write it again, once a settlement."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is to be counted. `open_days` is how long events stay open: a period and the grace period behind it."""

    name: str
    events_a_day: float
    people: float
    """Cases in total, each of which uses up a limit of one in each population."""
    open_days: float
    settlements_a_year: float
    cells_a_settlement: float
    populations: int = 4
    partitions: int = 12
    workers: int = 1
    replicas: int = 3


@dataclass(frozen=True, slots=True)
class Machine:
    """What one worker runs on, and each broker."""

    cores: float
    memory: float
    disk: float


@dataclass(frozen=True, slots=True)
class Needs:
    """What each worker needs, and all brokers together. Disk and memory in bytes, the rest in seconds of processor."""

    open_events: float
    fold_a_day: float
    settle: float
    limits: float
    draw: float
    memory: float
    state: float
    limit_files: float
    brokers: float

    def shares(self, on: Machine) -> dict[str, float]:
        """Return how much of a machine each term takes, the largest first; above 1 it does not fit.

        A settlement has an hour, and the fold of a day a day. Two copies of the state and its limits lie on the disk
        while it is written again.
        """
        found = {
            "the fold": self.fold_a_day / (_DAY * on.cores),
            "a settlement's processor": (self.settle + self.limits + self.draw) / (3600 * on.cores),
            "a settlement's memory": self.memory / (USABLE * on.memory),
            "the state's disk": 2 * (self.state + self.limit_files) / on.disk,
        }
        return dict(sorted(found.items(), key=lambda each: -each[1]))


def needs(asked: Deployment, costs: Costs) -> Needs:
    """Return what a deployment needs. Raises ValueError for more workers than partitions.

    Events are shared evenly by the workers, and so are cases, because each has its partition; the draw is not shared.
    """
    if not 1 <= asked.workers <= asked.partitions:
        raise ValueError("each worker needs a partition of its own")
    opened = asked.events_a_day * asked.open_days / asked.workers
    states = asked.partitions / asked.workers
    marks = asked.people * asked.populations / asked.workers
    return Needs(
        open_events=opened,
        fold_a_day=asked.events_a_day / asked.workers * costs.fold,
        settle=states * costs.fixed + opened * (costs.settle + (costs.again if states > 1 else 0)),
        limits=marks * costs.limit,
        draw=asked.cells_a_settlement * costs.cell,
        memory=costs.process + opened / states * costs.memory,
        state=states * costs.empty + opened * costs.state,
        limit_files=marks * MARK_BYTES,
        # What was settled is purged, so the log holds the events since the settlement before the newest one at most.
        brokers=asked.events_a_day * 365 / asked.settlements_a_year * costs.broker * asked.replicas,
    )


def largest(asked: Deployment, costs: Costs, memory: float) -> float:
    """Return how many events a day fit, as a settlement has to hold the open ones of a partition in memory."""
    return max(USABLE * memory - costs.process, 0) / costs.memory * asked.partitions / asked.open_days


MEASURED = Costs(
    fold=6.6e-6,
    settle=6.7e-6,
    again=7.8e-6,
    fixed=0.51,
    memory=875,
    process=200e6,
    state=34.7,
    empty=2.3e6,
    broker=135,
    batched=79,
    cell=11.3e-6,
    limit=24e-9,
)
"""At half the sizes: from 100,000 to 500,000 events, 2.5 million settled cases; of 100,000 cells. See the page."""

DESK = Deployment("a desk: 100 events a day, by the month", 100, 40_000, 38, 12, 1_000, partitions=1)
CITY = Deployment("a city: 100,000 a day, by the month", 100_000, 1_000_000, 38, 12, 10_000, partitions=1)
PARTED = Deployment("the city with 4 partitions", 100_000, 1_000_000, 38, 12, 10_000, partitions=4)
COUNTRY = Deployment(
    "a country: 10 million a day, by the month, 12 partitions", 10_000_000, 60_000_000, 38, 12, 100_000
)
DAILY = Deployment("the country, by the day, a day of grace", 10_000_000, 60_000_000, 2, 365, 100_000)
SHARED = Deployment("the country by the day, 12 workers", 10_000_000, 60_000_000, 2, 365, 100_000, workers=12)
EXAMPLES = (DESK, CITY, PARTED, COUNTRY, DAILY, SHARED)
MACHINE = Machine(cores=2, memory=16 * 2**30, disk=500e9)


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _time(seconds: float) -> str:
    if seconds < 1:
        return "under 1 s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 6_000 else f"{seconds / 3600:,.0f} h"


def page(costs: Costs) -> str:
    """Return the tables of the page."""
    told = {
        "polling an event from Kafka and folding it": f"{costs.fold * 1e6:.1f} µs of the processor",
        "an open event in a settlement, time": f"{costs.settle * 1e6:.1f} µs of the processor",
        "the same more, in a process of several states": f"{costs.again * 1e6:.1f} µs of the processor",
        "a settlement of a state without events, time": f"{costs.fixed:.2f} s of the processor",
        "an open event of a partition in its settlement, peak memory": f"{costs.memory:,.0f} bytes",
        "the process without events, peak memory": _size(costs.process),
        "an open event on the disk of the service": f"{costs.state:,.0f} bytes",
        "a state without events on that disk": _size(costs.empty),
        "an event on the disk of a broker, sent by itself": f"{costs.broker:,.0f} bytes",
        "the same, sent among thousands": f"{costs.batched:,.0f} bytes",
        "a released cell: draw, ledger and state": f"{costs.cell * 1e6:.1f} µs of the processor",
        "a settled case in a settlement, for each population": f"{costs.limit * 1e9:.0f} ns of the processor",
    }
    lines = ["| what | cost |", "| --- | --- |", *(f"| {what} | {cost} |" for what, cost in told.items()), ""]
    columns = [
        "deployment",
        "fold of a day",
        "settlement",
        "its memory",
        "state, limits",
        "brokers",
        "scarcest",
        "fits",
    ]
    lines += [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for asked in EXAMPLES:
        found = needs(asked, costs)
        name, share = next(iter(found.shares(MACHINE).items()))
        cells = [
            asked.name,
            _time(found.fold_a_day),
            _time(found.settle + found.limits + found.draw),
            _size(found.memory),
            f"{_size(found.state)}, {_size(found.limit_files)}",
            _size(found.brokers),
            f"{name}: {share:.0%}",
            f"{largest(asked, costs, MACHINE.memory) / 1e6:.1f} million a day",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(MEASURED), end="")
