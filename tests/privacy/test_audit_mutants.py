"""Each safeguard that is broken is found by the check of the audit that has to find it.

The whole table takes minutes and is a soak: `make audit` prints it. False alarms matter in the controls alone, which
break nothing: 1e-6 for each of some forty measurements.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator

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
    rows: dict[str, Row] = {}
    print("\n" + _line("broken", "check", "subject", "declared", "measured", "seconds"))
    for name, row in _rows([*CONTROLS, *MUTANTS]):
        rows[name] = row
        found = row.found
        told = (found.subject, f"{found.declared:.4g}", f"{found.measured:.4g}") if found else ("nothing found", "", "")
        print(_line(row.broken, row.check, *told, f"{row.seconds:.0f}"), flush=True)
    missed = [name for name in MUTANTS if rows[name].found is None]
    assert not [name for name in CONTROLS if rows[name].found is not None], "a sound service was found broken"
    assert not missed, f"not found: {', '.join(missed)}"


def _rows(names: list[str]) -> Iterator[tuple[str, Row]]:
    """Break one safeguard after the other, in a process for each core: what one changes must not reach another."""
    # Not an executor: in CPython 3.11 one that limits the tasks of a child can wait without end (gh-115634).
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        yield from zip(names, pool.imap(row_of, names), strict=True)


def _line(*columns: str) -> str:
    widths = (58, 9, 34, 9, 9, 7)
    return "  ".join(map(str.ljust, columns, widths)).rstrip()
