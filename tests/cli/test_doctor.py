"""``flask xgen-sessions doctor``: each finding appears if it has a cause, and only then."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import Result
from cryptography.hazmat.primitives.asymmetric import ed25519
from flask import Flask
from freezegun import freeze_time
from werkzeug.middleware.proxy_fix import ProxyFix

from tests.support.databases import MakeHost
from tests.support.hosts import SECRET, Host
from tests.support.pems import pems
from tests.support.standalone import MakeCenter
from xgen_flask_sessions import clock
from xgen_flask_sessions.cli.doctor.secrecy import weakness
from xgen_flask_sessions.roster.diagnostics import database_now_us
from xgen_flask_sessions.store.tables import VERSION_TABLE

RANDOM = "9d1f0c6be2a84375f0b7c1d8e6a95432c7d0e1f2a3b4958677d8e9fa0b1c2d3e"
SOUND: dict[str, Any] = {
    "XGEN_SESSIONS_SECRET_KEY": RANDOM,
    "SECRET_KEY": RANDOM[::-1],
    "SESSION_COOKIE_SECURE": True,
    "SESSION_COOKIE_SAMESITE": "Lax",
    "REMEMBER_COOKIE_SECURE": True,
    "REMEMBER_COOKIE_SAMESITE": "Lax",
}
POOLED = {"SQLALCHEMY_ENGINE_OPTIONS": {"pool_pre_ping": True, "pool_timeout": 2}}
PLAIN_HTTP = {"cookie-insecure", "flask-cookie-insecure", "remember-cookie-insecure"}
ROOT = Path(__file__).parents[2]


def make_sound(make_host: MakeHost, url: str, **config: Any) -> Host:
    """Return a host without complaints, except for those that *config* causes."""
    pooled = {} if url.startswith("sqlite") else POOLED
    config = SOUND | pooled | config
    keys = {key: config.pop(key) for key in ("SECRET_KEY",)}

    def extras(app: Flask) -> Mapping[str, Any]:
        app.config.update(keys)
        return {}

    return make_host(url, extras=extras, **config)


def run(host: Host, *args: str) -> Result:
    return host.app.test_cli_runner().invoke(
        args=["xgen-sessions", "doctor", "--open", "open_to_all", *args]
    )


def examine(host: Host) -> dict[str, Any]:
    """Run the command, check its exit code, and return the findings by their codes."""
    result = run(host, "--json")
    document = json.loads(result.stdout)
    found = {finding["code"]: finding for finding in document["findings"]}
    assert result.exit_code == (1 if document["problems"] else 0)
    assert all(bool(each["mend"]) == (each["level"] != "ok") for each in document["findings"])
    return found


def complaints(host: Host) -> set[str]:
    """Return the codes of the findings that are warnings or problems."""
    return {code for code, finding in examine(host).items() if finding["level"] != "ok"}


def execute(host: Host, *statements: str) -> None:
    with host.app.app_context(), host.db.engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def later(**span: float) -> datetime:
    return datetime.now(UTC) + timedelta(**span)


class TestSoundHost:
    def test_has_no_complaints(self, make_host: MakeHost, database_url: str) -> None:
        findings = examine(make_sound(make_host, database_url))

        assert {finding["level"] for finding in findings.values()} == {"ok"}
        assert list(findings) == [
            "routes-checked", "routes-open", "keys", "cookies", "tables", "users-none", "clock",
            "revocation",
        ]  # fmt: skip


class TestKeys:
    @pytest.mark.parametrize(
        "secret",
        [
            SECRET,
            "x" * 64,
            "0123456789" * 4,
            "abcdefghijklmnopqrstuvwxyz0123456789",
            "CHANGE-ME-1f0c6be2a84375f0b7c1d8e6a9543",
            "dev" * 11,
            "django-insecure-8s7df68s7d6f87sd6f87sd6f87",
            "ThisIsTheKeyOfOurCompanyDontTell1",
            "correct horse battery staple, and more of it",
            "아무도 모르는 아주 긴 비밀 열쇠입니다",
        ],
    )
    def test_secret_that_can_be_guessed(
        self, make_host: MakeHost, sqlite_url: str, secret: str
    ) -> None:
        host = make_sound(make_host, sqlite_url, XGEN_SESSIONS_SECRET_KEY=secret)

        assert complaints(host) == {"key-weak"}
        assert secret not in run(host, "--json").stdout + run(host).stdout

    def test_random_secrets_pass(self) -> None:
        makers: dict[str, Callable[[], bytes]] = {
            "hex": lambda: secrets.token_hex(32).encode(),
            "half": lambda: secrets.token_hex(16).encode(),
            "url": lambda: secrets.token_urlsafe(32).encode(),
            "base64": lambda: base64.b64encode(os.urandom(32)),
            "bytes": lambda: os.urandom(32),
            "uuid": lambda: str(uuid.uuid4()).encode(),
        }

        # About one random secret in ten thousand is mistaken for words.
        for name, make in makers.items():
            assert sum(weakness(make()) is not None for _ in range(1000)) <= 2, name

    def test_previous_secret_that_can_be_guessed(
        self, make_host: MakeHost, sqlite_url: str
    ) -> None:
        host = make_sound(
            make_host, sqlite_url, XGEN_SESSIONS_PREVIOUS_KEYS=["x" * 32, RANDOM[5:] + "0"]
        )

        assert complaints(host) == {"previous-key-weak"}

    @pytest.mark.parametrize(
        "config",
        [
            {"SECRET_KEY": "8f3a0c"},
            {"SECRET_KEY": b"\x00\xff" * 3},
            {"SECRET_KEY": SECRET},
            {"SECRET_KEY_FALLBACKS": ["dev"]},
        ],
    )
    def test_flasks_secret_that_can_be_guessed(
        self, make_host: MakeHost, sqlite_url: str, config: dict[str, Any]
    ) -> None:
        assert complaints(make_sound(make_host, sqlite_url, **config)) == {"flask-key-weak"}

    def test_one_weak_secret_for_both_is_reported_once(
        self, make_host: MakeHost, sqlite_url: str
    ) -> None:
        host = make_sound(make_host, sqlite_url, SECRET_KEY=SECRET, XGEN_SESSIONS_SECRET_KEY=SECRET)

        assert complaints(host) == {"key-weak"}

    def test_flasks_secret_does_not_matter_without_flask_login(
        self, make_host: MakeHost, sqlite_url: str
    ) -> None:
        def extras(app: Flask) -> Mapping[str, Any]:
            del app.login_manager  # type: ignore[attr-defined]
            app.config["SECRET_KEY"] = "dev"
            return {"login_manager": None}

        host = make_host(sqlite_url, extras=extras, XGEN_SESSIONS_SECRET_KEY=RANDOM)

        assert complaints(host) == {"routes-unchecked"}, "neither keys nor cookies"

    def test_secret_does_not_matter_if_another_key_signs(
        self, make_host: MakeHost, sqlite_url: str
    ) -> None:
        private, _ = pems(ed25519.Ed25519PrivateKey.generate())
        host = make_sound(
            make_host,
            sqlite_url,
            XGEN_SESSIONS_SECRET_KEY=None,
            XGEN_SESSIONS_ALGORITHM="EdDSA",
            XGEN_SESSIONS_PRIVATE_KEY=private,
        )

        assert complaints(host) == set()


class TestCookies:
    @pytest.mark.parametrize(
        ("config", "code"),
        [
            ({"XGEN_SESSIONS_COOKIE_SECURE": False}, "cookie-insecure"),
            ({"XGEN_SESSIONS_COOKIE_SAMESITE": "None"}, "cookie-cross-site"),
            ({"SESSION_COOKIE_SECURE": False}, "flask-cookie-insecure"),
            ({"SESSION_COOKIE_SAMESITE": None}, "flask-cookie-cross-site"),
            ({"SESSION_COOKIE_SAMESITE": "None"}, "flask-cookie-cross-site"),
            ({"REMEMBER_COOKIE_SECURE": False}, "remember-cookie-insecure"),
            ({"REMEMBER_COOKIE_SAMESITE": None}, "remember-cookie-cross-site"),
            ({"REMEMBER_COOKIE_SAMESITE": "None"}, "remember-cookie-cross-site"),
            ({"REMEMBER_COOKIE_HTTPONLY": False}, "remember-cookie-readable"),
        ],
    )
    def test_with_an_insecure_setting(
        self, make_host: MakeHost, sqlite_url: str, config: dict[str, Any], code: str
    ) -> None:
        host = make_sound(make_host, sqlite_url, **config)

        assert complaints(host) == {code}
        assert examine(host)[code]["level"] == "warning"

    def test_does_not_matter_if_tokens_come_in_headers_only(
        self, make_host: MakeHost, sqlite_url: str
    ) -> None:
        host = make_sound(
            make_host,
            sqlite_url,
            XGEN_SESSIONS_COOKIE_SECURE=False,
            XGEN_SESSIONS_TOKEN_LOCATIONS=["headers"],
        )

        assert complaints(host) == set()


class TestTables:
    def test_missing(self, make_host: MakeHost, database_url: str) -> None:
        host = make_host(database_url, create_all=False)
        execute(host)  # SQLite creates the file

        finding = examine(host)["tables-missing"]

        assert finding["level"] == "problem"
        assert "flask xgen-sessions upgrade" in finding["mend"]
        assert {"clock", "revocation"}.isdisjoint(examine(host))

    def test_that_lack_a_column(self, make_host: MakeHost, database_url: str) -> None:
        host = make_sound(make_host, database_url)
        execute(host, "ALTER TABLE xgen_sessions DROP COLUMN ip")

        assert complaints(host) == {"tables-missing"}

    def test_in_a_schema_that_the_engine_translates(
        self, make_host: MakeHost, postgresql_url: str
    ) -> None:
        pooled = POOLED["SQLALCHEMY_ENGINE_OPTIONS"]
        options = {**pooled, "execution_options": {"schema_translate_map": {None: "moved"}}}
        host = make_sound(
            make_host, postgresql_url, create_all=False, SQLALCHEMY_ENGINE_OPTIONS=options
        )
        execute(host, "DROP SCHEMA IF EXISTS moved CASCADE", "CREATE SCHEMA moved")
        before = complaints(host)
        runner = host.app.test_cli_runner()
        upgrades = [runner.invoke(args=["xgen-sessions", "upgrade"]) for _ in range(2)]
        host.create_tables()

        findings = examine(host)

        assert before == {"tables-missing", "users-unreadable"}
        assert upgrades[1].stdout == "The tables are up to date.\n"
        assert {finding["level"] for finding in findings.values()} == {"ok"}
        assert {"tables", "revocation"} < findings.keys()

    def test_of_a_newer_release(self, make_host: MakeHost, database_url: str) -> None:
        host = make_sound(make_host, database_url)
        execute(host, f"INSERT INTO {VERSION_TABLE} VALUES ('9999')")

        finding = examine(host)["tables-newer"]

        assert finding["level"] == "problem"
        assert "9999" in finding["mend"]

    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("sqlite:////nowhere/at/all.db", "No such file"),
            ("postgresql+psycopg://postgres:hush@127.0.0.1:9/test", "refused"),
            ("mysql+pymysql://root:hush@127.0.0.1:9/test", "Can't connect"),
        ],
    )
    def test_cannot_be_checked_while_the_database_is_down(
        self, make_host: MakeHost, url: str, reason: str
    ) -> None:
        def extras(app: Flask) -> Mapping[str, Any]:
            app.config["SECRET_KEY"] = "dev"
            return {}

        host = make_host(url, create_all=False, extras=extras, XGEN_SESSIONS_SECRET_KEY=RANDOM)

        result = run(host)
        finding = examine(host)["database-unusable"]

        assert result.exit_code == 1
        assert result.stderr == ""
        assert finding["level"] == "problem"
        assert reason in finding["meaning"]
        assert "flask-key-weak" in examine(host), "checks that need no database still run"
        assert "hush" not in result.stdout + json.dumps(finding)

    def test_that_are_locked(self, make_host: MakeHost, postgresql_url: str) -> None:
        host = make_sound(make_host, f"{postgresql_url}?options=-c%20lock_timeout%3D200")
        locking = sa.create_engine(postgresql_url, poolclass=sa.NullPool)

        with locking.connect() as connection:
            connection.exec_driver_sql("LOCK TABLE xgen_user_logins IN ACCESS EXCLUSIVE MODE")
            findings = examine(host)

        assert "lock timeout" in findings["database-unusable"]["meaning"]
        assert "lock timeout" in findings["revocation-untried"]["meaning"]
        assert complaints(host) == set(), "the lock is released"


class TestConnections:
    @pytest.fixture(params=["postgresql", "mariadb"])
    def server_url(self, request: pytest.FixtureRequest) -> str:
        url: str = request.getfixturevalue(f"{request.param}_url")
        return url

    @pytest.mark.parametrize(
        ("options", "codes"),
        [
            ({}, {"pool-pre-ping", "pool-timeout"}),
            ({"pool_pre_ping": True}, {"pool-timeout"}),
            ({"pool_timeout": 1}, {"pool-pre-ping"}),
            ({"poolclass": sa.NullPool}, set()),
        ],
    )
    def test_of_a_pool(
        self, make_host: MakeHost, server_url: str, options: dict[str, Any], codes: set[str]
    ) -> None:
        host = make_sound(make_host, server_url, SQLALCHEMY_ENGINE_OPTIONS=options)

        assert complaints(host) == codes

    @pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
    def test_at_an_isolation_level_where_concurrent_changes_fail(
        self, make_host: MakeHost, postgresql_url: str, level: str
    ) -> None:
        options = POOLED["SQLALCHEMY_ENGINE_OPTIONS"] | {"isolation_level": level}
        host = make_sound(make_host, postgresql_url, SQLALCHEMY_ENGINE_OPTIONS=options)
        server_side = level.lower().replace(" ", "%5C%20")
        asked = make_sound(
            make_host,
            f"{postgresql_url}?options=-c%20default_transaction_isolation%3D{server_side}",
        )

        assert complaints(host) == {"isolation"}
        assert level in examine(host)["isolation"]["meaning"]
        assert complaints(asked) == {"isolation"}

    @pytest.mark.parametrize("switched", ["ON", "OFF"])
    def test_where_mariadb_refuses_old_snapshots(
        self, make_host: MakeHost, mariadb_url: str, switched: str
    ) -> None:
        command = f"SET SESSION innodb_snapshot_isolation = {switched}"
        pooled = POOLED["SQLALCHEMY_ENGINE_OPTIONS"] | {"connect_args": {"init_command": command}}
        host = make_sound(make_host, mariadb_url, SQLALCHEMY_ENGINE_OPTIONS=pooled)
        mended = make_sound(
            make_host,
            mariadb_url,
            SQLALCHEMY_ENGINE_OPTIONS=pooled | {"isolation_level": "READ COMMITTED"},
        )

        assert complaints(host) == ({"isolation"} if switched == "ON" else set())
        assert complaints(mended) == set()


class TestClock:
    @pytest.mark.parametrize("apart_s", [-5.25, 5.25])
    def test_that_differs(self, make_host: MakeHost, database_url: str, apart_s: float) -> None:
        host = make_sound(make_host, database_url)

        with freeze_time(later(seconds=apart_s), tick=True):
            findings = examine(host)

        if database_url.startswith("sqlite"):
            assert "own clock" in findings["clock"]["meaning"]
            return
        meaning = findings["clock-differs"]["meaning"]
        assert findings["clock-differs"]["level"] == "warning"
        told = re.search(r"(\d+\.\d) s", meaning)
        # The duration of the query is subtracted from the difference.
        assert told is not None, meaning
        assert 3 < float(told[1]) <= 5.3
        assert ("behind" if apart_s < 0 else "ahead of") in meaning
        assert findings["revocation"]["level"] == "ok", "a force logout depends on no clock"

    def test_whatever_the_style_of_dates(self, make_host: MakeHost, postgresql_url: str) -> None:
        host = make_host(f"{postgresql_url}?options=-cDateStyle%3DGerman", create_all=False)

        with host.app.app_context():
            told = database_now_us(host.db.session())

        assert told is not None
        assert abs(told - clock.now_us()) < 60_000_000

    def test_that_agrees(self, make_host: MakeHost, database_url: str) -> None:
        host = make_sound(make_host, database_url)

        with freeze_time(later(seconds=0.4), tick=True):
            assert complaints(host) == set()


class TestProxy:
    def sign_in(self, host: Host, *addresses: str) -> None:
        for number, address in enumerate(addresses):
            host.client().post(
                "/sign-in",
                data={"user_id": host.add_user(f"user{number}")},
                environ_base={"REMOTE_ADDR": address},
            )

    @pytest.mark.parametrize(
        "address",
        ["10.0.0.7", "172.31.0.1", "192.168.1.1", "127.0.0.1", "169.254.1.1", "100.64.0.1",
         "::1", "fd00::1", "fe80::1"],
    )  # fmt: skip
    def test_is_found_if_most_users_have_one_private_address(
        self, make_host: MakeHost, sqlite_url: str, address: str
    ) -> None:
        host = make_sound(make_host, sqlite_url)
        self.sign_in(host, *[address] * 4, "203.0.113.7")

        finding = examine(host)["proxy"]

        assert complaints(host) == {"proxy"}
        assert finding["level"] == "warning"
        assert f"4 of 5 active users came from {address}" in finding["meaning"]
        assert "Add Werkzeug's ProxyFix" in finding["mend"]

    def test_is_found_on_every_database(self, make_host: MakeHost, database_url: str) -> None:
        host = make_sound(make_host, database_url)
        self.sign_in(host, *["10.0.0.7"] * 6, "10.0.0.8")

        assert "6 of 7" in examine(host)["proxy"]["meaning"]

    @pytest.mark.parametrize(
        "addresses",
        [
            [],
            ["10.0.0.7"] * 4,
            ["10.0.0.7"] * 4 + ["203.0.113.7"] * 2,
            ["203.0.113.7"] * 8,
            ["100.128.0.1"] * 8,
            [f"10.0.0.{host}" for host in range(8)],
            ["/run/app.sock"] * 8,
        ],
    )
    def test_is_not_found_in_addresses_that_may_be_right(
        self, make_host: MakeHost, sqlite_url: str, addresses: list[str]
    ) -> None:
        host = make_sound(make_host, sqlite_url)
        self.sign_in(host, *addresses)

        assert complaints(host) == set()

    def test_is_not_found_in_expired_sessions(self, make_host: MakeHost, sqlite_url: str) -> None:
        host = make_sound(make_host, sqlite_url)
        self.sign_in(host, *["10.0.0.7"] * 6)

        with freeze_time(later(days=2)):
            assert complaints(host) == set()

    def test_with_too_small_a_count_has_another_mend(
        self, make_host: MakeHost, sqlite_url: str
    ) -> None:
        host = make_sound(make_host, sqlite_url)
        self.sign_in(host, *["10.0.0.7"] * 6)
        host.app.wsgi_app = ProxyFix(host.app.wsgi_app)  # type: ignore[method-assign]

        assert "x_for" in examine(host)["proxy"]["mend"]


def trigger(url: str, table: str, event: str, action: str) -> list[str]:
    """Return the statements that create a trigger which spoils a change.

    :param action: ``"refuse"``, or an assignment to the new row, for example ``ended_us = NULL``.
    """
    if url.startswith("sqlite"):
        key = {"xgen_sessions": "jti", "xgen_user_logins": "user_id"}.get(table)
        spoil = f"UPDATE {table} SET {action} WHERE {key} = NEW.{key}"
        if action == "refuse":
            spoil = "SELECT RAISE(ABORT, 'refused by a trigger')"
        return [f"CREATE TRIGGER spoil_{table} AFTER {event} ON {table} BEGIN {spoil}; END"]
    before = f"CREATE TRIGGER spoil_{table} BEFORE {event} ON {table} FOR EACH ROW"
    if url.startswith("postgresql"):
        spoil = "RAISE EXCEPTION 'refused by a trigger'"
        if action != "refuse":
            spoil = f"NEW.{action.replace('=', ':=')}"
        body = f"BEGIN {spoil}; RETURN NEW; END"
        return [
            f"CREATE FUNCTION spoil_{table}() RETURNS trigger LANGUAGE plpgsql AS $${body}$$",
            f"{before} EXECUTE FUNCTION spoil_{table}()",
        ]
    spoil = "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused by a trigger'"
    return [f"{before} {spoil if action == 'refuse' else f'SET NEW.{action}'}"]


class TestProof:
    def assert_nothing_left(self, host: Host) -> None:
        assert host.rows("xgen_sessions") == host.rows("xgen_revocations") == []
        assert [row["user_id"] for row in host.rows("xgen_user_logins")] in ([], ["*"])

    def test_leaves_everything_as_it_was(self, make_host: MakeHost, database_url: str) -> None:
        host = make_sound(make_host, database_url)
        token = host.issue(host.add_user("bora"))
        host.force_logout(host.add_user("dan"))
        tables = ("xgen_sessions", "xgen_user_logins", "xgen_revocations", "users")
        before = [host.rows(table) for table in tables]

        assert complaints(host) == set()

        assert [host.rows(table) for table in tables] == before
        assert host.status(token) == 200

    def test_works_with_a_database_in_memory(self, make_host: MakeHost) -> None:
        host = make_sound(make_host, "sqlite://")

        assert complaints(host) == set()
        self.assert_nothing_left(host)

    @pytest.mark.parametrize(
        ("spoiled", "said"),
        [
            (
                [("xgen_user_logins", "invalid_before_us = 0"),
                 ("xgen_sessions", "ended_us = NULL")],
                "a token outlives a force logout",
            ),
            ([("xgen_sessions", "ended_us = NULL")], "a token outlives the end of its session"),
            ([("xgen_sessions", "issued_us = 7")], "refused for the wrong reason (token_invalid)"),
        ],
    )  # fmt: skip
    def test_finds_a_trigger_that_undoes_a_revocation(
        self,
        make_host: MakeHost,
        database_url: str,
        spoiled: list[tuple[str, str]],
        said: str,
    ) -> None:
        host = make_sound(make_host, database_url)
        host.issue(host.add_user("bora"))
        for table, action in spoiled:
            execute(host, *trigger(database_url, table, "UPDATE", action))
        before = host.rows("xgen_sessions")

        finding = examine(host)["revocation-fails"]

        assert finding["level"] == "problem"
        assert said in finding["meaning"]
        assert host.rows("xgen_sessions") == before
        assert host.rows("xgen_revocations") == []

    def test_finds_a_sign_in_that_is_refused(self, make_host: MakeHost, database_url: str) -> None:
        host = make_sound(make_host, database_url)
        execute(host, *trigger(database_url, "xgen_sessions", "INSERT", "ended_us = 1"))

        assert "a sign-in is refused" in examine(host)["revocation-fails"]["meaning"]
        self.assert_nothing_left(host)

    def test_finds_changes_that_cannot_be_undone(
        self, make_host: MakeHost, database_url: str
    ) -> None:
        name = "isolation_level" if database_url.startswith("sqlite") else "autocommit"
        own = {"connect_args": {name: None if name == "isolation_level" else True}}
        options = own | POOLED["SQLALCHEMY_ENGINE_OPTIONS"]
        host = make_sound(make_host, database_url, SQLALCHEMY_ENGINE_OPTIONS=options)

        assert "a sign-in that was undone counts" in (examine(host)["revocation-fails"]["meaning"])
        self.assert_nothing_left(host)

    @pytest.mark.parametrize("table", ["xgen_sessions", "xgen_user_logins", "xgen_revocations"])
    def test_cleans_up_after_a_step_that_was_refused(
        self, make_host: MakeHost, database_url: str, table: str
    ) -> None:
        host = make_sound(make_host, database_url)
        execute(host, *trigger(database_url, table, "INSERT", "refuse"))

        finding = examine(host)["revocation-untried"]

        assert finding["level"] == "problem"
        assert "refused by a trigger" in finding["meaning"]
        self.assert_nothing_left(host)

    def test_names_the_user_of_rows_that_it_could_not_delete(
        self, make_host: MakeHost, database_url: str
    ) -> None:
        host = make_sound(make_host, database_url)
        execute(host, *trigger(database_url, "xgen_sessions", "DELETE", "refuse"))

        finding = examine(host)["proof-left-behind"]

        assert finding["level"] == "problem"
        assert host.rows("xgen_sessions")[0]["user_id"] in finding["mend"]

    def test_cannot_be_made_in_a_database_that_is_read_only(
        self, make_host: MakeHost, sqlite_url: str
    ) -> None:
        make_host(sqlite_url)
        path = sqlite_url.removeprefix("sqlite:///")
        host = make_sound(make_host, f"sqlite:///file:{path}?mode=ro&uri=true")

        finding = examine(host)["revocation-untried"]

        assert "readonly" in finding["meaning"]

    def test_is_skipped_without_a_signing_key(self, make_host: MakeHost, sqlite_url: str) -> None:
        _, public = pems(ed25519.Ed25519PrivateKey.generate())
        host = make_sound(
            make_host,
            sqlite_url,
            XGEN_SESSIONS_ALGORITHM="EdDSA",
            XGEN_SESSIONS_PUBLIC_KEY=public,
        )

        findings = examine(host)

        assert findings["revocation-not-tried"]["level"] == "ok"
        self.assert_nothing_left(host)


class TestCommand:
    def test_prints_findings_mends_and_a_summary(
        self, make_host: MakeHost, sqlite_url: str
    ) -> None:
        host = make_sound(make_host, sqlite_url, XGEN_SESSIONS_COOKIE_SECURE=False)

        result = run(host)

        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.endswith("\n\n0 problems, 1 warning.\n")
        lines = result.stdout.splitlines()
        at = lines.index(
            "warning  The token's cookie is sent over plain HTTP, where it can be read."
        )
        assert lines[at + 1] == ("         -> Use HTTPS, and leave XGEN_SESSIONS_COOKIE_SECURE on.")
        assert max(map(len, lines)) <= 100
        assert [line for line in lines if re.fullmatch(r" {11}GET +/open +open_to_all", line)]

    def test_ends_with_1_for_warnings_only_if_asked_to(
        self, make_host: MakeHost, sqlite_url: str
    ) -> None:
        warned = make_sound(make_host, sqlite_url, XGEN_SESSIONS_COOKIE_SECURE=False)
        sound = make_sound(make_host, sqlite_url)

        codes = [
            run(host, *args).exit_code for host in (warned, sound) for args in ([], ["--strict"])
        ]

        assert codes == [0, 1, 0, 0]

    def test_ends_with_1_for_a_problem(self, make_host: MakeHost, sqlite_url: str) -> None:
        host = make_sound(make_host, sqlite_url)
        execute(host, "DROP TABLE xgen_sessions")

        result = run(host)

        assert result.exit_code == 1
        assert result.stdout.endswith("1 problem, 0 warnings.\n")

    @pytest.mark.parametrize("args", [["--open"], ["--open", ""], ["--loud"], ["more"]])
    def test_refuses_a_wrong_call(self, sqlite_host: Host, args: list[str]) -> None:
        assert run(sqlite_host, *args).exit_code == 2

    def test_in_json_is_one_document(self, make_host: MakeHost, database_url: str) -> None:
        host = make_sound(make_host, database_url, SESSION_COOKIE_SECURE=False)

        document = json.loads(run(host, "--json").stdout)

        assert (document["problems"], document["warnings"]) == (0, 1)
        assert {"level": "warning", "code": "flask-cookie-insecure", "routes": []}.items() <= next(
            finding for finding in document["findings"] if finding["level"] == "warning"
        ).items()

    def test_prints_no_secret(self, make_host: MakeHost, sqlite_url: str) -> None:
        keys = {
            "XGEN_SESSIONS_SECRET_KEY": "x" * 40,
            "SECRET_KEY": "a weak secret",
            "XGEN_SESSIONS_PREVIOUS_KEYS": ["y" * 40],
        }
        host = make_sound(make_host, sqlite_url, **keys)

        printed = run(host).stdout + run(host, "--json").stdout

        assert {"key-weak", "flask-key-weak", "previous-key-weak"} == complaints(host)
        assert not [each for each in ("x" * 40, "a weak secret", "y" * 40) if each in printed]
        assert "eyJ" not in printed

    def test_prints_no_control_characters(self, make_host: MakeHost, sqlite_url: str) -> None:
        host = make_sound(make_host, sqlite_url)
        host.app.add_url_rule("/odd\x07path", "odd\x07endpoint", lambda: "in")

        printed = run(host).stdout

        assert "\x07" not in printed
        assert "endpoint" in printed


def call(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("XGEN_")}
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd, env=kept | environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "warned", "url"),
    [
        (0o644, True, "sqlite:///{}"),
        (0o644, True, "sqlite:///file:{}?uri=true"),
        (0o640, False, "sqlite:///{}"),
        (0o600, False, "sqlite:///{}"),
    ],
)
def test_a_database_file_that_all_users_can_read_is_a_warning(
    make_host: MakeHost, mode: int, warned: bool, url: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        host = make_sound(make_host, url.format(place / "open.db"))
        (place / "open.db").chmod(mode)

        assert ("database-readable" in complaints(host)) == warned
        place.chmod(0o700)
        assert "database-readable" not in complaints(host)


def codes_in(output: str) -> set[str]:
    return {
        finding["code"] for finding in json.loads(output)["findings"] if finding["level"] != "ok"
    }


class TestStandaloneAdminCenter:
    def test_has_no_complaints_but_those_of_plain_http(
        self, make: MakeCenter, database_url: str
    ) -> None:
        pooled = {"pool_pre_ping": True, "pool_timeout": 2}
        options = {} if database_url.startswith("sqlite") else pooled
        center = make(SQLALCHEMY_DATABASE_URI=database_url, SQLALCHEMY_ENGINE_OPTIONS=options)

        result = center.app.test_cli_runner().invoke(args=["xgen-sessions", "doctor", "--json"])

        assert result.exit_code == 0
        assert codes_in(result.stdout) == PLAIN_HTTP

    def test_has_none_behind_https(self, make: MakeCenter) -> None:
        center = make(XGEN_SESSIONS_COOKIE_SECURE=True)

        result = center.app.test_cli_runner().invoke(args=["xgen-sessions", "doctor", "--strict"])

        assert (result.exit_code, result.stdout[-26:]) == (0, "\n\n0 problems, 0 warnings.\n")

    @pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
    def test_has_the_command(self, tmp_path: Path, database_url: str) -> None:
        command = ["-m", "xgen_flask_sessions", "xgen-sessions"]
        environment = {"XGEN_INSTANCE_PATH": str(tmp_path / "instance")}
        if not database_url.startswith("sqlite"):
            environment["XGEN_DATABASE_URL"] = database_url

        before = call(*command, "doctor", "--json", cwd=tmp_path, **environment)
        call(*command, "upgrade", cwd=tmp_path, **environment)
        user = ["users", "create", "ann", "--password", "correct horse battery"]
        call(*command[:2], *user, cwd=tmp_path, **environment)  # it makes the tables of users
        after = call(*command, "doctor", "--json", cwd=tmp_path, **environment)

        assert (before.returncode, before.stderr) == (1, "")
        missing = {"tables-missing", "users-unreadable"}
        assert codes_in(before.stdout) == PLAIN_HTTP | missing
        assert "python -m xgen_flask_sessions xgen-sessions upgrade" in before.stdout
        assert (after.returncode, after.stderr) == (0, "")
        assert codes_in(after.stdout) == PLAIN_HTTP


def test_the_example_application_has_no_complaints_but_those_of_plain_http(
    tmp_path: Path,
) -> None:
    shutil.copy(ROOT / "examples" / "app.py", tmp_path)
    command = ["-m", "flask", "--app", "app"]
    environment = {"FLASK_SECRET_KEY": secrets.token_hex(32)}
    call(*command, "create-admin", "--password", "x", cwd=tmp_path, **environment)

    doctor = [*command, "xgen-sessions", "doctor", "--json", "--open", "admin.index"]
    result = call(*doctor, cwd=tmp_path, **environment)

    assert result.returncode == 0, result.stderr
    # Its users sign in with tokens, so Flask's own cookies matter little.
    cross_site = {"flask-cookie-cross-site", "remember-cookie-cross-site"}
    assert codes_in(result.stdout) - cross_site == PLAIN_HTTP
