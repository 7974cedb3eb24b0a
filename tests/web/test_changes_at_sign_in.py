"""A user's own change of the account: at the sign-in, such as a new password hash, and later."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Response, jsonify, request
from flask.testing import FlaskClient
from flask_login import current_user, login_required, login_user
from sqlalchemy.orm import Session

from tests.support.databases import MakeHost, on_sqlite
from tests.support.hosts import Host, bearer
from xgen_flask_sessions import IssuedToken, SessionRevoked, current_token, token_required
from xgen_flask_sessions.store import sign_ins


@pytest.fixture
def host(make_host: MakeHost, database_url: str) -> Host:
    return add_sign_in(
        make_host(database_url, extras=lambda app: {"revoke_on": ["password", "is_active"]})
    )


def take(host: Host, step: str, user: Any) -> None:
    """Take a step of a sign-in view; other steps than these are calls of the session."""
    if step == "hash":
        user.password = f"hash of {datetime.now(UTC)}"
    elif step == "inactive":
        user.is_active = False
    elif step == "forced out":
        host.sessions.force_logout(user, commit=False)
    elif step == "statement":
        host.db.session.execute(sa.update(host.model).values(password="by a statement"))
    elif step == "own session":
        with Session(host.db.engine) as own:
            own.get_one(host.model, int(request.form["user_id"])).password = "by another"
            own.commit()
    elif step == "others":
        with ThreadPoolExecutor(1) as pool:
            pool.submit(OTHERS[0]).result()
    else:
        getattr(host.db.session, step)()


def add_sign_in(host: Host) -> Host:
    """Add sign-in views that take the steps in the form's field ``steps``, in this order."""
    db = host.db

    def sign_in(begin: Callable[[Any], Any]) -> Any:
        user, result = host.find_user(request.form["user_id"]), None
        for step in request.form["steps"].split(", "):
            if step == "sign in":
                result = begin(user)
            else:
                take(host, step, user)
        return result

    @host.app.post("/login")
    def login() -> str:
        sign_in(login_user)
        return "signed in"

    @host.app.post("/issue")
    def issue() -> Response:
        return jsonify(token=sign_in(lambda user: host.sessions.issue(user)).token)

    @host.app.post("/password")
    @token_required  # its user need not be the one in the form
    def change_password() -> str:
        host.find_user(request.form["user_id"]).password = f"by {current_token.user_id}"
        db.session.commit()
        return "changed"

    @host.app.post("/own-password")
    @login_required  # type: ignore[untyped-decorator]
    def change_own_password() -> str:
        current_user.password = "another"
        db.session.commit()
        if "again" in request.form:
            login_user(current_user._get_current_object())
        return "changed"

    return host


OTHERS: list[Callable[[], Any]] = []
"""A call that another browser makes in the middle of a request."""


@pytest.fixture(autouse=True)
def others() -> Any:
    OTHERS.clear()
    yield OTHERS
    OTHERS.clear()


ORDERS = [
    "hash, commit, sign in",
    "hash, sign in, commit",
    "hash, flush, sign in, commit",
    "sign in, hash, commit",
    "sign in, hash, flush, commit",
    "hash, sign in, commit, hash, commit",
    "sign in, commit, statement, commit",
    "statement, sign in, commit",
    "sign in, commit, own session",
    "commit, own session, sign in",
]


def log_in(host: Host, user_id: str, steps: str) -> tuple[FlaskClient, int]:
    client = host.client()
    answer = client.post("/login", data={"user_id": user_id, "steps": steps})
    return client, answer.status_code


@pytest.mark.parametrize("steps", ORDERS)
def test_login_user_survives_a_new_hash_in_its_request(host: Host, steps: str) -> None:
    user, bob = host.add_user(), host.add_user("bob", password="by a statement")
    older, others = host.issue(user), host.issue(bob)

    client, status = log_in(host, user, steps)

    assert status == 200
    assert client.get("/api/user").status_code == 200
    assert host.status(older) == 401
    assert "statement" in steps or host.status(others) == 200


@pytest.mark.parametrize("steps", ORDERS)
def test_an_issued_token_survives_a_new_hash_in_its_request(host: Host, steps: str) -> None:
    user = host.add_user()
    older = host.issue(user)

    answer = host.client().post("/issue", data={"user_id": user, "steps": steps})
    token = answer.get_json()["token"]

    assert host.status(token) == 200
    assert host.status(older) == 401
    actors = {row["actor"] for row in host.rows("xgen_revocations")}
    assert actors <= ({user} if steps.startswith("sign in") else {user, None})
    with host.app.app_context():
        assert len(host.sessions.active_sessions(user)) == 1
    host.force_logout(user)
    assert host.status(token) == 401


@pytest.mark.parametrize("first", ["issue", "hash"])
def test_a_token_issued_in_the_transaction_of_the_change_survives_it(
    host: Host, first: str
) -> None:
    user = host.add_user()
    older = host.issue(user)

    with host.app.test_request_context():
        found = host.find_user(user)
        if first == "hash":
            found.password = "another"
        token = host.sessions.issue(found, commit=False)
        found.password = "yet another"
        host.db.session.commit()

    assert (host.status(token), host.status(older)) == (200, 401)


@pytest.mark.parametrize("path", ["/login", "/issue"])
def test_the_new_session_is_an_ordinary_one(host: Host, path: str) -> None:
    user = host.add_user()
    client = host.client()
    client.post(path, data={"user_id": user, "steps": "sign in, hash, commit"})

    host.change_user(user, password="another")

    with host.app.app_context():
        assert host.sessions.active_sessions(user) == []
    assert client.get("/api/user").status_code == 401


@pytest.mark.parametrize(
    "steps", ["forced out, sign in, commit", "hash, forced out, sign in, commit"]
)
def test_login_user_after_a_force_logout_in_one_transaction_counts(host: Host, steps: str) -> None:
    user = host.add_user()
    older = host.issue(user)

    client, status = log_in(host, user, steps)

    assert (status, client.get("/api/user").status_code) == (200, 200)
    assert host.status(older) == 401


@pytest.mark.parametrize(
    "steps",
    [
        "sign in, forced out, commit",
        "sign in, hash, forced out, commit",
        "sign in, forced out, hash, commit",
        "sign in, inactive, commit",
        "sign in, hash, inactive, commit",
    ],
)
def test_a_force_logout_or_an_inactive_account_ends_the_new_sign_in(host: Host, steps: str) -> None:
    user = host.add_user()

    client, status = log_in(host, user, steps)

    assert (status, client.get("/api/user").status_code) == (401, 401)


@pytest.mark.parametrize(
    "steps",
    [
        "sign in, others, hash, commit",
        "sign in, hash, commit, others",
        "others, sign in, hash, commit",
    ],
)
@pytest.mark.parametrize("everyone", [False, True])
def test_a_force_logout_by_others_meanwhile_ends_it_all_the_same(
    host: Host, others: list[Callable[[], Any]], steps: str, everyone: bool
) -> None:
    user = host.add_user()

    def force_out() -> None:
        with host.app.app_context():
            if everyone:
                host.sessions.force_logout_everyone()
            else:
                host.sessions.force_logout(user)

    others.append(force_out)

    client, status = log_in(host, user, steps)

    survives = steps.startswith("others")
    assert status == (200 if survives else 401)
    assert client.get("/api/user").status_code == status


@pytest.mark.parametrize(
    "steps", ["sign in, others, hash, commit", "others, sign in, hash, commit"]
)
@pytest.mark.parametrize("renewed", [False, True])
def test_a_concurrent_sign_in_ends_with_the_old_hash(
    host: Host, others: list[Callable[[], Any]], steps: str, renewed: bool
) -> None:
    user = host.add_user()
    concurrent: list[Any] = []

    def sign_in_elsewhere() -> None:
        concurrent.append(host.issue(user))
        if renewed:
            concurrent.append(host.renew(concurrent[0]))

    others.append(sign_in_elsewhere)

    answer = host.client().post("/issue", data={"user_id": user, "steps": steps})

    assert host.status(answer.get_json()["token"]) == 200
    assert [host.status(each) for each in concurrent] == [401] * len(concurrent)
    assert host.login_row(user)["active_until_us"] > 0


def test_a_rolled_back_hash_changes_nothing(host: Host) -> None:
    user = host.add_user()
    older = host.issue(user)

    client, status = log_in(host, user, "hash, flush, sign in, rollback")

    assert (status, client.get("/api/user").status_code) == (200, 200)
    assert host.status(older) == 200


def test_a_sign_in_joins_a_transaction_that_is_committed_after_the_request(host: Host) -> None:
    host.app.teardown_request(lambda error: host.db.session.commit())
    user = host.add_user()
    older = host.issue(user)

    client, status = log_in(host, user, "sign in, hash, flush")

    assert (status, client.get("/api/user").status_code) == (200, 200)
    assert host.status(older) == 401


def test_the_acts_of_a_request_end_with_it(host: Host) -> None:
    user = host.add_user()

    with host.app.test_request_context():
        token = host.sessions.issue(user)
    with host.app.test_request_context():
        host.find_user(user).password = "another"
        host.db.session.commit()

    assert host.status(token) == 401


@on_sqlite
def test_in_memory(make_host: MakeHost, database_url: str) -> None:
    host = add_sign_in(make_host("sqlite://", extras=lambda app: {"revoke_on": ["password"]}))
    user = host.add_user()

    for steps in ORDERS:
        client, status = log_in(host, user, steps)
        assert (status, client.get("/api/user").status_code) == (200, 200), steps


def why(host: Host, token: Any) -> dict[str, Any]:
    problem: dict[str, Any] = host.client().get("/api/token", headers=bearer(token)).get_json()
    return {name: problem[name] for name in ("code", "detail", "forced", "account_changed")}


CHANGED = {
    "code": "session_revoked",
    "detail": "The account was changed, for example its password. Sign in again.",
    "forced": False,
    "account_changed": True,
}
FORCED = {
    "code": "session_revoked",
    "detail": "An administrator ended the session.",
    "forced": True,
    "account_changed": False,
}


def refusal_of_renewal(host: Host, token: IssuedToken) -> SessionRevoked:
    """Return the error of a renewal that was checked before the token was revoked."""
    with (
        host.app.app_context(),
        Session(host.db.engine) as session,
        pytest.raises(SessionRevoked) as caught,
    ):
        sign_ins.renew(session, token.jti, lifetime_us=1)
    return caught.value


def test_a_user_who_changes_the_password_is_told_so(host: Host) -> None:
    user, boss = host.add_user(), host.add_user("boss")
    own, elsewhere = host.issue(user), host.issue(user)

    answer = host.client().post("/password", data={"user_id": user}, headers=bearer(own))

    assert answer.status_code == 200
    assert (why(host, own), why(host, elsewhere)) == (CHANGED, CHANGED)
    refused = refusal_of_renewal(host, own)
    assert (refused.forced, refused.account_changed) == (False, True)

    token = host.issue(user)
    host.client().post("/password", data={"user_id": user}, headers=bearer(host.issue(boss)))
    assert why(host, token) == FORCED
    token = host.issue(user)
    host.force_logout(user)
    assert why(host, token) == FORCED


def test_a_token_renewed_before_a_change_of_the_account_blames_no_administrator(
    host: Host,
) -> None:
    user = host.add_user()
    old = host.issue(user)
    new = host.renew(old)

    host.change_user(user, password="another")

    assert why(host, new) == CHANGED
    assert why(host, old) == CHANGED
    refused = refusal_of_renewal(host, old)
    assert (refused.forced, refused.account_changed) == (False, True)


def test_a_command_that_changes_the_password_is_no_administrator(host: Host) -> None:
    user = host.add_user()
    token = host.issue(user)

    host.change_user(user, password="another")

    assert why(host, token) == CHANGED


@pytest.mark.parametrize("again", [False, True])
def test_a_session_ends_with_its_own_change_unless_the_host_signs_in_again(
    host: Host, again: bool
) -> None:
    user = host.add_user()
    client, _ = log_in(host, user, "sign in, commit")

    answer = client.post("/own-password", data={"again": "yes"} if again else {})

    assert answer.status_code == 200
    problem = client.get("/api/user")
    assert problem.status_code == (200 if again else 401)
    assert again or problem.get_json()["detail"] == CHANGED["detail"]
