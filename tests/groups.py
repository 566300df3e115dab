"""Keeps the tests of one `xdist_group` on one worker, where they share what their module makes.

pytest-xdist 3.8 marks a group at the end of a test's id, in an attribute that pytest 9.2 no longer reads. Without this
every worker makes each shared fixture again. To be deleted when pytest-xdist does it by itself: `test_groups` says so.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from _pytest.nodeid import NodeId


def gather(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    """Put the name of its group behind the id of each test, on a worker of `--dist loadgroup`."""
    if not config.getoption("loadgroup", False):
        return
    for item in items:
        names = sorted({str(mark.args[0]) for mark in item.iter_markers("xdist_group")})
        if names:
            item._id = NodeId.parse(f"{item.nodeid}@{'_'.join(names)}")
