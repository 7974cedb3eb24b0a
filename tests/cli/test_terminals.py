"""Commands on terminals whose encoding lacks some characters, and times around a clock change."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from bs4 import BeautifulSoup
from click.testing import CliRunner, Result
from flask.cli import ScriptInfo
from freezegun import freeze_time

from tests.support.databases import MakeHost
from tests.support.hosts import SECRET
from tests.support.screen import sign_in, with_screen
from tests.support.standalone import ADMIN_PASSWORD, PAGE, Center, center_maker
from xgen_flask_sessions.settings import Settings
from xgen_flask_sessions.standalone.commands import cli
from xgen_flask_sessions.web.i18n import format_time, format_zone

SCREEN = "/admin/admin-active-sessions/"
NAME = "보라 é · Ω 😀"


@pytest.fixture
def center(tmp_path: Path) -> Center:
    """Return an Admin Center with a user whose names no narrow encoding has."""
    with center_maker(tmp_path / "보라 é") as make:
        center = make()
        center.add_user(NAME, name=NAME, department=NAME, roles=NAME)
        center.token(NAME)
        return center


def run(center: Center, encoding: str, *arguments: str) -> Result:
    runner = CliRunner(charset=encoding)
    return runner.invoke(cli, arguments, obj=ScriptInfo(create_app=lambda: center.app))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp949", "cp1252", "koi8-r", "utf-8"])
def test_names_that_a_terminal_cannot_show_are_escaped(center: Center, encoding: str) -> None:
    done: list[tuple[str, ...]] = [
        ("users", "list"),
        ("users", "create", f"{NAME}2", "--password", ADMIN_PASSWORD),
        ("users", "set-password", NAME, "--password", ADMIN_PASSWORD, "--keep-sessions"),
        ("xgen-sessions", "list"),
        ("xgen-sessions", "show", NAME),
        ("xgen-sessions", "doctor"),
        ("xgen-sessions", "list", "--json"),
        ("xgen-sessions", "force-logout", NAME),
    ]
    refused: list[tuple[str, ...]] = [
        ("users", "create", NAME, "--password", ADMIN_PASSWORD),
        ("users", "set-password", f"{NAME}3", "--password", ADMIN_PASSWORD),
        ("xgen-sessions", "show", f"{NAME}3"),
        ("xgen-sessions", "doctor", "--open", NAME),
    ]
    for arguments in done:
        result = run(center, encoding, *arguments)
        assert result.exit_code == 0, (arguments, result.exception)
    for arguments in refused:
        result = run(center, encoding, *arguments)
        assert result.exit_code in (1, 2), arguments
        assert isinstance(result.exception, SystemExit), arguments


@pytest.mark.slow
@pytest.mark.parametrize("variables", [
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "cp949"},
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
])  # fmt: skip
def test_a_process_writes_to_any_terminal(
    center: Center, variables: dict[str, str], tmp_path: Path
) -> None:
    place = center.app.instance_path
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-m", "xgen_flask_sessions", "users", "list", "--search", NAME],
        cwd=tmp_path, env={**variables, "XGEN_INSTANCE_PATH": place, "PYTHONPATH": paths},
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert b"1 user. Page 1 of 1." in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("users", "create", "보라2", "--password", ADMIN_PASSWORD, "--name", "é"),
        ("users", "set-password", NAME, "--password", "비밀번호비밀번호"),
        ("xgen-sessions", "show", NAME),
        ("xgen-sessions", "list", "--search", NAME),
        ("xgen-sessions", "force-logout", NAME, "--reason", "가" * 400),
    ],
)
def test_arguments_in_utf_8_are_read_in_any_locale(
    center: Center, arguments: tuple[str, ...]
) -> None:
    kept = [each.encode().decode("ascii", "surrogateescape") for each in arguments]

    result = run(center, "utf-8", *kept)
    assert result.exit_code == 0, result.output

    kept = [f"{each}\udcff" if each == kept[2] else each for each in kept]
    assert run(center, "utf-8", *kept).exit_code == 2


# --- Times -----------------------------------------------------------------------------------

CHANGES = [
    # The zone, a time before the change, one after it, and their offsets.
    ("Europe/Berlin", "2026-10-25T00:30:00", "2026-10-25T01:30:00", "+02:00", "+01:00"),
    ("Europe/Berlin", "2026-03-29T00:30:00", "2026-03-29T01:30:00", "+01:00", "+02:00"),
    ("America/New_York", "2026-11-01T05:30:00", "2026-11-01T06:30:00", "-04:00", "-05:00"),
    ("America/St_Johns", "2026-11-01T04:00:00", "2026-11-01T05:00:00", "-02:30", "-03:30"),
    ("Australia/Lord_Howe", "2026-04-04T14:30:00", "2026-04-04T15:30:00", "+11:00", "+10:30"),
    ("Africa/Casablanca", "2026-02-15T01:30:00", "2026-02-15T02:30:00", "+01:00", "+00:00"),
]
STEADY = [("Asia/Seoul", "+09:00"), ("Asia/Kolkata", "+05:30"), ("Asia/Kathmandu", "+05:45")]


def in_us(at: str) -> int:
    return int(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()) * 1_000_000


def settings_for(zone: str) -> Settings:
    return Settings.from_config({"SECRET_KEY": SECRET, "XGEN_SESSIONS_TIMEZONE": zone})


@pytest.mark.parametrize(("zone", "before", "after", "old", "new"), CHANGES)
def test_each_time_has_its_offset_from_the_heading_or_of_its_own(
    zone: str, before: str, after: str, old: str, new: str
) -> None:
    settings = settings_for(zone)
    for now, its, others in ((before, old, new), (after, new, old)):
        other = after if now == before else before
        with freeze_time(now):
            assert format_zone(settings) == f"{zone} (UTC{its})"
            local = datetime.fromisoformat(f"{now}+00:00").astimezone(ZoneInfo(zone))
            assert format_time(in_us(now), settings).endswith(f" {local:%H:%M:%S}")
            assert format_time(in_us(other), settings).endswith(f"0:00 (UTC{others})")


@pytest.mark.parametrize(("zone", "offset"), STEADY)
def test_a_zone_without_changes_has_its_offset_in_the_heading_only(zone: str, offset: str) -> None:
    settings = settings_for(zone)

    assert format_zone(settings) == f"{zone} (UTC{offset})"
    assert "UTC" not in format_time(in_us("2026-01-01T12:00:00"), settings)
    assert "UTC" not in format_time(in_us("2026-07-01T12:00:00"), settings)


def test_screen_and_command_mark_times_from_before_the_change(
    make_host: MakeHost, sqlite_url: str
) -> None:
    host = make_host(sqlite_url, extras=with_screen, XGEN_SESSIONS_TIMEZONE="Europe/Berlin")
    admin = host.add_user("admin", is_superuser=True)
    with freeze_time("2026-10-25T00:30:00"):
        host.issue(host.add_user("bora"))
    with freeze_time("2026-10-25T01:30:00"):
        browser = sign_in(host, admin)
        shown = browser.get(SCREEN, headers=PAGE | {"X-Language": "ko"}).text
        listed = host.app.test_cli_runner().invoke(args=["xgen-sessions", "list"]).output

    rows = [row.text for row in BeautifulSoup(shown, "html.parser").select(".xs-table tbody tr")]
    assert "중부유럽 표준시 (UTC+01:00)" in shown
    assert any("02시 30분 00초 (UTC+02:00)" in row for row in rows)
    assert any("02시 30분 00초" in row and "UTC" not in row for row in rows)
    assert "2026-10-25 02:30:00 (UTC+02:00)" in listed
    assert "Times are Europe/Berlin (UTC+01:00)." in listed
