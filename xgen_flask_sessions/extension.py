"""The extension: wires the layers to a Flask application, and is what a host calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Any, cast

from flask import Flask
from flask_admin import Admin
from flask_login import LoginManager
from flask_sqlalchemy import SQLAlchemy

from . import ledger, pruning
from . import revoke_on as revoke_on_changes
from .admin import LoginManagementView
from .api import create_blueprint
from .authority import Authority, Permission
from .checking import TokenChecker, VerifiedToken
from .cli import commands
from .coexistence import coexist
from .denylist import Denylist
from .engines import chooses_engines, engine_of
from .errors import ConfigurationError, XgenSessionsError
from .issuing import IssuedToken, cause, lifetime_us, origin, sign
from .keys import load_keys
from .ledger import Revocation
from .login import LoginBridge
from .models import copy_tables
from .pages import PageHelpers
from .problems import refuse
from .rates import Rates
from .reach import Reach
from .redis_feed import RedisUnavailable
from .relay import RedisWake
from .relaying import Relaying
from .revoke_on import Triggers
from .roster import Roster
from .settings import Settings
from .signals import session_ended, session_issued, user_forced_out
from .state import State, get_state
from .templating import template_globals
from .threads import has_green_threads
from .tokens import TokenCodec, check_extra_claims, is_session_id
from .transactions import Changes, again_if_deadlocked, announce, writing
from .users import UserDirectory, UserFields
from .wakes import ByDatabase, Elsewhere, Interval, Wake
from .watching import Watch


class XgenSessions(PageHelpers):
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
        revoke_on: Collection[str] = (),
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
        - ``XGEN_SESSIONS_DEADLINE``, ``XGEN_SESSIONS_WRITE_DEADLINE``: how long the database may
          take to check a token, and to record a sign-in or an end; timedelta or seconds
        - ``XGEN_SESSIONS_CONSISTENCY``: ``strict`` asks the database at every check, ``watch``
          keeps the denylist in memory
        - ``XGEN_SESSIONS_MAX_STALENESS``: how long ago that memory may have heard of the latest
          revocations at most; timedelta or seconds
        - ``XGEN_SESSIONS_REDIS_URL``: where revocations are told of for other processes
        - ``XGEN_SESSIONS_FORCE_LOGOUT_LIMIT``: force logouts of one administrator, on the screen
          and by the API; such as ``120/minute``, or ``None`` for as many as one likes
        - ``XGEN_SESSIONS_SIGN_IN_LIMIT``, ``_SIGN_IN_ADDRESS_LIMIT``: failed sign-ins, for one
          username from one address and from one address at all; see :meth:`check_sign_in_rate`
        - ``XGEN_SESSIONS_RATE_LIMIT_STORAGE``: where these are counted; ``memory://``, or a
          ``redis://`` URL for several processes

        :param app: The application, already configured.
        :param db: Its Flask-SQLAlchemy; the tables are copied into its metadata.
        :param user_model: Its user model; ``get_id()`` names the user.
        :param login_manager: Its Flask-Login, if ``login_required`` is to work with tokens.
        :param admin: Its Flask-Admin, if it is to have Login Management.
        :param user_fields: The user model's attributes, where they are not the usual ones.
        :param can_view: Who may see Login Management; SuperUsers if left out.
        :param can_force_logout: Who of them may force out; all if left out. Nobody but a
            SuperUser forces out a SuperUser.
        :param revoke_on: Names of the user model's attributes whose change ends the user's
            sessions in the same transaction, such as ``["password_hash", "is_active"]``; with
            any, so does the user's deletion. Becoming active ends none.
        :raises ConfigurationError: Something is set up wrongly; the message names the mend.
        """
        if "xgen_sessions" in app.extensions:
            raise ConfigurationError("XgenSessions has already been registered on this Flask app.")
        if admin is not None and login_manager is None:
            raise ConfigurationError(
                "Login Management needs to know who is looking: pass login_manager= with admin=."
            )
        settings = Settings.from_config(app.config)
        fields = user_fields or UserFields()
        users = UserDirectory(db, user_model, fields)
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
        denylist = Denylist(
            engine_of(db),
            lambda: db.session.connection(),
            settings.deadline.total_seconds(),
        )
        strict = TokenChecker(codec, denylist)
        watch = _watch(settings, db, denylist) if settings.consistency == "watch" else None
        relaying = _relaying(settings, denylist) if settings.redis_url is not None else None
        state = State(
            sessions=self,
            settings=settings,
            db=db,
            codec=codec,
            verifier=strict if watch is None else TokenChecker(codec, watch),
            strict_verifier=strict,
            denylist=denylist,
            watch=watch,
            relaying=relaying,
            changes=Changes(db, Reach(denylist), settings.write_deadline.total_seconds()),
            users=users,
            roster=Roster(users),
            authority=Authority(users, can_view, can_force_logout),
            triggers=Triggers(user_model, revoke_on, fields.active),
            records_logins=login_manager is not None,
            rates=Rates(settings),
            on_the_way=pruning.OnTheWay(settings),
            form_secret=_form_secret(settings) if admin is not None else b"",
        )
        login = None
        if login_manager is not None:
            login = LoginBridge.of(app, login_manager)
        app.extensions["xgen_sessions"] = state
        copy_tables(db.metadata)
        revoke_on_changes.watch(state.triggers)
        app.register_error_handler(XgenSessionsError, refuse)
        if relaying is not None:
            app.before_request(relaying.ensure_running)
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
        span_us = lifetime_us(state.settings.lifetime if lifetime is None else lifetime)
        ip, agent = origin()
        with writing(state.changes, commit, locks_everyone=True) as session:
            recorded = ledger.issue(
                session,
                user_id,
                lifetime_us=span_us,
                ip=ip,
                user_agent=agent,
                require_active=lambda: state.users.require_active(user_id),
            )
            issued = sign(state, recorded, extra)
            state.on_the_way.prune(session)
        announce(
            state.changes,
            commit,
            lambda app: session_issued.send(app, issued=issued, user_id=user_id),
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
        with writing(state.changes, commit, locks_everyone=True) as session:
            recorded = ledger.renew(
                session,
                verified.jti,
                usual_us=lifetime_us(state.settings.lifetime),
                require_active=state.users.require_active,
            )
            issued = sign(state, recorded, verified.claims)
            state.on_the_way.prune(session)
        announce(
            state.changes,
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
        why = cause(state, actor, reason)
        with writing(state.changes, commit) as session:
            state.authority.check_rank(session, actor, user_id)
            revocation = ledger.force_logout(session, user_id, why)
        announce(
            state.changes, commit, lambda app: user_forced_out.send(app, revocation=revocation)
        )
        return revocation

    def force_logout_everyone(
        self, *, actor: Any = None, reason: str | None = None, commit: bool = True
    ) -> Revocation:
        """End every session of every user, now. Parameters and errors as :meth:`force_logout`."""
        state = get_state()
        why = cause(state, actor, reason)

        def end_all() -> Revocation:
            with writing(state.changes, commit, bounded=False, waits_for_others=True) as session:
                return ledger.force_logout_everyone(
                    session,
                    why,
                    require_allowed=lambda: state.authority.check_rank(session, actor, None),
                )

        revocation = again_if_deadlocked(state.changes, commit, end_all)
        announce(
            state.changes, commit, lambda app: user_forced_out.send(app, revocation=revocation)
        )
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
        why = cause(state, actor, reason)
        if not is_session_id(session_id):
            return None
        with writing(state.changes, commit) as session:
            owner = state.roster.owner_of(session, session_id)
            if owner is not None:
                state.authority.check_rank(session, actor, owner)
            revocation = ledger.end_session(session, session_id, why)
        if revocation is not None:
            announce(
                state.changes, commit, lambda app: session_ended.send(app, revocation=revocation)
            )
        return revocation

    def prune(self, *, progress: Callable[[int], None] = lambda _: None) -> int:
        """Delete the sessions that ended or expired longer ago than the retention.

        Each sign-in and renewal deletes a few of them on the way; this deletes the rest. What
        others are at work on meanwhile is passed over. It takes its time, so that it holds nobody
        up: after each batch it rests.

        :param progress: Called after each committed batch with the number of rows in it.
        :returns: How many rows were deleted.
        :raises LedgerUnavailable: The database cannot be written; earlier batches are gone.
        """
        changes, settings = get_state().changes, get_state().settings
        total = 0
        skipped: set[str] = set()
        while True:
            with writing(changes, commit=True, bounded=False) as session:
                before_us = pruning.kept_from(settings)
                batches = pruning.find(
                    session,
                    before_us=before_us,
                    skipped=skipped,
                )
            if not batches:
                return total
            for batch in batches:
                begun = time.monotonic()
                with writing(changes, commit=True, bounded=False) as session:
                    deleted = pruning.prune(session, batch, skipped=skipped)
                total += deleted
                progress(deleted)
                time.sleep(pruning.REST * (time.monotonic() - begun))

    def count_prunable(self) -> int:
        """Count the rows that :meth:`prune` would delete."""
        state = get_state()
        return pruning.count_prunable(
            state.db.session(),
            before_us=pruning.kept_from(state.settings),
        )


def _watch(settings: Settings, db: SQLAlchemy, denylist: Denylist) -> Watch:
    if has_green_threads():
        raise ConfigurationError(
            "XGEN_SESSIONS_CONSISTENCY='watch' needs real threads, and gevent or eventlet stands "
            "in for them here; use 'strict'."
        )
    if chooses_engines(db):
        raise ConfigurationError(
            "XGEN_SESSIONS_CONSISTENCY='watch' follows one database, and "
            f"{type(db).__name__} chooses among engines in its own way; use 'strict'."
        )
    otherwise: Wake = Interval()
    if settings.redis_url is not None:
        otherwise = Elsewhere(RedisWake(settings.redis_url, settings.issuer), (RedisUnavailable,))
    return Watch(denylist, ByDatabase(otherwise), settings.max_staleness.total_seconds())


def _relaying(settings: Settings, denylist: Denylist) -> Relaying:
    if has_green_threads():
        raise ConfigurationError(
            "XGEN_SESSIONS_REDIS_URL needs real threads, and gevent or eventlet stands in for them "
            "here; leave it out, and run 'flask xgen-sessions relay' with it beside this."
        )
    url = cast("str", settings.redis_url)
    return Relaying(url, settings.issuer, denylist)


def _form_secret(settings: Settings) -> bytes:
    secret = settings.secret_key or settings.private_key
    if secret is None:
        raise ConfigurationError(
            "XGEN_SESSIONS_SECRET_KEY (or the application's SECRET_KEY) must be set: it guards the "
            "screen's forms."
        )
    return secret
