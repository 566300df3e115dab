"""Each safeguard that is broken is found by the check of the audit that has to find it.

The whole table takes minutes and is a soak: `make audit` prints it. False alarms matter in the controls alone, which
break nothing: 1e-6 for each of some forty measurements.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest
from tests.privacy.audit_mutants import CONTROLS, MUTANTS, Row, row_of

pytestmark = pytest.mark.check

QUICKEST = ("seeded", "one_noise_for_two_cells", "half_the_margin")
OF_EACH_CHECK = ("drawn_twice", "epsilon_of_the_population", "stops_short", "cells_left_out")


@pytest.mark.promise("audited")
@pytest.mark.parametrize("name", [*(pytest.param(each, marks=pytest.mark.quick) for each in QUICKEST), *OF_EACH_CHECK])
def test_a_broken_safeguard_is_found_by_the_audit(name: str) -> None:
    row = row_of(name)
    assert row.found is not None
    assert row.found.measured != row.found.declared


@pytest.mark.parametrize("name", ["noise", "intervals"])
def test_nothing_broken_nothing_found(name: str) -> None:
    assert row_of(name).found is None


@pytest.mark.soak
def test_every_broken_safeguard_is_found_and_the_table_says_by_what() -> None:
    rows = _rows([*CONTROLS, *MUTANTS])
    missed = [name for name in MUTANTS if rows[name].found is None]
    print(_table(rows))
    assert not [name for name in CONTROLS if rows[name].found is not None], "a sound service was found broken"
    assert not missed, f"not found: {', '.join(missed)}"


def _rows(names: list[str]) -> dict[str, Row]:
    """Break one safeguard after the other, in a process for each core: what one changes must not reach another."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context, max_tasks_per_child=4) as pool:
        return dict(zip(names, pool.map(row_of, names), strict=True))


def _table(rows: dict[str, Row]) -> str:
    lines: list[tuple[str, ...]] = [("broken", "check", "subject", "declared", "measured", "seconds")]
    for row in rows.values():
        found = row.found
        told = (found.subject, f"{found.declared:.4g}", f"{found.measured:.4g}") if found else ("nothing found", "", "")
        lines.append((row.broken, row.check, *told, f"{row.seconds:.0f}"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n" + "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
