"""The permissions: seeing Login Management, and forcing out users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from ..errors import Forbidden
from ..store.stamps import begin_write
from .directory import UserDirectory, unwrap

Permission = Callable[[Any], bool]
"""Takes a user object of the host, and returns whether the user has the permission."""


class Authority:
    """The rules, including the host's own.

    :param users: The host's users.
    :param can_view: Permits to see Login Management; by default, SuperUsers may.
    :param can_force_logout: Permits those users to force out others; by default, all may.
    """

    def __init__(
        self,
        users: UserDirectory,
        can_view: Permission | None = None,
        can_force_logout: Permission | None = None,
    ) -> None:
        self._users = users
        self._can_view = can_view or users.is_superuser
        self._can_force_logout = can_force_logout or self._can_view

    def may_view(self, actor: Any) -> bool:
        """Return whether *actor* may see Login Management."""
        actor = unwrap(actor)
        return (
            bool(getattr(actor, "is_authenticated", False))
            and self._users.is_active(actor)
            and bool(self._can_view(actor))
        )

    def may_force_logout(self, actor: Any, *, superuser: bool = False) -> bool:
        """Return whether *actor* may force out a user.

        :param superuser: Whether that user is a SuperUser.
        """
        actor = unwrap(actor)
        return (
            self.may_view(actor)
            and bool(self._can_force_logout(actor))
            and self.outranks(actor, superuser=superuser)
        )

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
        actor, target = self._lock(session, actor, user_id)
        above = user_id is None or (target is not None and self._users.is_superuser(target))
        if not self.outranks(actor, superuser=above):
            raise Forbidden("Only a SuperUser may end a SuperUser's sessions.")

    def check_force_logout(self, session: Session, actor: Any, user_id: str) -> None:
        """Refuse an administrator without the permission to force out *user_id*.

        Call it within the transaction that acts, like :meth:`check_rank`.

        :raises Forbidden: *actor* may not.
        """
        actor, target = self._lock(session, unwrap(actor), user_id)
        above = target is not None and self._users.is_superuser(target)
        if not self.may_force_logout(actor, superuser=above):
            raise Forbidden("You may not force out this user.")

    def _lock(self, session: Session, actor: Any, user_id: str | None) -> tuple[Any, Any]:
        """Lock both users' rows, and return the users as they are now."""
        begin_write(session)
        actor_id = self._users.id_of(actor) if self._users.is_row(actor) else None
        found = self._users.lock([each for each in (actor_id, user_id) if each is not None])
        return (
            actor if actor_id is None else found.get(actor_id),
            None if user_id is None else found.get(user_id),
        )
