"""Every state, in the order of the pictures."""

from __future__ import annotations

from tests.screenshots import center_states, error_states, list_states, user_states
from tests.screenshots.stage import STATES

__all__ = ["ALL"]

_MODULES = (list_states, user_states, center_states, error_states)
"""Importing them registers their states."""

ALL = STATES
