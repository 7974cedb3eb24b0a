"""The cases that are compared, and the packages and servers that each one needs."""

from __future__ import annotations

import importlib.util
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from flask_login import login_required

from tests.support.databases import REDIS, SERVERS
from xgen_flask_sessions import token_required

from . import sites
from .sites import Build, Caller, Site

BASE: Final = "PyJWT, no revocation check"
"""The case that the others are compared with."""

MODES: Final[Mapping[str, Mapping[str, Any]]] = {
    "strict": {},
    "watch": {"XGEN_SESSIONS_CONSISTENCY": "watch"},
}
"""This package's ways of checking a token, with their settings."""


class Unavailable(Exception):
    """A package or server that a case needs is missing; the message names it."""


@dataclass(frozen=True)
class Case:
    """One way of checking a token."""

    build: Build
    database: str = "sqlite"
    """The kind of the host's database: ``sqlite``, ``postgresql`` or ``mariadb``."""
    package: str | None = None
    """The module of the compared package, if it may be missing."""
    redis: bool = False
    has_threads: bool = False
    """Whether its process runs a thread besides the requests."""


def _ours() -> Iterator[tuple[str, Case]]:
    for name, check in (("token_required", token_required), ("login_required", login_required)):
        for mode, config in MODES.items():
            for database in ("sqlite", *SERVERS):
                yield (
                    f"{name}, {mode}, {database}",
                    Case(sites.ours(check, **config), database, has_threads=mode == "watch"),
                )


_PEER: Final = "flask_jwt_extended"

CASES: Final[Mapping[str, Case]] = {
    "no token at all": Case(sites.without_token),
    BASE: Case(sites.decoding),
    "Flask-JWT-Extended, no blocklist": Case(sites.jwt_extended, package=_PEER),
    "Flask-JWT-Extended, blocklist in redis": Case(
        sites.jwt_extended_redis, package=_PEER, redis=True
    ),
    "Flask-JWT-Extended, blocklist in sqlite": Case(sites.jwt_extended_sql, package=_PEER),
    "Flask-JWT-Extended, blocklist in postgresql": Case(
        sites.jwt_extended_sql, "postgresql", _PEER
    ),
    "Flask-Security, token, sqlite": Case(sites.security, package="flask_security"),
    **dict(_ours()),
}
"""Every case by name, in the order of the table."""


class Places:
    """Empty databases for one run, dropped when *stack* is closed."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self._home = home
        self._stack = stack

    def url(self, database: str) -> str:
        """Return the URL of an empty database: ``sqlite``, ``postgresql`` or ``mariadb``.

        :raises Unavailable: The server cannot be reached.
        """
        name = f"xgen_bench_{uuid.uuid4().hex[:12]}"
        if database == "sqlite":
            return f"sqlite:///{self._home}/{name}.db"
        try:
            admin = sa.create_engine(
                SERVERS[database], isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
            )
            _execute(admin, f"CREATE DATABASE {name}")
        except (sa.exc.SQLAlchemyError, ImportError, OSError) as error:
            raise Unavailable(f"{database}: {str(error).splitlines()[0]}") from error
        force = " WITH (FORCE)" if admin.dialect.name == "postgresql" else ""
        self._stack.callback(_execute, admin, f"DROP DATABASE {name}{force}")
        return admin.url.set(database=name).render_as_string(hide_password=False)


def _execute(engine: sa.Engine, statement: str) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)


@contextmanager
def places() -> Iterator[Places]:
    """Yield the databases of a run, and drop them at the end."""
    with tempfile.TemporaryDirectory() as home, ExitStack() as stack:
        yield Places(Path(home), stack)


def require(case: Case) -> None:
    """Check that a case's package and Redis are available.

    :raises Unavailable: One of them is missing.
    """
    if case.package is not None and importlib.util.find_spec(case.package) is None:
        raise Unavailable(f"{case.package} is not installed: pip install -e '.[benchmark]'")
    if case.redis:
        require_redis()


def require_redis() -> None:
    """Check that Redis answers.

    :raises Unavailable: It does not, or its client is not installed.
    """
    try:
        import redis
    except ImportError as error:
        raise Unavailable("redis is not installed") from error
    client = redis.Redis.from_url(REDIS)
    try:
        client.ping()
    except redis.RedisError as error:
        raise Unavailable(f"redis: {error}") from error
    finally:
        client.close()


@contextmanager
def ready(case: Case, lent: Places) -> Iterator[tuple[Site, Caller, str]]:
    """Yield a case's application, a signed-in client, and the URL of its database.

    :raises Unavailable: A package or server that the case needs is missing.
    """
    require(case)
    url = lent.url(case.database)
    site = case.build(url)
    site.create_tables()
    try:
        yield site, site.sign_in(), url
    finally:
        site.dispose()


def chosen(names: list[str] | None) -> Mapping[str, Case]:
    """Return the cases whose name contains one of *names*, and the base; without names, all."""

    def wanted(case: str) -> bool:
        return not names or case == BASE or any(name in case for name in names)

    return {name: case for name, case in CASES.items() if wanted(name)}
