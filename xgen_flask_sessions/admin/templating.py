"""The functions and values for templates: the package's and the host's."""

from __future__ import annotations

import re
from typing import Any

from flask import current_app, url_for
from flask_login import current_user
from markupsafe import Markup

from .. import clock
from ..state import get_state
from ..store.tables import MAX_REASON
from ..text import visible
from ..users.directory import Profile
from ..web import i18n
from ..web.problems import sign_in_url
from .host_links import ENDPOINT, user_sessions_url

_POLL = f"{ENDPOINT}.poll"
"""The endpoint that answers 401 once the session has ended, and 304 before."""


def template_globals() -> dict[str, Any]:
    """Return the functions and values that ``init_app`` adds to Jinja's globals."""
    return {
        "xgen_gettext": i18n.gettext,
        "xgen_ngettext": i18n.ngettext,
        "xgen_language": i18n.language,
        "xgen_number": i18n.format_number,
        "xgen_current_profile": current_profile,
        "xgen_session_guard": _session_guard,
        "xgen_relative_times": _relative_times,
        "xgen_visible": visible,
        "xgen_time": _time,
        "xgen_ago": i18n.format_ago,
        "xgen_datetime": _datetime,
        "xgen_breakable": breakable,
        "xgen_address": address,
        "xgen_user_sessions_url": user_sessions_url,
        "xgen_zone": _zone,
        "xgen_max_reason": MAX_REASON,
    }


def current_profile() -> Profile | None:
    """Return the current user's profile, or ``None``."""
    if not current_user.is_authenticated:
        return None
    user, users = current_user._get_current_object(), get_state().users
    return users.profile(users.id_of(user), user)


def _time(at_us: int | None) -> str:
    """Return a time (microseconds) in the configured zone; "-" for ``None``."""
    return "-" if at_us is None else i18n.format_time(at_us, get_state().settings)


def _datetime(at_us: int) -> str:
    """Return a time (microseconds) for the attribute ``datetime``, in UTC, to the second."""
    return clock.to_datetime(at_us).strftime("%Y-%m-%dT%H:%M:%SZ")


def breakable(name: str) -> Markup:
    """Return a username that may break after ``.``, ``_``, ``-`` and ``@``."""
    return Markup("<wbr>").join(re.split(r"(?<=[._@-])(?=.)", name))


def address(ip: str | None) -> Markup:
    """Return an address that may break after its colons; "-" for ``None``."""
    return Markup("<wbr>").join(re.split(r"(?<=:)(?=[^:])", ip or "-"))


def _zone() -> str:
    """Return the configured zone in words, with its offset."""
    return i18n.format_zone_name(get_state().settings)


def _session_guard(*, check: bool = False) -> Markup:
    """Return the script tag that redirects to the sign-in page once the session has ended.

    :param check: Also ask whether it has, each time that the page is looked at again. For pages of
        administrators only.
    """
    asked = Markup("")
    if check and _POLL in current_app.view_functions:
        asked = Markup(' data-check="{}"').format(url_for(_POLL))
    return Markup('<script src="{}" data-sign-in="{}"{} defer></script>').format(
        url_for("xgen_sessions.static", filename="session-guard.js"),
        sign_in_url() or "/login",
        asked,
    )


def _relative_times() -> Markup:
    """Return the script tag that keeps the texts of ``xgen_ago`` current."""
    return Markup(
        '<script src="{}" data-language="{}" data-now="{}" data-just-now="{}" data-soon="{}" defer>'
        "</script>"
    ).format(
        url_for("xgen_sessions.static", filename="relative-times.js"),
        i18n.language(),
        clock.now_us() // 1000,
        i18n.gettext("just now"),
        i18n.gettext("in less than a minute"),
    )
