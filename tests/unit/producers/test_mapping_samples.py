"""The mappings that come with the package, and those of exports found in public: from a file to the events in the log.

Each sample has the structure of a real export, line by line, and is about nobody.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from tests.unit.producers.emissions import Place, said
from tests.unit.producers.mappings.schemas_of_found import DEFINITIONS

from quietcount_producers.errors import ProducersError
from quietcount_producers.mapping import Mapping
from quietcount_producers.mapping.catalogue import SHIPPED, summary
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

HERE = Path(__file__).parent / "mappings"
SAMPLES = HERE / "samples"
REGISTRY = SchemaRegistry.load()

Counts = dict[tuple[str, str, str], int]
"""By type of event, month, and a symbol of interest: how many."""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path)
    (tmp_path / "events").mkdir()
    for definition in DEFINITIONS:
        (tmp_path / "events" / f"{definition['name']}.avsc").write_text(json.dumps(definition))
    text = found.config.read_text()
    found.config.write_text('schemas = ["events"]\n' + text)
    return found


def emitted(place: Place, sample: str, mapping: str) -> list[CaseEvent]:
    """Emit a sample twice, and return the events in the log with each id once, the highest revision of each."""
    for _ in range(2):
        result = place.run(str(SAMPLES / sample), "--mapping", mapping)
        assert result.exit_code == 0, said(result)
    events = place.events(Codec(SchemaRegistry.load([place.folder / "events"])))
    latest: dict[bytes, CaseEvent] = {}
    for event in events:
        before = latest.setdefault(event.event_id, event)
        latest[event.event_id] = event if event.revision > before.revision else before
    assert len(events) == 2 * len(latest)
    return list(latest.values())


def counted(events: list[CaseEvent], *fields: str) -> Counts:
    counts = Counter(
        (each.event, each.occurred_on.strftime("%Y-%m"), " ".join(str(each.attributes.get(f, "")) for f in fields))
        for each in events
    )
    return dict(counts)


def copied(place: Place, name: str, zone: str = "", *, fields: str = "") -> str:
    """Copy a mapping that comes with the package, fill in the time zone, and add `fields` to its first event."""
    text = SHIPPED[name].read_text(encoding="utf-8").replace('timezone = "FILL IN"', f'timezone = "{zone}"')
    if fields:
        top, first, *others = text.split("\n[[event]]")
        text = "\n[[event]]".join([top, f"{first}\n{fields}\n", *others])
    path = place.folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


REASONS = '[event.fields.help_kind]\nchoices = "{}"\n'
VALUES = 'values = { "desertion" = "DESERTION", "legal" = "LEGAL_AID", "move" = "RELOCATION" }'


EACH = {
    ("HelpRequested", "2023-10", "DESERTION"): 1,
    ("HelpRequested", "2023-10", "LEGAL_AID"): 2,
    ("HelpRequested", "2023-11", "RELOCATION"): 1,
    ("HelpRequested", "2023-11", "DESERTION"): 1,
}


def test_kobotoolbox_as_it_stands(place: Place) -> None:
    """One submission is not approved; the days are those of the phone, at both ends of a month."""
    events = emitted(place, "kobotoolbox.csv", "kobotoolbox")
    assert counted(events) == {("HelpRequested", "2023-10", ""): 2, ("HelpRequested", "2023-11", ""): 3}


def test_kobotoolbox_with_an_event_of_each_answer(place: Place) -> None:
    fields = REASONS.format("intake/reasons") + VALUES
    events = emitted(place, "kobotoolbox.csv", copied(place, "kobotoolbox", fields=fields))
    assert counted(events, "help_kind") == EACH


def test_kobotoolbox_with_an_event_of_each_column_that_is_marked(place: Place) -> None:
    symbols = {"desertion": "DESERTION", "legal": "LEGAL_AID", "move": "RELOCATION"}
    lines = [f'"intake/reasons/{answer}" = "{symbol}"' for answer, symbol in symbols.items()]
    fields = "\n".join(["[event.fields.help_kind.choices]", *lines])
    events = emitted(place, "kobotoolbox.csv", copied(place, "kobotoolbox", fields=fields))
    assert counted(events, "help_kind") == EACH


def test_kobotoolbox_as_json_makes_the_same_events_as_its_csv(place: Place) -> None:
    path = Path(copied(place, "kobotoolbox-json"))
    path.write_text(
        path.read_text(encoding="utf-8").replace("# [file]\n# records", "[file]\nrecords"), encoding="utf-8"
    )
    first = emitted(place, "kobotoolbox.json", str(path))
    assert counted(first) == {("HelpRequested", "2023-10", ""): 2, ("HelpRequested", "2023-11", ""): 3}
    result = place.run(str(SAMPLES / "kobotoolbox.csv"), "--mapping", "kobotoolbox")
    assert result.exit_code == 0, said(result)
    ids = Counter(each.event_id for each in place.events())
    assert set(ids.values()) == {3}  # twice as JSON, once as CSV


def test_odk_with_the_local_day_and_its_count_of_edits(place: Place) -> None:
    """22:30 in UTC on the last day of October is November in Kyiv; what was rejected or not decrypted is nobody."""
    events = emitted(place, "odk.csv", copied(place, "odk", "Europe/Kyiv"))
    assert counted(events) == {("HelpRequested", "2023-10", ""): 1, ("HelpRequested", "2023-11", ""): 2}
    assert sorted(each.revision for each in events) == [0, 1, 2]


def test_odk_with_an_event_of_each_answer(place: Place) -> None:
    fields = REASONS.format("intake-reasons") + VALUES
    events = emitted(place, "odk.csv", copied(place, "odk", "Europe/Kyiv", fields=fields))
    kinds = Counter(str(each.attributes["help_kind"]) for each in events)
    assert kinds == {"DESERTION": 2, "LEGAL_AID": 2}


def test_commcare_with_cases_that_are_opened_and_closed(place: Place) -> None:
    """21:30 in UTC is the next day in Nairobi; `---` is what CommCare writes for a property that a case lacks."""
    fields = '[event.fields.help_kind]\ncolumn = "reason"\n' + VALUES.replace("move", "other")
    events = emitted(place, "commcare.csv", copied(place, "commcare", "Africa/Nairobi", fields=fields))
    assert counted(events, "help_kind") == {
        ("HelpRequested", "2023-10", "LEGAL_AID"): 1,
        ("HelpRequested", "2023-11", "DESERTION"): 1,
        ("HelpRequested", "2023-11", "OTHER"): 1,
        ("HelpRequested", "2023-11", "RELOCATION"): 1,
        ("OutcomeRecorded", "2023-12", ""): 2,
    }
    assert sorted({each.revision for each in events}) == [0, 408, 731, 1538]


def test_primero_with_cases_that_are_registered_and_closed(place: Place) -> None:
    """A duplicate is nobody, and a case that was closed on no known day was opened all the same."""
    events = emitted(place, "primero.csv", "primero")
    assert counted(events) == {
        ("HelpRequested", "2023-10", ""): 2,
        ("HelpRequested", "2023-11", ""): 3,
        ("OutcomeRecorded", "2024-01", ""): 1,
    }


def test_primero_with_an_event_of_each_concern(place: Place) -> None:
    fields = REASONS.format("protection_concerns") + 'otherwise = "OTHER"\n'
    fields += 'values = { "arrested_detained" = "LEGAL_AID" }'
    events = emitted(place, "primero.csv", copied(place, "primero", fields=fields))
    kinds = Counter(each.attributes["help_kind"] for each in events if each.event == "HelpRequested")
    assert kinds == {"LEGAL_AID": 2, "OTHER": 2}


def test_globaleaks_with_the_stamp_of_the_last_update(place: Place) -> None:
    events = emitted(place, "globaleaks.csv", "globaleaks")
    assert counted(events) == {("HelpRequested", "2023-10", ""): 2, ("HelpRequested", "2023-11", ""): 1}
    assert sorted(each.revision for each in events) == [0, 33, 488]


def test_a_later_export_corrects_what_an_earlier_one_said(place: Place) -> None:
    """A report whose channel was changed counts once, with what was said last, in whatever order they come."""
    fields = '[event.fields.help_kind]\ncolumn = "Channel"\notherwise = "OTHER"\n'
    fields += 'values = { "Legal questions" = "LEGAL_AID" }'
    mapping = copied(place, "globaleaks", fields=fields)
    sample = (SAMPLES / "globaleaks.csv").read_text(encoding="utf-8")
    later = sample.replace("Corruption", "Legal questions").replace("20-11-2023 17:00", "20-11-2023 18:00")
    for number, content in enumerate((later, sample, later)):
        path = place.folder / f"reports{number}.csv"
        path.write_text(content, encoding="utf-8")
        assert place.run(str(path), "--mapping", mapping).exit_code == 0
    latest: dict[bytes, CaseEvent] = {}
    for event in place.events():
        before = latest.setdefault(event.event_id, event)
        latest[event.event_id] = event if event.revision > before.revision else before
    assert [each.attributes["help_kind"] for each in latest.values()] == ["LEGAL_AID"] * 3


# ---------------------------------------------------------------- exports found in public


def found(place: Place, name: str) -> list[CaseEvent]:
    return emitted(place, f"{name}.csv", str(HERE / f"{name}.toml"))


def test_aid_workers_with_days_in_three_columns_some_not_known(place: Place) -> None:
    events = found(place, "aid_workers")
    assert counted(events, "means", "context", "affected") == {
        ("WorkerAttacked", "2021-01", "SHOOTING AMBUSH 2"): 1,
        ("WorkerAttacked", "2021-02", "ASSAULT RAID 1"): 1,
        ("WorkerAttacked", "2022-12", "EXPLOSIVE OTHER 3"): 1,
    }


def test_police_shootings_with_several_weapons_in_a_cell(place: Place) -> None:
    assert counted(found(place, "police_shootings"), "weapon", "camera") == {
        ("PersonKilled", "2021-01", "GUN False"): 1,
        ("PersonKilled", "2021-01", "GUN True"): 1,
        ("PersonKilled", "2021-01", "KNIFE True"): 1,
        ("PersonKilled", "2021-02", "OTHER False"): 2,
        ("PersonKilled", "2021-02", "NONE False"): 1,
    }


def test_service_requests_with_american_days_and_requests_that_are_closed(place: Place) -> None:
    assert counted(found(place, "service_requests"), "channel", "borough") == {
        ("RequestFiled", "2021-06", "PHONE QUEENS"): 1,
        ("RequestFiled", "2021-06", "OTHER STATEN_ISLAND"): 1,
        ("RequestFiled", "2021-07", "ONLINE UNKNOWN"): 1,
        ("RequestClosed", "2021-06", " "): 1,
        ("RequestClosed", "2021-07", " "): 1,
    }


def test_vegetation_sites_by_the_phones_own_offset(place: Place) -> None:
    assert counted(found(place, "vegetation_sites"), "slope") == {
        ("SiteVisited", "2021-09", "FLAT"): 1,
        ("SiteVisited", "2021-10", "MID_SLOPE"): 1,
    }


def test_missing_migrants_whose_header_is_tags_in_another_encoding(place: Place) -> None:
    assert counted(found(place, "missing_migrants"), "confirmed", "sea", "dead", "missing") == {
        ("MigrantsLost", "2021-11", "VERIFIED True 1 1"): 1,
        ("MigrantsLost", "2021-11", "PARTIAL False 1 0"): 1,
        ("MigrantsLost", "2021-12", "UNKNOWN False 0 12"): 1,
    }


# ---------------------------------------------------------------- what comes with the package


@pytest.mark.parametrize("name", SHIPPED)
def test_a_mapping_that_comes_with_the_package_is_sound_or_says_what_to_fill_in(name: str) -> None:
    assert len(summary(name)) > 20
    blank = "FILL IN" in SHIPPED[name].read_text(encoding="utf-8")
    if not blank:
        assert Mapping.load(Path(name), REGISTRY).columns
        return
    with pytest.raises(ProducersError, match="Fill in timezone"):
        Mapping.load(Path(name), REGISTRY)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_stands_in_the_comments_of_a_mapping_can_be_taken_out_of_them(name: str, tmp_path: Path) -> None:
    """Each example in a comment is sound by itself: a person uncomments one, not all."""
    text = SHIPPED[name].read_text(encoding="utf-8").replace('timezone = "FILL IN"', 'timezone = "UTC"')
    assert "\n# [event.fields" in text
    blocks = [block for block in text.split("\n\n") if "\n# [" in f"\n{block}" or "\n# revision" in f"\n{block}"]
    examples = [part for block in blocks for part in block.split("\n#\n")]
    assert examples
    for number, example in enumerate(examples):
        lines = [line.removeprefix("# ") for line in example.splitlines() if is_toml(line)]
        changed = text.replace(example, "\n".join(lines))
        path = tmp_path / f"{number}.toml"
        path.write_text(changed, encoding="utf-8")
        Mapping.load(path, REGISTRY)


def is_toml(line: str) -> bool:
    """Whether a line is TOML, in a comment or not, and no sentence."""
    plain = line.removeprefix("# ")
    return plain.startswith(("[", '"')) or " = " in plain
