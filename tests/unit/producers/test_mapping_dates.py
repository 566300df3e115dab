"""Days in an export: whatever way they are written, the local day decides."""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietcount_producers.mapping.dates import Days, Unfit, format_problem, same_shape, zone_of

pytestmark = pytest.mark.quick

ZONES = ("Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati", "Pacific/Pago_Pago", "UTC")
DAYS = st.dates(dt.date(1971, 1, 1), dt.date(2099, 12, 30))
MOMENTS = st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(2099, 12, 30), timezones=st.just(dt.UTC))  # noqa: DTZ001
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


@given(moment=MOMENTS, name=st.sampled_from(ZONES))
def test_the_local_day_decides(moment: dt.datetime, name: str) -> None:
    zone = ZoneInfo(name)
    local = moment.astimezone(zone).date()
    milliseconds = (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)
    iso = Days(("iso",), zone)
    assert iso.day(moment.isoformat()) == local
    assert iso.day(moment.strftime("%Y-%m-%d %H:%M:%S UTC")) == local
    assert iso.day(moment.astimezone(ZoneInfo("Asia/Tokyo")).isoformat()) == local
    assert Days(("iso",), zone, ZoneInfo("UTC")).day(moment.replace(tzinfo=None)) == local
    assert Days(("epoch milliseconds",), zone).day(milliseconds) == local
    assert Days(("epoch milliseconds",), zone).day(str(milliseconds)) == local
    assert Days(("epoch seconds",), zone).day(int(moment.timestamp())) == local


@given(moment=MOMENTS, hours=st.integers(-11, 14).filter(bool))
def test_without_a_time_zone_a_time_with_an_offset_is_of_its_own_day_and_one_in_utc_of_none(
    moment: dt.datetime, hours: int
) -> None:
    local = moment.astimezone(dt.timezone(dt.timedelta(hours=hours)))
    assert Days().day(local.isoformat()) == local.date()
    assert Days().day(moment.replace(tzinfo=None).isoformat()) == moment.date()  # as somebody's clock had it
    with pytest.raises(Unfit, match="timezone"):
        Days().day(moment.isoformat())


@given(day=DAYS)
def test_a_day_is_read_in_every_form(day: dt.date) -> None:
    forms = {
        "iso": day.isoformat(),
        "day.month.year": f"{day.day}.{day.month}.{day.year}",
        "month/day/year": f"{day.month:02}/{day.day:02}/{day.year}",
        "year/month/day": f"{day.year}/{day.month}/{day.day}",
        "day-monthname-year": f"{day.day:02}-{MONTHS[day.month - 1][:3]}-{day.year}",
        "monthname day, year": f"{MONTHS[day.month - 1]} {day.day}, {day.year}",
        "weekday, day monthname year": f"Mon, {day.day} {MONTHS[day.month - 1].upper()} {day.year}",
        "day.month.year hour:minute": f"{day.day}.{day.month}.{day.year} 23:59",
        "month/day/year hour:minute:second ampm": f"{day.month}/{day.day}/{day.year} 11:59:59 PM",
        "excel": (day - dt.date(1899, 12, 30)).days + 0.99,
        "excel 1904": (day - dt.date(1904, 1, 1)).days,
    }
    for written, value in forms.items():
        assert format_problem(written) is None
        assert Days((written,)).day(value) == day, written
        assert Days(("month-day-year", written)).day(value) == day, written


@given(
    text=st.text("0123456789-/.,: TZAM+\u0661\0", max_size=30), zone=st.sampled_from([None, ZoneInfo("Europe/Berlin")])
)
def test_any_other_text_is_refused_without_being_shown(text: str, zone: ZoneInfo | None) -> None:
    days = Days(("iso", "day.month.year hour:minute offset", "excel"), zone)
    with suppress(Unfit):
        days.day(text)
        return
    with pytest.raises(Unfit) as caught:
        days.day(text)
    assert len(text.strip()) < 8 or text.strip() not in str(caught.value)


@pytest.mark.parametrize(
    "written, value",
    [
        ("iso", "2023-02-29"),
        ("iso", "2023-10-03T24:00:00"),
        ("iso", "20231003"),
        ("day.month.year", "3.13.2023"),
        ("day.month.year", "03.10.23"),
        ("day-monthname-year", "3-Okt-2023"),
        ("month/day/year hour:minute ampm", "1/1/2023 13:00 PM"),
        ("excel", "60"),
        ("excel", 1e300),
        ("epoch seconds", float("nan")),
        ("epoch seconds", 10**400),
        ("iso", 45000),
        ("iso", True),
        ("iso", ["2023-10-03"]),
    ],
)
def test_what_is_no_day_is_refused(written: str, value: object) -> None:
    with pytest.raises(Unfit):
        Days((written,), ZoneInfo("UTC")).day(value)


def test_a_short_year_is_of_the_century_that_posix_says() -> None:
    days = Days(("day/month/yy",))
    assert [days.day(f"3/10/{each}").year for each in ("00", "23", "69", "70", "99")] == [2000, 2023, 2069, 1970, 1999]


@pytest.mark.parametrize(
    "written",
    [
        "%Y-%m-%d",
        "day.month",
        "year",
        "day.day.month.year",
        "day month year yy",
        "day.month.year minute",
        "tag.month.year",
        "",
    ],
)
def test_a_format_of_something_else_is_refused(written: str) -> None:
    assert format_problem(written) is not None


def test_formats_that_read_one_text_as_two_days_are_found() -> None:
    assert same_shape(["day/month/year", "month/day/year"])
    assert same_shape(["day/month/yy", "yy/month/day"])
    assert same_shape(["excel", "excel 1904"])
    assert not same_shape(["day/month/yy", "day/month/year"])
    assert not same_shape(["day/month/year", "day.month.year", "day monthname year", "excel", "iso"])


@pytest.mark.parametrize("name", ["Europe/Berlin", "UTC"])
def test_a_time_zone_is_known_by_its_name(name: str) -> None:
    assert zone_of(name) is not None


@pytest.mark.parametrize("name", ["Europe/Berln", "Europe", "../etc/passwd", "", "a\0b", "/etc/localtime"])
def test_what_is_no_time_zone_is_unknown(name: str) -> None:
    assert zone_of(name) is None
