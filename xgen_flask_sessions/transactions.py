"""Changes in the host's session: committed here or by the host, told of once they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import exc as sa_exc
from sqlalchemy.orm import Session, SessionTransaction

from . import outbox
from .errors import LedgerUnavailable
from .stamps import write_first

UNREACHABLE = (
    sa_exc.OperationalError,
    sa_exc.InterfaceError,
    sa_exc.ProgrammingError,  # the tables are not there
    sa_exc.TimeoutError,
)
"""What it takes for a database that cannot be used."""


@contextmanager
def writing(db: SQLAlchemy, commit: bool) -> Iterator[Session]:
    """Lend the host's session for a change, and commit it if asked to.

    :raises LedgerUnavailable: The database cannot be written. What was to be committed here is
        rolled back, and what was to join the host's transaction is undone in it.
    """
    session = db.session()
    try:
        with nullcontext() if commit else _savepoint(session):
            yield session
    except BaseException as error:
        if commit:
            session.rollback()
        if isinstance(error, UNREACHABLE):
            raise LedgerUnavailable from error
        raise
    if not commit:
        return
    try:
        session.commit()
    except UNREACHABLE as error:
        session.rollback()
        raise LedgerUnavailable(
            "The database went away while the change was committed. Look whether it was made."
        ) from error
    except BaseException:
        session.rollback()
        raise


def _savepoint(session: Session) -> SessionTransaction:
    # SQLite's driver begins at the first write: without one, the savepoint's end would commit.
    write_first(session)
    return session.begin_nested()


def announce(db: SQLAlchemy, commit: bool, send: Callable[[Flask], object]) -> None:
    """Call *send* with the application: now if *commit*, else once the host commits."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    if commit:
        send(app)
    else:
        outbox.on_commit(db.session(), partial(send, app))
