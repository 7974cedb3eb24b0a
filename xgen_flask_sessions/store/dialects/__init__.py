"""The differences between databases: one class for each, one method for each difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ...errors import UnsupportedDatabase
from .base import PRIMARY as PRIMARY
from .base import Dialect as Dialect
from .base import code_of
from .base import connection_of as connection_of
from .mariadb import MariaDB
from .postgresql import PostgreSQL
from .sqlite import SQLite

_DEFAULT: Final = Dialect()
_SUPPORTED: Final = (SQLite(), PostgreSQL(), MariaDB())
_DIALECTS: Final[dict[str, Dialect]] = {
    name: dialect for dialect in _SUPPORTED for name in dialect.names
}
_OTHERS: Final = {
    "cockroachdb": "CockroachDB",
    "mssql": "Microsoft SQL Server",
    "oracle": "Oracle",
    "redshift": "Amazon Redshift",
}


def of(bind: Session | sa.Connection | sa.Dialect) -> Dialect:
    """Return the dialect of the database that holds the tables."""
    if isinstance(bind, Session):
        bind = cast("sa.Connection", bind.get_bind(clause=PRIMARY))
    dialect = bind if isinstance(bind, sa.Dialect) else bind.dialect
    return _DIALECTS.get(dialect.name, _DEFAULT)


def is_conflict(error: sa.exc.DBAPIError) -> bool:
    """Return whether another row, which may be new or gone, excludes a change: a retry may pass.

    A unique or a foreign key does; a ``CHECK``, ``NOT NULL`` or a trigger refuses for good.

    :param error: An error of a database that is supported.
    """
    return any(dialect.is_conflict(error.orig) for dialect in _SUPPORTED)  # no code is in two


def is_violation(error: BaseException) -> bool:
    """Return whether rows or values of a statement are wrong: SQLAlchemy's integrity or data error.

    pg8000 raises neither for most of them.
    """
    if isinstance(error, sa.exc.IntegrityError | sa.exc.DataError):
        return True
    code = code_of(getattr(error, "orig", None))
    return isinstance(code, str) and code[:2] in ("22", "23")  # SQLSTATE's classes


def require_supported(
    dialect: sa.Dialect, read: Callable[[str, Any], Sequence[Any] | None] | None = None
) -> None:
    """Refuse a database that cannot hold the tables, or a driver that cannot be used.

    :param dialect: The dialect of an engine. The server's version counts once it is connected.
    :param read: Reads one row on a connection, whose character sets are checked, too.
    :raises UnsupportedDatabase: The message names the database, and the supported ones.
    """
    supported = _DIALECTS.get(dialect.name)
    if supported is None:
        _refuse(_OTHERS.get(dialect.name, dialect.name))
    if dialect.is_async:
        raise UnsupportedDatabase(
            f"SQLALCHEMY_DATABASE_URI names an asynchronous driver, {dialect.driver}, and "
            f"Flask-SQLAlchemy's sessions are synchronous; use {supported.driver}."
        )
    refused = supported.find_unsupported(dialect)
    if refused is not None:
        _refuse(refused)
    if read is not None and supported.character_sets:
        _require_unicode(supported, read(supported.character_sets, ()) or ())


def _require_unicode(supported: Dialect, found: Sequence[Any]) -> None:
    refused = [each for each in found if each != supported.unicode]
    if refused:
        raise UnsupportedDatabase(
            f"{supported.title} is reached in the character set {refused[0]}, which lacks letters "
            f"that names, reasons and browsers may have; {supported.unicode_fix}."
        )


def _refuse(database: str) -> NoReturn:
    *others, last = (f"{each.title} {_dotted(each.oldest)}" for each in _SUPPORTED)
    raise UnsupportedDatabase(
        f"{database} is not supported: the sessions' tables need {', '.join(others)} or {last}, "
        "or a newer version; change SQLALCHEMY_DATABASE_URI."
    )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
