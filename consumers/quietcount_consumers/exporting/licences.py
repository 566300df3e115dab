"""Licences: what a configuration calls one, as data portals name it and where it can be read."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["Licence", "licence_of"]

_CREATIVE: Final = "https://creativecommons.org"

# The licences that open data is published under, by their SPDX identifier: the title, and where the text is.
_KNOWN: Final = {
    "CC0-1.0": ("Creative Commons Zero 1.0", f"{_CREATIVE}/publicdomain/zero/1.0/"),
    "CC-BY-4.0": ("Creative Commons Attribution 4.0", f"{_CREATIVE}/licenses/by/4.0/"),
    "CC-BY-SA-4.0": ("Creative Commons Attribution Share-Alike 4.0", f"{_CREATIVE}/licenses/by-sa/4.0/"),
    "CC-BY-NC-4.0": ("Creative Commons Attribution Non-Commercial 4.0", f"{_CREATIVE}/licenses/by-nc/4.0/"),
    "ODbL-1.0": ("Open Data Commons Open Database License 1.0", "https://opendatacommons.org/licenses/odbl/1-0/"),
    "ODC-By-1.0": ("Open Data Commons Attribution License 1.0", "https://opendatacommons.org/licenses/by/1-0/"),
    "PDDL-1.0": ("Open Data Commons Public Domain Dedication 1.0", "https://opendatacommons.org/licenses/pddl/1-0/"),
}
_OTHER = re.compile(r"[^-A-Za-z0-9._]+")


class Licence(NamedTuple):
    """A licence: `name` is made of letters, digits, points and hyphens, and `address` is empty if it is not known."""

    name: str
    title: str
    address: str


def licence_of(text: str) -> Licence | None:
    """Return the licence that a text names; None for an empty one."""
    if not text:
        return None
    name = _OTHER.sub("-", text).strip("-") or "other"
    known = next((each for each in _KNOWN if each.lower() == name.lower()), None)
    if known is not None:
        return Licence(known, *_KNOWN[known])
    return Licence(name, text, text if re.fullmatch(r"https?://\S+", text) else "")
