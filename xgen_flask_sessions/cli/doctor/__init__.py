"""``flask xgen-sessions doctor``: finds faults in an application's set-up, and tests revoking.

``routes``
    Routes that admit every caller.
``guards``, ``doors``
    The checks in front of a route: the application's own, and those of other packages.
``anonymous``, ``following``, ``statements``, ``known``
    Reading how a function treats a caller that is not signed in.
``configuration``, ``secrecy``
    Keys and cookies, and secrets that can be guessed.
``database``
    Tables, connections, the clock, the users' addresses.
``files``
    The permissions of an embedded database.
``users``
    Flask-SQLAlchemy, Flask-Login, and one real user.
``feed``
    Whose feed is in Redis.
``accounts``
    Ids that are given out again.
``proof``
    Revoking a temporary token.
``findings``
    The results of all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from flask import Flask

from xgen_flask_sessions.cli.doctor.configuration import examine_configuration
from xgen_flask_sessions.cli.doctor.database import (
    examine_connections,
    examine_contents,
    examine_tables,
)
from xgen_flask_sessions.cli.doctor.feed import examine_feed
from xgen_flask_sessions.cli.doctor.files import examine_files
from xgen_flask_sessions.cli.doctor.findings import (
    Finding,
    count,
    describe,
    represent,
)
from xgen_flask_sessions.cli.doctor.proof import prove_revocation
from xgen_flask_sessions.cli.doctor.routes import examine_routes, unknown_endpoints
from xgen_flask_sessions.cli.doctor.users import (
    examine_extensions,
    examine_model,
    examine_users,
)
from xgen_flask_sessions.state import State

__all__ = ["Finding", "count", "describe", "examine", "represent", "unknown_endpoints"]


def examine(app: Flask, state: State, *, opened: Collection[str], program: str) -> list[Finding]:
    """Examine an application. No route is called.

    :param app: The application.
    :param state: The plugin's objects for it.
    :param opened: Endpoints that are meant to be open.
    :param program: The program's name, for the advice.
    """
    return list(_examine(app, state, opened, program))


def _examine(app: Flask, state: State, opened: Collection[str], program: str) -> Iterator[Finding]:
    yield from examine_routes(app, opened, state.settings.guards)
    yield from examine_configuration(app, state.settings)
    extensions = list(examine_extensions(app, state))
    yield from extensions
    yield from examine_model(state)
    if extensions:  # the rest would fail for the same reason
        return
    engine = state.db.engine
    yield from examine_connections(engine, state.settings)
    yield from examine_files(engine)
    tables = examine_tables(state, program)
    yield tables
    if tables.code not in ("database-unusable", "database-unsupported"):
        yield from examine_users(app, state)
    if tables.level != "problem":  # without them, the rest would fail for the same reason
        yield from examine_contents(app, state)
        yield from examine_feed(state.relay)
        yield prove_revocation(state)
