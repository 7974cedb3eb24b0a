"""The revisions of ``migrations/``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_VERSIONS = Path(__file__).parents[2] / "migrations" / "versions"

ALL: Final = sorted(path.name.split("_")[1] for path in _VERSIONS.glob("rev_*.py"))
"""The numbers of the revisions, oldest first."""
