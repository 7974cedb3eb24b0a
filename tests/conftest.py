"""The fixtures for all tests: databases, servers, host applications and a browser."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.orm import registry

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
from tests.support.kept import keep_compiled
from tests.support.private_server import PrivateServer
from tests.support.sampling import repeated
from tests.support.server_kinds import KINDS
from tests.support.tracing import adds_to_coverage, install_in_turn, without_coverage
from xgen_flask_sessions.connections import redis_client

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.support.redis_place import RedisPlace
    from tests.support.standalone import Center, MakeCenter


keep_compiled()
install_in_turn()
# Processes that tests start would compile the package each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return 1.5 workers for each core: they wait for servers half of the time."""
    return max(2, (os.cpu_count() or 1) * 3 // 2)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the slow modules first, then the long ones: at the end, they would keep one worker busy.

    A worker runs a module's tests alone. Tests that repeat on a second server are left out.
    """
    if left_out := set(repeated(items)):
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    lengths = Counter(item.path for item in items)

    def place(item: pytest.Item) -> tuple[bool, int]:
        module = item.getparent(pytest.Module)
        return not hasattr(module and module.obj, "pytestmark"), -lengths[item.path]

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure the coverage of a test with its fixtures, if it may add to it."""
    if adds_to_coverage(item):
        return (yield)
    with without_coverage():
        return (yield)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from searching all that the imports made, time and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def audit_log_as_before() -> Iterator[None]:
    """Undo what an Admin Center of a test did to the process's audit log."""
    logger = logging.getLogger("xgen_flask_sessions.audit")
    level, handlers = logger.level, logger.handlers[:]
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.fixture(scope="session", autouse=True)
def patience_with_redis() -> Iterator[None]:
    """Wait longer for Redis: on a busy machine it may stall for seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_client, "TIMEOUT_S", 20.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def nothing_left_in_redis() -> Iterator[None]:
    """Fail if a test has left keys in Redis."""
    yield
    place = sys.modules.get("tests.support.redis_place")
    left = [] if place is None else place.leftovers()
    assert left == []


@pytest.fixture(scope="session")
def server() -> Iterator[Callable[[str], Server]]:
    """Yield a function that returns the database server of a name.

    It skips the test if the server is not available. With ``XGEN_TEST_REQUIRE_SERVICES=1``, the
    test fails instead.
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
    """Yield a function that returns this test run's private server of a kind.

    The first call starts the server. The function skips the test if the server's programs are
    missing; see :func:`require_service`.
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
    """Yield a server of each kind that the test may stop, pause, fill or make read-only."""
    server = private_servers(request.param)
    yield server
    server.restore()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Return the URL of an empty SQLite database."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture
def postgresql_url(server: Callable[[str], Server]) -> str:
    """Return the URL of an empty PostgreSQL database."""
    own = server("postgresql")
    own.empty()
    return own.url


@pytest.fixture
def mariadb_url(server: Callable[[str], Server]) -> str:
    """Return the URL of an empty MariaDB database."""
    own = server("mariadb")
    own.empty()
    return own.url


@pytest.fixture
def own_redis() -> Iterator[RedisPlace]:
    """Yield a new deployment in Redis; its keys are deleted after the test."""
    from tests.support.redis_place import redis_place

    require_service(reason_against_redis())
    with redis_place(REDIS) as place:
        yield place


@pytest.fixture
def redis_issuer(own_redis: RedisPlace) -> str:
    """Return the issuer of the deployment :func:`own_redis`."""
    return own_redis.issuer


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.slow),
        pytest.param("mariadb", marks=pytest.mark.slow),
    ]
)
def database_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty database, on each supported kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def make_host() -> Iterator[MakeHost]:
    """Yield :func:`tests.support.hosts.make_app`; its hosts are closed after the test.

    In place of an empty database on a server, a host gets the database that keeps the model's
    tables, unless ``create_all=False``.
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
    """Return a host application, on each supported kind of database."""
    return make_host(database_url)


@pytest.fixture
def sqlite_host(make_host: MakeHost, sqlite_url: str) -> Host:
    """Return a host application on SQLite, for tests that work on any database."""
    return make_host(sqlite_url)


@pytest.fixture
def make(database_url: str, tmp_path: Path) -> Iterator[MakeCenter]:
    """Yield a function that makes Admin Centers, on each supported kind of database.

    On SQLite, the database is a new one in ``tmp_path``; on a server, it is the one that keeps the
    Admin Center's tables. All Admin Centers are closed after the test.
    """
    from tests.support.standalone import (
        center_maker,  # imports Flask-Babel, which some tests must not import
    )

    server = RUNNING.get(database_url)
    with center_maker(tmp_path / "instance", server) as make:
        yield make


@pytest.fixture
def center(make: MakeCenter) -> Center:
    """Return an Admin Center whose only user is its first SuperUser."""
    return make()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Yield a headless browser; see :func:`require_service` if there is none."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    require_service(None if path else "Chromium is not installed")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def models() -> Iterator[registry]:
    """Yield a registry for the models of one test."""
    mapped = registry()
    yield mapped
    mapped.dispose()
