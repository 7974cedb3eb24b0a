"""The sign-ins of the host's users, for lists that a host shows itself."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from freezegun import freeze_time

from tests.support.hosts import Host
from xgen_flask_sessions import SignIns


@pytest.fixture
def users(host: Host) -> dict[str, str]:
    """Return the ids of a user with two sessions, one without any more, and one that never had."""
    ids = {name: host.add_user(name) for name in ("bora", "jwm", "sora")}
    with freeze_time("2026-05-25 12:00:00"):
        host.issue(ids["jwm"])
        host.issue(ids["bora"])
    with freeze_time("2026-05-25 12:30:00"):
        host.issue(ids["bora"])
        with host.app.app_context():
            host.sessions.force_logout(ids["jwm"])
    return ids


@freeze_time("2026-05-25 13:00:00")
def test_of_given_users_are_counted(host: Host, users: dict[str, str]) -> None:
    with host.app.app_context():
        found = host.sessions.sign_ins_of([users["bora"], users["jwm"], users["sora"]])

    at_noon_us = 1_779_710_400_000_000
    assert found[users["sora"]] == SignIns()
    assert found[users["jwm"]] == SignIns(0, at_noon_us, found[users["jwm"]].last_ip)
    assert found[users["bora"]].active_sessions == 2
    assert found[users["bora"]].last_login_us == at_noon_us + 1_800_000_000


@freeze_time("2026-05-25 13:00:00")
def test_of_all_users_are_a_table_to_join(host: Host, users: dict[str, str]) -> None:
    with host.app.app_context():
        table = host.sessions.sign_ins_by_user()
        model: Any = host.model
        query = (
            sa.select(model.username, sa.func.coalesce(table.c.active_sessions, 0))
            .outerjoin(table, table.c.user_id == sa.cast(model.id, sa.String))
            .order_by(model.username)
        )
        rows = [tuple(row) for row in host.db.session.execute(query)]

    assert rows == [("bora", 2), ("jwm", 0), ("sora", 0)]


def test_of_everyone_have_no_row(host: Host, users: dict[str, str]) -> None:
    with host.app.app_context():
        host.sessions.force_logout_everyone()
        table = host.sessions.sign_ins_by_user()
        found = set(host.db.session.scalars(sa.select(table.c.user_id)))

    assert found == {users["bora"], users["jwm"]}
