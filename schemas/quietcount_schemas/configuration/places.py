"""Where things are unless the configuration says otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = [
    "DEFAULT_DATA_DIR",
    "DEFAULT_IDS_FILE",
    "DEFAULT_LISTEN",
    "DEFAULT_LOG",
    "DEFAULT_PEPPER_FILE",
    "DEFAULT_PORT",
    "DEFAULT_RECEIVE",
    "DEFAULT_SECRET_FILE",
    "KAFKA_SCHEME",
    "LOG_FILE",
    "private_folder",
]

DEFAULT_LOG: Final = "embedded"
DEFAULT_DATA_DIR: Final = "data"
DEFAULT_PEPPER_FILE: Final = "secrets/pepper"
DEFAULT_SECRET_FILE: Final = "secrets/service"  # noqa: S105 (a path)
DEFAULT_IDS_FILE: Final = "registry-ids.json"
DEFAULT_LISTEN: Final = "127.0.0.1:9464"
DEFAULT_RECEIVE: Final = "127.0.0.1:8787"
DEFAULT_PORT: Final = 9092
"""The port of a broker that is named without one."""

KAFKA_SCHEME: Final = "kafka://"
"""What `log` begins with if it names the brokers of Kafka and not the embedded log."""

LOG_FILE: Final = "log.sqlite"
"""The embedded log's file in the private folder."""


def private_folder(data_dir: Path) -> Path:
    """Return the folder of the log, the ledger and the state, two levels down, both of mode 0700.

    Files come and go in the inner one. So the modification time of the outer one, which others can see, says nothing.
    """
    return data_dir / "private" / "store"
