"""The findings of ``flask xgen-sessions doctor``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.support.hosts import Host


def examine(host: Host, *args: str, ends_with: int = 0) -> dict[str, Any]:
    """Run the command; return its findings by their codes."""
    result = host.app.test_cli_runner().invoke(args=["xgen-sessions", "doctor", "--json", *args])
    assert result.exit_code == ends_with, result.output
    return {finding["code"]: finding for finding in json.loads(result.stdout)["findings"]}


def paths(findings: Mapping[str, Any], code: str) -> list[str]:
    """Return the paths of the routes of a finding."""
    return [route["path"] for route in findings[code]["routes"]] if code in findings else []
