"""The deployment's id: made once in its database, and carried by its tokens."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from tests.support.databases import REDIS, MakeHost
from tests.support.hosts import Host
from tests.support.patience import at_once, until
from xgen_flask_sessions import IssuedToken
from xgen_flask_sessions.changes import Change
from xgen_flask_sessions.store.deployments import (
    deployment_of,
    find_deployment,
    make_deployment,
)
from xgen_flask_sessions.store.feed_table import append
from xgen_flask_sessions.store.migrate import upgrade


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(database_url)
    upgrade(engine)
    yield engine
    engine.dispose()


def recorded(engine: sa.Engine) -> str | None:
    with engine.connect() as connection:
        return find_deployment(connection)


def carried(host: Host) -> str:
    """Return the id in a new token."""
    return deployment_in(host.issue(host.add_user(uuid.uuid4().hex)))


def deployment_in(issued: IssuedToken) -> str:
    claims = jwt.decode(issued.token, options={"verify_signature": False})
    return str(claims["dpl"])


def test_an_id_is_made_once_and_kept(engine: sa.Engine) -> None:
    assert recorded(engine) is None
    with Session(engine) as session, session.begin():
        made = deployment_of(session)
    with engine.begin() as connection:
        append(connection, [Change("everyone", None, None, 1)])
        assert make_deployment(connection) == made

    assert recorded(engine) == made


def test_an_id_is_made_beside_events_of_an_earlier_release(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        append(connection, [Change("everyone", None, None, 1)])
    with Session(engine) as session, session.begin():
        made = deployment_of(session)

    with engine.begin() as connection:
        assert append(connection, [Change("everyone", None, None, 2)]) == 2
    assert recorded(engine) == made


def test_processes_that_begin_at_once_agree_on_one_id(database_url: str, engine: sa.Engine) -> None:
    made = []

    def begin() -> None:
        own = sa.create_engine(database_url)
        with Session(own) as session, session.begin():
            made.append(deployment_of(session))
        own.dispose()

    at_once(60, [begin] * 8)

    assert set(made) == {recorded(engine)}
    assert len(made) == 8


def test_an_id_that_was_rolled_back_is_forgotten(engine: sa.Engine) -> None:
    with Session(engine) as session:
        undone = deployment_of(session)
        session.rollback()
    assert recorded(engine) is None

    with Session(engine) as session, session.begin():
        made = deployment_of(session)

    assert made != undone
    assert recorded(engine) == made


def test_an_id_is_read_once_for_each_engine(engine: sa.Engine) -> None:
    statements = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(_: object, __: object, statement: str, *___: object) -> None:
        statements.append(statement)

    for expected in (2, 0, 0):
        statements.clear()
        with Session(engine) as session, session.begin():
            deployment_of(session)
        assert len(statements) == expected

    engine.dispose()  # it may meet a database that was restored
    statements.clear()
    with Session(engine) as session, session.begin():
        deployment_of(session)
    assert len(statements) == 1


def test_a_copy_of_a_database_gets_an_id_of_its_own_when_its_id_is_taken_out(
    database_url: str, engine: sa.Engine
) -> None:
    with Session(engine) as session, session.begin():
        original = deployment_of(session)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE xgen_feed_head SET deployment_id = NULL")

    copy = sa.create_engine(database_url)
    with Session(copy) as session, session.begin():
        assert deployment_of(session) != original
    copy.dispose()


def test_applications_in_one_process_have_their_own_ids(
    make_host: MakeHost, tmp_path_factory: pytest.TempPathFactory
) -> None:
    urls = [f"sqlite:///{tmp_path_factory.mktemp(name)}/test.db" for name in "ab"]
    hosts = [make_host(url) for url in (*urls, urls[0], "sqlite://")]

    first, other, same, memory = map(carried, hosts)

    assert first == same
    assert len({first, other, memory}) == 3


def test_a_token_carries_the_id_and_the_host_does_not_see_it(host: Host) -> None:
    issued = host.issue(host.add_user(), claims={"team": "blue"})

    verified = host.verify(issued)

    assert verified.claims == {"team": "blue"}
    assert deployment_in(host.renew(issued)) == deployment_in(issued)


def test_the_id_is_read_again_after_the_file_was_replaced(
    make_host: MakeHost, tmp_path: Path
) -> None:
    host, other = (make_host(f"sqlite:///{tmp_path}/{name}.db") for name in ("own", "other"))
    before, expected = carried(host), carried(other)
    token = host.issue(host.add_user())
    other.dispose()
    for file in tmp_path.glob("own.db*"):
        file.unlink()
    shutil.copy(tmp_path / "other.db", tmp_path / "own.db")
    assert host.status(token) == 401  # a check notices it

    assert carried(host) == expected != before


def test_the_id_is_read_again_after_the_database_was_replaced(
    make_host: MakeHost, database_url: str, redis_issuer: str
) -> None:
    host = make_host(database_url, XGEN_SESSIONS_REDIS_URL=REDIS, XGEN_SESSIONS_ISSUER=redis_issuer)
    user = host.add_user()
    host.issue(user)
    host.force_logout(user)
    with host.app.app_context():
        host.sessions.start_relay()
    relay = host.app.extensions["xgen_sessions"].relay
    until(lambda: relay.follower.is_running and bool(relay._deployment))

    with host.app.app_context(), host.db.engine.begin() as connection:
        for statement in (
            "UPDATE xgen_feed_head SET deployment_id = 'another'",
            "DELETE FROM xgen_feed",
        ):
            connection.exec_driver_sql(statement)

    until(lambda: deployment_in(host.issue(user)) == "another")
