"""Scripts that run in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

LIMIT_S = 120
"""Time limit of a script, in seconds."""


def run_script(script: str, *arguments: str) -> str:
    """Run a script in a separate process, and return its output without the last newline."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def force_logout_elsewhere(url: str, user: str) -> None:
    """Force a user out in another process."""
    run_script(
        """
        import sys
        from tests.support.hosts import make_app
        make_app(sys.argv[1], create_all=False).force_logout(sys.argv[2])
        """,
        url,
        user,
    )
