"""The check that the caller of a request is an administrator."""

from __future__ import annotations

from typing import Any

from flask import request

from ..errors import CrossSiteRequest, Forbidden
from ..state import get_state
from ..web.login_bridge import require_user
from ..web.request_token import current_token
from ..web.same_site import is_same_site


def require_administrator() -> Any:
    """Return the current user, if the user may see Login Management.

    :raises XgenSessionsError: There is no user, or the user lacks the permission.
    """
    state = get_state()
    caller = require_user()
    if not is_same_site(request, state.settings.trusted_origins) and not current_token:
        raise CrossSiteRequest
    if not state.authority.may_view(caller):
        raise Forbidden(state.authority.why_closed())
    return caller
