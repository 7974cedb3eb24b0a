"""Tables in Markdown, figures in JSON, and a description of the machine."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "flask",
    "werkzeug",
    "sqlalchemy",
    "psycopg",
    "pymysql",
    "pyjwt",
    "redis",
    "hiredis",
    "flask-jwt-extended",
    "flask-security-too",
    "gunicorn",
)


def machine() -> dict[str, Any]:
    """Return a description of the machine: processor, Python, packages and load."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 2),
        "packages": _versions(),
    }


def describe(told: Mapping[str, Any]) -> str:
    """Return :func:`machine` as one line."""
    return (
        f"{told['processor']}, {told['cores']} cores, Python {told['python']}; load {told['load']}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first column is text and whose others are figures."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_json(path: str, document: Mapping[str, Any]) -> None:
    """Write the figures to a file."""
    Path(path).write_text(json.dumps(document, indent=2) + "\n")
