"""What is compared of the releases of a world: halves, one case, and tables that are margins of another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tests.property.counting_oracle import Releases
from tests.property.stories import CASES, World
from tests.property.story_schemas import PARTS, STORIES

from quietcount_aggregates.populations import Horizon, Population, Table
from quietcount_consumers.trials.margins import cells_of, margins, summed

__all__ = ["check_halves", "check_margins", "check_one_case", "differences"]


def _of_part(populations: Sequence[Population], released: Releases, part: str) -> Releases:
    """Return what of each release belongs to one part of one story."""
    tables: dict[str, Table] = {table.name: table for population in populations for table in population.tables}
    found = {}
    for (name, start), values in released.items():
        place = [each.name for each in tables[name].by].index("part")
        cells = zip(cells_of(tables[name]), values, strict=True)
        found[name, start] = tuple(value for cell, value in cells if cell[place] == part)
    return found


def check_halves(world: World, released: Releases) -> None:
    """Hold that each whole story is, cell by cell, the sum of its two halves."""
    for story in range(STORIES):
        whole, one, other = (_of_part(world.populations, released, f"{part}_{story}") for part in PARTS[:3])
        both = {key: tuple(a + b for a, b in zip(values, other[key], strict=True)) for key, values in one.items()}
        found = differences(whole, both)
        assert whole == both, f"seed {world.seed}, story {story}, not the sum of its halves: {found}"


def check_one_case(world: World, released: Releases) -> int:
    """Hold that one case moves no table by more than k, and once more by it for each time that the state was lost.

    Return how far the farthest moved, in percent of that.
    """
    farthest = 0
    for story, case in enumerate(world.left_out):
        key = bytes([case + CASES * story, 0])
        came = {0, *(e.occurred_on.year for step in world.steps for e in step.events if e.case_key.startswith(key))}
        whole, rest = (_of_part(world.populations, released, f"{part}_{story}") for part in ("WHOLE", "WITHOUT"))
        for population, table in ((each, table) for each in world.populations for table in each.tables):
            reach = 1 if table.sum is None else (table.sum.high - table.sum.low) // 2
            most, where = (
                population.max_contributions * reach * (1 + world.losses),
                f"seed {world.seed}, story {story}: one case moves {table.name}",
            )
            for year, moved in _distances(population, table, whole, rest).items():
                assert moved <= most, f"{where} by more than its limit in {year or 'its life'}"
                assert not moved or year in came, f"{where} in a year it did not come"
                farthest = max(farthest, 100 * moved // most)
    return farthest


def _distances(population: Population, table: Table, one: Releases, other: Releases) -> dict[int, int]:
    """Return the L1 distance of all releases of a table, by year if the horizon is a year."""
    moved: dict[int, int] = defaultdict(int)
    for (name, start), values in one.items():
        if name == table.name:
            year = start.year if population.horizon is Horizon.YEAR else 0
            moved[year] += sum(abs(a - b) for a, b in zip(values, other[name, start], strict=True))
    return moved


def check_margins(world: World, released: Releases) -> int:
    """Compare each table with the sums of another whose margin it is; return how many sums were above 0.

    Each loss of the state may withhold the one period of a table that it falls into.
    """
    above = 0
    for population in world.populations:
        for coarse, fine in margins(population):
            sums = summed(coarse, fine, released)
            withheld = sums.keys() - released.keys()
            assert len(withheld) <= world.losses, f"seed {world.seed}: {sorted(withheld)} are not released"
            for key, values in sums.items():
                if key in withheld:
                    continue
                assert released[key] == values, f"seed {world.seed}: {key} is not the sum of {fine.name}"
                above += sum(value > 0 for value in values)
    return above


def differences(actual: Releases, expected: Releases) -> str:
    """Return the first releases in which two differ, and the places of the cells that do."""
    keys = sorted(key for key in actual.keys() | expected.keys() if actual.get(key) != expected.get(key))
    told = []
    for name, start in keys[:5]:
        one, other = actual.get((name, start)), expected.get((name, start))
        if one is None or other is None or len(one) != len(other):
            told.append(f"{name} from {start} is in one of them alone")
        else:
            cells = [
                f"{a} for {b} in cell {place}" for place, (a, b) in enumerate(zip(one, other, strict=True)) if a != b
            ]
            told.append(f"{name} from {start}: {', '.join(cells)}")
    return "; ".join(told)
