"""Names in their composed and decomposed forms (NFC, NFD) are the same names."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest

from tests.support.commands import run
from tests.support.hosts import Host, bearer
from tests.support.standalone import ADMIN_PASSWORD, Center, sign_in
from xgen_flask_sessions.text import spellings

NAMES = ["José Núñez", "김철수", "Åsa", "Ǖ", "ngừng"]
FORMS = [("NFD", "NFC"), ("NFC", "NFD"), ("NFD", "NFD")]
"""The form that is stored, and the one that is typed."""


def both(name: str, forms: tuple[Any, Any]) -> tuple[str, str]:
    return unicodedata.normalize(forms[0], name), unicodedata.normalize(forms[1], name)


@pytest.mark.parametrize("forms", FORMS, ids="-".join)
def test_commands_and_searches_find_a_user(host: Host, forms: tuple[Any, Any]) -> None:
    admin = host.issue(host.add_user("admin", is_superuser=True))
    host.issue(host.add_user("Jose"))
    for name in NAMES:
        stored, typed = both(name, forms)
        user = host.add_user(stored, display_name=f"the {stored}")
        host.issue(user)

        for query in (typed, f"the {typed}"):
            answer: Any = host.client().get(
                "/sessions/users", query_string={"q": query}, headers=bearer(admin)
            )
            assert user in [each["user_id"] for each in answer.get_json()["users"]], query
        assert run(host, "show", typed).exit_code == 0
        assert run(host, "force-logout", typed).exit_code == 0
        with host.app.app_context():
            assert host.sessions.active_sessions(user) == []


@pytest.mark.parametrize("forms", FORMS, ids="-".join)
def test_the_admin_center_finds_a_user(center: Center, forms: tuple[Any, Any]) -> None:
    for number, name in enumerate(NAMES):
        stored, typed = both(name, forms)
        center.add_user(f"user{number}")
        center.change_user(f"user{number}", username=stored)

        browser = center.browser()
        assert sign_in(browser, typed, ADMIN_PASSWORD).status_code == 303
        page = center.browser("admin").get("/admin/admin-users/", query_string={"q": typed})
        assert stored in page.text


def test_of_two_users_the_exact_form_is_the_one(sqlite_host: Host) -> None:
    host = sqlite_host
    composed, decomposed = both("José", ("NFC", "NFD"))
    users = {form: host.add_user(form) for form in (decomposed, composed)}

    with host.app.app_context():
        directory = host.app.extensions["xgen_sessions"].users
        for form, user in users.items():
            assert [directory.id_of(each) for each in directory.named(form)] == [user]


def test_a_long_text_is_not_normalized() -> None:
    assert spellings("e" + "\N{COMBINING ACUTE ACCENT}" * 20_000) == [
        "e" + "\N{COMBINING ACUTE ACCENT}" * 20_000
    ]
    assert spellings("alice") == ["alice"]
