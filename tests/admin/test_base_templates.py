"""Base templates of hosts that lack blocks of Flask-Admin's: the screen is whole in each."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest
from bs4 import BeautifulSoup
from flask import Flask
from flask_admin import Admin
from flask_admin.theme import Bootstrap4Theme
from jinja2 import ChoiceLoader, DictLoader

from tests.support.databases import MakeHost
from tests.support.hosts import Host
from tests.support.screen import FORCE_LOGOUT, SCREEN, form_for, page_of, results, rows, sign_in

BASES = {
    "only the body": "<html><body><nav>Ours</nav>{% block body %}{% endblock %}</body></html>",
    "no extra_css": (
        "<html><head>{% block head_css %}<link rel=stylesheet href=/own.css>{% endblock %}</head>"
        "<body><nav>Ours</nav>{% block page_title %}{% endblock %}{% block body %}{% endblock %}"
        "{% block tail %}{% endblock %}</body></html>"
    ),
    "extra_css alone": (
        "<html><head>{% for url in admin_view.extra_css %}<link rel=stylesheet href={{ url }}>"
        "{% endfor %}</head><body><nav>Ours</nav>{% block body %}{% endblock %}</body></html>"
    ),
    "extended": (
        "{% extends 'admin/base.html' %}{% block head_css %}{% endblock %}"
        "{% block page_body %}<nav>Ours</nav><main>{% block body %}{% endblock %}</main>"
        "{% endblock %}"
    ),
    "heading last": (
        "<body>{% block body %}{% endblock %}<nav>Ours</nav>{% block page_title %}{% endblock %}"
        "</body>"
    ),
    "own heading": (
        "{% extends 'admin/base.html' %}{% block brand %}Ours{% endblock %}"
        "{% block page_title %}<h2>Another</h2>{% endblock %}"
    ),
    "messages and tail": (
        "{% extends 'admin/base.html' %}{% block brand %}Ours{% endblock %}"
        "{% block tail_js %}{% endblock %}{% block tail %}<i>tail</i>{% endblock %}"
    ),
}
NO_BODY = "<html><body><nav>Ours</nav>{% block main %}{% endblock %}</body></html>"


def with_base(make_host: MakeHost, url: str, source: str, **config: Any) -> Host:
    def extras(app: Flask) -> Mapping[str, Any]:
        loader = app.jinja_env.loader
        assert loader is not None
        app.jinja_env.loader = ChoiceLoader([DictLoader({"ours.html": source}), loader])
        return {"admin": Admin(app, theme=Bootstrap4Theme(base_template="ours.html"))}

    return make_host(url, extras=extras, **config)


def assert_is_whole(page: BeautifulSoup, heading: str) -> None:
    """Check that each part is there once, and that no part comes before its style."""
    assert [each.text for each in page.select("h1")] == [heading]
    text = str(page)
    assert text.count("/xgen-sessions.css") == 1
    assert text.count("/session-guard.js") == 1
    places = ["/xgen-sessions.css", "<h1>", 'class="xs-main"']
    assert sorted(places, key=text.index) == places


@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
def test_the_screen_is_whole(make_host: MakeHost, sqlite_url: str, base: str) -> None:
    host = with_base(make_host, sqlite_url, base)
    admin = sign_in(host, host.add_user("admin", is_superuser=True))
    bora = host.issue(host.add_user("bora"))

    page = page_of(admin)

    assert_is_whole(page, "Login Management")
    assert "List of users currently signed in." in page.text
    assert "Ours" in page.text
    assert str(page).count("/login-management.js") == 1
    assert [row[0] for row in rows(page)] == ["bora", "admin SUPER you"]
    done = admin.post(FORCE_LOGOUT, data=form_for(page, "bora"))
    assert host.status(bora) == 401
    assert results(page_of(admin, done.location)) == {"bora": "✓ Signed out 1 session"}


@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
def test_the_confirmation_is_whole(make_host: MakeHost, sqlite_url: str, base: str) -> None:
    host = with_base(make_host, sqlite_url, base, XGEN_SESSIONS_CONFIRM_FORCE_LOGOUT=True)
    admin = sign_in(host, host.add_user("admin", is_superuser=True))

    assert_is_whole(page_of(admin, f"{SCREEN}confirm?user_id=1"), "Force Logout")


def test_without_a_body_the_plugins_layout_is_shown_and_the_log_says_so(
    make_host: MakeHost, sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    host = with_base(make_host, sqlite_url, NO_BODY)
    admin = sign_in(host, host.add_user("admin", is_superuser=True))

    with caplog.at_level(logging.WARNING):
        page = page_of(admin)

    assert_is_whole(page, "Login Management")
    assert "Ours" not in page.text
    assert "no block 'body'" in caplog.text


def test_a_part_of_a_page_needs_no_layout(make_host: MakeHost, sqlite_url: str) -> None:
    host = with_base(make_host, sqlite_url, NO_BODY)
    admin = sign_in(host, host.add_user("admin", is_superuser=True))

    part = page_of(admin, f"{SCREEN}sessions?user_id=1")

    assert part.find("table") is not None
    assert part.find("h1") is None
