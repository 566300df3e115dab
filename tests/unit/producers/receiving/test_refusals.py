"""What was refused lies in a private file, whole, with the day of the first refusal and no other time."""

from __future__ import annotations

import datetime as dt
import json
import os
import stat
from pathlib import Path

import pytest

from quietcount_producers.errors import LogUnwritable
from quietcount_producers.receiving.refusals import Refusals

pytestmark = pytest.mark.quick

DAY = dt.date(2026, 3, 4)


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text("ascii").splitlines()]


def test_each_record_is_a_line_with_its_reason_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
    kept = Refusals(tmp_path / "refused" / "kobo.jsonl")
    kept.keep([({"person": "Anna \ud800"}, "kind: is missing"), ("no JSON \udcff", "is not JSON")])
    kept.keep([({"person": "Anna", "line": 7, "reason": "of the tool"}, "kind: is missing")])
    assert lines(kept.file) == [
        {"original": {"person": "Anna \ud800"}, "line": None, "reason": "kind: is missing"},
        {"original": "no JSON \udcff", "line": None, "reason": "is not JSON"},
        {
            "original": {"person": "Anna", "line": 7, "reason": "of the tool"},
            "line": None,
            "reason": "kind: is missing",
        },
    ]


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    os.umask(0)
    kept = Refusals(tmp_path / "refused" / "kobo.jsonl")
    kept.keep([({}, "reason")])
    assert stat.S_IMODE(kept.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.file.parent.stat().st_mode) == 0o700


def test_the_day_of_the_first_refusal_is_told_and_no_time_is_kept(tmp_path: Path) -> None:
    days = iter([DAY, DAY + dt.timedelta(days=9)])
    kept = Refusals(tmp_path / "refused" / "kobo.jsonl", lambda: next(days))
    assert kept.since() is None
    kept.keep([({"a": 1}, "reason")])
    kept.keep([({"a": 2}, "reason")])
    assert kept.since() == DAY
    assert kept.file.stat().st_mtime % 86_400 == 0
    assert next(days) == DAY + dt.timedelta(days=9)  # nobody asked for it
    kept.file.rename(tmp_path / "mended.jsonl")
    assert kept.since() is None


def test_a_line_that_a_power_cut_or_an_editor_left_without_its_end_spoils_no_other(tmp_path: Path) -> None:
    kept = Refusals(tmp_path / "kobo.jsonl")
    kept.file.write_text('{"person": "An')
    kept.keep([({"a": 1}, "reason")])
    assert kept.file.read_text().splitlines() == [
        '{"person": "An',
        '{"original": {"a": 1}, "line": null, "reason": "reason"}',
    ]


def test_on_a_full_disk_nothing_is_kept_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Refusals(tmp_path / "kobo.jsonl")
    kept.keep([({"a": 1}, "reason")])
    before = kept.file.read_bytes()
    write = os.write

    def some(descriptor: int, data: bytes) -> int:
        if len(data) < 10:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[: len(data) - 5])

    monkeypatch.setattr(os, "write", some)
    with pytest.raises(LogUnwritable) as caught:
        kept.keep([({"person": "Anna"}, "reason")])
    assert "Anna" not in str(caught.value)
    assert kept.file.read_bytes() == before


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kobo.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LogUnwritable):
        Refusals(tmp_path / "kobo.jsonl").keep([({}, "reason")])
    assert not (tmp_path / "elsewhere").exists()
