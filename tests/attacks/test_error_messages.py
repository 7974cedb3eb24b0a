"""Messages of errors never show the values of a failed statement."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, jsonify
from sqlalchemy.orm import Session

import xgen_flask_sessions
from tests.support.databases import MakeHost
from tests.support.hosts import Host, bearer
from tests.support.standalone import center_maker
from xgen_flask_sessions import session_issued
from xgen_flask_sessions.standalone.models import User, db
from xgen_flask_sessions.text import cause_of, traceback_of
from xgen_flask_sessions.web.problems import answer_errors

HASH = "scrypt:32768:8:1$uSWJ4Rnm$90f1bf0a5c2b4e30"


def failures(url: str) -> Iterator[sa.exc.SQLAlchemyError]:
    """Yield the errors of statements that hold :data:`HASH`, of several kinds."""
    engine = sa.create_engine(url)
    table = sa.Table(
        "failing",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String(200), unique=True),
        sa.Column("password_hash", sa.String(200), nullable=False),
        sa.CheckConstraint("id < 100"),
    )
    table.drop(engine, checkfirst=True)
    table.create(engine)
    rows: list[tuple[Any, dict[str, Any]]] = [
        (sa.insert(table), {"id": 1, "name": HASH, "password_hash": HASH}),
        (sa.insert(table), {"id": 2, "name": HASH, "password_hash": HASH}),  # not unique
        (sa.insert(table), {"id": 3, "name": HASH + "x", "password_hash": None}),
        (sa.insert(table), {"id": 4, "name": f"a\n{HASH}", "password_hash": HASH}),
        (sa.insert(table), {"id": 5, "name": f"a\n{HASH}", "password_hash": HASH}),
        (sa.insert(table), {"id": 100, "name": HASH + "y", "password_hash": HASH}),
        (sa.insert(table), {"id": HASH, "name": HASH + "z", "password_hash": HASH}),
        (sa.text("SELECT missing FROM nowhere WHERE a = :a"), {"a": HASH}),
        (sa.text("SELEKT :a FROM nowhere"), {"a": HASH}),
        (sa.text("SELECT CAST(:a AS TIMESTAMP)"), {"a": HASH}),
        (sa.text("SELECT :a, :b"), {"a": HASH}),  # a parameter is missing
    ]
    for statement, values in rows:
        with Session(engine) as session:
            try:
                session.execute(statement, values)
                session.commit()
            except sa.exc.SQLAlchemyError as error:
                yield error
    table.drop(engine)
    engine.dispose()


def test_no_value_of_a_failed_statement_is_in_its_cause(database_url: str) -> None:
    errors = list(failures(database_url))
    raw = "".join(map(str, errors))

    assert len(errors) >= 7
    assert HASH in raw
    for error in errors:
        assert "scrypt" not in cause_of(error), cause_of(error)
        assert "scrypt" not in traceback_of(error), traceback_of(error)
        assert "\n" not in cause_of(error)


@pytest.mark.parametrize(
    "driver",
    ["postgresql+psycopg", "postgresql+psycopg2", "postgresql+pg8000", "mariadb+pymysql",
     "mariadb+mysqlconnector"],
)  # fmt: skip
def test_a_password_with_an_at_sign_is_not_in_the_cause(driver: str) -> None:
    engine = sa.create_engine(f"{driver}://someone:s3@cr3t@127.0.0.1/none")

    with pytest.raises(sa.exc.DBAPIError) as caught:
        engine.connect()

    names_host = "cr3t" in str(caught.value)  # older releases of psycopg do not
    assert names_host or driver == "postgresql+psycopg"
    assert "cr3t" not in cause_of(caught.value) + traceback_of(caught.value)
    assert ("@127.0.0.1" in cause_of(caught.value)) == names_host


def test_the_user_of_a_refused_connection_is_named() -> None:
    message = "Access denied for user 'someone'@'10.0.0.7' (using password: YES)"

    assert cause_of(RuntimeError(message)) == message


def test_the_cause_still_says_which_constraint_or_table(database_url: str) -> None:
    told = " ".join(map(cause_of, failures(database_url)))

    assert "name" in told
    assert "nowhere" in told


def test_an_error_within_the_text_of_another_is_cut_off(sqlite_url: str) -> None:
    for error in failures(sqlite_url):
        wrapped = RuntimeError(f"The job failed: {error}")
        assert "scrypt" not in cause_of(wrapped)


def test_a_session_that_failed_before_does_not_repeat_the_values(sqlite_host: Host) -> None:
    with sqlite_host.app.app_context():
        session = sqlite_host.db.session()
        for number in (1, 2):
            session.add(sqlite_host.model(username=f"alice-{HASH}", password=HASH + str(number)))
        with pytest.raises(sa.exc.IntegrityError):
            session.flush()
        with pytest.raises(sa.exc.PendingRollbackError) as caught:
            session.scalar(sa.select(1))

    assert "scrypt" in str(caught.value)
    assert "scrypt" not in cause_of(caught.value)
    assert "scrypt" not in traceback_of(caught.value)


def test_a_failed_flush_within_a_sign_in_hides_the_hosts_values(
    sqlite_host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host = sqlite_host
    user_id = host.add_user("alice")
    host.execute(f"ALTER TABLE {host.model.__tablename__} RENAME TO gone")

    with host.app.app_context():
        user = host.model(id=host.model.id.type.python_type(99), username="bob", password=HASH)
        host.db.session.add(user)
        with pytest.raises(Exception, match=r"Nothing was done\.") as caught:
            host.sessions.issue(user_id, commit=False)
        logging.getLogger("host").error("failed", exc_info=caught.value)

    assert "failed" in caplog.text
    assert "scrypt" not in caplog.text


def test_a_database_error_is_logged_without_values(
    make_host: MakeHost, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    host = make_host(database_url)
    answer_errors(host.app)
    fail(host.app, host)

    answer = host.client().get("/fails")

    assert answer.status_code == 503
    assert "503 database_unavailable" in caplog.text
    assert "scrypt" not in caplog.text + answer.text


def fail(app: Flask, host: Host) -> None:
    @app.get("/fails")
    def fails() -> Any:
        host.db.session.execute(sa.text("SELECT a FROM nowhere WHERE a = :a"), {"a": HASH})
        return jsonify()


def test_a_failing_receiver_is_logged_without_values(
    sqlite_host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host = sqlite_host
    user_id = host.add_user()

    def receive(app: Flask, **_: Any) -> None:
        with host.db.engine.connect() as connection:
            connection.execute(sa.text("SELECT a FROM nowhere WHERE a = :a"), {"a": HASH})

    with session_issued.connected_to(receive), host.app.app_context():
        issued = host.sessions.issue(user_id, commit=False)
        host.db.session.commit()

    assert host.client().get("/api/token", headers=bearer(issued)).status_code == 200
    assert "A receiver of a signal failed." in caplog.text
    assert "no such table: nowhere" in caplog.text
    assert "scrypt" not in caplog.text


def test_the_admin_center_logs_an_unhandled_error_without_values(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with center_maker(tmp_path / "instance") as make:
        center = make(PROPAGATE_EXCEPTIONS=False)

        @center.app.get("/fails/<name>")
        def fails(name: str) -> Any:
            row = {"id": 1, "username": "admin", "password_hash": HASH}
            db.session.execute(sa.insert(User), row)
            return jsonify()

        answer = center.browser().get("/fails/a%0Aforged: line")

    assert answer.status_code == 500
    assert "UNIQUE constraint failed" in caplog.text
    assert "scrypt" not in caplog.text + answer.text
    assert not any(line.startswith("forged") for line in caplog.text.splitlines())


def test_the_admin_center_hides_parameters_in_every_message_of_its_engine(tmp_path: Path) -> None:
    with center_maker(tmp_path / "instance") as make:
        center = make()
        with center.app.app_context(), pytest.raises(sa.exc.IntegrityError) as caught:
            db.session.execute(sa.insert(User), {"username": "admin", "password_hash": HASH})

    assert "scrypt" not in str(caught.value)


def test_no_module_logs_a_traceback_with_its_messages() -> None:
    package = Path(xgen_flask_sessions.__file__).parent
    wrong = {
        f"{path.name}:{node.lineno}"
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (
            (node.func.attr == "exception" and "log" in ast.unparse(node.func.value))
            or any(keyword.arg in ("exc_info", "stack_info") for keyword in node.keywords)
            or node.func.attr in ("print_exc", "format_exc", "format_exception")
        )
    }

    assert wrong == set()
