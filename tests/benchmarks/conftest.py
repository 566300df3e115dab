"""Shows all marks of a run together, at its end."""

from __future__ import annotations

import pytest
from tests.benchmarks.marks import LINES, SHARE


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the lines again that a long run has scattered."""
    if LINES:
        terminalreporter.section(f"marks, at {SHARE} of the full sizes")
        for line in LINES:
            terminalreporter.write_line(line)
