"""No English text remains on a Korean page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import pytest
from bs4 import BeautifulSoup

from tests.support.databases import on_sqlite
from tests.support.screen import FORCE_LOGOUT, SCREEN, WINDOWS
from tests.support.standalone import PAGE, Center, sign_in

KOREAN: Final = PAGE | {"Accept-Language": "ko", "User-Agent": WINDOWS}
NAMES: Final = re.compile(
    r"\b(X|GEN|XGEN|SUPER|IP|API|UTC|CIDR|Enter|Esc|English|Chrome( \d+)?|Windows|admin|bora|zzz"
    r"|analyst|editor)\b"
)
"""Names, also of keys, which are the same in both languages."""
ATTRIBUTES: Final = ("aria-label", "title", "placeholder", "alt")


def texts(page: str) -> Iterator[str]:
    """Yield each text that a reader sees or hears."""
    soup = BeautifulSoup(page, "html.parser")
    for tag in soup.select("script, style, [aria-hidden=true]"):
        tag.decompose()
    yield from soup.stripped_strings
    for tag in soup.find_all(True):
        yield from (str(tag[name]) for name in ATTRIBUTES if tag.has_attr(name))


@on_sqlite
@pytest.mark.parametrize(
    ("who", "path", "status"),
    [
        (None, "/login", 200),
        (None, "/login?done=signed-out", 200),
        (None, "/nowhere", 404),
        ("admin", "/", 200),
        ("admin", SCREEN, 200),
        ("admin", SCREEN + "?expand=1", 200),
        ("admin", SCREEN + "?q=zzz", 200),
        ("admin", SCREEN + "confirm?user_id=1", 200),
        ("admin", SCREEN + "user?user_id=1", 200),
        ("admin", SCREEN + "nowhere", 404),
        ("admin", "/admin/admin-users/", 200),
        ("admin", "/admin/admin-users/?q=zzz", 200),
        ("admin", "/admin/admin-users/new", 200),
        ("admin", "/admin/admin-users/1", 200),
        ("bora", SCREEN, 403),
    ],
)
def test_a_page_is_in_korean(center: Center, who: str | None, path: str, status: int) -> None:
    center.add_user("bora")
    browser = center.browser()
    browser.environ_base["HTTP_USER_AGENT"] = WINDOWS
    if who is not None:
        sign_in(browser, who)

    answer = browser.get(path, headers=KOREAN)

    assert answer.status_code == status
    english = [text for text in texts(answer.text) if re.search("[A-Za-z]", NAMES.sub("", text))]
    assert english == []


@on_sqlite
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_refusal_is_in_korean(center: Center, method: str) -> None:
    answer = center.browser("admin").open(FORCE_LOGOUT, method=method, headers=KOREAN)

    assert answer.status_code in (403, 405)
    assert [each for each in texts(answer.text) if re.search("[A-Za-z]", NAMES.sub("", each))] == []
