"""Which configuration holds: a new one is tried, a refused one goes back, and a service that said so does not end."""

from __future__ import annotations

import pytest
from tests.running_world import configuration_of

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.running.reloading import (
    Holding,
    Refused,
    Settled,
    Trying,
    opened,
    refused,
    replaced,
    unreadable,
)
from quietcount_schemas.errors import Unavailable

pytestmark = pytest.mark.quick


def with_tick(minutes: int) -> Configuration:
    return configuration_of(tick=f"{minutes}m")


OLD, NEW, NEWER = with_tick(1), with_tick(2), with_tick(3)
WRONG = ServiceError("schemas/x.avsc: is no schema", "Mend it")


@pytest.mark.parametrize(
    "before, by_a_new_one, by_an_unreadable_one, by_an_opening",
    [
        (Settled(OLD), Trying(NEWER, OLD), Refused(OLD), Settled(OLD)),
        (Trying(NEW, OLD), Trying(NEWER, OLD), Trying(NEW, OLD), Settled(NEW)),
        (Refused(OLD), Trying(NEWER, OLD), Refused(OLD), Refused(OLD)),
    ],
)
def test_which_configuration_follows(
    before: Holding, by_a_new_one: Holding, by_an_unreadable_one: Holding, by_an_opening: Holding
) -> None:
    assert replaced(before, NEWER) == by_a_new_one
    assert unreadable(before) == by_an_unreadable_one
    assert opened(before) == by_an_opening


def test_a_new_configuration_that_is_refused_gives_way_to_the_proven_one() -> None:
    assert refused(Trying(NEW, OLD), WRONG) == Refused(OLD)


def test_a_service_that_has_nothing_to_go_back_to_ends() -> None:
    with pytest.raises(ServiceError) as error:
        refused(Settled(OLD), WRONG)
    assert error.value is WRONG


def test_a_service_that_said_that_the_old_configuration_goes_on_waits_for_a_file_that_both_need() -> None:
    with pytest.raises(Unavailable) as error:
        refused(Refused(OLD), WRONG)
    assert (error.value.what, error.value.remedy) == (WRONG.what, WRONG.remedy)
