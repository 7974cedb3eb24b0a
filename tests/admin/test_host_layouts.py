"""Hosts with other themes, user ids, CSRF protection and languages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from flask import Flask
from flask_admin import Admin, BaseView, expose
from flask_admin.menu import MenuDivider, MenuLink
from flask_admin.theme import Bootstrap4Theme
from flask_babel import Babel
from flask_wtf.csrf import CSRFProtect

from tests.support.databases import MakeHost
from tests.support.hosts import Host, UuidUser, bearer
from tests.support.screen import FORCE_LOGOUT, SCREEN, form_for, page_of, results, rows, sign_in


def csrf_before_us(app: Flask) -> Mapping[str, Any]:
    """Set up Flask-Admin with its default theme, and CSRFProtect before the plugin."""
    _exempt_sign_in(app, CSRFProtect(app))
    return {"admin": Admin(app, name="Back office")}


def _exempt_sign_in(app: Flask, csrf: CSRFProtect) -> None:
    # The tests sign in without a CSRF token; every other view of the host stays protected.
    csrf._exempt_views.add("tests.support.hosts.sign_in")


@pytest.fixture
def plain_host(make_host: MakeHost, database_url: str) -> Host:
    return make_host(database_url, extras=csrf_before_us)


@pytest.fixture
def uuid_host(make_host: MakeHost, database_url: str) -> Host:
    def korean(app: Flask) -> Mapping[str, Any]:
        Babel(app, default_locale="ko")
        return {"admin": Admin(app, name="Xgen")}

    return make_host(database_url, model=UuidUser, extras=korean)


class _Page(BaseView):  # type: ignore[misc]
    """A view of the host, with a given visibility and accessibility."""

    def __init__(self, name: str, category: str, *, seen: bool = True, opened: bool = True) -> None:
        super().__init__(name, category=category, endpoint=name.lower())
        self.seen = seen
        self.opened = opened

    @expose("/")  # type: ignore[untyped-decorator]
    def index(self) -> str:
        return "in"

    def is_visible(self) -> bool:
        return self.seen

    def is_accessible(self) -> bool:
        return self.opened


class _Closed(MenuLink):  # type: ignore[misc]
    def is_accessible(self) -> bool:
        return False


class _Hidden(MenuLink):  # type: ignore[misc]
    def is_visible(self) -> bool:
        return False


@pytest.fixture
def menu_host(make_host: MakeHost, sqlite_url: str) -> Host:
    def with_menu(app: Flask) -> Mapping[str, Any]:
        theme = Bootstrap4Theme(base_template="xgen_sessions/admin_center.html")
        admin = Admin(app, name="Xgen", theme=theme)
        admin.add_category("Reports")
        for name, parent in {
            "Yearly": "Reports", "Old": "Yearly", "Mixed": "Reports", "Empty": "Reports",
        }.items():  # fmt: skip
            admin.add_sub_category(name, parent)
        admin.add_view(_Page("Sales", "Yearly"))
        admin.add_view(_Page("Archive", "Old"))
        admin.add_view(_Page("Closed", "Mixed", opened=False))
        admin.add_view(_Page("Hidden", "Mixed", seen=False))
        admin.add_menu_item(MenuDivider(), "Reports")
        admin.add_link(MenuLink("<Sign out>", url="/sign-out?all=1&now=1"))
        admin.add_link(MenuLink("Help", url="https://help.xgen.test/", target="_blank"))
        admin.add_link(_Closed("No entry", url="/closed"))
        admin.add_link(_Hidden("No sight", url="/hidden"))
        return {"admin": admin}

    return make_host(sqlite_url, extras=with_menu)


def test_links_and_sub_categories_of_the_host_are_in_the_menu(menu_host: Host) -> None:
    admin = sign_in(menu_host, menu_host.add_user("admin", is_superuser=True))

    page = page_of(admin)

    links = [(a.text, a["href"], a.get("target")) for a in page.select(".xs-foot .xs-item")]
    assert links == [
        ("<Sign out>", "/sign-out?all=1&now=1", None),
        ("Help", "https://help.xgen.test/", "_blank"),
    ]
    (reports,) = [each for each in page.select(".xs-group") if "Reports" in each.text]
    assert [each["aria-label"] for each in reports.select(".xs-sub")] == ["Yearly", "Old"]
    assert [a["href"] for a in reports.select("a")] == ["/admin/archive/", "/admin/sales/"]
    assert [a.text for a in reports.select(".xs-sub .xs-sub a")] == ["Archive"]


def test_default_theme_integer_ids_host_csrf_protection_no_babel(plain_host: Host) -> None:
    admin = sign_in(plain_host, plain_host.add_user("admin", is_superuser=True))
    bora = plain_host.issue(plain_host.add_user("bora"))

    page = page_of(admin)
    done = admin.post(FORCE_LOGOUT, data=form_for(page, "bora"))

    assert page.select_one("nav.navbar") is not None, "Flask-Admin's own layout"
    assert len(page.select("link[href$='xgen-sessions.css']")) == 1
    assert [row[0] for row in rows(page)] == ["bora", "admin SUPER you"]
    assert done.status_code == 303
    assert plain_host.status(bora) == 401
    assert results(page_of(admin, done.location)) == {"bora": "✓ Signed out 1 session"}


def test_csrf_protection_of_the_host_still_protects_its_views(plain_host: Host) -> None:
    admin = sign_in(plain_host, plain_host.add_user("admin", is_superuser=True))

    response = admin.post("/api/user")

    assert response.status_code == 400
    assert "CSRF" in response.text


def test_csrf_protection_does_not_block_the_json_api(plain_host: Host) -> None:
    admin_id = plain_host.add_user("admin", is_superuser=True)
    bora_id = plain_host.add_user("bora")
    plain_host.issue(bora_id)

    response = plain_host.client().post(
        f"/sessions/users/{bora_id}/force-logout", headers=bearer(plain_host.issue(admin_id))
    )

    assert response.get_json()["sessions_ended"] == 1


def test_csrf_protection_set_up_after_the_plugin(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url, extras=lambda app: {"admin": Admin(app)})
    _exempt_sign_in(host.app, CSRFProtect(host.app))
    admin = sign_in(host, host.add_user("admin", is_superuser=True))
    bora = host.issue(host.add_user("bora"))

    done = admin.post(FORCE_LOGOUT, data=form_for(page_of(admin), "bora"))

    assert done.status_code == 303
    assert host.status(bora) == 401


def test_csrf_protection_set_up_first_and_flask_admin_last(
    make_host: MakeHost, database_url: str
) -> None:
    made = Admin(name="Back office")

    def csrf_first(app: Flask) -> Mapping[str, Any]:
        _exempt_sign_in(app, CSRFProtect(app))
        return {"admin": made}

    host = make_host(database_url, extras=csrf_first)
    made.init_app(host.app)
    admin = sign_in(host, host.add_user("admin", is_superuser=True))
    bora = host.issue(host.add_user("bora"))

    done = admin.post(FORCE_LOGOUT, data=form_for(page_of(admin), "bora"))

    assert done.status_code == 303
    assert host.status(bora) == 401


def test_uuid_ids_and_korean_through_flask_babel(uuid_host: Host) -> None:
    admin = sign_in(uuid_host, uuid_host.add_user("admin", is_superuser=True))
    bora_id = uuid_host.add_user("bora", display_name="임보라", department="연구소")
    bora = uuid_host.issue(bora_id)

    page = page_of(admin)
    done = admin.post(FORCE_LOGOUT, data=form_for(page, "bora"))

    headings = [th.text for th in page.select(".xs-table > thead th")]
    assert headings[0] == "사용자"
    assert rows(page)[0][:4] == ["bora", "임보라", "연구소", "1"]
    assert uuid_host.status(bora) == 401
    assert results(page_of(admin, done.location)) == {"bora": "✓ 로그아웃됨 세션 1개"}
    menu = BeautifulSoup(admin.get(SCREEN).text, "html.parser").select_one("nav.navbar")
    assert menu is not None
    assert "사용자 / 접근제어" in menu.text


def test_flask_babel_installed_but_not_set_up_is_english(plain_host: Host) -> None:
    admin = sign_in(plain_host, plain_host.add_user("admin", is_superuser=True))

    page = page_of(admin, **{"Accept-Language": "ko"})

    assert page.h1 is not None
    assert page.h1.text == "Login Management"


def test_flask_babel_not_installed(sqlite_url: str) -> None:
    # In a separate process: Flask-Admin looks for Flask-Babel at its import.
    program = Path(__file__).parents[1] / "support" / "host_without_babel.py"

    run = subprocess.run(
        [sys.executable, "-W", "error", program, sqlite_url],
        capture_output=True, text=True, timeout=60, cwd=program.parents[2],
    )  # fmt: skip

    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["200", "Login", "Management", "303", "401"]


def test_flask_admin_without_a_login_manager_stops_the_start(sqlite_url: str) -> None:
    from flask_sqlalchemy import SQLAlchemy

    from tests.support.hosts import SECRET, User
    from xgen_flask_sessions import ConfigurationError, XgenSessions

    app = Flask("host")
    app.config.update(SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI=sqlite_url)
    db = SQLAlchemy(app)

    with pytest.raises(ConfigurationError, match="login_manager"):
        XgenSessions().init_app(app, db=db, user_model=User, admin=Admin(app))
