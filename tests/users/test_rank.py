"""Rank: only a SuperUser can end a SuperUser's sessions.

The right is checked within the transaction that makes the change. So a change of the actor or of
the user between the click and the transaction counts; these tests commit it on another connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.databases import MakeHost, on_sqlite
from tests.support.hosts import Host, bearer
from tests.support.screen import FORCE_LOGOUT, SCREEN, form_for, page_of, sign_in, with_screen
from tests.support.standalone import Center, MakeCenter
from xgen_flask_sessions import Forbidden
from xgen_flask_sessions.standalone import accounts
from xgen_flask_sessions.standalone.rules import Profile


def with_helpdesk(app: Flask) -> Mapping[str, Any]:
    """Add the screen, and open it to users of the Helpdesk without SuperUser rights."""
    return {
        **with_screen(app),
        "can_view": lambda user: user.department == "Helpdesk" or user.is_superuser,
        "can_force_logout": lambda user: user.display_name != "Trainee",
    }


@pytest.fixture
def host(make_host: MakeHost, database_url: str) -> Host:
    return make_host(database_url, extras=with_helpdesk)


@contextmanager
def meanwhile(host: Host | Center, change: Callable[[sa.Connection], object]) -> Iterator[None]:
    """Commit a change on another connection before the request's first lock or write."""
    db = host.app.extensions["sqlalchemy"]
    with host.app.app_context():
        engine = db.engine
    done: list[str] = []

    def look(_: Any, __: Any, statement: str, *___: Any) -> None:
        begins = statement.startswith(("UPDATE", "INSERT")) or " FOR " in statement
        if begins and not done:
            done.append(statement)
            with engine.begin() as other:
                change(other)

    sa.event.listen(engine, "before_cursor_execute", look)
    try:
        yield
    finally:
        sa.event.remove(engine, "before_cursor_execute", look)
    assert done, "the request neither locked nor wrote a row"


def setting(user_id: str | int, **columns: Any) -> Callable[[sa.Connection], object]:
    """Return a function that changes columns of a user's row."""
    users = sa.table("users", sa.column("id"), *map(sa.column, columns))
    return lambda connection: connection.execute(
        sa.update(users).where(users.c.id == int(user_id)).values(**columns)
    )


def invalidating(user_id: str) -> Callable[[sa.Connection], object]:
    """Return a function that forces a user out, as another process would."""
    logins = sa.table(
        "xgen_user_logins", *map(sa.column, ("user_id", "invalid_before_us", "last_issued_us"))
    )
    return lambda connection: connection.execute(
        sa.update(logins)
        .where(logins.c.user_id == user_id)
        .values(invalid_before_us=logins.c.last_issued_us)
    )


Act = Callable[[Host, str, str, str], object]


def by_call(host: Host, actor_id: str, target_id: str, _: str) -> object:
    with host.app.app_context():
        actor = host.find_user(actor_id)
        return host.sessions.force_logout(target_id, actor=actor)


def by_joining(host: Host, actor_id: str, target_id: str, _: str) -> object:
    with host.app.app_context():
        actor = host.find_user(actor_id)
        try:
            return host.sessions.force_logout(target_id, actor=actor, commit=False)
        finally:
            host.db.session.commit()


def one_session(host: Host, actor_id: str, _: str, session_id: str) -> object:
    with host.app.app_context():
        actor = host.find_user(actor_id)
        return host.sessions.end_session(session_id, actor=actor)


ACTS = [by_call, by_joining, one_session]


@pytest.mark.parametrize("act", ACTS)
def test_a_user_promoted_during_the_call_is_not_forced_out(host: Host, act: Act) -> None:
    helper, bora = host.add_user("helper", department="Helpdesk"), host.add_user("bora")
    token = host.issue(bora)

    with meanwhile(host, setting(bora, is_superuser=True)), pytest.raises(Forbidden):
        act(host, helper, bora, token.session_id)

    assert host.status(token) == 200
    assert host.rows("xgen_revocations") == []


@pytest.mark.parametrize("act", ACTS)
def test_an_actor_demoted_during_the_call_cannot_force_out_a_superuser(
    host: Host, act: Act
) -> None:
    boss, root = (host.add_user(name, is_superuser=True) for name in ("boss", "root"))
    token = host.issue(root)

    with meanwhile(host, setting(boss, is_superuser=False)), pytest.raises(Forbidden):
        act(host, boss, root, token.session_id)

    assert host.status(token) == 200


def test_an_actor_demoted_during_the_call_cannot_force_out_everyone(host: Host) -> None:
    boss = host.add_user("boss", is_superuser=True)
    token = host.issue(boss)

    with host.app.app_context():
        actor = host.find_user(boss)
        with meanwhile(host, setting(boss, is_superuser=False)), pytest.raises(Forbidden):
            host.sessions.force_logout_everyone(actor=actor)

    assert host.status(token) == 200


@pytest.mark.parametrize("act", ACTS)
def test_a_superuser_demoted_during_the_call_can_be_forced_out(host: Host, act: Act) -> None:
    helper = host.add_user("helper", department="Helpdesk")
    bora = host.add_user("bora", is_superuser=True)
    token = host.issue(bora)

    with meanwhile(host, setting(bora, is_superuser=False)):
        act(host, helper, bora, token.session_id)

    assert host.status(token) == 401


def test_the_rank_of_an_actor_outside_the_user_table_is_its_own_attribute(host: Host) -> None:
    class Robot:
        is_superuser = False

        def get_id(self) -> str:
            return "1"  # the id of a SuperUser

    boss = host.add_user("boss", is_superuser=True)
    assert boss == "1"
    host.issue(host.add_user("root", is_superuser=True))

    with host.app.app_context(), pytest.raises(Forbidden):
        host.sessions.force_logout("2", actor=Robot())


# --- Through the screen and the API ----------------------------------------------------------


Post = Callable[[FlaskClient, str, dict[str, str]], Any]


def by_screen(client: FlaskClient, user_id: str, form: dict[str, str]) -> Any:
    return client.post(FORCE_LOGOUT, data=form | {"user_id": user_id})


def by_api(client: FlaskClient, user_id: str, _: dict[str, str]) -> Any:
    return client.post(f"/sessions/users/{user_id}/force-logout")


POSTS = [by_screen, by_api]


@pytest.mark.parametrize("post", POSTS)
def test_the_helpdesk_cannot_force_out_a_superuser(host: Host, post: Post) -> None:
    helper = sign_in(host, host.add_user("helper", department="Helpdesk"))
    root, bora = host.add_user("root", is_superuser=True), host.add_user("bora")
    tokens = [host.issue(root), host.issue(bora)]
    page = page_of(helper)
    form = form_for(page, "bora")

    assert post(helper, root, form).status_code == 403
    with meanwhile(host, setting(bora, is_superuser=True)):
        assert post(helper, bora, form).status_code == 403

    assert [host.status(token) for token in tokens] == [200, 200]
    assert host.rows("xgen_revocations") == []
    names = [button["aria-label"] for button in page.select("td.xs-action button")]
    assert "Force Logout root" not in names
    assert helper.get(f"{SCREEN}confirm?user_id={root}").status_code == 403


@pytest.mark.parametrize("post", POSTS)
@pytest.mark.parametrize(
    "change",
    [{"department": None}, {"display_name": "Trainee"}, {"is_active": False}],
    ids=["moved", "may only look", "inactive"],
)
def test_an_administrator_demoted_during_the_request_changes_nothing(
    host: Host, post: Post, change: dict[str, Any]
) -> None:
    helper_id = host.add_user("helper", department="Helpdesk")
    helper, bora = sign_in(host, helper_id), host.add_user("bora")
    token = host.issue(bora)
    form = form_for(page_of(helper), "bora")

    with meanwhile(host, setting(helper_id, **change)):
        assert post(helper, bora, form).status_code == 403

    assert host.status(token) == 200
    assert host.rows("xgen_revocations") == []


@pytest.mark.parametrize(("post", "status"), [(by_screen, 303), (by_api, 401)])
def test_an_administrator_forced_out_during_the_request_changes_nothing(
    host: Host, post: Post, status: int
) -> None:
    admin_id = host.add_user("admin", is_superuser=True)
    admin, bora = sign_in(host, admin_id), host.add_user("bora")
    token = host.issue(bora)
    form = form_for(page_of(admin), "bora")

    with meanwhile(host, invalidating(admin_id)):
        answer = post(admin, bora, form)

    assert answer.status_code == status
    if status == 303:
        assert answer.location == "/sign-in?next=%2Fadmin%2Fadmin-active-sessions%2F"
    else:
        assert answer.get_json()["code"] == "session_revoked"
    assert host.status(token) == 200
    assert host.rows("xgen_revocations") == []


# --- User Management of the standalone Admin Center ------------------------------------------


@pytest.fixture
def two_admins(make: MakeCenter, database_url: str) -> Center:
    center = make(SQLALCHEMY_DATABASE_URI=database_url)
    center.add_user("boss", superuser=True)
    center.add_user("bora")
    return center


CHANGES: dict[str, Callable[[int, Any], object]] = {
    "create": lambda _, actor: accounts.create(
        "new", "a good password", Profile.parse("", "", ""), superuser=True, actor=actor
    ),
    "profile": lambda bora, actor: accounts.change_profile(
        bora, Profile.parse("New", "", "role"), actor=actor
    ),
    "password": lambda bora, actor: accounts.reset_password(
        bora, "another good one", actor=actor, end_sessions=True
    ),
    "access": lambda bora, actor: accounts.change_access(
        bora, active=False, superuser=True, actor=actor
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("column", ["is_superuser", "is_active"])
def test_a_superuser_demoted_while_acting_changes_no_user(
    two_admins: Center, change: str, column: str
) -> None:
    center = two_admins
    before, token = center.user("bora"), center.token("bora")
    boss = center.user("boss")["id"]

    with center.app.app_context():
        actor = accounts.find(boss)
        with meanwhile(center, setting(boss, **{column: False})), pytest.raises(Forbidden):
            CHANGES[change](before["id"], actor)

    assert center.user("bora") == before
    assert center.status(token) == 200
    assert sorted(row["username"] for row in center.rows("users")) == ["admin", "bora", "boss"]


FORMS: dict[str, dict[str, str]] = {
    "new": {"username": "new", "password": "a good password", "superuser": "on"},
    "{}/profile": {"name": "New"},
    "{}/password": {"password": "another good one", "end_sessions": "on"},
    "{}/access": {"status": "inactive", "superuser": "on"},
}


@pytest.mark.parametrize("path", FORMS)
def test_a_superuser_forced_out_while_acting_changes_no_user(two_admins: Center, path: str) -> None:
    center = two_admins
    before, token = center.user("bora"), center.token("bora")
    boss = center.browser("boss")
    page = page_of(boss, "/admin/admin-users/new")
    field = page.select_one("input[name=csrf_token]")
    assert field is not None
    form = FORMS[path] | {"csrf_token": str(field["value"])}

    with meanwhile(center, invalidating(str(center.user("boss")["id"]))):
        answer = boss.post("/admin/admin-users/" + path.format(before["id"]), data=form)

    assert (answer.status_code, answer.location) == (303, "/login?next=%2Fadmin%2Fadmin-users%2F")
    assert center.user("bora") == before
    assert center.status(token) == 200
    assert sorted(row["username"] for row in center.rows("users")) == ["admin", "bora", "boss"]


def test_user_management_refuses_a_user_who_is_not_a_superuser(two_admins: Center) -> None:
    bora = two_admins.browser("bora")
    admin = two_admins.user("admin")

    for path, form in FORMS.items():
        url = "/admin/admin-users/" + path.format(admin["id"])
        assert bora.post(url, data=form).status_code == 403, path

    assert two_admins.user("admin") == admin


def test_the_api_answers_403_to_an_actor_of_lower_rank(host: Host) -> None:
    helper = host.issue(host.add_user("helper", department="Helpdesk"))
    root = host.add_user("root", is_superuser=True)

    answer = host.client().post(f"/sessions/users/{root}/force-logout", headers=bearer(helper))

    assert (answer.status_code, answer.get_json()["code"]) == (403, "forbidden")


@on_sqlite
@pytest.mark.parametrize("way", ["screen", "api"])
def test_a_force_logout_is_one_transaction_of_at_most_ten_statements(host: Host, way: str) -> None:
    admin = sign_in(host, host.add_user("admin", is_superuser=True))
    bora, carol = host.add_user("bora"), host.add_user("carol")
    tokens = [host.issue(bora), host.issue(carol)]
    page = page_of(admin)
    steps: list[str] = []

    def force_out(user_id: str, username: str) -> TestResponse:
        if way == "screen":
            return admin.post(FORCE_LOGOUT, data=form_for(page, username))
        return admin.post(f"/sessions/users/{user_id}/force-logout")

    force_out(carol, "carol")  # the first call also sets the connection up
    with host.app.app_context():
        engine = host.db.engine
    sa.event.listen(engine, "commit", lambda _: steps.append("COMMIT"))
    with host.calling_before_statements(lambda *values: steps.append(values[2])):
        answer = force_out(bora, "bora")

    assert answer.status_code == (303 if way == "screen" else 200), answer.text
    assert [host.status(token) for token in tokens] == [401, 401]
    assert len(steps) - 1 <= 10, "\n".join(steps)
    assert steps.count("COMMIT") == 1
    assert steps[-1] == "COMMIT"
