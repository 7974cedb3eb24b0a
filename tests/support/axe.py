"""The accessibility rules of axe-core, run in a page."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

TAGS: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
"""WCAG 2.2 at level AA, and what axe-core advises beyond it."""
CONTRAST: Final = ("color-contrast", "color-contrast-enhanced")
"""The rules that a color scheme decides; the second is level AAA for text."""

_RUN: Final = "options => axe.run({exclude: ['.navbar']}, options)"
"""The navigation bar is that of Flask-Admin's own theme; no page of ours has one."""


def violations(page: Page, *, rules: Collection[str] = ()) -> list[str]:
    """Return each violation: the rule, and the element with its markup.

    :param rules: Only these rules; by default the rules of :data:`TAGS` and :data:`CONTRAST`.
    """
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    options: dict[str, Any] = {
        "resultTypes": ["violations"],
        "runOnly": {"type": "rule", "values": list(rules)}
        if rules
        else {"type": "tag", "values": list(TAGS)},
    }
    if not rules:
        options["rules"] = {name: {"enabled": True} for name in CONTRAST}
    found = page.evaluate(_RUN, options)["violations"]
    return sorted(
        f"{each['id']}: {node['target']} {node['html'][:200]} {_reason(node)}"
        for each in found
        for node in each["nodes"]
        # An open menu covers what is below it, until it is closed.
        if "partially obscured" not in _reason(node)
    )


def _reason(node: dict[str, Any]) -> str:
    checks = [*node["any"], *node["all"], *node["none"]]
    return "; ".join(check["message"] for check in checks)[:200]
