"""``flask xgen-sessions``: the commands' output, effects and exit codes."""

from __future__ import annotations

import getpass
import json
import re
import unicodedata
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
import sqlalchemy as sa
from click.testing import Result
from freezegun import freeze_time

from tests.support.commands import run
from tests.support.databases import MakeHost, on_sqlite
from tests.support.hosts import BROWSER, Host, NamedUser, TenantUser, bearer
from tests.support.revisions import ALL
from xgen_flask_sessions.store import pruning
from xgen_flask_sessions.store.tables import VERSION_TABLE

MAY = "2026-05-25 04:36:49.123456"
UPGRADE_FIRST = "run flask xgen-sessions upgrade"


def run_json(host: Host, *args: str) -> Any:
    result = run(host, *args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def sign_in(
    host: Host, user_id: str, *, ip: str = "203.0.113.7", user_agent: str = BROWSER
) -> dict[str, str]:
    """Sign in over HTTP; return the ``token`` and the ``session_id``."""
    response = host.client().post(
        "/sign-in",
        data={"user_id": user_id},
        headers={"User-Agent": user_agent},
        environ_base={"REMOTE_ADDR": ip},
    )
    answer: dict[str, str] = response.get_json()
    return answer


def cells(line: str) -> list[str]:
    return re.split(r" {2,}", line.strip())


def width(text: str) -> int:
    """Return the number of terminal columns that *text* takes."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def assert_failed(result: Result, message: str) -> None:
    """Assert exit code 1 and a one-line error that contains *message*, without a traceback."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


class TestList:
    def test_has_a_row_for_each_active_user(self, make_host: MakeHost, database_url: str) -> None:
        host = make_host(database_url, XGEN_SESSIONS_TIMEZONE="Asia/Seoul")
        bora = host.add_user("bora", display_name="김보라", department="개발", is_superuser=True)
        dan = host.add_user("dan")
        host.add_user("nobody")
        with freeze_time(MAY) as clock:
            host.issue(dan)
            clock.tick(1)
            sign_in(host, bora)
            sign_in(host, bora, ip="2001:db8::1")

            result = run(host, "list")

        assert result.exit_code == 0
        head, _, *rows, _, summary = result.stdout.splitlines()
        assert cells(head) == [
            "User", "Name", "Department", "Active Sessions", "Last Login", "Last IP"
        ]  # fmt: skip
        assert list(map(cells, rows)) == [
            ["bora", "김보라", "개발", "SUPER", "2", "2026-05-25 13:36:50", "2001:db8::1"],
            ["dan", "-", "-", "1", "2026-05-25 13:36:49", "-"],
        ]
        assert {width(row.partition("2026")[0]) for row in rows} == {head.index("Last Login")}
        assert summary == (
            "2 active users, 3 active sessions, 1 SuperUser. "
            "Page 1 of 1. Times are Asia/Seoul (UTC+09:00)."
        )

    def test_prints_zero_counts_without_sessions(self, host: Host) -> None:
        result = run(host, "list")

        assert result.exit_code == 0
        assert result.stdout == (
            "0 active users, 0 active sessions, 0 SuperUsers. Page 1 of 1. Times are UTC.\n"
        )

    def test_has_pages(self, host: Host) -> None:
        with freeze_time(MAY):
            for number in range(51):
                host.issue(host.add_user(f"user{number:02}"))

            first = run_json(host, "list")
            second = run_json(host, "list", "--page", "2")
            last = run(host, "list", "--page", "2")
            third = run(host, "list", "--page", "3")

        assert (len(first["users"]), first["page"], first["pages"]) == (50, 1, 2)
        assert (len(second["users"]), second["page"], second["pages"]) == (1, 2, 2)
        assert third.exit_code == 0
        assert third.stdout == last.stdout, "a page past the end shows the last page"
        assert "Page 2 of 2." in third.stdout

    @pytest.mark.parametrize("page", ["0", "-1", "one", "1000000000", "99999999999999999999"])
    def test_refuses_an_invalid_page(self, host: Host, page: str) -> None:
        result = run(host, "list", "--page", page)

        assert result.exit_code == 2
        assert "--page" in result.stderr

    def test_shows_the_last_page_for_the_highest_page_number(self, host: Host) -> None:
        host.issue(host.add_user("bora"))

        result = run(host, "list", "--search", "b", "--page", "999999999")

        assert result.exit_code == 0
        assert "Page 1 of 1." in result.stdout

    def test_prints_the_same_json_as_the_api(self, host: Host) -> None:
        admin = host.add_user("admin", is_superuser=True, display_name="Kim, A.")
        token = sign_in(host, admin)["token"]
        host.issue(host.add_user("bora"))

        document = run_json(host, "list")

        answer = host.client().get("/sessions/users", headers=bearer(token))
        assert document == answer.get_json()
        assert document["summary"] == {"active_users": 2, "active_sessions": 2, "superusers": 1}

    def test_replaces_control_characters_in_names(self, host: Host) -> None:
        host.issue(host.add_user("eve\x1b[2J\r", display_name="a\nb", department="\u202ec"))

        result = run(host, "list")

        assert "eve\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}" in result.stdout
        assert all(char.isprintable() or char == "\n" for char in result.stdout)
        assert len(result.stdout.splitlines()) == 5
        escaped = run(host, "list", "--json").stdout
        assert escaped.isascii()
        assert "\x1b" not in escaped

    def test_shows_names_that_look_like_numbers_as_they_are(self, host: Host) -> None:
        host.issue(host.add_user("0012", department="1e5"))

        row = run(host, "list").stdout.splitlines()[2]

        assert row.split()[:3] == ["0012", "-", "1e5"]


class TestShow:
    def test_has_a_row_for_each_active_session(
        self, make_host: MakeHost, database_url: str
    ) -> None:
        host = make_host(database_url, XGEN_SESSIONS_TIMEZONE="Asia/Seoul")
        bora = host.add_user("bora")
        with freeze_time(MAY) as clock:
            first = host.issue(bora)
            clock.tick(1)
            second = sign_in(host, bora)
            ended = host.issue(bora)
            host.end_session(ended.session_id)

            result = run(host, "show", "bora")

        assert result.exit_code == 0
        head, _, *rows, _, summary = result.stdout.splitlines()
        assert cells(head) == ["Browser", "Device", "Signed in", "IP", "Expires", "Session ID"]
        assert list(map(cells, rows)) == [
            ["Chrome 125", "Windows", "2026-05-25 13:36:50", "203.0.113.7",
             "2026-05-26 13:36:50", second["session_id"]],
            ["-", "-", "2026-05-25 13:36:49", "-", "2026-05-26 13:36:49", first.session_id],
        ]  # fmt: skip
        assert summary == "2 active sessions of bora. Times are Asia/Seoul (UTC+09:00)."

    def test_prints_a_zero_count_without_sessions(self, host: Host) -> None:
        host.add_user("bora")

        result = run(host, "show", "bora")

        assert (result.exit_code, result.stdout) == (
            0,
            "0 active sessions of bora. Times are UTC.\n",
        )

    def test_prints_the_same_json_as_the_api(self, host: Host) -> None:
        token = sign_in(host, host.add_user("admin", is_superuser=True))["token"]
        bora = host.add_user("bora")
        sign_in(host, bora)
        host.issue(bora)

        document = run_json(host, "show", "bora")

        answer = host.client().get(f"/sessions/users/{bora}", headers=bearer(token))
        assert document == answer.get_json()
        assert [session["browser"] for session in document["sessions"]] == [None, "Chrome 125"]


class TestUser:
    """The argument USER of the commands."""

    def test_is_a_username(self, host: Host) -> None:
        bora = host.add_user("bora")

        assert run_json(host, "show", "bora")["user_id"] == bora

    def test_is_an_id_if_no_username_matches(self, host: Host) -> None:
        bora = host.add_user("bora")

        assert run_json(host, "show", bora)["user_id"] == bora
        assert "of bora." in run(host, "show", bora).stdout

    def test_is_an_id_of_a_deleted_user(self, host: Host) -> None:
        bora = host.add_user("bora")
        token = host.issue(bora)
        host.delete_user(bora)

        assert run_json(host, "show", bora)["sessions"][0]["session_id"] == token.session_id
        assert_failed(run(host, "show", "bora"), "There is no user bora.")
        assert run_json(host, "force-logout", "--id", bora)["sessions_ended"] == 1

    def test_is_an_id_with_the_option(self, host: Host) -> None:
        bora = host.add_user("bora")
        host.add_user(bora)

        assert run_json(host, "show", "--id", bora)["user_id"] == bora
        assert_failed(run(host, "show", "--id", "bora"), "There is no user bora.")

    @pytest.mark.parametrize("deleted", [False, True])
    def test_must_not_be_ambiguous(self, host: Host, deleted: bool) -> None:
        bora = host.add_user("bora")
        host.issue(bora)
        other = host.add_user(bora)
        if deleted:
            host.delete_user(bora)

        result = run(host, "force-logout", bora)

        assert_failed(result, f"{bora} is the name or the id of 2 users. Choose one with --id")
        assert f"{other} ({bora}); {bora} ({bora if deleted else 'bora'})" in result.stderr
        assert host.rows("xgen_revocations") == []

    @pytest.mark.parametrize("command", ["show", "force-logout"])
    def test_must_not_be_the_name_of_several(
        self, make_host: MakeHost, database_url: str, command: str
    ) -> None:
        host = make_host(database_url, model=TenantUser)
        ids = [host.add_user("bora", department=name) for name in ("Sales", "Support")]
        tokens = [host.issue(user) for user in ids]

        result = run(host, command, "bora")

        assert_failed(result, "bora is the name or the id of 2 users")
        assert all(
            f"{user} (bora, {name})" in result.stderr
            for user, name in zip(ids, ("Sales", "Support"), strict=True)
        )
        assert [host.status(token) for token in tokens] == [200, 200]
        assert run_json(host, command, "--id", ids[1])["user_id"] == ids[1]

    def test_in_another_case_must_not_be_several(
        self, make_host: MakeHost, database_url: str
    ) -> None:
        host = make_host(database_url, model=TenantUser)
        ids = [host.add_user(name) for name in ("bora", "BORA")]
        host.add_user("dan")

        assert [run_json(host, "show", name)["user_id"] for name in ("bora", "BORA")] == ids
        result = run(host, "force-logout", "Bora")
        takes_them_for_equal = host.dialect in ("mysql", "mariadb")
        assert_failed(result, "Bora is the name" if takes_them_for_equal else "no user Bora")
        if takes_them_for_equal:
            assert run(host, "show", "DAN").exit_code == 0

    def test_may_be_both_username_and_id_of_one_user(
        self, make_host: MakeHost, database_url: str
    ) -> None:
        host = make_host(database_url, model=NamedUser)
        host.add_user("bora", id="bora")

        assert run_json(host, "show", "bora")["user_id"] == "bora"

    @pytest.mark.parametrize("name", ["zoe", "*", "", "999", "1" * 300, "\x1b[2J"])
    def test_must_be_a_known_user(self, host: Host, name: str) -> None:
        host.issue(host.add_user("bora"))

        for command in ("show", "force-logout"):
            result = run(host, command, name)

            assert_failed(result, "There is no user ")
            assert "\x1b" not in result.stderr

    def test_must_be_valid_text(self, host: Host) -> None:
        assert run(host, "show", "bora\udcff").exit_code == 2


class TestForceLogout:
    def test_ends_every_session_of_the_user(self, host: Host) -> None:
        bora, dan = host.add_user("bora"), host.add_user("dan")
        tokens = [host.issue(bora), host.issue(bora)]
        other = host.issue(dan)

        result = run(host, "force-logout", "bora", "--reason", "left a PC signed in")

        assert (result.exit_code, result.stdout) == (0, "2 sessions of bora ended.\n")
        assert [host.status(token) for token in tokens] == [401, 401]
        assert host.status(other) == 200
        (record,) = host.rows("xgen_revocations")
        assert record["kind"] == "user"
        assert record["user_id"] == bora
        assert record["actor"] == f"cli:{getpass.getuser()}"
        assert record["actor_ip"] is None
        assert record["reason"] == "left a PC signed in"

    @pytest.mark.parametrize(
        ("sessions", "said"), [(0, "0 sessions"), (1, "1 session"), (2, "2 sessions")]
    )
    def test_uses_the_right_plural(self, host: Host, sessions: int, said: str) -> None:
        bora = host.add_user("bora")
        for _ in range(sessions):
            host.issue(bora)

        assert run(host, "force-logout", "bora").stdout == f"{said} of bora ended.\n"

    def test_of_everyone_ends_every_session(self, host: Host) -> None:
        tokens = [host.issue(host.add_user(name)) for name in ("bora", "dan")]

        result = run(host, "force-logout", "--everyone", "--reason", "drill")

        assert (result.exit_code, result.stdout) == (0, "2 sessions of everyone ended.\n")
        assert [host.status(token) for token in tokens] == [401, 401]
        (record,) = host.rows("xgen_revocations")
        assert (record["kind"], record["reason"]) == ("everyone", "drill")

    def test_in_json(self, host: Host) -> None:
        bora = host.add_user("bora")
        with freeze_time(MAY):
            host.issue(bora)

            one = run_json(host, "force-logout", "bora")
            everyone = run_json(host, "force-logout", "--everyone")

        at = "2026-05-25T04:36:49.123456Z"
        assert one == {"user_id": bora, "sessions_ended": 1, "invalid_before": at}
        assert everyone == {"user_id": None, "sessions_ended": 0, "invalid_before": at}

    @on_sqlite
    @pytest.mark.parametrize(
        "args",
        [
            [],
            ["--id"],
            ["bora", "--everyone"],
            ["--everyone", "--id"],
            ["bora", "--reason"],
            ["bora", "--reason", "x" * 501],
            ["bora", "--reason", "\udcff"],
            ["bora", "--now"],
        ],
    )
    def test_refuses_a_wrong_call(self, host: Host, args: list[str]) -> None:
        bora = host.add_user("bora")
        token = host.issue(bora)

        result = run(host, "force-logout", *args)

        assert result.exit_code == 2
        assert result.stdout == ""
        assert host.status(token) == 200

    @pytest.mark.parametrize(
        ("name", "actor"),
        [("x" * 300, "cli:" + "x" * 251), ("a\nb", "cli:a\N{REPLACEMENT CHARACTER}b")],
    )
    def test_shortens_and_cleans_the_system_user_name_of_the_actor(
        self, host: Host, monkeypatch: pytest.MonkeyPatch, name: str, actor: str
    ) -> None:
        monkeypatch.setenv("LOGNAME", name)
        host.add_user("bora")

        run(host, "force-logout", "bora")

        (record,) = host.rows("xgen_revocations")
        assert record["actor"] == actor

    def test_works_without_a_system_user_name(self, host: Host) -> None:
        host.add_user("bora")

        with patch("getpass.getuser", side_effect=OSError("No username set")):
            result = run(host, "force-logout", "bora")

        assert result.exit_code == 0
        (record,) = host.rows("xgen_revocations")
        assert record["actor"] == "cli:unknown"


class TestEnd:
    def test_ends_one_session(self, host: Host) -> None:
        bora = host.add_user("bora")
        first, second = host.issue(bora), host.issue(bora)

        result = run(host, "end", first.session_id, "--reason", "lost phone")

        assert (result.exit_code, result.stdout) == (0, "1 session of bora ended.\n")
        assert [host.status(first), host.status(second)] == [401, 200]
        (record,) = host.rows("xgen_revocations")
        assert (record["kind"], record["reason"]) == ("session", "lost phone")
        assert record["actor"] == f"cli:{getpass.getuser()}"

    def test_in_json(self, host: Host) -> None:
        bora = host.add_user("bora")
        token = host.issue(bora)

        assert run_json(host, "end", token.session_id) == {
            "user_id": bora,
            "session_id": token.session_id,
            "sessions_ended": 1,
        }

    def test_ends_a_session_of_a_deleted_user(self, host: Host) -> None:
        bora = host.add_user("bora")
        token = host.issue(bora)
        host.delete_user(bora)

        result = run(host, "end", token.session_id)

        assert result.stdout == f"1 session of {bora} ended.\n"

    def test_fails_for_an_ended_or_unknown_session(self, host: Host) -> None:
        token = host.issue(host.add_user("bora"))
        host.end_session(token.session_id)

        for session_id in (token.session_id, "nothing"):
            assert_failed(run(host, "end", session_id), "There is no active session by this id.")

    @on_sqlite
    def test_refuses_a_wrong_call(self, host: Host) -> None:
        assert run(host, "end").exit_code == 2
        assert run(host, "end", "\udcff").exit_code == 2


class TestPrune:
    @pytest.fixture(autouse=True)
    def small_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pruning, "PRUNE_BATCH", 2)

    def test_deletes_rows_past_the_retention(self, host: Host) -> None:
        bora = host.add_user("bora")
        with freeze_time(MAY) as clock:
            for _ in range(5):
                host.issue(bora)
            clock.tick(timedelta(days=30))
            kept = host.issue(bora)
            clock.tick(timedelta(days=1, seconds=2))

            result = run(host, "prune")
            again = run(host, "prune")

        assert (result.exit_code, result.stdout) == (0, "5 rows deleted.\n")
        assert again.stdout == "0 rows deleted.\n"
        assert [row["jti"] for row in host.rows("xgen_sessions")] == [kept.jti]

    def test_in_json(self, host: Host) -> None:
        with freeze_time(MAY) as clock:
            host.issue(host.add_user("bora"))
            clock.tick(timedelta(days=40))

            assert run_json(host, "prune") == {"deleted": 1}


class TestUpgrade:
    def test_creates_the_tables(self, make_host: MakeHost, database_url: str) -> None:
        host = make_host(database_url, create_all=False)

        first, second = run(host, "upgrade"), run(host, "upgrade")

        assert (first.exit_code, first.stdout) == (0, f"The tables are now at version {ALL[-1]}.\n")
        assert (second.exit_code, second.stdout) == (0, "The tables are up to date.\n")
        assert [row["user_id"] for row in host.rows("xgen_user_logins")] == ["*"]

    def test_in_json(self, make_host: MakeHost, database_url: str) -> None:
        host = make_host(database_url, create_all=False)

        assert run_json(host, "upgrade") == {"revisions": ALL}
        assert run_json(host, "upgrade") == {"revisions": []}

    def test_fails_for_tables_that_differ(self, host: Host) -> None:
        with host.app.app_context(), host.db.engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE xgen_sessions DROP COLUMN ip"))

        assert_failed(run(host, "upgrade"), "add column xgen_sessions.ip")
        assert host.rows(VERSION_TABLE) == []


COMMANDS = [
    ["list"],
    ["show", "bora"],
    ["show", "--id", "1"],
    ["force-logout", "bora"],
    ["force-logout", "--everyone"],
    ["end", "x"],
    ["prune"],
]


class TestDatabaseTrouble:
    @pytest.mark.parametrize("args", [*COMMANDS, ["upgrade"]])
    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            # By the host's engine, or by the plugin's own check of the file.
            ("sqlite:////nowhere/at/all.db", "unable to open|No such file"),
            ("postgresql+psycopg://postgres@127.0.0.1:9/test", "refused"),
            ("mysql+pymysql://root@127.0.0.1:9/test", "Can't connect"),
        ],
    )
    def test_is_reported_in_one_line(
        self, make_host: MakeHost, url: str, reason: str, args: list[str]
    ) -> None:
        host = make_host(url, create_all=False)

        for result in (run(host, *args), run(host, *args, "--json")):
            reasons = reason.split("|")
            assert_failed(result, next((each for each in reasons if each in result.stderr), reason))

    @pytest.mark.parametrize("args", COMMANDS)
    def test_names_the_command_that_creates_missing_tables(
        self, make_host: MakeHost, database_url: str, args: list[str]
    ) -> None:
        host = make_host(database_url, create_all=False)
        with host.app.app_context():
            host.model.__table__.create(host.db.engine)

        assert_failed(run(host, *args), UPGRADE_FIRST)

    def test_does_not_suggest_upgrade_for_a_missing_table_of_the_host(self, host: Host) -> None:
        with host.app.app_context():
            host.model.__table__.drop(host.db.engine)

        result = run(host, "show", "bora")

        assert_failed(result, "users")
        assert UPGRADE_FIRST not in result.stderr


class TestHelp:
    def test_lists_every_command(self, host: Host) -> None:
        result = run(host, "--help")

        assert result.exit_code == 0
        for name in (
            "list",
            "show",
            "force-logout",
            "end",
            "end-older",
            "leaver",
            "prune",
            "upgrade",
        ):
            assert f"\n  {name} " in result.stdout

    def test_an_unknown_command_is_refused(self, host: Host) -> None:
        assert run(host, "lsit").exit_code == 2
