"""The Admin Center under other WSGI servers, with several workers and an empty instance."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.ports import free_port
from tests.support.private_server import PrivateServer
from tests.support.standalone import Center
from xgen_flask_sessions.standalone import create_app

pytestmark = pytest.mark.slow

FACTORY = "xgen_flask_sessions.standalone:create_app"
ASGI = f"""
from asgiref.wsgi import WsgiToAsgi
from {FACTORY.partition(":")[0]} import create_app
app = WsgiToAsgi(create_app())
"""
PASSWORD = re.compile(r"password: (\S+)")
BIND = "--bind=127.0.0.1:{port}"
SERVERS = {
    "gunicorn": ["gunicorn", f"{FACTORY}()", BIND, "--workers=4"],
    "gunicorn-preload": [
        "gunicorn",
        f"{FACTORY}()",
        BIND,
        "--workers=2",
        "--threads=4",
        "--preload",
    ],
    "uvicorn": ["uvicorn", "center_asgi:app", "--port={port}", "--workers=2"],
    "serve": ["xgen_flask_sessions", "serve", "--port={port}"],
    "waitress": ["waitress", "--listen=127.0.0.1:{port}", "--call", FACTORY],
}


@contextlib.contextmanager
def running(
    name: str, place: Path, **variables: str
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run a server, its output in ``place / "NAME.log"``, and yield its port and process."""
    port = free_port()
    (place / "center_asgi.py").write_text(ASGI)
    own = {key: value for key, value in os.environ.items() if not key.startswith("XGEN_")}
    with (place / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *(part.format(port=port) for part in SERVERS[name])],
            cwd=place, stdout=log, stderr=log, start_new_session=True,
            env={
                **own,
                "PYTHONUNBUFFERED": "1",
                "PYTHONPATH": os.pathsep.join([str(place), *filter(None, sys.path)]),
                "XGEN_SESSIONS_DEADLINE": "20",
                "XGEN_SESSIONS_WRITE_DEADLINE": "40",
                **variables,
            },
        )  # fmt: skip
    try:
        yield port, process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def call(
    port: int, path: str, body: object = None, **headers: str
) -> tuple[int, dict[str, object]]:
    """Return the status and the JSON answer of a request on a new connection."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(client):
        if body is None:
            client.request("GET", path, headers=headers)
        else:
            client.request("POST", path, json.dumps(body), headers)
        answer = client.getresponse()
        text = answer.read()
        is_json = "json" in answer.headers["Content-Type"]
        return answer.status, json.loads(text) if is_json else {}


def wait_until(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the sign-in page is answered with 200."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if call(port, "/login")[0] == 200:
                return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.mark.parametrize("name", list(SERVERS))
def test_an_empty_instance_is_prepared_once_whichever_server_runs(
    name: str, tmp_path: Path
) -> None:
    log = tmp_path / f"{name}.log"
    with running(name, tmp_path) as (port, process):
        wait_until(port, process, log)
        printed = log.read_text()
        (password,) = PASSWORD.findall(printed)
        login = {"username": "admin", "password": password}
        answers = [call(port, "/api/login", login) for _ in range(8)]
        assert [status for status, _ in answers] == [200] * 8, log.read_text()
        token = answers[0][1]["access_token"]
        statuses = [
            call(port, "/api/me", Authorization=f"Bearer {token}")[0] for _ in range(24)
        ]  # each worker accepts what another one signed

    printed = log.read_text()
    assert statuses == [200] * 24, printed
    assert "Traceback" not in printed
    assert len(PASSWORD.findall(printed)) == 1


def test_two_kinds_of_servers_that_start_at_once_share_an_instance(tmp_path: Path) -> None:
    logs = [tmp_path / "gunicorn.log", tmp_path / "serve.log"]
    with running("gunicorn", tmp_path) as one, running("serve", tmp_path) as other:
        for (port, process), log in zip((one, other), logs, strict=True):
            wait_until(port, process, log)
        (password,) = PASSWORD.findall("".join(log.read_text() for log in logs))
        login = {"username": "admin", "password": password}
        token = call(one[0], "/api/login", login)[1]["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        before = [call(each[0], "/api/me", **headers)[0] for each in (one, other)]
        client = http.client.HTTPConnection("127.0.0.1", other[0], timeout=60)
        with contextlib.closing(client):
            client.request("POST", "/sessions/sign-out", headers=headers)
            assert client.getresponse().status == 204
        after = [call(one[0], "/api/me", **headers)[0] for _ in range(8)]

    assert (before, after) == ([200, 200], [401] * 8)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_workers_that_start_at_once_share_a_database_on_a_server(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    database_url = request.getfixturevalue(f"{kind}_url")
    log = tmp_path / "gunicorn.log"
    with running("gunicorn", tmp_path, XGEN_DATABASE_URL=database_url) as (port, process):
        wait_until(port, process, log)
        (password,) = PASSWORD.findall(log.read_text())
        login = {"username": "admin", "password": password}
        token = call(port, "/api/login", login)[1]["access_token"]
        statuses = [call(port, "/api/me", Authorization=f"Bearer {token}")[0] for _ in range(12)]

    assert statuses == [200] * 12, log.read_text()


def test_a_database_that_answers_later_is_prepared_at_a_request(
    private_server: PrivateServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = sa.make_url(private_server.empty_database())
    private_server.stop()
    config = {"SQLALCHEMY_DATABASE_URI": url, "ADMIN_PASSWORD": "correct horse battery"}
    app = create_app(tmp_path / "instance", config)
    login = {"username": "admin", "password": "correct horse battery"}

    before = app.test_client().post("/api/login", json=login).status_code
    private_server.start()
    after = app.test_client().post("/api/login", json=login).status_code

    Center(app=app).dispose()
    assert (before, after) == (503, 200)
    assert "cannot be prepared yet" in caplog.text
