"""The leaver: sessions, account and roles change in one transaction, with one audit record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.orm import Session, object_session
from werkzeug.exceptions import Conflict

from tests.support.databases import MakeHost, on_sqlite
from tests.support.hosts import Host, User, bearer
from xgen_flask_sessions import (
    BadRequest,
    ConfigurationError,
    Forbidden,
    LedgerUnavailable,
    NotFound,
    UserFields,
    user_forced_out,
)
from xgen_flask_sessions.errors import HookFailed
from xgen_flask_sessions.roster.records import revocation_that_ended
from xgen_flask_sessions.roster.user_revocations import revocation_page
from xgen_flask_sessions.store.leaver_details import LeaverDetails, decode
from xgen_flask_sessions.web import acts
from xgen_flask_sessions.web.user_urls import url_of_user

SECRET = "correct horse battery"


def extras(**arguments: Any) -> Callable[[Flask], Mapping[str, Any]]:
    """Return the extras of a host that ends sessions when a user becomes inactive."""
    return lambda app: {"revoke_on": ["is_active", "department"]} | arguments


def move_out(user: Any) -> list[str]:
    """Revoke a user's roles: here, the department stands for one."""
    roles = [f"member of {user.department}"] if user.department else []
    user.department = None
    return roles


@pytest.fixture
def host(make_host: MakeHost, database_url: str) -> Host:
    return make_host(database_url, extras=extras(revoke_roles=move_out))


@contextmanager
def signed_in(host: Host, user_id: str) -> Iterator[Any]:
    """Yield the user object of a caller, within a request with the caller's token."""
    with host.app.test_request_context(headers=bearer(host.issue(user_id))):
        yield host.find_user(user_id)


def add_leaver(host: Host, **columns: Any) -> tuple[str, str]:
    """Return a SuperUser, and a user with two sessions."""
    boss = host.add_user("boss", is_superuser=True)
    user = host.add_user("leaver", **{"department": "Sales"} | columns)
    if columns.get("is_active", True):
        host.issue(user)
        host.issue(user)
    return boss, user


def account(host: Host, user_id: str) -> tuple[bool, str | None]:
    """Return whether a user is active, and the department, as committed."""
    with host.app.app_context():
        user = host.find_user(user_id)
        return user.is_active, user.department


def test_all_of_it_is_done_with_one_record_and_one_signal(host: Host) -> None:
    boss, user = add_leaver(host)
    token = host.issue(user)
    seen: list[Any] = []

    def look(_: object, revocation: Any) -> None:
        seen.append(revocation)

    with user_forced_out.connected_to(look), signed_in(host, boss) as caller:
        preview = acts.leaver_preview(caller, user)
        done = acts.process_leaver(caller, user, "leaves today")

    assert (preview.will_deactivate, preview.roles) == (True, None)
    assert (done.deactivated, done.roles) == (True, ["member of Sales"])
    assert account(host, user) == (False, None)
    assert host.status(token) == 401
    (record,) = host.rows("xgen_revocations")
    assert (record["kind"], record["user_id"], record["sessions_ended"]) == ("user", user, 3)
    assert (record["actor"], record["reason"]) == (boss, "leaves today")
    assert seen == [done.revocation]


def test_a_user_who_is_inactive_already_loses_sessions_and_roles(host: Host) -> None:
    boss, user = add_leaver(host, is_active=False)

    with signed_in(host, boss) as caller:
        preview = acts.leaver_preview(caller, user)
        done = acts.process_leaver(caller, user)

    assert (preview.will_deactivate, preview.is_active) == (False, False)
    assert (done.deactivated, done.roles) == (False, ["member of Sales"])
    assert account(host, user) == (False, None)


def test_a_deleted_user_loses_the_sessions(host: Host) -> None:
    boss, user = add_leaver(host)
    host.delete_user(user)

    with signed_in(host, boss) as caller:
        preview = acts.leaver_preview(caller, user)
        done = acts.process_leaver(caller, user)

    assert (preview.will_deactivate, preview.roles) == (False, [])
    assert (done.deactivated, done.roles) == (False, [])
    assert done.revocation.sessions_ended == 2


def test_only_a_superuser_and_not_for_oneself(host: Host) -> None:
    boss, user = add_leaver(host)

    with signed_in(host, boss) as caller:
        for act in (acts.process_leaver, acts.leaver_preview):
            with pytest.raises(BadRequest):
                act(caller, boss)
            with pytest.raises(NotFound):
                act(caller, "999")
    with signed_in(host, user) as caller:
        for act in (acts.process_leaver, acts.leaver_preview):
            with pytest.raises(Forbidden):
                act(caller, boss)

    assert host.rows("xgen_revocations") == []


@on_sqlite
def test_a_permission_to_force_out_is_none_to_change_accounts(
    make_host: MakeHost, database_url: str
) -> None:
    host = make_host(database_url, extras=extras(can_view=lambda user: True))
    _, user = add_leaver(host)
    helper = host.add_user("helper")

    with signed_in(host, helper) as caller:
        with pytest.raises(Forbidden):
            acts.process_leaver(caller, user)
        acts.force_out(caller, user)

    assert account(host, user) == (True, "Sales")


@on_sqlite
def test_without_superusers_the_permission_to_force_out_suffices(
    make_host: MakeHost, database_url: str
) -> None:
    fields = UserFields(superuser=None, name="display_name")
    host = make_host(database_url, extras=extras(can_view=lambda user: True, user_fields=fields))
    _, user = add_leaver(host)
    helper = host.add_user("helper")

    with signed_in(host, helper) as caller:
        assert acts.process_leaver(caller, user).deactivated

    assert account(host, user) == (False, "Sales")


# --- Functions of the host's that fail -------------------------------------------------------


def raising(error: Exception) -> Callable[[Any], Any]:
    def revoke(user: Any) -> Any:
        user.department = "half"
        raise error

    return revoke


def session_of(user: Any) -> Session:
    session = object_session(user)
    assert session is not None
    return session


def commits(user: Any) -> None:
    session_of(user).commit()


def rolls_back(user: Any) -> None:
    session_of(user).rollback()


def breaks_a_constraint(user: Any) -> None:
    user.username = "boss"  # taken


def returns_a_text(user: Any) -> Any:
    return "auditor"


def returns_numbers(user: Any) -> Any:
    return [1]


FAILING = {
    "an error": (raising(ValueError(f"no {SECRET}")), HookFailed),
    "a refusal": (raising(Forbidden("The last SuperUser stays.")), Forbidden),
    "a bad request": (raising(BadRequest("No such account.")), BadRequest),
    "an HTTP error": (raising(Conflict()), Conflict),
    "a commit": (commits, HookFailed),
    "a rollback": (rolls_back, HookFailed),
    "a constraint": (breaks_a_constraint, HookFailed),
    "a text": (returns_a_text, HookFailed),
    "numbers": (returns_numbers, HookFailed),
    "a lost database": (
        raising(sa.exc.OperationalError("x", {"password": SECRET}, OSError("gone"))),
        LedgerUnavailable,
    ),
}


@pytest.mark.parametrize("which", FAILING)
def test_a_function_that_fails_undoes_everything(
    make_host: MakeHost, database_url: str, which: str, caplog: pytest.LogCaptureFixture
) -> None:
    hook, expected = FAILING[which]
    host = make_host(database_url, extras=extras(revoke_roles=hook))
    boss, user = add_leaver(host)
    token = host.issue(user)

    with signed_in(host, boss) as caller, pytest.raises(expected) as caught:
        acts.process_leaver(caller, user)

    assert host.status(token) == 200
    assert account(host, user) == (True, "Sales")
    assert host.rows("xgen_revocations") == []
    if expected is HookFailed:
        assert "revoke_roles= of this application failed. Nothing was done." in str(caught.value)
        assert "revoke_roles= failed, and was rolled back." in caplog.text
    if which == "a lost database":
        assert SECRET not in caplog.text
    with signed_in(host, boss) as caller:  # the session is usable again
        acts.force_out(caller, user)
    assert host.status(token) == 401


def test_a_deactivation_that_the_database_refuses_undoes_everything(host: Host) -> None:
    boss, user = add_leaver(host)
    token = host.issue(user)
    refusing = {
        "sqlite": "CREATE TRIGGER refuse BEFORE UPDATE ON users BEGIN "
        "SELECT RAISE(ABORT, 'no changes'); END",
        "mysql": "CREATE TRIGGER refuse BEFORE UPDATE ON users FOR EACH ROW "
        "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no changes'",
    }
    if host.dialect == "postgresql":
        host.execute(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE 'no changes'; END $$",
            "CREATE TRIGGER refuse BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
    else:
        host.execute(refusing[host.dialect])

    with signed_in(host, boss) as caller, pytest.raises((LedgerUnavailable, HookFailed)):
        acts.process_leaver(caller, user)

    assert host.status(token) == 200
    assert account(host, user) == (True, "Sales")
    assert host.rows("xgen_revocations") == []


@on_sqlite
def test_a_model_without_a_column_for_active_users_needs_a_function(
    make_host: MakeHost, database_url: str
) -> None:
    fields = UserFields(active=None, name="display_name")
    host = make_host(database_url, extras=extras(user_fields=fields, revoke_on=[]))
    boss, user = add_leaver(host)

    with signed_in(host, boss) as caller:
        preview = acts.leaver_preview(caller, user)
        done = acts.process_leaver(caller, user)

    assert (preview.will_deactivate, preview.is_active) == (False, True)
    assert not done.deactivated
    assert account(host, user)[0]


@on_sqlite
def test_a_function_of_the_hosts_takes_the_place_of_the_default(
    make_host: MakeHost, database_url: str
) -> None:
    def deactivate(user: User) -> None:
        user.is_active = False
        user.display_name = "(left)"

    host = make_host(
        database_url, extras=extras(deactivate=deactivate, roles_of=lambda user: ["auditor"])
    )
    boss, user = add_leaver(host)

    with signed_in(host, boss) as caller:
        assert acts.leaver_preview(caller, user).roles == []  # none are revoked
        assert acts.process_leaver(caller, user).deactivated

    with host.app.app_context():
        assert host.find_user(user).display_name == "(left)"


@on_sqlite
@pytest.mark.parametrize(
    ("roles_of", "roles"),
    [
        (lambda user: ("auditor", "admin\n"), ["auditor", "admin\ufffd"]),
        (lambda user: None, []),
        (lambda user: 1 // 0, None),
        (lambda user: "auditor", None),
    ],
)
def test_the_preview_names_the_roles_that_the_host_tells(
    make_host: MakeHost, database_url: str, roles_of: Any, roles: list[str] | None
) -> None:
    host = make_host(database_url, extras=extras(revoke_roles=move_out, roles_of=roles_of))
    boss, user = add_leaver(host)

    with signed_in(host, boss) as caller:
        assert acts.leaver_preview(caller, user).roles == roles


# --- Set-up ----------------------------------------------------------------------------------


async def coroutine(user: Any) -> None:
    pass


@pytest.mark.parametrize("name", ["deactivate", "revoke_roles", "roles_of", "user_url"])
@pytest.mark.parametrize("value", [True, "is_active", User, coroutine, lambda: None])
def test_a_parameter_that_is_no_function_of_one_argument_stops_the_start(
    make_host: MakeHost, sqlite_url: str, name: str, value: Any
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}= must"):
        make_host(sqlite_url, extras=extras(**{name: value}))


@pytest.mark.parametrize(
    ("returned", "url"),
    [
        ("/people/7", "/people/7"),
        ("https://hr.example.com/people/7?tab=1", "https://hr.example.com/people/7?tab=1"),
        (None, None),
        ("//evil.example.com", None),
        ("/\\evil.example.com", None),
        ("javascript:alert(1)", None),
        ("people/7", None),
        ("https://", None),
        ("https://a@b.example.com/", None),
        ("http://[", None),
        ("/a\nb", None),
        (7, None),
    ],
)
def test_a_link_is_a_path_of_this_site_or_a_web_address(
    make_host: MakeHost, sqlite_url: str, returned: Any, url: str | None
) -> None:
    host = make_host(sqlite_url, extras=extras(user_url=lambda user_id: returned))

    with host.app.test_request_context():
        assert url_of_user("7") == url


def test_a_link_function_that_fails_gives_no_link(
    make_host: MakeHost, sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    host = make_host(sqlite_url, extras=extras(user_url=lambda user_id: {}[user_id]))
    without = make_host(sqlite_url)

    with host.app.test_request_context():
        assert [url_of_user("7"), url_of_user("8")] == [None, None]
    with without.app.test_request_context():
        assert url_of_user("7") is None

    assert caplog.text.count("user_url= failed.") == 1


# --- The details of the audit record ----------------------------------------------------------


def test_all_roles_count_even_if_the_record_does_not_name_them(
    make_host: MakeHost, sqlite_url: str
) -> None:
    names = [f"member of project {number}" for number in range(300)]
    host = make_host(
        sqlite_url,
        extras=extras(revoke_roles=lambda user: names, roles_of=lambda user: iter(names)),
    )
    boss, user = add_leaver(host)

    with signed_in(host, boss) as caller:
        preview = acts.leaver_preview(caller, user)
        done = acts.process_leaver(caller, user)

    assert preview.roles == done.roles == names
    (record,) = host.rows("xgen_revocations")
    details = decode(record["details"])
    assert details is not None
    assert (len(details.roles) > 50, len(details.roles) + details.more_roles) == (True, 300)


def test_the_record_says_what_else_was_done(host: Host) -> None:
    boss, user = add_leaver(host)

    with signed_in(host, boss) as caller:
        acts.process_leaver(caller, user)
        acts.process_leaver(caller, user)
        acts.force_out(caller, user)

    rows = sorted(host.rows("xgen_revocations"), key=lambda row: row["revoked_us"])
    first, second, third = (decode(row["details"]) for row in rows)
    assert first == LeaverDetails(deactivated=True, roles=["member of Sales"])
    assert second == LeaverDetails(deactivated=False, roles=[])
    assert third is None
    with host.app.app_context():
        page = revocation_page(host.db.session(), user, since_us=None)
    assert [each.leaver for each in page.revocations] == [third, second, first]


def test_before_the_upgrade_a_leaver_is_refused_and_force_logouts_go_on(host: Host) -> None:
    boss, user = add_leaver(host)
    token = host.issue(user)
    host.execute("ALTER TABLE xgen_revocations DROP COLUMN details")

    with signed_in(host, boss) as caller:
        with pytest.raises(LedgerUnavailable) as caught:
            acts.process_leaver(caller, user)
        assert (caught.value.undone, caught.value.refused) == (True, True)
        assert account(host, user) == (True, "Sales")
        assert host.status(token) == 200

        assert acts.force_out(caller, user).sessions_ended == 3
    assert host.status(token) == 401
    with host.app.app_context():
        assert revocation_that_ended(host.db.session(), token.session_id) is not None
