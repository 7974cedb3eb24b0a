"""Accounts: ids that are given out again, and sessions under ids of no account."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.orm import Session

from xgen_flask_sessions.cli.doctor.findings import Finding
from xgen_flask_sessions.roster.diagnostics import active_ids
from xgen_flask_sessions.state import State

_MOST_IDS = 1000


def examine_accounts(session: Session, state: State) -> Iterator[Finding]:
    """Examine the primary key of the user model, and the ids of active sessions.

    :param session: A session on the database of the plugin's tables.
    :param state: The plugin's objects for the application.
    """
    if state.users.takes_names_for_ids:
        yield Finding(
            level="warning",
            code="ids-are-names",
            meaning="The username is the primary key: a user that another program deletes, and a "
            "later one of that name, are one account.",
            mend="Name an attribute that never changes, such as a UUID or the time of creation: "
            "user_fields=UserFields(account=…).",
        )
    elif _gives_ids_out_again(state):
        yield Finding(
            level="warning",
            code="ids-reused",
            meaning="SQLite gives the id of a deleted user to a new one: where no user row is "
            "read, the token of a user that another program deleted is valid until the id's next "
            "sign-in.",
            mend='Create the user table with __table_args__ = {"sqlite_autoincrement": True}.',
        )
    if state.users.has_login_ids:
        yield from _examine_active_ids(session, state)


def _gives_ids_out_again(state: State) -> bool:
    """Return whether the user table is one of SQLite that has a row id without AUTOINCREMENT."""
    table = state.users.integer_key_table
    host = state.db.session()
    bind = host.get_bind(mapper=state.triggers.mapper)
    if table is None or bind.dialect.name != "sqlite":
        return False
    query = sa.text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name")
    created = host.execute(query, {"name": table.name}, bind_arguments={"bind": bind}).scalar()
    return created is not None and "AUTOINCREMENT" not in created.upper()


def _examine_active_ids(session: Session, state: State) -> Iterator[Finding]:
    ids = active_ids(session, _MOST_IDS)
    unknown = set(ids) - state.users.get_many(ids).keys()
    if unknown:
        yield Finding(
            level="warning",
            code="ids-unknown",
            meaning=f"{len(unknown)} active users have ids that are no primary key of the user "
            "model: releases before 0.4 recorded the result of get_id(). A force logout of those "
            "users does not end these sessions.",
            mend="Run xgen-sessions force-logout --everyone once, unless the users were deleted.",
        )
