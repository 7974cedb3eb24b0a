"""A program with a host application where Flask-Babel cannot be imported: test_host_layouts."""

from __future__ import annotations

import sys

sys.modules["flask_babel"] = None  # type: ignore[assignment]
sys.path.insert(0, ".")


def main(database_url: str) -> None:
    """Open Login Management, force a user out, and print statuses and the heading."""
    from flask_admin import Admin

    from tests.support.hosts import make_app
    from tests.support.screen import FORCE_LOGOUT, SCREEN, form_for, page_of, sign_in

    host = make_app(database_url, extras=lambda app: {"admin": Admin(app)})
    admin = sign_in(host, host.add_user("admin", is_superuser=True))
    bora = host.issue(host.add_user("bora"))
    print(admin.get(SCREEN).status_code)
    page = page_of(admin)
    print(page.h1.text if page.h1 else None)
    print(admin.post(FORCE_LOGOUT, data=form_for(page, "bora")).status_code)
    print(host.status(bora))
    host.dispose()


if __name__ == "__main__":
    main(sys.argv[1])
