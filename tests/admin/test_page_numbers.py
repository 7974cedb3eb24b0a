"""Invalid and hostile query values: page numbers, ids and searches."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient

from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from tests.support.screen import SCREEN, sign_in, with_screen
from tests.support.standalone import PAGE, Center
from xgen_flask_sessions.roster.roster import PAGE_SIZE

pytestmark = pytest.mark.slow

FIRST = [
    "", "0", "-1", "-0", "+1", "1", "01", "1.0", "1.5", "1e3", "0x10", "abc", " 2", "2 ", "2\n",
    "\N{FULLWIDTH DIGIT TWO}", "\N{ARABIC-INDIC DIGIT TWO}", "\N{SUPERSCRIPT TWO}", "NaN", "inf",
    "-99999999999999999999", "None", "null", "[]", "2,1", "1_0", "\x00", "\ud800", "'; DROP TABLE",
]  # fmt: skip
"""Page numbers for which the screen shows the first page."""
FEW = ["", "0", "1", "1.5", "-99999999999999999999", "\x00", "\ud800", "'; DROP TABLE"]
"""The values of ``FIRST`` that are tested on PostgreSQL and MariaDB, too."""
LAST = ["2", "02", "3", "999999999", "1000000000", "2147483648", "9223372036854775808", "9" * 5000]
"""Page numbers for which the screen shows the last of two pages."""
HOSTILE = [
    "", "\x00", "*", "%", "_", "\\", "'", "';--", '"><script>alert(1)</script>', "{{7*7}}",
    "\u202e", "\ufeff", "\ud800", "-1", "0", "1.5", "9" * 400, "x" * 5000, "../../etc/passwd",
    "\N{FULLWIDTH DIGIT ONE}", "\N{PILE OF POO}", "a\r\nSet-Cookie: x=y", "[]", "$ne", "%00",
]  # fmt: skip


def query(name: str, *values: str) -> str:
    """Return a query string with each value of *name*, lone surrogates included."""
    from urllib.parse import quote

    return "&".join(f"{name}={quote(value, errors='surrogatepass')}" for value in values)


@pytest.fixture
def two_pages(make_host: MakeHost, database_url: str) -> Host:
    """Return a host with one more user than fit on a page; the oldest is an administrator."""
    host = make_host(database_url, extras=with_screen)
    host.issue(host.add_user("admin", is_superuser=True))
    with host.app.app_context():
        users = [host.model(username=f"user{n}") for n in range(PAGE_SIZE)]
        host.db.session.add_all(users)
        host.db.session.commit()
        for user in users:
            host.sessions.issue(user, commit=False)
        host.db.session.commit()
    return host


def count_rows(client: FlaskClient, url: str) -> int:
    """Return the number of rows of the page's table, without parsing the whole page."""
    response = client.get(url)
    assert response.status_code == 200, response.text
    _, _, body = response.text.partition("<tbody")
    return len(re.findall(r'<tr (?![^>]*class="xs-detail")', body))


def test_the_screen_shows_a_page_for_any_page_number(two_pages: Host) -> None:
    host = two_pages
    admin = sign_in(host, "1")
    host.issue(host.add_user("one more"))  # two users more than fit on a page

    for text in FIRST if host.dialect == "sqlite" else FEW:
        assert count_rows(admin, f"{SCREEN}?{query('page', text)}") == PAGE_SIZE, text
    for text in LAST if host.dialect == "sqlite" else LAST[::3]:
        assert count_rows(admin, f"{SCREEN}?{query('page', text)}") == 2, text
    assert count_rows(admin, f"{SCREEN}?{query('page', '2', '1')}") == 2
    assert count_rows(admin, f"{SCREEN}?{query('page', '1', '2')}") == PAGE_SIZE


def test_the_api_refuses_invalid_page_numbers(two_pages: Host) -> None:
    host = two_pages
    headers = bearer(host.issue("1"))
    client = host.client()

    for text in FIRST:
        answer = client.get(f"/sessions/users?{query('page', text)}", headers=headers)
        assert answer.status_code == (200 if text in ("1", "01") else 400), text
    for text in LAST:
        answer = client.get(f"/sessions/users?{query('page', text)}", headers=headers)
        assert answer.status_code == (200 if len(text) < 10 else 400), text
        if answer.status_code == 200:
            assert len(answer.get_json()["users"]) == (1 if int(text) == 2 else 0)
    answer = client.get(f"/sessions/users?{query('page', '2', 'x')}", headers=headers)
    assert answer.status_code == 400  # given twice


def test_the_command_shows_a_page_or_refuses_an_invalid_number(two_pages: Host) -> None:
    runner = two_pages.app.test_cli_runner()

    def run(text: str) -> tuple[int, str]:
        done = runner.invoke(args=["xgen-sessions", "list", "--page", text])
        return done.exit_code, done.output

    for text in ("2", "3", "999999999"):
        code, output = run(text)
        assert code == 0
        assert "Page 2 of 2" in output
    for text in ("0", "-1", "x", "", "1.5", "9" * 10, "9" * 30, "9" * 5000):
        assert run(text)[0] == 2, text


@pytest.fixture
def many_users(center: Center) -> Center:
    for number in range(PAGE_SIZE):
        center.add_user(f"user{number:02}")
    return center


def test_user_management_shows_a_page_for_any_page_number(
    many_users: Center, database_url: str
) -> None:
    admin = many_users.browser("admin")
    url = "/admin/admin-users/"

    for text in FIRST if database_url.startswith("sqlite") else FEW:
        assert count_rows(admin, f"{url}?{query('page', text)}") == PAGE_SIZE, text
    for text in LAST if database_url.startswith("sqlite") else LAST[::3]:
        assert count_rows(admin, f"{url}?{query('page', text)}") == 1, text
    for text in HOSTILE if database_url.startswith("sqlite") else HOSTILE[::3]:
        assert admin.get(f"{url}?{query('q', text)}&page=2").status_code == 200, text
    assert admin.get(f"{url}?{query('q', 'x', 'y')}").status_code == 200
    for user_id in ("0", "-1", "2147483647", "2147483648", "9" * 30, "1.5", "x"):
        assert admin.get(f"{url}{user_id}", headers=PAGE).status_code == 404, user_id


@pytest.mark.parametrize("confirm", [True, False])
def test_the_screen_answers_hostile_queries_normally(
    make_host: MakeHost, database_url: str, confirm: bool
) -> None:
    host = make_host(database_url, extras=with_screen, XGEN_SESSIONS_CONFIRM_FORCE_LOGOUT=confirm)
    admin = sign_in(host, host.add_user("admin", is_superuser=True))

    is_sqlite = host.dialect == "sqlite"
    for text in HOSTILE if is_sqlite else HOSTILE[::3]:
        for path in (
            f"?{query('expand', text)}",
            f"?{query('expand', text, text)}",
            f"?{query('kept', text)}",
            f"sessions?{query('user_id', text)}",
            f"confirm?{query('user_id', text)}&{query('page', text)}",
            f"force-logout?{query('user_id', text)}&{query('lang', text)}",
        ):
            answer = admin.get(SCREEN + path)
            is_unknown = path.startswith("confirm?")
            assert answer.status_code in ((404,) if is_unknown else (200, 303)), path
            assert "<script>alert" not in answer.text
            assert "Set-Cookie" not in answer.headers
    for text in FIRST + LAST if is_sqlite else FEW:
        answer = admin.get(f"{SCREEN}confirm?user_id=1&{query('page', text)}")
        assert answer.status_code == 200, text
        (number,) = re.findall(r'<input [^>]*name="page" value="([^"]*)"', answer.text)
        assert number.isdigit()
        assert len(number) < 10
