"""The tables and the first SuperUser, created before the first request."""

from __future__ import annotations

import secrets
import threading
from typing import Final, cast

import click
import sqlalchemy as sa
from flask import Flask

from xgen_flask_sessions import (
    ConfigurationError,
    DatabaseUnavailable,
    LedgerUnavailable,
    cause_of,
)
from xgen_flask_sessions.standalone import accounts
from xgen_flask_sessions.standalone.extensions import sessions
from xgen_flask_sessions.standalone.models import User, db
from xgen_flask_sessions.standalone.rules import AccountError, ChangeFailed, Profile

FIRST_USERNAME: Final = "admin"
_ATTEMPTS: Final = 10
_INDEXES: Final = cast("sa.Table", User.__table__).indexes


def prepare(app: Flask, *, url: str = "/login") -> None:
    """Create the tables and the first SuperUser if they are missing.

    Several processes may call it at the same time. The password of the first SuperUser is
    ``XGEN_ADMIN_PASSWORD``, or generated and printed once.

    :param app: The result of :func:`~xgen_flask_sessions.standalone.create_app`.
    :param url: The sign-in page's URL to print.
    :raises ConfigurationError: The tables are another release's, or the password is against the
        rules.
    :raises DatabaseUnavailable: The database does not answer in time.
    """
    with app.app_context():
        sessions.require_database()  # a driver waits for a silent server without a limit
        sessions.upgrade()
        _create_tables()
        password = _create_first_superuser(app.config["ADMIN_PASSWORD"])
    if password is not None:
        click.echo(
            f"\nThe first SuperUser was created. Sign in at {url}\n"
            f"  username: {FIRST_USERNAME}\n"
            f"  password: {password}\n"
            "This password is not shown again.\n"
        )


def prepare_or_retry(app: Flask) -> None:
    """Prepare an application that any server runs; see :func:`prepare`.

    While the database cannot be used, each request tries again. No connection stays open, so that
    the server may fork.

    :param app: The result of :func:`~xgen_flask_sessions.standalone.create_app`.
    :raises ConfigurationError: As :func:`prepare`.
    """
    try:
        prepare(app)
    except (sa.exc.SQLAlchemyError, DatabaseUnavailable) as error:
        app.logger.error("The database cannot be prepared yet: %s", cause_of(error))
        _prepare_at_a_request(app)
    finally:
        with app.app_context():
            db.session.remove()
            db.engine.dispose()


def _prepare_at_a_request(app: Flask) -> None:
    turns = threading.Lock()
    is_due = True

    @app.before_request
    def prepare_first() -> None:
        nonlocal is_due
        if not is_due:
            return
        sessions.require_database()
        with turns:
            if is_due:
                prepare(app)
                is_due = False


def _create_tables() -> None:
    for attempt in range(_ATTEMPTS):
        try:
            db.create_all()
            for index in _INDEXES:  # a table of an earlier release may lack one
                index.create(db.engine, checkfirst=True)
        except sa.exc.DBAPIError:
            # Another process created it at the same time.
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return


def _create_first_superuser(password: str | None) -> str | None:
    """Create ``admin`` if there are no users; return the password if it was generated."""
    if db.session.scalar(sa.select(User.id).limit(1)) is not None:
        return None
    chosen = password or secrets.token_urlsafe(12)
    try:
        accounts.create(FIRST_USERNAME, chosen, Profile.parse("", "", ""), superuser=True)
    except ChangeFailed as error:
        raise LedgerUnavailable from error
    except AccountError as error:
        if error.field == "password":
            raise ConfigurationError(f"XGEN_ADMIN_PASSWORD: {error.message}") from error
        return None  # another process was faster
    return None if password else chosen
