"""The application that the code blocks of the documentation assume."""

from __future__ import annotations

from flask import Flask
from flask_login import LoginManager
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from xgen_flask_sessions import XgenSessions


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "user"

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str]
    password_hash: Mapped[str]
    is_active: Mapped[bool]


app = Flask("host")
db = SQLAlchemy(app, model_class=Base)
login_manager = LoginManager(app)
sessions = XgenSessions()
