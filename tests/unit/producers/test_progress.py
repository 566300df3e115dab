"""The bar of a command that works on a file: at a terminal alone."""

from __future__ import annotations

import io
import sys

import pytest

from quietcount_producers.commands.progress import progress

pytestmark = pytest.mark.quick


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("screen, total, shown", [(Screen, 4, True), (Screen, None, False), (io.StringIO, 4, False)])
def test_a_bar_is_shown_at_a_terminal_alone_and_when_the_end_is_known(
    monkeypatch: pytest.MonkeyPatch, screen: type[io.StringIO], total: int | None, shown: bool
) -> None:
    stderr = screen()
    monkeypatch.setattr(sys, "stderr", stderr)
    with progress("Checking", total) as bar:
        for _ in range(4):
            bar(1)
    assert ("Checking" in stderr.getvalue()) is shown
    assert ("100%" in stderr.getvalue()) is shown
