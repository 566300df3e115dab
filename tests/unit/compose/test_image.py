"""compose/: the image is pinned, small and not root's, and takes in only what it is built from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from tests.unit.compose.compose_documents import PINNED, Document, compose

pytestmark = pytest.mark.quick

__all__ = ["compose"]  # the fixture


def test_the_image_is_the_version_of_the_project(root: Path, compose: Document) -> None:
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    images = {service["image"] for service in compose["services"].values() if "build" in service}
    assert images == {f"quietcount:{version}"}


def weak_image(text: str) -> list[str]:
    """What in a Dockerfile would run as root, change by itself or carry the tools of its building."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.lstrip().startswith("#")]
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    last = lines[max(at for at, line in enumerate(lines) if line.startswith("FROM ")) :]
    users = [line.split()[1] for line in last if line.startswith("USER ")]
    found = [f"{base} is not pinned" for base in bases if not PINNED.fullmatch(base)]
    if not users or not re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", users[-1]):
        found.append("runs as root")
    if any("pip" in line or "apt-get" in line for line in last):
        found.append("the image that runs is built upon")
    if len(bases) < 2 or not any(line.startswith("HEALTHCHECK") for line in last):
        found.append("one stage, or no health check")
    if 'ENTRYPOINT ["quietcount"]' not in last:
        found.append("does not run quietcount")
    return found


def test_the_image_is_small_pinned_and_not_roots(root: Path) -> None:
    text = (root / "compose" / "Dockerfile").read_text(encoding="utf-8")
    assert weak_image(text) == []
    assert weak_image(text.replace("USER 10001:10001", "USER root")) != []
    assert weak_image(text.replace(":3.13.16-slim-trixie", ":latest")) != []
    assert weak_image(text.replace("WORKDIR /var", "RUN apt-get install gcc\nWORKDIR /var")) != []


def test_the_image_takes_in_only_what_it_is_built_from(root: Path) -> None:
    lines = (root / "compose" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    taken = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = re.findall(
        r"^COPY (?!--)(\S+) ", (root / "compose" / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert taken == set(copied)
    assert {"**/secrets", "**/data"} <= set(rules)


def test_every_volume_has_a_folder_with_its_owner_in_the_image(root: Path, compose: Document) -> None:
    text = (root / "compose" / "Dockerfile").read_text(encoding="utf-8")
    for service in compose["services"].values():
        if "build" not in service:
            continue
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            if not source.startswith("."):
                assert re.search(rf"{re.escape(target)}(\s|\\|$)", text, re.MULTILINE), target
