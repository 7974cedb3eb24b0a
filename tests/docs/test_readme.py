"""The README: its application runs unchanged, and its facts match the project."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from xgen_flask_sessions import UserFields

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

DRIVE = """
import re
from app import app

browser = app.test_client()
print(browser.get("/api/orders").status_code)
credentials = {"username": "admin", "password": "change me"}
print(browser.post("/sign-in", data=credentials).location)
print(browser.get("/api/orders").json["for_user"])
screen = browser.get("/admin/admin-active-sessions/").text
form = dict(re.findall(r'name="(csrf_token|user_id)" value="(.+?)"', screen))
print(browser.post("/admin/admin-active-sessions/force-logout", data=form).location)
print(browser.get("/api/orders").json["code"])
print("An administrator ended the session." in browser.get("/sign-in").text)
with app.app_context():
    app.extensions["sqlalchemy"].engine.dispose()
"""


def test_the_application_runs(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in example.splitlines() if line]) <= 35
    (tmp_path / "app.py").write_text(example)

    def run(*arguments: str) -> str:
        result = subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            cwd=tmp_path, env={**os.environ, "FLASK_SECRET_KEY": "0123456789abcdef" * 4},
            capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout

    for _ in range(2):  # the second time changes nothing
        run("-m", "flask", "--app", "app", "setup")
    printed = run("-c", DRIVE)

    assert printed.splitlines() == [
        "401", "/admin/admin-active-sessions/", "1", "/sign-in", "session_revoked", "True",
    ]  # fmt: skip


def test_the_readme_is_short_and_has_the_command_of_the_tests() -> None:
    assert len(README.splitlines()) <= 160
    (command,) = [line for line in README.splitlines() if ".venv/bin/python -m pytest" in line]
    assert command.startswith("python3 -m venv .venv && ")


def test_each_link_to_a_file_has_an_existing_target() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_minimum_versions_match_the_package_metadata() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    floors = dict(re.findall(r"([\w-]+)>=([\d.]+)", " ".join(project["dependencies"])))
    floors["python"] = project["requires-python"].removeprefix(">=")
    named = dict(re.findall(r"^\| ([\w-]+) \| ([\d.]+) \|$", README, re.MULTILINE))

    assert {"Python", "Flask", "Flask-Admin", "Flask-Login", "SQLAlchemy"} <= set(named)
    for name, version in named.items():
        assert floors.get(name.lower(), version) == version, name


def test_the_readme_names_all_fields_of_the_user_model() -> None:
    assert [f.name for f in fields(UserFields) if f"`{f.name}`" not in README] == []
    assert [
        f.name for f in fields(UserFields) if f.default and f"`{f.default}`" not in README
    ] == []
