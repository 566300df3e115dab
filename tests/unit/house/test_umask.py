"""What tests share is made with the umask of a login, even if a service ran in this process before."""

from __future__ import annotations

import os

import pytest

pytestmark = pytest.mark.quick


def umask() -> int:
    found = os.umask(0o022)
    os.umask(found)
    return found


@pytest.fixture(scope="module")
def of_a_service() -> int:
    """A service that runs in this process leaves its own umask behind."""
    os.umask(0o077)
    return umask()


@pytest.fixture(scope="module")
def of_what_follows(of_a_service: int) -> int:
    return umask()


def test_what_several_tests_share_has_the_umask_of_a_login(of_a_service: int, of_what_follows: int) -> None:
    assert (of_a_service, of_what_follows, umask()) == (0o077, 0o022, 0o022)
