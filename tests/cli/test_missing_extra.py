"""The commands without the extra ``commands``: Alembic and tabulate are not installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.commands import run
from tests.support.databases import MakeHost
from tests.support.hosts import Host
from xgen_flask_sessions import store

EXTRA = "the extra 'commands'"


@pytest.fixture(autouse=True)
def without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "xgen_flask_sessions.store.migrate", raising=False)
    monkeypatch.delattr(store, "migrate", raising=False)
    for name in [*sys.modules, "alembic", "tabulate"]:
        if name.partition(".")[0] in ("alembic", "tabulate"):
            monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def host(make_host: MakeHost, sqlite_url: str) -> Host:
    host = make_host(sqlite_url)
    host.issue(host.add_user())
    return host


@pytest.mark.parametrize("arguments", [["upgrade"], ["list"], ["show", "1"]])
def test_commands_that_need_the_extra_name_it_in_one_line(host: Host, arguments: list[str]) -> None:
    result = run(host, *arguments)

    assert (result.exit_code, result.stdout) == (1, "")
    assert EXTRA in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("package", "arguments"), [("alembic", ["upgrade"]), ("tabulate", ["list"])]
)
def test_an_extra_that_is_installed_and_broken_names_the_cause(
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    package: str,
    arguments: list[str],
) -> None:
    (tmp_path / f"{package}.py").write_text("raise ImportError('libthing.so.3 is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, package)

    result = run(host, *arguments)

    assert result.exit_code == 1
    assert "libthing.so.3 is missing" in result.stderr
    assert EXTRA in result.stderr


@pytest.mark.parametrize("arguments", [["list", "--json"], ["show", "1", "--json"]])
def test_json_needs_no_extra(host: Host, arguments: list[str]) -> None:
    result = run(host, *arguments)

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)


@pytest.mark.parametrize("arguments", [["list", "--json"], ["force-logout", "1"], ["prune"]])
def test_a_database_error_is_named(
    make_host: MakeHost, sqlite_url: str, arguments: list[str]
) -> None:
    Path(str(sa.make_url(sqlite_url).database)).touch()
    result = run(make_host(sqlite_url, create_all=False), *arguments)

    assert result.exit_code == 1
    assert "no such table" in result.stderr
    assert result.stderr.count("\n") == 1


def test_doctor_examines_all_but_the_version_of_the_tables(host: Host) -> None:
    result = run(host, "doctor", "--json")

    found = {each["code"]: each for each in json.loads(result.stdout)["findings"]}
    assert found["tables-unknown"]["level"] == "warning"
    assert EXTRA in found["tables-unknown"]["mend"]
    assert found["revocation"]["level"] == "ok"


def test_doctor_lists_routes(host: Host) -> None:
    result = run(host, "doctor")

    assert result.exit_code in (0, 1)
    assert "/sign-in" in result.stdout
