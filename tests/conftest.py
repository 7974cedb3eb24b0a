"""Databases and host applications for every test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.chromium import FLAGS
from tests.support.databases import (
    REDIS,
    RUNNING,
    MakeHost,
    Server,
    lay_out,
    reason_against_redis,
    reason_against_server,
    require_service,
)
from tests.support.hosts import Account, Host, User, make_app
from tests.support.private_server import PrivateServer
from tests.support.private_servers import KINDS
from tests.support.templates import keep_compiled
from tests.support.tracing import install_in_turn
from xgen_flask_sessions.connections import redis_client

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.support.redis_place import RedisPlace
    from tests.support.standalone import Center, MakeCenter


keep_compiled()
install_in_turn()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers to start: they wait for servers and processes half of the time."""
    return max(2, (os.cpu_count() or 1) * 3 // 2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow modules: begun last, they would go on alone."""
    items.sort(key=lambda item: not hasattr(item.getparent(pytest.Module).obj, "pytestmark"))  # type: ignore[union-attr]


@pytest.fixture(scope="session", autouse=True)
def patience_with_redis() -> Iterator[None]:
    """Have Redis be waited for longer: on a busy machine it may stand still for a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_client, "TIMEOUT_S", 20.0)
        yield


@pytest.fixture(scope="session")
def server() -> Iterator[Callable[[str], Server]]:
    """Give the database server of a name; a test is skipped if it is not there.

    With ``XGEN_TEST_REQUIRE_SERVICES=1`` it fails instead.
    """
    running: dict[str, Server] = {}

    def get(name: str) -> Server:
        require_service(reason_against_server(name))
        if name not in running:
            running[name] = Server(name)
            RUNNING[running[name].url] = running[name]
        return running[name]

    yield get
    for each in running.values():
        each.drop()


@pytest.fixture(scope="session")
def private_servers() -> Iterator[Callable[[str], PrivateServer]]:
    """Give a server of this test run's own, made at the first call, by the kind of database.

    A test is skipped where it cannot be made; see :func:`require_service`.
    """
    running: dict[str, PrivateServer] = {}

    def get(name: str) -> PrivateServer:
        if name not in running:
            require_service(KINDS[name].reason_against())
            running[name] = KINDS[name]()
            running[name].set_up()
        return running[name]

    yield get
    for each in running.values():
        each.close()


@pytest.fixture(params=["postgresql", "mariadb"])
def private_server(
    request: pytest.FixtureRequest, private_servers: Callable[[str], PrivateServer]
) -> Iterator[PrivateServer]:
    """Give a server that the test may stop, pause, fill or make read-only, of each kind in turn."""
    server = private_servers(request.param)
    yield server
    server.restore()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Give the URL of an empty SQLite database."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture
def postgresql_url(server: Callable[[str], Server]) -> str:
    """Give the URL of an empty PostgreSQL database."""
    own = server("postgresql")
    own.empty()
    return own.url


@pytest.fixture
def mariadb_url(server: Callable[[str], Server]) -> str:
    """Give the URL of an empty MariaDB database."""
    own = server("mariadb")
    own.empty()
    return own.url


@pytest.fixture
def own_redis() -> Iterator[RedisPlace]:
    """Give a deployment of this test's own in Redis, which keeps nothing of it afterwards."""
    from tests.support.redis_place import redis_place

    require_service(reason_against_redis())
    with redis_place(REDIS) as place:
        yield place


@pytest.fixture
def redis_issuer(own_redis: RedisPlace) -> str:
    """Give that deployment's issuer."""
    return own_redis.issuer


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.slow),
        pytest.param("mariadb", marks=pytest.mark.slow),
    ]
)
def database_url(request: pytest.FixtureRequest) -> str:
    """Give the URL of an empty database, on each supported kind in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def make_host() -> Iterator[MakeHost]:
    """Give :func:`tests.support.hosts.make_app`, with everything closed after the test.

    In place of an empty database on a server it takes the one there that keeps the model's
    tables, unless ``create_all=False`` says that there are to be none.
    """
    hosts: list[Host] = []

    def make(
        database_url: str, *, model: type[Account] = User, create_all: bool = True, **config: Any
    ) -> Host:
        server = RUNNING.get(database_url)
        if server is None and create_all:
            lay_out(database_url, model)
        if server is None or not create_all:
            host = make_app(database_url, model=model, create_all=create_all, **config)
        else:
            kind = model.__name__.lower()
            host = make_app(server.kept(kind), model=model, create_all=False, **config)
            server.provide(kind, host.create_tables)
        hosts.append(host)
        return host

    yield make
    for host in hosts:
        host.dispose()


@pytest.fixture
def host(make_host: MakeHost, database_url: str) -> Host:
    """Give a host application, on each supported kind of database in turn."""
    return make_host(database_url)


@pytest.fixture
def sqlite_host(make_host: MakeHost, sqlite_url: str) -> Host:
    """Give a host application, for tests that need just any database."""
    return make_host(sqlite_url)


@pytest.fixture
def make(database_url: str, tmp_path: Path) -> Iterator[MakeCenter]:
    """Give what makes an Admin Center that is closed after the test.

    It is on each supported kind of database in turn: as it comes on SQLite in ``tmp_path``,
    elsewhere in the database that keeps its tables.
    """
    from tests.support.standalone import (
        center_maker,  # it takes Flask-Babel, which not every test may
    )

    server = RUNNING.get(database_url)
    with center_maker(tmp_path / "instance", server) as make:
        yield make


@pytest.fixture
def center(make: MakeCenter) -> Center:
    """Give an Admin Center without anybody but its first SuperUser."""
    return make()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give a headless browser; a test is skipped where there is none, see :func:`server`."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    require_service(None if path else "Chromium is not there")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()
