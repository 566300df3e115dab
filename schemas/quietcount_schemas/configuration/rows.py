"""What the table of keys is made of: a row for each key, and sections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quietcount_schemas.configuration.readers import Reader
from quietcount_schemas.configuration.rules import Rule

__all__ = ["Key", "Section"]


@dataclass(frozen=True, slots=True)
class Key:
    """A row of the table."""

    name: str
    reader: Reader
    meaning: str
    """What the page says of it, in Markdown."""
    default: object = None
    """As the file would have it; None if there is no value unless one is given."""
    default_text: str = ""
    """What the page says of the default, if that is not the value itself."""
    required: bool = False
    service_alone: bool = False
    """If the key is required, then by the service: an emitter does without."""
    restart: bool = False
    """A new value is refused while the service runs."""
    needs: str = ""
    """The key of the same section that must be given, too."""

    @property
    def wanted(self) -> str:
        """What to write there."""
        return self.reader.wanted


@dataclass(frozen=True, slots=True)
class Section:
    """A table of keys and of further sections; in the file once, or as often as one likes if it is `repeated`."""

    name: str
    keys: tuple[Key, ...] = ()
    sections: tuple[Section, ...] = ()
    repeated: bool = False
    rules: tuple[Rule, ...] = ()

    @property
    def members(self) -> Mapping[str, Key | Section]:
        """The keys and the sections by name."""
        keys: dict[str, Key | Section] = {each.name: each for each in self.keys}
        return keys | {each.name: each for each in self.sections}
