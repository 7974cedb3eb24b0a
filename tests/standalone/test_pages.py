"""The standalone Admin Center: its pages, its sign-in API and its configuration."""

from __future__ import annotations

import os
import stat
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
import sqlalchemy as sa
from freezegun import freeze_time
from werkzeug.security import check_password_hash

from tests.support.databases import on_sqlite
from tests.support.hosts import bearer
from tests.support.standalone import (
    ADMIN_PASSWORD,
    PAGE,
    QUICK_HASH,
    Center,
    MakeCenter,
    body_of,
    center_maker,
    sign_in,
)
from xgen_flask_sessions import ConfigurationError
from xgen_flask_sessions.standalone import (
    accounts,
    create_app,
    passwords,
    prepare,
)
from xgen_flask_sessions.standalone.config import from_environment
from xgen_flask_sessions.standalone.extensions import sessions
from xgen_flask_sessions.standalone.instance import secret_key
from xgen_flask_sessions.standalone.models import User, db
from xgen_flask_sessions.store import revocations
from xgen_flask_sessions.store.revocations import Cause
from xgen_flask_sessions.store.tables import ACCOUNT_CHANGED


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in os.environ:
        if key.startswith("XGEN_") and not key.startswith("XGEN_TEST_"):
            monkeypatch.delenv(key)


class TestSignInPage:
    def test_has_a_form_that_needs_no_script(self, center: Center) -> None:
        answer = center.browser().get("/login", headers=PAGE)

        assert answer.status_code == 200
        assert 'name="username"' in answer.text
        assert 'name="password"' in answer.text
        assert "<script" not in answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]

    def test_signs_in_and_goes_to_the_workspace(self, center: Center) -> None:
        browser = center.browser()

        answer = sign_in(browser, "admin")

        assert (answer.status_code, answer.location) == (303, "/")
        assert "HttpOnly" in answer.headers["Set-Cookie"]
        assert browser.get("/", headers=PAGE).status_code == 200

    @pytest.mark.parametrize("username", ["admin", "nobody", "", " admin", "a\x00b", "x" * 200])
    def test_has_one_message_for_a_wrong_username_or_password(
        self, center: Center, username: str
    ) -> None:
        answer = sign_in(center.browser(), username, "a wrong one")

        assert answer.status_code == 401
        assert "The username or the password is wrong." in answer.text
        assert "Set-Cookie" not in answer.headers

    def test_refuses_a_password_that_is_too_long(self, center: Center) -> None:
        assert sign_in(center.browser(), "admin", "x" * 257).status_code == 401

    def test_keeps_the_username_that_was_typed(self, center: Center) -> None:
        answer = sign_in(center.browser(), '"><b>', "a wrong one")

        assert 'value="&#34;&gt;&lt;b&gt;"' in answer.text

    @pytest.mark.parametrize("username", ["admin", "nobody", "x" * 200, "seeded"])
    def test_checks_one_hash_of_the_same_cost_for_any_username(
        self, center: Center, username: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        center.add_user("seeded")
        center.change_user("seeded", password_hash=passwords.UNUSABLE)
        checked: list[str] = []
        check = check_password_hash

        def spy(password_hash: str, password: str) -> bool:
            checked.append(password_hash)
            return check(password_hash, password)

        monkeypatch.setattr(passwords, "check_password_hash", spy)

        sign_in(center.browser(), username, "a wrong one")

        assert [password_hash.split("$")[0] for password_hash in checked] == [QUICK_HASH]

    def test_reports_an_inactive_account_only_with_the_right_password(self, center: Center) -> None:
        center.add_user("bora")
        center.change_user("bora", is_active=False)

        right = sign_in(center.browser(), "bora")
        wrong = sign_in(center.browser(), "bora", "a wrong one")

        assert "Your account is inactive." in right.text
        assert "The username or the password is wrong." in wrong.text
        assert (right.status_code, wrong.status_code) == (401, 401)

    def test_treats_composed_and_decomposed_passwords_as_equal(self, center: Center) -> None:
        center.add_user("bora", "caf\u00e9 caf\u00e9")

        assert sign_in(center.browser(), "bora", "cafe\u0301 cafe\u0301").status_code == 303

    @pytest.mark.parametrize("where", ["/admin/admin-users/", "/?a=b&c=%2F"])
    def test_redirects_to_a_path_of_this_site(self, center: Center, where: str) -> None:
        assert sign_in(center.browser(), "admin", next=where).location == where

    @pytest.mark.parametrize(
        "elsewhere",
        ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "x"],
    )
    def test_does_not_redirect_to_another_site(self, center: Center, elsewhere: str) -> None:
        page = center.browser().get("/login", query_string={"next": elsewhere}, headers=PAGE)
        answer = sign_in(center.browser(), "admin", next=elsewhere)

        assert 'name="next" value="/"' in page.text
        assert answer.location == "/"

    def test_redirects_a_user_who_is_already_signed_in(self, center: Center) -> None:
        answer = center.browser("admin").get("/login?next=/admin/", headers=PAGE)

        assert (answer.status_code, answer.location) == (302, "/admin/")

    @pytest.mark.parametrize(
        "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}]
    )
    def test_refuses_a_form_sent_from_another_site(
        self, center: Center, headers: dict[str, str]
    ) -> None:
        data = {"username": "admin", "password": ADMIN_PASSWORD}

        answer = center.browser().post("/login", data=data, headers=headers)

        assert answer.status_code == 403
        assert "Set-Cookie" not in answer.headers

    def test_ends_the_previous_session_of_the_browser(self, center: Center) -> None:
        browser = center.browser("admin")

        sign_in(browser, "admin")

        assert [row["end_reason"] for row in center.rows("xgen_sessions")].count(None) == 1

    def test_is_in_the_language_of_the_browser_or_the_user_s_choice(self, center: Center) -> None:
        browser = center.browser()

        by_header = browser.get("/login", headers={**PAGE, "Accept-Language": "ko-KR,ko;q=0.9"})
        by_choice = browser.get("/login?lang=ko", headers=PAGE)
        remembered = browser.get("/login", headers={**PAGE, "Accept-Language": "en"})
        other = center.browser().get("/login?lang=xx", headers=PAGE)

        assert '<html lang="ko">' in by_header.text
        assert '<html lang="ko">' in by_choice.text
        assert '<html lang="ko">' in remembered.text
        assert '<html lang="en">' in other.text

    def test_keeps_next_when_the_language_is_changed(self, center: Center) -> None:
        page = center.browser().get("/login?next=/admin/", headers=PAGE)

        assert 'href="/login?next=%2Fadmin%2F&amp;lang=ko"' in page.text


class TestReasonOnTheSignInPage:
    def test_is_a_force_logout_by_an_administrator(self, center: Center) -> None:
        browser = center.browser("admin")
        center.force_logout("admin")

        answer = browser.get("/", headers=PAGE)
        page = browser.get(answer.location, headers=PAGE)

        assert (answer.status_code, answer.location) == (302, "/login?next=%2F")
        assert "An administrator ended your session. You can sign in again." in page.text

    @pytest.mark.parametrize(("language", "text"), [("en", "was changed"), ("ko", "변경")])
    def test_is_a_change_of_the_account(self, center: Center, language: str, text: str) -> None:
        browser = center.browser("admin")
        with center.app.app_context():
            admin = str(center.user("admin")["id"])
            reason = Cause(reason="password changed")
            revocations.force_logout(db.session(), admin, reason, end_reason=ACCOUNT_CHANGED)
            db.session.commit()

        page = browser.get(f"/login?lang={language}", headers=PAGE, follow_redirects=True)

        assert text in page.text

    def test_does_not_prevent_a_new_sign_in(self, center: Center) -> None:
        browser = center.browser("admin")
        center.force_logout("admin")

        sign_in(browser, "admin")

        assert browser.get("/", headers=PAGE).status_code == 200

    def test_is_an_expired_session(self, center: Center) -> None:
        with freeze_time("2026-05-25 12:00:00") as frozen:
            token = center.token("admin")
            frozen.tick(timedelta(hours=25))
            browser = center.browser()
            browser.set_cookie("xgen_token", token)

            page = browser.get("/login", headers=PAGE)

        assert "Your session has expired." in page.text

    def test_is_an_inactive_account(self, center: Center) -> None:
        center.add_user("bora")
        browser = center.browser("bora")
        center.change_user("bora", is_active=False)

        assert browser.get("/", headers=PAGE).status_code == 302
        assert "Your account is inactive." in browser.get("/login", headers=PAGE).text

    def test_is_a_sign_out_of_the_same_session(self, center: Center) -> None:
        browser = center.browser("admin")
        token = browser.get_cookie("xgen_token")
        assert token is not None
        browser.post("/sessions/sign-out")
        browser.set_cookie("xgen_token", token.value)

        assert "You ended this session." in browser.get("/login", headers=PAGE).text

    @pytest.mark.parametrize("by", ["admin", "bora"])
    def test_is_a_notice_of_the_own_act_or_names_an_administrator(
        self, center: Center, by: str
    ) -> None:
        center.add_user("bora", superuser=True)
        browser = center.browser("admin")
        center.force_logout("admin", actor=by)

        page = browser.get("/login", headers=PAGE)

        own = by == "admin"
        assert ("You ended all your sessions." in page.text) == own
        assert ("An administrator ended your session." in page.text) != own
        assert ('role="alert"' in page.text) != own

    def test_is_the_extent_of_an_own_sign_out_of_everyone(self, center: Center) -> None:
        center.add_user("bora")
        browser = center.browser("admin")
        center.browser("bora")
        with center.app.app_context():
            sessions.force_logout_everyone(actor=str(center.user("admin")["id"]))

        page = browser.get("/login", headers=PAGE)

        assert "You signed out everyone: 2 sessions ended. You can sign in again." in page.text

    @pytest.mark.parametrize("code", ["sessions-ended", "signed-out"])
    def test_is_nothing_that_an_address_claims(self, center: Center, code: str) -> None:
        page = center.browser().get(f"/login?done={code}", headers=PAGE)

        assert 'role="status"' not in page.text

    def test_is_absent_without_a_session(self, center: Center) -> None:
        assert 'role="alert"' not in center.browser().get("/login", headers=PAGE).text

    def test_pages_answer_503_while_sessions_cannot_be_checked(self, center: Center) -> None:
        browser = center.browser("admin")
        with center.app.app_context(), db.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE xgen_sessions RENAME TO gone")

        answers = [browser.get(path, headers=PAGE) for path in ("/login", "/", "/admin/")]
        answers.append(browser.get("/admin/admin-users/", headers=PAGE))

        assert [answer.status_code for answer in answers] == [503, 503, 302, 503]
        assert "Not available right now" in answers[0].text
        assert answers[0].headers["Retry-After"] == "1"


class TestSignOut:
    def test_ends_the_session_and_deletes_the_cookie(self, center: Center) -> None:
        browser = center.browser("admin")
        token = browser.get_cookie("xgen_token")
        assert token is not None

        answer = browser.post("/logout", headers=PAGE)

        assert (answer.status_code, answer.location) == (303, "/login")
        assert browser.get_cookie("xgen_token") is None
        assert center.status(token.value) == 401
        assert "You have signed out." in browser.get(answer.location, headers=PAGE).text

    def test_works_without_a_valid_session(self, center: Center) -> None:
        browser = center.browser("admin")
        center.force_logout("admin")

        assert browser.post("/logout", headers=PAGE).status_code == 303
        assert center.browser().post("/logout", headers=PAGE).status_code == 303

    def test_cannot_be_sent_from_another_site(self, center: Center) -> None:
        browser = center.browser("admin")

        answer = browser.post("/logout", headers={"Sec-Fetch-Site": "cross-site"})

        assert answer.status_code == 403
        assert browser.get("/", headers=PAGE).status_code == 200

    def test_refuses_a_get_request(self, center: Center) -> None:
        answer = center.browser("admin").get("/logout", headers=PAGE)

        assert answer.status_code == 405
        assert set(answer.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}
        assert answer.mimetype == "text/html"


class TestApiLogin:
    def test_returns_a_token(self, center: Center) -> None:
        body = {"username": "admin", "password": ADMIN_PASSWORD}

        answer = center.browser().post("/api/login", json=body)

        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert set(body_of(answer)) == {"access_token", "token_type", "expires_in", "session_id"}
        assert body_of(answer)["token_type"] == "Bearer"
        assert 86390 <= body_of(answer)["expires_in"] <= 86401
        assert "Set-Cookie" not in answer.headers
        assert center.status(body_of(answer)["access_token"]) == 200

    @pytest.mark.parametrize("username", ["admin", "nobody", "\ud800", "x" * 5000])
    @pytest.mark.parametrize("password", ["a wrong one", "\ud800", "x" * 5000])
    def test_refuses_wrong_credentials(self, center: Center, username: str, password: str) -> None:
        body = {"username": username, "password": password}

        answer = center.browser().post("/api/login", json=body)

        assert answer.status_code == 401
        assert answer.mimetype == "application/problem+json"
        assert body_of(answer)["code"] == "invalid_credentials"
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="xgen"'

    @on_sqlite
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"username=admin",
            b"[]",
            b'"admin"',
            b"\xff",
            b"{}",
            b'{"username": "admin"}',
            b'{"username": "admin", "password": 12345678}',
            b'{"username": ["admin"], "password": "x"}',
            b"[" * 30000,
        ],
    )
    def test_refuses_an_invalid_body(self, center: Center, body: bytes) -> None:
        answer = center.browser().post("/api/login", data=body)

        assert answer.status_code == 400
        assert body_of(answer)["code"] == "bad_request"

    def test_refuses_a_body_that_is_too_large(self, center: Center) -> None:
        answer = center.browser().post("/api/login", data=b" " * (64 * 1024 + 1))

        assert answer.status_code == 413
        assert answer.mimetype == "application/problem+json"

    def test_reports_an_inactive_account(self, center: Center) -> None:
        center.add_user("bora")
        center.change_user("bora", is_active=False)
        body = {"username": "bora", "password": ADMIN_PASSWORD}

        answer = center.browser().post("/api/login", json=body)

        assert (answer.status_code, body_of(answer)["code"]) == (401, "user_inactive")


class TestWorkspace:
    def test_greets_the_signed_in_user(self, center: Center) -> None:
        center.add_user("bora", name="Bora Lim", roles="editor, analyst")

        page = center.browser("bora").get("/", headers=PAGE).text

        assert "Hello, Bora Lim" in page
        assert "analyst" in page
        assert "/admin/" not in page

    def test_links_to_the_admin_center_for_administrators(self, center: Center) -> None:
        assert 'href="/admin/"' in center.browser("admin").get("/", headers=PAGE).text

    def test_has_no_inline_styles_or_scripts(self, center: Center) -> None:
        page = center.browser("admin").get("/", headers=PAGE)

        assert "<style" not in page.text
        assert "style=" not in page.text
        assert "<script>" not in page.text
        assert "session-guard.js" in page.text
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]

    def test_redirects_to_the_sign_in_page_without_a_session(self, center: Center) -> None:
        answer = center.browser().get("/", headers=PAGE)

        assert (answer.status_code, answer.location) == (302, "/login?next=%2F")

    def test_returns_the_token_s_user_in_the_api(self, center: Center) -> None:
        user_id = center.add_user("bora", name="Bora Lim", roles="editor, analyst")
        token = center.token("bora")

        answer = center.browser().get("/api/me", headers=bearer(token))

        assert answer.headers["Cache-Control"] == "no-store"
        assert body_of(answer) == {
            "user_id": str(user_id),
            "username": "bora",
            "name": "Bora Lim",
            "department": None,
            "superuser": False,
            "roles": ["analyst", "editor"],
            "session_id": center.rows("xgen_sessions")[0]["session_id"],
        }

    def test_refuses_an_api_call_without_a_token(self, center: Center) -> None:
        answer = center.browser().get("/api/me")

        assert (answer.status_code, body_of(answer)["code"]) == (401, "token_missing")

    def test_refuses_an_api_call_after_a_force_logout(self, center: Center) -> None:
        token = center.token("admin")
        center.force_logout("admin")

        assert center.status(token) == 401


class TestErrorPages:
    def test_are_html_for_browsers_and_problem_json_for_programs(self, center: Center) -> None:
        page = center.browser().get("/nowhere", headers=PAGE)
        answer = center.browser().get("/nowhere")

        assert (page.status_code, page.mimetype) == (404, "text/html")
        assert "Page not found" in page.text
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")

    def test_refuse_a_user_who_is_not_an_administrator(self, center: Center) -> None:
        center.add_user("bora")

        answer = center.browser("bora").get("/admin/admin-users/", headers=PAGE)

        assert answer.status_code == 403
        assert "You may not open this page" in answer.text

    def test_do_not_show_unhandled_exceptions(self, center: Center) -> None:
        center.app.testing = False
        center.app.add_url_rule("/broken", view_func=lambda: str(1 / 0))

        page = center.browser().get("/broken", headers=PAGE)
        answer = center.browser().get("/broken")

        assert (page.status_code, answer.status_code) == (500, 500)
        assert "Something went wrong" in page.text
        assert "ZeroDivision" not in page.text + answer.text

    def test_report_an_unavailable_database(self, center: Center) -> None:
        with center.app.app_context(), db.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE users RENAME TO gone")

        page = sign_in(center.browser(), "admin")

        assert page.status_code == 503
        assert "Not available right now" in page.text


class TestAdminCenter:
    def test_starts_with_login_management(self, center: Center) -> None:
        browser = center.browser("admin")

        answer = browser.get("/admin/", headers=PAGE)
        page = browser.get(answer.location, headers=PAGE)

        assert answer.location == "/admin/admin-active-sessions/"
        assert page.status_code == 200
        menu = page.text.partition("<nav")[2].partition("</nav>")[0]
        assert menu.index("User Management") < menu.index("Login Management")
        assert "Home" not in menu
        assert 'action="/logout"' in page.text

    def test_redirects_to_the_sign_in_page_without_a_session(self, center: Center) -> None:
        browser = center.browser()

        answer = browser.get(browser.get("/admin/", headers=PAGE).location, headers=PAGE)

        assert answer.location == "/login?next=%2Fadmin%2Fadmin-active-sessions%2F"


class TestConfiguration:
    def test_is_sqlite_in_the_instance_directory(self, tmp_path: Path) -> None:
        config = from_environment(tmp_path, {})

        assert config["SQLALCHEMY_DATABASE_URI"].database == str(tmp_path / "xgen.db")
        assert config["XGEN_SESSIONS_COOKIE_SECURE"] is False

    @pytest.mark.parametrize(
        ("text", "driver"),
        [
            ("postgresql://u:p@host/name", "postgresql+psycopg"),
            ("postgres://u:p@host/name", "postgresql+psycopg"),
            ("mysql://u:p@host/name", "mysql+pymysql"),
            ("mariadb://u:p@host/name", "mariadb+pymysql"),
            ("mysql+pymysql://u:p@host/name", "mysql+pymysql"),
            ("sqlite:////tmp/x.db", "sqlite"),
        ],
    )
    def test_selects_the_database_driver(self, tmp_path: Path, text: str, driver: str) -> None:
        config = from_environment(tmp_path, {"XGEN_DATABASE_URL": text})

        assert config["SQLALCHEMY_DATABASE_URI"].drivername == driver

    @pytest.mark.parametrize("text", ["secret", "secret://u:p@host/name", "postgresql://u:p@h:x/n"])
    def test_refuses_an_invalid_database_url(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(ConfigurationError, match="XGEN_DATABASE_URL must be") as caught:
            from_environment(tmp_path, {"XGEN_DATABASE_URL": text})

        assert "secret" not in str(caught.value)

    def test_names_the_extra_of_a_missing_driver(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pg8000", None)
        with pytest.raises(ConfigurationError, match="needs a driver that cannot be imported"):
            from_environment(tmp_path, {"XGEN_DATABASE_URL": "postgresql+pg8000://u:p@h/n"})

    def test_reads_every_setting_of_the_plugin(self, tmp_path: Path) -> None:
        config = from_environment(
            tmp_path,
            {
                "XGEN_SESSIONS_LIFETIME": "3600",
                "XGEN_SESSIONS_COOKIE_SECURE": "True",
                "XGEN_SESSIONS_TIMEZONE": "Asia/Seoul",
                "XGEN_SESSIONS_TOKEN_LOCATIONS": '["headers"]',
                "XGEN_SESSIONS_SECRET_KEY": "1" * 40,
            },
        )

        assert config["XGEN_SESSIONS_LIFETIME"] == 3600
        assert config["XGEN_SESSIONS_COOKIE_SECURE"] is True
        assert config["XGEN_SESSIONS_TIMEZONE"] == "Asia/Seoul"
        assert config["XGEN_SESSIONS_TOKEN_LOCATIONS"] == ["headers"]
        assert config["XGEN_SESSIONS_SECRET_KEY"] == "1" * 40

    @pytest.mark.parametrize("text", ["-1", "x", "10", "²"])
    def test_refuses_an_invalid_number_of_proxies(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(ConfigurationError, match="XGEN_TRUSTED_PROXIES"):
            from_environment(tmp_path, {"XGEN_TRUSTED_PROXIES": text})

    @pytest.mark.parametrize(("proxies", "ip"), [(0, "127.0.0.1"), (1, "203.0.113.7")])
    def test_takes_addresses_from_trusted_proxies_only(
        self, make: MakeCenter, proxies: int, ip: str
    ) -> None:
        center = make(TRUSTED_PROXIES=proxies)

        center.browser().post(
            "/api/login",
            json={"username": "admin", "password": ADMIN_PASSWORD},
            headers={"X-Forwarded-For": "198.51.100.1, 203.0.113.7"},
        )

        assert center.rows("xgen_sessions")[0]["ip"] == ip

    def test_takes_the_instance_directory_from_the_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XGEN_INSTANCE_PATH", str(tmp_path / "there" / "it is"))

        center = Center(app=create_app())

        assert center.app.instance_path == str(tmp_path / "there" / "it is")
        assert stat.S_IMODE((tmp_path / "there" / "it is").stat().st_mode) == 0o700
        center.dispose()

    def test_reports_that_the_instance_directory_cannot_be_created(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()

        with pytest.raises(ConfigurationError, match="set XGEN_INSTANCE_PATH to one that can"):
            create_app(tmp_path / "file" / "instance")

    def test_enables_wal_and_foreign_keys_on_sqlite(self, tmp_path: Path) -> None:
        with center_maker(tmp_path) as make:
            center = make()
            center.token("admin")
            with center.app.app_context(), db.engine.connect() as connection:
                found = [
                    connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                    for name in ("journal_mode", "foreign_keys")
                ]

        assert found == ["wal", 1]


class TestSecretKey:
    def test_is_created_once_and_readable_by_its_owner_only(self, tmp_path: Path) -> None:
        first = secret_key(tmp_path)

        assert secret_key(tmp_path) == first
        assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600
        assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]

    def test_is_the_same_for_concurrent_starts(self, tmp_path: Path) -> None:
        found: list[str] = []
        threads = [
            threading.Thread(target=lambda: found.append(secret_key(tmp_path))) for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(found) == 16
        assert len(set(found)) == 1

    def test_is_the_same_after_a_restart(self, make: MakeCenter) -> None:
        token = make().token("admin")

        assert make().status(token) == 200

    @pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 40])
    def test_is_refused_if_it_is_invalid(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "secret_key").write_bytes(content)

        with pytest.raises(ConfigurationError, match="secret_key"):
            secret_key(tmp_path)

    def test_may_come_from_the_environment(
        self, make: MakeCenter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XGEN_SESSIONS_SECRET_KEY", "2" * 40)

        center = make()

        assert center.app.config["SECRET_KEY"] == "2" * 40
        assert not Path(center.app.instance_path, "secret_key").exists()


class TestPrepare:
    def test_adds_an_index_that_a_table_of_an_earlier_release_lacks(self, center: Center) -> None:
        with center.app.app_context():
            for index in cast("sa.Table", User.__table__).indexes:
                index.drop(db.engine)

        prepare(center.app)

        with center.app.app_context():
            found = {index["name"] for index in sa.inspect(db.engine).get_indexes("users")}
        assert "ix_users_superuser" in found

    def test_creates_the_first_superuser_and_prints_the_password_once(
        self, make: MakeCenter, capsys: pytest.CaptureFixture[str]
    ) -> None:
        center = make(ADMIN_PASSWORD=None)
        printed = capsys.readouterr().out
        prepare(center.app)

        assert capsys.readouterr().out == ""
        password = printed.partition("password: ")[2].splitlines()[0]
        assert len(password) >= 16
        assert sign_in(center.browser(), "admin", password).status_code == 303
        assert center.user("admin")["is_superuser"]

    def test_does_not_print_a_given_password(
        self, make: MakeCenter, capsys: pytest.CaptureFixture[str]
    ) -> None:
        make()

        assert ADMIN_PASSWORD not in capsys.readouterr().out

    def test_refuses_an_invalid_given_password(self, make: MakeCenter) -> None:
        with pytest.raises(ConfigurationError, match="XGEN_ADMIN_PASSWORD: A password has 8"):
            make(ADMIN_PASSWORD="short")

    def test_creates_no_user_in_a_database_with_users(self, make: MakeCenter) -> None:
        center = make()
        center.change_user("admin", username="root", is_superuser=False)

        prepare(center.app)

        assert [row["username"] for row in center.rows("users")] == ["root"]

    def test_creates_the_tables_in_an_empty_database(
        self, make: MakeCenter, database_url: str
    ) -> None:
        center = make(SQLALCHEMY_DATABASE_URI=database_url)
        center.add_user("ADMIN", roles="editor, Editor")

        prepare(center.app)

        assert center.user("ADMIN")["roles"] == ["Editor", "editor"]
        assert sign_in(center.browser(), "admin").status_code == 303
        assert sign_in(center.browser(), "Admin").status_code == 401


@pytest.mark.parametrize("by_form", [True, False])
def test_a_password_that_is_reset_while_it_is_checked_is_refused(
    center: Center, monkeypatch: pytest.MonkeyPatch, by_form: bool
) -> None:
    bora = center.add_user("bora")
    check = passwords.matches

    def reset_meanwhile(password_hash: str | None, password: str) -> bool:
        right = check(password_hash, password)
        with center.app.app_context():
            accounts.reset_password(bora, "another good one", actor="cli:test", end_sessions=True)
        return right

    monkeypatch.setattr(passwords, "matches", reset_meanwhile)
    body = {"username": "bora", "password": ADMIN_PASSWORD}
    if by_form:
        answer = center.browser().post("/login", data=body)
    else:
        answer = center.browser().post("/api/login", json=body)

    assert answer.status_code == 401
    assert center.rows("xgen_sessions") == []
