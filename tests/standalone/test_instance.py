"""The files of the instance directory are closed to other users of the machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.standalone import ADMIN_PASSWORD, QUICK_HASH, Center
from xgen_flask_sessions.standalone import create_app, instance
from xgen_flask_sessions.standalone.instance import find_instance, protect_database, secret_key

CONFIG = {"ADMIN_PASSWORD": ADMIN_PASSWORD, "PASSWORD_HASH_METHOD": QUICK_HASH, "TESTING": True}


@pytest.fixture(params=[0o000, 0o022], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set the permissions that new files lack."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def opened_to_others(place: Path) -> set[str]:
    """Return the names of files in *place*, and of *place*, that other users can use."""
    found = {place, *place.rglob("*")}
    return {path.name for path in found if path.stat().st_mode & 0o077}


def use(center: Center) -> set[str]:
    """Sign in, which makes SQLite's files; return the names of the files open to others."""
    center.token("admin")
    return opened_to_others(Path(center.app.instance_path))


@pytest.mark.usefixtures("umask")
class TestInstance:
    def test_is_created_closed(self, tmp_path: Path) -> None:
        center = Center(app=create_app(tmp_path / "instance", CONFIG))

        assert use(center) == set()
        names = {path.name for path in (tmp_path / "instance").iterdir()}
        assert names >= {"xgen.db", "xgen.db-wal", "secret_key"}
        center.dispose()

    def test_of_a_clone_is_closed(self, tmp_path: Path) -> None:
        place = tmp_path / "instance"
        place.mkdir(mode=0o755)
        (place / ".gitkeep").touch()

        center = Center(app=create_app(place, CONFIG))

        assert use(center) - {".gitkeep"} == set()
        assert stat.S_IMODE(place.stat().st_mode) & 0o077 == 0
        center.dispose()

    def test_of_an_earlier_release_is_closed(self, tmp_path: Path) -> None:
        place = tmp_path / "instance"
        first = Center(app=create_app(place, CONFIG))
        first.token("admin")
        for path in (place, *place.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)

        second = Center(app=create_app(place, CONFIG))

        assert use(second) == set()
        first.dispose()
        second.dispose()

    def test_keeps_the_permissions_of_a_directory_with_files_of_other_programs(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        tmp_path.chmod(0o777)
        (tmp_path / "index.html").touch()

        center = Center(app=create_app(tmp_path, CONFIG))

        assert use(center) - {"index.html"} == {tmp_path.name}
        assert "Other users can write to the instance directory" in caplog.text
        center.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///{place}/other.db",
        "sqlite:///file:{place}/other.db?uri=true",
        "sqlite:///file://{place}/other.db?uri=true",
        "sqlite:///other.db",
        "sqlite:///file:other.db?uri=true",
    ],
)
def test_a_sqlite_database_elsewhere_is_closed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XGEN_DATABASE_URL", url.format(place=tmp_path))
    place = tmp_path if "{place}" in url else tmp_path / "instance"

    center = Center(app=create_app(tmp_path / "instance", CONFIG))

    center.token("admin")
    files = list(tmp_path.rglob("other.db*"))
    assert {path.parent for path in files} == {place}
    assert {path.name for path in files} >= {"other.db", "other.db-wal"}
    assert {path.name for path in files if path.stat().st_mode & 0o077} == set()
    center.dispose()


def test_a_file_that_is_no_database_keeps_its_permissions(tmp_path: Path) -> None:
    file = tmp_path / "passwd"
    file.write_text("root:x:0:0:root:/root:/bin/bash\n")
    file.chmod(0o644)

    protect_database(sa.make_url(f"sqlite:///{file}"))

    assert file.stat().st_mode & 0o777 == 0o644


def test_a_secret_is_kept_on_a_file_system_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)

    first = secret_key(find_instance(tmp_path))

    assert secret_key(tmp_path) == first
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600


def test_permissions_are_left_alone_on_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance, "_HAS_PERMISSIONS", False)
    tmp_path.chmod(0o755)

    assert len(secret_key(find_instance(tmp_path))) == 64
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
