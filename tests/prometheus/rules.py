"""The rules file and its unit tests, as tests read them, and promtool as they run it."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Rule = dict[str, Any]

RULES = Path("compose/prometheus/quietcount.rules.yaml")
UNIT_TESTS = Path("compose/prometheus/tests")
RUNBOOK = Path("compose/runbook.md")

_METRIC = re.compile(r"\bquietcount_[a-z_]+")
_DURATION = re.compile(r"\b(\d+)([mhd])\b")
_QUICK = {"m": 1, "h": 20, "d": 480}  # seconds
_SECONDS = 120


@dataclass(frozen=True)
class RulesFile:
    """The rules, in the order of the file."""

    text: str

    @property
    def groups(self) -> list[Rule]:
        loaded: list[Rule] = yaml.safe_load(self.text)["groups"]
        return loaded

    @property
    def rules(self) -> list[Rule]:
        return [rule for group in self.groups for rule in group["rules"]]

    @property
    def alerts(self) -> list[Rule]:
        return [rule for rule in self.rules if "alert" in rule]

    @property
    def names(self) -> list[str]:
        """Each alert's name, once."""
        return list(dict.fromkeys(rule["alert"] for rule in self.alerts))

    @property
    def records(self) -> list[str]:
        return [rule["record"] for rule in self.rules if "record" in rule]

    @property
    def metrics(self) -> set[str]:
        """The metrics of ours that the expressions name; recorded ones are none."""
        return {name for rule in self.rules for name in _METRIC.findall(rule["expr"])}

    def quick(self) -> str:
        """Return the rules with each duration shorter: a minute is a second, an hour 20 s, a day 480 s.

        Nothing else changes: what an expression says of ticks and of their age stays as it is.
        """
        return "\n".join(
            line if line.lstrip().startswith("#") else _DURATION.sub(lambda it: f"{int(it[1]) * _QUICK[it[2]]}s", line)
            for line in self.text.splitlines()
        )


def rules_file(root: Path) -> RulesFile:
    return RulesFile((root / RULES).read_text(encoding="utf-8"))


def metric_names(text: str) -> set[str]:
    """The metrics of ours that a text names."""
    return set(_METRIC.findall(text))


def promtool(tool: str, *arguments: str | Path, given: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run promtool to its end."""
    done = subprocess.run([tool, *map(str, arguments)], input=given, capture_output=True, timeout=_SECONDS)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
