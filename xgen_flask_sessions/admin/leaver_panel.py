"""The panel for a leaver on a user's page: the steps, and what they would change."""

from __future__ import annotations

from dataclasses import dataclass

from flask_login import current_user

from ..errors import XgenSessionsError
from ..state import get_state
from ..web import acts, i18n, leaver


@dataclass(frozen=True, slots=True)
class LeaverPanel:
    """The leaver as the current user may process it."""

    steps: list[str]
    """The steps, in their order."""
    text: str
    """What they would change, or why the current user may not take them."""
    may_process: bool


def leaver_panel(user_id: str, *, exists: bool, is_own: bool, sessions: int) -> LeaverPanel | None:
    """Return the panel for a user; ``None`` if there is no account or no permission.

    :param exists: Whether the account exists.
    :param is_own: Whether it is the current user.
    :param sessions: The number of active sessions.
    """
    state = get_state()
    if not exists or not state.authority.may_process_leavers(current_user):
        return None
    hooks = state.account
    steps = [i18n.gettext("Force logout")]
    if hooks.deactivate is not None:
        steps.append(i18n.gettext("Inactive"))
    if hooks.revoke_roles is not None:
        steps.append(i18n.gettext("Revoke roles"))
    if is_own:
        text = i18n.gettext(leaver.ONESELF)
        return LeaverPanel(steps, text, may_process=False)
    try:
        preview = acts.leaver_preview(current_user, user_id)
    except XgenSessionsError:
        return None  # deleted or demoted since
    parts = [i18n.ngettext("%(num)d session", "%(num)d sessions", sessions)]
    if preview.roles is not None and preview.revokes_roles:
        parts.append(i18n.ngettext("%(num)d role", "%(num)d roles", len(preview.roles)))
    text = i18n.gettext("In this order, at once: %(parts)s.", parts=", ".join(parts))
    if not preview.is_active:
        text = f"{text} " + i18n.gettext("The account is inactive already.")
    return LeaverPanel(steps, text, may_process=True)
