"""``python -m xgen_flask_sessions``: the commands serve, users and seed."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from flask.cli import ScriptInfo

from tests.support.hosts import PATIENT
from tests.support.standalone import (
    ADMIN_PASSWORD,
    PAGE,
    Center,
    center_maker,
    sign_in,
)
from xgen_flask_sessions.standalone import passwords, seeding
from xgen_flask_sessions.standalone.commands import cli

COMMAND = [sys.executable, "-m", "xgen_flask_sessions"]
PASSWORD = re.compile(r"password: (\S+)")


def run(center: Center, *arguments: str, typed: str | None = None) -> Result:
    """Run a command on *center*, in this process."""
    info = ScriptInfo(create_app=lambda: center.app)
    return CliRunner().invoke(cli, arguments, obj=info, input=typed)


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without its ``XGEN_*`` variables, but with *variables*."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("XGEN_")}
    patient = {name: str(value) for name, value in PATIENT.items()}
    return {**own, **patient, **variables}


def run_process(
    instance: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a new process."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=instance.parent, env=environment(XGEN_INSTANCE_PATH=str(instance), **variables),
        check=False, capture_output=True, text=True, timeout=180,
    )  # fmt: skip


class Served:
    """A server process and its output; the constructor waits until it is ready."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.printed = ""
        assert process.stdout is not None
        while "Instance:" not in self.printed:
            line = process.stdout.readline()
            assert line, self.printed
            self.printed += line
        found = re.search(r"http://127\.0\.0\.1:\d+", self.printed)
        assert found is not None
        self.url = found[0]

    def call(self, path: str, *, body: object = None, **headers: str) -> tuple[int, bytes]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def stop(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        assert self.process.stdout is not None
        self.printed += self.process.stdout.read()
        return self.process.wait(timeout=15)


@contextmanager
def serve(instance: Path, **variables: str) -> Iterator[Served]:
    """Run the command ``serve`` on a free port."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--instance", str(instance)],
        env=environment(**variables), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield Served(process)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.slow
class TestServe:
    def test_prints_the_first_password_once_and_accepts_it(self, tmp_path: Path) -> None:
        with serve(tmp_path / "new" / "one") as first:
            found = PASSWORD.search(first.printed)
            assert found is not None
            login = {"username": "admin", "password": found[1]}
            entered, _ = first.call("/api/login", body=login)
            page, _ = first.call("/login")
            stopped = first.stop(signal.SIGTERM)

        with serve(tmp_path / "new" / "one") as second:
            again, answer = second.call("/api/login", body=login)
            token = json.loads(answer)["access_token"]
            me, _ = second.call("/api/me", Authorization=f"Bearer {token}")
            interrupted = second.stop(signal.SIGINT)

        assert f"{first.url}/login" in first.printed
        assert "XGEN_SESSIONS_COOKIE_SECURE=true" in first.printed
        assert (entered, page, again, me) == (200, 200, 200, 200)
        assert PASSWORD.search(second.printed) is None
        assert (stopped, interrupted) == (0, 0)
        assert first.printed.endswith("Stopped.\n")
        assert "Traceback" not in first.printed + second.printed

    def test_reads_its_settings_from_the_environment(self, tmp_path: Path) -> None:
        variables = {
            "XGEN_ADMIN_PASSWORD": ADMIN_PASSWORD,
            "XGEN_SESSIONS_COOKIE_SECURE": "true",
            "XGEN_TRUSTED_PROXIES": "1",
        }
        with serve(tmp_path / "instance", **variables) as served:
            login = {"username": "admin", "password": ADMIN_PASSWORD}
            _, answer = served.call(
                "/api/login", body=login, **{"X-Forwarded-For": "198.51.100.1, 203.0.113.7"}
            )
            token = json.loads(answer)["access_token"]
            _, listed = served.call("/sessions/", Authorization=f"Bearer {token}")

        assert ADMIN_PASSWORD not in served.printed
        assert "plain HTTP" not in served.printed
        assert json.loads(listed)["sessions"][0]["ip"] == "203.0.113.7"

    def test_reports_that_the_port_is_taken(self, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]

            result = run_process(tmp_path / "instance", "serve", "--port", str(port))

        assert result.returncode == 1
        assert f"127.0.0.1 port {port} cannot be listened on" in result.stderr
        assert "Traceback" not in result.stderr

    @pytest.mark.parametrize(
        ("variables", "message"),
        [
            ({"XGEN_SESSIONS_SECRET_KEY": "short"}, "XGEN_SESSIONS_SECRET_KEY"),
            ({"XGEN_SESSIONS_LIFETIM": "5"}, "XGEN_SESSIONS_LIFETIM is not a setting"),
            ({"XGEN_DATABASE_URL": "nonsense"}, "XGEN_DATABASE_URL must be"),
            ({"XGEN_DATABASE_URL": "postgresql://u@127.0.0.1:1/x"}, "The database cannot be used"),
            ({"XGEN_DATABASE_URL": "mysql://u@h/x?connect_timeout=soon"}, "XGEN_DATABASE_URL has"),
            ({"XGEN_ADMIN_PASSWORD": "short"}, "XGEN_ADMIN_PASSWORD"),
        ],
    )
    def test_names_the_wrong_setting(
        self, tmp_path: Path, variables: dict[str, str], message: str
    ) -> None:
        result = run_process(tmp_path / "instance", "serve", "--port", "0", **variables)

        assert result.returncode == 1
        assert result.stderr.startswith("Error: ")
        assert message in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.slow
def cards(page: str) -> list[str]:
    """Return the numbers above the list of Login Management."""
    return re.findall(r"<dd data-xs-summary=\"\w+\">(\d+)</dd>", page)


class TestStart:
    def test_of_several_processes_at_once_creates_one_superuser(
        self, tmp_path: Path, database_url: str
    ) -> None:
        variables = environment(
            XGEN_INSTANCE_PATH=str(tmp_path / "instance"), XGEN_DATABASE_URL=database_url
        )
        processes = [
            subprocess.Popen(
                [*COMMAND, "users", "list"], env=variables, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
            for _ in range(3)
        ]  # fmt: skip

        printed = [process.communicate(timeout=60)[0] for process in processes]

        assert [process.returncode for process in processes] == [0] * 3, printed
        assert sum(map(len, map(PASSWORD.findall, printed))) == 1
        assert all("1 user." in text for text in printed)

    def test_with_help_creates_no_files(self, tmp_path: Path) -> None:
        result = run_process(tmp_path / "instance", "--help")

        assert result.returncode == 0
        for name in ("serve", "users", "seed", "xgen-sessions"):
            assert name in result.stdout
        assert list(tmp_path.iterdir()) == []

    def test_with_an_unknown_command_is_a_usage_error(self, tmp_path: Path) -> None:
        result = run_process(tmp_path / "instance", "nonsense")

        assert result.returncode == 2
        assert "No such command" in result.stderr


class TestUsers:
    def test_are_created(self, center: Center) -> None:
        result = run(
            center, "users", "create", "bora", "--password", "longenough",
            "--name", "Bora Lim", "--department", "Research", "--roles", "editor", "--superuser",
        )  # fmt: skip

        user = center.user("bora")
        assert (result.exit_code, result.stdout) == (0, "SuperUser bora created.\n")
        assert (user["name"], user["department"]) == ("Bora Lim", "Research")
        assert (user["roles"], user["is_superuser"]) == (["editor"], True)
        assert sign_in(center.browser(), "bora", "longenough").status_code == 303

    def test_are_created_with_a_password_from_a_hidden_prompt(self, center: Center) -> None:
        result = run(center, "users", "create", "bora", typed="longenough\nlongenough\n")

        assert result.exit_code == 0
        assert "longenough" not in result.output
        assert sign_in(center.browser(), "bora", "longenough").status_code == 303

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("admin", "--password", "longenough"), "This username is taken."),
            ((" ", "--password", "longenough"), "A username has 1 to 150"),
            (("bora", "--password", "short"), "A password has 8 to 256"),
            (("bora", "--password", "longenough", "--name", "x" * 151), "A name has at most"),
        ],
    )
    def test_are_refused_with_a_message(
        self, center: Center, arguments: tuple[str, ...], message: str
    ) -> None:
        result = run(center, "users", "create", *arguments)

        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr.startswith(f"Error: {message}")
        assert len(center.rows("users")) == 1

    def test_are_listed(self, center: Center) -> None:
        center.add_user("bora", name="보라", roles="editor, viewer")
        center.change_user("bora", is_active=False)

        everybody = run(center, "users", "list").stdout
        found = run(center, "users", "list", "--search", "보라").stdout

        assert re.search(r"^admin +SUPER +- +- +- +Active +0$", everybody, re.MULTILINE)
        assert re.search(r"^bora +보라 +- +editor, viewer +Inactive +0$", found, re.MULTILINE)
        assert everybody.endswith("2 users. Page 1 of 1.\n")
        assert found.endswith("1 user. Page 1 of 1.\n")

    @pytest.mark.parametrize(
        "arguments",
        [
            ["list", "--search", "\udcff"],
            ["list", "--page", "99999999999999999999"],
            ["create", "bora\udcff", "--password", "longenough"],
            ["create", "bora", "--password", "longenough", "--name", "\udcff"],
            ["create", "bora", "--password", "longenough", "--department", "\udcff"],
            ["create", "bora", "--password", "longenough", "--roles", "\udcff"],
            ["create", "bora", "--password", "longenough\udcff"],
            ["set-password", "bora\udcff", "--password", "longenough"],
            ["set-password", "admin", "--password", "longenough\udcff"],
        ],
    )
    def test_commands_refuse_values_that_no_database_can_store(
        self, center: Center, arguments: list[str]
    ) -> None:
        result = run(center, "users", *arguments)

        assert result.exit_code in (1, 2), result.exception
        assert isinstance(result.exception, SystemExit)
        assert result.stdout == ""
        assert "Error: " in result.stderr
        assert len(center.rows("users")) == 1

    def test_lose_their_sessions_at_a_new_password(self, center: Center) -> None:
        token = center.token("admin")

        result = run(center, "users", "set-password", "admin", "--password", "longenough")

        assert result.exit_code == 0
        assert "All sessions of this user have ended." in result.stdout
        assert center.status(token) == 401
        assert sign_in(center.browser(), "admin", "longenough").status_code == 303
        assert center.rows("xgen_revocations")[0]["actor"].startswith("cli:")

    def test_keep_their_sessions_with_the_option_for_it(self, center: Center) -> None:
        token = center.token("admin")

        run(center, "users", "set-password", "admin", "--password", "longenough", "--keep-sessions")

        assert center.status(token) == 200

    def test_that_do_not_exist_are_named_in_the_error(self, center: Center) -> None:
        result = run(center, "users", "set-password", "nobody", "--password", "longenough")

        assert (result.exit_code, result.stderr) == (1, "Error: There is no user nobody.\n")

    def test_are_forced_out_by_the_plugin_s_command(self, center: Center) -> None:
        token = center.token("admin")

        result = run(center, "xgen-sessions", "force-logout", "admin")

        assert (result.exit_code, result.stdout) == (0, "1 session of admin ended.\n")
        assert center.status(token) == 401


class TestSeed:
    def test_fills_the_screens(self, center: Center, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(seeding, "BATCH", 40)

        result = run(center, "seed", "--users", "100", "--sessions", "250", "--seed", "7")

        assert (result.exit_code, result.stdout) == (0, "100 users and 250 sessions added.\n")
        seeded = center.rows("users")[1:]
        assert len(seeded) == 100
        assert {user["password_hash"] for user in seeded} == {passwords.UNUSABLE}
        for column in ("name", "department"):
            assert 0 < sum(user[column] is None for user in seeded) < 50
        assert 0 < sum(user["is_superuser"] for user in seeded) < 90
        agents = " ".join(row["user_agent"] or "" for row in center.rows("xgen_sessions"))
        for name in ("KAKAOTALK", "NAVER", "Whale", "SamsungBrowser", "Firefox", "Edg/"):
            assert name in agents
        page = center.browser("admin").get("/admin/admin-active-sessions/", headers=PAGE).text
        assert cards(page)[:2] == ["101", "251"]
        logins = center.rows("xgen_user_logins")
        unrecorded = [row for row in logins if row["last_login_us"] is None]
        assert len([row for row in unrecorded if row["user_id"] != "*"]) == 1

    def test_can_add_users_without_sessions(self, center: Center) -> None:
        result = run(center, "seed", "--users", "3", "--sessions", "0")

        assert (result.exit_code, result.stdout) == (0, "3 users and 0 sessions added.\n")
        assert center.rows("xgen_sessions") == []

    def test_uses_only_addresses_that_are_reserved_or_private(self, center: Center) -> None:
        run(center, "seed", "--users", "30", "--sessions", "60")

        reserved = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"]
        inside = ["10.20.0.0/16"]  # an organisation's own (RFC 1918)
        networks = [ipaddress.ip_network(each) for each in reserved + inside]
        stored = [row["ip"] for row in center.rows("xgen_sessions") if row["ip"]]
        assert stored
        for address in map(ipaddress.ip_address, stored):
            assert any(address in network for network in networks), address

    def test_adds_the_same_data_for_the_same_seed(self, tmp_path: Path) -> None:
        found = []
        for name in ("one", "two"):
            with center_maker(tmp_path / name) as make_other:
                other = make_other()
                run(other, "seed", "--users", "20", "--sessions", "30", "--seed", "7")
                people = [(row["username"], row["name"]) for row in other.rows("users")]
                devices = sorted(
                    (row["user_id"], row["ip"] or "", row["user_agent"] or "")
                    for row in other.rows("xgen_sessions")
                )
                found.append((people, devices))

        assert len(found[0][1]) == 30
        assert found[0] == found[1]

    def test_adds_more_data_at_a_second_run(self, center: Center) -> None:
        for _ in range(2):
            result = run(center, "seed", "--users", "20", "--sessions", "10", "--seed", "7")
            assert result.exit_code == 0

        assert len(center.rows("users")) == 41
        assert len(center.rows("xgen_sessions")) == 20

    def test_adds_users_who_cannot_sign_in(self, center: Center) -> None:
        run(center, "seed", "--users", "1", "--sessions", "1")
        name = center.rows("users")[1]["username"]

        for password in ("", "!", "longenough"):
            assert sign_in(center.browser(), name, password).status_code == 401

    def test_adds_sessions_that_a_force_logout_ends(self, center: Center) -> None:
        run(center, "seed", "--users", "2", "--sessions", "9", "--seed", "7")
        name = center.rows("users")[1]["username"]

        first = run(center, "xgen-sessions", "force-logout", name)
        second = run(center, "xgen-sessions", "force-logout", "--everyone")
        third = run(center, "xgen-sessions", "force-logout", "--everyone")

        ended = [int(result.stdout.split()[0]) for result in (first, second, third)]
        assert ended[0] > 0
        assert sum(ended) == 9
        assert ended[2] == 0

    def test_adds_no_active_session_from_before_a_force_logout_of_everyone(
        self, center: Center
    ) -> None:
        run(center, "xgen-sessions", "force-logout", "--everyone")

        run(center, "seed", "--users", "5", "--sessions", "20")

        page = center.browser("admin").get("/admin/admin-active-sessions/", headers=PAGE).text
        assert cards(page) == ["1", "1", "1"]

    @pytest.mark.parametrize(
        "arguments", [("--users", "0"), ("--sessions", "-1"), ("--users", "x")]
    )
    def test_refuses_invalid_numbers(self, center: Center, arguments: tuple[str, ...]) -> None:
        assert run(center, "seed", *arguments).exit_code == 2

    def test_is_quick(self, center: Center) -> None:
        began = time.perf_counter()

        run(center, "seed", "--users", "2000", "--sessions", "10000")

        assert time.perf_counter() - began < 90
        assert len(center.rows("xgen_sessions")) == 10000


def test_the_error_for_missing_tables_names_the_command_that_creates_them(tmp_path: Path) -> None:
    run_program = partial(
        subprocess.run,
        env={**os.environ, "XGEN_INSTANCE_PATH": str(tmp_path / "instance")},
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    program = [sys.executable, "-m", "xgen_flask_sessions", "xgen-sessions"]

    before = run_program([*program, "list"])
    upgraded = run_program([*program, "upgrade"])

    assert before.returncode == 1
    assert "run python -m xgen_flask_sessions xgen-sessions upgrade" in before.stderr
    assert upgraded.returncode == 0
