"""``next``: only to a path on this site, whatever is written there."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest

from tests.conftest import on_sqlite
from tests.hosts import Host
from tests.standalone import PAGE, Center, MakeCenter, sign_in
from xgen_flask_sessions.web.problems import sign_in_url
from xgen_flask_sessions.web.same_site import MAX_PATH, is_local_path

ELSEWHERE = [
    "",
    "evil.example",
    "//evil.example",
    "///evil.example",
    "////evil.example",
    "//evil.example/..",
    "//evil.example@localhost/",
    "//localhost@evil.example/",
    "//user:password@evil.example/",
    "/\\evil.example",
    "\\/evil.example",
    "\\\\evil.example",
    "/\\/evil.example",
    "/path\\..\\..\\evil",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r\n/evil.example",
    "\t//evil.example",
    " //evil.example",
    "\x00//evil.example",
    "/\x00/evil.example",
    "/\x7f/evil.example",
    "/a\r\nSet-Cookie: x=y",
    "/a\u2028b",
    "/a\u202eb",
    "/a\u200bb",
    "/\ud800",
    "/.//evil.example",
    "/..//evil.example",
    "/../../evil",
    "/./evil",
    "/a/..",
    "/a/../..//evil.example",
    "/%2e%2e//evil.example",
    "/%2E//evil.example",
    "/.%2e//evil.example",
    "http:/evil.example",
    "http:evil.example",
    "http:///evil.example",
    "https://evil.example",
    "HTTPS://EVIL.EXAMPLE",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\nscript:alert(1)",
    "data:text/html,x",
    "vbscript:x",
    "blob:http://localhost/x",
    "\N{FULLWIDTH SOLIDUS}\N{FULLWIDTH SOLIDUS}evil.example",
    "@evil.example",
    "?next=x",
    "#x",
    "/" + "x" * MAX_PATH,
    "/" + "\N{HANGUL SYLLABLE GA}" * MAX_PATH,
]
HERE = [
    "/",
    "/admin/admin-active-sessions/?page=2&expand=7",
    "/a//b",
    "/a b",
    "/@evil.example",
    "/:80@evil.example",
    "/%09//evil.example",
    "/%2f/evil.example",
    "/%5cevil.example",
    "/\N{FULLWIDTH SOLIDUS}evil.example",
    "/\N{IDEOGRAPHIC FULL STOP}\N{IDEOGRAPHIC FULL STOP}/x",
    "/...",
    "/.well-known/x",
    "/a..b/",
    "/x?to=//evil.example",
    "/x?to=/../y",
    "/x#//evil.example",
    "/javascript:alert(1)",
    "/;//evil.example",
    "/직원/목록",
]


@pytest.mark.parametrize("target", ELSEWHERE)
def test_another_place_is_refused(target: str) -> None:
    assert not is_local_path(target)


@pytest.mark.parametrize("target", HERE)
def test_a_path_here_is_taken(target: str) -> None:
    assert is_local_path(target)
    assert urlsplit(urljoin("http://localhost/login", target)).netloc == "localhost"


@on_sqlite
def test_the_form_the_page_and_who_is_signed_in_already_stay_here(make: MakeCenter) -> None:
    center = make(XGEN_SESSIONS_SIGN_IN_LIMIT=None)
    admin = center.browser("admin")
    for target in ELSEWHERE:
        if "\ud800" in target:
            continue  # no address holds it
        query = {"next": target}

        page = center.browser().get("/login", query_string=query, headers=PAGE)
        sent = sign_in(center.browser(), "admin", next=target)
        in_address = center.browser().post(
            "/login", query_string=query, data={"username": "admin", "password": "x"}, headers=PAGE
        )
        already = admin.get("/login", query_string=query, headers=PAGE)

        assert 'name="next" value="/"' in page.text, target
        assert 'name="next" value="/"' in in_address.text, target
        assert (sent.status_code, sent.location) == (303, "/"), target
        assert (already.status_code, already.location) == (302, "/"), target


def test_a_path_here_is_gone_to(center: Center) -> None:
    for target in ("/admin/admin-users/?q=b&page=2", "/a b?c=d#e", "/직원"):
        answer = sign_in(center.browser(), "admin", next=target)
        assert urlsplit(answer.location).netloc == ""
        assert answer.location.startswith("/")
    assert sign_in(center.browser(), "admin", next="/x?y=/z").location == "/x?y=/z"


@pytest.mark.parametrize("target", ELSEWHERE)
def test_the_way_to_the_sign_in_page_names_no_other_place(sqlite_host: Host, target: str) -> None:
    with sqlite_host.app.test_request_context():
        assert sign_in_url(target) == "/sign-in"
        assert sign_in_url("/x?y=1") == "/sign-in?next=%2Fx%3Fy%3D1"


def test_an_address_that_is_not_to_be_come_back_to_is_left_out(sqlite_host: Host) -> None:
    answer = sqlite_host.client().get("/page", query_string="x" * 5000, headers=PAGE)

    assert (answer.status_code, answer.location) == (302, "/sign-in")
