"""The extension: the public calls of a host, and the wiring of its application."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from flask import Flask
from flask_admin import Admin
from flask_login import LoginManager
from flask_sqlalchemy import SQLAlchemy

from . import lifecycle
from .admin import problem_page
from .admin.admin_center_view import ASSETS
from .admin.list_page import ENDPOINT
from .admin.registration import add_login_management
from .admin.templating import template_globals
from .api.views import create_blueprint
from .cli.acts import commands
from .denylist.checker import TokenChecker
from .denylist.strict import StrictDenylist
from .denylist.watch import Watch
from .errors import ConfigurationError
from .feed.relay import Relay
from .feed.signed_state import StateSigner
from .feed.wakeups import DatabaseWakeup, FixedInterval
from .rate_limits import RateLimits
from .roster.roster import Roster
from .runtime import has_green_threads
from .settings import Settings, load_keys, secret_fallbacks
from .state import State
from .store import dialects
from .store.pruning import PiggybackPruning
from .store.reachability import Reachability
from .store.tables import copy_tables
from .store.transactions import Transactions
from .tokens.codec import TokenCodec
from .tokens.keys import Key, is_pem
from .users.account_hooks import AccountHooks, Deactivate, Roles, UserUrl
from .users.authority import Authority, Permission
from .users.directory import UserDirectory
from .users.fields import UserFields, require_login_attributes
from .users.triggers import Triggers
from .web import audit, cookie, core_statements, problems, request_token, sign_in_page, streams
from .web import revoke_on as revoke_on_changes
from .web.host_engines import (
    HostEngine,
    chooses_engines,
    guard_engines,
    require_supported,
    use_primary,
)
from .web.host_extensions import HostExtensions
from .web.host_routes import require_free_blueprint, require_free_paths
from .web.host_set_up import require_set_up
from .web.login_bridge import LoginBridge


class XgenSessions:
    """JWT sessions that an administrator can end.

    One object may serve several applications; it keeps no state itself.
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
        deactivate: Deactivate | None = None,
        revoke_roles: Roles | None = None,
        roles_of: Roles | None = None,
        user_url: UserUrl | None = None,
    ) -> None:
        """Add sessions, the JSON API, the commands and the screen to an application.

        Reads these keys of ``app.config``, once; the configuration page of the documentation
        explains them:

        - tokens: ``XGEN_SESSIONS_SECRET_KEY``, ``_ALGORITHM``, ``_PRIVATE_KEY``, ``_PUBLIC_KEY``,
          ``_PREVIOUS_KEYS``, ``_ISSUER``, ``_AUDIENCE``, ``_LIFETIME``, ``_LEEWAY``
        - requests: ``_TOKEN_LOCATIONS``, ``_COOKIE_NAME``, ``_COOKIE_SECURE``,
          ``_COOKIE_SAMESITE``, ``_TRUSTED_ORIGINS``, ``_URL_PREFIX``
        - ``doctor``: ``_GUARDS``
        - the screen: ``_TIMEZONE``, ``_CONFIRM_FORCE_LOGOUT``, ``_PAGE_ORIGINS``
        - the database: ``_RETENTION``, ``_DEADLINE``, ``_WRITE_DEADLINE``
        - several processes: ``_CONSISTENCY``, ``_MAX_STALENESS``, ``_REDIS_URL``
        - rate limits: ``_FORCE_LOGOUT_LIMIT``, ``_SIGN_IN_LIMIT``, ``_SIGN_IN_ADDRESS_LIMIT``,
          ``_RATE_LIMIT_STORAGE``

        :param app: The application, already configured.
        :param db: Its Flask-SQLAlchemy; the tables are copied into its metadata.
        :param user_model: Its user model; its primary key is the user's id.
        :param login_manager: Its Flask-Login, for ``login_required`` with tokens.
        :param admin: Its Flask-Admin, for Login Management.
        :param user_fields: The user model's attributes, if they have unusual names.
        :param can_view: Returns whether a user may see Login Management, as a bool; by default,
            whether the user is a SuperUser.
        :param can_force_logout: Returns whether a user that may see it may also force out users; by
            default, always. Only a SuperUser can force out a SuperUser.
        :param revoke_on: Names of the user model's attributes whose change ends the user's
            sessions in the same transaction, such as ``["password_hash", "is_active"]``. A user
            that becomes active keeps them, and a session that begins in the request of the change
            survives it. The user's deletion always ends them.
        :param deactivate: Makes a leaver's account inactive; takes the user object, in the
            transaction that also ends the sessions, and must not commit. By default, the attribute
            for active users is set to false, if it is a column.
        :param revoke_roles: Revokes a leaver's roles, likewise, and returns their names or
            ``None``; by default, roles stay.
        :param roles_of: Returns the names of the roles that *revoke_roles* would revoke, for the
            question before it.
        :param user_url: Takes a user's id, and returns the path or the ``http`` or ``https`` URL
            of the application's own page for the user, or ``None``.
        :raises ConfigurationError: The set-up is wrong; the message names the fix.
        """
        require_set_up(app, db, login_manager, complete=False)
        if "xgen_sessions" in app.extensions:
            raise ConfigurationError("XgenSessions has already been registered on this Flask app.")
        settings = Settings.from_config(app.config)
        require_supported(app, db)
        fields = user_fields or UserFields()
        guard_engines(app, db)
        id_method = "get_id" if login_manager is None else str(login_manager.id_attribute)
        users = UserDirectory(db, user_model, fields, id_method)
        if login_manager is not None:
            require_login_attributes(user_model, id_method)
        if admin is not None:
            if not isinstance(admin, Admin):
                raise ConfigurationError("admin= must be the application's Flask-Admin object.")
            _check_screen(users, user_model, login_manager, can_view)
        use_primary(db)
        denylist = StrictDenylist(
            HostEngine(db).get,
            lambda: dialects.connection_of(db.session()),
            settings.deadline.total_seconds(),
        )
        keys = load_keys(settings)
        codec = _codec(settings, keys)
        watch = _watch(settings, db, denylist)
        strict = TokenChecker(codec, denylist)
        state = State(
            settings=settings,
            db=db,
            codec=codec,
            checker=strict if watch is None else TokenChecker(codec, watch),
            strict_checker=strict,
            denylist=denylist,
            watch=watch,
            relay=_relay(settings, keys, denylist),
            transactions=_transactions(settings, db, denylist),
            users=users,
            roster=Roster(users),
            authority=Authority(users, can_view, can_force_logout),
            account=AccountHooks.of(
                user_model,
                fields.active,
                deactivate=deactivate,
                revoke_roles=revoke_roles,
                roles_of=roles_of,
                user_url=user_url,
            ),
            triggers=Triggers(user_model, revoke_on, fields.active),
            login_manager=login_manager,
            records_logins=login_manager is not None,
            rate_limits=RateLimits(settings),
            pruning=PiggybackPruning(settings.retention, settings.leeway),
            form_secrets=_form_secrets(settings, app.config) if admin is not None else (),
        )
        login = None if login_manager is None else LoginBridge.of(app, login_manager)
        app.extensions["xgen_sessions"] = state
        copy_tables(db.metadata)
        revoke_on_changes.watch(state.triggers)
        core_statements.watch()
        users.watch_mark()
        _attach(app, state, admin, login)

    issue = staticmethod(lifecycle.issue)
    renew = staticmethod(lifecycle.renew)
    verify = staticmethod(lifecycle.verify)
    force_logout = staticmethod(lifecycle.force_logout)
    force_logout_everyone = staticmethod(lifecycle.force_logout_everyone)
    end_session = staticmethod(lifecycle.end_session)
    prune = staticmethod(lifecycle.prune)
    upgrade = staticmethod(lifecycle.upgrade)
    start_relay = staticmethod(lifecycle.start_relay)
    record_past_sign_ins = staticmethod(lifecycle.record_past_sign_ins)
    transaction = staticmethod(lifecycle.transaction)
    active_sessions = staticmethod(lifecycle.active_sessions)
    sign_ins_of = staticmethod(lifecycle.sign_ins_of)
    sign_ins_by_user = staticmethod(lifecycle.sign_ins_by_user)
    may_view = staticmethod(lifecycle.may_view)
    recheck_token = staticmethod(request_token.recheck_token)

    set_cookie = staticmethod(cookie.set_cookie)
    unset_cookie = staticmethod(cookie.unset_cookie)
    rejection = staticmethod(sign_in_page.rejection)
    revocation = staticmethod(sign_in_page.revocation)
    is_same_site = staticmethod(sign_in_page.is_same_site)
    check_sign_in_rate = staticmethod(sign_in_page.check_sign_in_rate)
    count_failed_sign_in = staticmethod(sign_in_page.count_failed_sign_in)
    require_database = staticmethod(sign_in_page.require_database)
    next_path = staticmethod(sign_in_page.next_path)
    while_valid = staticmethod(streams.while_valid)
    wants_page = staticmethod(problems.wants_page)
    answer_errors = staticmethod(problem_page.answer_errors)
    with_security_headers = staticmethod(problems.with_security_headers)

    commands = commands
    """The click group ``xgen-sessions``, for a host's own command line."""


def _check_screen(
    users: UserDirectory,
    user_model: type[Any],
    login_manager: LoginManager | None,
    can_view: Permission | None,
) -> None:
    if login_manager is None:
        raise ConfigurationError(
            "Login Management needs the current user: pass login_manager= with admin=."
        )
    if can_view is None and not users.has_superusers:
        raise ConfigurationError(
            f"{user_model.__name__} has no SuperUsers, so no user could open Login Management; "
            "pass can_view=, or user_fields=UserFields(superuser=…)."
        )


def _codec(settings: Settings, keys: Sequence[Key]) -> TokenCodec:
    return TokenCodec(
        keys,
        issuer=settings.issuer,
        audience=settings.audience,
        leeway_us=settings.leeway // timedelta(microseconds=1),
    )


def _watch(settings: Settings, db: SQLAlchemy, denylist: StrictDenylist) -> Watch | None:
    if settings.consistency == "strict":
        return None
    if has_green_threads():
        raise ConfigurationError(
            "XGEN_SESSIONS_CONSISTENCY='watch' needs real threads, but gevent or eventlet "
            "replaces them; use 'strict'."
        )
    if chooses_engines(db):
        raise ConfigurationError(
            "XGEN_SESSIONS_CONSISTENCY='watch' follows one database, but "
            f"{type(db).__name__} chooses engines itself; use 'strict'."
        )
    return Watch(denylist, DatabaseWakeup(FixedInterval()), settings.max_staleness.total_seconds())


def _relay(settings: Settings, keys: Sequence[Key], denylist: StrictDenylist) -> Relay | None:
    if settings.redis_url is None:
        return None
    if has_green_threads():
        raise ConfigurationError(
            "XGEN_SESSIONS_REDIS_URL needs real threads, but gevent or eventlet replaces them; "
            "leave it out, and run 'flask xgen-sessions relay' with it beside this process."
        )
    signer = StateSigner(keys, settings.issuer)
    if not signer.can_sign:
        raise ConfigurationError(
            "XGEN_SESSIONS_REDIS_URL needs XGEN_SESSIONS_PRIVATE_KEY, which signs the feed; leave "
            "it out in an application that only verifies tokens."
        )
    return Relay(settings.redis_url, settings.issuer, signer, denylist.source)


def _transactions(settings: Settings, db: SQLAlchemy, denylist: StrictDenylist) -> Transactions:
    return Transactions(
        get_session=lambda: db.session(),
        get_engine=HostEngine(db).get,
        reachability=Reachability(denylist.require_reachable),
        deadline_s=settings.write_deadline.total_seconds(),
    )


def _attach(app: Flask, state: State, admin: Admin | None, login: LoginBridge | None) -> None:
    """Register handlers, commands, templates, the JSON API and the screen."""
    if state.relay is not None:
        app.before_request(state.relay.ensure_running)
    app.cli.add_command(commands)
    app.jinja_env.globals.update(template_globals())
    require_free_blueprint(app)
    audit.watch(app)
    blueprint = create_blueprint(state.settings.url_prefix, ASSETS)
    app.register_blueprint(blueprint)
    require_free_paths(app, state)
    protected = [blueprint.name]
    if admin is not None:
        add_login_management(admin, app)
        protected.append(ENDPOINT)
    HostExtensions(app, protected, login=login, with_flask_admin=admin is not None).attach()


def _form_secrets(settings: Settings, config: Mapping[str, Any]) -> tuple[bytes, ...]:
    """Return the secrets of the screen's forms; the first one makes new tokens."""
    secret = settings.secret_key or settings.private_key
    if secret is None:
        raise ConfigurationError(
            "XGEN_SESSIONS_SECRET_KEY (or the application's SECRET_KEY) must be set: it guards the "
            "screen's forms."
        )
    previous = [key for key in settings.previous_keys if not is_pem(key)]
    return tuple(dict.fromkeys([secret, *previous, *secret_fallbacks(config)]))
