"""Host applications whose user model has unusual attributes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask_admin import Admin
from flask_login import LoginManager, UserMixin
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, mapped_column

from tests.support.hosts import PATIENT, SECRET, Host
from xgen_flask_sessions import UserFields, XgenSessions


def make_model(*bases: type[Any], **attributes: Any) -> type[Any]:
    """Return a new user model with a base of its own.

    :param bases: Its classes besides the declarative base; by default Flask-Login's mixin.
    :param attributes: Its attributes besides ``id`` and ``username``; those that are ``None`` are
        left out.
    """

    class Base(DeclarativeBase):
        pass

    columns: dict[str, Any] = {
        "id": mapped_column(sa.Integer, primary_key=True),
        "username": mapped_column(sa.String(80)),
    }
    body = {"__tablename__": "own_users", **columns, **attributes}
    body = {name: value for name, value in body.items() if value is not None}
    return type("Member", (*(bases or (UserMixin,)), Base), body)


@contextmanager
def make_member_host(
    database_url: str,
    model: type[Any],
    fields: UserFields | None = None,
    *,
    screen: bool = True,
    **arguments: Any,
) -> Iterator[Host]:
    """Yield a host application with a model; its tables are dropped at the end.

    :param fields: Its ``UserFields``.
    :param screen: Whether the host has Login Management.
    :param arguments: Further arguments of ``init_app``.
    """
    app = Flask("members")
    app.config.update(SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI=database_url, TESTING=True)
    app.config.update(PATIENT)
    db = SQLAlchemy(metadata=model.metadata)
    db.init_app(app)
    manager, sessions = LoginManager(app), XgenSessions()
    if screen:
        arguments.setdefault("admin", Admin(app))
    arguments.setdefault("login_manager", manager)
    sessions.init_app(app, db=db, user_model=model, user_fields=fields, **arguments)
    host = Host(app=app, db=db, sessions=sessions, login_manager=manager, model=model)
    host.create_tables()
    try:
        yield host
    finally:
        with app.app_context():
            db.session.remove()
            db.drop_all()
        host.dispose()
