"""Every block of Python in the documentation is run as it stands, or type-checked."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import PYTHON, ROOT, blocks

pytestmark = pytest.mark.slow

PRELUDES = Path(__file__).with_name("preludes")
LANGUAGES = {"python", "sh", "text", "html"}
RUN = {"README.md": "tests/docs/test_readme.py"}
"""Pages with a block that a test runs, and that test."""


def test_each_block_says_what_it_is() -> None:
    code = [block for block in blocks() if not block.language.startswith("{")]

    assert [block.place for block in code if block.language not in LANGUAGES] == []


def test_a_block_that_is_not_type_checked_is_run() -> None:
    run = {block.page.name: block.value for block in PYTHON if block.key == "run"}

    assert run == RUN
    assert {block.key for block in PYTHON} <= {None, "prelude", "run"}


def test_the_other_blocks_are_correctly_typed(tmp_path: Path) -> None:
    checked = [block for block in PYTHON if block.key != "run"]
    places = {}
    for number, block in enumerate(checked):
        prelude = (PRELUDES / f"{block.value}.py").read_text() if block.key else ""
        file = tmp_path / f"block_{number}.py"
        # A page's imports may repeat the prelude's.
        file.write_text(f"{prelude}\n{block.code}")
        places[file.name] = f"{block.place} (after {prelude.count(chr(10)) + 1} lines)"
    assert places

    result = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--strict",
            "--disable-error-code", "method-assign",  # as WSGI middleware is put in
            "--cache-dir", str(tmp_path / "cache"), *map(str, sorted(tmp_path.glob("*.py"))),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip

    named = re.sub(r"\S*(block_\d+\.py)", lambda found: places[found[1]], result.stdout)
    assert result.returncode == 0, named + result.stderr
