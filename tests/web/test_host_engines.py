"""``HostEngine`` returns the current ``db.engine``, also after the host has replaced it."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from xgen_flask_sessions.web.host_engines import HostEngine


def make_app(url: str) -> Flask:
    app = Flask("host")
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    return app


def test_each_application_has_a_separate_engine(tmp_path: Path) -> None:
    db = SQLAlchemy()
    for name in ("one", "two"):
        app = make_app(f"sqlite:///{tmp_path / name}.db")
        db.init_app(app)
        get_engine = HostEngine(db).get
        with app.app_context():
            assert get_engine() is get_engine() is db.engine


def test_an_engine_created_by_a_second_init_app_is_returned(tmp_path: Path) -> None:
    db = SQLAlchemy()
    app = make_app(f"sqlite:///{tmp_path / 'one'}.db")
    db.init_app(app)
    get_engine = HostEngine(db).get
    with app.app_context():
        before = get_engine()

    del app.extensions["sqlalchemy"]
    db.init_app(app)

    with app.app_context():
        assert get_engine() is db.engine
        assert get_engine() is not before


def test_an_overridden_engine_property_is_read_at_each_call() -> None:
    engines = [sa.create_engine("sqlite://"), sa.create_engine("sqlite://")]
    chosen = 0

    class Tenants(SQLAlchemy):
        @property
        def engine(self) -> sa.Engine:
            return engines[chosen]

    get_engine = HostEngine(Tenants()).get

    assert get_engine() is engines[0]
    chosen = 1
    assert get_engine() is engines[1]
