"""An application for servers: ``tests.support.served:serve(URL)``."""

from __future__ import annotations

from flask import Flask

from tests.support.hosts import make_app


def serve(database_url: str) -> Flask:
    """Return the application after it has read its database."""
    host = make_app(database_url, create_all=False)
    with host.app.app_context():
        host.db.session.query(host.model).all()
    return host.app
