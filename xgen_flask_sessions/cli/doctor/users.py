"""The users: the extensions, the user model's table, and one real user, found as Flask-Login does.

No value of a user appears in a finding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import Flask
from sqlalchemy.exc import SQLAlchemyError

from xgen_flask_sessions.cli.doctor.findings import Finding
from xgen_flask_sessions.errors import ConfigurationError, XgenSessionsError
from xgen_flask_sessions.state import State
from xgen_flask_sessions.text import cause_of
from xgen_flask_sessions.users import diagnosis
from xgen_flask_sessions.users.attributes import Flag, is_constant
from xgen_flask_sessions.web.host_set_up import require_set_up
from xgen_flask_sessions.web.login_bridge import LoginBridge


def examine_extensions(app: Flask, state: State) -> Iterator[Finding]:
    """Examine Flask-SQLAlchemy and Flask-Login, without the database.

    :param app: The application.
    :param state: The plugin's objects for it.
    """
    try:
        require_set_up(app, state.db, state.login_manager, complete=True)
    except ConfigurationError as error:
        yield Finding(
            level="problem",
            code="extensions",
            meaning="An extension is not the one that init_app was given, or is not set up.",
            mend=str(error),
        )


def examine_model(state: State) -> Iterator[Finding]:
    """Examine the user model, without the database.

    :param state: The plugin's objects for the application.
    """
    columns = state.users.blocking_columns
    if columns:
        model = state.users.model.__name__
        yield Finding(
            level="warning",
            code="active-constant",
            meaning=f"{model}.is_active is the same for every user, so no user is inactive, but "
            f"{model} has a column {columns[0]!r}.",
            mend=f"Define is_active on the model as a property that reads self.{columns[0]}, or "
            "pass user_fields=UserFields(active=None).",
        )


def examine_users(app: Flask, state: State) -> Iterator[Finding]:
    """Load a user and examine the user's attributes, as a request would.

    :param app: The application.
    :param state: The plugin's objects for it.
    """
    try:
        with app.test_request_context():
            findings = list(_examine(state))
    except (SQLAlchemyError, XgenSessionsError) as error:
        state.db.session.rollback()
        yield Finding(
            level="problem",
            code="users-unreadable",
            meaning=f"The users cannot be read. ({cause_of(error)})",
            mend="Create or migrate the user model's table, and pass the user model of this "
            "application's database.",
        )
        return
    yield from findings or [
        Finding(
            level="ok",
            code="users",
            meaning="A user was loaded by the host's loader, and the attributes can be read.",
        )
    ]


def _examine(state: State) -> Iterator[Finding]:
    user = diagnosis.any_user(state.db.session(), state.users.model)
    if user is None:
        yield Finding(
            level="ok",
            code="users-none",
            meaning="There is no user yet; run doctor again with one.",
        )
        return
    yield from _examine_login(state, user)
    for flag in state.users.flags:
        yield from _examine_flag(state, flag, user)


def _examine_login(state: State, user: Any) -> Iterator[Finding]:
    """Find the user by ``get_id()``, as Flask-Login does at the next request."""
    bridge = LoginBridge.find(state.login_manager)
    if bridge is None:
        return
    bridge.attach(complete=True)
    try:
        login_id = state.users.login_id_of(user)
        found = bridge.find_user(login_id)
        same = found is not None and state.users.id_of(found) == state.users.id_of(user)
        fault = "" if same else "it returned another user, or none."
    except SQLAlchemyError:
        raise
    except Exception as error:
        fault = f"{type(error).__name__}: {cause_of(error)}"
    if fault:
        yield Finding(
            level="problem",
            code="user-loader",
            meaning=f"The user_loader does not find a user by the result of get_id(): {fault}",
            mend="Let user_loader take the text that get_id() returns, and name its attribute with "
            "UserFields(id=…) if it is not the primary key.",
        )


def _examine_flag(state: State, flag: Flag, user: Any) -> Iterator[Finding]:
    value = flag.read(user)
    superuser, _, authenticated = state.users.flags
    if flag is superuser and value and is_constant(flag.model, str(flag.name)):
        yield Finding(
            level="warning",
            code="superuser-constant",
            meaning=f"{type(user).__name__}.{flag.name} is the same for every user: every user is "
            "a SuperUser.",
            mend="Name the column that tells SuperUsers with user_fields=UserFields(superuser=…), "
            "or pass can_view=.",
        )
    if flag is authenticated and value is False:
        yield Finding(
            level="problem",
            code="authenticated-false",
            meaning=f"{type(user).__name__}.is_authenticated is false, so each request of that "
            "user is refused.",
            mend="Inherit from flask_login.UserMixin, or let it be true for every user object.",
        )
    if value is None:
        yield Finding(
            level="problem",
            code="attribute-unclear",
            meaning=f"{type(user).__name__}.{flag.name} says neither yes nor no, so it gives no "
            "right.",
            mend="Let it be a Boolean column, or a property that returns True or False; the log "
            "says what it is.",
        )
    session = state.db.session()
    stored = diagnosis.unlike_type(session, flag)
    if stored is not None:
        yield Finding(
            level="problem",
            code="attribute-type",
            meaning=f"{type(user).__name__}.{flag.name} is a Boolean in the model, but its column "
            f"in the database has the type {stored}, whose values Python may take for true.",
            mend="Change the column's type, or the model's.",
        )
    elif diagnosis.has_odd_values(session, flag):
        yield Finding(
            level="problem",
            code="attribute-values",
            meaning=f"Some users have another value than 0 and 1 in {flag.name}; SQLAlchemy may "
            "read a text such as 'N' as true.",
            mend="Set them to 0 or 1.",
        )
