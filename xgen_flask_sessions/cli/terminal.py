"""The output of commands: tables, JSON, and foreign text made safe for a terminal."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from ..errors import ConfigurationError
from ..text import clean_text

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def escape_unencodable() -> None:
    """Let the output escape the characters that the terminal's encoding lacks.

    Otherwise a name in another script ends a command with a ``UnicodeEncodeError``.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def decode_argument(value: str) -> str:
    """Return an argument of a command that was typed in UTF-8, in whatever locale.

    Python keeps the bytes that the locale's encoding lacks as lone surrogates (PEP 383).

    :raises UnicodeError: It is not valid UTF-8.
    """
    return os.fsencode(value).decode() if _SURROGATE.search(value) else value


def shown(text: str | None) -> str:
    """Return foreign text without control characters, which could rewrite the screen."""
    return clean_text(text, len(text or "")) or "-"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the singular or plural."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, if it has rows."""
    try:
        from tabulate import tabulate
    except ImportError as error:
        raise ConfigurationError(
            f"Tables need tabulate, which cannot be imported ({error}); install "
            "xgen-flask-sessions with the extra 'commands', or use --json."
        ) from error

    if rows:
        click.echo(tabulate(rows, headers, disable_numparse=True) + "\n")


def print_json(**members: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(members, indent=2))
