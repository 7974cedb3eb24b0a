"""The test that revoking works, with a temporary user in the running database.

It uses the store, the keys and the checker, and bypasses the host's users, signals and
permissions. Login Management counts the user until its rows are deleted at the end.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from xgen_flask_sessions.cli.doctor.findings import Finding
from xgen_flask_sessions.clock import SECOND_US
from xgen_flask_sessions.errors import (
    ConfigurationError,
    SessionRevoked,
    TokenError,
    TokenInvalid,
    XgenSessionsError,
)
from xgen_flask_sessions.state import State
from xgen_flask_sessions.store import revocations, sign_ins
from xgen_flask_sessions.store.deployments import deployment_of
from xgen_flask_sessions.store.revocations import Cause
from xgen_flask_sessions.store.sign_ins import Issue
from xgen_flask_sessions.text import cause_of
from xgen_flask_sessions.tokens.claims import Claims

_T = TypeVar("_T")

_CAUSE = Cause(actor="xgen-doctor", reason="proof that revoking works")
_LIFETIME_US = 60 * SECOND_US
"""Rows that remain expire soon."""


class _Deviation(Exception):
    """A step had a wrong result."""


def prove_revocation(state: State) -> Finding:
    """Sign a temporary user in and out, and check the checker's answer at each step.

    :param state: The plugin's objects for the application.
    """
    trial = _Trial(state, f"xgen-doctor-{secrets.token_hex(8)}")
    try:
        finding = _result_of(trial)
    except BaseException:  # such as Ctrl+C: remove the rows
        with suppress(SQLAlchemyError):
            trial.clear()
        raise
    try:
        trial.clear()
    except SQLAlchemyError as error:
        if finding.level == "problem":
            return finding
        return Finding(
            level="problem",
            code="proof-left-behind",
            meaning=f"Revoking works, but the rows of the proof could not be deleted. "
            f"({cause_of(error)})",
            mend=f"Delete the rows of the user_id {trial.user_id} in the tables.",
        )
    return finding


def _result_of(trial: _Trial) -> Finding:
    try:
        trial.run()
    except _Deviation as deviation:
        return Finding(
            level="problem",
            code="revocation-fails",
            meaning=f"Revoking does not work: {deviation}.",
            mend="Remove triggers, replicas, poolers and the isolation level AUTOCOMMIT between "
            "the application and its tables; until then, no force logout is reliable.",
        )
    except ConfigurationError:
        return Finding(
            level="ok",
            code="revocation-not-tried",
            meaning="This application only verifies tokens; run doctor where they are issued.",
        )
    except (SQLAlchemyError, XgenSessionsError) as error:
        return Finding(
            level="problem",
            code="revocation-untried",
            meaning=f"Revoking could not be tested: the database refused. ({cause_of(error)})",
            mend="Let the application's database user read and write the tables.",
        )
    return Finding(
        level="ok",
        code="revocation",
        meaning="Revoking works: a temporary token was accepted, and refused after a force logout "
        "and after the end of its session.",
    )


class _Trial:
    """A temporary user that signs in and out."""

    def __init__(self, state: State, user_id: str) -> None:
        self._state = state
        self.user_id = user_id

    def run(self) -> None:
        """Run all steps.

        :raises _Deviation: A step had a wrong result.
        :raises ConfigurationError: The application cannot sign tokens.
        :raises SQLAlchemyError: The database refused a step.
        :raises XgenSessionsError: The checker could not ask the database.
        """
        with Session(self._state.db.engine) as session:
            undone, _ = self._sign_in(session)
            session.rollback()
        self._require_refused(undone, TokenInvalid, "a sign-in that was undone counts")
        first, _ = self._change(self._sign_in)
        self._require_accepted(first, "a sign-in is refused")
        self._change(lambda session: revocations.force_logout(session, self.user_id, _CAUSE))
        self._require_refused(first, SessionRevoked, "a token outlives a force logout")
        second, session_id = self._change(self._sign_in)  # the clock need not have moved
        self._require_accepted(second, "a sign-in right after a force logout is refused")
        self._require_refused(first, SessionRevoked, "a sign-in revives a token forced out")
        self._change(lambda session: revocations.end_session(session, session_id, _CAUSE))
        self._require_refused(second, SessionRevoked, "a token outlives the end of its session")

    def clear(self) -> None:
        """Delete every row of the user.

        :raises SQLAlchemyError: The database refused.
        """
        self._change(lambda session: revocations.forget(session, self.user_id))

    def _sign_in(self, session: Session) -> tuple[str, str]:
        """Return the token and the id of a new session."""
        recorded = sign_ins.issue(session, self.user_id, lifetime_us=_LIFETIME_US)
        claims = _claims(recorded, deployment_of(session))
        return self._state.codec.encode(claims), recorded.session_id

    def _change(self, step: Callable[[Session], _T]) -> _T:
        with Session(self._state.db.engine) as session, session.begin():
            return step(session)

    def _require_accepted(self, token: str, otherwise: str) -> None:
        try:
            self._state.checker.verify(token)
        except TokenError as error:
            raise _Deviation(otherwise) from error

    def _require_refused(self, token: str, expected: type[TokenError], otherwise: str) -> None:
        try:
            self._state.checker.verify(token)
        except expected:
            return
        except TokenError as error:
            raise _Deviation(f"a token is refused for the wrong reason ({error.code})") from error
        raise _Deviation(otherwise)


def _claims(recorded: Issue, deployment: str) -> Claims:
    return Claims(
        user_id=recorded.user_id,
        jti=recorded.jti,
        session_id=recorded.session_id,
        issued_us=recorded.issued_us,
        expires_us=recorded.expires_us,
        extra={},
        deployment=deployment,
    )
