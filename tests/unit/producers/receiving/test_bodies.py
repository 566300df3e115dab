"""Which bodies have records: strict JSON alone, and a reason that shows nothing of the others."""

from __future__ import annotations

import json

import pytest

from quietcount_producers.errors import EventRefused
from quietcount_producers.receiving import bodies
from quietcount_producers.receiving.bodies import DEEPEST, MOST_RECORDS, records_of, text_of

pytestmark = pytest.mark.quick


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


@pytest.mark.parametrize(
    "body, path, records",
    [
        (b'{"a": 1}', None, [{"a": 1}]),
        (b'\xef\xbb\xbf {"a": "\xc3\xa9"} ', None, [{"a": "é"}]),
        (b'[{"a": 1}, {}]', None, [{"a": 1}, {}]),
        (b"[]", None, []),
        (b'{"data": {"rows": [{"a": [1, {"b": null}]}]}}', "data.rows", [{"a": [1, {"b": None}]}]),
    ],
)
def test_an_object_or_a_list_of_objects_is_read(body: bytes, path: str | None, records: object) -> None:
    assert records_of(body, path) == records


@pytest.mark.parametrize(
    "body, path, reason",
    [
        (b"", None, "is not JSON"),
        (b"a=1&b=2", None, "is not JSON"),
        (b'{"a": 1} {"a": 2}', None, "is not JSON"),
        (b'{"a": "\xff"}', None, "not text in UTF-8"),
        ('{"a": 1}'.encode("utf-16"), None, "not text in UTF-8"),
        (b'{"a": 1, "a": 2}', None, "a key twice"),
        (b'[{"x": {"a": 1, "a": 1}}]', None, "a key twice"),
        (b'{"a": NaN}', None, "NaN"),
        (b'{"a": -Infinity}', None, "NaN"),
        (b'{"a": 1e999}', None, "too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", None, "is not JSON"),
        (b"[" * 100_000, None, "is not JSON"),
        (nested(DEEPEST + 1), None, "nested deeper"),
        (b"[" + b"{}," * MOST_RECORDS + b"{}]", None, "more than 10,000 records"),
        (b"1", None, "neither a JSON object"),
        (b'[{"a": 1}, 5]', None, "neither a JSON object"),
        (b'{"rows": {}}', "rows", "has no list at rows"),
        (b'[{"rows": []}]', "rows", "has no list at rows"),
    ],
)
def test_whatever_else_is_refused_with_a_reason(body: bytes, path: str | None, reason: str) -> None:
    with pytest.raises(EventRefused) as caught:
        records_of(body, path)
    assert reason in caught.value.reason


def test_what_is_nested_as_deep_as_is_taken_can_be_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    (record,) = records_of(nested(DEEPEST), None)
    assert json.loads(json.dumps(record)) == record
    monkeypatch.setattr(bodies, "DEEPEST", 10**6)  # the mutant: a bound that binds nothing
    assert records_of(nested(DEEPEST + 1), None)


def test_each_byte_of_a_body_can_be_had_again() -> None:
    body = bytes(range(256)) + "é".encode()
    kept = json.loads(json.dumps(text_of(body)))
    assert kept.encode("utf-8", "surrogateescape") == body
