"""The log: the lines of the plugin's audit log, and errors without the values of statements."""

from __future__ import annotations

import logging
from typing import Any, Final

from flask import Flask, request
from flask.logging import has_level_handler

from xgen_flask_sessions import traceback_of

_AUDIT: Final = "xgen_flask_sessions.audit"


class AdminCenter(Flask):
    """Flask, whose log of an unhandled error never holds a password hash."""

    def log_exception(self, *arguments: Any) -> None:
        """Log an unhandled error; see Flask."""
        error = arguments[-1][1]
        path = ascii(request.path)  # it may hold line breaks
        self.logger.error("Exception on %s [%s]\n%s", path, request.method, traceback_of(error))


def log_to_stderr() -> None:
    """Write the audit log to the server's error stream, unless the process configured logging."""
    logger = logging.getLogger(_AUDIT)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    if not has_level_handler(logger):
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        logger.addHandler(handler)
