"""Several users or sessions at once: each has its end, its entry in the feed and its record."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from freezegun import freeze_time

from tests.support.hosts import Host, bearer
from xgen_flask_sessions import IssuedToken, Revocation, SessionRevoked, bulk, session_ended
from xgen_flask_sessions import user_forced_out as forced_out_signal
from xgen_flask_sessions.roster.user_revocations import find_act, find_end
from xgen_flask_sessions.store.revocations import Cause

NOON = datetime(2026, 5, 25, 12, 0, 0, tzinfo=UTC)
NOON_US = int(NOON.timestamp()) * 1_000_000
HOUR_US = 3600 * 1_000_000
WHY = Cause(actor="incident-42", reason="stolen laptops")


def add_users(host: Host, count: int) -> list[str]:
    """Add users by one statement, and return their ids."""
    names = [{"username": f"user{n}", "password": ""} for n in range(count)]
    columns = {"is_superuser": False, "is_active": True}
    with host.app.app_context():
        host.db.session.execute(sa.insert(host.model), [each | columns for each in names])
        host.db.session.commit()
        query = sa.select(host.model.id).where(host.model.username.startswith("user"))
        return [str(key) for key in host.db.session.scalars(query.order_by(host.model.id))]


def force_logout_several(host: Host, user_ids: list[str]) -> bulk.BulkResult:
    with host.app.app_context():
        return bulk.force_logout_several(user_ids, WHY)


def end_sessions(host: Host, user_id: str, *, older_than_us: int | None) -> list[Revocation]:
    with host.app.app_context():
        result = bulk.end_sessions(user_id, WHY, older_than_us=older_than_us)
    assert result.error is None
    return result.done


def accepted(host: Host, tokens: Iterable[IssuedToken]) -> list[int]:
    """Return the statuses of calls with each token."""
    return [host.status(token) for token in tokens]


# --- Several users ---------------------------------------------------------------------------


def test_all_sessions_of_the_users_end_and_those_of_others_go_on(host: Host) -> None:
    users = add_users(host, 4)
    with freeze_time(NOON):
        tokens = {
            user: [host.issue(user) for _ in range(index)] for index, user in enumerate(users)
        }
        old = host.issue(users[0])
        renewed = host.renew(old)
        other = host.issue(host.add_user("other"))

        result = force_logout_several(host, users)

        every = [*itertools.chain(*tokens.values()), old, renewed]
        assert accepted(host, every) == [401] * len(every)
        assert host.status(other) == 200
        after = [host.issue(user) for user in users]
        assert accepted(host, after) == [200] * 4
    ended = {each.user_id: each.sessions_ended for each in result.done}
    assert ended == {users[0]: 1, users[1]: 1, users[2]: 2, users[3]: 3}
    assert result.sessions_ended == 7
    assert (result.refused, result.failed, result.not_reached, result.error) == ([], [], [], None)


def test_each_user_has_a_record_and_an_entry_in_the_feed(host: Host) -> None:
    users = add_users(host, 3)
    host.issue(users[1])

    result = force_logout_several(host, users)

    records = {row["user_id"]: row for row in host.rows("xgen_revocations")}
    assert set(records) == set(users)
    for revocation in result.done:
        row = records[revocation.user_id]
        assert dict(row) == {"details": None, **asdict(revocation)}
        assert (row["kind"], row["actor"], row["reason"]) == ("user", WHY.actor, WHY.reason)
        assert row["invalid_before_us"] == host.login_row(row["user_id"])["invalid_before_us"]
        assert host.login_row(row["user_id"])["active_until_us"] == 0
    events = sorted(host.rows("xgen_feed"), key=lambda row: row["position"])
    assert [(row["kind"], row["user_id"]) for row in events] == [
        ("user", each.user_id) for each in result.done
    ]
    assert [row["cut_us"] for row in events] == [each.invalid_before_us for each in result.done]


def test_the_stamps_order_sign_ins_of_the_same_microsecond(host: Host) -> None:
    users = add_users(host, 3)
    with freeze_time(NOON):
        for _ in range(3):
            before = [host.issue(user) for user in users for _ in range(2)]
            force_logout_several(host, users)
            after = [host.issue(user) for user in users]

            assert accepted(host, before) == [401] * 6
            assert accepted(host, after) == [200] * 3
    with freeze_time(datetime(2026, 5, 25, 8, tzinfo=UTC)):  # a clock that lags
        force_logout_several(host, users)
    with freeze_time(NOON):
        assert accepted(host, after) == [401] * 3


def test_no_user_is_no_work(host: Host) -> None:
    assert force_logout_several(host, []).done == []
    assert host.rows("xgen_feed") == []


def test_the_statements_do_not_grow_with_users_and_sessions(host: Host) -> None:
    users = add_users(host, bulk.CHUNK)
    for user in users[:2]:
        host.issue(user)
    force_logout_several(host, users)  # opens the connections
    statements: list[str] = []

    def look(_: Any, __: Any, statement: str, *___: object) -> None:
        if not statement.startswith("DELETE FROM xgen_feed"):  # after every 100 events
            statements.append(statement)

    numbers = []
    with host.calling_before_statements(look):
        for some in (users[:3], users):
            for user in users[:2]:
                host.issue(user)
            statements.clear()
            force_logout_several(host, some)
            numbers.append(len(statements))

    assert numbers[0] == numbers[1] <= 8


def test_signals_come_after_each_commit_and_a_receiver_that_fails_stops_nothing(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    users = add_users(host, 2)
    seen: list[tuple[str | None, int]] = []

    def look(_: object, revocation: Revocation) -> None:
        seen.append((revocation.user_id, len(host.rows("xgen_revocations"))))
        raise ValueError("a receiver")

    with forced_out_signal.connected_to(look):
        result = force_logout_several(host, users)

    assert seen == [(users[0], 2), (users[1], 2)]
    assert len(result.done) == 2
    assert "A receiver of a signal failed." in caplog.text


def test_sign_ins_during_the_act_are_before_or_after_it(host: Host) -> None:
    users = add_users(host, 12)
    for user in users:
        host.issue(user)
    issued: list[IssuedToken] = []
    stop = threading.Event()

    def sign_in(number: int) -> None:
        while not stop.is_set():
            issued.append(host.issue(users[number % len(users)]))

    with ThreadPoolExecutor(16) as pool:
        signing_in = [pool.submit(sign_in, number) for number in range(14)]
        acting = [pool.submit(force_logout_several, host, users) for _ in range(2)]
        results = [each.result() for each in acting]
        results.append(force_logout_several(host, users[::-1]))
        stop.set()
        for each in signing_in:
            each.result()

    assert [result.error for result in results] == [None] * 3
    assert all(len(result.done) == len(users) for result in results)
    cuts = {user: host.login_row(user)["invalid_before_us"] for user in users}
    for token in issued:
        user = host.app.extensions["xgen_sessions"].codec.decode(
            token.token, now_us=token.issued_us
        )
        is_after = token.issued_us > cuts[user.user_id]
        assert host.status(token) == (200 if is_after else 401)


def test_a_database_that_refuses_one_user_undoes_that_transaction_alone(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 2)
    users = add_users(host, 6)
    tokens = [host.issue(user) for user in users]
    refuse_user(host, users[3])

    result = force_logout_several(host, users)

    assert [each.user_id for each in result.done] == [users[0], users[1], users[4], users[5]]
    assert result.failed == [users[2], users[3]]
    assert (result.failed_unknown, result.not_reached) == ([], [])
    assert result.error is not None
    assert "refused" in str(result.error)
    assert accepted(host, tokens) == [401, 401, 200, 200, 401, 401]
    assert {row["user_id"] for row in host.rows("xgen_revocations")} == {
        each.user_id for each in result.done
    }


def refuse_user(host: Host, user_id: str) -> None:
    """Make the database refuse the audit record of one user."""
    raising = {
        "sqlite": "CREATE TRIGGER refuse BEFORE INSERT ON xgen_revocations "
        f"WHEN NEW.user_id = '{user_id}' BEGIN SELECT RAISE(ABORT, 'not this one'); END",
        "mysql": "CREATE TRIGGER refuse BEFORE INSERT ON xgen_revocations FOR EACH ROW "
        f"IF NEW.user_id = '{user_id}' THEN "
        "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one'; END IF",
    }
    if host.dialect != "postgresql":
        host.execute(raising[host.dialect])
        return
    host.execute(
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NEW.user_id = '{user_id}' THEN RAISE 'not this one'; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER refuse BEFORE INSERT ON xgen_revocations "
        "FOR EACH ROW EXECUTE FUNCTION refuse()",
    )


# --- Several sessions of a user --------------------------------------------------------------


def test_all_but_the_newest_session_end(host: Host) -> None:
    user, other = add_users(host, 2)
    with freeze_time(NOON) as clock:
        tokens = []
        for _ in range(4):
            tokens.append(host.issue(user))
            clock.tick(60)
        bystander = host.issue(other)
        tokens[0] = host.renew(tokens[0])  # its token is the newest, its sign-in the oldest
        clock.tick(60)

        made = end_sessions(host, user, older_than_us=None)

        assert accepted(host, [*tokens, bystander]) == [401, 401, 401, 200, 200]
        assert [each.session_id for each in made] == [
            token.session_id for token in reversed(tokens[:3])
        ]
        assert host.login_row(user)["active_until_us"] == tokens[3].expires_us
        assert end_sessions(host, user, older_than_us=None) == []
    records = host.rows("xgen_revocations")
    assert {(row["kind"], row["user_id"], row["sessions_ended"]) for row in records} == {
        ("session", user, 1)
    }
    assert {row["session_id"] for row in records} == {token.session_id for token in tokens[:3]}
    assert {row["actor"] for row in records} == {"incident-42"}


def test_sessions_older_than_an_age_end_by_their_sign_in(host: Host) -> None:
    user = host.add_user()
    with freeze_time(NOON) as clock:
        old = host.issue(user)
        clock.tick(3600)
        exactly = host.issue(user)
        clock.tick(1800)
        new = host.issue(user)
        renewed = host.renew(old)
        clock.tick(1800)

        made = end_sessions(host, user, older_than_us=HOUR_US)

        assert accepted(host, [old, renewed, exactly, new]) == [401, 401, 200, 200]
        assert [each.session_id for each in made] == [old.session_id]
        assert end_sessions(host, user, older_than_us=HOUR_US) == []
    (row,) = [row for row in host.rows("xgen_sessions") if row["jti"] == renewed.jti]
    assert row["end_reason"] == "ended"


def test_a_renewed_token_of_an_ended_session_ends_with_it(host: Host) -> None:
    user = host.add_user()
    with freeze_time(NOON) as clock:
        old = host.issue(user)
        clock.tick(60)
        kept = host.issue(user)
        renewed = host.renew(old)
        renewed_kept = host.renew(kept)
        assert accepted(host, [old, renewed, kept, renewed_kept]) == [200] * 4

        end_sessions(host, user, older_than_us=None)

        assert accepted(host, [old, renewed, kept, renewed_kept]) == [401, 401, 200, 200]


def test_a_renewed_token_that_outlives_its_session_ends_without_a_record(host: Host) -> None:
    user = host.add_user()
    with freeze_time(NOON) as clock:
        old = host.issue(user)
        renewed = host.renew(old)
        with host.app.app_context():  # the renewed one expired before the minute of the old one
            sessions = host.db.metadata.tables["xgen_sessions"]
            own = sessions.c.jti == renewed.jti
            expired = {"expires_us": NOON_US - HOUR_US}
            host.db.session.execute(sessions.update().where(own).values(expired))
            host.db.session.commit()
        clock.tick(1)
        assert host.status(old) == 200

        made = end_sessions(host, user, older_than_us=0)

        assert host.status(old) == 401
    assert made == []
    assert host.rows("xgen_revocations") == []
    assert [row["kind"] for row in host.rows("xgen_feed")] == ["renewed", "session"]


def test_expired_sessions_are_left_alone(host: Host) -> None:
    user = host.add_user()
    with freeze_time(NOON) as clock:
        host.issue(user, lifetime=60)
        clock.tick(7200)
        host.issue(user)
        clock.tick(60)

        assert end_sessions(host, user, older_than_us=HOUR_US) == []
        assert end_sessions(host, user, older_than_us=None) == []
    assert host.rows("xgen_revocations") == []


def test_each_session_that_ends_has_a_signal(host: Host) -> None:
    user = host.add_user()
    tokens = [host.issue(user) for _ in range(3)]
    seen: list[str | None] = []

    def look(_: object, revocation: Revocation) -> None:
        seen.append(revocation.session_id)

    with session_ended.connected_to(look):
        made = end_sessions(host, user, older_than_us=None)

    assert seen == [each.session_id for each in made]
    assert len(seen) == 2
    assert set(seen) < {token.session_id for token in tokens}


def test_many_sessions_end_in_several_transactions_of_one_act(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "SESSIONS_CHUNK", 2)
    user = host.add_user()
    committed: list[tuple[str | None, int]] = []
    signed_in: list[IssuedToken] = []

    def look(_: object, revocation: Revocation) -> None:
        committed.append((revocation.session_id, len(host.rows("xgen_revocations"))))
        if not signed_in:
            signed_in.append(host.issue(user))  # after the act began

    with freeze_time(NOON) as clock:
        tokens = []
        for _ in range(6):
            tokens.append(host.issue(user))
            clock.tick(60)
        renewed = host.renew(tokens[1])
        clock.tick(3600)
        with session_ended.connected_to(look):
            made = end_sessions(host, user, older_than_us=None)

        ids = [token.session_id for token in tokens]
        assert [each.session_id for each in made] == ids[4::-1]
        assert committed == [
            (ids[1], 2), (ids[0], 2), (ids[3], 4), (ids[2], 4), (ids[4], 5),
        ]  # fmt: skip
        assert accepted(host, [*tokens, renewed, *signed_in]) == [401] * 5 + [200, 401, 200]
    assert len({row["revoked_us"] for row in host.rows("xgen_revocations")}) == 1
    with host.app.app_context():
        found = find_act(host.db.session(), user, made[0].id)
        ended = find_end(host.db.session(), user, ids[0])
    assert found is not None
    assert ended is not None
    assert (found.sessions_ended, ended.sessions_ended) == (5, 5)


def test_a_session_that_ends_meanwhile_does_not_end_twice(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "SESSIONS_CHUNK", 1)
    user = host.add_user()
    with freeze_time(NOON) as clock:
        tokens = []
        for _ in range(3):
            tokens.append(host.issue(user))
            clock.tick(60)

        def end_next(_: object, revocation: Revocation) -> None:
            if revocation.session_id == tokens[0].session_id:
                host.end_session(tokens[1].session_id)

        with session_ended.connected_to(end_next):
            made = end_sessions(host, user, older_than_us=0)

    assert [each.session_id for each in made] == [tokens[2].session_id, tokens[0].session_id]
    assert len(host.rows("xgen_revocations")) == 3


def test_the_refusal_of_an_ended_session_is_not_that_of_a_force_logout(host: Host) -> None:
    user = host.add_user()
    old, _ = host.issue(user), host.issue(user)

    end_sessions(host, user, older_than_us=None)

    answer = host.client().get("/api/token", headers=bearer(old))
    assert (answer.status_code, answer.get_json()["forced"]) == (401, False)
    with pytest.raises(SessionRevoked):
        host.verify(old)
