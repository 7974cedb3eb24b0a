"""The directive ``settings-reference``: every field of ``Settings`` with its documentation."""

from __future__ import annotations

from dataclasses import Field, fields
from datetime import timedelta
from typing import Any

from generated import MarkdownDirective, code
from sphinx.application import Sphinx

from xgen_flask_sessions.settings import PREFIX, Settings

_UNITS = (
    ("day", timedelta(days=1)),
    ("hour", timedelta(hours=1)),
    ("minute", timedelta(minutes=1)),
)


class SettingsReference(MarkdownDirective):
    """A section for each setting, in the order of the fields."""

    def markdown(self) -> str:
        """Return a heading, the default and the sentences for each setting."""
        return "\n".join(map(_section, fields(Settings)))


def _section(setting: Field[Any]) -> str:
    name = setting.name.upper()
    return (
        f"({setting.name.replace('_', '-')})=\n"
        f"## `{PREFIX}{name}`\n\n"
        f"{setting.metadata['doc']}\n\n"
        f"Default: {default_of(setting)}.\n"
    )


def default_of(setting: Field[Any]) -> str:
    """Return the default of a setting in words."""
    shown: str | None = setting.metadata["shown"]
    return shown or _in_words(setting.metadata["default"])


def _in_words(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, timedelta):
        return _span(value)
    return code(list(value)) if isinstance(value, tuple) else code(value)


def _span(value: timedelta) -> str:
    if value == timedelta(hours=24):
        return "24 hours"
    for noun, unit in _UNITS:
        if value and not value % unit:
            count = value // unit
            return f"{count} {noun}{'s' if count != 1 else ''}"
    return f"{value.total_seconds():g} seconds"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("settings-reference", SettingsReference)
    return {"parallel_read_safe": True}
