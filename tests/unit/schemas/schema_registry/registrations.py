"""A folder from which schemas are registered with a stand-in for a Schema Registry."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.registry.stand_in import StandIn, stand_in
from tests.strategies import envelope

from quietcount_schemas import SchemaRegistry, SchemasError
from quietcount_schemas.commands.schemas import schemas

PASSWORD = "correct horse battery"
HELP = "quietcount.casework.HelpRequested"
VERSIONS = [each for kind in SchemaRegistry.load().event_types.values() for each in kind.versions]


class Place:
    """A folder with a configuration, from which `schemas register` is run against a registry."""

    def __init__(self, folder: Path, registry: StandIn) -> None:
        self.folder = folder
        self.registry = registry
        self.ids = folder / "registry-ids.json"
        self.configure()

    def configure(self, text: str = "", url: str | None = None, top: str = "") -> None:
        section = f'[schema_registry]\nurl = "{url or self.registry.url}"\n{text}'
        (self.folder / "quietcount.toml").write_text(f"{top}\n{section}")

    def own(self, *versions: list[Any]) -> None:
        """Put an event type into the folder `own`, with these fields after the envelope in each version."""
        for number, fields in enumerate(versions, 1):
            path = self.folder / "own" / "Own" / f"{number}.avsc"
            path.parent.mkdir(parents=True, exist_ok=True)
            record = {"type": "record", "name": "Own", "namespace": "example.own", "doc": "Own."}
            path.write_text(json.dumps({**record, "fields": [*envelope(), *fields]}))
        CliRunner().invoke(schemas, ["check", str(self.folder / "own"), "--record"])
        self.configure(top='schemas = ["own"]')

    def password(self, content: str = PASSWORD) -> Path:
        """Write the password's file, for its owner alone, and return its path."""
        path = self.folder / "password"
        path.write_text(content)
        path.chmod(0o600)
        return path

    def register(self) -> Result:
        return CliRunner().invoke(schemas, ["register", "--config", str(self.folder / "quietcount.toml")])

    def refused(self) -> str:
        """Register, be refused, and return what was said: nothing is written, and no password told."""
        before = self.ids.read_bytes() if self.ids.exists() else None
        result = self.register()
        assert isinstance(result.exception, SchemasError), result.exception
        assert result.output == ""
        assert (self.ids.read_bytes() if self.ids.exists() else None) == before
        said = str(result.exception)
        for secret in (PASSWORD, base64.b64encode(f"emitter:{PASSWORD}".encode()).decode()):
            assert secret not in said
        assert "\n" not in said
        return said


@pytest.fixture
def registry() -> Iterator[StandIn]:
    with stand_in() as registry:
        yield registry


@pytest.fixture
def place(tmp_path: Path, registry: StandIn, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path, registry)


def field(name: str) -> dict[str, Any]:
    return {"name": name, "type": "boolean", "default": False, "doc": "Whether."}
