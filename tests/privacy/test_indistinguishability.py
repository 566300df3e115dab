"""Nobody who watches the service can tell a day without events from the busiest one: dashboards, journal, files, HTTP.

Two runs on the same clock, one with nothing to fold and one with everything that the catalogue allows, are looked at
twice in each tick: while the busy one has its first batch in hand (and the quiet one is done), and when both are done.
What differs may be the drawn values alone. Of each file and folder that others may look at it is compared between which
looks it was made and changed. What systemd heard is compared when both are done: it hears at once, and the unit's page
names what that shows. Nothing here is random but the noise, which is left out by name: no false alarms.
"""

from __future__ import annotations

import datetime as dt
import itertools
import random
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from tests.catalogues import catalogue, statistic
from tests.e2e.observations import Observation, WatchedService, differences, free_port
from tests.e2e.projects import Project

from quietcount_schemas.events.event_types import EventType, FieldKind, Role
from quietcount_schemas.log import CASE_EVENTS, NewRecord
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

TICK = dt.timedelta(hours=6)
START = dt.datetime(2023, 1, 30, tzinfo=dt.UTC)
HUNG_UP = 10
"""The number of the tick amid which SIGHUP comes."""

# Each kind of population that there is: all symbols, several events of a case, both horizons, both ways with late ones.
EVERY_TYPE = ("HelpRequested", "OutcomeRecorded", "CourtCaseFiled", "SentencePassed", "CaptivityRecorded")
REQUESTS = statistic(
    "requests",
    "HelpRequested",
    by=["help_kind", "circumstance"],
    period="day",
    since="2023-01-29",
    max_contributions=3,
    epsilon=0.5,
)
ALL_EVENTS = statistic(
    "all_events",
    EVERY_TYPE,
    by="service_category",
    period="week",
    since="2023-01-16",
    max_contributions=2,
    late="drop",
    epsilon=0.5,
)
SENTENCES = statistic("sentences", "SentencePassed", by="sentence", horizon="year", epsilon=0.25)
CATALOGUE = catalogue(REQUESTS, ALL_EVENTS, SENTENCES, lifetime_epsilon=10, grace="1d", tick="6h")

Emit = Callable[[Project, dt.datetime], None]


def nothing(_project: Project, _now: dt.datetime) -> None:
    """Emit no event."""


def lines(day: dt.date, cases: int, seed: int) -> Iterator[dict[str, object]]:
    """Yield a day's events: each type, each symbol of each field, more of a case than counts, each way to change."""
    chance = random.Random(seed)
    types = [each for each in SchemaRegistry.load().event_types.values() if each.role is Role.EVENT]
    turn = itertools.count()
    for case in range(cases):
        name = f"caller-{seed}-{case}"
        for event in types:
            for _ in range(4 if event.name == "HelpRequested" else 1):
                number = next(turn)
                identity = str(uuid.UUID(int=chance.getrandbits(128), version=4))
                late = dt.timedelta(days=20 * (number % 11 == 0))
                line = {
                    "event": event.name,
                    "case": name,
                    "occurred_on": str(day - late),
                    "event_id": identity,
                    **symbols(event, number),
                }
                yield line
                if number % 5 == 0:
                    yield line  # a duplicate
                if number % 7 == 0:
                    yield {**line, "revision": 1, **symbols(event, number + 1)}
        if case % 9 == 0:
            yield {"event": "CaseWithdrawn", "case": name, "occurred_on": str(day)}


def symbols(event: EventType, number: int) -> dict[str, object]:
    """Return a symbol of each field; numbers in turn come to each of them."""
    assert all(field.kind is FieldKind.ENUM for field in event.attributes)
    return {
        field.name: field.symbols[(number // (place + 1)) % len(field.symbols)]
        for place, field in enumerate(event.attributes)
    }


def busy(cases: int) -> Emit:
    """Emit events before each tick, and ten times as many on one day."""

    def emit(project: Project, now: dt.datetime) -> None:
        many = cases * (10 if now.day == 31 and now.hour == 6 else 1)
        day = now.date() - dt.timedelta(days=now.hour == 0)
        # The file that is emitted lies beside the project, whose files are compared.
        project.emit(lines(day, many, int(now.timestamp())), f"../{project.folder.name}.jsonl")

    return emit


def watched(
    folder: Path, emit: Emit, ticks: int, port: int, mutants: Iterable[str] = (), *, amid: bool = False
) -> dict[str, Observation]:
    """Run a service for so many ticks from START on, and stop it, `amid` the last one; return what was seen."""
    project = Project(folder, CATALOGUE)
    with WatchedService(project, START, port, mutants) as service:
        emit(project, START)
        service.begin()
        for number in range(1, ticks):
            emit(project, START + number * TICK)
            service.hang_up_amid = number == HUNG_UP
            if amid and number == ticks - 1:
                service.stop_amid(TICK)
            else:
                service.advance(TICK)
        if not amid:
            service.stop()
    return service.seen


def pair(
    folder: Path, one: Emit, other: Emit, ticks: int, mutants: Iterable[str] = (), *, amid: bool = False
) -> tuple[dict[str, Observation], dict[str, Observation]]:
    """Run a service for each way of emitting, on one port after the other; return what was seen of each."""
    port = free_port()
    return (
        watched(folder / "one" / "service", one, ticks, port, mutants, amid=amid),
        watched(folder / "other" / "service", other, ticks, port, mutants, amid=amid),
    )


def answers(seen: dict[str, Observation], page: str) -> dict[str, str]:
    """Return the answers to a GET, by moment."""
    return {moment: str(each[f"GET {page}"]) for moment, each in seen.items() if f"GET {page}" in each}


@pytest.mark.promise("silence")
def test_an_empty_log_and_the_busiest_day_look_the_same(tmp_path: Path) -> None:
    """Some days with releases by day, week and month among them; 218 events before each tick, and ten times as many."""
    quiet, busiest = pair(tmp_path, nothing, busy(20), 22)
    assert differences(quiet, busiest) == []
    # What was looked at is all there: both were ready, released, published and ended well.
    assert len(quiet) == 2 * 22 + 1
    assert quiet["at the end"]["exit code"] == 0
    lines = "".join(str(each["log"]) for each in quiet.values())
    assert lines.count('"event": "released"') == 8
    assert list(answers(quiet, "/readyz").values())[-1].startswith("(200, ")
    assert re.search(
        r'statistic_upper{[^ ]*statistic="sentences"} drawn', list(answers(quiet, "/metrics").values())[-1]
    )
    assert lines.count('"event": "reloaded"') == 1
    births = {moment: each.get("file data/statistics.duckdb, made") for moment, each in quiet.items()}
    made = [after for before, after in itertools.pairwise(births) if births[before] not in (None, births[after])]
    # By each release, and by the opening with which a configuration is read anew.
    days = ("01-31 06", "02-01 06", "02-02 00", "02-02 06", "02-03 06", "02-04 06")
    assert made == [f"2023-{day}:00, amid the tick" for day in days]
    assert any("WATCHDOG=1" in str(each.get("told to systemd")) for each in quiet.values())


@pytest.mark.soak
def test_ten_times_the_busiest_day_looks_no_different(tmp_path: Path) -> None:
    quiet, busiest = pair(tmp_path, nothing, busy(200), 22)
    assert differences(quiet, busiest) == []


@pytest.mark.check
def test_a_service_that_is_stopped_amid_a_fold_ends_like_one_that_had_nothing_to_fold(tmp_path: Path) -> None:
    """At a tick at which periods are due: what is in hand is folded, released and shown."""
    quiet, busiest = pair(tmp_path, nothing, busy(20), 5, amid=True)
    assert differences(quiet, busiest) == []
    assert '"event": "released"' in str(quiet["at the end"]["log"])


def rejected(hour: int, records: int) -> Emit:
    """Emit so many records that are no events before one tick of the first day."""

    def emit(project: Project, now: dt.datetime) -> None:
        if now == START + dt.timedelta(hours=hour):
            with project.log() as log:
                log.append(CASE_EVENTS, [NewRecord(b"k" * 16, b"no event", 0)] * records)

    return emit


@pytest.mark.check
def test_when_records_are_rejected_and_how_many_does_not_show(tmp_path: Path) -> None:
    """One in the evening or many in the morning: the day after, it was that day."""
    one, other = pair(tmp_path, rejected(18, 1), rejected(6, 500), 7)
    assert differences(one, other) == []
    raised = [
        moment for moment, told in answers(one, "/metrics").items() if re.search(r"rejects_seen{[^}]*} 1.0", told)
    ]
    assert raised[0] == "2023-01-31 06:00, amid the tick", "the tick of midnight is shown from the next one on"


def busy_with_rejects(project: Project, now: dt.datetime) -> None:
    """Emit events, and a record that is none."""
    busy(2)(project, now)
    rejected(6, 1)(project, now)


MUTANTS = {
    "raw counter": r"quietcount_folded_events",
    "lag gauge": r"quietcount_log_lag",
    "batch size line": r"batch folded",
    "line at once": r"amid the tick: log: .*released",
    "status at once": r"amid the tick: GET /readyz",
    "publication at once": r"file data/statistics\.duckdb, changed",
    "reject at once": r"rejects_seen{[^}]*} 1\.0",
    "kept birth": r"file data/statistics\.duckdb, made",
    "years by need": r"file secrets, changed",
    "sign of life at work": r"after the tick: told to systemd: .*WATCHDOG",
}
"""By the name of a faulty twin of the service, what it lets out is told by."""

# A file that is published at once is made at once, however it is put in its place. The normal run tries that twin among
# the tests of publishing.
TOGETHER = [name for name in MUTANTS if name != "kept birth"]


def test_each_faulty_twin_is_told_apart_by_what_it_lets_out(tmp_path: Path) -> None:
    """All at once, since starting processes is what takes time; each alone below."""
    told = differences(*pair(tmp_path, nothing, busy_with_rejects, 3, TOGETHER))
    missed = [name for name in TOGETHER if not any(re.search(MUTANTS[name], each) for each in told)]
    assert missed == [], told


@pytest.mark.soak
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_faulty_twin_is_told_apart_by_what_it_lets_out(tmp_path: Path, mutant: str) -> None:
    told = differences(*pair(tmp_path, nothing, busy_with_rejects, 3, [mutant]))
    assert any(re.search(MUTANTS[mutant], each) for each in told), told


@pytest.mark.check
def test_what_the_twins_are_tried_with_shows_nothing_of_a_service_without_fault(tmp_path: Path) -> None:
    assert differences(*pair(tmp_path, nothing, busy_with_rejects, 3)) == []
