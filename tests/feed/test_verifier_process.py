"""The verifier's thread: live revocations, forked processes, and processes without Flask."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from tests.support.databases import REDIS
from tests.support.patience import within
from tests.support.relaying import LONG_S, SECRET, Deployment, Relayer, answer, deployed
from xgen_flask_sessions.errors import ConfigurationError, DenylistUnavailable
from xgen_flask_sessions.verifier import Verifier

pytestmark = pytest.mark.slow

BARE = """
import importlib.abc, os, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        heavy = ("flask", "sqlalchemy", "flask_admin", "flask_login", "flask_sqlalchemy",
                 "werkzeug", "alembic", "wtforms", "jinja2", "blinker")
        if name.partition(".")[0] in heavy:
            raise ImportError(f"{name} must not be imported")

sys.meta_path.insert(0, Blocked())
from xgen_flask_sessions import SessionRevoked
from xgen_flask_sessions.verifier import Verifier

options = {name: os.environ[name] for name in ("redis_url", "issuer", "secret_key")}
with Verifier(**options) as verifier:
    assert verifier.ready(30)
    print(verifier.verify(os.environ["good"]).user_id)
    try:
        verifier.verify(os.environ["revoked"])
    except SessionRevoked as error:
        print(error)
"""


@pytest.fixture
def deployment(sqlite_url: str, redis_issuer: str) -> Iterator[Deployment]:
    with deployed(sqlite_url, redis_issuer) as made:
        yield made


@contextmanager
def relaying(relayer: Relayer) -> Iterator[None]:
    """Relay continuously, in a thread."""
    stopped = threading.Event()

    def run() -> None:
        while not stopped.wait(0.05):
            relayer.beat()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def make_verifier(deployment: Deployment, max_staleness: float = LONG_S) -> Verifier:
    return Verifier(
        redis_url=REDIS,
        issuer=deployment.issuer,
        secret_key=SECRET,
        max_staleness=max_staleness,
    )


def until(verifier: Verifier, token: str, expected: str) -> None:
    """Wait until the verifier's answer about a token is the expected one."""

    def wait() -> None:
        while answer(verifier, token) != expected:
            time.sleep(0.005)  # real time: another thread is at work

    within(5, wait)


def test_a_revocation_takes_effect_and_a_lost_feed_is_loaded_again(deployment: Deployment) -> None:
    tokens = [deployment.sign_in(user) for user in ("ada", "bob")]
    with relaying(deployment.relayer()), make_verifier(deployment) as verifier:
        assert verifier.ready(30)
        assert answer(verifier, tokens[0]) == "good"

        deployment.force_out("ada")
        until(verifier, tokens[0], "forced out")
        deployment.lose_feed()
        until(verifier, tokens[1], "good")
        assert answer(verifier, tokens[0]) == "forced out"


def test_the_first_call_waits_for_the_feed(deployment: Deployment) -> None:
    token = deployment.sign_in("ada")
    deployment.relayer().beat()
    verifier = make_verifier(deployment)

    assert answer(verifier, token) == "good"

    verifier.close()
    with relaying(deployment.relayer()):
        assert answer(verifier, token) == "good"  # it starts again
        verifier.close()


def test_no_call_waits_long_without_redis() -> None:
    verifier = Verifier(redis_url="redis://127.0.0.1:1/0", secret_key=SECRET, max_staleness=0.5)
    assert not verifier.ready()

    with pytest.raises(DenylistUnavailable):
        within(0.5, verifier._denylist.first_view)
    with pytest.raises(DenylistUnavailable):
        within(0.01, verifier._denylist.first_view)
    verifier.close()


def test_malformed_data_and_a_missing_redis_are_logged(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    token = deployment.sign_in("ada")
    deployment.relayer().beat()
    with make_verifier(deployment, max_staleness=4) as verifier:
        assert verifier.ready(30)
        deployment.redis.set(deployment.keys.meta, "no state")
        until(verifier, token, "unavailable")
    assert "was altered" in caplog.text
    assert "Traceback" not in caplog.text

    verifier = Verifier(redis_url="redis://127.0.0.1:1/0", secret_key=SECRET)
    assert not verifier.ready(0.3)
    verifier.close()
    assert "Redis cannot be used" in caplog.text


def test_tokens_are_refused_while_no_thread_can_be_started(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    token = deployment.sign_in("ada")
    verifier = make_verifier(deployment)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        assert answer(verifier, token) == "unavailable"

    deployment.relayer().beat()
    assert answer(verifier, token) == "good"
    verifier.close()


def test_a_forked_process_follows_the_feed_itself(deployment: Deployment) -> None:
    token = deployment.sign_in("ada")
    relayer = deployment.relayer()
    relayer.beat()
    with make_verifier(deployment) as verifier:
        assert verifier.ready(30)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                said = [answer(verifier, token)]
                os.write(writer, b"ready\n")
                verifier.ready(0)
                deadline = time.monotonic() + 60
                while answer(verifier, token) != "forced out" and time.monotonic() < deadline:
                    time.sleep(0.01)
                said.append(answer(verifier, token))
                os.write(writer, f"{said}\n".encode())
            finally:
                os._exit(0)
        with os.fdopen(reader) as lines:
            assert lines.readline() == "ready\n"
            with relaying(relayer):
                deployment.force_out("ada")
                assert lines.readline() == "['good', 'forced out']\n"
                until(verifier, token, "forced out")
        os.close(writer)
        os.waitpid(child, 0)


def test_a_forked_process_discards_the_parents_knowledge(deployment: Deployment) -> None:
    deployment.relayer().beat()
    verifier = deployment.verifier()
    verifier.step()
    assert verifier.ready()

    verifier._denylist._reset()

    assert not verifier.ready()


def test_a_service_without_flask_and_sqlalchemy_verifies(deployment: Deployment) -> None:
    tokens = {"good": deployment.sign_in("ada"), "revoked": deployment.sign_in("bob")}
    deployment.force_out("bob")
    options = {"redis_url": REDIS, "issuer": deployment.issuer, "secret_key": SECRET.decode()}

    with relaying(deployment.relayer()):
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", BARE],
            env={**os.environ, **options, **tokens},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [
        "ada",
        "An administrator, or a change of the account, ended the session.",
    ]


@pytest.mark.parametrize("library", ["gevent.monkey", "eventlet.patcher"])
def test_green_threads_are_refused(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patched = SimpleNamespace(is_module_patched=lambda _: True, is_monkey_patched=lambda _: True)
    monkeypatch.setitem(sys.modules, library, patched)

    with pytest.raises(ConfigurationError, match="real threads"):
        Verifier(redis_url=REDIS, secret_key=SECRET)


def test_dir_of_the_package_lists_its_exports() -> None:
    import xgen_flask_sessions

    assert set(xgen_flask_sessions.__all__) <= set(dir(xgen_flask_sessions))
    assert all(hasattr(xgen_flask_sessions, name) for name in xgen_flask_sessions.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = xgen_flask_sessions.nothing  # type: ignore[attr-defined]
