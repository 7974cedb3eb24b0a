"""The database: tables, connections, its clock, and the addresses of users."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa
from flask import Flask
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from werkzeug.middleware.proxy_fix import ProxyFix

from xgen_flask_sessions import clock
from xgen_flask_sessions.cli.doctor.accounts import examine_accounts
from xgen_flask_sessions.cli.doctor.findings import Finding
from xgen_flask_sessions.clock import SECOND_US
from xgen_flask_sessions.connections.deadlines import can_break
from xgen_flask_sessions.errors import (
    ConfigurationError,
    DenylistUnavailable,
    UnsupportedDatabase,
)
from xgen_flask_sessions.roster.diagnostics import database_now_us, most_frequent_address
from xgen_flask_sessions.settings import Settings
from xgen_flask_sessions.state import State
from xgen_flask_sessions.store import dialects
from xgen_flask_sessions.text import cause_of

_TOLERANCE_US = SECOND_US
_MIN_USERS, _MIN_SHARE = 5, 0.8
"""Fewer users, or a smaller share from one address, are no evidence of a proxy."""
_PRIVATE: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8",
        "169.254.0.0/16", "fc00::/7", "fe80::/10", "::1/128",
    )
)  # fmt: skip
"""Private, carrier-grade NAT, loopback and link-local networks (RFC 6890)."""


def examine_connections(engine: sa.Engine, settings: Settings) -> Iterator[Finding]:
    """Examine the pool of connections to a database server, without opening one.

    :param engine: The database.
    :param settings: The plugin's settings.
    """
    pool = engine.pool
    if engine.dialect.name == "sqlite" or not isinstance(pool, sa.QueuePool):
        return
    if not getattr(pool, "_pre_ping", True):
        yield Finding(
            level="warning",
            code="pool-pre-ping",
            meaning="After a restart of the database, the next call on each pooled connection "
            "fails.",
            mend='Set SQLALCHEMY_ENGINE_OPTIONS = {"pool_pre_ping": True}.',
        )
    deadline_s = settings.deadline.total_seconds()
    if pool.timeout() > deadline_s:
        yield Finding(
            level="warning",
            code="pool-timeout",
            meaning=f"A call that finds no free connection waits {pool.timeout():g} s for one, "
            f"which is longer than a token's check may take ({deadline_s:g} s).",
            mend=f'Set SQLALCHEMY_ENGINE_OPTIONS = {{"pool_timeout": {deadline_s:g}}}.',
        )


def examine_tables(state: State, program: str) -> Finding:
    """Check that the database answers and has this release's tables.

    :param state: The plugin's objects for the application.
    :param program: The program's name.
    """
    try:
        from xgen_flask_sessions.store import migrate
    except ConfigurationError as error:
        return Finding(
            level="warning",
            code="tables-unknown",
            meaning="The tables were not compared with this release's.",
            mend=str(error),
        )
    engine = state.db.engine
    try:
        state.denylist.require_reachable()  # a silent server would keep the driver waiting
        if not migrate.pending(engine):
            return Finding(level="ok", code="tables", meaning="The tables are this release's.")
    except UnsupportedDatabase as error:
        return _unsupported(error)
    except ConfigurationError as error:
        return Finding(
            level="problem",
            code="tables-newer",
            meaning="A newer release created the tables; their contents were not examined.",
            mend=str(error),
        )
    except (SQLAlchemyError, DenylistUnavailable) as error:
        if isinstance(error.__cause__, UnsupportedDatabase):
            return _unsupported(error.__cause__)
        return _unusable(error)
    return Finding(
        level="problem",
        code="tables-missing",
        meaning="The tables are missing or from another release; their contents and revoking "
        "were not examined.",
        mend=f"Run {program} xgen-sessions upgrade, or your own migrations.",
    )


def examine_contents(app: Flask, state: State) -> Iterator[Finding]:
    """Examine the isolation level, the clock, the addresses and the accounts.

    :param app: The application.
    :param state: The plugin's objects for it.
    """
    engine = state.db.engine
    try:
        with Session(engine) as session:
            yield from _examine_driver(session)
            yield from _examine_isolation(session)
            yield _examine_clock(session)
            yield from _examine_addresses(session, app)
            yield from examine_accounts(session, state)
    except SQLAlchemyError as error:
        yield _unusable(error)


def _unsupported(error: UnsupportedDatabase) -> Finding:
    return Finding(
        level="problem",
        code="database-unsupported",
        meaning="The database cannot hold the sessions; nothing else of it was examined.",
        mend=str(error),
    )


def _unusable(error: Exception) -> Finding:
    return Finding(
        level="problem",
        code="database-unusable",
        meaning="The database cannot be used; its contents and revoking were not examined. "
        f"({cause_of(error)})",
        mend="Start the database, and check address, user and password in SQLALCHEMY_DATABASE_URI.",
    )


def _examine_driver(session: Session) -> Iterator[Finding]:
    connection = session.connection()
    if not can_break(connection.connection.dbapi_connection):
        yield Finding(
            level="warning",
            code="driver-without-deadlines",
            meaning=f"The driver {connection.dialect.driver} cannot be interrupted: while the "
            "server is silent, checks of tokens and changes hang instead of failing.",
            mend="Use a driver for which the deadlines hold; the guide on databases names them.",
        )


def _examine_isolation(session: Session) -> Iterator[Finding]:
    connection = session.connection()
    if dialects.of(session).refuses_old_snapshots(connection):
        level = connection.get_isolation_level()
        yield Finding(
            level="warning",
            code="isolation",
            meaning=f"The isolation level is {level}: concurrent sign-ins and force logouts fail.",
            mend='Set SQLALCHEMY_ENGINE_OPTIONS = {"isolation_level": "READ COMMITTED"}.',
        )


def _examine_clock(session: Session) -> Finding:
    earliest = clock.now_us()
    database = database_now_us(session)
    latest = clock.now_us()
    if database is None:
        return Finding(level="ok", code="clock", meaning="SQLite uses this machine's own clock.")
    behind, ahead = database - latest, earliest - database
    apart = max(behind, ahead, 0)
    if apart <= _TOLERANCE_US:
        return Finding(
            level="ok",
            code="clock",
            meaning="This machine's clock and the database's differ by at most a second.",
        )
    direction = "behind" if behind > 0 else "ahead of"
    return Finding(
        level="warning",
        code="clock-differs",
        meaning=f"This machine's clock is {apart / SECOND_US:.1f} s {direction} the database's: "
        "tokens expire too late or too early, while force logouts stay exact.",
        mend="Synchronise the clocks of both machines with NTP, such as chrony.",
    )


def _examine_addresses(session: Session, app: Flask) -> Iterator[Finding]:
    shared = most_frequent_address(session)
    if shared is None or shared.of < _MIN_USERS or shared.users < _MIN_SHARE * shared.of:
        return
    if not _is_private(shared.address):
        return
    if isinstance(app.wsgi_app, ProxyFix):
        mend = "Set ProxyFix's x_for to the number of proxies, each of which sets X-Forwarded-For"
    else:
        mend = "Add Werkzeug's ProxyFix (XGEN_TRUSTED_PROXIES in the standalone Admin Center)"
    yield Finding(
        level="warning",
        code="proxy",
        meaning=f"{shared.users} of {shared.of} active users came from {shared.address}, which "
        "looks like a proxy: Last IP does not show their own addresses.",
        mend=f"{mend}, unless the users really share that address.",
    )


def _is_private(address: str) -> bool:
    return any(ipaddress.ip_address(address) in network for network in _PRIVATE)
