"""Nobody who watches an emitter, or the door for deliveries, learns that anybody came: metrics, log, answers, files.

A quiet run and a busy one are compared, in one process and on one clock. What others may see of files is the mode of
each and when it was changed; folders that are closed to others are looked at from outside alone. Nothing is random,
so there are no false alarms.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from tests.doors import ask, configured, delivery, inside

from quietcount_producers import CaseEventPublisher
from quietcount_producers.prometheus import EmitterCollector
from quietcount_producers.receiving.application import Application
from quietcount_producers.receiving.refusals import Refusals
from quietcount_producers.spool.event_spool import EventSpool

pytestmark = pytest.mark.quick

NOON = dt.datetime(2023, 10, 3, 12, 30, tzinfo=dt.UTC)
GRAIN = 0.012
"""Longer than the grain of the clock by which files are stamped: what comes next is stamped later."""

Seen = dict[str, object]


def outside(folder: Path, since_ns: int) -> Iterator[tuple[str, object]]:
    """Yield what others may see of each file and folder: what it is, and whether it was changed since then."""
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (".", *folders, *files)):
            facts = path.stat()
            size = facts.st_size if path.is_file() else facts.st_nlink
            yield str(path.relative_to(folder)), (oct(facts.st_mode), size, facts.st_ctime_ns > since_ns)
        # Others cannot look into a folder that is closed to them.
        folders[:] = [name for name in folders if Path(place, name).stat().st_mode & 0o011]


def began() -> int:
    time.sleep(GRAIN)
    now = time.time_ns()
    time.sleep(GRAIN)
    return now


# ---------------------------------------------------------------- an emitter


def emitter(folder: Path, events: int, said: pytest.LogCaptureFixture, *, away: bool) -> Seen:
    """Emit so many events with a spool, and return what can be seen of the emitter while it runs and when it ended."""
    folder.mkdir()
    # Nobody listens on that port.
    log = 'log = "kafka://127.0.0.1:1"\n' if away else ""
    (config := configured(folder)).write_text(f'{log}[emitter]\nspool = "spool"\n')
    said.clear()
    with CaseEventPublisher.from_config(config) as publisher:
        registry = CollectorRegistry()
        registry.register(EmitterCollector(publisher, now=lambda: NOON))
        if not away:  # another emitter's event: the log is there, and empty again
            publisher.emit("HelpRequested", "somebody", "2023-10-03", help_kind="DESERTION")
            publisher.drain(30)
        since = began()
        for number in range(events):
            publisher.emit("HelpRequested", f"person {number}", "2023-10-03", help_kind="DESERTION")
        publisher.flush()
        if not away:
            publisher.drain(30)
        seen: Seen = {"metrics": generate_latest(registry).decode(), **dict(outside(folder, since))}
    return {**seen, **{f"{name}, at the end": facts for name, facts in outside(folder, since)}, "log": said.text}


def apart(one: Seen, other: Seen) -> list[str]:
    """Return where two runs differ that is not known to differ."""
    return [
        f"{place}: {one.get(place)} and {other.get(place)}"
        for place in one | other
        if one.get(place) != other.get(place)
    ]


@pytest.mark.promise("silence")
@pytest.mark.parametrize("away", [False, True])
def test_an_emitter_looks_the_same_whether_anybody_came_or_not(
    away: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "quietcount_producers")
    quiet, busy = (
        emitter(tmp_path / name, events, caplog, away=away) for name, events in (("quiet", 0), ("busy", 300))
    )
    assert apart(quiet, busy) == []
    assert "quietcount_emitter_spool_age_seconds 0.0" in str(quiet["metrics"])
    assert "spool" in quiet


def count_in_a_line(patch: pytest.MonkeyPatch) -> None:
    append = EventSpool.append

    def told(self: EventSpool, topic: str, records: list[object]) -> object:
        logging.getLogger("quietcount_producers.spool").info("%d events", len(records))
        return append(self, topic, records)  # type: ignore[arg-type]

    patch.setattr(EventSpool, "append", told)


def age_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EmitterCollector, "_age", lambda self: 0.0 if self._publisher.spool_state().empty else 1.0)


def file_in_the_outer_folder(patch: pytest.MonkeyPatch) -> None:
    append = EventSpool.append

    def marked(self: EventSpool, topic: str, records: list[object]) -> object:
        (self.folder / "mark").touch()
        return append(self, topic, records)  # type: ignore[arg-type]

    patch.setattr(EventSpool, "append", marked)


@pytest.mark.parametrize(
    "twin, place", [(count_in_a_line, "log"), (age_at_once, "metrics"), (file_in_the_outer_folder, "spool")]
)
def test_a_faulty_emitter_is_told_by_where_it_talks(
    twin: Callable[[pytest.MonkeyPatch], None],
    place: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG, "quietcount_producers")
    twin(monkeypatch)
    quiet, busy = (emitter(tmp_path / name, events, caplog, away=True) for name, events in (("quiet", 0), ("busy", 3)))
    assert any(each.startswith(place) for each in apart(quiet, busy))


# ---------------------------------------------------------------- the door


PROBES: dict[str, dict[str, Any]] = {
    "GET": {"method": "GET"},
    "another path": {"path": "/nothing"},
    "a wrong token": {"headers": (("authorization", "Bearer wrong"),)},
    "an empty list": {"body": b"[]"},
    "no JSON": {"body": b"no JSON", "headers": ()},
}


def bodies(good: int, refused: int) -> list[bytes]:
    """Return deliveries, of which the mapping refuses some."""
    found = [json.dumps(delivery(number)).encode() for number in range(good)]
    found += [json.dumps(delivery(number, day="in spring")).encode() for number in range(refused)]
    return [*found, *[b"no JSON"] * refused]


def door(
    folder: Path, good: int, refused: int, said: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Seen:
    """Open a door, let deliveries come, and return what can be seen of it from outside."""
    folder.mkdir()
    config = configured(folder, paths=("/kobo", "/other"))
    said.clear()
    capfd.readouterr()

    async def scene(application: Application) -> Seen:
        await ask(application, json.dumps(delivery(10_000)).encode())  # the log is made with the first event
        since = began()
        answers = {repr(await ask(application, body)) for body in [b"[]", *bodies(good, refused)]}
        probes = {name: repr(await ask(application, **asked)) for name, asked in PROBES.items()}
        return {"answers to deliveries": answers, **probes, **dict(outside(folder, since))}

    return {**inside(config, scene), "log": said.text, "output": "".join(capfd.readouterr())}


@pytest.mark.promise("silence")
def test_a_door_looks_the_same_whatever_was_delivered_and_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG, "quietcount_producers")
    quiet, busy = door(tmp_path / "quiet", 0, 0, caplog, capfd), door(tmp_path / "busy", 40, 5, caplog, capfd)
    assert apart(quiet, busy) == []
    assert "status=200" in str(quiet["an empty list"])
    assert "spool" in quiet


def folder_with_the_first_refusal(patch: pytest.MonkeyPatch) -> None:
    """As it was: the folder of what is refused was made when there was something to refuse."""
    patch.setattr(Refusals, "prepare", lambda _: None)


def line_with_each_refusal(patch: pytest.MonkeyPatch) -> None:
    keep = Refusals.keep

    def told(self: Refusals, refused: Any) -> None:
        logging.getLogger("quietcount_producers.receiving").warning("refused")
        keep(self, refused)

    patch.setattr(Refusals, "keep", told)


@pytest.mark.parametrize("twin, place", [(folder_with_the_first_refusal, "spool"), (line_with_each_refusal, "log")])
def test_a_faulty_door_is_told_by_where_it_talks(
    twin: Callable[[pytest.MonkeyPatch], None],
    place: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG, "quietcount_producers")
    twin(monkeypatch)
    quiet, busy = door(tmp_path / "quiet", 0, 0, caplog, capfd), door(tmp_path / "busy", 2, 2, caplog, capfd)
    assert any(each.startswith(place) for each in apart(quiet, busy))
