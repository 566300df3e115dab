"""The configuration as every part reads it: a TOML file, overlaid by the environment, checked by one table of keys."""

from __future__ import annotations

from quietcount_schemas.configuration.keys import KEYS
from quietcount_schemas.configuration.places import (
    DEFAULT_DATA_DIR,
    DEFAULT_IDS_FILE,
    DEFAULT_LISTEN,
    DEFAULT_LOG,
    DEFAULT_PEPPER_FILE,
    DEFAULT_SECRET_FILE,
    KAFKA_SCHEME,
    LOG_FILE,
    private_folder,
)
from quietcount_schemas.configuration.reading import (
    Fault,
    GivenConfiguration,
    checked,
    place,
    read_configuration,
)

__all__ = [
    "DEFAULT_DATA_DIR",
    "DEFAULT_IDS_FILE",
    "DEFAULT_LISTEN",
    "DEFAULT_LOG",
    "DEFAULT_PEPPER_FILE",
    "DEFAULT_SECRET_FILE",
    "KAFKA_SCHEME",
    "KEYS",
    "LOG_FILE",
    "Fault",
    "GivenConfiguration",
    "checked",
    "place",
    "private_folder",
    "read_configuration",
]
