"""Users: finding, making and changing them. The rules are here, whoever asks.

Each change is one transaction, with the end of the sessions that belongs to it. Locks are taken
as the plugin takes them: the user's row first, its own rows after that.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session, selectinload

from xgen_flask_sessions import Forbidden, IssuedToken, gettext_noop
from xgen_flask_sessions.standalone import passwords
from xgen_flask_sessions.standalone.extensions import sessions
from xgen_flask_sessions.standalone.models import (
    MAX_NAME,
    MAX_ROLE,
    MAX_USERNAME,
    Role,
    User,
    db,
)

PAGE_SIZE: Final = 50
"""Users on one page."""
MAX_ROLES: Final = 20


class AccountError(ValueError):
    """What was asked for is against the rules; nothing was changed.

    :param field: The name of the form field it is about; empty if it is about none.
    :param message: A sentence for people, in English: a msgid.
    """

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message
        super().__init__(message)


class StaleError(AccountError):
    """What was asked for is about a user as it was shown, and is no more."""

    def __init__(self) -> None:
        super().__init__("", CHANGED_MEANWHILE)


@dataclass(frozen=True, slots=True)
class UserPage:
    """One page of users, by username."""

    users: list[User]
    number: int
    """Counted from 1."""
    pages: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a user is called, and does. Made of what people typed."""

    name: str | None
    department: str | None
    roles: tuple[str, ...]

    @classmethod
    def parse(cls, name: str, department: str, roles: str) -> Profile:
        """Return the profile that the three texts mean.

        :param roles: Names, with commas between them.
        :raises AccountError: One of them is too long, or not printable.
        """
        names = dict.fromkeys(part for part in map(_tidy, roles.split(",")) if part)
        if len(names) > MAX_ROLES or any(not _is_text(role, MAX_ROLE) for role in names):
            raise AccountError("roles", ROLES_RULE)
        return cls(
            name=_optional("name", NAME_RULE, name),
            department=_optional("department", DEPARTMENT_RULE, department),
            roles=tuple(names),
        )


NAME_RULE: Final = gettext_noop("A name has at most 150 printable characters.")
DEPARTMENT_RULE: Final = gettext_noop("A department has at most 150 printable characters.")
ROLES_RULE: Final = gettext_noop("At most 20 roles, each of at most 50 printable characters.")
USERNAME_RULE: Final = gettext_noop(
    "A username has 1 to 150 printable characters, and no spaces at either end."
)
USERNAME_TAKEN: Final = gettext_noop("This username is taken.")
PASSWORD_RULE: Final = gettext_noop("A password has 8 to 256 characters.")
LAST_SUPERUSER: Final = gettext_noop(
    "This is the last active SuperUser. Make somebody else a SuperUser first."
)
AT_ONCE: Final = gettext_noop("Somebody changed the same thing at the same moment. Try again.")
CHANGED_MEANWHILE: Final = gettext_noop(
    "This was changed meanwhile, and is shown as it is now. Change it again if it is still needed."
)


def find(user_id: int) -> User | None:
    """Return the user of that id, or ``None``."""
    return db.session.get(User, user_id)


def find_by_username(username: str) -> User | None:
    """Return the user of that name, or ``None``; any text will do."""
    username = unicodedata.normalize("NFC", username)
    if not _is_username(username):
        return None
    return db.session.scalars(sa.select(User).where(User.username == username)).one_or_none()


def authenticate(username: str, password: str) -> User | None:
    """Return whose name and password these are, be the user active or not, or ``None``."""
    user = find_by_username(username)
    right = passwords.matches(None if user is None else user.password_hash, password)
    return user if right else None


def sign_in(username: str, password: str) -> IssuedToken | None:
    """Return a token for whose name and password these are, or ``None``.

    :raises UserInactive: They are right, and the user is inactive.
    :raises DenylistUnavailable: The database does not answer; nothing was done.
    """
    sessions.require_database()  # to look a user up, it would be waited for
    user = authenticate(username, password)
    if user is None:
        return None
    checked = user.password_hash
    issued = sessions.issue(user, commit=False)  # reads the user again, now locked
    if user.password_hash != checked:  # it was reset while this one was looked at
        db.session.rollback()
        return None
    db.session.commit()
    return issued


def search(text: str, number: int) -> UserPage:
    """Return one page of the users whose username or name holds *text*.

    :param text: In any case (on SQLite, of ASCII letters only); empty for all users.
    :param number: Counted from 1; past the end, the last page is meant.
    """
    text = unicodedata.normalize("NFC", text)
    where: sa.ColumnElement[bool] = sa.true()
    if text:
        where = User.username.icontains(text, autoescape=True) | User.name.icontains(
            text, autoescape=True
        )
    total = db.session.scalar(sa.select(sa.func.count()).select_from(User).where(where)) or 0
    pages = max(1, -(-total // PAGE_SIZE))
    number = min(max(1, number), pages)
    users = db.session.scalars(
        sa.select(User)
        .where(where)
        .order_by(User.username)
        .limit(PAGE_SIZE)
        .offset((number - 1) * PAGE_SIZE)
        .options(selectinload(User.roles))
    ).all()
    return UserPage(list(users), number, pages, total)


def create(
    username: str,
    password: str,
    profile: Profile,
    *,
    superuser: bool = False,
    actor: Any = None,
) -> User:
    """Make a user.

    :param actor: Who asks for it: a user object, or the name of what else acts.
    :raises Forbidden: *actor* is a user object of no active SuperUser (any more).
    :raises AccountError: The username is taken, or something is against the rules.
    """
    username = unicodedata.normalize("NFC", username)
    if not _is_username(username):
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
    except AccountError:
        if find_by_username(username) is not None:
            raise AccountError("username", USERNAME_TAKEN) from None
        raise
    return user


def shown_profile(user: User) -> str:
    """Return the profile as one text, for :func:`change_profile` to tell whether it changed."""
    return json.dumps([user.name, user.department, sorted(role.name for role in user.roles)])


def shown_access(user: User) -> str:
    """Return the access as one text, for :func:`change_access` to tell whether it changed."""
    return json.dumps([user.is_active, user.is_superuser])


def change_profile(
    user_id: int, profile: Profile, *, actor: Any = None, shown: str | None = None
) -> None:
    """Change what a user is called, and the roles. Parameters and errors as :func:`create`.

    :param shown: What :func:`shown_profile` gave to whoever asks; ``None`` to change any.
    :raises StaleError: It is another one now.
    :raises AccountError: Somebody made one of the roles at the same moment.
    """
    with _transaction() as session:
        user = _lock_user(session, user_id, actor=actor)
        if shown not in (None, shown_profile(user)):
            raise StaleError
        user.name = profile.name
        user.department = profile.department
        user.roles = _roles(session, profile.roles)


def reset_password(user_id: int, password: str, *, actor: Any, end_sessions: bool) -> None:
    """Give a user another password and, in the same transaction, end the sessions there are.

    :param actor: Who asks for it: a user object, or the name of what else acts.
    :param end_sessions: A new password alone ends no session.
    :raises Forbidden: *actor* is a user object of no active SuperUser (any more).
    :raises AccountError: The password is against the rules.
    """
    _require_acceptable(password)
    password_hash = passwords.hash_password(password)  # takes its time: before the locks
    with _transaction() as session:
        user = _lock_user(session, user_id, actor=actor)
        user.password_hash = password_hash
        session.flush()
        if end_sessions:
            sessions.force_logout(user, actor=actor, reason="password reset", commit=False)


def change_access(
    user_id: int, *, active: bool, superuser: bool, actor: Any, shown: str | None = None
) -> bool:
    """Make a user active or inactive, and a SuperUser or none.

    Who becomes inactive has no session any more: that is the same transaction.

    :param actor: Who asks for it: a user object, or the name of what else acts.
    :param shown: What :func:`shown_access` gave to whoever asks; ``None`` to change any.
    :returns: Whether the user was made inactive by this.
    :raises Forbidden: *actor* is a user object of no active SuperUser (any more).
    :raises StaleError: It is another one now.
    :raises AccountError: It is the last active SuperUser.
    """
    with _transaction() as session:
        user = _lock_user(session, user_id, actor=actor, superusers=True)
        if shown not in (None, shown_access(user)):
            raise StaleError
        if not (active and superuser) and _is_last_superuser(session, user):
            raise AccountError("access", LAST_SUPERUSER)
        deactivated = user.is_active and not active
        user.is_active = active
        user.is_superuser = superuser
        session.flush()
        if deactivated:
            sessions.force_logout(user, actor=actor, reason="made inactive", commit=False)
    return deactivated


@contextmanager
def _transaction() -> Iterator[Session]:
    """Lend the session for one change: it is made as a whole, or not at all.

    :raises AccountError: Another change came in between.
    """
    session = db.session()
    try:
        yield session
        session.commit()
    except sa.exc.IntegrityError as error:
        session.rollback()
        raise AccountError("", AT_ONCE) from error
    except BaseException:
        session.rollback()
        raise


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
    """Lock the rows of users and of who acts, in the order of their ids, and read them anew.

    :param actor: Who acts: a user object, or anything else, which passes.
    :param superusers: Lock those of all SuperUsers as well.
    :raises Forbidden: *actor* is a user object of no active SuperUser (any more).
    :raises AuthenticationError: The session that asks has ended meanwhile.
    """
    if session.get_bind(mapper=User).dialect.name == "sqlite":
        # No row locks there: the first write locks the database, so that what is read is the
        # latest, and stays so.
        session.execute(
            sa.update(User).where(User.id.in_(user_ids)).values(is_active=User.is_active),
            execution_options={"synchronize_session": False},
        )
    actor = getattr(actor, "_get_current_object", lambda: actor)()  # behind current_user
    ids = {*user_ids, actor.id} if isinstance(actor, User) else set(user_ids)
    if superusers:
        whom = sa.select(User.id).where(User.is_superuser | User.id.in_(ids))
        session.execute(whom.order_by(User.id).with_for_update()).all()
    found: set[User] = set()
    for user_id in sorted(ids):
        query = sa.select(User).where(User.id == user_id).with_for_update()
        found.update(session.scalars(query.execution_options(populate_existing=True)))
    if isinstance(actor, User):
        if actor not in found or not (actor.is_superuser and actor.is_active):
            raise Forbidden("Only a SuperUser may change users.")
        sessions.recheck_token()


def _is_last_superuser(session: Session, user: User) -> bool:
    if not (user.is_superuser and user.is_active):
        return False
    others = sa.select(User.id).where(User.is_superuser, User.is_active, User.id != user.id)
    # A locking read: a plain one may see an older snapshot on MariaDB.
    return session.scalars(others.limit(1).with_for_update()).first() is None


def _roles(session: Session, names: tuple[str, ...]) -> list[Role]:
    """Return the roles of these names, made where they were missing."""
    found = {
        role.name: role for role in session.scalars(sa.select(Role).where(Role.name.in_(names)))
    }
    return [found.get(name) or Role(name=name) for name in names]


def _require_acceptable(password: str) -> None:
    if not passwords.is_acceptable(password):
        raise AccountError("password", PASSWORD_RULE)


def _is_username(text: str) -> bool:
    return _is_text(text, MAX_USERNAME) and text == text.strip()


def _is_text(text: str, length: int) -> bool:
    # Neither control characters nor lone surrogates are printable.
    return 0 < len(text) <= length and text.isprintable()


def _optional(field: str, rule: str, text: str) -> str | None:
    tidy = _tidy(text)
    if tidy and not _is_text(tidy, MAX_NAME):
        raise AccountError(field, rule)
    return tidy or None


def _tidy(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()
