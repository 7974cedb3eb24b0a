"""Options and output of the Admin Center's commands."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Sequence
from typing import Any

import click


def utf8_text(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Return an argument that was typed in UTF-8, in whatever locale (PEP 383)."""
    try:
        return value if not value or _is_encodable(value) else os.fsencode(value).decode()
    except UnicodeError:
        raise click.BadParameter("It is not valid UTF-8.") from None


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
page_option = click.option(
    "--page", type=click.IntRange(1, 999_999_999), default=1, help="Counted from 1."
)
search_option = click.option(
    "--search",
    "text",
    default="",
    callback=utf8_text,
    help="Part of a username, a name or a department.",
)


def operator() -> str:
    """Return the user of the operating system, as the actor for audit records."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        return "cli:unknown"


def printable(text: str | None) -> str:
    """Return text without control characters, which could rewrite the screen."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text or "") or "-"


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, if it has rows."""
    from tabulate import tabulate

    if rows:
        click.echo(tabulate(rows, headers, disable_numparse=True) + "\n")


def print_json(**members: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(members, indent=2))


def _is_encodable(text: str) -> bool:
    return not any("\ud800" <= each <= "\udfff" for each in text)
