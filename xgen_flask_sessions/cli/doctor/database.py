"""The database: tables, connections, its clock, and the addresses that users came from."""

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
from xgen_flask_sessions.cli.doctor.findings import Finding
from xgen_flask_sessions.cli.terminal import cause_of
from xgen_flask_sessions.clock import SECOND_US
from xgen_flask_sessions.errors import ConfigurationError, DenylistUnavailable
from xgen_flask_sessions.roster.diagnostics import database_now_us, most_frequent_address
from xgen_flask_sessions.settings import Settings
from xgen_flask_sessions.state import State
from xgen_flask_sessions.store import dialects, migrate

_TOLERATED_US = SECOND_US
_CROWD, _MOST = 5, 0.8
_INNER: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8",
        "169.254.0.0/16", "fc00::/7", "fe80::/10", "::1/128",
    )
)  # fmt: skip
"""Private, carrier-grade NAT, loopback, link-local (RFC 6890); no user comes from there by the
internet."""


def examine_connections(engine: sa.Engine, settings: Settings) -> Iterator[Finding]:
    """Look at the application's connections to a database server; none is made.

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
    engine = state.db.engine
    try:
        state.denylist.require_reachable()  # a silent server would keep the driver waiting
        if not migrate.pending(engine):
            return Finding(level="ok", code="tables", meaning="The tables are this release's.")
    except ConfigurationError as error:
        return Finding(
            level="problem",
            code="tables-newer",
            meaning="A newer release made the tables; what they hold was not looked at.",
            mend=str(error),
        )
    except (SQLAlchemyError, DenylistUnavailable) as error:
        return _unusable(error)
    return Finding(
        level="problem",
        code="tables-missing",
        meaning="The tables are missing or not this release's; what they hold, and whether "
        "revoking works, was not looked at.",
        mend=f"Run {program} xgen-sessions upgrade, or your own migrations.",
    )


def examine_contents(app: Flask, state: State) -> Iterator[Finding]:
    """Examine the isolation level, the clock and the addresses.

    :param app: The application.
    :param state: The plugin's objects for it.
    """
    engine = state.db.engine
    try:
        with Session(engine) as session:
            yield from _examine_isolation(session)
            yield _examine_clock(session)
            yield from _examine_addresses(session, app)
    except SQLAlchemyError as error:
        yield _unusable(error)


def _unusable(error: Exception) -> Finding:
    return Finding(
        level="problem",
        code="database-unusable",
        meaning="The database cannot be used; what it holds, and whether revoking works, was not "
        f"looked at. {cause_of(error)}",
        mend="Start it, and set SQLALCHEMY_DATABASE_URI to where it is and who may use it.",
    )


def _examine_isolation(session: Session) -> Iterator[Finding]:
    connection = session.connection()
    level = connection.get_isolation_level()
    strict = connection.dialect.name == "postgresql" and level in (
        "REPEATABLE READ", "SERIALIZABLE",
    )  # fmt: skip
    if strict or dialects.of(session).refuses_old_snapshots(connection):
        yield Finding(
            level="warning",
            code="isolation",
            meaning=f"The isolation level is {level}: sign-ins and force logouts that meet fail.",
            mend='Set SQLALCHEMY_ENGINE_OPTIONS = {"isolation_level": "READ COMMITTED"}.',
        )


def _examine_clock(session: Session) -> Finding:
    earliest = clock.now_us()
    database = database_now_us(session)
    latest = clock.now_us()
    if database is None:
        return Finding(level="ok", code="clock", meaning="SQLite goes by this machine's own clock.")
    behind, ahead = database - latest, earliest - database
    apart = max(behind, ahead, 0)
    if apart <= _TOLERATED_US:
        return Finding(
            level="ok",
            code="clock",
            meaning="This machine's clock and the database's agree to a second.",
        )
    direction = "behind" if behind > 0 else "ahead of"
    return Finding(
        level="warning",
        code="clock-differs",
        meaning=f"This machine's clock is {apart / SECOND_US:.1f} s {direction} the database's: "
        "tokens expire too late or too early, while force logouts stay exact.",
        mend="Let NTP (such as chrony) set the clocks of both machines.",
    )


def _examine_addresses(session: Session, app: Flask) -> Iterator[Finding]:
    shared = most_frequent_address(session)
    if shared is None or shared.of < _CROWD or shared.users < _MOST * shared.of:
        return
    if not _is_inner(shared.address):
        return
    if isinstance(app.wsgi_app, ProxyFix):
        mend = "Let ProxyFix's x_for be the number of proxies in front, and let each of them "
        mend += "set X-Forwarded-For"
    else:
        mend = "Put Werkzeug's ProxyFix in (XGEN_TRUSTED_PROXIES in the standalone Admin Center)"
    yield Finding(
        level="warning",
        code="proxy",
        meaning=f"{shared.users} of {shared.of} active users came from {shared.address}, which "
        "looks like a proxy: Last IP does not tell where they are.",
        mend=f"{mend}, unless they do sit behind that one address.",
    )


def _is_inner(address: str) -> bool:
    return any(ipaddress.ip_address(address) in network for network in _INNER)
