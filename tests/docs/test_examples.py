"""The example application runs unchanged: sign-in, force logout, refusal and a new sign-in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.docs.blocks import ROOT
from tests.support.eventually import eventually
from tests.support.hosts import PATIENT
from tests.support.ports import free_port

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"
PASSWORD = "change me, please"
ENVIRONMENT = {
    "FLASK_SECRET_KEY": "0123456789abcdef" * 4,
    **{f"FLASK_{name}": str(value) for name, value in PATIENT.items()},
}
ATTEMPTS = 20
"""Calls on separate connections: enough to reach every worker."""


def test_every_example_is_run_by_a_test() -> None:
    tests = "".join(test.read_text() for test in (ROOT / "tests").rglob("test_example*.py"))

    assert [each.name for each in EXAMPLES.glob("*.py") if f'"{each.name}"' not in tests] == []


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Serve ``app.py`` with two workers that start at the same time, and yield its URL."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--bind", url[7:], "app:app"]
    process = subprocess.Popen(
        command, cwd=directory, env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        eventually(lambda: httpx.get(f"{url}/sign-in").status_code == 200)
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=30)


def orders(browser: httpx.Client) -> set[tuple[int, str | None]]:
    """Call the API on several connections; return the distinct statuses and error codes."""
    answers = [browser.get("/api/orders", headers={"Connection": "close"}) for _ in range(ATTEMPTS)]
    return {(answer.status_code, answer.json().get("code")) for answer in answers}


def test_a_force_logout_holds_in_both_workers_of_the_application(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "app.py", tmp_path)
    first, second = (
        subprocess.run(
            [sys.executable, "-W", "error", "-m", "flask", "--app", "app", "create-admin",
             "--password", PASSWORD],
            cwd=tmp_path, env={**os.environ, **ENVIRONMENT}, timeout=120,
            capture_output=True, text=True,
        )
        for _ in range(2)
    )  # fmt: skip
    assert first.returncode == 0, first.stderr
    assert second.returncode == 1
    assert second.stderr == 'Error: There is a user "admin" already.\n'
    credentials = {"username": "admin", "password": PASSWORD}
    with served(tmp_path) as url, httpx.Client(base_url=url, timeout=60) as browser:
        assert orders(browser) == {(401, "token_missing")}
        wrong = {**credentials, "password": "a guess"}
        assert browser.post("/sign-in", data=wrong).status_code == 401

        signed_in = browser.post("/sign-in?next=/api/orders", data=credentials)
        assert (signed_in.status_code, signed_in.headers["Location"]) == (302, "/api/orders")
        assert orders(browser) == {(200, None)}
        assert "Hello admin!" in browser.get("/").text

        screen = "/admin/admin-active-sessions/"
        form = dict(
            re.findall(r'name="(csrf_token|user_id)" value="(.+?)"', browser.get(screen).text)
        )
        forced = browser.post(f"{screen}force-logout", data=form)
        assert (forced.status_code, forced.headers["Location"]) == (303, "/sign-in")
        assert orders(browser) == {(401, "session_revoked")}
        assert "An administrator ended the session." in browser.get("/sign-in").text

        assert browser.post("/sign-in", data=credentials).status_code == 302
        assert orders(browser) == {(200, None)}
