"""The list of users: its filters and its order, as in the page's address, and its pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

import sqlalchemy as sa
from sqlalchemy.orm import selectinload

from xgen_flask_sessions import SignIns, gettext_noop
from xgen_flask_sessions.standalone.extensions import sessions
from xgen_flask_sessions.standalone.models import MAX_ROLE, MAX_USERNAME, Role, User, db
from xgen_flask_sessions.standalone.rules import composed_form, spellings_of

PAGE_SIZE: Final = 50
"""Users on one page."""

Column = Literal["username", "name", "department", "status", "active_sessions", "last_login"]
"""The columns for ordering users."""

COLUMNS: Final[tuple[Column, ...]] = get_args(Column)
FALLING: Final[tuple[Column, ...]] = ("active_sessions", "last_login")
"""Columns that are ordered from the highest value by default."""
STATUSES: Final = {"active": True, "inactive": False}
_TRUE: Final = frozenset({"true", "1"})

STATUS_FAULT: Final = gettext_noop('The status in the address is neither "active" nor "inactive".')
SUPERUSER_FAULT: Final = gettext_noop('The filter "superuser" in the address is not "true".')


@dataclass(frozen=True, slots=True, kw_only=True)
class UserListing:
    """A request for a list of users: by default all of them, by username.

    :param sort: The column to order by; users without a value come last.
    :param descending: Order from the highest value.
    :param text: A part of a username, a name or a department, in any case (on SQLite, for ASCII
        letters only).
    :param active: Only active users, or only inactive ones.
    :param superuser: Only SuperUsers.
    :param role: Only users with the role of this name.
    """

    sort: Column = "username"
    descending: bool = False
    text: str = ""
    active: bool | None = None
    superuser: bool = False
    role: str = ""

    @property
    def is_filtered(self) -> bool:
        """Whether it may leave users out."""
        return self.without_filters() != self

    def without_filters(self) -> UserListing:
        """Return the list of all users in the same order."""
        return UserListing(sort=self.sort, descending=self.descending)

    def ordered_by(self, column: Column) -> UserListing:
        """Return the same list ordered by *column*; reversed if it is already."""
        descending = not self.descending if column == self.sort else column in FALLING
        return replace(self, sort=column, descending=descending)

    def query(self) -> dict[str, str]:
        """Return the query parameters of an address; empty for the default."""
        query = {"q": self.text, "role": self.role}
        if self.active is not None:
            query["status"] = "active" if self.active else "inactive"
        if self.superuser:
            query["superuser"] = "true"
        if (self.sort, self.descending) != ("username", False):
            query |= {"sort": self.sort, "order": "desc" if self.descending else "asc"}
        return {name: value for name, value in query.items() if value}


def parse_user_listing(query: Mapping[str, str]) -> tuple[UserListing, list[str]]:
    """Return the list that an address asks for, and its faults, in English: msgids.

    A faulty filter counts as left out: a page with a fault shows no users, never all of them. A
    faulty order is the default one.
    """
    faults = []
    status, superuser = query.get("status", ""), query.get("superuser", "")
    if status and status not in STATUSES:
        faults.append(STATUS_FAULT)
    if superuser and superuser not in _TRUE:
        faults.append(SUPERUSER_FAULT)
    asked = query.get("sort")
    sort: Column = next((column for column in COLUMNS if column == asked), "username")
    order = query.get("order")
    listing = UserListing(
        sort=sort,
        descending=sort in FALLING if order not in ("asc", "desc") else order == "desc",
        text=query.get("q", "").strip()[: MAX_USERNAME + 1],
        active=STATUSES.get(status),
        superuser=superuser in _TRUE,
        role=query.get("role", "")[: MAX_ROLE + 1],
    )
    return listing, faults


@dataclass(frozen=True, slots=True)
class UserRow:
    """One row: a user and the user's sign-ins."""

    user: User
    sign_ins: SignIns


@dataclass(frozen=True, slots=True)
class UserPage:
    """One page of users, in the requested order."""

    rows: list[UserRow]
    number: int
    """Counted from 1."""
    pages: int
    total: int
    """Users on all pages."""


NO_USERS: Final = UserPage([], 1, 1, 0)


def find_page(listing: UserListing, number: int) -> UserPage:
    """Return one page of a list.

    :param number: Counted from 1; past the end, it means the last page.
    """
    where = _condition(listing)
    total = db.session.scalar(sa.select(sa.func.count()).select_from(User).where(where)) or 0
    pages = max(1, -(-total // PAGE_SIZE))
    number = min(max(1, number), pages)
    ids = _ids(listing, where, (number - 1) * PAGE_SIZE, total)
    query = sa.select(User).where(User.id.in_(ids)).options(selectinload(User.roles))
    users = {user.id: user for user in db.session.scalars(query)}
    sign_ins = sessions.sign_ins_of(users.values())
    found = [users[each] for each in ids if each in users]
    return UserPage(
        [UserRow(user, sign_ins[user.get_id()]) for user in found], number, pages, total
    )


def role_names(limit: int) -> list[str]:
    """Return the names of the roles that there are, at most *limit* of them."""
    return list(db.session.scalars(sa.select(Role.name).order_by(Role.name).limit(limit)))


def _ids(
    listing: UserListing, where: sa.ColumnElement[bool], skipped: int, total: int
) -> list[int]:
    """Return the ids of one page, read from the nearer end of the list."""
    query = sa.select(User.id).where(where)
    key, joined = _sort_key(listing.sort)
    if joined is not None:
        user_id = sa.cast(User.id, sa.String)
        query = query.outerjoin(joined, joined.c.user_id == user_id)
    wanted = max(0, min(PAGE_SIZE, total - skipped))
    rest = total - skipped - wanted
    from_end = rest < skipped
    falls = listing.descending != from_end
    missing = key.is_(None)
    order = [missing.desc() if from_end else missing] if key is not User.username else []
    order += [each.desc() if falls else each.asc() for each in dict.fromkeys((key, User.username))]
    offset = rest if from_end else skipped
    ids = list(db.session.scalars(query.order_by(*order).limit(wanted).offset(offset)))
    return ids[::-1] if from_end else ids


def _sort_key(column: Column) -> tuple[Any, sa.Subquery | None]:
    """Return the expression to order by, and the table to join for it."""
    if column in ("active_sessions", "last_login"):
        table = sessions.sign_ins_by_user()
        if column == "last_login":
            return table.c.last_login_us, table
        return sa.func.coalesce(table.c.active_sessions, 0), table
    if column == "status":
        return sa.case((User.is_active, 0), else_=1), None
    if column == "username":
        return User.username, None
    text = User.name if column == "name" else User.department
    return sa.func.nullif(sa.func.trim(text), ""), None


def _condition(listing: UserListing) -> sa.ColumnElement[bool]:
    conditions: list[sa.ColumnElement[bool]] = [sa.true()]
    if listing.text:
        conditions.append(_named(listing.text))
    if listing.active is not None:
        conditions.append(User.is_active.is_(listing.active))
    if listing.superuser:
        conditions.append(User.is_superuser.is_(True))
    if listing.role:
        is_role = Role.name == listing.role if listing.role.isprintable() else sa.false()
        conditions.append(User.roles.any(is_role))
    return sa.and_(*conditions)


def _named(text: str) -> sa.ColumnElement[bool]:
    """Return the condition for users whose username, name or department contains *text*."""
    forms = spellings_of(text, composed_form(text, MAX_USERNAME))
    if not text.isprintable() or min(map(len, forms)) > MAX_USERNAME:
        return sa.false()
    columns = (User.username, User.name, User.department)
    return sa.or_(*(each.icontains(form, autoescape=True) for each in columns for form in forms))
