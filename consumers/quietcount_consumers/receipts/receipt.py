"""The receipt: the record of a deployment that the OpenDP deployments registry asks for, filled in from the ledger.

The names of the fields, and the words that some of them choose from, are those of the registry's schema of July 2026
(opendp/deployments-registry-data, commit 3e9c812). The ledger says everything but what only a person knows: what the
figures are for, which region they describe, who filled the record in, and why the choices were made.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Released
from quietcount_aggregates.populations import Horizon
from quietcount_consumers.receipts import accounting, safeguards
from quietcount_consumers.receipts.accounting import told

__all__ = ["SECTORS", "Receipt", "Said", "open_questions", "receipt_of"]

Receipt = Mapping[str, Any]
"""The fields by name, in the registry's order: text, a number, a list of text, or such a mapping."""

SECTORS: Final = ("Technology", "Healthcare", "Education", "Government", "Energy", "Finance")

_OPEN: Final = "TO BE STATED: "
"""What an answer begins with that nobody has given yet."""


@dataclass(frozen=True, slots=True)
class Said:
    """What only a person knows; empty text is not said yet."""

    name: str = ""
    intended_use: str = ""
    region: str = ""
    sector: str = ""
    justification: str = ""
    sources: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()


def receipt_of(chain: Chain, said: Said) -> Receipt:
    """Return the record of what the ledger declared and released. Its status is "Draft": a person sends it in."""
    described = chain.described
    publisher = told(described.publisher) if described else ""
    curator = publisher or _open("who publishes the figures (`publisher` below [publication] in quietcount.toml)")
    name = told(said.name) or (f"Statistics of {publisher}" if publisher else "Statistics")
    published = _published(chain)
    return {
        "url_slug": _slug(name, curator, published),
        "status": "Draft",
        "tier": 3,
        "deployment": {
            "basic": {
                "name": name,
                "data_curators": [curator],
                "intended_use": told(said.intended_use) or _open("what the figures are for (--intended-use)"),
                "data_product_type": "Summary statistics",
                "data_product_region": told(said.region)
                or _open("which region the figures describe, or whose laws apply (--region)"),
                "description": accounting.product(chain),
                "publication_date": published.isoformat(),
                **({"data_product_sector": said.sector} if said.sector else {}),
            },
            "dp_variant": {
                "variant_name": "Pure DP",
                "data_domain": accounting.domain(chain),
                "unprotected_quantities": safeguards.UNPROTECTED,
            },
            "privacy_loss": {
                "privacy_unit": _unit(chain),
                "privacy_unit_details": accounting.adjacency(chain),
                "privacy_parameters": {"epsilon": float(chain.budget.bound)},
                "privacy_parameters_details": accounting.parameters(chain),
            },
            "deployment_model": {
                "model_name": "Central",
                "model_name_details": safeguards.MODEL,
                "actors": safeguards.ACTORS,
                "release_type": "Many releases",
                "release_type_details": accounting.releases(chain),
                "data_source_type": "Dynamic",
                "data_source_type_details": safeguards.SOURCE,
                "access_type": "Non-interactive",
                "access_type_details": safeguards.ACCESS,
            },
            "accounting": {
                "post_processing": safeguards.POST_PROCESSING,
                "composition": accounting.composition(chain),
            },
            "implementation": {
                "preprocessing_and_hyperparameter_tuning": accounting.preprocessing(chain),
                "mechanisms": accounting.mechanisms(chain),
                "justification": told(said.justification)
                or _open("how the populations, limits, periods and epsilons were chosen, and why (--justification)"),
            },
            "administrative": {
                "sources": accounting.sources(chain, said.sources),
                "notes": accounting.notes(chain),
                "registry_authors": [told(each) for each in said.authors] or [_open("who fills this in (--author)")],
            },
        },
    }


def open_questions(receipt: Receipt) -> list[str]:
    """Return what is still to be stated by a person, in the order of the fields."""
    return [text.removeprefix(_OPEN) for text in _texts(receipt) if text.startswith(_OPEN)]


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _open(question: str) -> str:
    return f"{_OPEN}{question}"


def _unit(chain: Chain) -> str:
    horizons = {population.horizon for population in chain.declarations.values()}
    if horizons == {Horizon.YEAR}:
        return "One person in one calendar year"
    return "One person" if Horizon.YEAR not in horizons else "One person, who came in one calendar year"


def _published(chain: Chain) -> dt.date:
    """Return the day of the first release; before there is one, that of the ledger."""
    released = (entry for entry in chain.entries if isinstance(entry.body, Released))
    return next(released, chain.entries[0]).recorded_at.astimezone(dt.UTC).date()


def _slug(name: str, curator: str, published: dt.date) -> str:
    """Return the address under which the registry will list the record, by its rule."""
    parts = (re.sub(r"\W+", "_", part.lower()) for part in (name, curator, str(published.year)))
    return "_".join(parts).replace("_", "-")
