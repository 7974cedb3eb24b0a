"""The differences between databases: one class for each, one method for each difference."""

from __future__ import annotations

from typing import Final, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from .base import LOGINS
from .base import Dialect as Dialect
from .base import connection_of as connection_of
from .mariadb import MariaDB
from .postgresql import PostgreSQL
from .sqlite import SQLite

_DEFAULT: Final = Dialect()
_DIALECTS: Final[dict[str, Dialect]] = {
    name: dialect for dialect in (SQLite(), PostgreSQL(), MariaDB()) for name in dialect.names
}


def of(bind: Session | sa.Connection | sa.Dialect) -> Dialect:
    """Return the dialect of the database that holds the tables."""
    if isinstance(bind, Session):
        bind = cast("sa.Connection", bind.get_bind(clause=LOGINS))
    dialect = bind if isinstance(bind, sa.Dialect) else bind.dialect
    return _DIALECTS.get(dialect.name, _DEFAULT)
