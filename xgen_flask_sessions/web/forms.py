"""The token in the screen's forms; see :mod:`.same_site`."""

from __future__ import annotations

from typing import Final

from flask import request, session
from flask_login import current_user
from markupsafe import Markup

from ..errors import CrossSiteRequest
from ..state import get_state
from ..text import gettext_noop
from .request_token import outcome
from .same_site import FORM_FIELD, form_token, is_form_token, is_same_site

_NO_TOKEN: Final = gettext_noop("The form was sent without its token.")
_OTHER_SIGN_IN: Final = gettext_noop("The form belongs to another sign-in.")


def field_token() -> Markup:
    """Return the hidden field that every form of an ``AdminCenterView`` needs."""
    token = form_token(get_state().form_secrets[0], _binding())
    return Markup('<input type="hidden" name="{}" value="{}">').format(FORM_FIELD, token)


def check_form() -> None:
    """Check that the current request's form came from one of the plugin's pages.

    :raises CrossSiteRequest: It came from another site, or without the token.
    """
    state = get_state()
    if not is_same_site(request, state.settings.trusted_origins):
        raise CrossSiteRequest
    token, binding = request.form.get(FORM_FIELD), _binding()
    if not any(is_form_token(token, secret, binding) for secret in state.form_secrets):
        raise CrossSiteRequest(_OTHER_SIGN_IN if token else _NO_TOKEN)


def _binding() -> str:
    token = outcome().token
    if token is not None:
        return f"session {token.session_id}"
    # Signed in by Flask-Login's own session, without a token.
    return f"login {get_state().users.id_of(current_user)} {session.get('_id', '')}"
