"""A user object as it was before a flush, for methods and properties of the host."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Session, make_transient_to_detached, registry, synonym

from xgen_flask_sessions.users.former import (
    FormerValueUnknown,
    attributes_of_login_id,
    former_login_id,
    former_value,
)


class Parent:
    def get_id(self) -> str:
        return "the parent's"


@pytest.fixture
def session() -> Iterator[Session]:
    mapped = registry()

    @mapped.mapped
    class Member(Parent):
        __tablename__ = "members"
        prefix = "m-"
        id = sa.Column(sa.Integer, primary_key=True)
        token = sa.Column(sa.String(20))
        alias = synonym("token")

        @property
        def by_property(self) -> str:
            return f"{self.prefix}{self.alias}"

        @hybrid_property
        def by_hybrid(self) -> Any:
            return self.token

        @cached_property
        def by_cache(self) -> Any:
            return self.token

        def by_method(self) -> str:
            return f"{self.by_property}/{self.by_hybrid}/{self.by_cache}"

        def get_id(self) -> str:
            return self.by_method()

    engine = sa.create_engine("sqlite://")
    mapped.metadata.create_all(engine)
    with Session(engine) as session:
        session.execute(sa.insert(Member), [{"id": 1, "token": "old"}])
        session.commit()
        session.info["member"] = session.get(Member, 1)
        yield session
    mapped.dispose()
    engine.dispose()


def test_methods_and_properties_see_the_former_values(session: Session) -> None:
    member = session.info["member"]
    assert member.get_id() == "m-old/old/old"

    member.token = "new"

    assert former_login_id(member, "get_id") == "m-old/old/old"
    assert former_value(member, "alias") == "old"
    assert {"prefix", "token"} <= (attributes_of_login_id(member, "get_id") or set())


def test_a_value_that_was_never_loaded_is_unknown(session: Session) -> None:
    member = session.info["member"]
    session.expire(member)

    member.token = "new"

    assert former_login_id(member, "get_id") is None
    assert attributes_of_login_id(member, "get_id") is None
    with pytest.raises(FormerValueUnknown):
        former_value(member, "token")


def test_a_method_that_refuses_the_stand_in_tells_nothing(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = session.info["member"]
    monkeypatch.setattr(type(member), "get_id", lambda self: super(type(member), self).get_id())
    assert member.get_id() == "the parent's"

    assert former_login_id(member, "get_id") is None
    assert attributes_of_login_id(member, "get_id") is None


def test_every_branch_and_every_subclass_counts() -> None:
    mapped = registry()

    @mapped.mapped
    class Member:
        __tablename__ = "members"
        id = sa.Column(sa.Integer, primary_key=True)
        kind = sa.Column(sa.String(20))
        subject = sa.Column(sa.String(20))
        badge = sa.Column(sa.String(20))
        issuer = sa.Column(sa.String(20))
        alias = synonym("issuer")
        __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "member"}

        @property
        def remote(self) -> str:
            return "/".join(str(part) for part in (self.alias, self.subject))

        def get_id(self) -> str:
            return self.remote if self.kind == "remote" else str(self.id)

    @mapped.mapped
    class Employee(Member):
        __mapper_args__ = {"polymorphic_identity": "employee"}

        def get_id(self) -> str:
            return str(self.badge)

    sa.orm.configure_mappers()
    member: Any = Member()
    member.id = 1
    make_transient_to_detached(member)
    names = attributes_of_login_id(member, "get_id")

    assert names is not None
    assert names >= {"kind", "id", "subject", "issuer", "badge"}
    mapped.dispose()
