"""The users that an ``UPDATE`` or ``DELETE`` of the host will match."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.orm import Mapper, ORMExecuteState, Session

from ..store.stamps import begin_write
from .keys import AccountKeys

Rows = Mapping[str, Any] | Iterable[Mapping[str, Any]] | None
"""The parameters of a statement: of one execution, or of several."""


class Targets:
    """Finds and locks the rows of the user model that a statement will match.

    :param model: The host's user model.
    :param keys: Its primary keys.
    """

    def __init__(self, model: type[Any], keys: AccountKeys) -> None:
        self._mapper: Mapper[Any] = sa.inspect(model)
        self._keys = keys
        self._tables: Final = {
            (table.name, table.schema)
            for table in self._mapper.tables
            if isinstance(table, sa.Table)
        }

    def table_of(self, statement: Any) -> sa.Table | sa.Alias | None:
        """Return the user table that a statement changes, or its alias; ``None`` for others."""
        source = getattr(statement, "table", None)
        table = source.element if isinstance(source, sa.Alias) else source
        if not isinstance(table, sa.Table) or (table.name, table.schema) not in self._tables:
            return None
        return cast("sa.Table | sa.Alias", source)

    def of_orm(self, execution: ORMExecuteState) -> list[str]:
        """Return the accounts that a statement for the model will match.

        :param execution: The statement, before it runs.
        """
        session, statement = execution.session, cast("Any", execution.statement)
        mapper = cast("Mapper[Any]", execution.bind_mapper)
        # By the statement's class: a subclass in the same table has its own rows.
        columns = [getattr(mapper.class_, name) for name in self._keys.names]
        query = sa.select(*columns).options(*execution.user_defined_options)
        rows: Any = execution.parameters
        queries = [
            (self._restricted(query, columns, row), row)
            for row in (rows if isinstance(rows, list | tuple) else [rows])
        ]
        return self._find(session, queries, statement)

    def of_core(
        self,
        session: Session,
        table: sa.Table | sa.Alias | None,
        statement: Any,
        rows: Rows,
        *,
        lock: bool = True,
    ) -> list[str]:
        """Return the accounts that a statement of SQLAlchemy Core will match.

        :param table: The result of :meth:`table_of`.
        :param lock: Whether to take the write lock of the plugin's tables first.
        """
        if table is None:
            return []
        own = {column.name: column for column in table.primary_key}
        names = [column.name for column in self._mapper.primary_key]
        columns = [own[name] for name in names if name in own] or list(own.values())
        each = rows if isinstance(rows, list | tuple) else [rows]
        queries = [(sa.select(*columns), row) for row in each]
        return self._find(session, queries, statement, lock=lock)

    def _find(
        self, session: Session, queries: list[Any], statement: Any, *, lock: bool = True
    ) -> list[str]:
        if lock:
            begin_write(session)
        found: list[Any] = []
        for query, row in queries:
            if statement.whereclause is not None:
                query = query.where(statement.whereclause)
            # Flask-SQLAlchemy finds the database of a model, but not of its table's columns.
            bind: Any = {"mapper": self._mapper}
            found += session.execute(query.with_for_update(), row, bind_arguments=bind)
        return list(dict.fromkeys(map(self._keys.to_text, found)))

    def _restricted(
        self, query: sa.Select[Any], columns: list[Any], row: Mapping[str, Any] | None
    ) -> sa.Select[Any]:
        """Return *query* restricted to the primary key in the parameters, if they have one."""
        names = self._keys.names
        if not row or not set(names) <= set(row):
            return query
        return query.where(
            *(column == row[name] for name, column in zip(names, columns, strict=True))
        )


def values_of(statement: Any, rows: Rows) -> list[dict[str, Any]]:
    """Return the values that each execution of an ``UPDATE`` sets, by the names that it uses."""
    named: dict[Any, Any] = dict(getattr(statement, "_values", None) or {})
    named |= dict(getattr(statement, "_ordered_values", None) or ())
    common = {
        getattr(key, "key", key): getattr(value, "value", value) for key, value in named.items()
    }
    each: Any = rows if isinstance(rows, list | tuple) else [rows or {}]
    return [common | dict(row) for row in each]
