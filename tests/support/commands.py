"""The plugin's command line."""

from __future__ import annotations

from click.testing import Result

from tests.support.hosts import Host


def run(host: Host, *args: str) -> Result:
    """Run ``flask xgen-sessions`` with the arguments."""
    return host.app.test_cli_runner().invoke(args=["xgen-sessions", *args])
