"""``python -m xgen_flask_sessions``: the standalone Admin Center, and its commands."""

from __future__ import annotations

import sys

from .errors import ConfigurationError


def main() -> None:
    """Run the command line."""
    try:
        from .standalone.commands import run
    except ConfigurationError as error:  # the extra is not installed
        sys.exit(f"Error: {error}")
    run()


if __name__ == "__main__":
    main()
