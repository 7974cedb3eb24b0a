"""The user object of a token: the account that the token was issued for, as it is now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from ..errors import DenylistUnavailable, SessionRevoked, UserInactive
from ..state import State, get_state
from ..tokens.claims import VerifiedToken

Loader = Callable[[str], Any]
"""The host's ``user_loader``: takes a result of ``get_id()``, and returns a user object."""


def find(token: VerifiedToken, load: Loader | None) -> Any:
    """Return the active user of a token.

    The host's loader is asked as Flask-Login asks it: a changed ``get_id()`` ends the session.

    :param token: A verified token.
    :param load: The host's loader; without one, the user is found by the account.
    :raises UserInactive: The user is inactive or does not exist.
    :raises SessionRevoked: Another account has the id now, or ``get_id()`` has changed.
    :raises DenylistUnavailable: The database does not answer.
    """
    state = get_state()
    _require_database(state)
    if load is None:
        user = state.users.get(token.user_id)
        if user is not None and state.users.login_id_of(user) != token.login_id:
            user = None
    else:
        user = load(token.login_id)
    if user is None:
        row = state.users.get(token.user_id)
        if row is not None and state.users.login_id_of(row) != token.login_id:
            raise SessionRevoked(user_id=token.user_id)
        raise UserInactive
    if not state.users.is_active(user):
        raise UserInactive
    row = user
    if not state.users.is_row(user):  # an object of the host's own, for an account with a row
        row = state.users.get(token.user_id)
        if row is None:
            return user
        if not state.users.is_active(row):
            raise UserInactive
    if not _is_row_of(state, row, token):
        raise SessionRevoked(user_id=token.user_id)
    return user


def require_active(user_id: str, load: Loader | None) -> None:
    """Check that a user, whose session has ended, is active.

    :param user_id: The account.
    :raises UserInactive: The user is inactive or does not exist.
    :raises DenylistUnavailable: The database does not answer.
    """
    state = get_state()
    _require_database(state)
    user = state.users.get(user_id)
    if user is None and load is not None:  # it may know users that are in no table
        user = load(user_id)
    if user is None or not state.users.is_active(user):
        raise UserInactive


def is_account(user: Any, token: VerifiedToken) -> bool:
    """Return whether a user object is the account that a token was issued for.

    :raises DenylistUnavailable: The database does not answer.
    """
    state = get_state()
    if state.users.is_row(user):
        return _is_row_of(state, user, token)
    return state.users.login_id_of(user) == token.login_id


def _is_row_of(state: State, user: Any, token: VerifiedToken) -> bool:
    user_id, mark = state.users.account_of(user)
    if user_id != token.user_id:
        return False
    return mark == token.account_mark or None in (mark, token.account_mark) or _is_same(token)


def _is_same(token: VerifiedToken) -> bool:
    """Return whether the id still is the account's, by a fresh look at both rows.

    The user object or the token's status may be from before a change of the username.
    """
    state = get_state()
    try:
        status = state.denylist.status(token.jti)
        mark = state.users.reread_mark(token.user_id)
    except SQLAlchemyError as error:
        raise DenylistUnavailable from error
    return status is not None and mark is not None and status.account_mark in (None, mark)


def _require_database(state: State) -> None:
    if state.watch is not None:  # otherwise the database just checked the token
        state.transactions.reachability.require()
