"""Applications that differ only in the way that they check a token.

Each has Flask-SQLAlchemy with a user table, Flask-Login, and one route that answers "hello". The
peers are set up as their documentation says; their packages are imported only when they are built.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any

import jwt
import sqlalchemy as sa
from flask import Flask, Response, g, request
from flask_login import LoginManager, UserMixin
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from tests.support.databases import REDIS
from xgen_flask_sessions import XgenSessions

SECRET = "a secret for benchmarks that is long enough"
PATH = "/hello"
LIFETIME = timedelta(hours=1)

View = Callable[[], Any]
Headers = Mapping[str, str]


@dataclass(frozen=True)
class Caller:
    """The headers of a signed-in client."""

    headers: Headers
    """Headers with a token that is accepted."""
    revoked: Headers | None = None
    """Headers with a revoked token; ``None`` if the check does not look for revocations."""


@dataclass(frozen=True)
class Site:
    """An application, and a function that signs in to it once its tables exist."""

    app: Flask
    db: SQLAlchemy
    sign_in: Callable[[], Caller]
    clean_up: Callable[[], object] = lambda: None
    """Removes what the site has outside of its database."""

    def create_tables(self) -> None:
        with self.app.app_context():
            self.db.create_all()

    def dispose(self) -> None:
        """Close every connection."""
        self.clean_up()
        with self.app.app_context():
            self.db.session.remove()
            self.db.engine.dispose()


Build = Callable[[str], Site]
"""A function that builds a site on the database of a URL."""


def hello() -> str:
    return "hello"


def _database() -> tuple[type[DeclarativeBase], SQLAlchemy]:
    """Return a base class of models and a Flask-SQLAlchemy that no other site shares."""

    class Base(DeclarativeBase):
        pass

    return Base, SQLAlchemy(metadata=Base.metadata)


def _user_model(base: Any) -> Any:
    class User(UserMixin, base):  # type: ignore[misc]
        __tablename__ = "users"

        id: Mapped[int] = mapped_column(primary_key=True)
        username: Mapped[str] = mapped_column(sa.String(80))

    return User


def _flask(url: str, db: SQLAlchemy, **config: Any) -> Flask:
    app = Flask("site")
    app.config.update(SECRET_KEY=SECRET, SQLALCHEMY_DATABASE_URI=url, **config)
    db.init_app(app)
    return app


def _host(url: str, **config: Any) -> tuple[Flask, SQLAlchemy, Any, Any]:
    """Return an application with Flask-Login, its database, its user model and its base class."""
    base, db = _database()
    user_model = _user_model(base)
    app = _flask(url, db, **config)
    LoginManager().init_app(app)
    app.login_manager.user_loader(lambda user_id: db.session.get(user_model, int(user_id)))  # type: ignore[attr-defined]
    return app, db, user_model, base


def _bearer(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}


# --- No revocation check ---------------------------------------------------------------------


def without_token(url: str) -> Site:
    """Build the host without a check."""
    app, db, _, _ = _host(url)
    app.add_url_rule(PATH, view_func=hello)
    return Site(app, db, lambda: Caller({}))


def decoding(url: str) -> Site:
    """Build the host with PyJWT: it checks signature and expiry, and no revocation."""
    app, db, _, _ = _host(url)
    app.add_url_rule(PATH, view_func=_decoded(hello))

    def sign_in() -> Caller:
        now = int(time.time())
        claims = {
            "iss": "xgen",
            "sub": "1",
            "jti": uuid.uuid4().hex,
            "sid": uuid.uuid4().hex,
            "iat": now,
            "exp": now + LIFETIME // timedelta(seconds=1),
        }
        return Caller(_bearer(jwt.encode(claims, SECRET, algorithm="HS256")))

    return Site(app, db, sign_in)


def _decoded(view: View) -> View:
    @wraps(view)
    def checked() -> Any:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            g.claims = jwt.decode(token, SECRET, algorithms=["HS256"])
        except jwt.PyJWTError:
            return Response(status=401)
        return view()

    return checked


# --- Peers -----------------------------------------------------------------------------------


def jwt_extended(url: str) -> Site:
    """Build the host with Flask-JWT-Extended, without a blocklist."""
    app, db, _, _ = _host(url)
    _jwt_manager(app)

    def sign_in() -> Caller:
        return Caller(_bearer(_jwt_extended_token(app)[0]))

    return Site(app, db, sign_in)


def jwt_extended_redis(url: str) -> Site:
    """Build the host with Flask-JWT-Extended, as its examples/blocklist_redis.py does."""
    import redis

    app, db, _, _ = _host(url)
    blocklist = redis.Redis.from_url(REDIS, decode_responses=True)
    blocked: list[str] = []

    def is_revoked(_: Any, payload: Mapping[str, Any]) -> bool:
        return blocklist.get(payload["jti"]) is not None

    _jwt_manager(app).token_in_blocklist_loader(is_revoked)

    def sign_in() -> Caller:
        token, _ = _jwt_extended_token(app)
        revoked, jti = _jwt_extended_token(app)
        blocklist.set(jti, "", ex=LIFETIME)
        blocked.append(jti)
        return Caller(_bearer(token), _bearer(revoked))

    def clean_up() -> None:
        if blocked:
            blocklist.delete(*blocked)
        blocklist.close()

    return Site(app, db, sign_in, clean_up)


def jwt_extended_sql(url: str) -> Site:
    """Build the host with Flask-JWT-Extended, as its examples/blocklist_database.py does."""
    app, db, _, base = _host(url)

    class TokenBlocklist(base):  # type: ignore[misc, valid-type]
        __tablename__ = "token_blocklist"

        id: Mapped[int] = mapped_column(primary_key=True)
        jti: Mapped[str] = mapped_column(sa.String(36), index=True)
        created_at: Mapped[datetime]

    def is_revoked(_: Any, payload: Mapping[str, Any]) -> bool:
        query = db.session.query(TokenBlocklist.id).filter_by(jti=payload["jti"])
        return query.scalar() is not None

    _jwt_manager(app).token_in_blocklist_loader(is_revoked)

    def sign_in() -> Caller:
        token, _ = _jwt_extended_token(app)
        revoked, jti = _jwt_extended_token(app)
        with app.app_context():
            now = datetime.now(UTC).replace(tzinfo=None)
            db.session.add(TokenBlocklist(jti=jti, created_at=now))
            db.session.commit()
        return Caller(_bearer(token), _bearer(revoked))

    return Site(app, db, sign_in)


def _jwt_manager(app: Flask) -> Any:
    from flask_jwt_extended import JWTManager, jwt_required

    app.config.update(JWT_SECRET_KEY=SECRET, JWT_ACCESS_TOKEN_EXPIRES=LIFETIME)
    app.add_url_rule(PATH, view_func=jwt_required()(hello))
    return JWTManager(app)


def _jwt_extended_token(app: Flask) -> tuple[str, str]:
    """Return a token and its ``jti``."""
    from flask_jwt_extended import create_access_token, get_jti

    with app.app_context():
        token = create_access_token(identity="1")
        return token, get_jti(token)


def security(url: str) -> Site:
    """Build a host with Flask-Security's token, and only the columns that its models need."""
    from flask_security import RoleMixin, Security, SQLAlchemyUserDatastore, auth_token_required
    from flask_security import UserMixin as SecurityUser

    base, db = _database()
    roles_users = sa.Table(
        "roles_users",
        base.metadata,
        sa.Column("user_id", sa.ForeignKey("users.id"), primary_key=True),
        sa.Column("role_id", sa.ForeignKey("roles.id"), primary_key=True),
    )

    class Role(base, RoleMixin):  # type: ignore[misc, valid-type]
        __tablename__ = "roles"

        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(80), unique=True)

    class User(base, SecurityUser):  # type: ignore[misc, valid-type]
        __tablename__ = "users"

        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str] = mapped_column(sa.String(255), unique=True)
        password: Mapped[str | None] = mapped_column(sa.String(255))
        active: Mapped[bool]
        fs_uniquifier: Mapped[str] = mapped_column(sa.String(64), unique=True)
        roles = relationship(Role, secondary=roles_users)

    app = _flask(url, db, SECURITY_PASSWORD_SALT=SECRET, SECURITY_TOKEN_MAX_AGE=LIFETIME)
    users = SQLAlchemyUserDatastore(db, User, Role)
    Security(app, users)
    app.add_url_rule(PATH, view_func=auth_token_required(hello))

    def sign_in() -> Caller:
        with app.app_context():
            user, other = (
                users.create_user(email=f"{name}@example.com", password=None)
                for name in ("alice", "bob")
            )
            users.commit()
            token, revoked = user.get_auth_token(), other.get_auth_token()
            users.set_uniquifier(other)
            users.commit()
        header = "Authentication-Token"
        return Caller({header: token}, {header: revoked})

    return Site(app, db, sign_in)


# --- This package ----------------------------------------------------------------------------


def ours(check: Callable[[View], View], **config: Any) -> Build:
    """Return a function that builds the host with this package.

    :param check: The decorator of the route: ``token_required`` or ``login_required``.
    :param config: Settings of the package, for example the consistency.
    """

    def build(url: str) -> Site:
        app, db, user_model, _ = _host(url, XGEN_SESSIONS_LIFETIME=LIFETIME, **config)
        sessions = XgenSessions()
        manager = app.login_manager  # type: ignore[attr-defined]
        sessions.init_app(app, db=db, user_model=user_model, login_manager=manager)
        app.add_url_rule(PATH, view_func=check(hello))

        def sign_in() -> Caller:
            with app.app_context():
                user = user_model(username=f"alice {uuid.uuid4().hex}")
                db.session.add(user)
                db.session.commit()
                token, revoked = sessions.issue(user), sessions.issue(user)
                sessions.end_session(revoked.session_id)
                return Caller(_bearer(token.token), _bearer(revoked.token))

        return Site(app, db, sign_in)

    return build


def serve(case: str, url: str) -> Flask:
    """Return a case's application, for a WSGI server in a separate process.

    :param case: The name, a key of :data:`tests.benchmarks.cases.CASES`.
    """
    from .cases import CASES

    return CASES[case].build(url).app
