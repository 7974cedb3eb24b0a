"""A host whose database fails, and the behaviour that clients must see."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup
from flask import Flask
from flask.testing import FlaskClient
from flask_admin import Admin
from werkzeug.test import TestResponse

from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from tests.support.patience import at_once, in_spite_of_stalls
from xgen_flask_sessions import IssuedToken, LedgerUnavailable, VerifiedToken

DEADLINE_S, WRITE_DEADLINE_S = 0.8, 1.4
DEADLINES: dict[str, Any] = {
    "XGEN_SESSIONS_DEADLINE": timedelta(seconds=DEADLINE_S),
    "XGEN_SESSIONS_WRITE_DEADLINE": timedelta(seconds=WRITE_DEADLINE_S),
}
SCREEN = "/admin/admin-active-sessions/"
PAGE = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}

_NOTHING_DONE = re.compile(r"Nothing (of it )?was done\.|Nobody was signed out\.")
TABLES = ("xgen_sessions", "xgen_user_logins", "xgen_revocations")


def with_screen(app: Flask) -> Mapping[str, Any]:
    """Add Flask-Admin, which gets the plugin's Login Management screen."""
    return {"admin": Admin(app, name="Admin Center")}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A host with one signed-in user, and an administrator with the open screen."""

    host: Host
    user: str
    token: IssuedToken
    verified: VerifiedToken
    admin_token: IssuedToken
    form: Mapping[str, str]
    """The form that the user's button **Force Logout** sends."""

    @classmethod
    def set(cls, make_host: MakeHost, database_url: str, **config: Any) -> Scene:
        """Create the host and sign both users in, on an empty database."""
        host = make_host(
            database_url,
            extras=with_screen,
            **DEADLINES | config,
        )
        host.app.testing = False  # an unhandled exception is a 500, as in production
        user = host.add_user("alice")
        boss = host.add_user("boss", is_superuser=True)
        token, admin_token = (
            in_spite_of_stalls(WRITE_DEADLINE_S, partial(host.issue, each)) for each in (user, boss)
        )
        admin = host.cookie_client(admin_token)
        page = in_spite_of_stalls(DEADLINE_S, lambda: admin.get(SCREEN))
        screen = BeautifulSoup(page.text, "html.parser")
        (form,) = screen.select(f"form[action='{SCREEN}force-logout']")
        (button,) = form.select(f"button[name=user_id][value='{user}']")
        fields = [*form.select("input[type=hidden]"), button]
        return cls(
            host=host,
            user=user,
            token=token,
            verified=in_spite_of_stalls(DEADLINE_S, lambda: host.verify(token)),
            admin_token=admin_token,
            form={str(field["name"]): str(field["value"]) for field in fields},
        )

    def admin(self) -> FlaskClient:
        """Return the administrator's browser."""
        return self.host.cookie_client(self.admin_token)

    def rows(self) -> dict[str, list[Mapping[str, Any]]]:
        """Return all rows of the plugin's tables, read on a separate connection."""
        with self.host.app.app_context():
            engine = sa.create_engine(self.host.db.engine.url, poolclass=sa.NullPool)
        tables = self.host.db.metadata.tables
        with engine.connect() as connection:
            return {
                name: [
                    dict(row)
                    for row in connection.execute(
                        sa.select(tables[name]).order_by(*tables[name].primary_key)
                    ).mappings()
                ]
                for name in TABLES
            }

    def checked_calls(self) -> Iterator[tuple[str, Callable[[], TestResponse]]]:
        """Yield calls that verify a token, with the token in a header and in a cookie."""
        for path in ("/api/token", "/api/user", "/page", "/sessions/"):
            yield f"{path} by header", self._call(self.host.client(), path, bearer(self.token))
            yield f"{path} by cookie", self._call(self.host.cookie_client(self.token), path, {})
        yield "/page in a browser", self._call(self.host.cookie_client(self.token), "/page", PAGE)

    def _call(
        self, client: FlaskClient, path: str, headers: dict[str, str]
    ) -> Callable[[], TestResponse]:
        return lambda: client.get(path, headers=headers)

    def http_changes(self) -> Iterator[tuple[str, Callable[[], TestResponse]]]:
        """Yield the HTTP calls that change the database."""
        own = bearer(self.token)
        client = self.host.client()
        yield "sign in", lambda: client.post("/sign-in", data={"user_id": self.user})
        yield "renew", lambda: client.post("/sessions/renew", headers=own)
        yield "sign out", lambda: client.post("/sessions/sign-out", headers=own)
        yield "force logout", lambda: self.admin().post(f"/sessions/users/{self.user}/force-logout")
        yield (
            "the form",
            lambda: self.admin().post(f"{SCREEN}force-logout", data=self.form, headers=PAGE),
        )

    def pages(self) -> Iterator[tuple[str, Callable[[], TestResponse]]]:
        """Yield calls that open the administrator's pages."""
        for path in (SCREEN, f"{SCREEN}sessions?user_id={self.user}", "/sessions/users"):
            yield path, self._call(self.admin(), path, dict(PAGE))

    def python_changes(self) -> Iterator[Callable[[], object]]:
        """Yield the calls of the Python interface that change the database."""
        host = self.host
        for call in (
            lambda: host.sessions.issue(self.user),
            lambda: host.sessions.renew(self.verified),
            lambda: host.sessions.end_session(self.token.session_id),
            lambda: host.sessions.force_logout(self.user),
        ):
            yield self._in_context(call)

    def _in_context(self, call: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            with self.host.app.app_context():
                return call()

        return run

    def expect_verified(self) -> None:
        """Expect that every call accepts the token, and that the administrator's pages open."""
        for name, call in (*self.checked_calls(), *self.pages()):
            answer = in_spite_of_stalls(DEADLINE_S, call)
            assert answer.status_code == 200, (name, answer.text)

    def expect_unverified(self) -> None:
        """Expect that every call answers 503 in time, with a ``Retry-After`` header."""
        names, calls = zip(*self.checked_calls(), *self.pages(), strict=True)
        for name, answer in zip(names, at_once(DEADLINE_S, calls), strict=True):
            expect_503(answer, "denylist_unavailable", name)

    def expect_unchanged(self, *, verifiable: bool) -> None:
        """Expect that every change fails in time and reports that the database is unchanged.

        :param verifiable: Whether tokens can be verified during the outage.
        """
        names, changes = zip(*self.http_changes(), strict=True)
        answers = at_once(WRITE_DEADLINE_S, changes)
        if verifiable:
            answers = [
                again() if _code_of(answer) == "denylist_unavailable" else answer
                for answer, again in zip(answers, changes, strict=True)
            ]
        for name, answer in zip(names, answers, strict=True):
            checked = name != "sign in" and not verifiable
            expect_503(answer, "denylist_unavailable" if checked else "ledger_unavailable", name)
            assert checked or _NOTHING_DONE.search(answer.text), (name, answer.text)
        for error in at_once(WRITE_DEADLINE_S, map(_refusal_of, self.python_changes())):
            assert _NOTHING_DONE.search(error.detail)

    def expect_recovery(self) -> None:
        """Expect that the next calls work: the token is accepted, and changes take effect."""
        self.expect_verified()
        fresh = self._sign_in()
        assert self.status(fresh) == 200
        answer = in_spite_of_stalls(
            WRITE_DEADLINE_S,
            lambda: self.admin().post(f"{SCREEN}force-logout", data=self.form, headers=PAGE),
        )
        assert answer.status_code == 303
        assert [self.status(token) for token in (self.token, fresh)] == [401, 401]
        pages = in_spite_of_stalls(DEADLINE_S, lambda: self.admin().get(SCREEN))
        assert pages.status_code == 200
        assert self.status(self._sign_in(), "/api/user") == 200

    def status(self, token: IssuedToken, path: str = "/api/token") -> int:
        """Return the status of a call with *token* in the header."""
        return in_spite_of_stalls(DEADLINE_S, lambda: self.host.status(token, path))

    def _sign_in(self) -> IssuedToken:
        return in_spite_of_stalls(WRITE_DEADLINE_S, lambda: self.host.issue(self.user))


def _refusal_of(change: Callable[[], object]) -> Callable[[], LedgerUnavailable]:
    def run() -> LedgerUnavailable:
        with pytest.raises(LedgerUnavailable) as caught:
            change()
        return caught.value

    return run


def _code_of(answer: TestResponse) -> str | None:
    """Return the code of a problem; ``None`` for a page."""
    problem = answer.get_json(silent=True) or {}
    return problem.get("code")


def expect_503(answer: TestResponse, code: str, name: str = "") -> None:
    """Expect the answer that reports an unusable database.

    :param name: The call's name, for the failure message.
    """
    assert answer.status_code == 503, (name, answer.status_code, answer.text)
    if answer.mimetype == "text/html":  # an administrator's page
        assert "<html lang=" in answer.text, name
    else:
        assert _code_of(answer) == code, (name, answer.text)
    assert int(answer.headers["Retry-After"]) >= 1, name
