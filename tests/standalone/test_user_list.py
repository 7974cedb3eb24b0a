"""The list of User Management: its filters, their faults, and its order over several pages."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup
from flask.testing import FlaskClient
from freezegun import freeze_time

from tests.support.standalone import PAGE, Center
from xgen_flask_sessions.standalone import user_list
from xgen_flask_sessions.standalone.extensions import sessions
from xgen_flask_sessions.standalone.user_list import STATUS_FAULT, SUPERUSER_FAULT

URL = "/admin/admin-users/"


@pytest.fixture
def people(center: Center) -> Center:
    """Return an Admin Center with a few users, beside ``admin``; ``bora`` has two sessions."""
    center.add_user("bora", name="Bora", department="Sales", roles="editor, viewer")
    center.add_user("chan", name="Alba", department="HR", roles="viewer", superuser=True)
    center.add_user("dana", name=" ", department="Audit")
    center.change_user("dana", is_active=False)
    for hour, username in enumerate(("bora", "chan", "bora"), start=1):
        user_id = str(center.user(username)["id"])
        with freeze_time(f"2026-01-01T0{hour}:00:00", real_asyncio=True), center.app.app_context():
            sessions.issue(user_id)
    return center


def shown(browser: FlaskClient, **query: str) -> BeautifulSoup:
    page = browser.get(URL, query_string=query, headers=PAGE)
    assert page.status_code == 200
    return BeautifulSoup(page.text, "html.parser")


def usernames(page: BeautifulSoup) -> list[str]:
    return [each.text for each in page.select(".xs-username")]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["admin", "bora", "chan", "dana"]),
        ({"status": "active"}, ["admin", "bora", "chan"]),
        ({"status": "inactive"}, ["dana"]),
        ({"superuser": "true"}, ["admin", "chan"]),
        ({"superuser": "1"}, ["admin", "chan"]),
        ({"role": "viewer"}, ["bora", "chan"]),
        ({"role": "view"}, []),
        ({"role": "\x00"}, []),
        ({"role": "x" * 1000}, []),
        ({"role": "viewer", "superuser": "true", "status": "active"}, ["chan"]),
        ({"q": "sales", "role": "viewer"}, ["bora"]),
        ({"q": "sales", "superuser": "true"}, []),
    ],
)
def test_filters_leave_out_the_other_users(
    people: Center, query: dict[str, str], found: list[str]
) -> None:
    page = shown(people.browser("admin"), **query)

    assert usernames(page) == found
    clear = page.find("a", string="Clear filters")
    assert (clear is not None) == bool(query)
    if not found:
        assert "No user matches" in page.text


def test_the_bar_shows_the_filters_and_keeps_the_order(people: Center) -> None:
    page = shown(
        people.browser("admin"),
        status="inactive",
        role="gone",
        superuser="true",
        sort="name",
        order="desc",
    )

    assert {
        str(each["name"]): str(each.select("option[selected]")[0]["value"])
        for each in page.select(".xa-filters select")
    } == {"status": "inactive", "role": "gone", "sort": "name", "order": "desc"}
    assert page.select_one("input[name=superuser][checked]")
    columns = [str(each["value"]) for each in page.select("select[name=sort] > option")]
    assert columns == list(user_list.COLUMNS)
    clear = page.find("a", string="Clear filters")
    assert clear is not None
    assert clear["href"] == f"{URL}?sort=name&order=desc"


@pytest.mark.parametrize(
    ("query", "faults"),
    [
        ({"status": "gone"}, [STATUS_FAULT]),
        ({"superuser": "yes"}, [SUPERUSER_FAULT]),
        ({"status": "Active", "superuser": "0"}, [STATUS_FAULT, SUPERUSER_FAULT]),
    ],
)
def test_a_faulty_filter_is_said_and_shows_no_users(
    people: Center, query: dict[str, str], faults: list[str]
) -> None:
    page = shown(people.browser("admin"), **query, q="bora")

    (alert,) = page.select("[role=alert]")
    assert alert.text.split(" Clear filters")[0] == " ".join(faults)
    assert usernames(page) == []
    assert page.select("table") == []


@pytest.mark.parametrize(
    ("sort", "order", "found"),
    [
        ("username", "asc", ["admin", "bora", "chan", "dana"]),
        ("username", "desc", ["dana", "chan", "bora", "admin"]),
        ("name", "asc", ["chan", "bora", "admin", "dana"]),
        ("name", "desc", ["bora", "chan", "dana", "admin"]),
        ("department", "asc", ["dana", "chan", "bora", "admin"]),
        ("department", "desc", ["bora", "chan", "dana", "admin"]),
        ("status", "asc", ["admin", "bora", "chan", "dana"]),
        ("status", "desc", ["dana", "chan", "bora", "admin"]),
        ("active_sessions", "desc", ["bora", "chan", "dana", "admin"]),
        ("active_sessions", "asc", ["admin", "dana", "chan", "bora"]),
        ("last_login", "desc", ["bora", "chan"]),
        ("last_login", "asc", ["chan", "bora"]),
        ("nonsense", "asc", ["admin", "bora", "chan", "dana"]),
        ("username", "sideways", ["admin", "bora", "chan", "dana"]),
    ],
)
def test_sorts_by_each_heading_on_every_page(
    people: Center, monkeypatch: pytest.MonkeyPatch, sort: str, order: str, found: list[str]
) -> None:
    monkeypatch.setattr(user_list, "PAGE_SIZE", 1)
    with freeze_time("2026-01-01T03:30:00", real_asyncio=True), people.app.app_context():
        listing, faults = user_list.parse_user_listing({"sort": sort, "order": order})
        pages = [user_list.find_page(listing, number) for number in range(1, 6)]

    assert faults == []
    listed = [row.user.username for page in pages[:4] for row in page.rows]
    assert sorted(listed) == ["admin", "bora", "chan", "dana"]
    if sort == "last_login":  # users who never signed in come last, in both orders
        assert listed[:2] == found
    else:
        assert listed == found
    assert (pages[4].number, pages[4].rows) == (4, pages[3].rows)


def test_a_heading_links_to_its_order_and_reverses_it(people: Center) -> None:
    browser = people.browser("admin")

    page = shown(browser, sort="active_sessions", order="desc", status="active")

    (current,) = page.select("th[aria-sort]")
    link = current.select_one("a")
    assert link is not None
    assert (current.text.strip(), current["aria-sort"]) == ("Active Sessions", "descending")
    assert link["href"] == f"{URL}?status=active&sort=active_sessions&order=asc"
    other = page.find("a", string="Last Login")
    assert other is not None
    assert other["href"] == f"{URL}?status=active&sort=last_login&order=desc"


def test_a_listing_is_the_same_after_a_round_trip() -> None:
    for query in (
        {},
        {"q": "bora", "role": "editor", "status": "inactive", "superuser": "true"},
        {"sort": "active_sessions", "order": "desc"},
        {"sort": "username", "order": "desc"},
    ):
        listing, faults = user_list.parse_user_listing(query)

        assert (listing.query(), faults) == (query, [])
