"""What every test stands on: the repository's root, a clean environment, and the rule for what a machine may lack."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tests.kafka.fixtures import (
    apache_kafka,
    kafka,
    kafka_cluster,
    kafka_secure,
    kafka_three,
    pytest_runtest_makereport,
)
from tests.registry.apicurio import schema_registry
from tests.tiers import COLLECTED, settle

# Fixtures for every folder, and the hook that shows a broker's log with a failure.
__all__ = [
    "apache_kafka",
    "kafka",
    "kafka_cluster",
    "kafka_secure",
    "kafka_three",
    "pytest_runtest_makereport",
    "schema_registry",
]

_USUAL = 0o022  # the umask of a login

Require = Callable[[bool, str], None]

# A test's time is no promise of ours, and what hypothesis found must be repeatable from the output alone.
settings.register_profile("house", deadline=None, print_blob=True)
settings.load_profile("house")

# Configuration comes before what a test writes into its file: a developer's own settings must not decide a verdict.
_CONFIGURATION = ("CONFIG", "LOG", "DATA_DIR", "LIFETIME_EPSILON", "GRACE", "TICK", "SCHEMAS", "STATISTIC")
_SECTIONS = ("EMITTER", "RECEIVE", "SERVICE", "KAFKA", "SCHEMA_REGISTRY", "METRICS")


def pytest_configure(config: pytest.Config) -> None:
    """Take quietcount's own settings out of the environment, for this process and the ones that tests start.

    A signal that this process ignores, as under nohup or in the background of a script, would be ignored by those as
    well. One that it handles is not, so it handles it, and does nothing.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    # Without kept bytecode each process compiles all that it imports, and each run rewrites all assertions again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    for variable in list(os.environ):
        key = variable.upper().removeprefix("QUIETCOUNT_")
        if key != variable.upper() and (key in _CONFIGURATION or key.split("__")[0] in _SECTIONS):
            del os.environ[variable]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Settle the tier of each test before `-m` selects, and keep what there is for the house's rules about it."""
    config.stash[COLLECTED] = settle(items)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
    """Make what several tests share with the umask of a login, too: `usual_umask` comes too late for it."""
    shared = fixturedef.scope != "function"
    if shared:
        os.umask(_USUAL)
    try:
        return (yield)
    finally:
        if shared:
            os.umask(_USUAL)


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """Begin each test with the umask of a login: a service that runs in this process leaves its own behind."""
    old = os.umask(_USUAL)
    yield
    os.umask(old)


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def require() -> Require:
    """A function `require(there, what)`: without it the test is left out, or fails where everything has to be there.

    `QUIETCOUNT_REQUIRE_ALL=1`, as continuous integration sets it, makes a lack a failure.
    """

    def check(there: bool, what: str) -> None:
        if there:
            return
        if os.environ.get("QUIETCOUNT_REQUIRE_ALL") == "1":
            pytest.fail(f"this machine has to have {what} (QUIETCOUNT_REQUIRE_ALL=1)", pytrace=False)
        pytest.skip(f"this machine lacks {what}")

    return check
