"""The kinds of private servers: PostgreSQL and MariaDB."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

from tests.support.private_server import MAX_CONNECTIONS, PrivateServer, await_condition


class PrivatePostgreSQL(PrivateServer):
    """A PostgreSQL server: one process for each connection.

    :param standby_of: The primary server, if this one is a standby.
    """

    name = "postgresql"
    system_user = "postgres"
    _driver = "postgresql+psycopg"
    _owner = "postgres"
    _first_database = "postgres"
    _end_signal = signal.SIGINT
    _count_app = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"

    def __init__(
        self,
        max_connections: int = MAX_CONNECTIONS,
        *,
        standby_of: PrivatePostgreSQL | None = None,
    ) -> None:
        super().__init__(max_connections)
        self._primary = standby_of

    @classmethod
    def program(cls, name: str) -> str:
        """Return the path of a PostgreSQL program of the newest installed version."""
        homes = Path("/usr/lib/postgresql")
        found = sorted(homes.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
        return str(found[-1]) if found else name

    @classmethod
    def programs(cls) -> Sequence[str]:
        return [cls.program(name) for name in ("initdb", "postgres")]

    def _make(self) -> None:
        if self._primary is not None:
            self.run(
                self.program("pg_basebackup"), "-R", "-X", "stream", "-c", "fast", "-D",
                str(self.data), "-h", "127.0.0.1", "-p", str(self._primary.port), "-U", "postgres",
            )  # fmt: skip
            return
        self.run(
            self.program("initdb"), "-D", str(self.data), "-A", "trust", "-U", "postgres",
            "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync",
        )  # fmt: skip

    def _command(self) -> Sequence[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",  # the tests end processes, and the machine stays up
            "max_connections": self.max_connections,
            "shared_buffers": "16MB",
            "autovacuum": "off",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [self.program("postgres"), "-D", str(self.data), *options]

    def _admit_application(self) -> None:
        if self._primary is None:
            self.execute("CREATE ROLE app LOGIN")

    def create_database(self, name: str) -> None:
        self.execute(f"CREATE DATABASE {name} OWNER app")

    def _cut_off(self) -> None:
        self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")

    def set_read_only(self, read_only: bool) -> None:
        self.execute(
            f"ALTER SYSTEM SET default_transaction_read_only = {'on' if read_only else 'off'}",
            "SELECT pg_reload_conf()",
        )
        self._await_setting("on" if read_only else "off")

    def _await_setting(self, value: str) -> None:
        # Connections of before the change read the setting at their next statement.
        await_condition(lambda: self.query("SHOW default_transaction_read_only") == value)

    def restore(self) -> None:
        self.resume()
        self.start()
        if self.query("SHOW default_transaction_read_only") == "on":
            self.set_read_only(False)

    def await_replay(self, position: str) -> None:
        """Wait until this standby has replayed the primary's log up to *position*."""
        await_condition(
            lambda: self.query(f"SELECT pg_last_wal_replay_lsn() >= '{position}'") is True
        )

    def promote(self) -> None:
        """Make this standby a writable primary."""
        self.execute("SELECT pg_promote()")


class PrivateMariaDB(PrivateServer):
    """A MariaDB server: one thread for each connection, in one process."""

    name = "mariadb"
    system_user = "mysql"
    _driver = "mysql+pymysql"
    _owner = "root"
    _first_database = "mysql"
    _end_signal = signal.SIGTERM
    _count_app = "SELECT count(*) FROM information_schema.processlist WHERE user = 'app'"

    @classmethod
    def programs(cls) -> Sequence[str]:
        return ["mariadb-install-db", "mariadbd"]

    def _make(self) -> None:
        self.run(
            "mariadb-install-db", "--no-defaults", f"--datadir={self.data}", "--skip-test-db",
            "--auth-root-authentication-method=normal",
        )  # fmt: skip

    def _command(self) -> Sequence[str]:
        return [
            "mariadbd", "--no-defaults", f"--datadir={self.data}", f"--port={self.port}",
            "--bind-address=127.0.0.1", f"--socket={self.home / 'socket'}",
            f"--pid-file={self.home / 'pid'}", f"--max-connections={self.max_connections}",
            "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=2",
            "--innodb-buffer-pool-size=16M", "--innodb-fast-shutdown=2",
        ]  # fmt: skip

    def _admit_application(self) -> None:
        self.execute(
            "CREATE USER app@'127.0.0.1'",
            # Without rights on the server, so that read_only applies to the user.
            "GRANT ALL PRIVILEGES ON `test\\_%%`.* TO app@'127.0.0.1'",
        )

    def create_database(self, name: str) -> None:
        self.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")

    def _cut_off(self) -> None:
        self.execute("KILL USER app")

    def set_read_only(self, read_only: bool) -> None:
        self.execute(f"SET GLOBAL read_only = {int(read_only)}")

    def restore(self) -> None:
        self.resume()
        self.start()
        self.set_read_only(False)


KINDS: dict[str, type[PrivateServer]] = {
    kind.name: kind for kind in (PrivatePostgreSQL, PrivateMariaDB)
}
