"""The layout of the tests: one folder for each room, and shared helpers in tests/support."""

from __future__ import annotations

import ast
from pathlib import Path

HERE = Path(__file__).parent
OWN_HELPERS = ("tests.benchmarks", "tests.docs", "tests.histories", "tests.screenshots")
"""Folders with helpers that only they use."""


def imported_by(file: Path) -> set[str]:
    """Return the names of the ``tests`` modules that a file imports."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    names = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    names |= {each.name for node in nodes if isinstance(node, ast.Import) for each in node.names}
    return {name for name in names if name.split(".")[0] == "tests"}


def test_test_modules_import_helpers_from_support_only() -> None:
    allowed = ("tests.prose", "tests.support", *OWN_HELPERS)
    wrong = {
        f"{file.relative_to(HERE)} imports {name}"
        for file in HERE.rglob("*.py")
        for name in imported_by(file)
        if not f"{name}.".startswith(tuple(f"{each}." for each in allowed))
        or name.rpartition(".")[2].startswith("test_")
    }

    assert wrong == set()


def test_each_test_module_is_in_the_folder_of_a_room() -> None:
    at_the_root = {file.name for file in HERE.glob("test_*.py")}

    assert at_the_root == {
        "test_import_contracts.py",
        "test_layout.py",
        "test_packaging.py",
        "test_prose.py",
        "test_rate_limits.py",
        "test_settings.py",
        "test_translations.py",
    }
