"""The permissions: seeing Login Management, and forcing out users."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy.orm import Session

from ..errors import Forbidden
from ..store.stamps import begin_write
from ..text import gettext_noop
from .account_hooks import require_function
from .attributes import describe_value, to_flag
from .directory import UserDirectory, unwrap

_log = logging.getLogger(__name__)

SUPERUSERS_ONLY: Final = gettext_noop("Only SuperUsers have access.")
NO_ACCESS: Final = gettext_noop("Your account has no access.")
NO_FORCE_LOGOUT: Final = gettext_noop("Your account may not force out users.")
RANK: Final = gettext_noop("Only a SuperUser may force out a SuperUser.")
EVERYONE: Final = gettext_noop("Only a SuperUser may sign out everyone.")
LEAVERS: Final = gettext_noop("Only a SuperUser may process a leaver.")
NO_USER: Final = gettext_noop("There is no such user.")
RANK_OF_SESSIONS: Final = gettext_noop("Only a SuperUser may end a SuperUser's sessions.")

Permission = Callable[[Any], bool]
"""Takes a user object of the host, and returns whether the user has the permission."""


class Authority:
    """The rules, including the host's own.

    :param users: The host's users.
    :param can_view: Permits to see Login Management; by default, SuperUsers may.
    :param can_force_logout: Permits those users to force out others; by default, all may.
    :raises ConfigurationError: One of them is no function of a user.
    """

    def __init__(
        self,
        users: UserDirectory,
        can_view: Permission | None = None,
        can_force_logout: Permission | None = None,
    ) -> None:
        self._users = users
        self._closed = SUPERUSERS_ONLY if can_view is None else NO_ACCESS
        self._can_view = users.is_superuser if can_view is None else _strict("can_view", can_view)
        self._can_force_logout = (
            self._can_view
            if can_force_logout is None
            else _strict("can_force_logout", can_force_logout)
        )

    def may_view(self, actor: Any) -> bool:
        """Return whether *actor* may see Login Management."""
        actor = unwrap(actor)
        return (
            self._users.is_authenticated(actor)
            and self._users.is_active(actor)
            and self._can_view(actor)
        )

    def may_force_logout(self, actor: Any, *, superuser: bool = False) -> bool:
        """Return whether *actor* may force out a user.

        :param superuser: Whether that user is a SuperUser.
        """
        actor = unwrap(actor)
        return (
            self.may_view(actor)
            and self._can_force_logout(actor)
            and self.outranks(actor, superuser=superuser)
        )

    def why_closed(self) -> str:
        """Return the reason for a user that :meth:`may_view` refuses, in a sentence."""
        return self._closed

    def require_force_logout(self, actor: Any, *, superuser: bool) -> None:
        """Refuse an actor that :meth:`may_force_logout` refuses, with the reason.

        :param superuser: Whether the user to force out is a SuperUser.
        :raises Forbidden: *actor* may not.
        """
        if self.may_force_logout(actor, superuser=superuser):
            return
        if not self.may_view(actor):
            raise Forbidden(self._closed)
        raise Forbidden(NO_FORCE_LOGOUT if self.outranks(actor, superuser=superuser) else RANK)

    def require_everyone(self, actor: Any) -> None:
        """Refuse an actor that may not force out everyone, with the reason.

        :raises Forbidden: *actor* may force out no user, or is no SuperUser.
        """
        self.require_force_logout(actor, superuser=False)
        if not self.outranks(actor, superuser=True):
            raise Forbidden(EVERYONE)

    def may_force_out_everyone(self, actor: Any) -> bool:
        """Return whether *actor* may force out everyone."""
        return self.may_force_logout(actor, superuser=True)

    def may_process_leavers(self, actor: Any) -> bool:
        """Return whether *actor* may make accounts inactive and revoke roles.

        Where the model has SuperUsers, they alone may: a permission to end sessions is no
        permission to change accounts.
        """
        return self.may_force_logout(actor, superuser=self._users.has_superusers)

    def outranks(self, actor: Any, *, superuser: bool) -> bool:
        """Return whether *actor* may act on a user: on a SuperUser, only SuperUsers may."""
        return not superuser or self._users.is_superuser(actor)

    def check_rank(self, session: Session, actor: Any, user_id: str | None) -> None:
        """Refuse an actor of lower rank than the user.

        Call it within the transaction that acts: it locks both users' rows, so that neither rank
        can change before the commit.

        :param session: The transaction.
        :param actor: A user object; other actors, such as a command's name, pass.
        :param user_id: The user to act on; ``None`` for everyone.
        :raises Forbidden: The user is a SuperUser, and *actor* is not.
        """
        actor = unwrap(actor)
        if actor is None or isinstance(actor, str):
            return
        if user_id is not None and self._users.id_of(actor) == user_id:
            return
        actor, found = self._lock(session, actor, [] if user_id is None else [user_id])
        above = user_id is None or self._is_superuser(found.get(user_id))
        if not self.outranks(actor, superuser=above):
            raise Forbidden(RANK_OF_SESSIONS)

    def check_force_logout(self, session: Session, actor: Any, user_id: str) -> None:
        """Refuse an administrator without the permission to force out *user_id*.

        Call it within the transaction that acts, like :meth:`check_rank`.

        :raises Forbidden: *actor* may not.
        """
        refused = self.check_force_logouts(session, actor, [user_id])
        if refused:
            raise refused[user_id]

    def check_force_logouts(
        self, session: Session, actor: Any, user_ids: Sequence[str]
    ) -> dict[str, Forbidden]:
        """Return the refusals of an administrator's request to force out several users.

        Call it within the transaction that acts: it locks the rows of all of them, in one order.

        :returns: The error of each user that *actor* may not force out.
        :raises Forbidden: *actor* may force out no user.
        """
        actor, found = self._lock(session, unwrap(actor), user_ids)
        self.require_force_logout(actor, superuser=False)
        if self.outranks(actor, superuser=True):
            return {}
        above = [each for each in user_ids if self._is_superuser(found.get(each))]
        return {each: Forbidden(RANK) for each in above}

    def check_leaver(self, session: Session, actor: Any, user_id: str) -> Any | None:
        """Refuse an administrator who may not process leavers, and return the locked user.

        Call it within the transaction that acts, like :meth:`check_rank`.

        :param actor: A user object; other actors, such as a command's name, pass.
        :returns: The user object; ``None`` if the user was deleted.
        :raises Forbidden: *actor* may not.
        """
        actor, found = self._lock(session, unwrap(actor), [user_id])
        if not isinstance(actor, str) and not self.may_process_leavers(actor):
            raise Forbidden(LEAVERS)
        return found.get(user_id)

    def check_everyone(self, session: Session, actor: Any) -> None:
        """Refuse an administrator without the permission to force out everyone.

        Call it within the transaction that acts, like :meth:`check_rank`.

        :raises Forbidden: *actor* may not, or is no SuperUser.
        """
        actor, _ = self._lock(session, unwrap(actor), [])
        self.require_everyone(actor)

    def _is_superuser(self, user: Any | None) -> bool:
        return user is not None and self._users.may_be_superuser(user)

    def _lock(
        self, session: Session, actor: Any, user_ids: Sequence[str]
    ) -> tuple[Any, dict[str, Any]]:
        """Lock the rows of the actor and of users, and return all of them as they are now."""
        begin_write(session)
        actor_id = self._users.id_of(actor) if self._users.is_row(actor) else None
        found = self._users.lock([*user_ids, *([] if actor_id is None else [actor_id])])
        return actor if actor_id is None else found.get(actor_id), found


def _strict(name: str, permission: Any) -> Permission:
    """Return a permission that only ``True`` gives; other values are logged once and refused.

    Python takes a method, a coroutine or a list of rights for true.

    :param name: The name of the parameter.
    :raises ConfigurationError: It is no function of a user.
    """
    require_function(name, permission, "a user object")
    reported: set[type[Any]] = set()

    def permits(user: Any) -> bool:
        value = permission(user)
        flag = to_flag(value)
        if flag is None and type(value) not in reported:
            reported.add(type(value))
            described = describe_value(value)
            _log.error("The result of %s= is %s, which gives no permission.", name, described)
        return flag is True

    return permits
