"""An application that checks tokens before its server forks the workers.

gunicorn with ``--preload`` runs Python's hooks then; uWSGI without an option runs none. Where a
thread of Python's is busy at such a fork, CPython itself hangs in the child. So that application
does not watch: no thread of it is busy.
"""

from __future__ import annotations

import http.client
import importlib.util
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.databases import MakeHost
from tests.support.gunicorn_server import gunicorn
from tests.support.hosts import bearer
from tests.support.uwsgi_server import UWSGI, uwsgi
from xgen_flask_sessions import IssuedToken

WORKERS = 3
PATIENCE_S = 120.0
BOUND_S = 2.0

pytestmark = pytest.mark.slow

HAS_GUNICORN = importlib.util.find_spec("gunicorn") is not None


class Answer(NamedTuple):
    """A worker's answer."""

    status: int
    worker: str
    fresh: bool
    begun_s: float


def ask(port: int, token: IssuedToken) -> Answer | None:
    """Send a token to any worker and return its answer; ``None`` if the connection fails."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    begun_s = time.monotonic()
    try:
        connection.request("GET", "/api/token", headers=bearer(token))
        response = connection.getresponse()
        response.read()
    except ConnectionError:
        return None
    finally:
        connection.close()
    headers = response.headers
    return Answer(response.status, headers["X-Worker"], headers["X-Fresh"] == "True", begun_s)


def ask_until_all(
    port: int, token: IssuedToken, convinced: Callable[[Answer], bool]
) -> list[Answer]:
    """Send a token until *convinced* is true for an answer of each worker; return all answers."""
    answers: list[Answer] = []
    give_up = time.monotonic() + PATIENCE_S
    while len({each.worker for each in answers if convinced(each)}) < WORKERS:
        assert time.monotonic() < give_up, answers[-5:]
        answer = ask(port, token)
        if answer is None:
            time.sleep(0.05)  # real time: another process is at work
        else:
            answers.append(answer)
    return answers


@pytest.mark.skipif(not HAS_GUNICORN, reason="gunicorn is not installed")
def test_every_forked_worker_follows_the_feed_by_itself(
    make_host: MakeHost, database_url: str
) -> None:
    host = make_host(database_url)
    user = host.add_user()
    token = host.issue(user)
    with host.app.app_context():
        url = host.db.engine.url.render_as_string(hide_password=False)
    application = f"tests.support.preloaded:warm({url!r}, {token.token!r})"
    with gunicorn(application, "--preload", workers=WORKERS, patience_s=PATIENCE_S) as port:
        ask_until_all(port, token, lambda _: True)
        # From then on, no answer rests on the memory from before the fork.
        since_s = time.monotonic() + BOUND_S
        before = ask_until_all(port, token, lambda each: each.fresh and each.begun_s > since_s)
        assert {each.status for each in before} == {200}

        host.force_logout(user)
        returned_s = time.monotonic()
        after = ask_until_all(port, token, lambda each: each.status == 401)

    assert {each.status for each in after} <= {200, 401}
    accepted = [each.begun_s - returned_s for each in after if each.status == 200]
    assert max(accepted, default=0.0) < BOUND_S
    refused: set[str] = set()
    for each in after:
        assert each.status == 401 or each.worker not in refused
        if each.status == 401:
            refused.add(each.worker)


@pytest.mark.skipif(not UWSGI, reason="uWSGI is not installed")
@pytest.mark.parametrize("database", ["postgresql", "mariadb"])
def test_workers_that_know_of_no_fork_share_no_connection(
    request: pytest.FixtureRequest, make_host: MakeHost, tmp_path: Path, database: str
) -> None:
    host = make_host(request.getfixturevalue(f"{database}_url"))
    user = host.add_user()
    token = host.issue(user)
    with host.app.app_context():
        url = host.db.engine.url.render_as_string(hide_password=False)
    file = tmp_path / "app.py"
    file.write_text(
        "from tests.support.preloaded import warm\n"
        f"application = warm({url!r}, {token.token!r}, 'strict')\n"
    )
    with uwsgi(file, workers=WORKERS, patience_s=PATIENCE_S) as port, ThreadPoolExecutor(8) as pool:

        def ask_often() -> list[Answer]:
            return [each for each in pool.map(lambda _: ask(port, token), range(300)) if each]

        ask_until_all(port, token, lambda _: True)
        before = ask_often()
        host.force_logout(user)
        after = ask_often()

    assert {each.status for each in before} == {200}
    assert {each.status for each in after} == {401}
    assert len({each.worker for each in before}) > 1
