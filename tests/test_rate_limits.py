"""Rate limits of force logouts and of failed sign-ins, counted in memory and in Redis."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from bs4 import BeautifulSoup
from flask import Flask, Response, request
from freezegun import freeze_time
from werkzeug.test import TestResponse

from tests.support.databases import REDIS, MakeHost
from tests.support.hosts import Host, bearer
from tests.support.screen import FORCE_LOGOUT, form_for, page_of, sign_in, with_screen
from tests.support.standalone import ADMIN_PASSWORD, PAGE, Center, MakeCenter, body_of
from tests.support.threads import in_threads
from xgen_flask_sessions import ConfigurationError, RateLimited, XgenSessions
from xgen_flask_sessions import rate_limits as rates_module
from xgen_flask_sessions.connections import redis_client
from xgen_flask_sessions.rate_limits import RateLimits
from xgen_flask_sessions.settings import Settings
from xgen_flask_sessions.standalone import passwords

OWN_REDIS_SECONDS = 0.5
"""The package's own time limit for an answer of Redis; conftest.py raises it for most tests."""

NOW = datetime.now(UTC) + timedelta(days=1)
"""A time ahead of the real clock, so that no count expires during a slow test: the library expires
counts by the real clock, in a thread that freezegun does not affect."""


def force_logout(host: Host, admin: str, user_id: str) -> TestResponse:
    """Force a user out through the API."""
    return host.client().post(f"/sessions/users/{user_id}/force-logout", headers=bearer(admin))


# --- Force logout ----------------------------------------------------------------------------


def test_the_screen_and_the_api_share_one_limit_of_force_logouts(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host = make_host(sqlite_url, extras=with_screen, XGEN_SESSIONS_FORCE_LOGOUT_LIMIT="2/minute")
    bora = host.add_user("bora")
    with freeze_time(NOW) as clock:
        admin_id = host.add_user("admin", is_superuser=True)
        browser, token = sign_in(host, admin_id), host.issue(admin_id).token
        host.issue(bora)
        form = form_for(page_of(browser), "bora")

        by_screen = browser.post(FORCE_LOGOUT, data=form)
        clock.tick(timedelta(seconds=10))
        by_api = force_logout(host, token, bora)
        session = host.issue(bora)
        refused_api = force_logout(host, token, bora)
        refused_screen = browser.post(FORCE_LOGOUT, data=form)

        assert (by_screen.status_code, by_api.status_code) == (303, 200)
        assert (refused_api.status_code, refused_screen.status_code) == (429, 429)
        assert refused_api.content_type == "application/problem+json"
        assert refused_api.get_json()["code"] == "rate_limited"
        assert refused_api.headers["Retry-After"] == refused_screen.headers["Retry-After"] == "51"
        page = BeautifulSoup(refused_screen.text, "html.parser")
        (alert,) = page.select("[role=alert]")
        assert alert.span is not None
        assert alert.span.text == (
            "Too many force logouts in a short time. No user was signed out. Try again in 51 "
            "seconds."
        )
        assert form_for(page, "bora") == form
        assert host.status(session) == 200
        assert len(host.rows("xgen_revocations")) == 2

        clock.tick(timedelta(seconds=int(refused_api.headers["Retry-After"])))
        assert force_logout(host, token, bora).status_code == 200
        assert host.status(session) == 401


def test_each_administrator_has_a_separate_limit(make_host: MakeHost, sqlite_url: str) -> None:
    host = make_host(sqlite_url, XGEN_SESSIONS_FORCE_LOGOUT_LIMIT="1/minute")
    bora = host.add_user("bora")
    one, other = (host.issue(host.add_user(n, is_superuser=True)).token for n in ("one", "other"))

    assert [force_logout(host, one, bora).status_code for _ in range(2)] == [200, 429]
    assert force_logout(host, other, bora).status_code == 200


def test_force_logouts_of_unknown_users_do_not_count(make_host: MakeHost, sqlite_url: str) -> None:
    host = make_host(sqlite_url, XGEN_SESSIONS_FORCE_LOGOUT_LIMIT="1/minute")
    admin = host.issue(host.add_user("admin", is_superuser=True)).token

    for _ in range(3):
        assert force_logout(host, admin, "4711").status_code == 404
    assert force_logout(host, admin, host.add_user("bora")).status_code == 200


def test_the_refusal_on_the_screen_is_translated(make_host: MakeHost, sqlite_url: str) -> None:
    host = make_host(sqlite_url, extras=with_screen, XGEN_SESSIONS_FORCE_LOGOUT_LIMIT="1/minute")
    admin = sign_in(host, host.add_user("admin", is_superuser=True))
    host.issue(host.add_user("bora"))
    form = form_for(page_of(admin), "bora")
    admin.post(FORCE_LOGOUT, data=form)

    refused = admin.post(FORCE_LOGOUT, data=form, headers={"X-Language": "ko"})

    assert "강제 로그아웃을 너무 많이 실행했습니다" in refused.text
    back = admin.get(FORCE_LOGOUT, query_string={"lang": "ko"})
    assert (back.status_code, back.location) == (303, "/admin/admin-active-sessions/?lang=ko")


@pytest.mark.parametrize("off", [None, ""])
def test_the_limit_can_be_switched_off(make_host: MakeHost, sqlite_url: str, off: object) -> None:
    host = make_host(sqlite_url, XGEN_SESSIONS_FORCE_LOGOUT_LIMIT=off)
    admin, bora = host.issue(host.add_user("admin", is_superuser=True)).token, host.add_user("bora")

    assert {force_logout(host, admin, bora).status_code for _ in range(130)} == {200}


def test_the_default_limit_is_120_force_logouts_in_a_minute(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host = make_host(sqlite_url)
    admin, bora = host.issue(host.add_user("admin", is_superuser=True)).token, host.add_user("bora")

    with freeze_time(NOW):
        admin = host.issue(host.add_user("root", is_superuser=True)).token
        answers = [force_logout(host, admin, bora).status_code for _ in range(121)]

    assert answers == [200] * 120 + [429]


def test_the_limit_holds_for_force_logouts_at_the_same_moment(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host = make_host(sqlite_url, XGEN_SESSIONS_FORCE_LOGOUT_LIMIT="3/minute")
    admin, bora = host.issue(host.add_user("admin", is_superuser=True)).token, host.add_user("bora")
    answers: list[int] = []

    in_threads([lambda: answers.append(force_logout(host, admin, bora).status_code)] * 8)

    assert sorted(answers) == [200] * 3 + [429] * 5


# --- Failed sign-ins -------------------------------------------------------------------------


def try_sign_in(
    center: Center,
    username: str = "admin",
    password: str = "a wrong one",
    *,
    address: str = "192.0.2.1",
    by_api: bool = False,
    headers: Mapping[str, str] = {},
) -> TestResponse:
    browser = center.browser()
    environ = {"REMOTE_ADDR": address}
    data = {"username": username, "password": password}
    if by_api:
        return browser.post("/api/login", json=data, environ_overrides=environ)
    return browser.post("/login", data=data, headers={**PAGE, **headers}, environ_overrides=environ)


@pytest.fixture
def strict(make: MakeCenter) -> Center:
    """Return an Admin Center with low limits: three failures for a name, five for an address."""
    return make(
        XGEN_SESSIONS_SIGN_IN_LIMIT="3/minute", XGEN_SESSIONS_SIGN_IN_ADDRESS_LIMIT="5/minute"
    )


def test_form_and_api_share_one_limit_beyond_which_no_password_is_checked(
    strict: Center, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    check = passwords.matches

    def watch(password_hash: str | None, password: str) -> bool:
        checked.append(password)
        return check(password_hash, password)

    monkeypatch.setattr(passwords, "matches", watch)
    with freeze_time(NOW) as clock:
        failed = [try_sign_in(strict, by_api=by_api).status_code for by_api in (True, False, True)]
        clock.tick(timedelta(seconds=20))
        form = try_sign_in(strict, password=ADMIN_PASSWORD)
        api = try_sign_in(strict, password=ADMIN_PASSWORD, by_api=True)

        assert failed == [401, 401, 401]
        assert checked == ["a wrong one"] * 3
        assert (form.status_code, api.status_code) == (429, 429)
        assert form.headers["Retry-After"] == api.headers["Retry-After"] == "41"
        assert "Too many sign-ins failed. Try again in 41 seconds." in form.text
        assert 'value="admin"' in form.text
        assert ADMIN_PASSWORD not in form.text
        assert api.content_type == "application/problem+json"
        assert body_of(api)["code"] == "rate_limited"
        assert strict.rows("xgen_sessions") == []

        clock.tick(timedelta(seconds=41))
        assert try_sign_in(strict, password=ADMIN_PASSWORD).status_code == 303


def test_the_refusal_of_a_sign_in_is_translated(strict: Center) -> None:
    for _ in range(3):
        try_sign_in(strict)

    refused = try_sign_in(strict, headers={"Accept-Language": "ko"})

    assert "로그인 실패 횟수가 너무 많습니다." in refused.text


def test_sign_ins_that_succeed_do_not_count(strict: Center) -> None:
    for _ in range(8):
        assert try_sign_in(strict, password=ADMIN_PASSWORD).status_code == 303
    assert try_sign_in(strict).status_code == 401


def test_failures_at_one_address_do_not_lock_the_user_out_at_another(strict: Center) -> None:
    for _ in range(4):
        try_sign_in(strict, address="203.0.113.66")

    assert try_sign_in(strict, address="203.0.113.66").status_code == 429
    assert try_sign_in(strict, password=ADMIN_PASSWORD, address="192.0.2.1").status_code == 303


def test_one_address_has_a_limit_across_all_usernames(strict: Center) -> None:
    names = ["a", "b", "c", "d", "e", "f"]

    answers = [try_sign_in(strict, name).status_code for name in names]

    assert answers == [401] * 5 + [429]
    assert try_sign_in(strict, "f", address="192.0.2.2").status_code == 401


def test_an_ipv6_network_counts_as_one_address(strict: Center) -> None:
    answers = [
        try_sign_in(strict, address=f"2001:db8::{number}").status_code for number in range(1, 5)
    ]

    assert answers == [401, 401, 401, 429]
    assert try_sign_in(strict, address="2001:db8:0:1::1").status_code == 401


def test_an_ipv4_mapped_ipv6_address_counts_as_the_ipv4_address(strict: Center) -> None:
    addresses = ["192.0.2.7", "::ffff:192.0.2.7", "::ffff:c000:207", "192.0.2.7"]

    answers = [try_sign_in(strict, address=address).status_code for address in addresses]

    assert answers == [401, 401, 401, 429]


def test_spellings_that_may_mean_one_user_count_together(strict: Center) -> None:
    accent = "\N{COMBINING ACUTE ACCENT}"
    wide = "\N{FULLWIDTH LATIN CAPITAL LETTER A}"
    names = ["Ádmin", f"A{accent}dmin", "ádmin ", f"{wide}{accent}dmin"]

    assert [try_sign_in(strict, name).status_code for name in names] == [401, 401, 401, 429]


@pytest.mark.parametrize("username", ["", "x" * 60_000, "a/b\0c", "\ud800"])
def test_any_username_is_counted(strict: Center, username: str) -> None:
    answers = [try_sign_in(strict, username, by_api=True).status_code for _ in range(4)]

    assert answers == [401, 401, 401, 429]


def test_sign_ins_of_an_inactive_user_count_as_failures(strict: Center) -> None:
    strict.add_user("bora", ADMIN_PASSWORD)
    strict.change_user("bora", is_active=False)

    answers = [try_sign_in(strict, "bora", ADMIN_PASSWORD).status_code for _ in range(4)]

    assert answers == [401, 401, 401, 429]


@pytest.mark.parametrize("address", ["", "unknown", "a.b.c.d"])
def test_without_an_address_no_username_is_locked_out_but_failures_are_limited(
    strict: Center, address: str
) -> None:
    answers = [try_sign_in(strict, address=address).status_code for _ in range(4)]

    assert answers == [401] * 4
    assert try_sign_in(strict, password=ADMIN_PASSWORD, address=address).status_code == 303
    assert [try_sign_in(strict, name, address=address).status_code for name in "ab"] == [401, 429]
    assert try_sign_in(strict, password=ADMIN_PASSWORD).status_code == 303


@pytest.mark.parametrize(
    ("spellings", "other"),
    [
        (["192.0.2.9:{}", "192.0.2.9", " 192.0.2.9:{} "], "192.0.2.10:443"),
        (["[2001:db8::9]:{}", "2001:db8::9", "2001:db8::9%eth{}"], "[2001:db8:1::9]:443"),
        (["_hidden:{}", "_hidden"], "_another"),
    ],
)
def test_the_port_that_a_proxy_adds_is_no_part_of_the_address(
    strict: Center, spellings: list[str], other: str
) -> None:
    forms = [spellings[number % len(spellings)].format(50_000 + number) for number in range(4)]

    assert [try_sign_in(strict, address=form).status_code for form in forms] == [401] * 3 + [429]
    assert try_sign_in(strict, password=ADMIN_PASSWORD, address=other).status_code == 303


@pytest.mark.parametrize("by_api", [True, False])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
    ],
)
def test_forms_of_another_site_lock_no_address_out(
    strict: Center, by_api: bool, headers: dict[str, str]
) -> None:
    body = {"username": "admin", "password": "a wrong one"}
    sent = {"data": json.dumps(body)} if by_api else {"data": body}
    path = "/api/login" if by_api else "/login"
    environ = {"REMOTE_ADDR": "192.0.2.1"}

    answers = [
        strict.browser().post(path, headers=headers, environ_overrides=environ, **sent).status_code
        for _ in range(10)
    ]

    assert answers == [403] * 10
    assert try_sign_in(strict, password=ADMIN_PASSWORD).status_code == 303
    assert [try_sign_in(strict).status_code for _ in range(4)] == [401] * 3 + [429]


def test_the_defaults_are_10_failures_for_a_name_and_100_for_an_address(center: Center) -> None:
    with freeze_time(NOW):
        for number in range(10):
            answers = [try_sign_in(center, f"user{number}").status_code for _ in range(10)]
            assert answers == [401] * 10
        assert try_sign_in(center, "user0").status_code == 429
        assert try_sign_in(center, "another").status_code == 429
        assert try_sign_in(center, "another", address="192.0.2.2").status_code == 401


def test_environment_variables_set_the_limits(
    make: MakeCenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XGEN_SESSIONS_SIGN_IN_LIMIT", "1/hour")
    monkeypatch.setenv("XGEN_SESSIONS_SIGN_IN_ADDRESS_LIMIT", "")
    center = make()

    assert [try_sign_in(center).status_code for _ in range(2)] == [401, 429]
    assert {try_sign_in(center, f"user{n}").status_code for n in range(101)} == {401}


def with_password_page(app: Flask) -> dict[str, Any]:
    """Add a sign-in page of the host that checks a password."""

    @app.post("/own-sign-in")
    def own_sign_in() -> Response:
        sessions = XgenSessions()
        typed = request.get_json() if request.is_json else request.form
        sessions.check_sign_in_rate(typed["username"])
        if typed["password"] != "right":
            sessions.count_failed_sign_in(typed["username"])
            return Response("wrong", 401)
        return Response("right")

    return {}


def test_a_host_can_limit_its_own_sign_in_page(make_host: MakeHost, sqlite_url: str) -> None:
    host = make_host(sqlite_url, extras=with_password_page, XGEN_SESSIONS_SIGN_IN_LIMIT="2/minute")

    def post(password: str) -> TestResponse:
        return host.client().post("/own-sign-in", data={"username": "a", "password": password})

    assert [post(p).status_code for p in ("right", "no", "no")] == [200, 401, 401]
    refused = post("right")
    assert (refused.status_code, refused.get_json()["code"]) == (429, "rate_limited")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60


@pytest.mark.parametrize("username", [None, 7, 1.5, True, ["a"], {"a": 1}])
def test_a_username_in_json_may_be_anything(
    make_host: MakeHost, sqlite_url: str, username: object
) -> None:
    host = make_host(sqlite_url, extras=with_password_page, XGEN_SESSIONS_SIGN_IN_LIMIT="2/minute")
    body = {"username": username, "password": "no"}

    answers = [host.client().post("/own-sign-in", json=body).status_code for _ in range(3)]

    assert answers == [401, 401, 429]


# --- Storages --------------------------------------------------------------------------------


def rates(**settings: Any) -> RateLimits:
    config = {"SECRET_KEY": "x" * 32} | {f"XGEN_SESSIONS_{k}": v for k, v in settings.items()}
    return RateLimits(Settings.from_config(config))


def test_another_site_cannot_spend_the_limit_of_a_host_s_own_page(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host = make_host(sqlite_url, extras=with_password_page, XGEN_SESSIONS_SIGN_IN_LIMIT="2/minute")
    data = {"username": "a", "password": "no"}
    foreign = {"Origin": "https://evil.example"}

    refused = [host.client().post("/own-sign-in", data=data, headers=foreign) for _ in range(3)]

    assert [answer.status_code for answer in refused] == [403] * 3
    data["password"] = "right"
    assert host.client().post("/own-sign-in", data=data).status_code == 200


def test_processes_share_one_limit_in_redis(
    make_host: MakeHost, sqlite_url: str, redis_issuer: str
) -> None:
    options: dict[str, Any] = {
        "XGEN_SESSIONS_FORCE_LOGOUT_LIMIT": "2/minute",
        "XGEN_SESSIONS_RATE_LIMIT_STORAGE": REDIS,
        "XGEN_SESSIONS_ISSUER": redis_issuer,
    }
    hosts = [make_host(sqlite_url, **options) for _ in range(2)]
    admin = hosts[0].issue(hosts[0].add_user("admin", is_superuser=True)).token
    bora = hosts[0].add_user("bora")

    answers = [force_logout(host, admin, bora) for host in (*hosts, *hosts)]

    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 60


def test_the_limit_in_redis_holds_for_calls_at_the_same_moment(redis_issuer: str) -> None:
    both = [
        rates(FORCE_LOGOUT_LIMIT="5/minute", RATE_LIMIT_STORAGE=REDIS, ISSUER=redis_issuer)
        for _ in range(2)
    ]
    counted: list[bool] = []

    def count(each: RateLimits) -> None:
        counted.append(each.force_logout.count("1"))

    in_threads([partial(count, each) for each in both * 8])

    assert sorted(counted) == [False] * 11 + [True] * 5


def test_counts_in_redis_expire_after_the_window(redis_issuer: str) -> None:
    with freeze_time(NOW) as clock:
        mine = rates(FORCE_LOGOUT_LIMIT="1/minute", RATE_LIMIT_STORAGE=REDIS, ISSUER=redis_issuer)
        mine.force_logout.take("1")
        clock.tick(timedelta(seconds=45))
        with pytest.raises(RateLimited) as refused:
            mine.force_logout.take("1")
        assert refused.value.retry_after_s in (15, 16)  # Redis rounds times
        clock.tick(timedelta(seconds=refused.value.retry_after_s or 0))
        mine.force_logout.take("1")


def test_each_issuer_has_a_separate_limit_in_redis(redis_issuer: str) -> None:
    other = f"{redis_issuer}-other"
    for issuer in (redis_issuer, other):
        mine = rates(FORCE_LOGOUT_LIMIT="1/minute", RATE_LIMIT_STORAGE=REDIS, ISSUER=issuer)
        mine.force_logout.take("1")


@pytest.fixture
def dead_redis() -> str:
    """Return a Redis URL on a port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"redis://127.0.0.1:{probe.getsockname()[1]}/0"


def test_force_logouts_are_not_limited_while_the_storage_is_down(
    make_host: MakeHost,
    sqlite_url: str,
    dead_redis: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rates_module, "_PAUSE_SECONDS", 600)
    host = make_host(
        sqlite_url,
        XGEN_SESSIONS_FORCE_LOGOUT_LIMIT="1/minute",
        XGEN_SESSIONS_RATE_LIMIT_STORAGE=dead_redis,
    )
    admin, bora = host.issue(host.add_user("admin", is_superuser=True)).token, host.add_user("bora")

    with caplog.at_level(logging.ERROR):
        answers = [force_logout(host, admin, bora).status_code for _ in range(3)]

    assert answers == [200, 200, 200]
    logged = [record.message for record in caplog.records if "rate limits" in record.message]
    assert len(logged) == 1, "the storage is not tried again during the pause"
    assert "there is no limit" in logged[0]


def test_sign_ins_are_not_limited_while_the_storage_is_down(
    make: MakeCenter, dead_redis: str, caplog: pytest.LogCaptureFixture
) -> None:
    center = make(
        XGEN_SESSIONS_SIGN_IN_LIMIT="1/minute", XGEN_SESSIONS_RATE_LIMIT_STORAGE=dead_redis
    )

    answers = [try_sign_in(center).status_code for _ in range(3)]

    assert answers == [401, 401, 401]
    assert try_sign_in(center, password=ADMIN_PASSWORD).status_code == 303
    assert "there is no limit" in caplog.text


def test_after_a_timeout_the_storage_is_not_tried_at_each_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_client, "TIMEOUT_S", OWN_REDIS_SECONDS)
    monkeypatch.setattr(rates_module, "_PAUSE_SECONDS", 600)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        mine = rates(FORCE_LOGOUT_LIMIT="1/minute", RATE_LIMIT_STORAGE=url)
        begun = time.monotonic()

        for _ in range(20):
            mine.force_logout.take("1")

        assert time.monotonic() - begun < 20 * OWN_REDIS_SECONDS - 1  # not 20 timeouts


def test_the_storage_is_tried_again_after_the_pause(
    redis_issuer: str, dead_redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import redis

    with freeze_time(NOW) as clock:
        mine = rates(FORCE_LOGOUT_LIMIT="1/minute", RATE_LIMIT_STORAGE=REDIS, ISSUER=redis_issuer)
        mine.force_logout.take("1")
        with monkeypatch.context() as patch:

            def fail(*_: object, **__: object) -> None:
                raise redis.ConnectionError("gone")

            patch.setattr(redis.connection.ConnectionPool, "get_connection", fail)
            mine.force_logout.take("1")
        mine.force_logout.take("1")
        clock.tick(timedelta(seconds=6))
        with pytest.raises(RateLimited):
            mine.force_logout.take("1")


def test_expired_keys_are_removed_from_memory() -> None:
    mine = rates(SIGN_IN_LIMIT="1/second", SIGN_IN_ADDRESS_LIMIT="")
    storage: Any = mine.sign_in._per_username._store._begin_memory().storage
    most = 0
    with freeze_time("2026-05-25") as clock:  # the library's thread sees these keys as expired
        for number in range(6000):
            mine.sign_in.failed("192.0.2.1", f"user{number}")
            most = max(most, len(storage.events))
            if number % 100 == 0:
                clock.tick(timedelta(seconds=2))
                storage.timer.join()

    assert most <= 2500


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value)
            for name in ("FORCE_LOGOUT_LIMIT", "SIGN_IN_LIMIT", "SIGN_IN_ADDRESS_LIMIT")
            for value in (
                "120", "often", "0/minute", "-1/minute", "1.5/minute", "120/fortnight",
                "10/minute; 100/hour", "1/2 days", "1000001/day", f"1{'0' * 5000}/minute",
                "\N{FULLWIDTH DIGIT ONE}/minute", 120, True, ["120/minute"], b"1/minute",
            )
        ),
        ("RATE_LIMIT_STORAGE", "memcached://127.0.0.1"),
        ("RATE_LIMIT_STORAGE", "async+memory://"),
        ("RATE_LIMIT_STORAGE", "redis"),
        ("RATE_LIMIT_STORAGE", "redis://127.0.0.1:port/0"),
        ("RATE_LIMIT_STORAGE", ""),
        ("RATE_LIMIT_STORAGE", 6379),
        ("RATE_LIMIT_STORAGE", "redis://127.0.0.1/0?bogus=1"),
    ],
)  # fmt: skip
def test_the_error_for_a_wrong_limit_or_storage_names_the_setting(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=rf"XGEN_SESSIONS_{name} must be "):
        rates(**{name: value})


@pytest.mark.parametrize(
    "value", ["120/minute", "120 per minute", "5/10 seconds", "1000000/day", "1/24 hours"]
)
def test_a_valid_limit_is_accepted(value: str) -> None:
    rates(FORCE_LOGOUT_LIMIT=value).force_logout.take("1")


def test_the_storage_s_password_does_not_appear_in_settings_or_errors() -> None:
    settings = Settings.from_config(
        {"SECRET_KEY": "x" * 32, "XGEN_SESSIONS_RATE_LIMIT_STORAGE": "redis://:geheim@127.0.0.1/0"}
    )

    assert "geheim" not in repr(settings)
    with pytest.raises(ConfigurationError) as refused:
        rates(RATE_LIMIT_STORAGE="redis://:geheim@127.0.0.1:port/0")
    assert "geheim" not in str(refused.value)
