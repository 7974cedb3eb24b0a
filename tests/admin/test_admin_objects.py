"""One ``Admin`` object for several applications: module-level extensions and a factory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask
from flask_admin import Admin, AdminIndexView, BaseView, expose
from flask_babel import Babel
from flask_login import LoginManager
from flask_wtf.csrf import CSRFProtect

from tests.support.databases import MakeHost
from tests.support.hosts import Host
from tests.support.screen import FORCE_LOGOUT, SCREEN, form_for, page_of, rows, sign_in
from xgen_flask_sessions import ConfigurationError

SetUp = Callable[[Admin, Flask], None]


class Report(BaseView):  # type: ignore[misc]
    """A view of the host, at module level too."""

    @expose("/")  # type: ignore[untyped-decorator]
    def index(self) -> str:
        page: str = self.render("admin/index.html")
        return page


def url(folder: Path, name: str) -> str:
    return f"sqlite:///{folder / name}.db"


def assert_works(host: Host) -> None:
    """Force a user out by the screen."""
    admin = sign_in(host, host.add_user("admin", is_superuser=True))
    bora = host.issue(host.add_user("bora"))
    page = page_of(admin)
    assert [row[0] for row in rows(page)] == ["bora", "admin SUPER you"]
    assert admin.post(FORCE_LOGOUT, data=form_for(page, "bora")).status_code == 303
    assert host.status(bora) == 401
    assert len(page.select("nav a[href$='/admin-active-sessions/']")) == 1
    assert admin.get("/admin/report/").status_code == 200


@pytest.mark.parametrize("before", [True, False], ids=["admin-first", "sessions-first"])
@pytest.mark.parametrize("at_once", [True, False], ids=["at-once", "one-after-another"])
def test_module_level_admin_serves_each_application_of_a_factory(
    make_host: MakeHost, tmp_path: Path, before: bool, at_once: bool
) -> None:
    admin, login_manager = Admin(name="Back office"), LoginManager()
    admin.add_view(Report())

    def extras(app: Flask) -> dict[str, Any]:
        if before:
            admin.init_app(app)
        return {"admin": admin}

    def create_app(name: str) -> Host:
        host = make_host(url(tmp_path, name), extras=extras, login_manager=login_manager)
        if not before:
            admin.init_app(host.app)
        return host

    hosts = []
    for name in ("one", "two", "three"):
        hosts.append(create_app(name))
        if not at_once:
            assert_works(hosts[-1])
    for host in hosts if at_once else []:
        assert_works(host)


def test_admin_is_set_up_on_both_applications_before_the_sessions(
    make_host: MakeHost, tmp_path: Path
) -> None:
    admin = Admin()
    admin.add_view(Report())
    later = []

    def first(app: Flask) -> dict[str, Any]:
        admin.init_app(app)
        second = make_host(
            url(tmp_path, "two"),
            extras=lambda inner: admin.init_app(inner) or {"admin": admin},
        )
        later.append(second)
        return {"admin": admin}

    host = make_host(url(tmp_path, "one"), extras=first)

    assert_works(host)
    assert_works(later[0])


def test_an_application_without_the_plugin_shows_the_admins_other_pages(
    make_host: MakeHost, sqlite_url: str
) -> None:
    admin, login_manager = Admin(), LoginManager()
    admin.add_view(Report())
    make_host(
        sqlite_url, extras=lambda app: admin.init_app(app) or {"admin": admin},
        login_manager=login_manager,
    )  # fmt: skip
    plain = Flask("plain")
    plain.secret_key = "x" * 32
    LoginManager(plain).user_loader(lambda _: None)
    Babel(plain)  # installed, so Flask-Admin needs it
    admin.init_app(plain)

    page = plain.test_client().get("/admin/report/")

    assert page.status_code == 200
    assert "Login Management" not in page.text
    assert plain.test_client().get(SCREEN).status_code == 404


def test_a_list_of_views_that_the_host_emptied_gets_a_new_view(
    make_host: MakeHost, tmp_path: Path
) -> None:
    admin = Admin()

    def extras(app: Flask) -> dict[str, Any]:
        admin.app = None
        admin._views[:], admin._menu[:] = [], []
        admin._menu_categories.clear()
        admin._set_admin_index_view(AdminIndexView())
        admin.init_app(app)
        admin.add_view(Report())
        return {"admin": admin}

    for name in ("one", "two"):
        assert_works(make_host(url(tmp_path, name), extras=extras))


def test_two_admins_on_one_application(make_host: MakeHost, sqlite_url: str) -> None:
    def extras(app: Flask) -> dict[str, Any]:
        Admin(app, name="Other", endpoint="other", url="/other")
        admin = Admin(app)
        admin.add_view(Report())
        return {"admin": admin}

    assert_works(make_host(sqlite_url, extras=extras))


@pytest.mark.parametrize("before", [True, False])
def test_csrf_protection_exempts_the_screen_of_each_application(
    make_host: MakeHost, tmp_path: Path, before: bool
) -> None:
    admin, csrf = Admin(), CSRFProtect()
    csrf._exempt_views.add("tests.support.hosts.sign_in")
    admin.add_view(Report())

    def extras(app: Flask) -> dict[str, Any]:
        if before:
            csrf.init_app(app)
        admin.init_app(app)
        return {"admin": admin}

    hosts = [make_host(url(tmp_path, name), extras=extras) for name in ("one", "two")]
    for host in hosts:
        if not before:
            csrf.init_app(host.app)
    for host in hosts:
        assert_works(host)


def test_a_blueprint_of_the_screens_name_stops_the_start(
    make_host: MakeHost, sqlite_url: str
) -> None:
    def extras(app: Flask) -> dict[str, Any]:
        app.register_blueprint(Blueprint("admin-active-sessions", __name__))
        return {"admin": Admin(app)}

    with pytest.raises(ConfigurationError, match="rename the blueprint"):
        make_host(sqlite_url, extras=extras)
