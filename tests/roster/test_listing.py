"""The users on each page and their order, compared with a naive computation."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup
from flask import Flask
from flask.testing import FlaskClient
from flask_login import LoginManager
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.support.databases import MakeHost
from tests.support.hosts import SECRET, Account, Host, LooseUser, NamedUser, User, UuidUser, bearer
from tests.support.screen import SCREEN, cards, form_for, page_of, rows, sign_in, with_screen
from xgen_flask_sessions import XgenSessions, clock
from xgen_flask_sessions.clock import SECOND_US
from xgen_flask_sessions.roster.listing import (
    COLUMNS,
    FALLING,
    OWN,
    Listing,
)
from xgen_flask_sessions.store import revocations
from xgen_flask_sessions.store.revocations import Cause
from xgen_flask_sessions.store.sign_ins import PastSignIn, record_past

NAMES = ["Bora Lim", "bora", "김민준", "이서연", "  ", "", None, "100% _sure\\", "Zoe"]
DEPARTMENTS = ["Platform", "인사팀", "", None]


@dataclass(frozen=True)
class Row:
    """The screen's row of one user."""

    user_id: str
    username: str
    name: str | None
    department: str | None
    active_sessions: int
    last_login: int | None
    last_ip: str | None
    known: bool
    """Whether the host still has the user."""


def fill(host: Host, users: int) -> list[Row]:
    """Add users of all kinds, and return the rows of the signed-in ones."""
    chance, now = random.Random(users), clock.now_us()
    expected: list[Row] = []
    with host.app.app_context():
        people = [_person(chance, host.model, number) for number in range(users)]
        host.db.session.add_all(people)
        host.db.session.commit()
        for number, person in enumerate(people):
            user_id, sign_ins = person.get_id(), chance.choice((0, 1, 1, 2, 5))
            login, known = number % 7 != 3, number % 11 != 5
            address = f"192.0.2.{chance.randrange(9)}" if login else None
            at = [now - (number * 10 + each + 1) * SECOND_US for each in range(sign_ins)]
            # One more session has expired; its row has no end.
            spans = [*((when, now + 3600 * SECOND_US) for when in at), (now - 9 * 10**12, now - 1)]
            past = [
                PastSignIn(user_id=user_id, signed_in_us=when, expires_us=until,
                           ip=address, login=login) for when, until in spans
            ]  # fmt: skip
            record_past(host.db.session(), past)
            if number % 13 == 7:
                revocations.force_logout(host.db.session(), user_id, Cause())
            elif sign_ins:
                newest = max(at) if login else None
                name = (person.display_name or "").strip() or None
                shown = (person.username, name, person.department or None)
                row = shown if known else (user_id, None, None)
                expected.append(Row(user_id, *row, sign_ins, newest, address, known))
        host.db.session.commit()
        gone = [str(person.id) for person in people[5::11]]
    for user_id in gone:
        host.delete_user(user_id)
    return expected


def _person(chance: random.Random, model: type[Any], number: int) -> Any:
    username = f"{chance.choice(['kim', 'lee', 'bora', 'zoe'])}{number}"
    columns = {"id": f"id-{number}"} if model in (NamedUser, LooseUser) else {}
    return model(
        username=username,
        display_name=chance.choice(NAMES),
        department=chance.choice(DEPARTMENTS),
        **columns,
    )


def naive(active: list[Row], listing: Listing, *, folds: bool) -> list[Any]:
    """Return the values of the sort column, in order.

    :param folds: Whether the database ignores case when it orders the host's names.
    """
    folds = folds and listing.sort in ("name", "department")
    text = listing.text.lower()
    found = [
        row
        for row in active
        if (text in row.username.lower() if row.known else text in ("", row.user_id))
        or text in (row.name or "").lower()
    ]
    values = [getattr(row, listing.sort) for row in found]
    if listing.sort == "username" and not text:  # deleted users come last
        values = [row.username for row in found if row.known]
    values = [value.casefold() if folds and value else value for value in values]
    told = sorted((value for value in values if value is not None), reverse=listing.descending)
    if listing.sort == "username" and not text:
        return told + sorted(row.username for row in found if not row.known)
    return told + [None] * (len(values) - len(told))


def read(host: Host, listing: Listing, size: int) -> Iterator[Row]:
    """Yield every user on every page."""
    with host.app.app_context():
        roster = host.app.extensions["xgen_sessions"].roster
        pages = roster.page(host.db.session(), 1, listing, size=size).pages
        for number in range(1, pages + 1):
            page = roster.page(host.db.session(), number, listing, size=size)
            assert 0 < len(page.users) <= size
            assert len(page.users) == size or number == pages
            for user in page.users:
                told = user.profile
                yield Row(
                    told.user_id, told.username, told.name, told.department,
                    user.active_sessions, user.last_login_us, user.last_ip, True,
                )  # fmt: skip
        past = roster.page(host.db.session(), pages + 1, listing, size=size)
        assert past.users == []


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("database_url", "model"),
    [
        *(("sqlite", model) for model in (User, UuidUser, NamedUser, LooseUser)),
        ("postgresql", User),
        ("postgresql", UuidUser),
        ("mariadb", NamedUser),
        ("mariadb", LooseUser),
    ],
    indirect=["database_url"],
)
def test_every_order_and_search_agrees_with_a_naive_computation(
    make_host: MakeHost, database_url: str, model: type[Account]
) -> None:
    host = make_host(database_url, model=model)
    active = fill(host, 120)
    folds = host.dialect not in ("sqlite", "postgresql")  # by the collation of the host's columns

    for text in ("", "bora", "BORA", "민준", "%", "_", "\\", "id-1", "1", "nobody"):
        for sort in COLUMNS:
            for descending in (True, False):
                listing = Listing(sort=sort, descending=descending, text=text)
                expected = naive(active, listing, folds=folds)
                if not expected:
                    continue
                found = list(read(host, listing, 16))
                assert len({row.user_id for row in found}) == len(found), listing
                values = [getattr(row, sort) for row in found]
                if folds and sort in ("name", "department"):
                    values = [value and value.casefold() for value in values]
                assert values == expected, listing


def test_case_is_ignored_as_the_api_documents(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url)
    host.issue(host.add_user("ÉLODIE"))
    document: Any = host.client().get("/sessions/openapi.json").get_json()
    parameters = document["paths"]["/users"]["get"]["parameters"]
    (said,) = [each["description"] for each in parameters if each.get("name") == "q"]

    with host.app.app_context():
        roster = host.app.extensions["xgen_sessions"].roster
        pages = [
            roster.page(host.db.session(), 1, Listing(text=text))
            for text in ("É", "lodie", "élodie")
        ]

    assert [page.total for page in pages] == [1, 1, 0 if host.dialect == "sqlite" else 1]
    assert "On SQLite, case is ignored for ASCII letters only." in said


def test_listed_users_have_their_names_in_the_host(make_host: MakeHost, database_url: str) -> None:
    host = make_host(database_url)
    active = {row.user_id: row for row in fill(host, 120)}

    found = list(read(host, Listing(), 50))

    assert {row.user_id for row in found} == set(active)
    for row in found:
        expected = active[row.user_id]
        assert (row.username, row.name) == (expected.username, expected.name)


class TestApi:
    @pytest.fixture
    def get(self, host: Host) -> Callable[[str], Any]:
        headers = bearer(host.issue(host.add_user("admin", is_superuser=True)))
        for name in ("bora", "Zoe"):
            host.issue(host.add_user(name))
        host.issue("2")
        return lambda query: host.client().get(f"/sessions/users?{query}", headers=headers)

    @pytest.mark.parametrize("sort", COLUMNS)
    def test_the_default_order_depends_on_the_column(
        self, get: Callable[[str], Any], sort: str
    ) -> None:
        order = "desc" if sort in FALLING else "asc"

        assert get(f"sort={sort}").get_json() == get(f"sort={sort}&order={order}").get_json()

    def test_finds_by_part_of_a_name(self, get: Callable[[str], Any]) -> None:
        answer = get("q=ZO&sort=username").get_json()

        assert [user["username"] for user in answer["users"]] == ["Zoe"]
        assert (answer["page"], answer["pages"]) == (1, 1)
        assert answer["summary"]["active_users"] == 3, "the cards count every user"

    @pytest.mark.parametrize(
        "query", ["sort=password", "sort=", "order=up", "order=", f"q={'x' * 151}"]
    )
    def test_refuses_an_invalid_query(self, get: Callable[[str], Any], query: str) -> None:
        assert get(query).status_code == 400

    @pytest.mark.parametrize("text", ["%00", "%ED%A0%80", "%0A", "%1B[31m"])
    def test_finds_no_user_by_unprintable_text(self, get: Callable[[str], Any], text: str) -> None:
        answer = get(f"q={text}")

        assert (answer.status_code, answer.get_json()["users"]) == (200, [])


def test_the_command_searches_and_sorts(host: Host) -> None:
    for name in ("bora", "alice", "bob"):
        host.issue(host.add_user(name))
    run = host.app.test_cli_runner().invoke

    done = run(args=["xgen-sessions", "list", "--search", "BO", "--sort", "username", "--json"])
    wrong = run(args=["xgen-sessions", "list", "--sort", "password"])

    assert done.exit_code == 0, done.output
    assert done.output.index('"bob"') < done.output.index('"bora"')
    assert '"alice"' not in done.output
    assert wrong.exit_code == 2


def test_an_index_covers_the_default_order(host: Host) -> None:
    with host.app.app_context():
        indexes = sa.inspect(host.db.engine).get_indexes("xgen_user_logins")

    (newest,) = [each for each in indexes if each["name"] == "ix_xgen_user_logins_newest"]
    assert newest["column_names"] == ["last_login_us", "user_id", "active_until_us"]


class TestScreen:
    @pytest.fixture
    def admin(self, make_host: MakeHost, sqlite_url: str) -> FlaskClient:
        host = make_host(sqlite_url, extras=with_screen)
        admin = sign_in(host, host.add_user("admin", is_superuser=True))
        for name in ("bora", "zoe"):
            sign_in(host, host.add_user(name, display_name=name.title()))
        return admin

    def test_headings_sort_by_their_column_and_reverse_the_order(self, admin: FlaskClient) -> None:
        page = page_of(admin)
        assert {th["aria-sort"] for th in page.select("th[aria-sort]")} == {"descending"}

        once = page_of(admin, heading(page, "User"))
        twice = page_of(admin, heading(once, "User"))

        assert names(once) == ["admin", "bora", "zoe"]
        assert [(th.text, th["aria-sort"]) for th in once.select("th[aria-sort]")] == [
            ("User", "ascending")
        ]
        assert names(twice) == ["zoe", "bora", "admin"]
        assert names(page_of(admin, heading(twice, "Last Login"))) == names(page)

    def test_finds_users_and_shows_their_number(self, admin: FlaskClient) -> None:
        found = page_of(admin, f"{SCREEN}?q=BOR")
        nobody = page_of(admin, f"{SCREEN}?q=nobody")

        assert names(found) == ["bora"]
        assert "1 user" in found.text
        assert cards(found)["Active Users"] == 3
        assert "No signed-in user matches" in nobody.text

    def test_every_link_and_form_keeps_order_and_search(self, admin: FlaskClient) -> None:
        page = page_of(admin, f"{SCREEN}?q=o&sort=name&order=desc")
        kept = {"q": "o", "sort": "name", "order": "desc"}

        expand = page.select_one("a[data-xs-expand]")
        assert expand is not None
        assert all(f"{name}={value}" in str(expand["href"]) for name, value in kept.items())
        form = form_for(page, "zoe")
        assert form.items() >= kept.items()
        refresh = page.select(".xs-bar form")[0]
        assert {str(each["name"]): str(each["value"]) for each in refresh.select("input")} == kept
        chosen = [
            str(each["value"]) for each in page.select("[form=xs-find] > option[selected]")
        ]  # fmt: skip
        assert chosen == ["name", "desc"]

        back = admin.post(SCREEN + "force-logout", data=form)

        assert back.status_code == 303
        assert all(f"{name}={value}" in back.location for name, value in kept.items())


def heading(page: BeautifulSoup, text: str) -> str:
    """Return the link of a column's heading."""
    (link,) = [link for link in page.select("th > a.xs-sort") if link.text == text]
    return str(link["href"])


def names(page: BeautifulSoup) -> list[str]:
    return [row[0].split()[0] for row in rows(page)]


class Elsewhere(DeclarativeBase):
    pass


class Distant(Account, Elsewhere):
    """A user of another database."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)


def test_users_of_another_database_are_sorted_by_our_columns_only(tmp_path: Path) -> None:
    app = Flask("host")
    app.config.update(
        SECRET_KEY=SECRET, TESTING=True,
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path / 'ours.db'}",
        SQLALCHEMY_BINDS={"users": f"sqlite:///{tmp_path / 'theirs.db'}"},
    )  # fmt: skip
    Elsewhere.metadata.info["bind_key"] = "users"
    db = SQLAlchemy(app, disable_autonaming=True)
    db.metadatas["users"] = Elsewhere.metadata
    sessions, manager = XgenSessions(), LoginManager(app)
    sessions.init_app(app, db=db, user_model=Distant, login_manager=manager, **with_screen(app))
    with app.app_context():
        db.create_all()
        for name in ("admin", "bora"):
            user = Distant(username=name, is_superuser=name == "admin")
            db.session.add(user)
            db.session.commit()
            token = sessions.issue(user).token
        admin = sessions.issue("1").token
        roster = app.extensions["xgen_sessions"].roster
        assert roster.columns(db.session()) == OWN
    client = app.test_client()
    client.set_cookie("xgen_token", admin)

    page = page_of(client, f"{SCREEN}?q=bora&sort=username")
    refused = [client.get(f"/sessions/users?{query}") for query in ("sort=name", "q=bora")]
    done = app.test_cli_runner().invoke(args=["xgen-sessions", "list", "--search", "bora"])

    assert token
    assert not page.select(".xs-user"), "a search that is not offered shows a sentence, no user"
    alerts = " ".join(each.text for each in page.select("[role=alert]"))
    assert "cannot be searched by name" in alerts
    assert [link.text for link in page.select(".xs-sort")] == [
        "Active Sessions", "Last Login", "Last IP",
    ]  # fmt: skip
    assert [answer.status_code for answer in refused] == [400, 400]
    assert (done.exit_code, "in the same database as" in done.output) == (1, True)
    with app.app_context():
        for engine in db.engines.values():
            engine.dispose()
