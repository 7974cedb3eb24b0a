"""The extension: wires the layers to a Flask application, and is what a host calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from flask import Flask, Response, has_request_context, request
from flask_admin import Admin
from flask_login import LoginManager
from flask_sqlalchemy import SQLAlchemy

from . import clock, ledger, outbox
from .access import outcome
from .admin import LoginManagementView
from .api import create_blueprint
from .authority import Authority, Permission
from .cli import commands
from .coexistence import coexist
from .denylist import Denylist
from .devices import clean_address, clean_text, clean_user_agent
from .errors import ConfigurationError, TokenMissing, XgenSessionsError
from .keys import load_keys
from .ledger import Cause, Issue, Revocation
from .login import LoginBridge
from .models import MAX_REASON, copy_tables
from .problems import refuse
from .roster import Roster
from .same_site import is_local_path, is_same_site
from .settings import Settings
from .signals import session_ended, session_issued, user_forced_out
from .state import State, get_state
from .templating import template_globals
from .tokens import Claims, TokenCodec, check_extra_claims, is_session_id
from .transactions import announce, writing
from .users import UserDirectory, UserFields
from .verifier import VerifiedToken, Verifier

_SHORTEST, _LONGEST = timedelta(seconds=1), timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token just issued. Times are microseconds since the epoch."""

    token: str = field(repr=False)
    jti: str
    session_id: str
    issued_us: int
    expires_us: int


class XgenSessions:
    """JWT sessions that end when an administrator says so.

    One object may serve several applications; it holds no state of its own.
    """

    def init_app(
        self,
        app: Flask,
        *,
        db: SQLAlchemy,
        user_model: type[Any],
        login_manager: LoginManager | None = None,
        admin: Admin | None = None,
        user_fields: UserFields | None = None,
        can_view: Permission | None = None,
        can_force_logout: Permission | None = None,
    ) -> None:
        """Add sessions, the JSON API, the commands and the screen to an application.

        Keys read from ``app.config``, once, here:

        - ``XGEN_SESSIONS_SECRET_KEY``: signs tokens with HS256; the app's ``SECRET_KEY`` if unset
        - ``XGEN_SESSIONS_ALGORITHM``: ``HS256``, ``RS256``, ``ES256`` or ``EdDSA``
        - ``XGEN_SESSIONS_PRIVATE_KEY``, ``XGEN_SESSIONS_PUBLIC_KEY``: PEM, for the latter three
        - ``XGEN_SESSIONS_PREVIOUS_KEYS``: keys that no longer sign and still verify
        - ``XGEN_SESSIONS_ISSUER``, ``XGEN_SESSIONS_AUDIENCE``: the claims ``iss`` and ``aud``
        - ``XGEN_SESSIONS_LIFETIME``, ``XGEN_SESSIONS_LEEWAY``: of a token; timedelta or seconds
        - ``XGEN_SESSIONS_TOKEN_LOCATIONS``: ``headers``, ``cookies`` or both
        - ``XGEN_SESSIONS_COOKIE_NAME``, ``_COOKIE_SECURE``, ``_COOKIE_SAMESITE``: the cookie
        - ``XGEN_SESSIONS_TRUSTED_ORIGINS``: other origins that may use the cookie
        - ``XGEN_SESSIONS_URL_PREFIX``: where the JSON API is
        - ``XGEN_SESSIONS_TIMEZONE``: the zone of times on the screen
        - ``XGEN_SESSIONS_CONFIRM_FORCE_LOGOUT``: ask before a force logout
        - ``XGEN_SESSIONS_RETENTION``: how long ended sessions are kept; timedelta or seconds

        :param app: The application, already configured.
        :param db: Its Flask-SQLAlchemy; the tables are copied into its metadata.
        :param user_model: Its user model; ``get_id()`` names the user.
        :param login_manager: Its Flask-Login, if ``login_required`` is to work with tokens.
        :param admin: Its Flask-Admin, if it is to have Login Management.
        :param user_fields: The user model's attributes, where they are not the usual ones.
        :param can_view: Who may see Login Management; SuperUsers if left out.
        :param can_force_logout: Who of them may force out; all if left out. Nobody but a
            SuperUser forces out a SuperUser.
        :raises ConfigurationError: Something is set up wrongly; the message names the mend.
        """
        if "xgen_sessions" in app.extensions:
            raise ConfigurationError("XgenSessions has already been registered on this Flask app.")
        if admin is not None and login_manager is None:
            raise ConfigurationError(
                "Login Management needs to know who is looking: pass login_manager= with admin=."
            )
        settings = Settings.from_config(app.config)
        users = UserDirectory(db, user_model, user_fields or UserFields())
        if admin is not None and can_view is None and not users.has_superusers:
            raise ConfigurationError(
                f"{user_model.__name__} has no SuperUsers, so nobody could open Login Management; "
                "pass can_view=, or user_fields=UserFields(superuser=…)."
            )
        codec = TokenCodec(
            load_keys(settings),
            issuer=settings.issuer,
            audience=settings.audience,
            leeway_us=settings.leeway // timedelta(microseconds=1),
        )
        state = State(
            sessions=self,
            settings=settings,
            db=db,
            codec=codec,
            verifier=Verifier(codec, Denylist(lambda: db.engine, lambda: db.session.connection())),
            users=users,
            roster=Roster(users),
            authority=Authority(users, can_view, can_force_logout),
            form_secret=_form_secret(settings) if admin is not None else b"",
        )
        login = None
        if login_manager is not None:
            login = LoginBridge.of(app, login_manager)
        app.extensions["xgen_sessions"] = state
        copy_tables(db.metadata)
        outbox.watch(db.session)
        app.register_error_handler(XgenSessionsError, refuse)
        app.cli.add_command(commands)
        app.jinja_env.globals.update(template_globals())
        blueprint = create_blueprint(settings.url_prefix)
        app.register_blueprint(blueprint)
        protected = [blueprint]
        if admin is not None:
            view = LoginManagementView()
            admin.add_view(view)
            protected.append(view)
        coexist(app, protected, login=login, with_flask_admin=admin is not None)

    def issue(
        self,
        user: Any,
        *,
        claims: Mapping[str, Any] | None = None,
        lifetime: timedelta | int | None = None,
        commit: bool = True,
    ) -> IssuedToken:
        """Record a sign-in and return its token.

        Within a request, the address and the browser are recorded with it.

        :param user: The user object, or its id.
        :param claims: Further claims for the token.
        :param lifetime: How long it is good for, as a timedelta or in seconds.
        :param commit: Commit the host's session; otherwise join its transaction.
        :raises UserInactive: The user is inactive or does not exist.
        :raises LedgerUnavailable: The database cannot be written; nothing was done.
        :raises ValueError: *claims* or *lifetime* are out of bounds, or the id cannot be one.
        """
        state = get_state()
        user_id = state.users.id_of(user)
        extra = dict(claims or {})
        check_extra_claims(extra)
        span = _lifetime(state.settings.lifetime if lifetime is None else lifetime)
        ip, agent = _origin()
        with writing(state.db, commit) as session:
            recorded = ledger.issue(
                session,
                user_id,
                lifetime_us=span // timedelta(microseconds=1),
                ip=ip,
                user_agent=agent,
                require_active=lambda: state.users.require_active(user_id),
            )
            issued = _sign(state, recorded, extra)
        announce(
            state.db, commit, lambda app: session_issued.send(app, issued=issued, user_id=user_id)
        )
        return issued

    def renew(self, verified: VerifiedToken, *, commit: bool = True) -> IssuedToken:
        """Return a new token for the same session; the old one keeps 60 s for calls under way.

        :param verified: What :meth:`verify` returned for the old token.
        :param commit: Commit the host's session; otherwise join its transaction.
        :raises SessionRevoked: The session has ended since.
        :raises UserInactive: The user is inactive or does not exist.
        :raises LedgerUnavailable: The database cannot be written; nothing was done.
        """
        state = get_state()
        with writing(state.db, commit) as session:
            recorded = ledger.renew(
                session, verified.jti, require_active=state.users.require_active
            )
            issued = _sign(state, recorded, verified.claims)
        announce(
            state.db,
            commit,
            lambda app: session_issued.send(app, issued=issued, user_id=verified.user_id),
        )
        return issued

    def verify(self, token: str) -> VerifiedToken:
        """Check a token, with one look into the database.

        :param token: The compact JWS.
        :raises TokenError: It is bad, expired or revoked.
        :raises DenylistUnavailable: The database cannot be asked; the token must not pass.
        """
        return get_state().verifier.verify(token)

    def rejection(self) -> XgenSessionsError | None:
        """Return why the current request's token is refused; ``None`` if it is not, or none came.

        A sign-in page can tell people with it that an administrator ended their session: it is
        then a ``SessionRevoked`` whose ``forced`` is true.
        """
        error = outcome().error
        return None if isinstance(error, TokenMissing) else error

    def is_same_site(self) -> bool:
        """Say whether the current request comes from this site, or from no browser at all.

        A sign-in form that looks at it lets no other site sign a browser in.
        """
        return is_same_site(request, get_state().settings.trusted_origins)

    def next_path(self, default: str = "/") -> str:
        """Return where to go after signing in: the request's ``next`` if it is a path here.

        :param default: Where to go otherwise.
        """
        target = request.values.get("next", "")
        return target if is_local_path(target) else default

    def force_logout(
        self, user: Any, *, actor: Any = None, reason: str | None = None, commit: bool = True
    ) -> Revocation:
        """End every session of a user, now. The account stays as it is.

        :param user: The user object, or its id.
        :param actor: Who asks for it: a user object, or the name of what else acts.
        :param reason: Why, for the audit record; up to 500 characters.
        :param commit: Commit the host's session; otherwise join its transaction.
        :raises Forbidden: *actor* is a user object of no SuperUser, and *user* is one.
        :raises LedgerUnavailable: The database cannot be written; nothing was done.
        """
        state = get_state()
        user_id = state.users.id_of(user)
        state.authority.check_rank(actor, user_id)
        cause = _cause(state, actor, reason)
        with writing(state.db, commit) as session:
            revocation = ledger.force_logout(session, user_id, cause)
        announce(state.db, commit, lambda app: user_forced_out.send(app, revocation=revocation))
        return revocation

    def force_logout_everyone(
        self, *, actor: Any = None, reason: str | None = None, commit: bool = True
    ) -> Revocation:
        """End every session of every user, now. Parameters and errors as :meth:`force_logout`."""
        state = get_state()
        state.authority.check_rank(actor, None)
        cause = _cause(state, actor, reason)
        with writing(state.db, commit) as session:
            revocation = ledger.force_logout_everyone(session, cause)
        announce(state.db, commit, lambda app: user_forced_out.send(app, revocation=revocation))
        return revocation

    def end_session(
        self,
        session_id: str,
        *,
        actor: Any = None,
        reason: str | None = None,
        commit: bool = True,
    ) -> Revocation | None:
        """End one session, now; signing out is this.

        :param session_id: The session's id, a token's ``sid``.
        :returns: ``None`` if there is no such session or it has ended before.
        :raises Forbidden: *actor* is a user object of no SuperUser, and the session is of one.
        :raises LedgerUnavailable: The database cannot be written; nothing was done.
        """
        state = get_state()
        cause = _cause(state, actor, reason)
        if not is_session_id(session_id):
            return None
        with writing(state.db, commit) as session:
            owner = state.roster.owner_of(session, session_id)
            if owner is not None:
                state.authority.check_rank(actor, owner)
            revocation = ledger.end_session(session, session_id, cause)
        if revocation is not None:
            announce(state.db, commit, lambda app: session_ended.send(app, revocation=revocation))
        return revocation

    def prune(self, *, progress: Callable[[int], None] = lambda _: None) -> int:
        """Delete the sessions that ended or expired longer ago than the retention.

        :param progress: Called after each committed batch with the number of rows in it.
        :returns: How many rows were deleted.
        :raises LedgerUnavailable: The database cannot be written; earlier batches are gone.
        """
        state = get_state()
        total = 0
        while True:
            with writing(state.db, commit=True) as session:
                deleted = ledger.prune(session, before_us=_retained_from(state))
            if not deleted:
                return total
            total += deleted
            progress(deleted)

    def count_prunable(self) -> int:
        """Count the rows that :meth:`prune` would delete."""
        state = get_state()
        return ledger.count_prunable(state.db.session(), before_us=_retained_from(state))

    def set_cookie(self, response: Response, issued: IssuedToken) -> None:
        """Put the token into the browser's cookie, out of reach of scripts.

        :param response: The response to set it on.
        :param issued: What :meth:`issue` or :meth:`renew` returned.
        """
        settings = get_state().settings
        response.set_cookie(
            settings.cookie_name,
            issued.token,
            max_age=clock.seconds_until(issued.expires_us),
            httponly=True,
            secure=settings.cookie_secure,
            samesite=settings.cookie_samesite,
        )

    def unset_cookie(self, response: Response) -> None:
        """Remove the cookie from the browser. This ends no session: see :meth:`end_session`."""
        settings = get_state().settings
        response.delete_cookie(
            settings.cookie_name,
            httponly=True,
            secure=settings.cookie_secure,
            samesite=settings.cookie_samesite,
        )


def _form_secret(settings: Settings) -> bytes:
    secret = settings.secret_key or settings.private_key
    if secret is None:
        raise ConfigurationError(
            "XGEN_SESSIONS_SECRET_KEY (or the application's SECRET_KEY) must be set: it guards the "
            "screen's forms."
        )
    return secret


def _sign(state: State, recorded: Issue, extra: Mapping[str, Any]) -> IssuedToken:
    token = state.codec.encode(
        Claims(
            user_id=recorded.user_id,
            jti=recorded.jti,
            session_id=recorded.session_id,
            issued_us=recorded.issued_us,
            expires_us=recorded.expires_us,
            extra=extra,
        )
    )
    return IssuedToken(
        token, recorded.jti, recorded.session_id, recorded.issued_us, recorded.expires_us
    )


def _lifetime(value: timedelta | int) -> timedelta:
    if type(value) is int:
        value = timedelta(seconds=max(0, min(value, 10**11)))
    if not isinstance(value, timedelta) or not _SHORTEST <= value <= _LONGEST:
        raise ValueError("A lifetime is a timedelta or whole seconds: one second to ten years.")
    return value


def _origin() -> tuple[str | None, str | None]:
    if not has_request_context():
        return None, None
    return (
        clean_address(request.remote_addr),
        clean_user_agent(request.headers.get("User-Agent")),
    )


def _cause(state: State, actor: Any, reason: str | None) -> Cause:
    name = None if actor is None else state.users.id_of(actor)
    if reason is not None and len(reason) > MAX_REASON:
        raise ValueError(f"A reason has at most {MAX_REASON} characters.")
    return Cause(actor=name, ip=_origin()[0], reason=clean_text(reason, MAX_REASON))


def _retained_from(state: State) -> int:
    return clock.now_us() - state.settings.retention // timedelta(microseconds=1)
