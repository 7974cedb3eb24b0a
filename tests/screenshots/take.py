"""Take screenshots: python -m tests.screenshots.take [--all DIRECTORY [--only STATE …]].

It opens pages of a running Admin Center and replaces the pictures of the documentation. With
``--all DIRECTORY``, it writes pictures of every state of every page there instead: at five widths,
in both languages, light and dark, in the Admin Center and in Flask-Admin's default layout.
``--only STATE`` limits them to some states.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.screenshots.pictures import take_all
from tests.screenshots.states import ALL
from tests.support.admin_center import AdminCenter
from tests.support.chromium import FLAGS, GALAXY, IPHONE, SCREEN, WHALE, sign_in

WINDOWS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/148.0.0.0 Safari/537.36"
)
KAKAO = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Mobile/15E148 KAKAOTALK 10.4.5"
)
SIGN_INS = [
    ("batch-agent", "curl/8.5.0", "192.0.2.11"),
    ("jwm", WINDOWS, "192.0.2.114"),
    ("jwm", KAKAO, "203.0.113.80"),
    ("bora", WHALE, "203.0.113.66"),
    ("bora", GALAXY, "203.0.113.67"),
    ("bora", IPHONE, "203.0.113.68"),
    ("haneul", WINDOWS, "198.51.100.120"),
    ("admin", IPHONE, "203.0.113.9"),
]
LANGUAGES = {"en": "en-US", "ko": "ko-KR"}
IMAGES = Path(__file__).parents[2] / "docs" / "images"
DOCUMENTED = {
    ("login-management", "en", 1440): "login-management-en",
    ("login-management", "ko", 1440): "login-management-ko",
    ("login-management", "en", 390): "login-management-phone",
    ("users", "en", 1440): "user-management",
    ("workspace", "en", 1440): "workspace",
}
"""The pictures in the documentation, by page, language and width."""


def main() -> None:
    """Start an Admin Center with sessions, and take the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", type=Path, help="a directory for the pictures of all states")
    parser.add_argument("--only", nargs="+", choices=ALL, default=(), help="states to photograph")
    options = parser.parse_args()
    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        if options.all is None:
            _take_documented(chromium)
        else:
            began = time.perf_counter()
            number = take_all(chromium, options.all, options.only)
            print(f"{number} pictures in {time.perf_counter() - began:.0f} s")
        chromium.close()


def _take_documented(chromium: Browser) -> None:
    with (
        tempfile.TemporaryDirectory() as home,
        AdminCenter(
            Path(home) / "instance", XGEN_SESSIONS_TIMEZONE="Asia/Seoul", XGEN_TRUSTED_PROXIES="1"
        ) as center,
    ):
        center.add_user("haneul", "--superuser")
        center.add_user("bora", "--name", "Bora Lim", "--department", "Research")
        center.add_user("jwm", "--name", "J. W. Moon", "--department", "Sales")
        center.add_user("batch-agent")
        for username, agent, address in SIGN_INS:
            sign_in(_open(chromium, center, "en", 1440, agent, address), username)
        admin = _open(chromium, center, "en", 1440, WINDOWS, "198.51.100.65")
        sign_in(admin, "admin")
        state = admin.context.storage_state()
        for language in LANGUAGES:
            for width in (1440, 390):
                page = _open(chromium, center, language, width, WINDOWS, "198.51.100.65", state)
                _photograph(page, language, width)


def _open(
    chromium: Browser,
    center: AdminCenter,
    language: str,
    width: int,
    agent: str,
    address: str,
    state: object = None,
) -> Page:
    return chromium.new_context(
        base_url=center.url,
        locale=LANGUAGES[language],
        timezone_id="Asia/Seoul",
        viewport={"width": width, "height": 760},
        user_agent=agent,
        extra_http_headers={"X-Forwarded-For": address},
        storage_state=state,  # type: ignore[arg-type]
    ).new_page()


def _photograph(page: Page, language: str, width: int) -> None:
    def shoot(name: str) -> None:
        documented = DOCUMENTED.get((name, language, width))
        if documented is not None:
            page.screenshot(path=IMAGES / f"{documented}.png")

    page.goto(SCREEN)
    page.locator("[data-xs-expand]").first.click()
    page.wait_for_selector(".xs-sessions")
    page.mouse.move(0, 0)
    shoot("login-management")
    page.goto("/")
    page.locator("#sessions li").first.wait_for()
    shoot("workspace")
    page.goto("/admin/admin-users/")
    shoot("users")


if __name__ == "__main__":
    main()
