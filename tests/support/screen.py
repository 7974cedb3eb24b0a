"""The Login Management screen of a host application: its pages, rows and forms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bs4 import BeautifulSoup, Tag
from flask import Flask, request
from flask.testing import FlaskClient
from flask_admin import Admin
from flask_admin.theme import Bootstrap4Theme

from tests.support.hosts import Host

SCREEN = "/admin/admin-active-sessions/"


FORCE_LOGOUT = SCREEN + "force-logout"


IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/19.0 Mobile/15E148 Safari/604.1"
)


WINDOWS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/148.0.0.0 Safari/537.36"
)


def with_screen(app: Flask) -> Mapping[str, Any]:
    """Add Flask-Admin in the Admin Center layout, and Flask-Babel.

    The request header ``X-Language`` sets the language.
    """
    from flask_babel import Babel

    Babel(app, locale_selector=lambda: request.headers.get("X-Language", "en"))
    theme = Bootstrap4Theme(base_template="xgen_sessions/admin_center.html")
    return {"admin": Admin(app, name="XGEN", theme=theme)}


def sign_in(
    host: Host, user_id: str, *, agent: str = WINDOWS, ip: str = "198.51.100.7"
) -> FlaskClient:
    """Sign in and return the browser."""
    client = host.client()
    response = client.post(
        "/sign-in",
        data={"user_id": user_id},
        headers={"User-Agent": agent},
        environ_overrides={"REMOTE_ADDR": ip},
    )
    assert response.status_code == 200
    return client


def page_of(client: FlaskClient, url: str = SCREEN, **headers: str) -> BeautifulSoup:
    response = client.get(url, headers=headers)
    assert response.status_code == 200, response.text
    return parse(response.text)


def parse(text: str) -> BeautifulSoup:
    """Return a page without the places where a name may break."""
    return BeautifulSoup(text.replace("<wbr>", ""), "html.parser")


def cards(page: BeautifulSoup) -> dict[str, int]:
    return {
        card.dt.text: int(card.dd.text.replace(",", ""))
        for card in page.select(".xs-card")
        if card.dt is not None and card.dd is not None
    }


def rows(page: BeautifulSoup) -> list[list[str]]:
    """Return the texts of the table's seven columns; of a time, the absolute one."""
    found = []
    for row in page.select(".xs-table > tbody > tr:not(.xs-detail)"):
        cells = row.select("th, td:not(.xs-c-check)")
        for aside in row.select(".xs-ago, .xs-more"):
            aside.extract()
        found.append([" ".join(cell.get_text(" ").split()) for cell in cells])
    return found


def results(page: BeautifulSoup) -> dict[str, str]:
    """Return the result that a row shows in place of its buttons, by username."""
    return {
        str(row["data-xs-name"]): " ".join(result.get_text(" ").split())
        for row in page.select(".xs-user")
        if (result := row.select_one(".xs-result")) is not None
    }


def form_for(page: BeautifulSoup, username: str) -> dict[str, str]:
    """Return the form fields that the user's Force Logout button sends."""
    button = page.find("button", attrs={"aria-label": re.compile(rf" {username}$")})
    assert isinstance(button, Tag)
    form = button.find_parent("form")
    assert isinstance(form, Tag)
    sent = [*form.select("input[type=hidden]"), button]
    return {str(field["name"]): str(field["value"]) for field in sent}
