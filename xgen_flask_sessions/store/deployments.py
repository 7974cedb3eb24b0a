"""The deployment's id: made once in its database, and carried by its tokens and its feed.

Two deployments may share an issuer, a secret and a Redis by mistake. Their ids tell them apart. A
restored backup keeps the id, because it is the same deployment.
"""

from __future__ import annotations

import uuid
import weakref
from functools import partial
from typing import Final, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Session

from . import commit_hooks, dialects
from .tables import FeedHead

_head = cast("sa.Table", FeedHead.__table__)
_SELECT: Final = sa.select(_head.c.deployment_id)


class _KnownIds:
    """The committed ids, by the engine of their database."""

    def __init__(self) -> None:
        self._ids: weakref.WeakKeyDictionary[sa.Engine, str] = weakref.WeakKeyDictionary()
        self.get = self._ids.get

    def add(self, engine: sa.Engine, deployment_id: str) -> None:
        # An engine that was disposed of may meet another database under the same URL.
        event.listen(engine, "engine_disposed", self._forget)
        self._ids[engine] = deployment_id

    def _forget(self, engine: sa.Engine) -> None:
        self._ids.pop(engine, None)

    def clear(self) -> None:
        """Forget all ids."""
        self._ids.clear()


_known: Final = _KnownIds()


def deployment_of(session: Session) -> str:
    """Return the id of the deployment whose tables the session writes; make it at the first use.

    A process reads it once for each engine. A new id locks the feed's head until the commit, so
    call this after the transaction has locked the rows of users.
    """
    connection = dialects.connection_of(session)
    engine = connection.engine
    known = _known.get(engine)
    if known is not None:
        return known
    found = find_deployment(connection)
    if found is not None:
        _known.add(engine, found)
        return found
    made = make_deployment(connection)
    commit_hooks.on_commit(session, partial(_known.add, engine, made))
    return made


def forget_deployments() -> None:
    """Let the next transaction read the id again: the database may have been replaced."""
    _known.clear()


def find_deployment(connection: sa.Connection) -> str | None:
    """Return the deployment's id; ``None`` if none was made yet."""
    deployment_id: str | None = connection.scalar(_SELECT)
    return deployment_id


def make_deployment(connection: sa.Connection) -> str:
    """Give the deployment an id, unless it has one, and return its id.

    Several transactions may do so at once: all of them return the id of the first that commits.
    """
    return dialects.of(connection).name_deployment(connection, uuid.uuid4().hex)
