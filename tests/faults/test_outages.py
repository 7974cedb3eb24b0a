"""The database server is stopped, paused, out of connections, read-only or locked, and recovers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from tests.support.databases import MakeHost
from tests.support.hosts import bearer
from tests.support.outages import (
    DEADLINE_S,
    DEADLINES,
    PAGE,
    SCREEN,
    WRITE_DEADLINE_S,
    Scene,
)
from tests.support.patience import MARGIN_S, in_spite_of_stalls, until, within
from tests.support.private_server import PrivateServer
from tests.support.standalone import Center, MakeCenter, center_maker, sign_in
from xgen_flask_sessions import LedgerUnavailable
from xgen_flask_sessions.store import reachability

pytestmark = pytest.mark.slow

CROWD_S, CROWD_MARGIN_S = 6, 5.5
OUTAGES = ("stopped", "paused", "out of connections")


@contextmanager
def outage(kind: str, server: PrivateServer, database_url: str) -> Iterator[None]:
    """Make the server unavailable within the block."""
    match kind:
        case "stopped":
            server.stop()
            yield
            server.start()
        case "paused":
            server.pause()
            yield
            server.resume()
        case _:
            with server.filled(database_url):
                yield


@pytest.fixture
def url(private_server: PrivateServer) -> str:
    """Return the URL of an empty database on the private server."""
    return private_server.empty_database()


@pytest.fixture
def scene(make_host: MakeHost, private_server: PrivateServer, url: str) -> Iterator[Scene]:
    """Yield a scene. The server is restored before the scene's connections are closed."""
    scene = Scene.set(make_host, url)
    yield scene
    private_server.restore()


@pytest.fixture
def make_center(tmp_path: Path) -> Iterator[MakeCenter]:
    """Yield a function that makes an Admin Center on a given database."""
    with center_maker(tmp_path / "instance") as make:
        yield make


@pytest.mark.parametrize("kind", OUTAGES)
def test_no_token_is_accepted_and_no_row_changes_during_an_outage(
    scene: Scene, private_server: PrivateServer, url: str, kind: str
) -> None:
    before = scene.rows()

    with outage(kind, private_server, url):
        scene.expect_unverified()
        scene.expect_unchanged(verifiable=False)

    assert scene.rows() == before
    scene.expect_recovery()


@pytest.mark.parametrize("kind", OUTAGES)
def test_the_first_calls_after_an_outage_succeed(
    make_host: MakeHost, private_server: PrivateServer, url: str, kind: str
) -> None:
    host = make_host(url)  # its deadlines are so long that a call that waits for one fails below
    user = host.add_user()
    token = host.issue(user)
    assert host.status(token, "/api/user") == 200

    with outage(kind, private_server, url):
        pass

    calls = (
        lambda: host.status(token),
        lambda: host.status(host.issue(user), "/api/user"),
        lambda: host.force_logout(user).sessions_ended,
        lambda: host.status(token),
    )
    assert [within(MARGIN_S, call) for call in calls] == [200, 200, 2, 401]


def test_with_watch_only_a_call_that_reads_the_user_row_fails_on_a_paused_server(
    make_host: MakeHost, private_server: PrivateServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene.set(
        make_host, url, XGEN_SESSIONS_CONSISTENCY="watch", XGEN_SESSIONS_MAX_STALENESS=60
    )
    calls = {
        path: partial(scene.host.status, scene.token, path) for path in ("/api/token", "/api/user")
    }
    watch = scene.host.app.extensions["xgen_sessions"].watch
    until(lambda: scene.status(scene.token) == 200 and watch.is_fresh())
    assert [in_spite_of_stalls(DEADLINE_S, call) for call in calls.values()] == [200, 200]
    monkeypatch.setattr(reachability, "FRESH_S", 0.0)  # the last answer is not recent

    with outage("paused", private_server, url):
        assert within(DEADLINE_S, calls["/api/token"]) == 200
        assert within(DEADLINE_S, calls["/api/user"]) == 503

    assert in_spite_of_stalls(DEADLINE_S, calls["/api/user"]) == 200


@pytest.mark.parametrize("kind", OUTAGES)
def test_more_threads_than_connections_recover_from_an_outage(
    make_host: MakeHost, private_server: PrivateServer, url: str, kind: str
) -> None:
    scene = Scene.set(
        make_host,
        url,
        SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 2, "max_overflow": 0},
        XGEN_SESSIONS_DEADLINE=CROWD_S,  # a busy machine is slow with that many threads
    )

    with outage(kind, private_server, url):
        during = _statuses(scene, seconds=CROWD_S)
    after = _statuses(scene, seconds=CROWD_S)

    assert during == [503] * 16
    assert after == [200] * 16
    scene.expect_recovery()


def _statuses(scene: Scene, *, seconds: float) -> list[int]:
    """Return the statuses of sixteen calls, eight at a time; half of them read the user's row."""

    def call(number: int) -> int:
        path = ("/api/token", "/api/user")[number % 2]
        return within(
            seconds, lambda: scene.host.status(scene.token, path), margin_s=CROWD_MARGIN_S
        )

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(call, range(16)))


def test_tokens_are_verified_and_no_row_changes_on_a_read_only_database(
    scene: Scene, private_server: PrivateServer
) -> None:
    before = scene.rows()

    private_server.set_read_only(True)

    scene.expect_verified()
    scene.expect_unchanged(verifiable=True)
    assert scene.rows() == before
    private_server.set_read_only(False)
    scene.expect_recovery()


def test_tokens_are_verified_while_another_program_holds_a_lock(scene: Scene, url: str) -> None:
    before = scene.rows()
    engine = sa.create_engine(url, poolclass=sa.NullPool)

    with engine.connect() as foreign:
        foreign.exec_driver_sql("SELECT * FROM xgen_user_logins FOR UPDATE").all()
        scene.expect_verified()
        scene.expect_unchanged(verifiable=True)

    assert scene.rows() == before
    scene.expect_recovery()


def test_a_server_paused_at_the_commit_leaves_a_force_logout_complete_or_undone(
    scene: Scene, private_server: PrivateServer
) -> None:
    before = scene.rows()
    with scene.host.app.app_context():
        engine = scene.host.db.engine
    paused: list[bool] = []

    def pause(_: sa.Connection) -> None:
        paused.append(True)
        private_server.pause()

    sa.event.listen(engine, "commit", pause, once=True)

    while not paused:  # a busy machine may not reach the commit in time
        with pytest.raises(LedgerUnavailable) as caught:
            within(WRITE_DEADLINE_S, lambda: scene.host.force_logout(scene.user))

    assert "Nothing was done" not in caught.value.detail
    private_server.resume()
    after = scene.rows()
    revoked = scene.status(scene.token) == 401
    while after != (again := scene.rows()):  # the server completes received commands
        after, revoked = again, scene.status(scene.token) == 401
    ended = [row["user_id"] for row in after["xgen_sessions"] if row["ended_us"] is not None]
    if revoked:
        assert ended == [scene.user]
        assert len(after["xgen_revocations"]) == 1
    else:
        assert after == before


@pytest.mark.parametrize("kind", OUTAGES)
def test_the_admin_center_answers_503_during_an_outage(
    make_center: MakeCenter, private_server: PrivateServer, url: str, kind: str
) -> None:
    center = make_center(
        SQLALCHEMY_DATABASE_URI=url,
        TESTING=False,
        **DEADLINES,
    )
    browser = signed_in(center)

    with outage(kind, private_server, url):
        for path in ("/", "/login", SCREEN, "/admin/admin-users/"):
            answer = within(DEADLINE_S, lambda path=path: browser.get(path, headers=PAGE))  # type: ignore[misc]
            assert answer.status_code == 503, path
            assert "Not available right now" in answer.text
            assert int(answer.headers["Retry-After"]) >= 1
        answer = within(WRITE_DEADLINE_S + DEADLINE_S, lambda: sign_in(center.browser(), "admin"))
        assert answer.status_code == 503
        assert "The database did not answer in time." in answer.text  # above the form, to try again
        assert int(answer.headers["Retry-After"]) >= 1

    screen = in_spite_of_stalls(DEADLINE_S, lambda: browser.get(SCREEN, headers=PAGE))
    assert screen.status_code == 200
    again = signed_in(center)
    assert in_spite_of_stalls(DEADLINE_S, lambda: again.get("/api/me")).status_code == 200


def signed_in(center: Center) -> FlaskClient:
    """Return a browser in which the administrator is signed in."""
    browser = center.browser()
    answer = in_spite_of_stalls(WRITE_DEADLINE_S, lambda: sign_in(browser, "admin"))
    assert answer.status_code == 303
    return browser


def test_an_application_that_starts_during_the_outage_works_once_it_is_over(
    make_host: MakeHost, scene: Scene, private_server: PrivateServer, url: str
) -> None:
    scene.host.dispose()
    private_server.stop()

    late = make_host(url, create_all=False)

    assert late.status(scene.token) == 503
    private_server.start()
    answer = within(
        DEADLINE_S + MARGIN_S,
        lambda: late.client().get("/api/user", headers=bearer(scene.token)),
    )
    assert answer.status_code == 200
