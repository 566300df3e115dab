"""While a batch is read and folded, Python's collector of cycles rests, and only then."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from quietcount_consumers.partitions import uncollected

pytestmark = pytest.mark.quick


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    yield
    gc.enable()


def test_the_collector_goes_on_after_a_batch_and_after_one_that_failed() -> None:
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), uncollected():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_a_collector_that_somebody_has_switched_off_stays_so() -> None:
    gc.disable()
    with uncollected():
        pass
    assert not gc.isenabled()
