"""Every Python block in the documentation is run unchanged, or type-checked."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import PYTHON, ROOT, blocks

pytestmark = pytest.mark.slow

PRELUDES = Path(__file__).with_name("preludes")
TYPICAL_USES = Path(__file__).with_name("typical_uses.py")
LANGUAGES = {"python", "sh", "text", "html", "nginx"}
RUN = {
    "README.md": "tests/docs/test_readme.py",
    "deploying.md": "tests/docs/test_deploying.py",
}
"""For each page with a block that a test runs, the test."""


def test_each_block_names_its_language() -> None:
    code = [block for block in blocks() if not block.language.startswith("{")]

    assert [block.place for block in code if block.language not in LANGUAGES] == []


def test_each_block_that_is_not_type_checked_is_run_by_a_test() -> None:
    run = {block.page.name: block.value for block in PYTHON if block.key == "run"}

    assert run == RUN
    assert {block.key for block in PYTHON} <= {None, "prelude", "run"}


def test_all_other_blocks_pass_the_type_check(tmp_path: Path) -> None:
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
            "--disable-error-code", "method-assign",  # used to install WSGI middleware
            "--cache-dir", str(tmp_path / "cache"), *map(str, sorted(tmp_path.glob("*.py"))),
            str(TYPICAL_USES), str(ROOT / "examples/service.py"),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip

    named = re.sub(r"\S*(block_\d+\.py)", lambda found: places[found[1]], result.stdout)
    assert result.returncode == 0, named + result.stderr
