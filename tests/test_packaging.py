"""The built wheel and source archive, and the wheel in a fresh environment."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest

from tests.support.admin_center import AdminCenter

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the source archive, and of the wheel that is built from it."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def wheel(artefacts: Path) -> Path:
    (built,) = artefacts.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment with only the wheel and its requirements."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", home], check=True, timeout=120)
    python = home / "bin" / "python"
    install = subprocess.run(
        [
            python, "-m", "pip", "install", "--quiet", "--no-compile", "--retries", "10",
            f"{wheel}[standalone]",
        ],
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    if install.returncode != 0:
        reason = f"no packages can be installed here: {install.stderr.strip().splitlines()[-1]}"
        if os.environ.get("XGEN_TEST_REQUIRE_SERVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return python


@pytest.mark.parametrize(
    ("command", "pattern"),
    [
        (["twine", "check", "--strict"], "*"),
        (["check_wheel_contents"], "*.whl"),
        (["validate_pyproject"], None),
    ],
)
def test_checks_of_an_index_pass(artefacts: Path, command: list[str], pattern: str | None) -> None:
    files = [ROOT / "pyproject.toml"] if pattern is None else sorted(artefacts.glob(pattern))

    result = subprocess.run(
        [sys.executable, "-m", *command, *files],
        cwd=artefacts, capture_output=True, text=True, timeout=300,
    )  # fmt: skip

    assert result.returncode == 0, result.stdout + result.stderr


def test_wheel_has_all_files_of_the_package_and_no_others(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())

    for name in (
        "py.typed",
        "admin/templates/xgen_sessions/login_management.html",
        "admin/templates/xgen_sessions/admin_center.html",
        "admin/static/session-guard.js",
        "admin/static/xgen-sessions.css",
        "web/translations/ko/LC_MESSAGES/xgen_sessions.po",
        "api/openapi.json",
        "feed/install.lua",
        "feed/publish.lua",
        "migrations/env.py",
        "migrations/versions/rev_0001_create_tables.py",
        "standalone/templates/xgen_standalone/sign_in.html",
    ):
        assert f"xgen_flask_sessions/{name}" in names
    assert not [name for name in names if name.startswith(("tests/", "migrations/", "instance/"))]


def test_wheel_requires_only_packages_that_every_host_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("METADATA"))
        metadata = archive.read(name).decode()
    plain = {
        line.removeprefix("Requires-Dist: ").split(">")[0]
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist: ") and "extra ==" not in line
    }

    assert plain.isdisjoint(
        {
            "waitress",
            "flask-babel",
            "pytest",
            "redis",
            "playwright",
            "alembic",
            "tabulate[widechars]",
        }
    )
    assert "pyjwt" in plain


def test_wheel_runs_the_admin_center(installed: Path, tmp_path: Path) -> None:
    with (
        AdminCenter(tmp_path / "instance", python=installed) as center,
        urllib.request.urlopen(f"{center.url}/login", timeout=60) as response,
    ):
        assert response.status == 200
        assert 'name="password"' in response.read().decode()


def test_wheel_upgrades_a_database(installed: Path, tmp_path: Path) -> None:
    upgrade = [str(installed), "-m", "xgen_flask_sessions", "xgen-sessions", "upgrade"]
    environment = {**os.environ, "XGEN_INSTANCE_PATH": str(tmp_path / "instance")}

    first, second = (
        subprocess.run(
            upgrade, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=180
        )
        for _ in range(2)
    )

    assert first.returncode == 0, first.stderr
    assert "now at version" in first.stdout
    assert "up to date" in second.stdout
