"""The `quietcount schemas` commands."""

from __future__ import annotations

import click

__all__ = ["schemas"]


@click.group()
def schemas() -> None:
    """List, show and check event schemas."""
