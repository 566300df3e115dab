"""What the OpenDP deployments registry takes, in our own words.

Source: schemas/deployments-schema.yaml and scripts/check.py of opendp/deployments-registry-data, commit
3e9c812a924cf01d228f26f6c462c59c391c3f2a of 15 July 2026. Theirs decide: run them before a record is sent in.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

__all__ = ["faults", "style_faults"]

TEXT, DAY, NUMBER, TEXTS = "text", "day", "number", "texts"

Field = str | tuple[str, ...]
"""A kind of value, or the words to choose from."""

GROUPS: dict[str, dict[str, Field]] = {
    "basic": {
        "name": TEXT,
        "data_curators": TEXTS,
        "intended_use": TEXT,
        "data_product_type": (
            "Summary statistics",
            "Machine learning model",
            "Dataset",
            "Synthetic data",
            "Interactive API",
            "SQL queries",
        ),
        "data_product_region": TEXT,
        "description": TEXT,
        "publication_date": DAY,
        "data_product_sector": ("Technology", "Healthcare", "Education", "Government", "Energy", "Finance"),
    },
    "dp_variant": {
        "variant_name": ("Pure DP", "Approximate DP", "Zero-concentrated DP", "Renyi DP", "Custom"),
        "data_domain": TEXT,
        "unprotected_quantities": TEXT,
    },
    "privacy_loss": {
        "privacy_unit": TEXT,
        "privacy_unit_details": TEXT,
        "privacy_parameters": "parameters",
        "privacy_parameters_details": TEXT,
    },
    "deployment_model": {
        "model_name": ("Local", "Central", "Shuffle", "Federated", "Varies"),
        "model_name_details": TEXT,
        "actors": TEXT,
        "release_type": ("One release", "Many releases"),
        "release_type_details": TEXT,
        "data_source_type": ("Static", "Dynamic"),
        "data_source_type_details": TEXT,
        "access_type": ("Interactive", "Non-interactive"),
        "access_type_details": TEXT,
    },
    "accounting": {"post_processing": TEXT, "composition": TEXT},
    "implementation": {
        "preprocessing_and_hyperparameter_tuning": TEXT,
        "mechanisms": TEXT,
        "justification": TEXT,
    },
    "administrative": {"sources": TEXT, "notes": TEXT, "registry_authors": TEXTS},
}
"""What a record of the third tier says, by group. The registry knows no other field."""

OPTIONAL = {"data_product_sector"}
STATES = (
    "Converted",
    "Draft",
    "Pending",
    "Changes Required",
    "Approved",
    "Approved (Update Requested)",
    "Approved (Pending)",
)


def faults(record: Any) -> Iterator[str]:
    """Yield what the registry would refuse, and what a record of the third tier leaves out."""
    top: dict[str, Field] = {"url_slug": TEXT, "status": STATES, "tier": "tier", "deployment": "groups"}
    yield from _differences("record", record, top, set())
    yield from _differences("deployment", record["deployment"], dict.fromkeys(GROUPS, "groups"), set())
    for name, fields in GROUPS.items():
        yield from _differences(name, record["deployment"][name], fields, OPTIONAL)
    if not set(record["deployment"]["privacy_loss"]["privacy_parameters"]) <= {"epsilon", "delta", "rho"}:
        yield "privacy_parameters: another name"


def style_faults(text: str) -> Iterator[str]:
    """Yield scalars in a style that loses line breaks, and backslashes that would not become a formula."""
    for token in yaml.scan(text):
        if isinstance(token, yaml.ScalarToken):
            if token.style not in (None, "|", '"', "'"):
                yield f"style {token.style}: {token.value}"
            if re.search(r"\\\\[^()]", token.value):
                yield f"backslashes: {token.value}"


def _differences(name: str, found: dict[str, Any], wanted: Mapping[str, Field], optional: set[str]) -> Iterator[str]:
    yield from (f"{name}: {each} is missing" for each in sorted(wanted.keys() - found.keys() - optional))
    yield from (f"{name}: {each} is not known" for each in sorted(found.keys() - wanted.keys()))
    for key, value in found.items():
        if key in wanted and not _fits(value, wanted[key]):
            yield f"{name}.{key}: {value!r}"


def _fits(value: Any, wanted: Field) -> bool:
    if isinstance(wanted, tuple):
        return value in wanted
    if wanted == TEXTS:
        return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)
    if wanted == DAY:
        return isinstance(value, str) and dt.date.fromisoformat(value).isoformat() == value
    if wanted == "tier":
        return bool(value == 3)
    if wanted == "parameters":
        return isinstance(value, dict) and all(isinstance(each, int | float) for each in value.values())
    return isinstance(value, dict if wanted == "groups" else str) and bool(value)
