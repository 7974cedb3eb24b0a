"""Verification: each refusal has its code, and a token that cannot be checked is refused."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from freezegun import freeze_time
from sqlalchemy.pool import NullPool

from tests.support.databases import MakeHost
from tests.support.hosts import SECRET, Host, bearer
from tests.support.wire import wire_to
from xgen_flask_sessions import (
    DenylistUnavailable,
    LedgerUnavailable,
    SessionRevoked,
    TokenError,
    TokenExpired,
    TokenInvalid,
    VerifiedToken,
)
from xgen_flask_sessions.clock import SECOND_US
from xgen_flask_sessions.tokens.claims import Claims
from xgen_flask_sessions.tokens.codec import TokenCodec
from xgen_flask_sessions.tokens.keys import load_key

NOON = datetime(2026, 5, 25, 12, 0, 0, tzinfo=UTC)


def sign(token: VerifiedToken, **changes: Any) -> str:
    """Sign a token with the host's key, from the claims of *token* and *changes*."""
    changed = token._replace(**changes)
    claims = Claims(
        changed.user_id,
        changed.jti,
        changed.session_id,
        changed.issued_us,
        changed.expires_us,
        changed.claims,
    )
    return TokenCodec([load_key(SECRET.encode())], issuer="xgen").encode(claims)


def refusal(host: Host, token: str) -> TokenError:
    with pytest.raises(TokenError) as caught:
        host.verify(token)
    return caught.value


@contextmanager
def counting(make_host: MakeHost, url: str) -> Iterator[tuple[Host, Callable[[], int]]]:
    """Yield a host, and a function that returns the number of its database queries so far."""
    if not url.startswith("sqlite"):
        with wire_to(url) as (wire, through):
            host = make_host(through)
            yield host, lambda: wire.sent
            host.dispose()
        return
    host = make_host(url)
    statements: list[str] = []
    with host.app.app_context():
        sa.event.listen(
            host.db.engine,
            "connect",
            lambda connection, _: connection.set_trace_callback(statements.append),
        )
    yield host, lambda: len(statements)


# --- Refusals --------------------------------------------------------------------------------


def test_a_valid_token_returns_its_claims(host: Host) -> None:
    user = host.add_user()
    issued = host.issue(user, claims={"tenant": 7})

    verified = host.verify(issued)

    assert verified == VerifiedToken(
        login_id=user,
        made_us=issued.issued_us // SECOND_US * SECOND_US,
        account_mark=host.login_row(user)["account_mark"],
        user_id=user,
        jti=issued.jti,
        session_id=issued.session_id,
        issued_us=issued.issued_us,
        expires_us=issued.expires_us,
        claims={"tenant": 7},
    )


def test_every_refusal_has_its_code(host: Host) -> None:
    user = host.add_user()
    with freeze_time(NOON - timedelta(hours=1)):
        expired = host.issue(user, lifetime=60)
    with freeze_time(NOON):
        ended, forced = host.issue(user), host.issue(user)
        host.end_session(ended.session_id)
        host.force_logout(user)

        assert (refusal(host, "nonsense").code, refusal(host, "").code) == ("token_invalid",) * 2
        assert isinstance(refusal(host, expired.token), TokenExpired)
        assert refusal(host, expired.token).code == "token_expired"
        for token, by_force in ((ended, False), (forced, True)):
            error = refusal(host, token.token)
            assert isinstance(error, SessionRevoked)
            assert (error.code, error.forced, error.user_id) == ("session_revoked", by_force, user)


def test_a_correctly_signed_token_without_a_record_is_refused(host: Host) -> None:
    user = host.add_user()
    real = host.verify(host.issue(user))

    error = refusal(host, sign(real, jti="f" * 32))

    assert isinstance(error, TokenInvalid)
    assert "record" in error.detail


@pytest.mark.parametrize(
    "changes",
    [
        {"user_id": "2"},
        {"session_id": "f" * 32},
        {"issued_us": 1},
        {"issued_us": 2**52},
    ],
)
def test_a_correctly_signed_token_that_differs_from_its_record_is_refused(
    host: Host, changes: dict[str, Any]
) -> None:
    user = host.add_user()
    host.add_user("bob")
    real = host.verify(host.issue(user))

    assert host.verify(sign(real)) == real
    assert isinstance(refusal(host, sign(real, **changes)), TokenInvalid)


@pytest.mark.parametrize("later_s", [-1, 1, 10**9])
def test_an_exp_that_differs_from_the_record_is_refused(host: Host, later_s: int) -> None:
    real = host.verify(host.issue(host.add_user()))
    forged = sign(real, expires_us=real.expires_us + later_s * SECOND_US)

    assert isinstance(refusal(host, forged), TokenInvalid)


def test_a_token_whose_user_has_no_login_row_is_refused(host: Host) -> None:
    user = host.add_user()
    issued = host.issue(user)
    with host.app.app_context():
        logins = host.db.metadata.tables["xgen_user_logins"]
        host.db.session.execute(sa.delete(logins).where(logins.c.user_id == user))
        host.db.session.commit()

    assert isinstance(refusal(host, issued.token), TokenInvalid)


def test_a_token_of_another_deployment_is_refused(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url)
    issuer = make_host(database_url, XGEN_SESSIONS_ISSUER="elsewhere")
    audience = make_host(database_url, XGEN_SESSIONS_AUDIENCE="apis")
    key = make_host(database_url, XGEN_SESSIONS_SECRET_KEY="another secret of a proper length")
    user = host.add_user()

    for other in (issuer, audience, key):
        assert isinstance(refusal(host, other.issue(user).token), TokenInvalid)
        assert isinstance(refusal(other, host.issue(user).token), TokenInvalid)


def test_the_leeway_is_a_setting(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url, XGEN_SESSIONS_LEEWAY=30)
    with freeze_time(NOON) as clock:
        token = host.issue(host.add_user(), lifetime=60)
        clock.tick(89)
        assert host.verify(token)
        clock.tick(1)
        assert isinstance(refusal(host, token.token), TokenExpired)


# --- The database ----------------------------------------------------------------------------


def test_a_verification_is_one_round_trip(make_host: MakeHost, database_url: str) -> None:
    with counting(make_host, database_url) as (host, asked):
        token = host.issue(host.add_user())
        assert host.status(token) == 200  # opens the verifier's connection

        before = asked()
        host.verify(token)
        assert asked() - before == 1
        assert host.status(token) == 200
        assert asked() - before == 2


def test_an_expired_or_malformed_token_costs_no_round_trip(
    make_host: MakeHost, database_url: str
) -> None:
    with counting(make_host, database_url) as (host, asked):
        with freeze_time(NOON):
            token = host.issue(host.add_user(), lifetime=60)

        before = asked()
        for bad in (token.token, token.token[:-9], "nonsense"):
            refusal(host, bad)
        assert asked() == before


@pytest.mark.parametrize("table", ["xgen_sessions", "xgen_user_logins"])
def test_every_token_is_refused_while_a_table_is_missing(host: Host, table: str) -> None:
    token = host.issue(host.add_user())
    with host.app.app_context(), host.db.engine.begin() as connection:
        connection.execute(sa.schema.DropTable(host.db.metadata.tables[table]))

    with pytest.raises(DenylistUnavailable):
        host.verify(token)
    for path in ("/api/token", "/api/user", "/sessions/"):
        answer = host.client().get(path, headers=bearer(token))
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        assert answer.get_json()["code"] == "denylist_unavailable"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://postgres@127.0.0.1:9/none",
        "mysql+pymysql://root@127.0.0.1:9/none",
        "sqlite:////nowhere/at/all.db",
    ],
)
def test_every_token_is_refused_while_the_database_is_unreachable(
    make_host: MakeHost, sqlite_url: str, url: str
) -> None:
    there = make_host(sqlite_url)
    token = there.issue(there.add_user())
    host = make_host(url, create_all=False)

    with pytest.raises(DenylistUnavailable):
        host.verify(token)
    for path in ("/api/token", "/api/user", "/sessions/users"):
        assert host.status(token, path) == 503
    page = host.cookie_client(token).get("/page", headers={"Accept": "text/html"})
    assert page.status_code == 503


def test_tokens_are_checked_while_the_host_has_run_out_of_connections(
    make_host: MakeHost, database_url: str
) -> None:
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.05}
    host = make_host(database_url, SQLALCHEMY_ENGINE_OPTIONS=options)
    user = host.add_user()
    token, ended = host.issue(user), host.issue(user)
    host.end_session(ended.session_id)

    with host.app.app_context(), host.db.engine.connect():
        assert host.sessions.verify(token.token)
        with pytest.raises(SessionRevoked):
            host.sessions.verify(ended.token)
        with pytest.raises(LedgerUnavailable, match="Nothing was done"):
            host.sessions.issue(user)


def test_a_host_with_a_connect_listener_is_read_correctly(
    make_host: MakeHost, database_url: str
) -> None:
    host = make_host(database_url)
    user = host.add_user()
    with host.app.app_context():
        engine = host.db.engine
    sa.event.listen(engine, "connect", lambda connection, _: run(connection, "SELECT 1"))
    host.dispose()

    def run(connection: Any, statement: str) -> None:
        cursor = connection.cursor()
        cursor.execute(statement)
        cursor.close()

    token = host.issue(user)

    assert host.status(token) == 200
    host.force_logout(user)
    assert host.status(token) == 401


def test_tables_in_a_translated_schema_are_read_there(
    make_host: MakeHost, postgresql_url: str
) -> None:
    options = {"execution_options": {"schema_translate_map": {None: "tenant"}}}
    host = make_host(postgresql_url, create_all=False, SQLALCHEMY_ENGINE_OPTIONS=options)
    with host.app.app_context():
        with host.db.engine.begin() as connection:
            connection.exec_driver_sql("CREATE SCHEMA tenant")
        host.db.create_all()
    user = host.add_user()
    token = host.issue(user)

    assert host.status(token) == 200
    host.force_logout(user)
    assert host.status(token) == 401


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has no autocommit attribute yet")
def test_sqlite_without_autocommit_is_read_as_it_is_now(
    make_host: MakeHost, sqlite_url: str
) -> None:
    options = {"connect_args": {"autocommit": False}}
    host = make_host(sqlite_url, SQLALCHEMY_ENGINE_OPTIONS=options)
    user = host.add_user()
    token = host.issue(user)
    assert host.status(token) == 200

    host.force_logout(user)

    assert host.status(token) == 401


def test_tokens_are_refused_only_while_no_thread_can_be_started(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = host.issue(host.add_user())
    host.dispose()

    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        for _ in range(12):
            with pytest.raises(DenylistUnavailable):
                host.verify(token)

    assert host.verify(token)


def test_tokens_are_refused_while_a_shared_connection_fails(make_host: MakeHost) -> None:
    host = make_host("sqlite://")
    token = host.issue(host.add_user())
    assert host.status(token) == 200

    with host.app.app_context():
        host.db.session.execute(sa.text("ALTER TABLE xgen_sessions RENAME TO away"))
        host.db.session.commit()

    assert host.status(token) == 503


def test_threads_share_the_verifiers_connections(host: Host) -> None:
    user = host.add_user()
    token, ended = host.issue(user), host.issue(user)
    host.end_session(ended.session_id)

    with ThreadPoolExecutor(16) as threads:
        statuses = list(threads.map(host.status, [token, ended] * 100))

    assert statuses == [200, 401] * 100


def kill_connections(url: sa.URL) -> None:
    """End every connection to the database on the server, except this one."""
    engine = sa.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return
        for (number,) in connection.exec_driver_sql(
            "SELECT id FROM information_schema.processlist "
            "WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        ).all():
            with suppress(sa.exc.OperationalError):  # it has closed already
                connection.exec_driver_sql(f"KILL {number}")


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_connections_that_the_server_ended_are_replaced(
    make_host: MakeHost, request: pytest.FixtureRequest, kind: str
) -> None:
    host = make_host(request.getfixturevalue(f"{kind}_url"))
    with host.app.app_context():
        url = host.db.engine.url
    user = host.add_user()
    token, ended = host.issue(user), host.issue(user)
    host.end_session(ended.session_id)

    for _ in range(2):
        kill_connections(url)
        assert host.verify(token)
        kill_connections(url)
        assert host.status(ended) == 401
        kill_connections(url)
        assert host.status(token) == 200


def test_a_force_logout_takes_effect_within_an_older_transaction(host: Host) -> None:
    user = host.add_user()
    token, ended = host.issue(user), host.issue(user)

    with host.app.app_context():
        logins = host.db.metadata.tables["xgen_user_logins"]
        if host.db.engine.dialect.name == "postgresql":
            host.db.session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        host.db.session.execute(sa.select(logins)).all()
        elsewhere(host, lambda: host.force_logout(user))

        with pytest.raises(SessionRevoked):
            host.sessions.verify(token.token)
        with pytest.raises(SessionRevoked):
            host.sessions.verify(ended.token)


def elsewhere(host: Host, call: Callable[[], object]) -> None:
    """Call *call* in a separate application context, and so in a separate database session."""
    with host.app.app_context():
        call()


def test_a_verification_leaves_the_host_s_transaction_alone(host: Host) -> None:
    user = host.add_user(department="Before")
    token = host.issue(user)

    with host.app.app_context():
        host.sessions.verify(token.token)
        changed = host.find_user(user)
        changed.department = "After"
        assert host.db.session.dirty
        host.sessions.verify(token.token)
        host.db.session.commit()

    with host.app.app_context():
        assert host.find_user(user).department == "After"


def test_a_database_in_memory_works_for_a_hosts_own_tests(make_host: MakeHost) -> None:
    host = make_host("sqlite://")
    user = host.add_user()
    token = host.issue(user)
    assert host.status(token, "/api/user") == 200

    host.force_logout(user)

    assert host.status(token, "/api/user") == 401


def test_a_database_in_memory_keeps_the_hosts_uncommitted_changes(make_host: MakeHost) -> None:
    host = make_host("sqlite://")
    token = host.issue(host.add_user("alice")).token

    with host.app.app_context():
        host.db.session.add(host.model(username="bora"))
        host.db.session.flush()
        verified = host.sessions.verify(token)
        host.db.session.commit()

    assert verified.user_id == "1"
    assert host.add_user("jwm") == "3", "bora was committed"
