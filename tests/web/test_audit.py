"""The log of sign-ins and revocations: one JSON object a line, without secrets."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from tests.support.databases import MakeHost
from tests.support.hosts import BROWSER, Host, bearer
from tests.support.standalone import ADMIN_PASSWORD, PAGE, Center, MakeCenter
from xgen_flask_sessions.web.audit import LOGGER


@pytest.fixture(autouse=True)
def verbose(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return the logged objects, each with its level."""
    records = [record for record in caplog.records if record.name == LOGGER]
    for record in records:
        assert record.getMessage().isascii()
        assert "\n" not in record.getMessage()
    return [json.loads(record.getMessage()) | {"level": record.levelname} for record in records]


def try_sign_in(center: Center, username: str, password: str, **headers: str) -> int:
    data = {"username": username, "password": password}
    environ = {"REMOTE_ADDR": "192.0.2.7:4711"}
    return (
        center.browser()
        .post("/login", data=data, headers={**PAGE, **headers}, environ_overrides=environ)
        .status_code
    )


def test_a_failed_sign_in_and_a_lock_out_are_logged(
    make: MakeCenter, caplog: pytest.LogCaptureFixture
) -> None:
    center = make(XGEN_SESSIONS_SIGN_IN_LIMIT="2/minute")

    answers = [
        try_sign_in(center, "admin", "a wrong one", **{"User-Agent": BROWSER}) for _ in range(3)
    ]

    assert answers == [401, 401, 429]
    failed, _, limited = lines(caplog)
    assert failed == {
        "event": "sign_in_failed",
        "address": "192.0.2.7",
        "username": "admin",
        "user_agent": BROWSER,
        "level": "WARNING",
    }
    assert (limited["event"], limited["address"]) == ("sign_in_limited", "192.0.2.7")
    assert limited["retry_after_s"] > 0
    assert "a wrong one" not in caplog.text


def test_no_username_or_header_can_forge_a_line_or_a_member(
    center: Center, caplog: pytest.LogCaptureFixture
) -> None:
    forged = 'a"}\n{"event": "signed_in", "address": "198.51.100.1", "x": "\x1b[2J\u202e\u2028'

    try_sign_in(center, forged, "x", **{"User-Agent": 'b", "address": "198.51.100.2'})
    center.browser().post("/api/login", json={"username": forged * 90, "password": "x"})

    first, second = lines(caplog)
    assert (first["event"], second["event"]) == ("sign_in_failed", "sign_in_failed")
    assert first["address"] == "192.0.2.7"
    assert len(second["username"]) == 150
    text = caplog.records[-1].getMessage()
    assert text.count('"address": "') == 1


def test_a_sign_in_is_logged_without_its_token(
    center: Center, caplog: pytest.LogCaptureFixture
) -> None:
    token = center.token("admin")

    (line,) = lines(caplog)
    assert (line["event"], line["level"]) == ("signed_in", "INFO")
    assert line["user_id"] == str(center.user("admin")["id"])
    assert token not in caplog.text
    assert token.rpartition(".")[2] not in caplog.text
    assert ADMIN_PASSWORD not in caplog.text


def test_renewals_and_revocations_are_logged_with_their_cause(
    sqlite_host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host = sqlite_host
    alice = host.add_user("alice")
    first, second = host.issue(alice), host.issue(alice)
    host.renew(first)
    host.end_session(second.session_id, actor="cli:root", reason="a\nb")
    host.force_logout(alice, actor="cli:root", reason="stolen")
    with host.app.app_context():
        host.sessions.force_logout_everyone(actor="cli:root")

    found = lines(caplog)
    assert [line["event"] for line in found] == [
        "signed_in",
        "signed_in",
        "renewed",
        "session_ended",
        "user_forced_out",
        "everyone_forced_out",
    ]
    assert found[3]["session_id"] == second.session_id
    assert found[3]["reason"] == "a b", "one line"
    assert found[4] == {
        "event": "user_forced_out",
        "user_id": alice,
        "sessions_ended": 1,
        "actor": "cli:root",
        "reason": "stolen",
        "level": "INFO",
    }


def test_a_revocation_that_is_rolled_back_is_not_logged(
    sqlite_host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    alice = sqlite_host.add_user("alice")
    sqlite_host.issue(alice)
    with sqlite_host.app.app_context():
        sqlite_host.sessions.force_logout(alice, commit=False)
        sqlite_host.db.session.rollback()

    assert [line["event"] for line in lines(caplog)] == ["signed_in"]


def test_each_event_of_one_application_is_logged_once(
    make_host: MakeHost, sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_host(sqlite_url)
    host = make_host(sqlite_url)
    token = host.issue(host.add_user("alice"))

    host.client().post("/sessions/sign-out", headers=bearer(token))

    assert [line["event"] for line in lines(caplog)] == ["signed_in", "session_ended"]
