"""Processes that have imported a releaser, and are forked from one that has no threads."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext

import pytest

LONGEST = 90.0  # seconds after which a releaser that still runs is a failure


@pytest.fixture(scope="module")
def fork() -> ForkServerContext:
    """Processes that have imported everything, and are forked from one that has no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.e2e.releasers.releaser"])
    return context
