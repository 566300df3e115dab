"""What the trials of this folder share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.kafka.fixtures import Kafka
from tests.property.kafka_logs import Broker

_MEMORY = Path("/dev/shm")


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder for the small files of many worlds: in memory if the system has a place there, else on the disk."""
    if not (_MEMORY.is_dir() and os.access(_MEMORY, os.W_OK)):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="quietcount-", dir=_MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
def broker(kafka: Kafka) -> Iterator[Broker]:
    """What makes logs on the broker that all tests share."""
    with ExitStack() as stack:
        yield Broker(kafka, stack)
