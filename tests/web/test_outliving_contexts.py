"""Contexts that outlive their request: each event is checked as a request is."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import (
    Flask,
    Response,
    copy_current_request_context,
    request,
    request_started,
    session,
    stream_with_context,
)
from flask_login import LoginManager, current_user, login_required, login_user

from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from xgen_flask_sessions import (
    SessionRevoked,
    VerifiedToken,
    XgenSessionsError,
    current_token,
    token_required,
)

CHECKS: list[Callable[[Any], Any]] = [token_required, login_required]


@pytest.fixture
def host(make_host: MakeHost, sqlite_url: str) -> Host:
    """Return a host with a user loader."""

    def extras(app: Flask) -> dict[str, Any]:
        manager: LoginManager = app.login_manager  # type: ignore[attr-defined]
        manager.user_loader(lambda user_id: app.extensions["xgen_sessions"].users.get(user_id))
        return {}

    return make_host(sqlite_url, extras=extras)


def who() -> tuple[bool, bool]:
    """Return whether ``current_token`` and ``current_user`` say that a user is signed in."""
    return bool(current_token), bool(current_user.is_authenticated)


IN, OUT = (True, True), (False, False)


def test_each_event_of_one_environ_is_checked(host: Host) -> None:
    user = host.add_user()
    environ = {"HTTP_AUTHORIZATION": bearer(host.issue(user))["Authorization"]}
    with host.app.test_request_context(environ_overrides=environ):
        connect = request.environ
        assert who() == IN

    with host.app.request_context(connect):
        assert who() == IN
    host.force_logout(user)
    with host.app.request_context(connect):
        assert who() == OUT
        with pytest.raises(SessionRevoked):
            token_required(lambda: None)()


def test_an_event_within_an_application_context_is_checked(host: Host) -> None:
    user = host.add_user()
    environ = {"HTTP_AUTHORIZATION": bearer(host.issue(user))["Authorization"]}
    with host.app.app_context():  # whose g outlives the events
        with host.app.test_request_context(environ_overrides=environ):
            connect = request.environ
            assert who() == IN
        host.sessions.force_logout(user)
        with host.app.request_context(connect):
            assert who() == OUT


def test_a_context_within_a_request_does_not_lose_the_request_s_own_state(host: Host) -> None:
    @host.app.post("/nested")
    def nested() -> list[Any]:
        login_user(host.app.extensions["xgen_sessions"].users.get("1"))
        with host.app.test_request_context("/mail"):
            inner = who()
        with host.app.request_context(request.environ):
            again = bool(current_user.is_authenticated)
        return [inner, again, current_user.get_id()]

    user = host.add_user()
    client = host.client()

    assert client.post("/nested").get_json() == [[False, False], False, user]
    assert client.get("/api/user").get_json()["user_id"] == user


def test_a_sign_in_within_an_application_context_of_a_request_counts(host: Host) -> None:
    @host.app.post("/nested")
    def nested() -> str:
        with host.app.app_context():
            login_user(host.find_user("1"))
        return str(current_user.get_id())

    user = host.add_user()
    client = host.client()

    assert client.post("/nested").text == user
    assert client.get("/api/user").get_json()["user_id"] == user


@pytest.mark.parametrize("place", ["signal", "url_value_preprocessor"])
def test_a_sign_in_before_the_request_s_own_functions_counts(host: Host, place: str) -> None:
    def sign_in(*_: object, **__: object) -> None:
        if "sign_in" in request.args:
            login_user(host.find_user("1"))

    user = host.add_user()
    client = host.client()
    if place == "url_value_preprocessor":
        host.app.url_value_preprocessor(sign_in)
        assert client.get("/api/user?sign_in").get_json()["user_id"] == user
    else:
        with request_started.connected_to(sign_in, host.app):
            assert client.get("/api/user?sign_in").get_json()["user_id"] == user
    assert client.get("/api/user").get_json()["user_id"] == user


def test_a_user_that_is_set_is_current_in_a_context_that_stays_open(host: Host) -> None:
    """As tests of hosts do: one ``g`` serves several requests, and knows the last one's user."""

    @host.app.post("/enter/<user_id>")
    def enter(user_id: str) -> str:
        login_user(host.find_user(user_id))
        return str(current_user.get_id())

    @host.app.get("/own-check/<user_id>")
    def own_check(user_id: str) -> str:
        host.login_manager._update_request_context_with_user(host.find_user(user_id))
        return str(current_user.get_id())

    alice, bob = host.add_user(), host.add_user("bob")
    client = host.client()
    with host.app.app_context():
        assert client.get("/open").get_json() == {"user_id": None}
        for user in (alice, bob, bob):
            assert client.post(f"/enter/{user}").text == user
            assert client.get("/api/user").get_json()["user_id"] == user
            assert client.get(f"/own-check/{alice}").text == alice


def test_a_request_within_a_request_does_not_change_its_user(host: Host) -> None:
    @host.app.post("/outer")
    def outer() -> list[Any]:
        host.client().get("/open")
        login_user(host.find_user("1"))
        before = current_user.get_id()
        host.client().get("/open")
        return [before, current_user.get_id()]

    user = host.add_user()
    client = host.client()

    assert client.post("/outer").get_json() == [user, user]
    assert client.get("/api/user").get_json()["user_id"] == user


def test_a_sign_in_of_one_event_does_not_count_in_the_next(host: Host) -> None:
    user = host.add_user()
    with host.app.test_request_context():
        connect = request.environ
        login_user(host.find_user(user))
        kept = dict(session)
        assert current_user.is_authenticated

    with host.app.request_context(connect):
        session.update(kept)  # as Flask-SocketIO keeps a session for the events of a client
        assert who() == OUT


def test_a_background_task_with_a_copied_context_is_checked(host: Host) -> None:
    seen: list[Any] = []
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    @host.app.get("/task")
    @token_required
    def start() -> str:
        @copy_current_request_context
        def task() -> None:
            seen.append(who())
            begun.set()
            assert go_on.wait(20)
            seen.append(who())  # in the same context
            done.set()

        @copy_current_request_context
        def later() -> None:
            seen.append(who())

        threading.Thread(target=task).start()
        assert begun.wait(20)
        late.append(later)
        return "started"

    late: list[Callable[[], None]] = []
    user = host.add_user()
    headers = bearer(host.issue(user))
    assert host.client().get("/task", headers=headers).status_code == 200

    late[0]()
    host.force_logout(user)
    go_on.set()
    assert done.wait(20)
    late[0]()

    assert seen == [IN, IN, OUT, OUT]


def test_a_copied_context_that_checks_first_keeps_no_answer(host: Host) -> None:
    """The request itself never asks for its user; the task in its context lasts longer."""
    seen: list[Any] = []
    begun, go_on = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def loop() -> None:
        seen.append(who())
        begun.set()
        assert go_on.wait(20)
        seen.append(who())

    @host.app.get("/task")
    def start() -> str:
        threads.append(threading.Thread(target=copy_current_request_context(loop)))
        threads[0].start()
        assert begun.wait(20)
        return "started"

    user = host.add_user()
    assert host.client().get("/task", headers=bearer(host.issue(user))).status_code == 200
    host.force_logout(user)
    go_on.set()
    threads[0].join(20)

    assert seen == [IN, OUT]


@pytest.mark.parametrize("testing", [True, False])
@pytest.mark.parametrize("fails", ["view", "after_request"])
def test_a_task_of_a_request_that_fails_keeps_no_answer(
    host: Host, fails: str, testing: bool
) -> None:
    """A thread pool that copies context variables shares ``g`` with the request."""
    seen: list[Any] = []
    tasks: list[contextvars.Context] = []
    host.app.config["TESTING"] = testing

    @host.app.get("/task")
    @login_required  # type: ignore[untyped-decorator]
    def start() -> str:
        tasks.append(contextvars.copy_context())
        seen.append(tasks[0].run(who))
        if fails == "view":
            raise ZeroDivisionError
        return "started"

    @host.app.after_request
    def fail(response: Response) -> Response:
        if fails == "after_request":
            raise ZeroDivisionError
        return response

    user = host.add_user()
    try:
        assert host.status(host.issue(user), "/task") == 500
    except ZeroDivisionError:
        assert testing
    host.force_logout(user)
    seen.append(tasks[0].run(who))

    assert seen == [IN, OUT]


def test_the_page_for_an_error_sees_the_user_after_a_failed_flush(host: Host) -> None:
    """The host's session cannot load the user again: it needs a rollback first."""
    seen: list[Any] = []
    statements: list[str] = []

    @host.app.get("/twin")
    @login_required  # type: ignore[untyped-decorator]
    def add_twin() -> str:
        host.db.session.add(host.model(username="alice"))
        host.db.session.flush()
        return "added"

    @host.app.errorhandler(500)
    def page(error: Exception) -> tuple[str, int]:
        with host.calling_before_statements(lambda *sent: statements.append(sent[2])):
            seen.extend(who() for _ in range(10))
        return "failed", 500

    host.app.config["TESTING"] = False
    token = host.issue(host.add_user("alice"))

    assert host.status(token, "/twin") == 500
    assert (seen, statements) == ([IN] * 10, [])


def test_a_copied_context_within_a_request_does_not_end_its_state(host: Host) -> None:
    statements: list[str] = []

    @host.app.get("/inline")
    @login_required  # type: ignore[untyped-decorator]
    def inline() -> str:
        assert copy_current_request_context(who)() == IN
        with host.calling_before_statements(lambda *sent: statements.append(sent[2])):
            assert who() == IN
        return "done"

    assert host.status(host.issue(host.add_user()), "/inline") == 200
    assert statements == []


def test_a_copied_context_of_an_event_keeps_no_answer(host: Host) -> None:
    user = host.add_user()
    seen: list[Any] = []

    def loop() -> None:
        seen.append(who())
        host.force_logout(user)
        seen.append(who())

    with host.app.test_request_context(headers=bearer(host.issue(user))):
        task: Callable[[], None] = copy_current_request_context(loop)
    task()
    assert seen == [IN, OUT]


def test_a_sign_in_of_an_event_does_not_count_in_a_copied_context(host: Host) -> None:
    user = host.add_user()
    with host.app.test_request_context():
        login_user(host.find_user(user))
        assert current_user.is_authenticated
        task = copy_current_request_context(who)
    assert task() == OUT


def test_a_context_that_is_kept_after_a_response_keeps_no_answer(host: Host) -> None:
    """A host's function after the response, such as one of ``call_on_close``, asks again."""
    user = host.add_user()
    seen: list[Any] = []

    @host.app.get("/late")
    @token_required
    def late() -> Response:
        response = Response("in")

        @copy_current_request_context
        def close() -> None:
            host.force_logout(user)
            seen.append(who())

        response.call_on_close(close)
        return response

    host.client().get("/late", headers=bearer(host.issue(user)), buffered=True)
    assert seen == [OUT]


@pytest.mark.parametrize("protocols", ["websocket", "WebSocket", "h2c, websocket"])
def test_a_request_for_another_protocol_keeps_no_answer(host: Host, protocols: str) -> None:
    user = host.add_user()
    seen: list[Any] = []

    @host.app.get("/socket")
    @token_required
    def socket() -> str:
        seen.append(who())
        host.force_logout(user)
        seen.append(who())
        return "closed"

    headers = bearer(host.issue(user)) | {"Upgrade": protocols}
    host.client().get("/socket", headers=headers)

    assert seen == [IN, OUT]


@pytest.mark.parametrize("check", CHECKS)
def test_a_stream_with_the_request_s_context_is_checked(
    host: Host, check: Callable[[Any], Any]
) -> None:
    @host.app.get("/stream")
    @check
    def stream() -> Response:
        assert who() == IN

        def lines() -> Iterator[str]:
            while True:
                yield f"{who()}\n"

        return Response(stream_with_context(lines()))

    user = host.add_user()
    answer = host.client().get("/stream", headers=bearer(host.issue(user)), buffered=False)
    lines = answer.iter_encoded()
    assert next(lines) == f"{IN}\n".encode()

    host.force_logout(user)

    assert next(lines) == f"{OUT}\n".encode()
    answer.close()


def test_a_check_in_an_outliving_context_that_fails_is_repeated(host: Host) -> None:
    user = host.add_user()
    with host.app.test_request_context(headers=bearer(host.issue(user))):
        task = copy_current_request_context(who)
        assert who() == IN
    host.execute("ALTER TABLE xgen_sessions RENAME TO away")
    assert task() == OUT
    host.execute("ALTER TABLE away RENAME TO xgen_sessions")
    assert task() == IN


def test_a_test_client_that_keeps_the_context_sees_the_user_as_now(host: Host) -> None:
    user = host.add_user()
    token = host.issue(user)

    with host.client() as client:
        client.get("/api/user", headers=bearer(token))
        assert current_user.get_id() == user
        assert who() == IN
        host.force_logout(user)
        assert who() == OUT


def test_a_request_is_still_checked_once(host: Host) -> None:
    seen: list[str] = []

    @host.app.get("/often")
    @token_required
    def often() -> str:
        for _ in range(5):
            assert who() == IN
        with host.app.app_context():
            assert bool(current_token)
        return "in"

    token = host.issue(host.add_user())
    host.status(token, "/often")
    checker = host.app.extensions["xgen_sessions"].checker
    verify = checker.verify

    def count(text: str) -> VerifiedToken:
        seen.append(text)
        return verify(text)  # type: ignore[no-any-return]

    checker.verify = count

    assert host.status(token, "/often") == 200

    assert len(seen) == 2  # the inner application context is checked by itself


def test_the_signal_is_sent_once_for_each_event(host: Host) -> None:
    from xgen_flask_sessions import token_rejected

    user = host.add_user()
    environ = {"HTTP_AUTHORIZATION": bearer(host.issue(user))["Authorization"]}
    host.force_logout(user)
    sent: list[XgenSessionsError] = []
    with token_rejected.connected_to(lambda app, error: sent.append(error)):
        with host.app.test_request_context(environ_overrides=environ):
            connect = request.environ
            assert who() == OUT
        with host.app.request_context(connect):
            assert who() == OUT

    assert [error.code for error in sent] == ["session_revoked"] * 2
