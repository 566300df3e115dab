from __future__ import annotations

import csv
import datetime as dt
import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quietcount_producers import EventRefused, Pepper, ProducersError
from quietcount_producers.composing.composition import Composer
from quietcount_producers.composing.identifiers import normal_identifier
from quietcount_producers.files.emission import Check, CheckedRecords, check
from quietcount_producers.files.event_files import FileFormat
from quietcount_schemas.codec import Codec
from quietcount_schemas.events.event_types import EventType
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import NewRecord
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

REGISTRY = SchemaRegistry.load()
CODEC = Codec(REGISTRY)
COMPOSER = Composer(REGISTRY, Pepper(bytes(range(32))), Period.MONTH, lambda: dt.date(2024, 1, 1))
COLUMNS = ["event", "case", "occurred_on", *{f.name: f for e in REGISTRY.event_types.values() for f in e.attributes}]


def is_identifier(text: str) -> bool:
    try:
        normal_identifier(text)
    except EventRefused:
        return False
    return True


# What the cell of an identifier may hold: quotation marks and commas, too.
identifiers = st.one_of(
    st.text("aЯß1\"',;. ", min_size=1, max_size=12),
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12),
).filter(is_identifier)


def facts_of(kind: EventType) -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries(
        {
            "event": st.just(kind.name),
            "case": identifiers,
            "occurred_on": st.dates(dt.date(2023, 1, 1), dt.date(2023, 12, 31)).map(str),
        },
        optional={f.name: st.sampled_from(f.symbols) for f in kind.attributes},
    )


facts = st.sampled_from(list(REGISTRY.event_types.values())).flatmap(facts_of)


def checked(data: bytes, file_format: FileFormat) -> tuple[Check, list[NewRecord]]:
    records = CheckedRecords(Path(tempfile.gettempdir()))
    try:
        found = check(io.BytesIO(data), "the file", file_format, COMPOSER, records=records)
        return found, [record for batch in records.batches() for record in batch]
    finally:
        records.close()


def as_jsonl(rows: list[Mapping[str, str]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_csv(rows: list[Mapping[str, str]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


@given(st.lists(facts, max_size=12).flatmap(lambda rows: st.tuples(st.just(rows), st.permutations([*rows, *rows[:3]]))))
def test_the_same_facts_have_the_same_ids_in_any_format_and_order(
    given_rows: tuple[list[Mapping[str, str]], list[Mapping[str, str]]],
) -> None:
    _, rows = given_rows
    found, records = checked(as_jsonl(rows), FileFormat.JSONL)
    assert (found.good, found.problems) == (len(rows), 0), found.shown
    assert checked(as_csv(rows), FileFormat.CSV)[1] == records
    assert sorted(checked(as_csv(rows[::-1]), FileFormat.CSV)[1]) == sorted(records)
    ids = [CODEC.decode(record.value).event_id for record in records]
    assert len(set(ids)) == len(ids)


@given(st.lists(facts, min_size=1, max_size=8))
def test_a_record_says_what_its_line_says(rows: list[Mapping[str, str]]) -> None:
    for row, record in zip(rows, checked(as_jsonl(rows), FileFormat.JSONL)[1], strict=True):
        event = CODEC.decode(record.value)
        assert event.event == row["event"]
        assert event.case_key == record.key
        assert event.occurred_on == dt.date.fromisoformat(row["occurred_on"]).replace(day=1)
        for name, symbol in row.items():
            if name not in ("event", "case", "occurred_on"):
                assert event.attributes[name] == symbol


_BEGINNINGS = st.sampled_from([b"", b"\xef\xbb\xbf", b"event,case,occurred_on\n", b'{"event": "HelpRequested", '])


@pytest.mark.promise("whole-files")
@settings(max_examples=300)
@given(
    _BEGINNINGS, st.one_of(st.binary(max_size=300), st.text(max_size=200).map(str.encode)), st.sampled_from(FileFormat)
)
def test_no_file_whatever_gives_another_error_than_ours(start: bytes, rest: bytes, file_format: FileFormat) -> None:
    try:
        found, records = checked(start + rest, file_format)
    except ProducersError:
        return
    assert len(records) == found.good
