"""What the report says in its three languages: the same of everything, with the plurals, numbers and dates of each."""

from __future__ import annotations

import datetime as dt
import string
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from importlib import resources
from typing import Any

import click
import pytest

from quietcount_consumers.commands.readers.report import report_command
from quietcount_consumers.report.words import LANGUAGES, Words, plural
from quietcount_schemas.events.periods import Period

pytestmark = pytest.mark.quick

CATEGORIES = {"en": {"one", "other"}, "ru": {"one", "few", "many"}, "uk": {"one", "few", "many"}}


def texts(language: str) -> dict[str, Any]:
    file = resources.files("quietcount_consumers.report").joinpath("languages", f"{language}.toml")
    return tomllib.loads(file.read_text(encoding="utf-8"))


def leaves(found: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in found.items():
        if isinstance(value, dict) and path != ("forms",):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def differences(one: dict[str, Any], other: dict[str, Any]) -> set[tuple[str, ...]]:
    """The keys that one of the two lacks, and those whose places or lists are not alike."""
    first, second = dict(leaves(one)), dict(leaves(other))
    unlike = {
        key
        for key in first.keys() & second.keys()
        if (isinstance(first[key], str) and places(first[key]) != places(second[key]))
        or (isinstance(first[key], list) and len(first[key]) != len(second[key]))
    }
    return (first.keys() ^ second.keys()) | unlike


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_the_same_keys_with_the_same_places(language: str) -> None:
    assert differences(texts("en"), texts(language)) == set()
    for noun, forms in texts(language)["forms"].items():
        assert forms.keys() == CATEGORIES[language], noun
        # The form for one may say "once"; each other one has a place for the number, or none has.
        assert len({bool(places(form)) for category, form in forms.items() if category != "one"}) == 1


def test_a_language_that_lacks_a_key_or_a_place_is_found() -> None:
    """The mutants."""
    lacking, misplaced = texts("ru"), texts("ru")
    del lacking["page"]["skip"]
    misplaced["headlines"]["more"] = "Больше."
    assert differences(texts("en"), lacking) == {("page", "skip")}
    assert differences(texts("en"), misplaced) == {("headlines", "more")}


def test_the_command_offers_the_languages_that_there_are() -> None:
    (option,) = [each for each in report_command.params if each.name == "language"]
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == LANGUAGES


@pytest.mark.parametrize(
    "count, en, slavic",
    [
        (0, "other", "many"),
        (1, "one", "one"),
        (2, "other", "few"),
        (4, "other", "few"),
        (5, "other", "many"),
        (11, "other", "many"),
        (12, "other", "many"),
        (14, "other", "many"),
        (21, "other", "one"),
        (22, "other", "few"),
        (25, "other", "many"),
        (101, "other", "one"),
        (111, "other", "many"),
        (112, "other", "many"),
        (1003, "other", "few"),
        (1011, "other", "many"),
    ],
)
def test_plurals_are_those_of_the_unicode_rules(count: int, en: str, slavic: str) -> None:
    assert plural("en", count) == en
    assert plural("ru", count) == plural("uk", count) == slavic


@pytest.mark.parametrize(
    "language, forms",
    [
        ("en", ["1 case", "2 cases", "21 cases"]),
        ("ru", ["1 случай", "2 случая", "21 случай"]),
        ("uk", ["1 випадок", "2 випадки", "21 випадок"]),
    ],
)
def test_a_noun_has_the_form_of_its_number(language: str, forms: list[str]) -> None:
    words = Words(language)
    assert [f"{count} {words.form('case', count)}" for count in (1, 2, 21)] == forms


@pytest.mark.parametrize(
    "language, said",
    [
        ("en", ["once", "2 times", "5 times"]),
        ("ru", ["1 раза", "2 раз", "5 раз"]),
        ("uk", ["1 разу", "2 разів", "5 разів"]),
    ],
)
def test_how_often_a_case_counts_is_said_in_the_language(language: str, said: list[str]) -> None:
    words = Words(language)
    assert [words.form("contribution", count) for count in (1, 2, 5)] == said


@pytest.mark.parametrize(
    "language, whole, decimal, interval, percent",
    [
        ("en", "12,345", "−1,234.5", "0 to 7", "between 4.1 % and 12 %"),
        ("ru", "12 345", "−1 234,5", "от 0 до 7", "4,1–12 %"),
        ("uk", "12 345", "−1 234,5", "від 0 до 7", "4,1–12 %"),
    ],
)
def test_numbers_are_written_as_the_language_writes_them(
    language: str, whole: str, decimal: str, interval: str, percent: str
) -> None:
    words = Words(language)
    assert [
        each.replace("\u00a0", " ")
        for each in (
            words.number(12345),
            words.number(Decimal("-1234.5"), 1),
            words.interval(0, 7),
            words.percents(Decimal("4.1"), Decimal("12.0")),
        )
    ] == [whole, decimal, interval, percent]


def test_a_range_without_width_is_about_its_value() -> None:
    assert Words("en").percents(Decimal(5), Decimal(5)) == "about 5\u00a0%"
    assert Words("en").span(-3, 2) == "−3\u00a0to\u00a02"


@pytest.mark.parametrize(
    "period, en, ru, uk",
    [
        (Period.DAY, "1 January 2024", "1 января 2024", "1 січня 2024"),
        (Period.WEEK, "week of 1 January 2024", "неделя с 1 января 2024", "тиждень з 1 січня 2024"),
        (Period.MONTH, "January 2024", "январь 2024", "січень 2024"),
        (Period.QUARTER, "January to March 2024", "январь — март 2024", "січень — березень 2024"),
        (Period.YEAR, "2024", "2024 год", "2024 рік"),
    ],
)
def test_a_period_has_a_name_in_each_language(period: Period, en: str, ru: str, uk: str) -> None:
    assert [Words(language).period(period, dt.date(2024, 1, 1)) for language in LANGUAGES] == [en, ru, uk]
    for language in LANGUAGES:
        assert Words(language).tick(period, dt.date(2024, 1, 1))
