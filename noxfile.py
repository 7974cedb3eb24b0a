"""Run the checks in separate environments: ``nox -l`` lists them, ``nox -s tests-3.12`` runs one.

Arguments after ``--`` go to pytest or Sphinx: ``nox -s lowest -- -m "not slow"``.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "tests", "lowest", "docs", "build"]

PYTHONS: Final = ["3.11", "3.12", "3.13", "3.14"]
RUNTIME_EXTRAS: Final = ["standalone", "crypto", "redis", "postgresql", "mysql"]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the suite with the newest dependencies."""
    session.install("--editable", ".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """Run the suite with the lowest versions of dependencies that the metadata allows.

    What only the tests need is at its newest, so that the result is about the package.
    """
    session.install("uv")
    constraints = Path(session.create_tmp(), "lowest.txt")
    session.run(
        "uv", "pip", "compile", "pyproject.toml", "--resolution", "lowest-direct", "--quiet",
        "--python", session.virtualenv.bin + "/python", "--output-file", str(constraints),
        *(part for extra in RUNTIME_EXTRAS for part in ("--extra", extra)),
    )  # fmt: skip
    session.log(constraints.read_text())
    session.install("--constraint", str(constraints), "--editable", ".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python=PYTHONS[0])
def lint(session: nox.Session) -> None:
    """Check style, types and the imports between rooms."""
    session.install("--editable", ".[test]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports")


@nox.session(python=PYTHONS[0])
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning fails it."""
    session.install("--editable", ".[docs,standalone]")
    session.run(
        "python", "-m", "sphinx", "-W", "--keep-going", "-b", "html", "docs", "build/docs",
        *session.posargs,
    )  # fmt: skip


@nox.session(python=PYTHONS[0])
def build(session: nox.Session) -> None:
    """Build the wheel and the source archive in ``dist/``, and check them."""
    session.install("build", "check-wheel-contents", "twine", "validate-pyproject[all]")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("validate-pyproject", "pyproject.toml")
    session.run("python", "-m", "build")
    artefacts = sorted(map(str, Path("dist").iterdir()))
    session.run("twine", "check", "--strict", *artefacts)
    session.run("check-wheel-contents", *(path for path in artefacts if path.endswith(".whl")))
