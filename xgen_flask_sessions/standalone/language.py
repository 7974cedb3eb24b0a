"""English or Korean: by ``?lang=``, which a cookie stores, otherwise by the browser."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from flask import Flask, Response, has_request_context, request

from xgen_flask_sessions import ConfigurationError

try:
    from flask_babel import Babel
except ImportError as error:  # pragma: no cover: needs an environment of its own
    raise ConfigurationError(
        f"The standalone Admin Center needs Flask-Babel, which cannot be imported ({error}); "
        "install it with: pip install 'xgen-flask-sessions[standalone]'"
    ) from error

LANGUAGES: Final = {"en": "English", "ko": "한국어"}
COOKIE: Final = "xgen_lang"
_KEPT: Final = frozenset(
    {
        *("next", "page", "q", "sort", "order", "expand", "sessions_page", "user_id"),
        "prompt",
        *("address", "superuser", "older_than", "min_sessions", "since"),
    }
)
"""The fields of a form that a change of the language keeps, beside the address's parameters."""
_YEAR_S: Final = 365 * 24 * 3600


def set_up(app: Flask) -> None:
    """Select the language of each request."""
    Babel(app, locale_selector=_select)
    app.jinja_env.globals.update(languages=LANGUAGES, language_url=_url)
    app.after_request(_remember)


def _select() -> str:
    if not has_request_context():
        return "en"
    for choice in (request.args.get("lang"), request.cookies.get(COOKIE)):
        if choice in LANGUAGES:
            return choice
    return request.accept_languages.best_match(LANGUAGES) or "en"


def _remember(response: Response) -> Response:
    choice = request.args.get("lang")
    if choice in LANGUAGES and request.cookies.get(COOKIE) != choice:
        response.set_cookie(COOKIE, choice, max_age=_YEAR_S, httponly=True, samesite="Lax")
    return response


def _url(code: str) -> str:
    """Return the address of the current page in another language."""
    query = [each for each in request.args.items(multi=True) if each[0] != "lang"]
    query += [each for each in request.form.items(multi=True) if each[0] in _KEPT]
    return f"{request.script_root}{request.path}?{urlencode([*query, ('lang', code)])}"
