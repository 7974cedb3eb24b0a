"""The screen **User Management**, a view of Flask-Admin.

Holds no rules: those are in ``accounts`` and ``rules``; the list is ``user_list``, and what the
forms show is ``user_forms``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from flask import abort, current_app, redirect, request, url_for
from flask_admin import expose
from flask_login import current_user

from xgen_flask_sessions import AdminCenterView, cause_of, gettext, lazy_gettext
from xgen_flask_sessions.standalone import accounts, user_forms, user_list
from xgen_flask_sessions.standalone import user_results as say
from xgen_flask_sessions.standalone.extensions import sessions
from xgen_flask_sessions.standalone.models import User
from xgen_flask_sessions.standalone.results import tell
from xgen_flask_sessions.standalone.rules import (
    LAST_SUPERUSER,
    NOT_ONE_PART,
    AccountError,
    ChangeFailed,
    StaleError,
)
from xgen_flask_sessions.standalone.sign_in import to_sign_in
from xgen_flask_sessions.standalone.user_forms import TypedForms, UserForms

ENDPOINT: Final = "admin-users"
MAX_OFFERED: Final = 200
"""Roles that are offered as check boxes; others are typed."""

MAX_ID: Final = 2**31 - 1
"""The largest id of a user."""

_USER_ID: Final = f"<int(max={MAX_ID}):user_id>"
_PARTS: Final = "<any(save, profile, password, access):part>"


class UserManagementView(AdminCenterView):
    """Users: names, departments, roles, passwords, Active/Inactive, SuperUser."""

    def __init__(self) -> None:
        super().__init__(
            name=lazy_gettext("User Management"),
            category=lazy_gettext("Users / Access Control"),
            endpoint=ENDPOINT,
        )

    @expose("/")  # type: ignore[untyped-decorator]
    def index(self) -> Any:
        """Show one page of the users that the address asks for."""
        listing, faults = user_list.parse_user_listing(request.args.to_dict())
        page = user_list.NO_USERS if faults else user_list.find_page(listing, self.page_number())
        return self._render(
            "users.html",
            page=page,
            listing=listing,
            query=listing.query(),
            faults=list(map(gettext, faults)),
            roles=user_list.role_names(MAX_OFFERED),
        )

    @expose("/new", methods=["GET", "POST"])  # type: ignore[untyped-decorator]
    def new(self) -> Any:
        """Show the form for a new user, and make one."""
        if request.method == "GET":
            return self._new_page()
        self.check_form()
        try:
            user = accounts.create(
                request.form.get("username", ""),
                request.form.get("password", ""),
                TypedForms(request.form).profile(),
                superuser="superuser" in request.form,
                actor=current_user,
            )
        except AccountError as error:
            return self._refused(error, partial(self._new_page, error))
        tell(say.created(user))
        return self._to_user(user.id)

    @expose(f"/{_USER_ID}")  # type: ignore[untyped-decorator]
    def edit(self, user_id: int) -> Any:
        """Show a user, with the forms to change it."""
        user = _find(user_id)
        return self._edit_page(user, user_forms.stored(user))

    @expose(f"/{_USER_ID}/<any(save, profile, password, access, typed):part>")  # type: ignore[untyped-decorator]
    def lead_back(self, user_id: int, part: str) -> Any:  # noqa: ARG002
        """Redirect from the address of a button to the page it is on."""
        return redirect(url_for(".edit", user_id=user_id, lang=request.args.get("lang")), 303)

    @expose(f"/{_USER_ID}/typed", methods=["POST"])  # type: ignore[untyped-decorator]
    def typed(self, user_id: int) -> Any:
        """Show the page as it was typed, after a question that was answered with no."""
        self.check_form()
        user = _find(user_id)
        return self._edit_page(user, TypedForms(request.form).merged(user))

    @expose(f"/{_USER_ID}/{_PARTS}", methods=["POST"])  # type: ignore[untyped-decorator]
    def save(self, user_id: int, part: str) -> Any:
        """Save one part of the page; ``save``, by the Enter key, the one that was changed."""
        self.check_form()
        user, typed = _find(user_id), TypedForms(request.form)
        if part == "save":
            changed = typed.changed_parts()
            if len(changed) != 1:
                return self._say_which(user, typed, changed)
            part = changed[0]
        acts: dict[str, Callable[[User, TypedForms], Any]] = {
            "access": self._save_access,
            "profile": self._save_profile,
            "password": self._reset_password,
        }
        try:
            return acts[part](user, typed)
        except StaleError as error:
            user = _find(user_id)
            if typed.is_stored(user, part):  # another administrator's change, or a page sent again
                return self._saved(user, typed, part, gettext(say.AS_CHOSEN))
            return self._refused(error, partial(self._typed_page, user, typed, part, error))
        except AccountError as error:
            return self._refused(error, partial(self._typed_page, user, typed, part, error))

    def _save_access(self, user: User, typed: TypedForms) -> Any:
        oneself = _is_oneself(user)
        if oneself and not (typed.active and typed.superuser):
            if accounts.is_last_superuser(user):
                raise AccountError("access", LAST_SUPERUSER)
            if "confirmed" not in request.form:
                return self._render("user_confirm.html", user=user, typed=typed)
        change = accounts.change_access(
            user.id,
            active=typed.active,
            superuser=typed.superuser,
            actor=current_user,
            shown=typed.shown("access"),
        )
        if oneself and change.active is False:
            return to_sign_in(say.left(change))
        if oneself and change.superuser is False:  # the user may no longer see this view
            tell(gettext(say.STEPPED_DOWN))
            return redirect(url_for("workspace.page"), 303)
        return self._saved(user, typed, "access", say.access(user, change))

    def _save_profile(self, user: User, typed: TypedForms) -> Any:
        was_stored = typed.is_stored(user, "profile")
        accounts.change_profile(
            user.id, typed.profile(), actor=current_user, shown=typed.shown("profile")
        )
        text = gettext(say.NOTHING) if was_stored else say.profile(user)
        return self._saved(user, typed, "profile", text)

    def _reset_password(self, user: User, typed: TypedForms) -> Any:
        ended = accounts.reset_password(
            user.id, typed.password, actor=current_user, end_sessions=typed.end_sessions
        )
        if ended is not None and _is_oneself(user):
            return to_sign_in(gettext(say.OWN_PASSWORD))
        return self._saved(user, typed, "password", say.password(user, ended))

    def _say_which(self, user: User, typed: TypedForms, changed: list[str]) -> Any:
        """Answer the Enter key where it does not tell which part to save."""
        if not changed:
            return self._saved(user, typed, "", gettext(say.NOTHING))
        error = AccountError("", NOT_ONE_PART)
        return self._refused(error, partial(self._typed_page, user, typed, None, error))

    def _saved(self, user: User, typed: TypedForms, part: str, text: str) -> Any:
        """Say what was done: on the next page, or at once beside what is not saved yet.

        What is typed in other parts is shown in this answer. A cookie is too small for it, and an
        address would hold and disclose it.
        """
        forms = typed.merged(user, saved=part)
        if forms.unsaved or forms.lost_password:
            return self._edit_page(user, forms, notice=text)
        tell(text)
        return self._to_user(user.id)

    def _typed_page(
        self, user: User, typed: TypedForms, part: str | None, error: AccountError
    ) -> Any:
        return self._edit_page(user, typed.merged(user), part, error)

    def _edit_page(
        self,
        user: User,
        forms: UserForms,
        failed: str | None = None,
        error: AccountError | None = None,
        notice: str | None = None,
    ) -> Any:
        return self._render(
            "user_edit.html",
            user=user,
            forms=forms,
            shown=user_forms.shown_texts(user),
            failed=failed,
            error=error,
            notice=notice,
            oneself=_is_oneself(user),
            sign_ins=sessions.sign_ins_of([user])[user.get_id()],
            roles=_offered(forms.values["roles"]),
        )

    def _new_page(self, error: AccountError | None = None) -> Any:
        typed = request.form
        return self._render(
            "user_new.html",
            values=typed,
            error=error,
            chosen=frozenset(typed.getlist("role")),
            roles=_offered(typed.getlist("role")),
        )

    def _refused(self, error: AccountError, show: Callable[[], Any]) -> Any:
        """Answer with a page that shows a form again, with its typed values and the error.

        :param show: Returns the page.
        :raises DenylistUnavailable: The database does not answer at all.
        """
        if not isinstance(error, ChangeFailed):
            return show(), 400
        current_app.logger.error("A change of a user failed: %s", cause_of(error))
        sessions.require_database()  # the users are read again
        return show(), 503, {"Retry-After": "1"}

    def _render(self, template: str, **context: Any) -> Any:
        return self.render(f"xgen_standalone/{template}", sessions_url=_sessions_url, **context)

    def _to_user(self, user_id: int) -> Any:
        return redirect(url_for(".edit", user_id=user_id), 303)


def _find(user_id: int) -> User:
    user = accounts.find(user_id)
    if user is None:
        abort(404)
    return user


def _is_oneself(user: User) -> bool:
    return bool(current_user.get_id() == user.get_id())


def _sessions_url(user: User) -> str:
    """Return the address of the user's page in Login Management."""
    return url_for("admin-active-sessions.user", user_id=user.get_id())


def _offered(chosen: Any) -> list[str]:
    """Return the names of the roles to offer: those that there are, and the chosen ones."""
    return sorted({*user_list.role_names(MAX_OFFERED), *chosen})
