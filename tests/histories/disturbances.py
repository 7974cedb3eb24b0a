"""Fault injection: disturbances that act from outside the workers, one after another.

To add a disturbance, write a function that returns a :class:`Disturbance`, and pass its result to
``run.run``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import sqlalchemy as sa

from tests.support.private_server import PrivateServer
from tests.support.redis_place import RedisPlace
from tests.support.wire import Wire, wire_to
from xgen_flask_sessions.feed.follower import Batch, FeedReader


@dataclass(frozen=True, slots=True)
class Disturbance:
    """One fault to inject."""

    name: str
    act: Callable[[], object]
    """Injects the fault. Returns when a temporary fault is over."""


_CUT = "the feed is cut"


def feed_cut(directory: Path, seconds: float) -> Disturbance:
    """Cut the feed, but not the database, of the processes under :func:`cuttable` for a while.

    :param directory: The directory of the records.
    """

    def act() -> None:
        flag = directory / _CUT
        flag.touch()
        time.sleep(seconds)
        flag.unlink()

    return Disturbance(f"the feed is cut for {seconds:g} s in half of the processes", act)


@contextmanager
def cuttable(directory: Path) -> Iterator[None]:
    """Let :func:`feed_cut` cut the feed of this process.

    :param directory: The directory of the records.
    """
    flag = directory / _CUT
    read = FeedReader.read

    def read_unless_cut(reader: FeedReader) -> Batch:
        if flag.exists():
            raise OSError("The feed is cut.")
        news = read(reader)
        if flag.exists():  # it was cut during the read
            raise OSError("The feed is cut.")
        return news

    with patch.object(FeedReader, "read", read_unless_cut):
        yield


def wire_blocked(
    wire: Wire, seconds: float, clients: str = "the processes that only verify tokens"
) -> Disturbance:
    """Block a wire for a while.

    :param clients: The processes behind the wire, for the disturbance's name.
    """

    def act() -> None:
        wire.hold_up()
        time.sleep(seconds)
        wire.let_go()

    return Disturbance(f"{clients} are cut off for {seconds:g} s", act)


def connections_ended(admin_url: str, database: str) -> Disturbance:
    """Let the server end every idle connection to a database, including those of the feed.

    :param admin_url: The URL of an account that may end connections.
    :param database: The database's name.
    """
    engine = sa.create_engine(admin_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)

    def act() -> None:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(
                    sa.text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = :name AND state = 'idle'"
                    ),
                    {"name": database},
                )
                return
            idle = sa.text(
                "SELECT id FROM information_schema.processlist "
                "WHERE db = :name AND command = 'Sleep' AND id <> connection_id()"
            )
            for number in connection.scalars(idle, {"name": database}).all():
                _kill(connection, number)

    return Disturbance("the server ends every idle connection", act)


def _kill(connection: sa.Connection, number: int) -> None:
    try:
        connection.exec_driver_sql(f"KILL {number}")  # it may have ended already
    except sa.exc.OperationalError as error:
        if error.orig is None or error.orig.args[0] != _NO_SUCH_THREAD:
            raise


_NO_SUCH_THREAD = 1094


def redis_flushed(place: RedisPlace) -> Disturbance:
    """Flush Redis once."""
    return Disturbance("Redis is flushed", place.flush)


def redis_flushed_repeatedly(place: RedisPlace, seconds: float) -> Disturbance:
    """Flush Redis repeatedly for a while: it holds no usable feed during that time."""

    def act() -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            place.flush()
            time.sleep(_FLUSH_PAUSE_S)

    return Disturbance(f"Redis is flushed repeatedly for {seconds:g} s", act)


_FLUSH_PAUSE_S = 0.01


def usual(directory: Path, bound_s: float, place: Place) -> list[Disturbance]:
    """Return all disturbances that are possible at a place; a temporary one outlasts the bound.

    :param directory: The directory of the records.
    :param bound_s: The staleness bound, in seconds.
    :param place: The database.
    """
    cut = feed_cut(directory, 2 * bound_s)
    disturbances = [cut]
    if place.admin_url is not None:
        name = sa.make_url(place.url).database or ""
        disturbances.append(connections_ended(place.admin_url, name))
    if place.wire is not None:
        disturbances.append(wire_blocked(place.wire, 2 * bound_s))
    if place.server is not None:
        disturbances.append(restarted(place.server))
    if place.redis is not None:
        disturbances += [
            redis_flushed(place.redis),
            redis_flushed_repeatedly(place.redis, 2 * bound_s),
        ]
    return [*disturbances, cut]


@dataclass(frozen=True, slots=True)
class Place:
    """A database, and the means to disturb it."""

    url: str
    distant_url: str | None = None
    """The URL of the same database through the wire."""
    wire: Wire | None = None
    admin_url: str | None = None
    server: PrivateServer | None = None
    redis: RedisPlace | None = None


@contextmanager
def place_on(server: PrivateServer, redis: RedisPlace | None = None) -> Iterator[Place]:
    """Yield an empty database on a server that may be restarted.

    :param redis: The destination of its feed, if it has one.
    """
    url = server.empty_database()
    with wire_to(url) as (wire, distant_url):
        yield Place(url, distant_url, wire, server.admin_url, server, redis)


def restarted(server: PrivateServer) -> Disturbance:
    """Restart a server while it is in use."""

    def act() -> None:
        server.stop()
        server.start()

    return Disturbance("the server is restarted", act)
