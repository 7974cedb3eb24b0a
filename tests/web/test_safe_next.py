"""The parameter ``next``: only a path on this site is accepted."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest

from tests.support.databases import on_sqlite
from tests.support.hosts import Host
from tests.support.paths import ELSEWHERE, HERE
from tests.support.standalone import PAGE, Center, MakeCenter, sign_in
from xgen_flask_sessions.web.problems import sign_in_url
from xgen_flask_sessions.web.same_site import is_local_path


@pytest.mark.parametrize("target", ELSEWHERE)
def test_an_address_outside_this_site_is_refused(target: str) -> None:
    assert not is_local_path(target)


@pytest.mark.parametrize("target", HERE)
def test_a_path_on_this_site_is_accepted(target: str) -> None:
    assert is_local_path(target)
    assert urlsplit(urljoin("http://localhost/login", target)).netloc == "localhost"


@on_sqlite
def test_the_sign_in_page_never_leads_to_another_site(make: MakeCenter) -> None:
    center = make(XGEN_SESSIONS_SIGN_IN_LIMIT=None)
    admin = center.browser("admin")
    for target in ELSEWHERE:
        if "\ud800" in target:
            continue  # a URL cannot contain a surrogate
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


def test_the_sign_in_page_leads_to_a_path_on_this_site(center: Center) -> None:
    for target in ("/admin/admin-users/?q=b&page=2", "/a b?c=d#e", "/직원"):
        answer = sign_in(center.browser(), "admin", next=target)
        assert urlsplit(answer.location).netloc == ""
        assert answer.location.startswith("/")
    assert sign_in(center.browser(), "admin", next="/x?y=/z").location == "/x?y=/z"


@pytest.mark.parametrize("target", ELSEWHERE)
def test_the_sign_in_url_has_no_next_to_another_site(sqlite_host: Host, target: str) -> None:
    with sqlite_host.app.test_request_context():
        assert sign_in_url(target) == "/sign-in"
        assert sign_in_url("/x?y=1") == "/sign-in?next=%2Fx%3Fy%3D1"


def test_the_sign_in_url_has_no_next_to_a_path_that_is_too_long(sqlite_host: Host) -> None:
    answer = sqlite_host.client().get("/api/token", query_string="x" * 5000, headers=PAGE)

    assert (answer.status_code, answer.location) == (302, "/sign-in")
