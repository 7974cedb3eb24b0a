"""An application that follows the feed before its server forks the workers.

gunicorn with ``--preload`` runs Python's hooks then; uWSGI without an option runs none.
"""

from __future__ import annotations

import http.client
import importlib.util
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
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


def serving(program: str, place: Path, url: str, token: str) -> AbstractContextManager[int]:
    """Serve in workers forked from one process; the value is the port."""
    if program == "gunicorn":
        application = f"tests.support.preloaded:warm({url!r}, {token!r})"
        return gunicorn(application, "--preload", workers=WORKERS, patience_s=PATIENCE_S)
    file = place / "app.py"
    file.write_text(
        f"from tests.support.preloaded import warm\napplication = warm({url!r}, {token!r})\n"
    )
    return uwsgi(file, workers=WORKERS, patience_s=PATIENCE_S)


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


@pytest.mark.parametrize(
    ("program", "database"),
    [("gunicorn", "sqlite"), ("gunicorn", "mariadb"), ("uwsgi", "postgresql")],
)
def test_every_forked_worker_follows_the_feed_by_itself(
    request: pytest.FixtureRequest, make_host: MakeHost, tmp_path: Path, program: str, database: str
) -> None:
    if not (HAS_GUNICORN if program == "gunicorn" else UWSGI):
        pytest.skip(f"{program} is not installed")
    host = make_host(request.getfixturevalue(f"{database}_url"))
    user = host.add_user()
    token = host.issue(user)
    with host.app.app_context():
        url = host.db.engine.url.render_as_string(hide_password=False)
    with serving(program, tmp_path, url, token.token) as port:
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
