"""Whole numbers: what is refused of buckets and sums, and what is counted and summed up of them."""

from __future__ import annotations

import datetime as dt
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from tests.aggregates_world import utc, world_in
from tests.numbers_world import DAYS, VISITS, Visit, events_of, visits
from tests.strategies import envelope, registry_of

from quietcount_aggregates.catalogue import resolve
from quietcount_aggregates.errors import NoiseError, PopulationError
from quietcount_aggregates.noise import DiscreteLaplace
from quietcount_aggregates.populations import Dimension, Horizon, Population, Sum
from quietcount_aggregates.publication.template import sql_of
from quietcount_aggregates.tables import AskedTable
from quietcount_schemas.events.numbers import Buckets, Summed
from quietcount_schemas.events.periods import Period

pytestmark = pytest.mark.quick

DATED: dict[str, Any] = {
    "type": "record",
    "name": "Dated",
    "namespace": "example.trial",
    "doc": "A day as a number.",
    "quietcount.role": "event",
    "fields": [
        *envelope(),
        {
            "name": "day",
            "type": {"type": "int", "minimum": 20_240_000, "maximum": 20_249_999},
            "default": 20_240_000,
            "doc": "A day.",
        },
    ],
}


def refused(*tables: AskedTable, **more: Any) -> PopulationError:
    with pytest.raises(PopulationError) as error:
        visits(*tables, **more)
    assert error.value.remedy
    return error.value


# ---------------------------------------------------------------- what a catalogue says


@pytest.mark.parametrize(
    "asked, symbols, bounds",
    [
        (Buckets("days", (0, 7, 30)), ("0..6", "7..29", "30+"), ((0, 6), (7, 29), (30, 400))),
        (Buckets("days", (5,)), ("<5", "5+"), ((0, 4), (5, 400))),
        (Buckets("days", (0, 1, 400)), ("0", "1..399", "400+"), ((0, 0), (1, 399), (400, 400))),
        (Buckets("age", (-5, 0, 18)), ("-5..-1", "0..17", "18+", "unknown"), ((-5, -1), (0, 17), (18, 100))),
        (Buckets("age", (18,)), ("<18", "18+", "unknown"), ((-5, 17), (18, 100))),
    ],
)
def test_buckets_have_the_numbers_from_one_beginning_to_the_next(
    asked: Buckets, symbols: tuple[str, ...], bounds: tuple[tuple[int, int], ...]
) -> None:
    population = visits(AskedTable("a", 1.0, by=[asked]))
    assert population.tables[0].by == (Dimension(asked.field, symbols, symbols[-1], bounds),)
    assert Population.from_canonical(population.canonical) == population
    other = visits(AskedTable("a", 1.0, by=[Buckets(asked.field, (*asked.buckets[:-1], 99))]))
    assert population.differences(other) == ["by of table a"]


@pytest.mark.parametrize(
    "tables, reason, remedy",
    [
        ([AskedTable("a", 1.0, by=["days"])], "'days' is a whole number", "buckets = [...]"),
        ([AskedTable("a", 1.0, by=[Buckets("kind", (1,))])], "no whole number 'kind'", "It has: days, age"),
        ([AskedTable("a", 1.0, by=[Buckets("days", (-1, 5))])], "begin outside its bounds, 0 and 400", "within"),
        ([AskedTable("a", 1.0, by=[Buckets("days", (5, 401))])], "begin outside its bounds, 0 and 400", "within"),
        ([AskedTable("a", 1.0, by=[Buckets("days", (0,))])], "all of 'days' would lie in one bucket", "one more"),
        ([AskedTable("a", 1.0, by=["kind", Buckets("days", (5,)), "kind"])], "named twice", "once"),
        (
            [
                AskedTable("a", 1.0, by=[Buckets("days", (5,))]),
                AskedTable("b", 1.0, by=["kind", Buckets("days", (6,))]),
            ],
            "has other buckets in table 'a'",
            "the same buckets in both",
        ),
        (
            [AskedTable("a", 1.0), AskedTable("b", 1.0, sum=Summed("days", (0, 10), "c"))],
            "'c' is no table of the population that counts",
            "Name one of: a",
        ),
        ([AskedTable("a", 1.0), AskedTable("b", 1.0, sum=Summed("kind", (0, 10), "a"))], "no whole number", "days"),
        ([AskedTable("a", 1.0), AskedTable("b", 1.0, sum=Summed("age", (0, 10), "a"))], "may be null", "buckets"),
        ([AskedTable("a", 1.0), AskedTable("b", 1.0, sum=Summed("days", (0, 402), "a"))], "goes beyond", "within"),
        (
            [AskedTable("a", 1.0), AskedTable("b", 1.0, by=["kind"], sum=Summed("days", (0, 10), "a"))],
            "does not count by that field",
            "Name fields of its own: none",
        ),
        (
            [AskedTable("a", 1.0, by=[DAYS]), AskedTable("b", 1.0, by=[DAYS], sum=Summed("days", (0, 10), "a"))],
            "a sum has the buckets of 'a'",
            'Write the field alone: "days"',
        ),
        (
            [AskedTable("a", 1.0), AskedTable("b", 1.0, where={"kind": ["OLD"]}, sum=Summed("days", (0, 10), "a"))],
            "a sum has that of 'a'",
            "Leave it out",
        ),
        (
            [
                AskedTable("m", 1.0),
                AskedTable("a", 1.0, period=Period.QUARTER),
                AskedTable("b", 1.0, period=Period.MONTH, sum=Summed("days", (0, 10), "a")),
            ],
            "a month is not made of whole quarters",
            '"quarter" or "year"',
        ),
        (
            [AskedTable("a", 1.0), *(AskedTable(n, 1.0, sum=Summed("days", (0, 10), "a")) for n in "bc")],
            "it is table 'b' once more",
            "the epsilon of both",
        ),
        ([AskedTable("averages", 1.0)], "belongs to a table", "another"),
        ([AskedTable("a", 1.0, where={"days": ["0"]})], "whole number", "buckets"),
    ],
)
def test_what_cannot_be_made_of_a_number_is_refused(tables: list[AskedTable], reason: str, remedy: str) -> None:
    error = refused(*tables)
    assert reason in error.what
    assert remedy in error.remedy


def test_a_sum_whose_digits_no_published_column_has_is_refused() -> None:
    """It would be released, and then no file could be published any more."""
    wide = refused(
        AskedTable("a", 1.0), AskedTable("b", 0.004, sum=Summed("days", (0, 400), "a")), max_contributions=300
    )
    assert "the noise scale, max_contributions x 200 / epsilon, would be above 10,000,000" in wide.what
    with pytest.raises(PopulationError, match="beyond -100,000 and 100,000, and sums of such numbers have too many"):
        resolve(
            "p",
            events=["Dated"],
            registry=registry_of(DATED),
            period=Period.MONTH,
            tables=[AskedTable("a", 1.0), AskedTable("b", 1.0, sum=Summed("day", (20_240_000, 20_249_998), "a"))],
        )


@pytest.mark.parametrize(
    "old, new",
    [
        ('["days",0,60,"by_days"]', '["days",60,0,"by_days"]'),
        ('["days",0,60,"by_days"]', '["days",0,0,"by_days"]'),
        ('["days",0,60,"by_days"]', '["days",0,61,"by_days"]'),
        ("[[0,6],[7,29],[30,400]]", "[[0,6],[8,29],[30,400]]"),
        ("[[0,6],[7,29],[30,400]]", "[[0,6],[30,400],[7,29]]"),
        ("[[0,6],[7,29],[30,400]]", "[[0,6]]"),
        ("[[0,6],[7,29],[30,400]]", "[[0,6],[7,29],[30,400],[401,402]]"),
        ("[[0,6],[7,29],[30,400]]", '[["0",6],[7,29],[30,400]]'),
    ],
)
def test_a_declaration_whose_numbers_mean_nothing_is_not_read(old: str, new: str) -> None:
    text = visits().canonical
    assert old in text
    with pytest.raises((ValueError, TypeError)):
        Population.from_canonical(text.replace(old, new))


def test_no_value_lies_farther_from_the_middle_than_the_reach() -> None:
    """Not even between two ends that no catalogue may have."""
    for low, high in ((0, 60), (0, 61), (-7, 0), (-1, 0)):
        asked = Sum("days", low, high, visits().tables[0].name)
        assert asked.reach == max(high - asked.middle, asked.middle - low)


def test_a_sum_is_centred_and_its_noise_follows_from_half_of_the_range() -> None:
    population = visits()
    (waiting,) = population.sums
    assert waiting.sum == Sum("days", 0, 60, population.tables[0].name)
    assert waiting.sum is not None
    assert (waiting.sum.middle, waiting.sum.reach) == (30, 30)
    assert waiting.sensitivity(2) == 60
    assert population.epsilon == 2
    assert DiscreteLaplace().scale(cells=3, sensitivity=30, epsilon=waiting.epsilon) == pytest.approx(30, rel=1e-12)
    assert Population.from_canonical(population.canonical) == population


# ---------------------------------------------------------------- what is counted


def trial(rng: random.Random, months: int = 6) -> list[Visit]:
    return [
        Visit(
            dt.date(2024, rng.randint(1, months), 1),
            rng.choice((0, 3, 6, 7, 29, 30, 59, 60, 61, 400, rng.randint(0, 400))),
            rng.choice(("OLD", "NEW", "NONE")),
            rng.choice((None, -5, 0, 17, 18, 100)),
        )
        for _ in range(200)
    ]


@pytest.mark.promise("bound-per-case")
def test_cells_and_sums_are_what_plain_python_says(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    told = trial(random.Random(seed))
    ages = Buckets("age", (0, 18))
    population = visits(
        AskedTable("by_days", 1.0, by=["kind", DAYS]),
        AskedTable("by_age", 1.0, by=[ages], where={"kind": ["OLD", "NEW"]}),
        AskedTable("waiting", 1.0, by=["kind"], sum=Summed("days", (10, 60), "by_days")),
        AskedTable("quarterly", 1.0, period=Period.QUARTER, sum=Summed("days", (0, 400), "by_age")),
    )
    with world_in(tmp_path, [population], registry=VISITS, published=False) as world:
        for month in range(1, 7):
            # A month at a time: what a quarter waits for is settled sums.
            world.emit(events_of([each for each in told if each.day.month == month], 1000 * month))
            world.fold(dt.date(2024, month, 2))
            world.release(utc(dt.date(2024 + month // 12, month % 12 + 1, 1)))
        released = world.released
    days, kinds = ("0..6", "7..29", "30+"), ("NEW", "NONE", "OLD")
    for month in range(1, 7):
        mine = [each for each in told if each.day.month == month]
        counts = Counter((each.kind, days[(each.days >= 7) + (each.days >= 30)]) for each in mine)
        start = dt.date(2024, month, 1)
        assert released["by_days", start] == tuple(counts[kind, each] for each in days for kind in kinds), seed
        known = [each for each in mine if each.kind != "NONE"]
        by_age = Counter(
            "unknown" if v.age is None else ("<0", "0..17", "18+")[(v.age >= 0) + (v.age >= 18)] for v in known
        )
        assert released["by_age", start] == tuple(by_age[each] for each in ("<0", "0..17", "18+", "unknown")), seed
        sums = tuple(sum(min(max(v.days, 10), 60) - 35 for v in mine if v.kind == kind) for kind in kinds)
        assert released["waiting", start] == sums, seed
    for quarter in (1, 4):
        mine = [v for v in told if quarter <= v.day.month < quarter + 3 and v.kind != "NONE"]
        assert released["quarterly", dt.date(2024, quarter, 1)] == (sum(v.days - 200 for v in mine),), seed


def test_one_case_moves_a_sum_by_no_more_than_its_sensitivity(tmp_path: Path) -> None:
    """With a yearly horizon and k = 2: two visits of one case, both at an end."""
    population = visits(max_contributions=2, horizon=Horizon.YEAR)
    events = events_of([Visit(dt.date(2024, month, 1), 400) for month in (1, 2, 3)])
    events = [type(each)(each.event, events[0].case_key, *list_of(each)[2:]) for each in events]
    with world_in(tmp_path, [population], registry=VISITS, published=False) as world:
        world.emit(events)
        world.fold(dt.date(2024, 4, 1))
        world.release(utc(dt.date(2024, 4, 1)))
        moved = sum(abs(value) for (name, _), values in world.released.items() if name == "waiting" for value in values)
    assert moved == 60 == population.sums[0].sensitivity(2)


def list_of(event: Any) -> list[Any]:
    return [getattr(event, name) for name in ("event", "case_key", "event_id", "revision", "occurred_on", "attributes")]


def test_an_exact_count_below_0_is_never_drawn_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from quietcount_aggregates.counting.bounding import Bounding

    counts = Bounding.counts
    monkeypatch.setattr(Bounding, "counts", lambda *given: {day: [-1, *own[1:]] for day, own in counts(*given).items()})
    with world_in(tmp_path, [visits()], registry=VISITS, published=False) as world:
        world.fold(dt.date(2024, 2, 1))
        with pytest.raises(NoiseError, match="'by_days': an exact count is below 0; nothing was drawn"):
            world.release(utc(dt.date(2024, 2, 1)))
        assert not world.released


# ---------------------------------------------------------------- what is published


@pytest.mark.promise("public-file")
def test_averages_are_published_beside_the_counts(tmp_path: Path) -> None:
    told = [Visit(dt.date(2024, month, 1), days, "NEW") for month in (1, 2, 3) for days in [20] * 300 + [80] * 100]
    with world_in(tmp_path, [visits()], registry=VISITS, mechanism=DiscreteLaplace()) as world:
        world.emit(events_of(told))
        world.fold(dt.date(2024, 4, 2))
        world.release(utc(dt.date(2024, 4, 1)))
    with duckdb.connect(str(tmp_path / "statistics.duckdb"), read_only=True) as connection:
        rows = connection.sql(
            "SELECT period, period_start, cell, sum, average, average_lower, average_upper, noisy IS NULL, note "
            "FROM averages ORDER BY ALL"
        ).fetchall()
        view = connection.sql("FROM waiting").columns
        shown = connection.sql("SELECT kind, average FROM waiting WHERE period_start = '2024-01-01'").fetchall()
        described = connection.sql("SELECT title, unit, contribution FROM descriptions WHERE statistic = 'waiting'")
        (words,) = described.fetchall()
    assert len(rows) == 3 * (3 + 1) + (3 + 1)
    for period, start, cell, total, average, lower, upper, derived, note in rows:
        assert derived is (cell == "all" or period == "quarter")
        if cell in ("all", "kind=NEW"):
            # The true average is (300 * 20 + 100 * 60) / 400 = 30, the noise of a month's sum has scale 30.
            assert lower <= average <= upper, (period, start)
            assert abs(average - 30) < 6
            assert abs(total - (36_000 if period == "quarter" else 12_000)) < 3_000
        else:
            assert average is None
            assert (lower, upper) == (0, 60)
            assert note.endswith("cannot tell the average: it is of too few")
    assert view[:3] == ["period_start", "period_end", "kind"]
    assert {kind for kind, _ in shown} == {"NEW", "NONE", "OLD"}
    assert words[:2] == ("Visited, average of days by kind and month", "days")
    assert "by at most 30, over its lifetime" in words[2]


def test_a_cell_that_a_condition_excludes_adds_nothing_to_the_sum_of_all(tmp_path: Path) -> None:
    told = [Visit(dt.date(2024, 1, 1), days, kind) for days in [20] * 300 for kind in ("NEW", "OLD")]
    population = visits(
        AskedTable("by_days", 1.0, by=["kind", DAYS], where={"kind": ["NEW"]}),
        AskedTable("waiting", 0.1, by=["kind"], sum=Summed("days", (0, 60), "by_days")),
    )
    with world_in(tmp_path, [population], registry=VISITS, mechanism=DiscreteLaplace()) as world:
        world.emit(events_of(told))
        world.fold(dt.date(2024, 1, 2))
        world.release(utc(dt.date(2024, 2, 1)))
    with duckdb.connect(str(tmp_path / "statistics.duckdb"), read_only=True) as connection:
        columns = "sum, sum_lower, sum_upper, average IS NULL"
        sums = {cell: row for cell, *row in connection.sql(f"SELECT cell, {columns} FROM averages").fetchall()}
    assert sums["kind=OLD"] == sums["kind=NONE"] == [0, 0, 0, True]
    assert sums["all"] == sums["kind=NEW"] != sums["kind=OLD"]


@pytest.mark.parametrize(
    "low, sums", [(0, [(-200, 0, 100), (-50, 0, 100), (300, 200, 400)]), (-5, [(-200, -300, -100), (-50, -150, 50)])]
)
def test_no_noise_makes_a_sum_of_nothing_look_certain(low: int, sums: list[tuple[int, int, int]]) -> None:
    millions = np.array([1_000_000 * total for total, _, _ in sums])
    nothing, arrays = np.zeros_like(millions), np.full_like(millions, 100_000_000)
    loaded = {"total": millions, "around": arrays, "average": nothing, "low_end": nothing, "high_end": nothing}
    with duckdb.connect() as connection:
        connection.execute(sql_of("figures.sql"))
        connection.execute(re.findall(r"CREATE TABLE averages.*?;", sql_of("projection.sql"), re.DOTALL)[0])
        connection.register(
            "loaded", loaded | {"release": nothing + 1, "number": nothing + 1, "noisy": nothing, "told": nothing > 0}
        )
        lists = {name: [dt.date(2024, 1, 1)] for name in ("starts", "ends")}
        words = {"population": "p", "statistic": "s", "field": "f", "period": "month", "released": True}
        others = {"low": low, "high": 9, "domain": ["all"], "statuses": ["final"]}
        connection.execute(sql_of("averages.sql"), {**lists, **words, **others})
        assert connection.sql("SELECT sum::INTEGER, sum_lower, sum_upper FROM averages").fetchall() == sums
