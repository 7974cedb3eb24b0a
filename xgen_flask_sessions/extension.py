"""The extension: wires the layers to a Flask application, and is what a host calls."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any, cast

from flask import Flask
from flask_admin import Admin
from flask_login import LoginManager
from flask_sqlalchemy import SQLAlchemy

from . import lifecycle
from .admin.templating import template_globals
from .admin.views import ASSETS, LoginManagementView
from .api.views import create_blueprint
from .cli.commands import commands
from .denylist.checker import TokenChecker
from .denylist.strict import StrictDenylist
from .denylist.watch import Watch
from .errors import ConfigurationError, XgenSessionsError
from .feed.relay import Relay
from .feed.wakeups import ByDatabase, Interval
from .rate_limits import RateLimits
from .roster.roster import Roster
from .runtime import has_green_threads
from .settings import Settings, load_keys
from .state import State
from .store.pruning import PiggybackPruning
from .store.reachability import Reachability
from .store.tables import copy_tables
from .store.transactions import Transactions
from .tokens.codec import TokenCodec
from .users.authority import Authority, Permission
from .users.directory import UserDirectory, UserFields
from .users.triggers import Triggers
from .web import cookie, sign_in_page, streams
from .web import revoke_on as revoke_on_changes
from .web.host_engines import chooses_engines, engine_of
from .web.host_extensions import coexist
from .web.login_bridge import LoginBridge
from .web.problems import refuse


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
        denylist = StrictDenylist(
            engine_of(db),
            lambda: db.session.connection(),
            settings.deadline.total_seconds(),
        )
        strict = TokenChecker(codec, denylist)
        watch = _watch(settings, db, denylist) if settings.consistency == "watch" else None
        relay = _relay(settings, denylist) if settings.redis_url is not None else None
        state = State(
            settings=settings,
            db=db,
            codec=codec,
            checker=strict if watch is None else TokenChecker(codec, watch),
            strict_checker=strict,
            denylist=denylist,
            watch=watch,
            relay=relay,
            transactions=Transactions(
                get_session=lambda: db.session(),
                get_engine=lambda: db.engine,
                reachability=Reachability(denylist.require_reachable),
                deadline_s=settings.write_deadline.total_seconds(),
            ),
            users=users,
            roster=Roster(users),
            authority=Authority(users, can_view, can_force_logout),
            triggers=Triggers(user_model, revoke_on, fields.active),
            records_logins=login_manager is not None,
            rate_limits=RateLimits(settings),
            pruning=PiggybackPruning(settings.retention, settings.leeway),
            form_secret=_form_secret(settings) if admin is not None else b"",
        )
        login = None
        if login_manager is not None:
            login = LoginBridge.of(app, login_manager)
        app.extensions["xgen_sessions"] = state
        copy_tables(db.metadata)
        revoke_on_changes.watch(state.triggers)
        app.register_error_handler(XgenSessionsError, refuse)
        if relay is not None:
            app.before_request(relay.ensure_running)
        app.cli.add_command(commands)
        app.jinja_env.globals.update(template_globals())
        blueprint = create_blueprint(settings.url_prefix, ASSETS)
        app.register_blueprint(blueprint)
        protected = [blueprint]
        if admin is not None:
            view = LoginManagementView()
            admin.add_view(view)
            protected.append(view)
        coexist(app, protected, login=login, with_flask_admin=admin is not None)

    issue = staticmethod(lifecycle.issue)
    renew = staticmethod(lifecycle.renew)
    verify = staticmethod(lifecycle.verify)
    force_logout = staticmethod(lifecycle.force_logout)
    force_logout_everyone = staticmethod(lifecycle.force_logout_everyone)
    end_session = staticmethod(lifecycle.end_session)
    prune = staticmethod(lifecycle.prune)

    set_cookie = staticmethod(cookie.set_cookie)
    unset_cookie = staticmethod(cookie.unset_cookie)
    rejection = staticmethod(sign_in_page.rejection)
    is_same_site = staticmethod(sign_in_page.is_same_site)
    check_sign_in_rate = staticmethod(sign_in_page.check_sign_in_rate)
    count_failed_sign_in = staticmethod(sign_in_page.count_failed_sign_in)
    require_database = staticmethod(sign_in_page.require_database)
    next_path = staticmethod(sign_in_page.next_path)
    while_valid = staticmethod(streams.while_valid)


def _watch(settings: Settings, db: SQLAlchemy, denylist: StrictDenylist) -> Watch:
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
    return Watch(denylist, ByDatabase(Interval()), settings.max_staleness.total_seconds())


def _relay(settings: Settings, denylist: StrictDenylist) -> Relay:
    if has_green_threads():
        raise ConfigurationError(
            "XGEN_SESSIONS_REDIS_URL needs real threads, and gevent or eventlet stands in for them "
            "here; leave it out, and run 'flask xgen-sessions relay' with it beside this."
        )
    url = cast("str", settings.redis_url)
    return Relay(url, settings.issuer, denylist.source)


def _form_secret(settings: Settings) -> bytes:
    secret = settings.secret_key or settings.private_key
    if secret is None:
        raise ConfigurationError(
            "XGEN_SESSIONS_SECRET_KEY (or the application's SECRET_KEY) must be set: it guards the "
            "screen's forms."
        )
    return secret
