"""Signing in and out: the page for people, and the call for programs."""

from __future__ import annotations

import json
from typing import Any, Final

from flask import (
    Blueprint,
    Response,
    current_app,
    jsonify,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from flask_login import current_user

from xgen_flask_sessions import (
    AuthenticationError,
    BadRequest,
    CrossSiteRequest,
    DatabaseUnavailable,
    IssuedToken,
    RateLimited,
    SessionRevoked,
    TokenExpired,
    UserInactive,
    cause_of,
    current_token,
    gettext,
    gettext_noop,
    ngettext,
    open_to_all,
)
from xgen_flask_sessions.standalone import accounts
from xgen_flask_sessions.standalone.extensions import sessions
from xgen_flask_sessions.standalone.models import MAX_USERNAME
from xgen_flask_sessions.standalone.results import tell, told

blueprint = Blueprint("sign_in", __name__)

CHALLENGE: Final = 'Bearer realm="xgen"'
WRONG: Final = gettext_noop("The username or the password is wrong.")
INACTIVE: Final = gettext_noop("Your account is inactive. Ask an administrator.")
NOT_IN_TIME: Final = gettext_noop("The database did not answer in time. Try again.")
REFUSED: Final = gettext_noop("The database refused the sign-in. The log says why.")
FORCED: Final = gettext_noop("An administrator ended your session. You can sign in again.")
CHANGED: Final = gettext_noop("Your account was changed, for example its password. Sign in again.")
EXPIRED: Final = gettext_noop("Your session has expired. Sign in again.")
ENDED: Final = gettext_noop("Your session has ended. Sign in again.")
ALL_ENDED: Final = gettext_noop("You ended all your sessions. You can sign in again.")
ONE_ENDED: Final = gettext_noop("You ended this session. You can sign in again.")
SIGNED_OUT: Final = gettext_noop("You have signed out.")


class InvalidCredentials(AuthenticationError):
    """The username or the password of ``POST /api/login`` is wrong."""

    code = "invalid_credentials"
    default_detail = WRONG
    oauth_error = None


class InactiveAccount(UserInactive):
    """The account of ``POST /api/login`` is inactive; the request carried no token."""

    oauth_error = None


@blueprint.get("/login")
def page() -> Any:
    """Show the sign-in page; a signed-in user goes on to ``next``.

    With ``?prompt=login`` (OpenID Connect Core, section 3.1.2.1), a signed-in user may sign in as
    another one.
    """
    reason = sessions.rejection()
    if isinstance(reason, DatabaseUnavailable):
        raise reason
    if current_user.is_authenticated and request.args.get("prompt") != "login":
        return redirect(sessions.next_path(url_for("workspace.page")))
    results = told()
    if results:
        return _page(200, notice=" ".join(results))
    return _page(200, **_why_here())


@blueprint.post("/login")
def submit() -> Any:
    """Sign in, and go on to ``next``."""
    _require_same_site()
    username = request.form.get("username", "")
    earlier = current_token.session_id if current_token else None
    try:
        issued = _sign_in(username, request.form.get("password", ""))
    except UserInactive:
        return _page(401, error=gettext(INACTIVE), username=username)
    except RateLimited as error:
        return _too_often(error, username)
    except DatabaseUnavailable as error:
        return _database_failed(error, username)
    if issued is None:
        return _page(401, error=gettext(WRONG), username=username)
    if earlier is not None:  # the browser replaces it, so no sign-out could end it
        sessions.end_session(earlier, reason="signed in again")
    response = make_response(redirect(sessions.next_path(url_for("workspace.page")), 303))
    sessions.set_cookie(response, issued)
    return response


@blueprint.post("/logout")
@open_to_all
def sign_out() -> Any:
    """End this session."""
    _require_same_site()
    reason = sessions.rejection()
    if reason is not None and not isinstance(reason, AuthenticationError):
        raise reason
    if current_token:
        sessions.end_session(current_token.session_id, actor=current_token.user_id)
    return to_sign_in(gettext(SIGNED_OUT))


@blueprint.post("/api/login")
@open_to_all
def api_login() -> Response:
    """``POST /api/login``: a token for a username and a password."""
    _require_same_site()
    username, password = _credentials()
    try:
        issued = _sign_in(username, password)
    except UserInactive as error:
        raise InactiveAccount from error
    if issued is None:
        raise InvalidCredentials
    return jsonify(
        access_token=issued.token,
        token_type="Bearer",  # noqa: S106
        expires_in=issued.expires_in,
        session_id=issued.session_id,
    )


def _sign_in(username: str, password: str) -> IssuedToken | None:
    """Return a token for the user with this name and password, or ``None``.

    :raises UserInactive: They are right, and the user is inactive.
    :raises RateLimited: Too many sign-ins failed before; the password was not checked.
    """
    sessions.check_sign_in_rate(username)
    try:
        issued = accounts.sign_in(username, password)
    except UserInactive:
        sessions.count_failed_sign_in(username)
        raise
    if issued is None:
        sessions.count_failed_sign_in(username)
    return issued


def to_sign_in(result: str) -> Response:
    """Send the browser to the sign-in page, without its cookie.

    :param result: What the page says.
    """
    tell(result)
    response = make_response(redirect(url_for("sign_in.page"), 303))
    sessions.unset_cookie(response)
    return response


def _page(
    status: int, *, error: str | None = None, notice: str | None = None, username: str = ""
) -> Response:
    response = make_response(
        render_template(
            "xgen_standalone/sign_in.html",
            error=error,
            notice=notice,
            username=username[:MAX_USERNAME],
            next_path=sessions.next_path(url_for("workspace.page")),
        ),
        status,
    )
    if status == 401:
        response.headers["WWW-Authenticate"] = CHALLENGE  # RFC 9110, section 15.5.2
    return response


def _too_often(error: RateLimited, username: str) -> Response:
    wait = error.retry_after_s or 1
    text = ngettext(
        "Too many sign-ins failed. Try again in %(num)d second.",
        "Too many sign-ins failed. Try again in %(num)d seconds.",
        wait,
    )
    response = _page(error.status, error=text, username=username)
    response.headers["Retry-After"] = str(wait)
    return response


def _database_failed(error: DatabaseUnavailable, username: str) -> Response:
    current_app.logger.error("A sign-in failed: %s", cause_of(error))
    refused = getattr(error, "refused", False)
    response = _page(
        error.status, error=gettext(REFUSED if refused else NOT_IN_TIME), username=username
    )
    response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def _why_here() -> dict[str, str]:
    """Return the reason why the browser's session has ended, from its record, if it had one.

    The user's own act, and a time that has passed, is a notice; anything else is an error.
    """
    reason = sessions.rejection()
    if isinstance(reason, SessionRevoked):
        return _why_revoked(reason)
    if isinstance(reason, TokenExpired):
        return {"notice": gettext(EXPIRED)}
    if isinstance(reason, UserInactive):
        return {"error": gettext(INACTIVE)}
    return {"error": gettext(ENDED)} if isinstance(reason, AuthenticationError) else {}


def _why_revoked(reason: SessionRevoked) -> dict[str, str]:
    if reason.account_changed:
        return {"notice": gettext(CHANGED)}
    record = sessions.revocation()
    if record is not None and record.actor == reason.user_id:
        if record.kind == "everyone":
            return {"notice": _everyone_ended(record.sessions_ended)}
        ended = ONE_ENDED if record.kind == "session" else ALL_ENDED
        return {"notice": gettext(ended)}
    if reason.forced or (record is not None and record.actor is not None):
        return {"error": gettext(FORCED)}
    return {"notice": gettext(ENDED)}


def _everyone_ended(number: int) -> str:
    return ngettext(
        "You signed out everyone: %(num)d session ended. You can sign in again.",
        "You signed out everyone: %(num)d sessions ended. You can sign in again.",
        number,
    )


def _require_same_site() -> None:
    """Prevent another site from signing a browser in or out.

    :raises CrossSiteRequest: The form came from another site.
    """
    if not sessions.is_same_site():
        raise CrossSiteRequest


def _credentials() -> tuple[str, str]:
    try:
        body = json.loads(request.get_data())
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON.") from None
    username, password = (
        (body.get("username"), body.get("password")) if isinstance(body, dict) else (None, None)
    )
    if not isinstance(username, str) or not isinstance(password, str):
        raise BadRequest('The body is an object such as {"username": "…", "password": "…"}.')
    return username, password
