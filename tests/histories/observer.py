"""Makes calls through the public interface, and records their invocations and completions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import sqlalchemy as sa
from flask.testing import FlaskClient
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.test import TestResponse

from tests.histories.exchange import Shared
from tests.histories.record import Kind, Operation, Outcome, Recorder, monotonic_ns
from tests.support.hosts import Host, bearer
from xgen_flask_sessions import (
    DenylistUnavailable,
    IssuedToken,
    LedgerUnavailable,
    Revocation,
    VerifiedToken,
    XgenSessionsError,
    bulk,
)
from xgen_flask_sessions.store.revocations import Cause
from xgen_flask_sessions.verifier import Verifier

_T = TypeVar("_T")


class _Calls:
    """Makes calls and records them.

    :param roll_back: Called after a failed call.
    """

    def __init__(
        self, process: int, recorder: Recorder, roll_back: Callable[[], object] = lambda: None
    ) -> None:
        self._process = process
        self._recorder = recorder
        self._roll_back = roll_back

    def record(
        self,
        kind: Kind,
        call: Callable[[], _T],
        shared: Shared | None = None,
        *,
        user: str | None = None,
        session_id: str | None = None,
    ) -> _T | None:
        result: _T | None = None
        error: XgenSessionsError | None = None
        begin_ns = monotonic_ns()
        try:
            result = call()
        except XgenSessionsError as raised:
            error = raised
        end_ns = monotonic_ns()
        if error is not None:
            self._roll_back()
        outcome, code = _outcome_of(kind, result, error)
        issued = result if isinstance(result, IssuedToken) else None
        if shared is not None:
            user, session_id = shared.user, shared.session_id
        self._recorder.write(
            Operation(
                kind=kind,
                process=self._process,
                begin_ns=begin_ns,
                end_ns=end_ns,
                outcome=outcome,
                code=code,
                user=user,
                session_id=issued.session_id if issued else session_id,
                jti=shared.jti if shared else None,
                new_jti=issued.jti if issued else None,
                stamp=_stamp_of(result),
            )
        )
        return result


class Observer:
    """The calls of one process to a host application.

    :param process: The number of the process.
    :param host: The host application.
    :param recorder: Records the calls.
    """

    def __init__(self, process: int, host: Host, recorder: Recorder) -> None:
        self._host = host
        self._process = process
        self._recorder = recorder
        self._record = _Calls(process, recorder, self._roll_back).record

    def _roll_back(self) -> None:
        with self._host.app.app_context(), suppress(SQLAlchemyError):
            self._host.db.session.rollback()

    def sign_in(self, user: str) -> IssuedToken | None:
        """Sign a user in."""
        with self._host.app.app_context():
            return self._record("sign in", lambda: self._host.sessions.issue(user), user=user)

    def renew(self, shared: Shared, verified: VerifiedToken) -> IssuedToken | None:
        """Renew a token.

        :param verified: The result of its verification.
        """
        with self._host.app.app_context():
            return self._record("renew", lambda: self._host.sessions.renew(verified), shared)

    def end_session(self, shared: Shared) -> None:
        """End a session, as an administrator."""
        with self._host.app.app_context():
            self._record(
                "end session",
                lambda: self._host.sessions.end_session(shared.session_id, actor="histories"),
                user=shared.user,
                session_id=shared.session_id,
            )

    def force_out(self, user: str) -> None:
        """Force a user out."""
        with self._host.app.app_context():
            self._record("force out", lambda: self._host.sessions.force_logout(user), user=user)

    def force_out_several(self, users: Sequence[str]) -> None:
        """Force several users out, in transactions of a few users each."""
        with self._host.app.app_context():
            begin_ns = monotonic_ns()
            result = bulk.force_logout_several(users, Cause(actor="histories"))
            end_ns = monotonic_ns()
        if result.error is not None:
            self._roll_back()
        code = None if result.error is None else result.error.code
        stamps = {each.user_id: each.invalid_before_us for each in result.done}
        unknown = set(result.failed_unknown)
        for user in users:
            outcome: Outcome = "not done"
            if user in stamps:
                outcome = "done"
            elif user in unknown:
                outcome = "uncertain"
            self._recorder.write(
                Operation(
                    kind="force out several",
                    process=self._process,
                    begin_ns=begin_ns,
                    end_ns=end_ns,
                    outcome=outcome,
                    code=None if outcome == "done" else code,
                    user=user,
                    stamp=stamps.get(user),
                )
            )

    def force_out_everyone(self) -> None:
        """Force everyone out."""
        with self._host.app.app_context():
            self._record("force out everyone", self._host.sessions.force_logout_everyone)

    def deactivate(self, user: str) -> None:
        """Deactivate a user and force the user out, in one transaction."""

        def call() -> Revocation:
            self._set_active(user, active=False)
            revocation = self._host.sessions.force_logout(user, commit=False)
            self._commit()
            return revocation

        with self._host.app.app_context():
            self._record("deactivate", call, user=user)

    def activate(self, user: str) -> None:
        """Activate a user."""

        def call() -> None:
            self._set_active(user, active=True)
            self._commit()

        with self._host.app.app_context():
            self._record("activate", call, user=user)

    def verify(self, shared: Shared) -> VerifiedToken | None:
        """Verify a token by ``sessions.verify``."""
        with self._host.app.app_context():
            return self._record("verify", lambda: self._host.sessions.verify(shared.token), shared)

    def get(self, client: FlaskClient, kind: Kind, shared: Shared) -> bool:
        """Make one of the host's protected calls, and return whether the token was accepted."""
        path = kind.removeprefix("GET ")

        def call() -> TestResponse:
            try:
                return client.get(path, headers=bearer(shared.token))
            except SQLAlchemyError as error:  # when the host closes its session after the request
                raise DenylistUnavailable from error

        answer = self._record(kind, call, shared)
        return answer is not None and answer.status_code == 200

    def _set_active(self, user: str, *, active: bool) -> None:
        # The row is written even if its value stays the same: that locks it.
        model, session = self._host.model, self._host.db.session
        try:
            session.execute(sa.update(model).where(model.id == int(user)).values(is_active=active))
        except SQLAlchemyError as error:
            session.rollback()
            raise LedgerUnavailable from error

    def _commit(self) -> None:
        try:
            self._host.db.session.commit()
        except SQLAlchemyError as error:
            raise LedgerUnavailable("The change may have been committed.") from error


class ServiceObserver:
    """The calls of one process that is a service without the database.

    :param process: The number of the process.
    :param verifier: The service's verifier.
    :param recorder: Records the calls.
    """

    def __init__(self, process: int, verifier: Verifier, recorder: Recorder) -> None:
        self._verifier = verifier
        self._record = _Calls(process, recorder).record

    def verify(self, shared: Shared) -> bool:
        """Verify a token, and return whether it was accepted."""
        verified = self._record(
            "Verifier.verify", lambda: self._verifier.verify(shared.token), shared
        )
        return verified is not None


def _outcome_of(
    kind: Kind, result: object, error: XgenSessionsError | None
) -> tuple[Outcome, str | None]:
    if isinstance(error, DenylistUnavailable):
        return "not done", error.code
    if isinstance(error, LedgerUnavailable):
        return "not done" if "Nothing" in error.detail else "uncertain", error.code
    if error is not None:
        return "refused", error.code
    if isinstance(result, TestResponse) and result.status_code != 200:
        return "not done" if result.status_code == 503 else "refused", result.get_json()["code"]
    return "nothing to do" if kind == "end session" and result is None else "done", None


def _stamp_of(result: object) -> int | None:
    if isinstance(result, IssuedToken):
        return result.issued_us
    return result.invalid_before_us if isinstance(result, Revocation) else None
