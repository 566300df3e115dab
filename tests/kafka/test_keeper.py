"""The one broker of a run: shared by all who use it, and gone with the last of them, however that one ended."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.kafka.cluster import Cluster
from tests.kafka.keeper import shared

pytestmark = pytest.mark.check

_USER = """
import sys, time
from pathlib import Path
from tests.kafka.keeper import shared

with shared(Path(sys.argv[1]), "plain") as cluster:
    print(cluster.bootstrap, flush=True)
    time.sleep(600)
"""


def answers(cluster: Cluster) -> bool:
    try:
        socket.create_connection(("127.0.0.1", cluster.broker.ports["PLAINTEXT"]), timeout=10).close()
    except ConnectionError:
        return False
    return True


def ended(cluster: Cluster) -> None:
    deadline = time.monotonic() + 60
    while answers(cluster):
        assert time.monotonic() < deadline, "the broker is still there"
        time.sleep(0.05)


def test_users_of_a_broker_share_it_and_it_ends_with_the_last_although_it_is_killed(
    apache_kafka: None, tmp_path: Path, root: Path
) -> None:
    command = [sys.executable, "-c", _USER, str(tmp_path)]
    user = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    try:
        assert user.stdout is not None
        bootstrap = user.stdout.readline().strip()
        with shared(tmp_path, "plain") as cluster:
            assert cluster.bootstrap == bootstrap
        assert answers(cluster), "the other still uses it"
    finally:
        user.kill()
        user.communicate()
    ended(cluster)
    with shared(tmp_path, "plain") as another:
        assert answers(another), "who comes after the last gets a broker that answers"
    ended(another)


def test_a_broker_that_cannot_be_started_is_told_with_the_reason(apache_kafka: None, tmp_path: Path) -> None:
    (tmp_path / "brokers").write_text("in the way", encoding="utf-8")
    with pytest.raises(RuntimeError, match=r"no broker was started:\n(.*\n)*.*Error"), shared(tmp_path, "plain"):
        pass
