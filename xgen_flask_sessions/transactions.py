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
        lost = not commit and _is_transaction_lost(error)
        if commit or lost:
            session.rollback()
        if isinstance(error, UNREACHABLE):
            raise LedgerUnavailable(_ALL_UNDONE if lost else None) from error
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


_DEADLOCK, _NO_SAVEPOINT = 1213, 1305
_ALL_UNDONE = "The database undid the whole transaction. Nothing of it was done."


def _is_transaction_lost(error: BaseException | None) -> bool:
    """Say whether MariaDB rolled everything back, where others fail one statement."""
    while error is not None:
        arguments = getattr(getattr(error, "orig", None), "args", None) or (None,)
        if arguments[0] in (_DEADLOCK, _NO_SAVEPOINT):
            return True
        error = error.__context__
    return False


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
