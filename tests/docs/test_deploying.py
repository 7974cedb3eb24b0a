"""The commands of the guide on deploying: each server, with a host and with the Admin Center."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.docs.blocks import PYTHON, ROOT
from tests.support.databases import require_service
from tests.support.eventually import eventually
from tests.support.hosts import PATIENT
from tests.support.ports import free_port

pytestmark = pytest.mark.slow

GUIDE = ROOT / "docs/guides/deploying.md"
SERVERS = ("gunicorn", "uwsgi", "waitress-serve", "uvicorn", "hypercorn")
COMMANDS = [
    line
    for line in GUIDE.read_text().splitlines()
    if line.split(" ")[0] in SERVERS and "8000" in line
]
PASSWORD = "change me, please"
ATTEMPTS = 16
"""Calls on separate connections: enough to reach every worker."""


def environment(place: Path) -> dict[str, str]:
    """Return the environment of a service, with this interpreter's programs first."""
    folders = [str(Path(sys.executable).parent), os.environ.get("XGEN_TEST_PATH", "")]
    return {
        **os.environ,
        **{f"FLASK_{name}": str(value) for name, value in PATIENT.items()},
        **{name: str(value) for name, value in PATIENT.items()},
        "PATH": os.pathsep.join([*folders, os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(place), str(ROOT)]),
        "FLASK_SECRET_KEY": "0123456789abcdef" * 4,
        "XGEN_ADMIN_PASSWORD": PASSWORD,
    }


@contextmanager
def running(command: str, place: Path) -> Iterator[str]:
    """Run a command of the guide on another port, and yield the server's URL."""
    port = free_port()
    fewer = re.sub(r"(--workers|--processes) 4", r"\1 2", command)
    arguments = shlex.split(fewer.replace("8000", str(port)))
    variables = environment(place)
    if shutil.which(arguments[0], path=variables["PATH"]) is None:
        pytest.skip(f"{arguments[0]} is not installed")
    log = (place / "log").open("w+")
    process = subprocess.Popen(
        arguments, cwd=place, env=variables, stdout=log, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: httpx.get(f"{url}/sessions/").status_code == 401)
        yield url
        process.terminate()
        process.wait(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.seek(0)
        print(log.read())
        log.close()


def answers(url: str, token: str, path: str) -> set[int]:
    """Call on several connections; return the distinct statuses."""
    headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
    return {httpx.get(f"{url}{path}", headers=headers).status_code for _ in range(ATTEMPTS)}


def force_out(url: str, token: str) -> int:
    """Force the token's own user out by the API."""
    headers = {"Authorization": f"Bearer {token}"}
    call = httpx.post(f"{url}/sessions/users/1/force-logout", headers=headers, timeout=60)
    return call.status_code


def token_of_the_host(url: str) -> str:
    credentials = {"username": "admin", "password": PASSWORD}
    signed_in = httpx.post(f"{url}/sign-in", data=credentials, timeout=60)
    return signed_in.cookies["xgen_token"]


def token_of_the_admin_center(url: str) -> str:
    credentials = {"username": "admin", "password": PASSWORD}
    signed_in = httpx.post(f"{url}/api/login", json=credentials, timeout=60)
    return str(signed_in.json()["access_token"])


def name(command: str) -> str:
    """Return the server and the application of a command."""
    return f"{command.partition(' ')[0]}-{'center' if 'standalone' in command else 'host'}"


RUN_ELSEWHERE = ("gunicorn-host", "hypercorn-host")
"""The first is run by ``test_examples.py``; the second was run by hand."""


@pytest.mark.parametrize(
    "command", [each for each in COMMANDS if name(each) not in RUN_ELSEWHERE], ids=name
)
def test_a_force_logout_holds_in_every_worker(command: str, tmp_path: Path) -> None:
    is_center = "standalone" in command
    if not is_center:
        shutil.copy(ROOT / "examples/app.py", tmp_path)
        (asgi,) = (each for each in PYTHON if each.page == GUIDE)
        (tmp_path / "asgi.py").write_text(asgi.code)
        subprocess.run(
            [sys.executable, "-m", "flask", "--app", "app", "create-admin", "--password", PASSWORD],
            cwd=tmp_path, env=environment(tmp_path), check=True, timeout=120,
        )  # fmt: skip

    with running(command, tmp_path) as url:
        sign_in = token_of_the_admin_center if is_center else token_of_the_host
        path = "/api/me" if is_center else "/api/orders"
        token = sign_in(url)
        assert answers(url, token, path) == {200}
        assert force_out(url, token) == 200
        assert answers(url, token, path) == {401}
        assert answers(url, sign_in(url), path) == {200}


def test_the_guide_has_a_command_of_each_server() -> None:
    assert {command.split(" ")[0] for command in COMMANDS} == set(SERVERS)
    assert len(COMMANDS) == 9


def test_uwsgi_runs_pythons_hooks_in_the_way_that_python_3_13_admits() -> None:
    commands = [command for command in COMMANDS if command.startswith("uwsgi")]

    assert commands
    for command in commands:  # with --py-call-osafterfork each worker of 3.13 aborts
        assert "--py-call-osafterfork" not in command
        assert "--py-call-uwsgi-fork-hooks" in command


def test_nginx_accepts_the_configuration(tmp_path: Path) -> None:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    require_service(None if nginx else "nginx is not installed")
    assert nginx
    (server,) = re.findall(r"```nginx\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (tmp_path / "server.conf").write_text(server.replace("443 ssl", str(free_port())))
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; "
        f"client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p; "
        f"fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; "
        f"scgi_temp_path {tmp_path}/s; include {tmp_path}/server.conf; }}"
    )

    checked = subprocess.run(
        [nginx, "-t", "-c", tmp_path / "nginx.conf"], capture_output=True, text=True, timeout=30
    )

    assert checked.returncode == 0, checked.stderr
