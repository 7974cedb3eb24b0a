"""The documentation site: it builds without a warning, and the reference is complete."""

from __future__ import annotations

import html
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest
from blinker import NamedSignal
from bs4 import BeautifulSoup

import xgen_flask_sessions
from tests.docs.blocks import PAGES, ROOT
from tests.support.hosts import Host
from xgen_flask_sessions import UserFields, XgenSessions, XgenSessionsError, signals
from xgen_flask_sessions.settings import PREFIX, Settings

pytestmark = pytest.mark.slow

PACKAGE = ROOT / "xgen_flask_sessions"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site and return its folder."""
    built = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-b", "html"]
    result = subprocess.run(
        [*command, "-d", str(built / "doctrees"), "docs", str(built / "html")],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return built / "html"


def words(site: Path, page: str) -> str:
    """Return the text of a page, without markup."""
    text = (site / f"{page}.html").read_text()
    body = text.partition("<article")[2].partition("</article>")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", body)).split())


def test_every_setting_is_described_with_its_default(site: Path) -> None:
    text = words(site, "reference/configuration")

    for setting in fields(Settings):
        section = text.partition(f"{PREFIX}{setting.name.upper()}¶")[2].partition("¶")[0]
        sentences = " ".join(setting.metadata["doc"].replace("``", "").split())
        assert sentences in section, setting.name
        assert "Default: " in section, setting.name


def leaves(name: str, command: click.Command) -> Iterator[str]:
    """Yield the full name of each command of a group."""
    if isinstance(command, click.Group):
        for child, member in command.commands.items():
            yield from leaves(f"{name} {child}", member)
    else:
        yield name


def test_every_command_is_described(site: Path, sqlite_host: Host) -> None:
    from xgen_flask_sessions.standalone.commands import cli

    text = words(site, "reference/commands")
    plugin = sqlite_host.app.cli.commands["xgen-sessions"]
    own = {name: each for name, each in cli.commands.items() if name != "xgen-sessions"}

    for name in [
        *leaves("flask xgen-sessions", plugin),
        *leaves("python -m xgen_flask_sessions", click.Group("all", own)),
    ]:
        assert f"{name} [OPTIONS]" in text, name


def test_every_signal_is_described_with_its_arguments(site: Path) -> None:
    text = words(site, "reference/signals")
    names = [name for name, value in vars(signals).items() if isinstance(value, NamedSignal)]

    assert names
    for name in names:
        section = text.partition(f"{name}¶")[2].partition("¶")[0]
        assert re.search("Arguments?: ", section), name


def error_codes(parent: type[XgenSessionsError] = XgenSessionsError) -> Iterator[str]:
    """Yield the code of every error that defines one."""
    for child in parent.__subclasses__():
        if child.__module__ != parent.__module__:  # an error of the Admin Center
            continue
        if "code" in vars(child):
            yield child.code
        yield from error_codes(child)


def test_every_error_code_is_described(site: Path) -> None:
    text = words(site, "reference/errors")

    assert [code for code in error_codes() if code not in text] == []


def test_every_endpoint_is_described(site: Path, sqlite_host: Host) -> None:
    text = words(site, "reference/http")
    rules = [
        rule
        for rule in sqlite_host.app.url_map.iter_rules()
        if rule.endpoint.startswith("xgen_sessions.") and not rule.endpoint.endswith(".static")
    ]

    assert rules
    for rule in rules:
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            assert f"{method} {path}" in text


def test_every_table_and_column_is_described(site: Path, sqlite_host: Host) -> None:
    page = BeautifulSoup((site / "reference/tables.html").read_text(), "html.parser")
    ours = [
        table
        for table in sqlite_host.db.metadata.tables.values()
        if table.name.startswith("xgen_") and table.name != "xgen_sessions_version"
    ]

    assert len(ours) >= 5
    for table in ours:
        section = page.find(id=table.name.replace("_", "-"))
        assert section is not None
        rows = [[cell.get_text() for cell in row.find_all("td")] for row in section.find_all("tr")]
        meanings = {row[0].removesuffix(" (key)"): row[3] for row in rows if row}
        assert [column.name for column in table.columns if not meanings[column.name]] == []


def test_every_public_name_is_described(site: Path) -> None:
    ids = set()
    for page in ("python", "signals"):
        text = (site / f"reference/{page}.html").read_text()
        ids |= {each.rpartition(".")[2] for each in re.findall(r'id="([\w.]+)"', text)}
        ids |= set(re.findall(r'id="([\w-]+)"', text))
    exported = set(xgen_flask_sessions.__all__) - {"__version__"}

    assert [name for name in exported if not {name, name.replace("_", "-")} & ids] == []
    calls = [name for name in dir(XgenSessions) if not name.startswith("_")]
    assert [name for name in calls if name not in ids] == []


def test_every_field_of_the_user_model_is_described(site: Path) -> None:
    text = words(site, "reference/user-model")

    others = {"id": "the primary key", "account": "the username"}
    for field in fields(UserFields):
        assert f"{field.name} {others.get(field.name, field.default)} " in text


def test_the_tests_and_benchmarks_that_pages_name_exist() -> None:
    named = {
        (page.name, path)
        for page in PAGES
        for path in re.findall(r"\btests/[\w/]+\.py", page.read_text())
    }
    modules = {
        (page.name, module)
        for page in PAGES
        for module in re.findall(r"python -m (tests[\w.]+)", page.read_text())
    }

    assert [each for each in named if not (ROOT / each[1]).is_file()] == []
    assert [each for each in modules if importlib.util.find_spec(each[1]) is None] == []


def test_the_files_that_the_architecture_page_names_exist() -> None:
    text = (ROOT / "docs/understanding/architecture.md").read_text()
    files = set(re.findall(r"`((?:\w+/)*\w+\.(?:py|lua))`", text))
    rooms = set(re.findall(r"`(\w+/)`", text))

    assert files
    assert [each for each in sorted(files | rooms) if not (PACKAGE / each).exists()] == []
