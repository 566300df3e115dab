"""Who is let in, and that an answer says nothing of what was delivered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.doors import MAPPING, TOKEN, Answer, ask, basic, configured, delivery, event_ids, inside, refused

from quietcount_producers import mapping
from quietcount_producers.errors import LogUnwritable
from quietcount_producers.receiving.application import BODY_BYTES, HEADER_BYTES, Application
from quietcount_producers.receiving.refusals import Refusals
from quietcount_producers.receiving.tokens import Tokens, given
from quietcount_producers.spool.event_spool import EventSpool

pytestmark = pytest.mark.quick

GOOD = json.dumps(delivery(1)).encode()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return configured(tmp_path, paths=("/kobo", "/other/form"))


Scene = Callable[[Application], Awaitable[list[Answer]]]


def asking(*asked: Mapping[str, Any]) -> Scene:
    async def scene(application: Application) -> list[Answer]:
        return [await ask(application, **each) for each in asked]

    return scene


def test_what_was_answered_with_200_is_in_the_log_once_however_often_it_came(config: Path) -> None:
    many = json.dumps([delivery(2), delivery(3)]).encode()
    answers = inside(config, asking({"body": GOOD}, {"body": many, "pieces": 7}, {"body": GOOD, "path": "/other/form"}))
    assert {answer.status for answer in answers} == {200}
    ids = event_ids(config.parent)
    assert (len(ids), len(set(ids))) == (4, 3)
    assert refused(config.parent) == []


def test_the_records_may_lie_inside_of_a_document(tmp_path: Path) -> None:
    config = configured(tmp_path, mapping=f'{MAPPING}\n[file]\nrecords = "data.rows"\n')
    wrapped = json.dumps({"data": {"rows": [delivery(1), delivery(2)]}, "sent": "now"}).encode()
    answers = inside(config, asking({"body": wrapped}, {"body": GOOD}))
    assert [answer.status for answer in answers] == [200, 200]
    assert len(event_ids(tmp_path)) == 2
    (kept,) = refused(tmp_path)
    assert kept["reason"] == "has no list at data.rows, where the mapping says that the records are"


CONTENTS = [
    GOOD,
    b"[]",
    b"",
    b"no JSON",
    b"\xff\xfe\x00",
    b"[" * 50_000,
    json.dumps(delivery(2, day="yesterday")).encode(),
    json.dumps(delivery(3, kind="of the tool's own")).encode(),
    json.dumps(delivery(4, person=None)).encode(),
    json.dumps({**delivery(5), "_uuid": ""}).encode(),
    json.dumps([delivery(6), delivery(7, day="x"), delivery(8)]).encode(),
]


def test_the_answer_is_the_same_whatever_was_delivered_and_what_was_refused_is_kept(config: Path) -> None:
    answers = inside(config, asking(*({"body": body} for body in CONTENTS)))
    assert set(map(str, answers)) == {str(answers[0])}
    assert answers[0].status == 200
    assert len(event_ids(config.parent)) == 3
    kept = refused(config.parent)
    assert len(kept) == 9
    texts = [each["original"] for each in kept if isinstance(each["original"], str)]
    assert texts == ["", "no JSON", "\udcff\udcfe\0", "[" * 50_000]
    records = [each["original"] for each in kept if not isinstance(each["original"], str)]
    assert [each["_uuid"] for each in records] == ["uuid:2", "uuid:3", "uuid:4", "", "uuid:7"]
    assert all(each["reason"] for each in kept)


def test_the_reason_names_the_key_of_the_tool(config: Path) -> None:
    inside(config, asking({"body": json.dumps(delivery(1, day="2090-01-01")).encode()}))
    (kept,) = refused(config.parent)
    assert str(kept["reason"]).startswith("day: lies in the future")


def test_a_fault_of_ours_is_kept_by_its_kind_and_the_tool_need_not_know(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> list[object]:
        raise KeyError("person 1")

    monkeypatch.setattr(mapping.Mapping, "events", broken)
    (answer,) = inside(config, asking({"body": GOOD}))
    assert answer.status == 200
    (kept,) = refused(config.parent)
    assert kept["reason"] == "a fault in quietcount: KeyError"
    assert kept["original"]["person"] == "person 1"


@pytest.mark.parametrize("body", [GOOD, b"no JSON"], ids=["good", "refused"])
def test_what_is_not_on_the_disk_is_answered_with_503_and_no_reason(
    config: Path, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Sequence[object]:
        raise LogUnwritable("the disk of person 1 is full", "Give it space")

    monkeypatch.setattr(EventSpool, "append", full)
    monkeypatch.setattr(Refusals, "keep", full)
    (answer,) = inside(config, asking({"body": body}))
    assert (answer.status, answer.body) == (503, b"{}\n")
    assert answer.headers["retry-after"] == "60"


def test_a_spool_that_somebody_removed_takes_nothing(config: Path) -> None:
    """The open file would take the events, and nobody would find it again."""

    async def scene(application: Application) -> list[int]:
        before = (await ask(application, GOOD)).status
        shutil.rmtree(config.parent / "spool")
        return [before, (await ask(application, GOOD)).status]

    assert inside(config, scene) == [200, 503]


@pytest.mark.parametrize("fault", [RuntimeError("person 1"), OSError(28, "person 1")])
def test_a_fault_of_ours_outside_of_the_mapping_is_answered_with_503(
    config: Path, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Sequence[object]:
        raise fault

    monkeypatch.setattr(EventSpool, "append", broken)
    (answer,) = inside(config, asking({"body": GOOD}))
    assert (answer.status, answer.body) == (503, b"{}\n")


LET_IN: list[tuple[str, str]] = [
    ("authorization", f"Bearer {TOKEN}"),
    ("authorization", f"bEaReR  {TOKEN} "),
    ("authorization", basic(TOKEN)),
    ("authorization", basic(TOKEN, "")),
]
KEPT_OUT: list[dict[str, Any]] = [
    {"headers": ()},
    {"headers": [("authorization", "")]},
    {"headers": [("authorization", "Bearer")]},
    {"headers": [("authorization", f"Bearer {TOKEN[:-1]}")]},
    {"headers": [("authorization", f"Bearer {TOKEN}é")]},
    {"headers": [("authorization", f"Digest {TOKEN}")]},
    {"headers": [("authorization", TOKEN)]},
    {"headers": [("authorization", basic(TOKEN.upper()))]},
    {"headers": [("authorization", "Basic ?")]},
    {"headers": [("authorization", basic(TOKEN, "a:b"))]},
    {"headers": [("authorization", f"Bearer {TOKEN}")] * 2},
    {"headers": [("x-token", TOKEN)]},
    {"path": "/"},
    {"path": "/kobo/"},
    {"path": "/%6bobo"},
    {"path": "/other"},
    {"method": "GET"},
    {"method": "PUT"},
    {"method": "HEAD"},
]


@pytest.mark.parametrize("header", LET_IN, ids=range(len(LET_IN)))
def test_the_token_is_taken_as_a_bearer_s_or_as_a_password(config: Path, header: tuple[str, str]) -> None:
    (answer,) = inside(config, asking({"body": GOOD, "headers": [header]}))
    assert answer.status == 200


def test_without_the_token_the_path_and_the_method_one_answer_is_given_and_nothing_is_kept(config: Path) -> None:
    answers = inside(config, asking(*({"body": GOOD, **each} for each in KEPT_OUT)))
    assert {answer.status for answer in answers} == {401}
    assert set(map(str, answers)) == {str(answers[0])}
    assert refused(config.parent) == []
    with EventSpool(config.parent / "spool") as spool:
        assert spool.state().empty


def test_a_body_that_is_too_long_is_answered_with_413_and_nothing_of_it_is_kept(config: Path) -> None:
    long = b'{"a": "' + b"x" * BODY_BYTES + b'"}'
    token = ("authorization", f"Bearer {TOKEN}")
    announced = [token, ("content-length", str(1 << 40))]
    fits = json.dumps(delivery(1, note="x" * (BODY_BYTES - 300))).encode()
    first, second, stranger, third = inside(
        config,
        asking(
            {"body": long, "pieces": 20},
            {"body": b"{}", "headers": announced},
            {"body": long, "headers": announced[1:]},
            {"body": fits, "pieces": 20},
        ),
    )
    assert (first.status, second.status, stranger.status, third.status) == (413, 413, 401, 200)
    assert first == second
    assert refused(config.parent) == []


def test_a_header_that_is_too_long_is_answered_with_431(config: Path) -> None:
    answers = inside(
        config,
        asking(
            {"headers": [("x", "y" * HEADER_BYTES)]},
            {"path": "/" + "x" * HEADER_BYTES},
        ),
    )
    assert [answer.status for answer in answers] == [431, 431]


def test_no_answer_names_a_server_a_time_or_a_length_of_what_came(config: Path) -> None:
    for answer in inside(config, asking({"body": GOOD}, {"body": b"x"}, {"headers": ()})):
        assert answer.headers.keys() <= {
            *("content-type", "content-length", "cache-control", "www-authenticate", "connection")
        }
        assert answer.body == b"{}\n"


def test_a_second_token_opens_the_door_while_one_is_replaced(config: Path) -> None:
    newer = "n" * 40
    (config.parent / "secrets" / "token").write_text(f"{TOKEN}\r\n\n {newer} \n")
    bearers = [[("authorization", f"Bearer {each}")] for each in (TOKEN, newer, "o" * 40)]
    answers = inside(config, asking(*({"body": GOOD, "headers": each} for each in bearers)))
    assert [answer.status for answer in answers] == [200, 200, 401]


def test_without_any_token_nothing_fits() -> None:
    assert not Tokens.of().accepts(b"")
    assert not Tokens.of().accepts(b"\0" * 32)
    assert Tokens.of("a", "b").accepts(b"b")
    assert TOKEN not in repr(Tokens.of(TOKEN))
    assert given(b"Basic OmE6Yg==") == b"a:b"  # a password may hold a colon
