"""Concurrent actions of administrators: repeated clicks, and changes of each other."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from tests.support.screen import FORCE_LOGOUT, form_for, page_of, results, sign_in, with_screen
from tests.support.standalone import ADMIN_PASSWORD, MakeCenter
from tests.support.threads import in_threads

pytestmark = pytest.mark.slow

CLICKS = 8
SESSIONS = 5
ROUNDS = 10


@pytest.fixture
def host(make_host: MakeHost, database_url: str) -> Host:
    return make_host(
        database_url,
        extras=with_screen,
        XGEN_SESSIONS_FORCE_LOGOUT_LIMIT=None,
        SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 3 * CLICKS},
    )


def same_browser(host: Host, client: FlaskClient) -> FlaskClient:
    """Return another connection of the same browser."""
    cookie = client.get_cookie("xgen_token")
    assert cookie is not None
    return host.cookie_client(cookie.value)


def test_clicks_on_one_button_at_the_same_moment_end_each_session_once(host: Host) -> None:
    admin, bora = sign_in(host, host.add_user("admin", is_superuser=True)), host.add_user("bora")
    for round_number in range(4):
        tokens = [host.issue(bora) for _ in range(SESSIONS)]
        form = form_for(page_of(admin), "bora")
        answers: list[TestResponse] = []

        def click(browser: FlaskClient, form: dict[str, str], answers: list[TestResponse]) -> None:
            answers.append(browser.post(FORCE_LOGOUT, data=form))

        in_threads([partial(click, same_browser(host, admin), form, answers)] * CLICKS)

        assert [answer.status_code for answer in answers] == [303] * CLICKS
        records = host.rows("xgen_revocations")
        assert len(records) == CLICKS * (round_number + 1)
        ended = sum(record["sessions_ended"] for record in records)
        assert ended == SESSIONS * (round_number + 1)
        assert {host.status(token) for token in tokens} == {401}
        shown = [results(page_of(admin, answer.location)) for answer in answers]
        assert shown == [{"bora": "✓ Signed out 5 sessions"}] * CLICKS


def test_concurrent_force_logouts_and_sign_ins_count_each_session_once(host: Host) -> None:
    admin_id = host.add_user("admin", is_superuser=True)
    admin, token = sign_in(host, admin_id), host.issue(admin_id)
    bora = host.add_user("bora")
    host.issue(bora)
    form = form_for(page_of(admin), "bora")
    statuses: list[int] = []

    def click(browser: FlaskClient) -> None:
        statuses.extend(browser.post(FORCE_LOGOUT, data=form).status_code for _ in range(5))

    def call() -> None:
        url = f"/sessions/users/{bora}/force-logout"
        statuses.extend(
            host.client().post(url, headers=bearer(token)).status_code for _ in range(5)
        )

    def come_back() -> None:
        for _ in range(5):
            host.issue(bora)

    clicks = [partial(click, same_browser(host, admin)) for _ in range(3)]
    in_threads([*clicks, call, call, call, come_back, come_back])

    assert sorted(statuses) == [200] * 15 + [303] * 15
    records = host.rows("xgen_revocations")
    active = sum(
        row["ended_us"] is None for row in host.rows("xgen_sessions") if row["user_id"] == bora
    )
    assert len(records) == 30
    assert sum(record["sessions_ended"] for record in records) + active == 11


def force_out(host: Host, token: Any, user_id: str, answers: dict[str, int]) -> None:
    url = f"/sessions/users/{user_id}/force-logout"
    answers[user_id] = host.client().post(url, headers=bearer(token)).status_code


def test_of_two_administrators_who_force_out_each_other_exactly_one_succeeds(host: Host) -> None:
    ann, ben = (host.add_user(name, is_superuser=True) for name in ("ann", "ben"))
    for round_number in range(ROUNDS):
        by_ann, by_ben = host.issue(ann), host.issue(ben)
        answers: dict[str, int] = {}

        in_threads(
            [partial(force_out, host, by_ann, ben, answers),
             partial(force_out, host, by_ben, ann, answers)]
        )  # fmt: skip

        assert sorted(answers.values()) == [200, 401], round_number
        done = {user: answer == 200 for user, answer in answers.items()}
        assert (host.status(by_ann) == 401, host.status(by_ben) == 401) == (done[ann], done[ben])
        host.force_logout(ann)
        host.force_logout(ben)
    assert len(host.rows("xgen_revocations")) == 3 * ROUNDS


def test_when_administrators_force_out_each_other_in_a_ring_at_least_one_stays(host: Host) -> None:
    admins = [host.add_user(f"admin{number}", is_superuser=True) for number in range(6)]
    for _ in range(ROUNDS // 2):
        tokens = {admin: host.issue(admin) for admin in admins}
        answers: dict[str, int] = {}

        in_threads(
            [
                partial(force_out, host, tokens[admin], admins[number - 1], answers)
                for number, admin in enumerate(admins)
            ]
        )

        assert set(answers.values()) == {200, 401}
        assert {a: host.status(tokens[a]) == 401 for a in admins} == {
            a: answers[a] == 200 for a in admins
        }
        with host.app.app_context():
            host.sessions.force_logout_everyone()


def test_force_logouts_of_everyone_and_of_one_user_count_each_session_once(host: Host) -> None:
    admin = host.add_user("admin", is_superuser=True)
    users = [host.add_user(f"user{number}") for number in range(6)]
    for _ in range(6):
        for user in users:
            host.issue(user)
        token = host.issue(admin)
        answers: dict[str, int] = {}

        def everyone() -> None:
            with host.app.app_context():
                host.sessions.force_logout_everyone(actor="cli:test")

        in_threads([everyone, *(partial(force_out, host, token, u, answers) for u in users)])

        assert set(answers.values()) <= {200, 401}
        assert all(row["ended_us"] is not None for row in host.rows("xgen_sessions"))
    records = host.rows("xgen_revocations")
    assert sum(record["sessions_ended"] for record in records) == 6 * 7


def test_force_logouts_of_everyone_do_not_disturb_the_actor_s_own_sign_ins(host: Host) -> None:
    admin = host.add_user("admin", is_superuser=True)

    def everyone() -> None:
        for _ in range(ROUNDS):
            with host.app.app_context():
                host.sessions.force_logout_everyone(actor=host.find_user(admin))

    def come_back() -> None:
        for _ in range(ROUNDS):
            host.issue(admin)

    in_threads([everyone, everyone, come_back, come_back, come_back, come_back])

    assert len(host.rows("xgen_sessions")) == 4 * ROUNDS
    assert len(host.rows("xgen_revocations")) == 2 * ROUNDS


# --- User Management -------------------------------------------------------------------------


def form_token(browser: FlaskClient) -> str:
    field = page_of(browser, "/admin/admin-users/new").select_one("input[name=csrf_token]")
    assert field is not None
    return str(field["value"])


@pytest.mark.parametrize(
    ("form", "fields"),
    [
        ("password", {"password": ADMIN_PASSWORD, "end_sessions": "on"}),
        ("access", {"status": "inactive", "superuser": "on", "shown_access": "[true, true]"}),
        ("access", {"status": "active", "shown_access": "[true, true]"}),
    ],
    ids=["reset passwords", "deactivate", "demote"],
)
def test_when_two_superusers_change_each_other_at_least_one_change_succeeds(
    make: MakeCenter, database_url: str, form: str, fields: dict[str, str]
) -> None:
    center = make(SQLALCHEMY_DATABASE_URI=database_url)
    ids = {name: center.add_user(name, superuser=True) for name in ("ann", "ben")}
    for _ in range(5):
        for name in ids:
            center.change_user(name, is_active=True, is_superuser=True)
        answers: list[int] = []

        def change(browser: FlaskClient, token: str, other: int, answers: list[int]) -> None:
            data = fields | {"csrf_token": token}
            answer = browser.post(f"/admin/admin-users/{other}/{form}", data=data)
            answers.append(answer.status_code)

        ann, ben = center.browser("ann"), center.browser("ben")
        in_threads(
            [
                partial(change, ann, form_token(ann), ids["ben"], answers),
                partial(change, ben, form_token(ben), ids["ann"], answers),
            ]
        )

        assert 303 in answers
        assert set(answers) <= {303, 403}
        if form == "access":
            changed = [center.user(name) for name in ids]
            assert sum(user["is_active"] and user["is_superuser"] for user in changed) == 1
