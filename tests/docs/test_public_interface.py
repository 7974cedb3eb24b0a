"""Examples, documentation and the Admin Center use the public interface only."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import xgen_flask_sessions
from tests.docs.blocks import PYTHON, ROOT

PACKAGE = Path(xgen_flask_sessions.__file__).parent
PUBLIC = {
    "xgen_flask_sessions",
    "xgen_flask_sessions.standalone",
    "xgen_flask_sessions.verifier",
}


def imported(code: str) -> Iterator[tuple[str, str]]:
    """Yield the module and the name of each import from the package."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and not node.level:
            found = [(node.module or "", each.name) for each in node.names]
        elif isinstance(node, ast.Import):
            found = [(each.name, "") for each in node.names]
        else:
            continue
        yield from (pair for pair in found if pair[0].split(".")[0] == PACKAGE.name)


def test_examples_and_documentation_import_public_names_only() -> None:
    sources = {block.place: block.code for block in PYTHON}
    sources |= {path.name: path.read_text() for path in (ROOT / "examples").rglob("*.py")}
    found = {(place, *pair) for place, code in sources.items() for pair in imported(code)}

    assert {place.partition(":")[0] for place, _, _ in found} >= {"README.md", "app.py"}
    assert {each for each in found if each[1] not in PUBLIC} == set()
    names = {name for _, module, name in found if module == PACKAGE.name and name}
    assert names <= {*xgen_flask_sessions.__all__}


def test_the_contract_of_the_admin_center_lists_every_internal_module() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    (contract,) = (
        each
        for each in tools["importlinter"]["contracts"]
        if each.get("source_modules") == ["xgen_flask_sessions.standalone"]
    )
    modules = {
        f"{PACKAGE.name}.{path.stem}"
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }

    internal = modules - PUBLIC - {f"{PACKAGE.name}.__init__", f"{PACKAGE.name}.__main__"}
    assert set(contract["forbidden_modules"]) == internal


def test_the_admin_center_uses_public_templates_only() -> None:
    templates = (PACKAGE / "standalone/templates").rglob("*.html")

    assert [path.name for path in templates if "xgen_sessions/_" in path.read_text()] == []


EVERY_NAME = """
import importlib, sys

import xgen_flask_sessions

class Broken:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("xgen_flask_sessions."):
            raise AttributeError("module 'os' has no attribute 'missing'")

sys.meta_path.insert(0, Broken())
for name in xgen_flask_sessions._LAZY:
    try:
        hasattr(xgen_flask_sessions, name)
        exec(f"from xgen_flask_sessions import {name}")
    except ImportError as error:
        assert "module 'os' has no attribute 'missing'" in str(error), (name, error)
        assert isinstance(error.__cause__, AttributeError)
    else:
        raise AssertionError(name)
"""


@pytest.mark.parametrize(
    "fault",
    [
        "raise AttributeError(\"module 'os' has no attribute 'register_at_fork'\")",
        "raise ImportError(\"cannot import name 'os_thing' from 'register_at_fork'\")",
        "import register_at_fork",
        "raise RuntimeError('register_at_fork')",
        "register_at_fork = = 1",
    ],
)
def test_the_cause_shows_if_a_dependency_is_broken(tmp_path: Path, fault: str) -> None:
    (tmp_path / "flask_admin").mkdir()
    (tmp_path / "flask_admin/__init__.py").write_text(fault)
    paths = os.pathsep.join([str(tmp_path), *sys.path])

    run = subprocess.run(
        [sys.executable, "-c", "from xgen_flask_sessions import XgenSessions"],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )

    assert run.returncode == 1
    assert "register_at_fork" in run.stderr.splitlines()[-1] or "SyntaxError" in run.stderr
    assert "flask_admin/__init__.py" in run.stderr
    assert "cannot import name 'XgenSessions'" not in run.stderr


def test_the_cause_shows_for_every_public_name() -> None:
    run = subprocess.run([sys.executable, "-c", EVERY_NAME], capture_output=True, text=True)

    assert run.returncode == 0, run.stderr


def test_an_unknown_name_stays_an_attribute_error() -> None:
    assert not hasattr(xgen_flask_sessions, "no_such_name")
