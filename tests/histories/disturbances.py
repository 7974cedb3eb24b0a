"""What goes wrong on the way, while the workers work: each is done from outside, in its turn.

To disturb with something else, add a function that returns a :class:`Disturbance`, and give it to
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
    """One thing that goes wrong."""

    name: str
    act: Callable[[], object]
    """Does it, and undoes it if it is to be undone; returns when that is done."""


_CUT = "the feed is cut"


def feed_cut(directory: Path, seconds: float) -> Disturbance:
    """Have the processes under :func:`cuttable` read no feed for a while, and the database well.

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
    """Make this process one whose feed is cut by :func:`feed_cut`."""
    flag = directory / _CUT
    read = FeedReader.read

    def read_unless_cut(reader: FeedReader) -> Batch:
        if flag.exists():
            raise OSError("The feed is cut.")
        news = read(reader)
        if flag.exists():  # it was on its way
            raise OSError("The feed is cut.")
        return news

    with patch.object(FeedReader, "read", read_unless_cut):
        yield


def held_up(wire: Wire, seconds: float, whom: str = "those that only show") -> Disturbance:
    """Let nothing through a wire for a while."""

    def act() -> None:
        wire.hold_up()
        time.sleep(seconds)
        wire.let_go()

    return Disturbance(f"{whom} are cut off for {seconds:g} s", act)


def connections_ended(admin_url: str, database: str) -> Disturbance:
    """Have the server end every idle connection to a database, those that follow the feed too.

    :param admin_url: Where one may do that.
    :param database: Its name.
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
        connection.exec_driver_sql(f"KILL {number}")  # it may have gone by itself meanwhile
    except sa.exc.OperationalError as error:
        if error.orig is None or error.orig.args[0] != _NO_SUCH_THREAD:
            raise


_NO_SUCH_THREAD = 1094


def redis_flushed(place: RedisPlace) -> Disturbance:
    """Have Redis lose everything, once."""
    return Disturbance("Redis is flushed", place.flush)


def redis_forgetful(place: RedisPlace, seconds: float) -> Disturbance:
    """Have Redis lose everything again and again, so that for a while no feed is to be had."""

    def act() -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            place.flush()
            time.sleep(_FLUSH_PAUSE_S)

    return Disturbance(f"Redis is flushed again and again for {seconds:g} s", act)


_FLUSH_PAUSE_S = 0.01


def usual(directory: Path, bound_s: float, place: Place) -> list[Disturbance]:
    """Return all that may go wrong where the database is, each longer than the bound if it lasts.

    :param directory: The directory of the records.
    :param bound_s: How long those who watch may answer from memory.
    """
    cut = feed_cut(directory, 2 * bound_s)
    disturbances = [cut]
    if place.admin_url is not None:
        name = sa.make_url(place.url).database or ""
        disturbances.append(connections_ended(place.admin_url, name))
    if place.wire is not None:
        disturbances.append(held_up(place.wire, 2 * bound_s))
    if place.server is not None:
        disturbances.append(restarted(place.server))
    if place.redis is not None:
        disturbances += [redis_flushed(place.redis), redis_forgetful(place.redis, 2 * bound_s)]
    return [*disturbances, cut]


@dataclass(frozen=True, slots=True)
class Place:
    """A database, and how it can be disturbed."""

    url: str
    distant_url: str | None = None
    """Leads there through the wire."""
    wire: Wire | None = None
    admin_url: str | None = None
    server: PrivateServer | None = None
    redis: RedisPlace | None = None


@contextmanager
def place_on(server: PrivateServer, redis: RedisPlace | None = None) -> Iterator[Place]:
    """Lend an empty database on a server that may be restarted.

    :param redis: Where its feed goes, if anywhere.
    """
    url = server.empty_database()
    with wire_to(url) as (wire, distant_url):
        yield Place(url, distant_url, wire, server.admin_url, server, redis)


def restarted(server: PrivateServer) -> Disturbance:
    """Stop a server as it is, and start it again."""

    def act() -> None:
        server.stop()
        server.start()

    return Disturbance("the server is restarted", act)
