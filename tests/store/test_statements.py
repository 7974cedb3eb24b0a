"""Each kind of database has each statement that is prepared once."""

from __future__ import annotations

from functools import cached_property

import pytest
import sqlalchemy as sa

from xgen_flask_sessions.store import dialects


@pytest.mark.parametrize("url", ["sqlite://", "postgresql+psycopg://", "mariadb+pymysql://"])
def test_a_database_prepares_each_statement(url: str) -> None:
    driver = sa.make_url(url).get_dialect()()
    fresh = type(dialects.of(driver))()  # the usual one may have prepared its statements before

    members = [member for kind in type(fresh).__mro__ for member in vars(kind).items()]
    for name in {name for name, each in members if isinstance(each, cached_property)}:
        prepared = getattr(fresh, name)
        for statement in prepared.values() if isinstance(prepared, dict) else [prepared]:
            assert isinstance(statement, sa.Executable), name
