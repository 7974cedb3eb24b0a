"""Users: finding, creating and changing them.

Each change is one transaction, including the end of sessions that belongs to it. Locks are taken
in the plugin's order: the user's row first, its own rows after that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from xgen_flask_sessions import Forbidden, IssuedToken, LedgerUnavailable, is_conflict
from xgen_flask_sessions.standalone import passwords
from xgen_flask_sessions.standalone.extensions import sessions
from xgen_flask_sessions.standalone.models import MAX_USERNAME, Role, User, db
from xgen_flask_sessions.standalone.rules import (
    AT_ONCE,
    LAST_SUPERUSER,
    PASSWORD_RULE,
    USERNAME_RULE,
    USERNAME_TAKEN,
    AccountError,
    ChangeFailed,
    Profile,
    StaleError,
    composed_form,
    is_username,
    spellings_of,
)


class _ResetMeanwhile(Exception):
    """The password was reset while it was checked."""


@dataclass(frozen=True, slots=True)
class AccessChange:
    """The changes that a change of access made.

    :param active: Whether the user is active now; ``None`` if that did not change.
    :param superuser: Whether the user is a SuperUser now; ``None`` if that did not change.
    :param sessions_ended: The number of sessions that ended with it.
    """

    active: bool | None
    superuser: bool | None
    sessions_ended: int = 0


def find(user_id: int) -> User | None:
    """Return the user of that id, or ``None``."""
    return db.session.get(User, user_id)


def find_by_username(username: str) -> User | None:
    """Return the user of that name, or ``None``; accepts any text."""
    composed = composed_form(username, MAX_USERNAME)
    if not is_username(composed):
        return None
    forms = spellings_of(username, composed)
    users = db.session.scalars(sa.select(User).where(User.username.in_(forms)))
    found = {user.username: user for user in users}  # two, if both forms were imported
    return next((found[form] for form in forms if form in found), None)


def authenticate(username: str, password: str) -> User | None:
    """Return the user with this name and password, active or not, or ``None``."""
    user = find_by_username(username)
    right = passwords.matches(None if user is None else user.password_hash, password)
    return user if right else None


def sign_in(username: str, password: str) -> IssuedToken | None:
    """Return a token for the user with this name and password, or ``None``.

    :raises UserInactive: They are right, and the user is inactive.
    :raises DatabaseUnavailable: The database does not answer in time.
    """
    sessions.require_database()  # the look-up of the user has no deadline
    user = authenticate(username, password)
    if user is None:
        return None
    checked = user.password_hash
    try:
        with sessions.transaction():
            issued = sessions.issue(user, commit=False)  # reads the user again, now locked
            if user.password_hash != checked:
                raise _ResetMeanwhile
    except _ResetMeanwhile:
        return None
    return issued


def create(
    username: str,
    password: str,
    profile: Profile,
    *,
    superuser: bool = False,
    actor: Any = None,
) -> User:
    """Create a user.

    :param actor: The user object of the administrator, or the name of another actor.
    :raises Forbidden: *actor* is a user object, but not an active SuperUser.
    :raises AccountError: The username is taken, or a value is against the rules.
    """
    username = composed_form(username, MAX_USERNAME)
    if not is_username(username):
        raise AccountError("username", USERNAME_RULE)
    _require_acceptable(password)
    if find_by_username(username) is not None:
        raise AccountError("username", USERNAME_TAKEN)
    user = User(
        username=username,
        name=profile.name,
        department=profile.department,
        password_hash=passwords.hash_password(password),
        is_superuser=superuser,
    )
    try:
        with _transaction() as session:
            _lock(session, actor=actor)
            user.roles = _roles(session, profile.roles)
            session.add(user)
    except ChangeFailed:
        raise
    except AccountError:
        if find_by_username(username) is not None:
            raise AccountError("username", USERNAME_TAKEN) from None
        raise
    return user


def shown_profile(user: User) -> str:
    """Return the profile as one text, by which :func:`change_profile` detects changes."""
    return json.dumps([user.name, user.department, sorted(role.name for role in user.roles)])


def shown_access(user: User) -> str:
    """Return the access as one text, by which :func:`change_access` detects changes."""
    return json.dumps([user.is_active, user.is_superuser])


def change_profile(
    user_id: int, profile: Profile, *, actor: Any = None, shown: str | None = None
) -> None:
    """Change a user's name, department and roles. Parameters and errors as :func:`create`.

    :param shown: The result of :func:`shown_profile` in the form; ``None`` skips the check.
    :raises StaleError: The profile has changed since.
    :raises AccountError: Another administrator created one of the roles at the same time.
    """
    with _transaction() as session:
        user = _lock_user(session, user_id, actor=actor)
        if shown not in (None, shown_profile(user)):
            raise StaleError
        user.name = profile.name
        user.department = profile.department
        user.roles = _roles(session, profile.roles)


def reset_password(user_id: int, password: str, *, actor: Any, end_sessions: bool) -> int | None:
    """Set a user's password and, in the same transaction, end the user's sessions.

    :param actor: The user object of the administrator, or the name of another actor.
    :param end_sessions: Whether to end the sessions; a new password alone ends none.
    :returns: The number of sessions that ended; ``None`` if they were not to end.
    :raises Forbidden: *actor* is a user object, but not an active SuperUser.
    :raises AccountError: The password is against the rules.
    """
    _require_acceptable(password)
    password_hash = passwords.hash_password(password)  # slow, therefore before the locks
    with _transaction() as session:
        user = _lock_user(session, user_id, actor=actor)
        user.password_hash = password_hash
        session.flush()
        if not end_sessions:
            return None
        ended = sessions.force_logout(user, actor=actor, reason="password reset", commit=False)
    return ended.sessions_ended


def change_access(
    user_id: int, *, active: bool, superuser: bool, actor: Any, shown: str | None = None
) -> AccessChange:
    """Make a user active or inactive, and a SuperUser or not.

    To become inactive ends the user's sessions in the same transaction.

    :param actor: The user object of the administrator, or the name of another actor.
    :param shown: The result of :func:`shown_access` in the form; ``None`` skips the check.
    :raises Forbidden: *actor* is a user object, but not an active SuperUser.
    :raises StaleError: The access has changed since.
    :raises AccountError: It is the last active SuperUser.
    """
    with _transaction() as session:
        user = _lock_user(session, user_id, actor=actor, superusers=True)
        if shown not in (None, shown_access(user)):
            raise StaleError
        if not (active and superuser) and _is_last_superuser(session, user):
            raise AccountError("access", LAST_SUPERUSER)
        changes = (
            None if user.is_active == active else active,
            None if user.is_superuser == superuser else superuser,
        )
        user.is_active = active
        user.is_superuser = superuser
        session.flush()
        if changes[0] is not False:
            return AccessChange(*changes)
        ended = sessions.force_logout(user, actor=actor, reason="made inactive", commit=False)
    return AccessChange(*changes, ended.sessions_ended)


def deactivate(user: User) -> None:
    """Make a user inactive, in the transaction of the plugin that has locked the user's row.

    :raises Forbidden: It is the last active SuperUser.
    """
    session = db.session()
    if user.is_superuser and user.is_active:
        _lock(session, user.id, superusers=True)
        if _is_last_superuser(session, user):
            raise Forbidden(LAST_SUPERUSER)
    user.is_active = False


def is_last_superuser(user: User) -> bool:
    """Return whether there is no other active SuperUser than *user*, without locks."""
    return _is_last_superuser(db.session(), user, locks=False)


@contextmanager
def _transaction() -> Iterator[Session]:
    """Lend the session for one change within the deadline, and commit it or roll it back.

    :raises AccountError: It conflicts with a simultaneous change, or the database refuses it or
        cannot make it in time.
    """
    try:
        with sessions.transaction() as session:
            yield session
    except sa.exc.DatabaseError as error:
        if is_conflict(error):
            raise AccountError("", AT_ONCE) from error
        raise ChangeFailed(refused=True) from error
    except LedgerUnavailable as error:
        raise ChangeFailed(undone=error.undone, refused=error.refused) from error


def _lock_user(
    session: Session, user_id: int, *, actor: Any = None, superusers: bool = False
) -> User:
    """Lock a user's row, and read it as it is now; parameters and errors as :func:`_lock`."""
    _lock(session, user_id, actor=actor, superusers=superusers)
    user = session.get(User, user_id)
    if user is None:
        raise sa.exc.NoResultFound
    return user


def _lock(session: Session, *user_ids: int, actor: Any = None, superusers: bool = False) -> None:
    """Lock the rows of users and of the actor, in the order of their ids, and reload them.

    :param actor: The user object of the administrator; other actors pass.
    :param superusers: Lock the rows of all SuperUsers, too.
    :raises Forbidden: *actor* is a user object, but not an active SuperUser.
    :raises AuthenticationError: The administrator's session has ended meanwhile.
    """
    actor = getattr(actor, "_get_current_object", lambda: actor)()  # behind current_user
    ids = {*user_ids, actor.id} if isinstance(actor, User) else set(user_ids)
    if superusers:
        locked = sa.select(User.id).where(User.is_superuser | User.id.in_(ids))
        session.execute(locked.order_by(User.id).with_for_update()).all()
    found: set[User] = set()
    for user_id in sorted(ids):
        query = sa.select(User).where(User.id == user_id).with_for_update()
        found.update(session.scalars(query.execution_options(populate_existing=True)))
    if isinstance(actor, User):
        if actor not in found or not (actor.is_superuser and actor.is_active):
            raise Forbidden("Only a SuperUser may change users.")
        sessions.recheck_token()


def _is_last_superuser(session: Session, user: User, *, locks: bool = True) -> bool:
    if not (user.is_superuser and user.is_active):
        return False
    others = sa.select(User.id).where(User.is_superuser, User.is_active, User.id != user.id)
    others = others.limit(1)
    # A locking read: a plain one may see an older snapshot on MariaDB.
    return session.scalars(others.with_for_update() if locks else others).first() is None


def _roles(session: Session, names: tuple[str, ...]) -> list[Role]:
    """Return the roles of these names; missing ones are created."""
    found = {
        role.name: role for role in session.scalars(sa.select(Role).where(Role.name.in_(names)))
    }
    return [found.get(name) or Role(name=name) for name in names]


def _require_acceptable(password: str) -> None:
    if not passwords.is_acceptable(password):
        raise AccountError("password", PASSWORD_RULE)
