"""The commands: ``flask xgen-sessions``."""

from __future__ import annotations

import click


@click.group("xgen-sessions")
def commands() -> None:
    """See who is signed in, and sign them out."""
