"""Flask-Login's own sessions in the browser: each carries a token, like any other session.

The token of a session that ``login_user()`` began is in Flask's session, and in a cookie beside
the remember cookie, if there is one. Flask-Login's remember cookie contains only the user, so that
one from before a force logout equals one from after it. A session or a remember cookie without a
token is refused; so is a token without one of them.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from flask import Response, current_app, request, session
from flask.sessions import NullSession, SecureCookieSessionInterface
from flask_login import COOKIE_NAME, decode_cookie, encode_cookie
from flask_login.config import COOKIE_HTTPONLY, COOKIE_SAMESITE, COOKIE_SECURE
from werkzeug.datastructures import ImmutableMultiDict, MultiDict

from ..settings import secret_fallbacks
from ..state import get_app
from ..tokens.claims import MAX_COOKIE_BYTES, IssuedToken
from .cookie import put_token
from .request_scope import get_request, request_state

_TOKEN: Final = "_xgen_token"  # noqa: S105
"""The key of the token in Flask's session."""
_LOGIN_KEYS: Final = ("_user_id", "_fresh", "_id", "_remember_seconds")
_NO_USER: Final = ""
"""The user of a token whose sign-in was refused before: it matches no user id."""


def find_token() -> tuple[str, str] | None:
    """Return the token of the current request's Flask-Login session, and the session's login id.

    The token is valid for that login id only. The token of a sign-in that was refused before is
    returned, too: it still explains the refusal.
    """
    login_id, token = session.get("_user_id"), session.get(_TOKEN)
    if login_id is not None and token:
        return token, _NO_USER if _is_from_elsewhere() else str(login_id)
    remembered = _find_remembered()
    if remembered is None and token:
        return token, _NO_USER
    return remembered


def _find_remembered() -> tuple[str, str] | None:
    token = request.cookies.get(_cookie_name())
    remembered = _remembered_user() if token else None
    return (token, remembered) if token and remembered is not None else None


def has_login() -> bool:
    """Return whether the browser sent a session or a remember cookie of Flask-Login."""
    return "_user_id" in session or _remember_cookie_name() in request.cookies


def _is_from_elsewhere() -> bool:
    """Return whether "strong" session protection refuses Flask's session, as Flask-Login would."""
    manager = current_app.login_manager  # type: ignore[attr-defined]
    mode = current_app.config.get("SESSION_PROTECTION", manager.session_protection)
    if mode != "strong" or session.permanent:
        return False
    return bool(session.get("_id") != manager._session_identifier_generator())


def make_fresh() -> None:
    """Make the session of a token fresh for ``fresh_login_required``: its user signed in.

    Only Flask-Login's remember cookie makes sessions that are not fresh. The session is not marked
    as modified: clients of an API get no session cookie.
    """
    current = session._get_current_object()  # type: ignore[attr-defined]
    if "_user_id" not in current and isinstance(current, dict):
        dict.__setitem__(current, "_fresh", True)
        if isinstance(current, NullSession):  # without a secret; logout_user() takes it out
            vars(current)["pop"] = partial(dict.pop, current)


def tokens_held() -> list[str]:
    """Return every token of a Flask-Login session in the browser, valid or not."""
    held = (session.get(_TOKEN), request.cookies.get(_cookie_name()))
    return [token for token in held if token]


def drop_unreadable_remember_cookie() -> None:
    """Make Flask-Login ignore and remove a remember cookie that cannot be decoded.

    Flask-Login calls no request loader if there is one. It may be from another application on this
    host. One that is signed with a key of ``SECRET_KEY_FALLBACKS``, which Flask-Login does not
    read, is signed anew instead.
    """
    name = _remember_cookie_name()
    cookie = request.cookies.get(name)
    if cookie is None:
        return
    if not current_app.secret_key:  # Flask-Login has no key to decode it
        _replace_cookie(name, None)
        return
    if _decoded(cookie) is not None:
        return
    for key in secret_fallbacks(current_app.config):
        user_id = _decoded(cookie, key)
        if user_id is not None:
            _replace_cookie(name, encode_cookie(user_id))
            session["_remember"] = "set"
            return
    session["_remember"] = "clear"


def _replace_cookie(name: str, value: str | None) -> None:
    cookies = MultiDict(request.cookies)
    if value is None:
        del cookies[name]
    else:
        cookies[name] = value
    vars(get_request())["cookies"] = ImmutableMultiDict(cookies)


def _remembered_user() -> str | None:
    """Return the user in the remember cookie, if Flask-Login would use it."""
    cookie = request.cookies.get(_remember_cookie_name())
    if not cookie or not current_app.secret_key or session.get("_remember") == "clear":
        return None
    return _decoded(cookie)


def _decoded(cookie: str, key: bytes | None = None) -> str | None:
    try:
        user_id = decode_cookie(cookie, key)
    except TypeError:  # not ASCII
        return None
    return None if user_id is None else str(user_id)


def restore_token() -> None:
    """Copy the token beside the remember cookie into Flask's session."""
    if _TOKEN not in session:
        session[_TOKEN] = request.cookies.get(_cookie_name())


def require_room(token: str) -> None:
    """Check that Flask's session cookie has room for a token.

    :raises ValueError: Browsers would drop the cookie, and so the sign-in.
    """
    app = get_app()
    interface = app.session_interface
    if not isinstance(interface, SecureCookieSessionInterface):
        return  # the cookie holds no more than an id
    serializer = interface.get_signing_serializer(app)
    if serializer is None:
        return
    value = serializer.dumps({**session, _TOKEN: token})
    size = len(interface.get_cookie_name(app)) + len(value)
    if size > MAX_COOKIE_BYTES:
        forget()
        raise ValueError(
            f"Flask's session cookie would have {size} bytes with the token of the sign-in; "
            f"browsers keep {MAX_COOKIE_BYTES}. Keep less in the session, or keep it on the server."
        )


def begin(response: Response, issued: IssuedToken, *, remembered: bool) -> None:
    """Store the token of a new session in the browser.

    :param remembered: Whether to set the cookie beside the remember cookie, too.
    """
    session[_TOKEN] = issued.token
    if remembered:
        put_token(response, _cookie_name(), issued, _attributes())
    else:
        clean_up(response)


def keep(response: Response, issued: IssuedToken) -> None:
    """Replace the old token by a renewed one."""
    session[_TOKEN] = issued.token
    if _cookie_name() in request.cookies:
        put_token(response, _cookie_name(), issued, _attributes())


def drop_token() -> None:
    """Remove the token from Flask's session."""
    if _TOKEN in session:
        del session[_TOKEN]
    request_state().forgotten = True


def forget() -> None:
    """Remove the sign-in from Flask's session, and the remember cookie.

    The token stays until the next sign-in or sign-out, so that the browser's other tabs learn the
    reason. :func:`clean_up` removes the plugin's cookie at the end of the request.
    """
    for key in _LOGIN_KEYS:
        session.pop(key, None)
    if _remember_cookie_name() in request.cookies:
        session["_remember"] = "clear"
    else:
        session.pop("_remember", None)
    request_state().forgotten = True


def clean_up(response: Response) -> None:
    """Remove the cookie beside the remember cookie, if the browser has it."""
    if _cookie_name() in request.cookies:
        response.delete_cookie(_cookie_name(), **_attributes())


def _remember_cookie_name() -> str:
    return str(current_app.config.get("REMEMBER_COOKIE_NAME", COOKIE_NAME))


def _cookie_name() -> str:
    return f"{_remember_cookie_name()}_session"


def _attributes() -> dict[str, Any]:
    """Return the attributes of the remember cookie, for the cookie beside it."""
    config = current_app.config
    return {
        "domain": config.get("REMEMBER_COOKIE_DOMAIN"),
        "path": config.get("REMEMBER_COOKIE_PATH", "/"),
        "secure": config.get("REMEMBER_COOKIE_SECURE", COOKIE_SECURE),
        "httponly": config.get("REMEMBER_COOKIE_HTTPONLY", COOKIE_HTTPONLY),
        "samesite": config.get("REMEMBER_COOKIE_SAMESITE", COOKIE_SAMESITE),
    }
