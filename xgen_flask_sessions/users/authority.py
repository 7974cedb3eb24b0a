"""Who may look, and who may force out whom. Asked by every door; nothing else decides it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from ..errors import Forbidden
from ..store.stamps import begin_write
from .directory import UserDirectory, unwrap

Permission = Callable[[Any], bool]
"""Takes a user object of the host's and says whether the user may."""


class Authority:
    """The rules, with the host's own where it gave some.

    :param users: The host's users.
    :param can_view: Who may see Login Management; SuperUsers if left out.
    :param can_force_logout: Who, of these, may force out; all of them if left out.
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
        """Say whether *actor* may see who is signed in."""
        actor = unwrap(actor)
        return (
            bool(getattr(actor, "is_authenticated", False))
            and self._users.is_active(actor)
            and bool(self._can_view(actor))
        )

    def may_force_logout(self, actor: Any, *, superuser: bool = False) -> bool:
        """Say whether *actor* may force somebody out.

        :param superuser: Whether that somebody is a SuperUser.
        """
        actor = unwrap(actor)
        return (
            self.may_view(actor)
            and bool(self._can_force_logout(actor))
            and self.outranks(actor, superuser=superuser)
        )

    def outranks(self, actor: Any, *, superuser: bool) -> bool:
        """Say whether *actor* may act on a user: on a SuperUser, only SuperUsers may."""
        return not superuser or self._users.is_superuser(actor)

    def check_rank(self, session: Session, actor: Any, user_id: str | None) -> None:
        """Refuse a user who acts on somebody above.

        Called within the transaction that acts: both users' rows are locked, so that neither can
        become something else before it is done.

        :param session: The transaction.
        :param actor: A user object; anything else, such as a command's name, passes.
        :param user_id: The one acted on; ``None`` for everyone.
        :raises Forbidden: *actor* is no SuperUser, and the other one is.
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
        """Refuse an administrator who may not force out *user_id* (any more).

        Called within the transaction that acts, as :meth:`check_rank`.

        :raises Forbidden: *actor* may not.
        """
        actor, target = self._lock(session, unwrap(actor), user_id)
        above = target is not None and self._users.is_superuser(target)
        if not self.may_force_logout(actor, superuser=above):
            raise Forbidden("You may not force out this user.")

    def _lock(self, session: Session, actor: Any, user_id: str | None) -> tuple[Any, Any]:
        """Lock who acts and who is acted on, and return both as they are now."""
        begin_write(session)
        actor_id = self._users.id_of(actor) if self._users.is_row(actor) else None
        found = self._users.lock([each for each in (actor_id, user_id) if each is not None])
        return (
            actor if actor_id is None else found.get(actor_id),
            None if user_id is None else found.get(user_id),
        )
