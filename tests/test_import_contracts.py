"""The import contracts of pyproject.toml hold, and find forbidden imports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import xgen_flask_sessions

pytestmark = pytest.mark.slow

PACKAGE = Path(xgen_flask_sessions.__file__).parent
ROOT = Path(__file__).parents[1]


def check_contracts(place: Path) -> tuple[int, str]:
    """Check the copy of the package in *place*; return the exit code and the output."""
    command = "from importlinter.cli import lint_imports_command as main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache"],
        capture_output=True, text=True, timeout=120, cwd=place,
        env={**os.environ, "PYTHONPATH": str(place), "COLUMNS": "200"},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return the folder of a copy of the package and its pyproject.toml."""
    shutil.copytree(
        PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__", "migrations")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "line", "contract", "found"),
    [
        pytest.param(
            "store/ledger.py",
            "from ..web import cookie",
            "The rooms import downwards only BROKEN",
            "xgen_flask_sessions.store.ledger -> xgen_flask_sessions.web.cookie",
            id="store-web",
        ),
        pytest.param(
            "roster/listing.py",
            "from flask import request",
            "Roster and users know no requests BROKEN",
            "xgen_flask_sessions.roster.listing -> flask",
            id="roster-flask",
        ),
        pytest.param(
            "tokens/codec.py",
            "import flask",
            "Tokens, connections, store, feed, denylist and verifier know no Flask BROKEN",
            "xgen_flask_sessions.tokens.codec -> flask",
            id="tokens-flask",
        ),
        pytest.param(
            "tokens/codec.py",
            "import sqlalchemy",
            "Verifier and tokens know no database BROKEN",
            "xgen_flask_sessions.tokens.codec -> sqlalchemy",
            id="tokens-database",
        ),
        pytest.param(
            "roster/listing.py",
            "import typing\nif typing.TYPE_CHECKING:\n    from .lookups import Lookup",
            "No circle within a room BROKEN",
            ".listing -> .lookups (1 import)",
            id="circle-by-a-type",
        ),
        pytest.param(
            "standalone/workspace.py",
            "from xgen_flask_sessions.state import get_state",
            "The Admin Center uses the public interface only BROKEN",
            "xgen_flask_sessions.standalone.workspace -> xgen_flask_sessions.state",
            id="admin-center-state",
        ),
        pytest.param(
            "helpers.py",
            "",
            "The rooms import downwards only",
            "helpers",
            id="file-without-a-room",
        ),
    ],
)
def test_a_forbidden_import_is_found(
    copy: Path, file: str, line: str, contract: str, found: str
) -> None:
    seeded = copy / PACKAGE.name / file
    before = seeded.read_text() if seeded.exists() else ""
    seeded.write_text(f"{before}\n{line}\n")

    code, output = check_contracts(copy)

    assert code != 0, output
    assert contract in output
    assert found in output


def test_the_package_keeps_the_contracts(copy: Path) -> None:
    code, output = check_contracts(copy)

    assert code == 0, output
    assert "6 kept, 0 broken" in output
