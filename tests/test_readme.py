"""What the README shows runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from xgen_flask_sessions.settings import Settings

README = (Path(__file__).parents[1] / "README.md").read_text()

DRIVE = """
import re
from app import app

browser = app.test_client()
print(browser.get("/api/orders").status_code)
credentials = {"username": "admin", "password": "change me, please"}
print(browser.post("/sign-in", data=credentials).status_code)
print(browser.get("/").text.partition("!")[0], browser.get("/api/orders").json["for_user"])
screen = browser.get("/admin/admin-active-sessions/").text
form = dict(re.findall(r'name="(csrf_token|user_id)" value="(.+?)"', screen))
print(browser.post("/admin/admin-active-sessions/force-logout", data=form).location)
print(browser.get("/api/orders").json["code"])
print("An administrator ended the session." in browser.get("/sign-in").text)
with app.app_context():
    app.extensions["sqlalchemy"].engine.dispose()
"""


def test_the_example_application_runs(tmp_path: Path) -> None:
    (example,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
        if "Flask(" in block
    )
    (tmp_path / "app.py").write_text(example)

    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", DRIVE],
        cwd=tmp_path, capture_output=True, text=True, timeout=180,
    )  # fmt: skip

    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [
        "401", "302", "Hello admin 1", "/sign-in", "session_revoked", "True",
    ]  # fmt: skip


def test_every_setting_is_described() -> None:
    section = README.partition("## Configuration")[2].partition("\n## ")[0]

    assert [f.name for f in fields(Settings) if f"`{f.name.upper()}`" not in section] == []
