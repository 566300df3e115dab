"""What is pinned decides, and nothing else: a registry that lies or is down changes nothing that is counted."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.e2e.projects import EXACT, Cell, Project, simulated, true_cells
from tests.kafka import artifacts
from tests.registry.apicurio import POM, Apicurio
from tests.registry.stand_in import StandIn, stand_in

from quietcount_consumers.commands.dead_letters import dead_letters_command
from quietcount_schemas import Codec, SchemaRegistry, SchemasError
from quietcount_schemas.commands.schemas import schemas
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, NewRecord, Record
from quietcount_schemas.schema_registry import ids as registry_ids
from quietcount_schemas.schema_registry.ids import PinnedIds
from quietcount_schemas.schema_registry.registration import _fingerprint
from quietcount_schemas.schema_registry.settings import RegistrySettings

pytestmark = pytest.mark.check

LINES = simulated(150)
TRUE = true_cells(LINES)


@pytest.fixture
def registry() -> Iterator[StandIn]:
    with stand_in() as registry:
        yield registry


def configured(folder: Path, url: str) -> Project:
    return Project(folder, f'{EXACT}\n[schema_registry]\nurl = "{url}"\n')


@pytest.fixture
def project(tmp_path: Path, registry: StandIn) -> Project:
    """A project whose schemas are registered."""
    project = configured(tmp_path / "project", registry.url)
    register(project)
    return project


def register(project: Project) -> None:
    result = CliRunner().invoke(schemas, ["register", "--config", str(project.config)])
    assert result.exit_code == 0, result.exception


def counted(project: Project) -> dict[Cell, int]:
    """Fold and release in this process; return what is not zero."""
    project.run_here()
    return {cell: value for cell, value in project.released().items() if value}


def records(project: Project, topic: str = CASE_EVENTS) -> list[Record]:
    log = project.log()
    try:
        return log.poll(topic, log.beginning_offsets(topic), log.end_offsets(topic), 10_000)
    finally:
        log.close()


def lie(registry: StandIn) -> None:
    """Hand out under each id the schema of another."""
    registry.schemas.append(registry.schemas.pop(0))


def test_events_are_emitted_and_counted_while_the_registry_lies(project: Project, registry: StandIn) -> None:
    registry.asked.clear()
    lie(registry)
    project.emit(LINES)
    written = records(project)
    assert {record.value[0] for record in written} == {0}
    assert counted(project) == TRUE
    assert registry.asked == []  # nobody so much as asked


def test_events_are_emitted_and_counted_while_the_registry_is_down(
    tmp_path: Path, require: Callable[[bool, str], None]
) -> None:
    """A real one that registered and then ended; without the file of its ids nothing would be written or read."""
    require(artifacts.obtainable(POM), artifacts.WANTED)
    registry = Apicurio(tmp_path / "registry")
    registry.start()
    try:
        project = configured(tmp_path / "project", registry.url)
        register(project)
    finally:
        registry.kill()
    project.emit(LINES)
    assert {record.value[0] for record in records(project)} == {0}
    assert counted(project) == TRUE


def asking(self: RegistrySettings) -> Mapping[int, bytes]:
    """The mutant: a reader that believes the registry each time it starts."""
    ids: dict[int, bytes] = {}
    for number in registry_ids.load(self.ids_file):
        with urllib.request.urlopen(f"{self.url}/schemas/ids/{number}", timeout=10) as answer:  # noqa: S310
            fingerprint = _fingerprint(json.load(answer))
        assert fingerprint is not None
        ids[number] = fingerprint
    return ids


def test_a_reader_that_asks_the_registry_is_found(
    project: Project, registry: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.emit(LINES)
    lie(registry)
    registry.asked.clear()
    monkeypatch.setattr(RegistrySettings, "ids", asking)
    assert counted(project) != TRUE
    assert registry.asked != []


def test_the_service_and_emitters_do_not_start_without_the_pinned_ids(project: Project) -> None:
    (project.folder / "registry-ids.json").unlink()
    for arguments in (("run", "--until-idle", "--as-of", "2024-01-08"), ("emit", "-")):
        said = project.quietcount(*arguments).refusal()
        assert f"{project.folder / 'registry-ids.json'}: there is no such file" in said
        assert "`quietcount schemas register` writes it" in said


def known_to_somebody_else(project: Project) -> tuple[Path, int]:
    """Let the file of pinned ids lack HelpRequested, of which events were emitted; return the file, and the id."""
    path = project.folder / "registry-ids.json"
    pinned = registry_ids.read(path)
    assert pinned is not None
    fingerprint = SchemaRegistry.load().event_type("HelpRequested").current.fingerprint
    ((number, _),) = [each for each in pinned.ids.items() if each[1] == fingerprint]
    registry_ids.save(path, PinnedIds({each: known for each, known in pinned.ids.items() if each != number}))
    return path, number


def test_records_of_an_id_that_was_not_pinned_are_counted_once_they_are_replayed(project: Project) -> None:
    """They were rejected, and the offset is past them: nothing is folded again."""
    project.emit(LINES)
    before = (project.folder / "registry-ids.json").read_text()
    path, _ = known_to_somebody_else(project)
    project.run_here("2023-01-02")
    letters = records(project, DEAD_LETTERS)
    assert {dict(letter.headers)["reason"] for letter in letters} == {b"unknown_fingerprint"}
    assert len(letters) == sum(line["event"] == "HelpRequested" for line in LINES)
    path.write_text(before)
    project.quietcount("dead-letters", "replay").done()
    assert counted(project) == TRUE


def test_pinning_an_id_alone_counts_nothing_that_was_rejected(project: Project) -> None:
    """The twin: without the replay."""
    project.emit(LINES)
    before = (project.folder / "registry-ids.json").read_text()
    path, _ = known_to_somebody_else(project)
    project.run_here("2023-01-02")
    path.write_text(before)
    assert counted(project) != TRUE


def test_an_id_for_a_schema_that_nobody_here_has_changes_nothing(project: Project) -> None:
    """An older or newer peer registered it; folding anew for it would be work for nothing."""
    project.emit(LINES)
    project.run_here("2023-01-02")
    path = project.folder / "registry-ids.json"
    pinned = registry_ids.read(path)
    assert pinned is not None
    before = project.state()
    registry_ids.save(path, PinnedIds({**pinned.ids, 900: bytes(8)}))
    project.run_here("2023-01-02")
    assert project.state() == before
    assert counted(project) == TRUE


def test_dead_letters_of_an_id_that_is_pinned_now_are_replayed(project: Project) -> None:
    """In the framing of this side; an event that the service counted by itself meanwhile counts once."""
    project.emit(LINES)
    before = (project.folder / "registry-ids.json").read_text()
    path, number = known_to_somebody_else(project)
    project.run_here("2023-01-02")
    letters = records(project, DEAD_LETTERS)
    path.write_text(before)
    result = CliRunner().invoke(dead_letters_command, ["replay", "--config", str(project.config)])
    assert result.exit_code == 0, result.exception
    values = [record.value for record in records(project)]
    assert len(values) == len(LINES) + len(letters)
    assert values.count(letters[0].value) == 2
    assert letters[0].value[1:5] == number.to_bytes(4, "big")
    assert counted(project) == TRUE


def test_a_log_may_hold_both_framings(project: Project) -> None:
    """As it does from the day on which a registry was configured, or taken away."""
    half = len(LINES) // 2
    project.emit(LINES[:half], "framed.jsonl")
    framed = project.config.read_text(encoding="utf-8")
    project.config.write_text(EXACT, encoding="utf-8")
    project.emit(LINES[half:], "single.jsonl")
    project.config.write_text(framed, encoding="utf-8")
    assert {record.value[0] for record in records(project)} == {0x00, 0xC3}
    assert counted(project) == TRUE


def test_without_a_registry_framed_records_are_dead_letters_and_good_ones_are_counted(project: Project) -> None:
    project.emit(LINES[:10])
    project.config.write_text(EXACT, encoding="utf-8")
    log = project.log()
    try:
        codec = Codec(SchemaRegistry.load())
        one = Codec(SchemaRegistry.load((), registry_ids.load(project.folder / "registry-ids.json")))
        event = next(one.decode(record.value) for record in records(project))
        log.append(CASE_EVENTS, [NewRecord(event.case_key, codec.encode(event), 0)])
    finally:
        log.close()
    project.run_here("2023-01-02")
    letters = records(project, DEAD_LETTERS)
    assert {dict(letter.headers)["reason"] for letter in letters} == {b"unknown_framing"}
    assert len(letters) == 10


def test_a_registration_that_is_refused_leaves_what_was_pinned(project: Project, registry: StandIn) -> None:
    project.emit(LINES)
    before = (project.folder / "registry-ids.json").read_bytes()
    lie(registry)
    result = CliRunner().invoke(schemas, ["register", "--config", str(project.config)])
    assert isinstance(result.exception, SchemasError)
    assert (project.folder / "registry-ids.json").read_bytes() == before
    assert counted(project) == TRUE
