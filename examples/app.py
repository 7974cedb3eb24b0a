import click
from flask import Flask, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_admin import Admin
from flask_login import LoginManager, current_user, login_required
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from werkzeug.security import check_password_hash, generate_password_hash

from xgen_flask_sessions import XgenSessions, current_token, token_required


class Base(DeclarativeBase):
    pass


app = Flask(__name__)
app.config.update(SQLALCHEMY_DATABASE_URI="sqlite:///app.db", XGEN_SESSIONS_COOKIE_SECURE=False)
app.config["MAX_CONTENT_LENGTH"] = 64 * 1024  # no form here is longer
app.config.from_prefixed_env()  # FLASK_SECRET_KEY: the same for every worker and machine
db, admin, sessions = SQLAlchemy(app, model_class=Base), Admin(app), XgenSessions()
login_manager = LoginManager(app)
login_manager.login_view = "sign_in"  # pyright: ignore[reportAttributeAccessIssue]
UNKNOWN_USER = generate_password_hash("an unknown username takes as long to refuse")
FORM = """<p>{}</p><form method=post><input name=username> <input name=password type=password>
<button>Sign in</button></form>"""


class User(Base):
    __tablename__ = "user"
    __table_args__ = {"sqlite_autoincrement": True}  # no id is given out twice
    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(db.String(80), unique=True)
    password_hash: Mapped[str] = mapped_column(db.String(255))
    is_superuser: Mapped[bool] = mapped_column(default=False)
    is_active: Mapped[bool] = mapped_column(default=True)
    is_authenticated, is_anonymous = True, False  # for Flask-Login, as get_id() is

    def get_id(self) -> str:
        return str(self.id)


sessions.init_app(
    app, db=db, user_model=User, login_manager=login_manager, admin=admin,
    revoke_on=["password_hash", "is_active"],  # a change of these ends the user's sessions
)  # fmt: skip


@app.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> ResponseReturnValue:
    if request.method == "GET" or not sessions.is_same_site():
        return FORM.format(sessions.rejection() or "Please sign in.")  # or the reason of the end
    username, password = request.form["username"], request.form["password"]
    sessions.require_database()  # answers 503 in time if the database is silent
    sessions.check_sign_in_rate(username)  # answers 429 after too many failures
    user = db.session.scalar(db.select(User).filter_by(username=username))
    checked = user.password_hash if user else UNKNOWN_USER
    if not check_password_hash(checked, password) or user is None or not user.is_active:
        sessions.count_failed_sign_in(username)
        return FORM.format("Wrong username or password, or inactive account."), 401
    issued = sessions.issue(user, commit=False)  # locks the user and reads the row again
    if user.password_hash != checked:  # the password was reset in the meantime
        return FORM.format("Please sign in again."), 401
    db.session.commit()
    response = redirect(sessions.next_path())
    sessions.set_cookie(response, issued)
    return response


@app.get("/")
@login_required  # type: ignore[untyped-decorator]  # Flask-Login's: with the user row
def home() -> str:
    screen = url_for("admin-active-sessions.index")
    return f"Hello {current_user.username}! <a href={screen}>Sessions</a>"


@app.get("/api/orders")
@token_required  # the token alone: no user row is read
def orders() -> dict[str, object]:
    return {"orders": [], "for_user": current_token.user_id}


@app.cli.command("create-admin")
@click.password_option()
def create_admin(password: str) -> None:
    """Create the tables, and the SuperUser "admin"."""
    db.create_all()
    if db.session.scalar(db.select(User).filter_by(username="admin")):
        raise click.ClickException('There is a user "admin" already.')
    password_hash = generate_password_hash(password)
    db.session.add(User(username="admin", is_superuser=True, password_hash=password_hash))
    db.session.commit()
