"""A MariaDB server for tests, on a socket in its own directory; without a server, the test is skipped."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .leaks import RESIDENT
from .waiting import wait_until

__all__ = ["MariaDb", "running_mariadb"]

WITHOUT_CARE = (
    "--no-defaults",
    "--skip-networking",
    "--skip-grant-tables",  # so it needs no tables of its own, which take seconds to make
    "--skip-log-bin",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-buffer-pool-size=16M",
    "--innodb-log-file-size=8M",
)


class MariaDb:
    """A running server."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "socket"
        self._databases = 0

    @property
    def url(self) -> str:
        """Return its URL for SQLAlchemy; without the name of a database."""
        return f"mysql+pymysql://root@/{{}}?unix_socket={self.socket}&charset=utf8mb4"

    def execute(self, statement: str) -> None:
        """Execute a statement."""
        import pymysql

        with pymysql.connect(unix_socket=str(self.socket), user="root") as connection, connection.cursor() as cursor:
            cursor.execute(statement)

    def new_database(self) -> str:
        """Make an empty database, and return its name."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        return name


@contextmanager
def running_mariadb() -> Iterator[MariaDb]:
    """Make and start a server, as another user if we are root: it refuses to run as root."""
    program = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")
    if program is None:
        pytest.skip("there is no MariaDB server here (Debian's package mariadb-server-core)")
    if importlib.util.find_spec("pymysql") is None:
        pytest.skip("PyMySQL is not installed")
    directory = Path(tempfile.mkdtemp(prefix="lb-my-", dir="/tmp"))  # the path of a unix socket is short
    data = directory / "data"
    data.mkdir()
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for each in (directory, data):
            os.chown(each, nobody.pw_uid, nobody.pw_gid)
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    server, log = MariaDb(directory), directory / "log"
    with log.open("w") as told:
        process = subprocess.Popen(
            [program, *WITHOUT_CARE, f"--datadir={data}", f"--tmpdir={directory}", f"--socket={server.socket}"],
            **user, cwd="/", stdout=subprocess.DEVNULL, stderr=told,
        )  # fmt: skip
    RESIDENT.add(process.pid)
    try:
        wait_until(lambda: _answers(server) or process.poll() is not None, 30.0)
        assert process.poll() is None, log.read_text()
        yield server
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _answers(server: MariaDb) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:  # PyMySQL leaves its own open where nobody is there
        return connection.connect_ex(str(server.socket)) == 0
