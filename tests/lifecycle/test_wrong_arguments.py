"""Calls with arguments of the wrong kind say so, and change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask_login import AnonymousUserMixin, LoginManager

from tests.support.hosts import DATABASES, SECRET, Host, User
from xgen_flask_sessions import ConfigurationError, PastSignIn, XgenSessions, current_token

NO_USERS = [None, b"1", 1.5, True, object(), User, [1], {}]
CALLS: dict[str, tuple[Callable[[XgenSessions, Any], object], list[Any], str]] = {
    "issue": (lambda sessions, user: sessions.issue(user), NO_USERS, "user object or an id"),
    "force_logout": (
        lambda sessions, user: sessions.force_logout(user),
        NO_USERS,
        "user object or an id",
    ),
    "actor": (
        lambda sessions, actor: sessions.force_logout("1", actor=actor),
        NO_USERS[1:],
        "user object or an id",
    ),
    "renew": (
        lambda sessions, verified: sessions.renew(verified),
        ["a.b.c", None, 7, User()],
        r"the result of verify\(\)",
    ),
    "set_cookie": (
        lambda sessions, issued: sessions.set_cookie(Flask("x").response_class(), issued),
        ["a.b.c", None, 7],
        r"result of issue\(\)",
    ),
    "end_session": (
        lambda sessions, session_id: sessions.end_session(session_id),
        [None, 7, b"x" * 32, User()],
        "A session's id",
    ),
    "reason": (
        lambda sessions, reason: sessions.force_logout("1", reason=reason),
        [7, b"x", ["x"], []],
        "A reason is a string",
    ),
    "claims": (
        lambda sessions, claims: sessions.issue("1", claims=claims),
        ["ab", [("a", 1)], 7, []],
        "claims= takes a mapping",
    ),
    "record_past_sign_ins": (
        lambda sessions, past: sessions.record_past_sign_ins([past]),
        [None, "1", 7, {"user_id": "1"}],
        "a PastSignIn",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_argument_of_the_wrong_kind_is_a_type_error(sqlite_host: Host, name: str) -> None:
    call, values, message = CALLS[name]
    sqlite_host.add_user()

    for value in values:
        with sqlite_host.app.app_context(), pytest.raises(TypeError, match=message):
            call(sqlite_host.sessions, value)

    assert [sqlite_host.rows(table) for table in ("xgen_sessions", "xgen_revocations")] == [[], []]


def test_users_without_an_id_are_refused(sqlite_host: Host) -> None:
    for user, message in ((AnonymousUserMixin(), "has no id"), (User(), "no primary key yet")):
        for call in (sqlite_host.sessions.issue, sqlite_host.sessions.force_logout):
            with sqlite_host.app.app_context(), pytest.raises(ValueError, match=message):
                call(user)


def test_a_past_sign_in_belongs_to_a_user(sqlite_host: Host) -> None:
    for user_id in ("*", "", 1):
        values: Any = {"user_id": user_id}
        past = PastSignIn(**values, signed_in_us=1, expires_us=2)
        with sqlite_host.app.app_context(), pytest.raises(ValueError, match="user"):
            sqlite_host.sessions.record_past_sign_ins([past])


def test_past_sign_ins_are_read_up_to_the_first_wrong_one(sqlite_host: Host) -> None:
    read: list[Any] = []

    def past() -> Iterator[Any]:
        for each in (PastSignIn(user_id="1", signed_in_us=1, expires_us=2), "1", "2"):
            read.append(each)
            yield each

    with sqlite_host.app.app_context(), pytest.raises(TypeError, match="a PastSignIn"):
        sqlite_host.sessions.record_past_sign_ins(past())

    assert len(read) == 2
    assert sqlite_host.rows("xgen_sessions") == []


def test_the_current_token_may_be_renewed(sqlite_host: Host) -> None:
    token = sqlite_host.issue(sqlite_host.add_user())

    with sqlite_host.app.test_request_context(headers={"Authorization": f"Bearer {token.token}"}):
        sqlite_host.sessions.recheck_token()
        assert sqlite_host.sessions.renew(current_token).session_id == token.session_id


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("user_model", [User(), User.__table__, "User"]),
        ("user_fields", [{"name": "display_name"}, "username"]),
        ("admin", ["admin", object()]),
        ("revoke_on", [None, 7, "password"]),
    ],
)
def test_init_app_names_an_argument_of_the_wrong_kind(name: str, values: list[Any]) -> None:
    for value in values:
        app = Flask("host")
        app.config.update(SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI="sqlite://")
        DATABASES[User].init_app(app)
        arguments: dict[str, Any] = {"user_model": User, name: value}
        with pytest.raises(ConfigurationError, match=name):
            XgenSessions().init_app(
                app, db=DATABASES[User], login_manager=LoginManager(app), **arguments
            )


def test_revoke_on_may_be_a_generator() -> None:
    app = Flask("host")
    app.config.update(SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI="sqlite://")
    DATABASES[User].init_app(app)
    names: Any = (name for name in ["password"])

    XgenSessions().init_app(app, db=DATABASES[User], user_model=User, revoke_on=names)

    assert app.extensions["xgen_sessions"].triggers.attributes == {"password"}
