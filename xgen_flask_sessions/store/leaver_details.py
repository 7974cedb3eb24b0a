"""The changes of a leaver's account, as the audit record of the act holds them.

They are JSON: ``{"deactivated": true, "roles": ["editor"]}``, with ``"more_roles": 3`` if not all
names fit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .tables import MAX_DETAILS


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaverDetails:
    """The changes of a leaver's account."""

    deactivated: bool
    """Whether the account became inactive."""
    roles: list[str]
    """The names of the roles that were revoked."""
    more_roles: int = 0
    """The number of further roles, whose names did not fit."""


def encode(*, deactivated: bool, roles: Sequence[str]) -> str:
    """Return the text for the audit record, of at most :data:`.tables.MAX_DETAILS` characters."""
    kept = min(len(roles), MAX_DETAILS // len('"", '))
    while True:
        details: dict[str, Any] = {"deactivated": deactivated, "roles": list(roles[:kept])}
        if kept < len(roles):
            details["more_roles"] = len(roles) - kept
        text = json.dumps(details, ensure_ascii=False)
        if len(text) <= MAX_DETAILS:
            return text
        kept -= 1


def decode(text: str | None) -> LeaverDetails | None:
    """Return the details that :func:`encode` recorded; ``None`` for any other text."""
    if text is None:
        return None
    try:
        details = json.loads(text)
        roles, more = details["roles"], details.get("more_roles", 0)
        return LeaverDetails(
            deactivated=details["deactivated"] is True,
            roles=[name for name in roles if isinstance(name, str)],
            more_roles=more if isinstance(more, int) else 0,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None  # another program wrote it
