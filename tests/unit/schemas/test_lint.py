"""The lint: what a schema may carry, each refusal for its own reason, at its own field."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import fastavro
import pytest
from tests.strategies import casework_files, envelope, trial

from quietcount_schemas.events.definition import read_definition
from quietcount_schemas.finding import place
from quietcount_schemas.lint.rules import LintReason, lint
from quietcount_schemas.registry import CASEWORK

pytestmark = pytest.mark.quick

GOOD = trial(
    {
        "name": "other_kind",
        "type": "Kind",
        "default": "B",
        "doc": "Another kind.",
        "quietcount.title": {"en": "Other kind", "zh-Hant-TW": "另一種"},
        "quietcount.labels": {"en": {"A": "The first", "B": "x" * 100}, "es-419": {"A": "Uno", "B": "Dos"}},
    },
    {"name": "urgent", "type": "boolean", "default": False, "doc": "Whether it hurries."},
    {
        "name": "hurt",
        "type": {"type": "boolean"},
        "default": False,
        "doc": "Whether it hurts.",
        "quietcount.labels": {"de": {"true": "ja", "false": "nein"}},
    },
    {"name": "maybe_kind", "type": ["null", "example.trial.Kind"], "default": None, "doc": "Perhaps a kind."},
    {
        "name": "due",
        "type": ["null", {"type": "int", "logicalType": "date", "minimum": 0, "maximum": 10}],
        "default": None,
        "doc": "When.",
    },
)
KIND, PEOPLE, REFERENCE, URGENT, MAYBE, DUE = 4, 5, 6, 7, 9, 10
DATE = {"type": "int", "logicalType": "date", "minimum": 0}

Edit = Callable[[dict[str, Any]], object]


def typed(written: object) -> Edit:
    """Give the field `people` another type."""
    return lambda schema: schema["fields"][PEOPLE].update(type=written)


def field(index: int, **changes: object) -> Edit:
    return lambda schema: schema["fields"][index].update(changes)


def kind(**changes: object) -> Edit:
    return lambda schema: schema["fields"][KIND]["type"].update(changes)


def test_a_schema_of_everything_allowed_has_no_finding_and_fastavro_takes_it() -> None:
    assert lint(GOOD, "1.avsc") == []
    fastavro.parse_schema(copy.deepcopy(GOOD), named_schemas={})


def test_a_whole_number_may_have_a_title() -> None:
    schema = copy.deepcopy(GOOD)
    schema["fields"][PEOPLE]["quietcount.title"] = {"en": "People", "uk": "Люди"}
    assert lint(schema, "1.avsc") == []


@pytest.mark.parametrize("name", casework_files())
def test_the_built_in_schemas_have_no_finding(name: str) -> None:
    assert lint(read_definition(CASEWORK / name, name), name) == []


def digits(count: int, values: int = 10_000) -> list[dict[str, Any]]:
    """Fields that each carry four digits of an identifier."""
    written = {"type": "int", "minimum": 0, "maximum": values - 1}
    return [{"name": f"digits{n}", "type": written, "default": 0, "doc": "Digits."} for n in range(count)]


def labelled(labels: object, index: int = KIND) -> Edit:
    return lambda schema: schema["fields"][index].update({"quietcount.labels": labels})


def titled(titles: object, index: int = KIND) -> Edit:
    return lambda schema: schema["fields"][index].update({"quietcount.title": titles})


_WRONG_LABELS: list[object] = [
    [],
    "A",
    {"english": {"A": "a", "B": "b"}},
    {"EN": {"A": "a", "B": "b"}},
    {"en_GB": {"A": "a", "B": "b"}},
    {"en\n": {"A": "a", "B": "b"}},
    {"en": ["a", "b"]},
    {"en": {"A": "a"}},
    {"en": {"A": "a", "B": "b", "C": "c"}},
    {"en": {"A": "a", "B": "b"}, "de": {"A": "a"}},
    {"en": {"A": "a", "B": ""}},
    {"en": {"A": "a", "B": " "}},
    {"en": {"A": "a", "B": 1}},
    {"en": {"A": "a", "B": "x" * 101}},
    {"en": {"A": "a", "B": "two\nlines"}},
    {"en": {"A": "a", "B": "two\u2028lines"}},
    {"en": {"A": "a", "B": "half a pair \ud800"}},
]

REFUSED: list[tuple[LintReason, str, Edit]] = [
    *[(LintReason.LABELS_INVALID, "kind", labelled(labels)) for labels in _WRONG_LABELS],
    (LintReason.LABELS_INVALID, "kind", titled("Kind")),
    (LintReason.LABELS_INVALID, "kind", titled({"en": {"A": "a"}})),
    (LintReason.LABELS_INVALID, "kind", titled({"e": "Kind"})),
    (LintReason.LABELS_INVALID, "people", titled({"en": ""}, PEOPLE)),
    (LintReason.LABELS_INVALID, "people", labelled({"en": {"1": "one"}}, PEOPLE)),
    (LintReason.LABELS_INVALID, "due", titled({"en": "Due"}, DUE)),
    (LintReason.LABELS_INVALID, "urgent", labelled({"en": {"yes": "yes", "no": "no"}}, URGENT)),
    (LintReason.LABELS_INVALID, "other_kind", labelled({"en": {"A": "a"}}, REFERENCE)),
    (LintReason.LABELS_INVALID, "maybe_kind", labelled({"en": {"A": "a"}}, MAYBE)),
    (LintReason.UNKNOWN_ATTRIBUTE, "revision", titled({"en": "Revision"}, 2)),
    (LintReason.UNKNOWN_ATTRIBUTE, "kind", kind(**{"quietcount.labels": {"en": {"A": "a", "B": "b"}}})),
    (LintReason.STRING, "people", typed("string")),
    (LintReason.STRING, "people", typed(["null", "string"])),
    (LintReason.STRING, "people", typed({"type": "string"})),
    (LintReason.STRING, "people", typed({"type": "string", "logicalType": "uuid"})),
    (LintReason.BYTES, "people", typed("bytes")),
    (LintReason.BYTES, "people", typed({"type": "bytes", "logicalType": "decimal", "precision": 4})),
    (LintReason.FLOAT, "people", typed("float")),
    (LintReason.DOUBLE, "people", typed("double")),
    (LintReason.LONG, "people", typed("long")),
    (LintReason.LONG, "people", typed({"type": "long", "logicalType": "timestamp-millis"})),
    (LintReason.NULL, "people", typed("null")),
    (LintReason.ARRAY, "people", typed({"type": "array", "items": "null"})),  # 5 bytes of it took 1.35 GB
    (LintReason.MAP, "people", typed({"type": "map", "values": "int"})),
    (LintReason.NESTED_RECORD, "people", typed({"type": "record", "name": "Inner", "fields": []})),
    (LintReason.NESTED_RECORD, "people", typed({"type": "error", "name": "Inner", "fields": []})),
    (LintReason.RECURSION, "people", typed("Trial")),
    (LintReason.RECURSION, "people", typed(["null", "example.trial.Trial"])),  # 5 kB of it ended the process
    (LintReason.FIXED, "people", typed({"type": "fixed", "name": "Name", "size": 64})),
    (LintReason.FIXED, "people", typed({"type": "fixed", "name": "Sixteen", "size": 16})),
    (LintReason.FIXED, "people", typed("CaseKey")),
    (LintReason.UNION, "people", typed(["string", "null"])),
    (LintReason.UNION, "people", typed(["null", "boolean", "Kind"])),
    (LintReason.UNION, "people", typed(["boolean"])),
    (LintReason.UNION, "people", typed([])),
    (LintReason.UNION, "people", typed(["null", ["null", "boolean"]])),
    (LintReason.INT_UNBOUNDED, "people", typed("int")),
    (LintReason.INT_UNBOUNDED, "people", typed({"type": "int"})),
    (LintReason.INT_UNBOUNDED, "people", typed({"type": "int", "minimum": 0})),
    (LintReason.INT_UNBOUNDED, "people", typed({"type": "int", "logicalType": "date"})),
    (LintReason.LOGICAL_TYPE, "people", typed({"type": "int", "logicalType": "time-millis"})),
    (LintReason.LOGICAL_TYPE, "people", typed({"type": "boolean", "logicalType": "date"})),
    (LintReason.BOUNDS_INVALID, "people", typed({"type": "int", "minimum": 2, "maximum": 1})),
    (LintReason.BOUNDS_INVALID, "people", typed({"type": "int", "minimum": 0, "maximum": 2**31})),
    (LintReason.BOUNDS_INVALID, "people", typed({"type": "int", "minimum": -(2**31) - 1, "maximum": 2})),
    (LintReason.BOUNDS_INVALID, "people", typed({"type": "int", "minimum": False, "maximum": 2})),
    (LintReason.BOUNDS_INVALID, "people", typed({"type": "int", "minimum": 0.0, "maximum": 2})),
    (LintReason.INT_TOO_WIDE, "people", typed({"type": "int", "minimum": 0, "maximum": 10_000})),
    (LintReason.INT_TOO_WIDE, "people", typed({"type": "int", "minimum": -(2**31), "maximum": 2**31 - 1})),
    (LintReason.INT_TOO_WIDE, "people", typed(["null", {"type": "int", "minimum": 1, "maximum": 20_000}])),
    (LintReason.TOO_MUCH_INFORMATION, "", lambda schema: schema["fields"].extend(digits(5))),
    (LintReason.DOC_INVALID, "people", field(PEOPLE, doc="One\x1b[2Jline.")),
    (LintReason.DOC_INVALID, "people", field(PEOPLE, doc="Two\nlines.")),
    (LintReason.DOC_INVALID, "kind", kind(doc="Half a pair \ud800.")),
    (LintReason.DOC_INVALID, "", lambda schema: schema.update(doc="A\u2028B")),
    (LintReason.DOC_INVALID, "case_key", lambda schema: schema["fields"][0].update(doc="\x00")),
    *((LintReason.NAME_RESERVED, name, field(PEOPLE, name=name)) for name in ("line", "reason", "original", "self")),
    (LintReason.NAME_RESERVED, "event", field(PEOPLE, name="event")),
    (LintReason.NAME_INVALID, r"'\x1b[2J\u043f\ud800'", field(PEOPLE, name="\x1b[2J\u043f\ud800")),
    (
        LintReason.BOUNDS_INVALID,
        "people",
        typed({**DATE, "maximum": 10**7}),
    ),
    (LintReason.UNKNOWN_TYPE, "people", typed("Nowhere")),
    (LintReason.UNKNOWN_TYPE, "people", typed({"type": "Kind"})),
    (LintReason.UNKNOWN_TYPE, "people", typed({"type": {"type": "int"}})),
    (LintReason.UNKNOWN_TYPE, "people", typed(None)),
    (LintReason.UNKNOWN_TYPE, "people", typed(5)),
    (LintReason.UNKNOWN_TYPE, "people", lambda schema: schema["fields"][PEOPLE].pop("type")),
    (LintReason.UNKNOWN_ATTRIBUTE, "people", typed({"type": "int", "minimum": 1, "maximum": 9, "maximun": 3})),
    (LintReason.UNKNOWN_ATTRIBUTE, "people", field(PEOPLE, order="ignore")),
    (LintReason.UNKNOWN_ATTRIBUTE, "", lambda schema: schema.update({"quietcount.rule": "withdrawal"})),
    (LintReason.ALIASES, "people", field(PEOPLE, aliases=["persons"])),
    (LintReason.ALIASES, "kind", kind(aliases=["Sort"])),
    (LintReason.ALIASES, "", lambda schema: schema.update(aliases=["Test"])),
    (LintReason.DEFAULT_MISSING, "people", lambda schema: schema["fields"][PEOPLE].pop("default")),
    (LintReason.DEFAULT_INVALID, "people", field(PEOPLE, default=10)),
    (LintReason.DEFAULT_INVALID, "people", field(PEOPLE, default=True)),
    (LintReason.DEFAULT_INVALID, "people", field(PEOPLE, default=None)),
    (LintReason.DEFAULT_INVALID, "kind", field(KIND, default="C")),
    (LintReason.DEFAULT_INVALID, "kind", field(KIND, default=["A"])),
    (LintReason.DEFAULT_INVALID, "other_kind", field(REFERENCE, default="C")),
    (LintReason.DEFAULT_INVALID, "urgent", field(URGENT, default=0)),
    (LintReason.DEFAULT_INVALID, "maybe_kind", field(MAYBE, default="A")),
    (LintReason.DEFAULT_INVALID, "kind", kind(default="C")),
    (LintReason.DOC_MISSING, "people", lambda schema: schema["fields"][PEOPLE].pop("doc")),
    (LintReason.DOC_MISSING, "people", field(PEOPLE, doc="  ")),
    (LintReason.DOC_MISSING, "people", field(PEOPLE, doc=["A", "list"])),
    (LintReason.DOC_MISSING, "kind", lambda schema: schema["fields"][KIND]["type"].pop("doc")),
    (LintReason.DOC_MISSING, "occurred_on", lambda schema: schema["fields"][3].pop("doc")),
    (LintReason.DOC_MISSING, "", lambda schema: schema.pop("doc")),
    (LintReason.ENUM_DEFAULT_MISSING, "kind", lambda schema: schema["fields"][KIND]["type"].pop("default")),
    (LintReason.SYMBOLS_INVALID, "kind", kind(symbols=["A", "with space"])),
    (LintReason.SYMBOLS_INVALID, "kind", kind(symbols="AB")),
    (LintReason.TOO_MANY_SYMBOLS, "kind", kind(symbols=["A", *(f"B{n}" for n in range(250))])),
    (LintReason.NAME_CLASH, "kind", kind(symbols=["A", "a"])),
    (LintReason.NAME_CLASH, "kind", kind(symbols=["A", "A"])),
    (LintReason.NAME_CLASH, "People", field(URGENT, name="People")),
    (LintReason.NAME_CLASH, "people", field(URGENT, name="people")),
    (LintReason.NAME_CLASH, "case_key", lambda schema: schema["fields"].append(envelope()[0])),
    (
        LintReason.NAME_CLASH,
        "people",
        typed({"type": "enum", "name": "CaseKey", "symbols": ["A"], "default": "A", "doc": "x"}),
    ),
    (LintReason.NAME_RESERVED, "estimate", field(PEOPLE, name="estimate")),
    (LintReason.NAME_RESERVED, "Case", field(PEOPLE, name="Case")),
    (LintReason.NAME_INVALID, "_people", field(PEOPLE, name="_people")),
    (LintReason.NAME_INVALID, "'pe-ople'", field(PEOPLE, name="pe-ople")),
    (LintReason.NAME_INVALID, "p" * 64, field(PEOPLE, name="p" * 64)),
    (LintReason.NAME_INVALID, "(a field without a name)", field(PEOPLE, name=3)),
    (LintReason.NAME_INVALID, "kind", kind(name="record")),  # Avro's own
    (LintReason.NAME_INVALID, "", lambda schema: schema.update(name="example.Trial")),
    (LintReason.NAMESPACE_INVALID, "", lambda schema: schema.pop("namespace")),
    (LintReason.NAMESPACE_INVALID, "", lambda schema: schema.update(namespace="a..b")),
    (LintReason.ROLE_INVALID, "", lambda schema: schema.update({"quietcount.role": "withdraw"})),
    (LintReason.ROLE_INVALID, "", lambda schema: schema.update({"quietcount.role": ["event"]})),
    (LintReason.WITHDRAWAL_WITH_ATTRIBUTES, "", lambda schema: schema.update({"quietcount.role": "withdrawal"})),
    (LintReason.ENVELOPE, "case_key", lambda schema: schema["fields"].pop(0)),
    (LintReason.ENVELOPE, "event_id", lambda schema: schema["fields"].insert(1, schema["fields"].pop(2))),
    (LintReason.ENVELOPE, "case_key", lambda schema: schema["fields"][0]["type"].update(size=32)),
    (LintReason.ENVELOPE, "event_id", lambda schema: schema["fields"][1].update(type="string")),
    (LintReason.ENVELOPE, "revision", lambda schema: schema["fields"][2].update(default=1)),
    (LintReason.ENVELOPE, "revision", lambda schema: schema["fields"][2].update(default=False)),
    (LintReason.ENVELOPE, "revision", lambda schema: schema["fields"][2]["type"].update(maximum=2**31 - 1)),
    (LintReason.ENVELOPE, "occurred_on", lambda schema: schema["fields"][3]["type"].pop("logicalType")),
    (LintReason.ENVELOPE, "occurred_on", lambda schema: schema["fields"][3].update(default=0)),
    (LintReason.FIELDS_INVALID, "", lambda schema: schema.update(fields={})),
    (LintReason.FIELDS_INVALID, "", lambda schema: schema["fields"].append("name")),
    (LintReason.NOT_A_RECORD, "", lambda schema: schema.update(type="array", items="null")),
]


@pytest.mark.promise("lint")
@pytest.mark.parametrize("reason, path, edit", REFUSED)
def test_a_schema_is_refused_for_its_own_reason_at_its_own_field(reason: LintReason, path: str, edit: Edit) -> None:
    schema = copy.deepcopy(GOOD)
    edit(schema)
    found = lint(schema, "Trial/1.avsc")
    assert (place("Trial/1.avsc", path), reason) in [(finding.where, finding.code) for finding in found]
    assert all(str(finding).startswith("Trial/1.avsc: ") for finding in found)
    assert all(finding.what and finding.remedy and finding.code in str(finding) for finding in found)


@pytest.mark.parametrize(
    "symbols, what, instead",
    [
        (["A", "7.1"], 'the symbol "7.1" holds "."', "CODE_7_1"),
        (["F43.1", "F43.2", "B"], 'the symbol "F43.1" holds "." (1 more of the symbols cannot be used)', "F43_1"),
        (["A", "24"], 'the symbol "24" begins with a digit', "CODE_24"),
        (["with space"], 'the symbol "with space" holds a space', "WITH_SPACE"),
        (["Café"], 'the symbol "Café" holds "é"', "CAFE"),
        (["Телефон"], 'the symbol "Телефон" holds "Т"', None),
        (["A", ""], 'the symbol "" is empty', None),
        (["---"], 'the symbol "---" holds "-"', None),
        (["A\x1b[2J"], 'the symbol "A\\x1b[2J" holds "\\x1b"', "A_2J"),
        (["A" * 64], f'the symbol "{"A" * 40}..." has more than 63 characters', None),
        (["A", 7], "a symbol is not text", None),
        ([], 'the "symbols" are not a list of names', None),
    ],
)
def test_a_symbol_that_cannot_be_used_is_named_with_the_reason_and_a_way_on(
    symbols: list[object], what: str, instead: str | None
) -> None:
    schema = copy.deepcopy(GOOD)
    kind(symbols=symbols)(schema)
    [found] = [each for each in lint(schema, "1.avsc") if each.code == LintReason.SYMBOLS_INVALID]
    assert found.what == what
    assert (f"write {instead}, and let a mapping" in found.remedy) == (instead is not None)
    assert found.remedy.startswith(("Write letters from A to Z", "If it is a code"))


def test_symbols_that_clash_are_named() -> None:
    schema = copy.deepcopy(GOOD)
    kind(symbols=["PHONE", "CHAT", "Phone"])(schema)
    assert "the name Phone" in next(each.what for each in lint(schema, "1.avsc"))


def test_every_reason_has_a_schema_that_shows_it() -> None:
    elsewhere = {LintReason.TOO_LARGE, LintReason.NAME_MISMATCH}
    assert {reason for reason, _, _ in REFUSED} == set(LintReason) - elsewhere


def test_an_int_may_take_ten_thousand_values_wherever_they_lie() -> None:
    schema = copy.deepcopy(GOOD)
    typed({"type": "int", "minimum": -5000, "maximum": 4999})(schema)
    assert lint(schema, "1.avsc") == []


@pytest.mark.parametrize(
    "fields, fits",
    [
        (digits(4, 2**12) + digits(16, 2)[4:] + digits(20, 2)[16:], True),  # 48 + 16 bits
        (digits(4, 2**12) + digits(21, 2)[4:], False),
        ([{"name": f"b{n}", "type": "boolean", "default": False, "doc": "B."} for n in range(64)], True),
        ([{"name": f"b{n}", "type": "boolean", "default": False, "doc": "B."} for n in range(65)], False),
        # null is a value more: 3 ** 41 is more than 2 ** 64
        ([{"name": f"b{n}", "type": ["null", "boolean"], "default": None, "doc": "B."} for n in range(40)], True),
        ([{"name": f"b{n}", "type": ["null", "boolean"], "default": None, "doc": "B."} for n in range(41)], False),
        (
            [{"name": f"d{n}", "type": {**DATE, "maximum": 2**16 - 1}, "default": 0, "doc": "D."} for n in range(4)],
            True,
        ),
        ([{"name": f"d{n}", "type": {**DATE, "maximum": 2**16}, "default": 0, "doc": "D."} for n in range(4)], False),
    ],
)
def test_what_is_no_enum_tells_64_bits_at_most(fields: list[dict[str, Any]], fits: bool) -> None:
    found = lint({**GOOD, "fields": [*envelope(), *fields]}, "1.avsc")
    assert [finding.code for finding in found] == ([] if fits else [LintReason.TOO_MUCH_INFORMATION])
    assert fits or "an identifier would fit" in str(found[0])


def test_no_finding_acts_on_a_terminal() -> None:
    schema = copy.deepcopy(GOOD)
    schema["fields"][PEOPLE].update({"name": "\x1b[2J", "doc": "\x07", "\x1b]0;x": 1})
    found = lint(schema, "a\x1b[2J\ud800.avsc")
    assert len(found) >= 3
    for finding in found:
        assert str(finding).isprintable()
        str(finding).encode()


def test_an_enum_may_have_250_symbols() -> None:
    schema = copy.deepcopy(GOOD)
    kind(symbols=["A", *(f"B{n}" for n in range(249))])(schema)
    schema["fields"][REFERENCE]["default"] = "A"
    labels = schema["fields"][REFERENCE]["quietcount.labels"]
    assert LintReason.LABELS_INVALID in [finding.code for finding in lint(schema, "1.avsc")]
    labels["en"] = labels["es-419"] = {symbol: symbol for symbol in schema["fields"][KIND]["type"]["symbols"]}
    assert lint(schema, "1.avsc") == []


def test_the_worst_case_size_is_counted_with_the_framing() -> None:
    schema = copy.deepcopy(GOOD)
    # 10 of framing, 38 of envelope, and 5 for each int that needs all its bytes: 92 of them are 508, 93 are too much.
    full = {"type": "int", "minimum": 2**31 - 1, "maximum": 2**31 - 1}
    schema["fields"] = envelope() + [
        {"name": f"f{number}", "type": full, "default": 2**31 - 1, "doc": "Any."} for number in range(92)
    ]
    assert lint(schema, "1.avsc") == []
    schema["fields"].append({"name": "more", "type": full, "default": 2**31 - 1, "doc": "Any."})
    assert [finding.code for finding in lint(schema, "1.avsc")] == [LintReason.TOO_LARGE]


def test_the_size_counts_null_branches_and_references() -> None:
    schema = copy.deepcopy(GOOD)
    enum = GOOD["fields"][KIND]
    nullable = [
        {"name": f"f{number}", "type": ["null", "Kind"], "default": None, "doc": "Any."} for number in range(231)
    ]
    schema["fields"] = [*envelope(), enum, *nullable]
    assert lint(schema, "1.avsc") == []  # 48 + 1 + 2 * 231 = 511
    schema["fields"].append({"name": "more", "type": ["null", "boolean"], "default": None, "doc": "Any."})
    assert [finding.code for finding in lint(schema, "1.avsc")] == [LintReason.TOO_LARGE]


@pytest.mark.parametrize("value", [None, 5, [], "record", ["record"], {"type": ["record"]}, {}])
def test_what_is_no_record_is_refused(value: object) -> None:
    assert [finding.code for finding in lint(value, "1.avsc")] == [LintReason.NOT_A_RECORD]
