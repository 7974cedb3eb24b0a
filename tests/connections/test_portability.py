"""The package works without the names that only Unix has."""

from __future__ import annotations

import pytest

from tests.support.scripts import run_script

REMOVE = """
import importlib, os, pkgutil, select, selectors, signal, socket, sys, time
from pathlib import Path

# The other packages first: their own use of these names is not tested here.
import alembic.command, email.mime.text, flask, flask_admin, flask_babel, flask_login
import flask_sqlalchemy, http.client, limits.storage, limits.strategies, logging.handlers
import multiprocessing, psycopg, pymysql, redis, sqlalchemy.dialects.postgresql, subprocess
import tabulate, tempfile, ua_parser, uuid, waitress.server
import tests.support.hosts as hosts

for name in [each for each in sys.modules if each.startswith("xgen_flask_sessions")]:
    del sys.modules[name]

UNIX = {
    os: "register_at_fork fork forkpty getuid geteuid getgid getegid getpgid setsid killpg chown "
    "fchown fchmod mkfifo pread pwrite uname wait wait3 wait4 WNOHANG sysconf statvfs nice "
    "posix_spawn posix_fadvise sched_getaffinity sync getloadavg ttyname O_NOFOLLOW O_DIRECTORY "
    "O_CLOEXEC O_NONBLOCK",
    select: "poll epoll kqueue kevent",
    selectors: "PollSelector EpollSelector KqueueSelector DevpollSelector",
    signal: "SIGHUP SIGUSR1 SIGUSR2 SIGALRM SIGQUIT SIGCHLD SIGKILL SIGPIPE setitimer alarm "
    "pthread_sigmask sigwait",
    socket: "AF_UNIX SO_REUSEPORT sethostname send_fds recv_fds",
    time: "clock_gettime clock_gettime_ns clock_getres CLOCK_BOOTTIME CLOCK_MONOTONIC "
    "CLOCK_REALTIME tzset",
}
for module, names in UNIX.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
selectors.DefaultSelector = selectors.SelectSelector
for name in "fcntl grp pwd resource syslog termios tty pty".split():
    sys.modules[name] = None

import xgen_flask_sessions

for _, name, _ in pkgutil.walk_packages(xgen_flask_sessions.__path__, "xgen_flask_sessions."):
    if "__main__" not in name and ".migrations" not in name:
        importlib.import_module(name)
importlib.reload(hosts)
"""


@pytest.mark.parametrize("mode", ["strict", "watch"])
@pytest.mark.parametrize("database", ["sqlite", "postgresql", "mariadb"])
def test_a_sign_in_and_a_force_logout_need_no_name_of_unix(
    request: pytest.FixtureRequest, database: str, mode: str
) -> None:
    url: str = request.getfixturevalue(f"{database}_url")

    result = run_script(
        REMOVE
        + """
from tests.support.patience import until

host = hosts.make_app(sys.argv[1], XGEN_SESSIONS_CONSISTENCY=sys.argv[2])
host.create_tables()
user = host.add_user()
token = host.issue(user)
print(host.status(token), host.status(token, "/api/user"))
watch = host.app.extensions["xgen_sessions"].watch
if watch is not None:
    until(lambda: host.status(token) == 200 and watch.is_fresh())
host.force_logout(user)
print(host.status(token))
host.dispose()
""",
        url,
        mode,
    )

    assert result.split() == ["200", "200", "401"]


def test_the_admin_center_needs_no_name_of_unix(tmp_path: object) -> None:
    result = run_script(
        REMOVE
        + """
os.environ["XGEN_ADMIN_PASSWORD"] = password = "correct horse battery staple"
from xgen_flask_sessions.standalone.application import create_app
from xgen_flask_sessions.standalone.preparation import prepare

app = create_app(sys.argv[1])
prepare(app)
client = app.test_client()
answer = client.post("/api/login", json={"username": "admin", "password": password})
print(answer.status_code)
token = {"Authorization": f"Bearer {answer.json['access_token']}"}
print(client.get("/api/me", headers=token).status_code)
""",
        f"{tmp_path}/instance",
    )

    assert result.split()[-2:] == ["200", "200"]
