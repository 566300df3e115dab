"""How findings are shown: a table at a terminal, with the remedy below what is wrong, and rows in a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from quietcount_consumers.terminal.presentation import Format, show_rows
from quietcount_schemas.finding import Finding, Severity

__all__ = ["show_findings"]

_COLUMNS: Final = ("code", "severity", "where", "what", "remedy")
_STYLES: Final = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.WRONG: "bold red"}


def show_findings(findings: Sequence[Finding], form: Format, code: str = "code") -> None:
    """Write findings to stdout; a table calls the column of their codes `code`."""
    if form is not Format.TABLE:
        show_rows(_COLUMNS, [tuple(str(getattr(each, column)) for column in _COLUMNS) for each in findings], form)
        return
    # Only a terminal needs rich, which takes a while to import.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in (code, "severity"):
        table.add_column(column, no_wrap=True)
    table.add_column("what is wrong, and what to do", overflow="fold")
    before = ""
    for each in findings:
        text = (f"{each.where}: " if each.where else "") + each.what + (f"\n→ {each.remedy}" if each.remedy else "")
        severity = Text(each.severity, style=_STYLES[each.severity])
        table.add_row(Text("" if each.code == before else each.code), severity, Text(text))
        before = each.code
    Console(highlight=False, emoji=False).print(table)
