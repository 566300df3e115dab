"""The publisher for the tests of a service: it refuses what the real one refuses, and keeps what that would store."""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
import typing
import uuid
from pathlib import Path

import pytest

import quietcount_producers
from quietcount_producers import CaseEventPublisher, EventRefused, Period, PublisherClosed
from quietcount_producers.testing import RecordedEvent, RecordingPublisher

pytestmark = pytest.mark.quick


def service(publisher: CaseEventPublisher) -> None:
    """Something that somebody wants to test."""
    future = publisher.emit("HelpRequested", "file 17", "2023-10-03", help_kind="DESERTION")
    assert future.result(30).offset == 0


def test_what_a_service_emits_can_be_compared() -> None:
    with RecordingPublisher() as publisher:
        service(publisher)
        publisher.flush()
        publisher.drain()
        assert publisher.events == [
            RecordedEvent("HelpRequested", "file 17", dt.date(2023, 10, 1), {"help_kind": "DESERTION"})
        ]
    with pytest.raises(PublisherClosed):
        service(publisher)


def test_it_refuses_what_the_real_one_refuses() -> None:
    publisher = RecordingPublisher(today=lambda: dt.date(2023, 10, 3))
    for facts in (
        ("HelpRequestd", "a", "2023-10-03"),
        ("HelpRequested", " ", "2023-10-03"),
        ("HelpRequested", "a", "2023-10-09"),
    ):
        with pytest.raises(EventRefused):
            publisher.emit(*facts)
    with pytest.raises(EventRefused, match="help_kind"):
        publisher.emit("HelpRequested", "a", "2023-10-03", help_kind="x")
    assert publisher.events == []


def test_ids_revisions_and_awaited_events_are_kept() -> None:
    identity = uuid.uuid4()

    async def emitted() -> list[RecordedEvent]:
        async with RecordingPublisher(precision=Period.DAY) as publisher:
            position = await publisher.emit_async("HelpRequested", "a", "2023-10-03", event_id=identity, revision=2)
            assert position.offset == 0
            return publisher.events

    (event,) = asyncio.run(emitted())
    assert event == RecordedEvent("HelpRequested", "a", dt.date(2023, 10, 3), revision=2)
    assert event.event_id == identity


def test_it_is_made_of_a_configuration_without_a_pepper_and_without_a_log(tmp_path: Path) -> None:
    config = tmp_path / "quietcount.toml"
    config.write_text(
        'log = "kafka://127.0.0.1:9"\n[emitter]\nspool = "spool"\nallow_identifiers = ["placeholder"]\n'
        '[[population]]\nevents = ["HelpRequested"]\nperiod = "year"\n'
    )
    with RecordingPublisher.from_config(str(config)) as publisher:
        service(publisher)
        publisher.emit("HelpRequested", "Nil", "2023-10-03")
        with pytest.raises(EventRefused):
            publisher.emit("HelpRequested", "17.0", "2023-10-03")
    assert [event.occurred_on for event in publisher.events] == [dt.date(2023, 1, 1)] * 2
    assert [file.name for file in tmp_path.iterdir()] == ["quietcount.toml"]


def test_it_takes_the_arguments_of_the_real_one() -> None:
    for name in ("emit", "emit_async"):
        real, trial = (inspect.signature(getattr(each, name)) for each in (CaseEventPublisher, RecordingPublisher))
        assert real == trial


def test_every_name_that_the_package_offers_is_there_and_is_ours() -> None:
    for name in quietcount_producers.__all__:
        assert getattr(quietcount_producers, name) is not None
    with pytest.raises(AttributeError):
        _ = quietcount_producers.Nothing  # type: ignore[attr-defined]


def test_every_type_that_a_caller_of_a_publisher_meets_is_offered() -> None:
    def ours(hint: object) -> set[str]:
        inner = set().union(*map(ours, typing.get_args(hint)))
        return inner | {hint.__name__} if isinstance(hint, type) and "quietcount" in hint.__module__ else inner

    met = {
        name
        for called, act in vars(CaseEventPublisher).items()
        if inspect.isfunction(act) and (called == "__init__" or not called.startswith("_"))
        for hint in typing.get_type_hints(act).values()
        for name in ours(hint)
    }
    assert {"Position", "Pepper"} < met
    assert met <= set(quietcount_producers.__all__)


def test_paths_may_be_text(tmp_path: Path) -> None:
    from quietcount_producers import EmbeddedLog, EmitterSettings, EventSpool, Pepper, SchemaRegistry

    (tmp_path / "quietcount.toml").write_text('[emitter]\npepper_file = "pepper"\n')
    pepper = Pepper.generate(f"{tmp_path}/pepper")
    assert Pepper.load(f"{tmp_path}/pepper").case_key("a") == pepper.case_key("a")
    EmitterSettings.load(f"{tmp_path}/quietcount.toml", {})
    with EmbeddedLog(f"{tmp_path}/log.sqlite") as log, EventSpool(f"{tmp_path}/spool") as spool:
        assert (log.path, spool.folder) == (tmp_path / "log.sqlite", tmp_path / "spool")
        assert EventSpool.exists(f"{tmp_path}/spool")
    assert SchemaRegistry.load([]).event_types
    with CaseEventPublisher.from_config(f"{tmp_path}/quietcount.toml") as publisher:
        publisher.emit("HelpRequested", "a", "2023-10-03")
    with CaseEventPublisher(lambda: EmbeddedLog("log.sqlite"), pepper=pepper, spool=f"{tmp_path}/spool"):
        pass
