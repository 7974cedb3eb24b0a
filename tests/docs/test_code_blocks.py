"""Every Python block of the documentation and every example passes type checkers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import PYTHON, ROOT, Block, blocks

pytestmark = pytest.mark.slow

PRELUDES = Path(__file__).with_name("preludes")
TYPICAL_USES = Path(__file__).with_name("typical_uses.py")
LANGUAGES = {"python", "sh", "text", "html", "nginx", "toml"}
RUN = {
    "README.md": "tests/docs/test_readme.py",
    "deploying.md": "tests/docs/test_deploying.py",
}
"""For each page with a block that a test runs, the test."""


def test_each_block_names_its_language() -> None:
    code = [block for block in blocks() if not block.language.startswith("{")]

    assert [block.place for block in code if block.language not in LANGUAGES] == []


def test_each_block_of_an_application_is_run_by_a_test() -> None:
    run = {block.page.name: block.value for block in PYTHON if block.key == "run"}

    assert run == RUN
    assert {block.key for block in PYTHON} <= {None, "prelude", "run"}


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with every block, every example and the typical uses, as modules."""
    directory = tmp_path_factory.mktemp("code")
    for block in PYTHON:
        prelude = (PRELUDES / f"{block.value}.py").read_text() if block.key == "prelude" else ""
        # A page's imports may repeat the prelude's.
        (directory / f"{_module_of(block)}.py").write_text(f"{prelude}\n{block.code}")
    for file in [*(ROOT / "examples").glob("*.py"), TYPICAL_USES]:
        shutil.copy(file, directory)
    return directory


def _module_of(block: Block) -> str:
    return f"{block.page.stem.replace('-', '_')}_{block.line}"


def test_the_code_passes_mypy_as_an_application_does(code: Path) -> None:
    (settings,) = [block.code for block in blocks() if block.language == "toml"]
    assert "strict = true" in settings
    # mypy reports no errors within installed packages.
    installed = (
        '[[tool.mypy.overrides]]\nmodule = "xgen_flask_sessions.*"\nfollow_imports = "silent"'
    )
    config = code / "pyproject.toml"
    config.write_text(f"{settings}\n{installed}\n")

    result = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--config-file", str(config),
            "--cache-dir", str(code / "cache"), *map(str, sorted(code.glob("*.py"))),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip

    assert result.returncode == 0, result.stdout + result.stderr


def test_the_code_passes_pyright(code: Path) -> None:
    pytest.importorskip("basedpyright", reason="basedpyright is not installed")
    config = code / "pyrightconfig.json"
    config.write_text(json.dumps({"typeCheckingMode": "standard", "extraPaths": [str(ROOT)]}))

    result = subprocess.run(
        [
            sys.executable, "-m", "basedpyright", "--project", str(config),
            "--pythonpath", sys.executable,
        ],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip

    assert result.returncode == 0, result.stdout + result.stderr
