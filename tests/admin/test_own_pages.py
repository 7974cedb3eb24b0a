"""Error answers of the screens: pages for people, in both layouts and both languages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup
from flask import Flask, Response, abort, jsonify, request
from flask_admin import Admin, AdminIndexView
from flask_admin.theme import Bootstrap4Theme
from flask_babel import Babel
from flask_login import current_user
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from tests.support.databases import MakeHost
from tests.support.hosts import Host
from tests.support.screen import FORCE_LOGOUT, SCREEN, form_for, page_of, sign_in
from tests.support.standalone import PAGE, Center
from xgen_flask_sessions import errors
from xgen_flask_sessions.web import i18n
from xgen_flask_sessions.web.problem_texts import DETAILS

LAYOUTS = ["admin/base.html", "xgen_sessions/admin_center.html"]
SCRIPT = {"Accept": "application/json", "X-Requested-With": "XMLHttpRequest"}
NOWHERE = SCREEN + "nowhere"


class Index(AdminIndexView):  # type: ignore[misc]
    """A page of the host's that reads the database to see whether it is in the menu."""

    def is_accessible(self) -> bool:
        return bool(current_user.is_authenticated)


@pytest.fixture(params=LAYOUTS, ids=["default", "admin-center"])
def host(request: pytest.FixtureRequest, make_host: MakeHost, sqlite_url: str) -> Host:
    return host_in(make_host, sqlite_url, request.param)


def host_in(make_host: MakeHost, url: str, layout: str = LAYOUTS[0], **options: Any) -> Host:
    """Return a host whose language is set by the header ``X-Language``.

    :param options: Arguments for ``init_app``; those in capitals are configuration.
    """
    config = {name: value for name, value in options.items() if name.isupper()}
    arguments = {name: value for name, value in options.items() if not name.isupper()}

    def extras(app: Flask) -> Mapping[str, Any]:
        Babel(app, locale_selector=lambda: request.headers.get("X-Language", "en"))
        theme = Bootstrap4Theme(base_template=layout)
        return {"admin": Admin(app, name="XGEN", index_view=Index(), theme=theme), **arguments}

    return make_host(url, extras=extras, PROPAGATE_EXCEPTIONS=False, **config)


def text_of(answer: TestResponse) -> str:
    """Return the words within the main landmark of an error page, after checking its frame."""
    assert answer.mimetype == "text/html", answer.text
    page = BeautifulSoup(answer.text, "html.parser")
    assert page.html is not None
    assert page.html.get("lang") in ("en", "ko")
    (main,) = page.select("main, [role=main]")
    assert [len(page.select(each)) for each in ("h1", "title")] == [1, 1]
    assert page.title is not None
    assert page.h1 is not None
    assert page.title.text == f"{answer.status_code} · {page.h1.text} · XGEN"
    assert answer.headers.get_all("Cache-Control") == ["no-store"]
    (policy,) = answer.headers.get_all("Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    return " ".join(main.get_text(" ").split())


def links_of(answer: TestResponse) -> dict[str, str]:
    """Return the next steps that an error page offers."""
    page = BeautifulSoup(answer.text, "html.parser")
    return {link.text: str(link["href"]) for link in page.select(".xs-panel .xs-row a.xs-button")}


def is_in_layout(answer: TestResponse) -> bool:
    page = BeautifulSoup(answer.text, "html.parser")
    return page.select_one(".navbar, .xs-side") is not None


@contextmanager
def failing(host: Host, error: Exception) -> Iterator[None]:
    """Make each statement fail."""

    def fail(*_: object) -> None:
        raise error

    with host.calling_before_statements(fail):
        yield


def outage() -> Exception:
    return sa.exc.OperationalError("statement", {}, Exception("the server went away"))


# --- Which cause it is ------------------------------------------------------------------------


def test_a_user_who_is_no_superuser_reads_why_and_can_sign_in_as_another(host: Host) -> None:
    bora = sign_in(host, host.add_user("bora"))

    answer = bora.get(SCREEN, headers=PAGE)
    korean = bora.get(SCREEN, headers=PAGE | {"X-Language": "ko"})

    assert answer.status_code == 403
    assert text_of(answer) == (
        "XGEN You may not open this page Only SuperUsers have access. You are signed in as bora. "
        "Ask an administrator for access, or sign in as another user. Sign in as another user"
    )
    assert links_of(answer) == {
        "Sign in as another user": (
            "/sign-in?next=%2Fadmin%2Fadmin-active-sessions%2F&prompt=login"
        )
    }
    assert not is_in_layout(answer)
    assert text_of(korean) == (
        "XGEN 이 페이지에 접근할 권한이 없습니다 슈퍼관리자만 접근할 수 있습니다. "
        "현재 bora 계정으로 로그인되어 있습니다. 관리자에게 권한을 요청하거나 다른 계정으로 "
        "로그인하세요. 다른 계정으로 로그인"
    )


def test_the_host_s_own_rule_is_another_cause(make_host: MakeHost, sqlite_url: str) -> None:
    host = host_in(make_host, sqlite_url, can_view=lambda user: user.department == "Help")
    admin = sign_in(host, host.add_user("admin", is_superuser=True))

    answer = admin.get(SCREEN, headers=PAGE)

    assert "Your account has no access. You are signed in as admin." in text_of(answer)
    by_script = admin.get(SCREEN, headers=SCRIPT)
    by_api = admin.get("/sessions/users")
    for each in (by_script, by_api):
        assert (each.status_code, each.mimetype) == (403, "application/problem+json")
        assert each.get_json()["detail"] == "Your account has no access."
        assert each.get_json()["code"] == "forbidden"


@pytest.mark.parametrize(
    ("may_act", "expected"),
    [
        (True, "Only a SuperUser may force out a SuperUser."),
        (False, "Your account may not force out users."),
    ],
)
def test_a_refused_force_logout_says_which_right_is_missing(
    make_host: MakeHost, sqlite_url: str, may_act: bool, expected: str
) -> None:
    allowed = {"now": True}
    host = host_in(
        make_host,
        sqlite_url,
        can_view=lambda user: True,
        can_force_logout=lambda user: allowed["now"],
    )
    helper = sign_in(host, host.add_user("helper"))
    root_id, bora_id = host.add_user("root", is_superuser=True), host.add_user("bora")
    host.issue(bora_id)
    form = form_for(page_of(helper), "bora")
    allowed["now"] = may_act
    target = root_id if may_act else bora_id

    answer = helper.post(FORCE_LOGOUT, data=form | {"user_id": target}, headers=PAGE)
    by_api = helper.post(f"/sessions/users/{target}/force-logout")

    assert answer.status_code == by_api.status_code == 403
    (notice,) = BeautifulSoup(answer.text, "html.parser").select(".xs-notice")
    assert notice.get_text().strip() == f"{expected} Nobody was signed out."
    assert by_api.get_json()["detail"] == expected
    assert host.rows("xgen_revocations") == []


@pytest.mark.parametrize(
    ("headers", "token", "expected"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, "own", "The request came from another site."),
        ({}, "", "The form was sent without its token."),
        ({}, "x" * 64, "The form belongs to another sign-in."),
    ],
)
def test_a_form_that_is_not_of_this_page_says_so(
    make_host: MakeHost, sqlite_url: str, headers: dict[str, str], token: str, expected: str
) -> None:
    """A Flask-Login session keeps the caller known in a request from another site."""
    host = host_in(make_host, sqlite_url)
    admin = sign_in(host, host.add_user("admin", is_superuser=True))
    bora = host.issue(host.add_user("bora"))
    form = form_for(page_of(admin), "bora")
    if token != "own":
        form["csrf_token"] = token

    answer = admin.post(FORCE_LOGOUT, data=form, headers=PAGE | headers)

    assert answer.status_code == 403
    assert text_of(answer).removeprefix("XGEN ") == (
        f"The request was refused {expected} Reload the page and try again. "
        "Back to Login Management"
    )
    assert host.status(bora) == 200


# --- The other statuses -----------------------------------------------------------------------


def test_an_address_below_the_screen_that_is_no_page(host: Host) -> None:
    admin = sign_in(host, host.add_user("admin", is_superuser=True))

    answer = admin.get(NOWHERE, headers=PAGE)
    korean = admin.get(NOWHERE, headers=PAGE | {"X-Language": "ko"})
    stranger = host.client().get(NOWHERE, headers=PAGE)
    by_script = admin.get(NOWHERE, headers=SCRIPT)

    assert answer.status_code == 404
    assert text_of(answer) == (
        "Page not found The address may be mistyped, or the page no longer exists. "
        "Back to Login Management"
    )
    assert is_in_layout(answer)
    assert text_of(korean) == (
        "페이지를 찾을 수 없습니다 주소가 잘못되었거나 더 이상 없는 페이지입니다. "
        "로그인 관리 화면으로 돌아가기"
    )
    assert "Page not found" in text_of(stranger)
    assert not is_in_layout(stranger)
    assert (by_script.status_code, by_script.mimetype) == (404, "application/problem+json")
    assert by_script.get_json()["title"] == "Not Found"


def test_the_host_s_own_addresses_keep_their_answers(host: Host) -> None:
    for path in ("/nowhere", "/admin/nowhere", "/admin/admin-active-sessionsx"):
        answer = host.client().get(path, headers=PAGE)
        assert answer.text.startswith("<!doctype html>\n<html lang=en>\n<title>404 Not Found")
        assert "Content-Security-Policy" not in answer.headers


def test_a_method_that_is_not_allowed(host: Host) -> None:
    admin = sign_in(host, host.add_user("admin", is_superuser=True))

    answer = admin.delete(SCREEN, headers=PAGE)

    assert answer.status_code == 405
    assert "This page cannot be opened directly" in text_of(answer)
    assert "GET" in answer.headers["Allow"]


def test_a_form_that_cannot_be_understood(host: Host) -> None:
    admin = sign_in(host, host.add_user("admin", is_superuser=True))
    form = form_for(page_of(admin), "admin") | {"user_id": "4711"}

    answer = admin.post(FORCE_LOGOUT, data=form, headers=PAGE)
    korean = admin.post(FORCE_LOGOUT, data=form, headers=PAGE | {"X-Language": "ko"})

    assert answer.status_code == 400
    assert "There is no such user. Reload the page and try again." in text_of(answer)
    assert "요청이 올바르지 않습니다 존재하지 않는 사용자입니다. 새로고침한 후" in text_of(korean)


@pytest.mark.parametrize("headers", [PAGE, SCRIPT], ids=["browser", "script"])
def test_a_body_that_is_too_large(
    make_host: MakeHost, sqlite_url: str, headers: dict[str, str]
) -> None:
    host = host_in(make_host, sqlite_url, MAX_CONTENT_LENGTH=1000)
    admin = sign_in(host, host.add_user("admin", is_superuser=True))

    answer = admin.post(FORCE_LOGOUT, data={"user_id": "1" * 2000}, headers=headers)

    assert answer.status_code == 413
    if headers is PAGE:
        assert "The request is too large Go back, and send less." in text_of(answer)
    else:
        assert answer.get_json()["status"] == 413


def failing_view(host: Host, error: Callable[[], Any]) -> None:
    """Make the list fail, as a fault of the host's own would."""
    endpoint = "admin-active-sessions.index"
    view: Any = getattr(host.app.view_functions[endpoint], "__self__", None)
    host.app.view_functions[endpoint] = lambda: view._handle_view("index") or error()


def test_too_many_requests_says_when_to_try_again(host: Host) -> None:
    admin = sign_in(host, host.add_user("admin", is_superuser=True))

    def limited() -> None:
        raise errors.RateLimited(retry_after_s=17)

    failing_view(host, limited)
    answer = admin.get(SCREEN, headers=PAGE)

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "17")
    assert text_of(answer) == (
        "Too many requests The request was not carried out. Try again in 17 seconds. Try again "
        "Back to Login Management"
    )


def test_a_conflict(host: Host) -> None:
    admin = sign_in(host, host.add_user("admin", is_superuser=True))
    failing_view(host, lambda: abort(409))

    answer = admin.get(SCREEN, headers=PAGE)

    assert "The page is out of date The data was changed in the meantime." in text_of(answer)


def test_a_fault_is_logged_and_tells_no_secret(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    admin = sign_in(host, host.add_user("admin", is_superuser=True))

    def fault() -> None:
        raise RuntimeError("s3cret")

    failing_view(host, fault)
    with caplog.at_level(logging.ERROR):
        answer = admin.get(SCREEN, headers=PAGE)
        by_script = admin.get(SCREEN, headers=SCRIPT)

    assert answer.status_code == 500
    assert text_of(answer).startswith("XGEN Something went wrong The error was logged.")
    assert "s3cret" not in answer.text
    assert "s3cret" in caplog.text
    assert links_of(answer)["Try again"] == SCREEN
    assert (by_script.status_code, by_script.mimetype) == (500, "application/problem+json")


def test_an_outage_needs_neither_the_database_nor_the_menu(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the host's language is in the database, and its menu asks for the user."""
    admin = sign_in(host, host.add_user("admin", is_superuser=True))

    with failing(host, outage()), caplog.at_level(logging.ERROR):
        answer = admin.get(SCREEN + "?q=1", headers=PAGE | {"X-Language": "ko"})
        by_script = admin.get(SCREEN, headers=SCRIPT)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert text_of(answer) == (
        "XGEN 지금은 사용할 수 없습니다 지금은 세션을 확인할 수 없습니다. 잠시 후 다시 시도하세요. "
        "다시 시도 로그인 관리 화면으로 돌아가기"
    )
    assert links_of(answer)["다시 시도"] == SCREEN + "?q=1"
    assert not is_in_layout(answer)
    assert "the server went away" in caplog.text
    assert "the server went away" not in answer.text
    assert (by_script.status_code, by_script.mimetype) == (503, "application/problem+json")


def test_a_language_in_the_database_is_english_in_an_outage(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host: Host

    def from_database() -> str:
        host.db.session.execute(sa.text("SELECT 1"))
        return "ko"

    def extras(app: Flask) -> Mapping[str, Any]:
        Babel(app, locale_selector=from_database)
        return {"admin": Admin(app, name="XGEN")}

    host = make_host(sqlite_url, extras=extras, PROPAGATE_EXCEPTIONS=False)
    admin = sign_in(host, host.add_user("admin", is_superuser=True))
    assert "로그인 관리" in page_of(admin).text

    with failing(host, outage()):
        answer = admin.get(SCREEN, headers=PAGE)

    assert answer.status_code == 503
    assert "Not available right now" in text_of(answer)


def test_a_change_that_may_have_been_made_offers_no_second_try(host: Host) -> None:
    admin = sign_in(host, host.add_user("admin", is_superuser=True))

    def unknown() -> None:
        raise errors.LedgerUnavailable(
            "The database went away during the commit. Check whether the change was made.",
            undone=False,
        )

    failing_view(host, unknown)
    answer = admin.get(SCREEN, headers=PAGE)

    assert "Check whether the change was made." in text_of(answer)
    assert "in a moment" not in answer.text


def test_without_a_sign_in_page_a_stranger_reads_that_it_needs_one(host: Host) -> None:
    host.login_manager.login_view = None

    answer = host.client().get(SCREEN, headers=PAGE)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert text_of(answer).removeprefix("XGEN ") == ("You are not signed in Sign in and try again.")


# --- The application's own handlers ------------------------------------------------------------


@pytest.mark.parametrize("kind", [403, HTTPException, Exception])
def test_the_application_s_own_handler_answers_as_before(
    make_host: MakeHost, sqlite_url: str, kind: Any
) -> None:
    host = host_in(make_host, sqlite_url)

    @host.app.errorhandler(kind)
    def own(error: Any) -> Any:
        return f"<h1>Ours: {error.code}</h1>", error.code

    bora = sign_in(host, host.add_user("bora"))

    answer = bora.get(SCREEN, headers=PAGE)

    assert (answer.status_code, answer.text) == (403, "<h1>Ours: 403</h1>")
    nowhere = bora.get(NOWHERE, headers=PAGE)
    assert ("Ours: 404" in nowhere.text) == (kind != 403)
    assert ("Page not found" in nowhere.text) == (kind == 403)


def test_a_handler_that_returns_the_error_gets_the_page(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host = host_in(make_host, sqlite_url)
    host.app.register_error_handler(HTTPException, lambda error: error)
    bora = sign_in(host, host.add_user("bora"))

    answer = bora.get(SCREEN, headers=PAGE)

    assert "Only SuperUsers have access." in text_of(answer)


def test_a_problem_document_of_the_application_stays(make_host: MakeHost, sqlite_url: str) -> None:
    host = host_in(make_host, sqlite_url)

    @host.app.errorhandler(403)
    def own(error: Any) -> Response:
        response = jsonify(ours=True)
        response.status_code = error.code
        response.content_type = "application/problem+json"
        return response

    answer = sign_in(host, host.add_user("bora")).get(SCREEN, headers=PAGE)

    assert answer.get_json() == {"ours": True}


# --- The texts ---------------------------------------------------------------------------------


def test_the_sentences_of_errors_are_known() -> None:
    shown: tuple[type[Any], ...] = (
        errors.CrossSiteRequest,
        errors.NotFound,
        *subclasses(errors.DatabaseUnavailable),
    )
    details = {kind().detail for kind in shown}
    details.add(errors.LedgerUnavailable(refused=True).detail)

    assert details == set(DETAILS)
    assert all(i18n.is_known(detail) for detail in details)


def subclasses(kind: type[Any]) -> list[type[Any]]:
    return [kind, *(each for child in kind.__subclasses__() for each in subclasses(child))]


# --- The standalone Admin Center ---------------------------------------------------------------


def test_in_the_admin_center_another_user_can_sign_in(center: Center) -> None:
    center.add_user("bora")
    browser = center.browser("bora")

    refused = browser.get(SCREEN, headers=PAGE)
    links = links_of(refused)
    form = browser.get(links["Sign in as another user"], headers=PAGE)
    missing = browser.get("/nowhere", headers=PAGE)

    assert "You are signed in as bora." in text_of(refused)
    assert links["To the start page"] == "/"
    assert form.status_code == 200
    assert 'name="password"' in form.text
    assert browser.get("/login?next=/", headers=PAGE).location == "/"
    assert "Page not found" in text_of(missing)
    assert links_of(missing) == {"To the start page": "/"}
